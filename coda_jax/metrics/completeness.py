"""Completeness: whether attributions add up to what they explain (Sundararajan, Taly, Yan, ICML 2017)."""

import jax
import jax.numpy as jnp

from coda_jax.errors import InputError
from coda_jax.errors.checks import as_array, naming


def completeness_residual(attributions: jax.Array, logits: jax.Array, baseline_logits: jax.Array | float) -> jax.Array:
    """`|Σ attributions - (logit - baseline logit)| / |logit - baseline logit|`: [N, T].

    It is 0 where the attributions are complete; rounding of the logits alone makes it about
    `1e-7 · |logit| / |logit - baseline logit|` in float32. Where the logit is that of the baseline, there is nothing to
    explain: 0 if the attributions sum to zero, and infinity if they do not.

    The attributions are [N, T, H, W, C], floating, and the logits [N, T], of the same targets. The baseline logits are
    those for the input of zeros, [N, T] or what broadcasts to it; for a CoDA-Net the number `model.logit_bias`. Shapes
    that do not fit raise InputError.
    """
    attributions, logits = as_array("attributions", attributions), as_array("logits", logits)
    baseline_logits, shape = as_array("baseline_logits", baseline_logits), attributions.shape
    if len(shape) != 5:
        raise InputError(f"attributions must have shape [N, T, H, W, C], not {list(shape)}")
    if logits.shape != shape[:2]:
        raise InputError(f"logits must have shape {list(shape[:2])}, one for each target, not {list(logits.shape)}")
    with naming(f"baseline_logits must broadcast to {list(shape[:2])}, but have shape {list(baseline_logits.shape)}"):
        difference = jnp.asarray(logits) - jnp.broadcast_to(baseline_logits, logits.shape)
    error = jnp.abs(jnp.sum(attributions, axis=(2, 3, 4)) - difference)
    return jnp.where(error == 0, 0, error / jnp.abs(difference))
