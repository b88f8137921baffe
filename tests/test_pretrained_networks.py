"""The networks that come with the library."""

import re
from pathlib import Path

import numpy as np
import pytest

from coda_jax import data, load_pretrained
from coda_jax.networks.config_file import load_config
from coda_jax.networks.variables import check_variables
from coda_jax.training.evaluation import classify

DIRECTORY = Path(__file__).parents[1] / "coda_jax" / "pretrained_networks"
NAMES = sorted(path.name for path in DIRECTORY.iterdir())


def test_they_are_small_enough_to_be_cloned():
    assert sum(path.stat().st_size for path in DIRECTORY.rglob("*")) <= 35e6


@pytest.mark.parametrize("name", NAMES)
def test_every_network_loads_and_has_a_card(name):
    files = {path.name for path in (DIRECTORY / name).iterdir()}
    assert files - {"examples"} == {"README.md", "config.json", "model.safetensors"}
    model, variables, info = load_pretrained(name)
    check_variables(model, variables)
    assert info is not None
    config, _ = load_config(DIRECTORY / name)
    card = (DIRECTORY / name / "README.md").read_text()
    for heading in ("Data", "Recipe", "What was measured", "Intended use and limits", "Licence"):
        assert f"\n## {heading}\n" in card
    assert f'load_pretrained("{name}")' in card
    assert f"dataset: {{name: {config['dataset']}, " in card


def assert_reaches_what_its_card_says(name, dataset, tolerance):
    model, variables, info = load_pretrained(name)
    logits, labels = classify(model, variables, dataset.test)
    said = re.search(
        r"test accuracy \| ([\d.]+)% \| ([\d,]+) test images", (DIRECTORY / name / "README.md").read_text()
    )
    assert abs(100 * np.mean(logits.argmax(-1) == labels) - float(said[1])) < tolerance
    assert info == dataset.info and f"{len(labels):,}" == said[2]


def test_the_digits_network_reaches_what_its_card_says():
    assert_reaches_what_its_card_says("digits", data.load("digits"), tolerance=0.005)  # Half a digit of what is said.


@pytest.mark.slow
@pytest.mark.precision
@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("cifar10-")])
def test_networks_for_cifar10_reach_what_their_cards_say(cifar10_dir, name):
    # Five images: decoders of JPEGs may round differently.
    assert_reaches_what_its_card_says(name, data.load("cifar10", cifar10_dir), tolerance=0.055)
