"""SmoothGrad (Smilkov, Thorat, Kim, Viégas, Wattenberg, 2017, arXiv 1706.03825)."""

import jax
import jax.numpy as jnp
from jax import lax

from coda_jax.attribution.gradient import target_gradients
from coda_jax.attribution.protocol import LogitsFn, attribute
from coda_jax.errors.checks import Targets, check_images, check_key, check_number, check_whole


def smoothgrad(
    logits_fn: LogitsFn,
    inputs: jax.Array,
    targets: Targets = None,
    *,
    key: jax.Array,
    samples: int = 25,
    noise: float = 0.15,
    chunk_size: int | None = 64,
) -> jax.Array:
    """The mean gradient of the targets' logits at `samples` copies of the inputs with Gaussian noise.

    The standard deviation `noise` is in the inputs' units. The noise is the same for all examples. For the rest see
    `coda_jax.attribution.protocol`.
    """
    check_key("key", key)
    check_whole("samples", samples)
    check_number("noise", noise, least=0)
    arrays = key, jnp.asarray(noise, jnp.result_type(check_images("inputs", inputs)))
    return attribute(_rule, logits_fn, inputs, targets, *arrays, chunk_size=chunk_size, samples=samples)


def _rule(
    logits_fn: LogitsFn, inputs: jax.Array, targets: jax.Array, key: jax.Array, noise: jax.Array, *, samples: int
) -> jax.Array:
    def add(total: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
        noisy = inputs + noise * jax.random.normal(key, inputs.shape[1:], inputs.dtype)
        return total + target_gradients(logits_fn, noisy, targets), None

    total = jnp.zeros((*targets.shape, *inputs.shape[1:]), inputs.dtype)
    total, _ = lax.scan(add, total, jax.random.split(key, samples))
    return total / samples
