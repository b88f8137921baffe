"""What setup.cfg cannot say: the networks in `pretrained` are installed inside the library."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["coda_jax*"]), "coda_jax.pretrained_networks"],
    package_dir={"coda_jax.pretrained_networks": "pretrained"},
)
