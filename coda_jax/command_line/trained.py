"""The trained networks that the commands take."""

from pathlib import Path

from coda_jax.errors import InputError
from coda_jax.interop.pretrained import Pretrained, load


def load_explainable(trained: Path) -> Pretrained:
    """What `coda_jax.load` loads; raises InputError for a network that is neither a CoDA-Net nor a hybrid."""
    network = load(trained)
    if not hasattr(network.model, "decompose"):
        raise InputError(
            f"{trained} is a run of a {type(network.model).__name__}: the commands of coda-jax are for CoDA-Nets and "
            "hybrids"
        )
    return network


def load_described(trained: Path) -> Pretrained:
    """What `load_explainable` loads; raises InputError where nothing was saved of the classes and the images."""
    network = load_explainable(trained)
    if network.info is None:
        raise InputError(
            f"{trained} says nothing of its classes and images: save it with save_pretrained(..., info=...)"
        )
    return network
