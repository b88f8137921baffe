"""The trained networks that the commands take."""

from pathlib import Path

from coda_jax.errors import InputError
from coda_jax.interop.pretrained import Pretrained, load


def load_explainable(trained: Path, described: bool = True) -> Pretrained:
    """What `coda_jax.load` loads; raises InputError unless it explains itself.

    If it must be described, a network whose classes and images were not saved raises InputError too.
    """
    network = load(trained)
    if not hasattr(network.model, "decompose"):
        refused = f"{trained} is a run of a {type(network.model).__name__}"
        raise InputError(f"{refused}: the commands of coda-jax are for CoDA-Nets, hybrids and B-cos networks")
    if described and network.info is None:
        remedy = "save it with save_pretrained(..., info=...)"
        raise InputError(f"{trained} says nothing of its classes and images: {remedy}")
    return network
