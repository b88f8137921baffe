"""Integrated gradients (Sundararajan, Taly, Yan, ICML 2017, arXiv 1703.01365)."""

import jax
import jax.numpy as jnp
from jax import lax

from coda_jax.attribution.gradient import target_gradients
from coda_jax.attribution.protocol import LogitsFn, attribute, check_baseline
from coda_jax.errors.checks import Targets, check_whole


def integrated_gradients(
    logits_fn: LogitsFn,
    inputs: jax.Array,
    targets: Targets = None,
    *,
    steps: int = 20,
    baseline: jax.Array | float = 0.0,
    chunk_size: int | None = 64,
) -> jax.Array:
    """The mean gradient at `steps` points on the straight line from a baseline to the input, times their difference.

    The integral is computed by the midpoint rule. With enough steps the attributions sum to the difference of the
    logits of the input and of the baseline. The baseline is a number or an array that broadcasts to [H, W, C]. For the
    rest see `coda_jax.attribution.protocol`.
    """
    check_whole("steps", steps)
    baseline = check_baseline("baseline", baseline, inputs)
    return attribute(_rule, logits_fn, inputs, targets, baseline, chunk_size=chunk_size, steps=steps)


def _rule(logits_fn: LogitsFn, inputs: jax.Array, targets: jax.Array, baseline: jax.Array, *, steps: int) -> jax.Array:
    def add(total: jax.Array, share: jax.Array) -> tuple[jax.Array, None]:
        return total + target_gradients(logits_fn, baseline + share * (inputs - baseline), targets), None

    shares = (jnp.arange(steps, dtype=inputs.dtype) + 0.5) / steps
    total, _ = lax.scan(add, jnp.zeros((*targets.shape, *inputs.shape[1:]), inputs.dtype), shares)
    return total / steps * (inputs - baseline)[:, None]
