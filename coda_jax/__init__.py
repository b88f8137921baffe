"""CoDA-Nets in JAX: image classifiers whose every logit is exactly a sum of contributions from the input's pixels."""

from typing import TYPE_CHECKING, Any

from coda_jax import contributions as contributions
from coda_jax.alignment.linear_map import LinearMap as LinearMap
from coda_jax.errors import InputError as InputError
from coda_jax.interop.pretrained import from_pretrained as from_pretrained
from coda_jax.interop.pretrained import load as load
from coda_jax.interop.pretrained import load_pretrained as load_pretrained
from coda_jax.interop.pretrained import save_pretrained as save_pretrained
from coda_jax.networks.coda_net import CoDANet as CoDANet
from coda_jax.networks.encoding import add_inverse as add_inverse
from coda_jax.networks.hybrid import HybridNet as HybridNet

if TYPE_CHECKING:
    from coda_jax.explanation import explain as explain

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "explain":  # It needs Pillow, which training on arrays does without.
        from coda_jax.explanation import explain

        return explain
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
