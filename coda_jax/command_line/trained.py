"""The trained networks that the commands take."""

from pathlib import Path

from coda_jax.errors import InputError
from coda_jax.hybrid import HybridNet
from coda_jax.models import CoDANet
from coda_jax.pretrained import Pretrained, load


def load_explainable(trained: Path) -> Pretrained:
    """What `coda_jax.load` loads; raises InputError for a network that is neither a CoDA-Net nor a hybrid."""
    network = load(trained)
    if not isinstance(network.model, CoDANet | HybridNet):
        raise InputError(
            f"{trained} is a run of a {type(network.model).__name__}: the commands of coda-jax are for CoDA-Nets and "
            "hybrids"
        )
    return network
