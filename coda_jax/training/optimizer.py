"""Optimisers, the paper's among them."""

from functools import partial
from typing import Any

import jax
import optax
from optax import contrib

from coda_jax.errors.checks import check_choice, check_number


def make_optimizer(name: str, schedule: optax.Schedule, weight_decay: float) -> optax.GradientTransformation:
    """An optimiser by its name; an unknown name, or a weight decay below 0 or not finite, raises InputError.

    Args:
        name: "adam", the paper's; or "muon" (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon), which
            makes the updates of matrices orthogonal, and scales them to be as large as Adam's; vectors it leaves to
            Adam with Nesterov's momentum. The matrices of a layer of DAUs are its `B`, every unit's `A_j`, and the
            `b_j` of all units.
        schedule: the learning rate of every step, counted from 0.
        weight_decay: decoupled weight decay: each step subtracts learning rate × weight_decay × parameter (Loshchilov
            and Hutter, arXiv 1711.05101).
    """
    check_choice("optimizer", name, ("adam", "muon"))
    check_number("weight_decay", weight_decay, least=0)
    if name == "adam":
        return optax.adamw(schedule, weight_decay=weight_decay) if weight_decay else optax.adam(schedule)
    return contrib.muon(
        schedule,
        weight_decay=weight_decay,
        adam_weight_decay=weight_decay,
        consistent_rms=0.2,  # That of Adam's updates: Liu et al., arXiv 2502.16982, section 2.2.
        muon_weight_dimension_numbers=partial(jax.tree_util.tree_map_with_path, _matrix_axes),
    )


def _matrix_axes(path: tuple[Any, ...], parameter: jax.Array) -> contrib.MuonDimensionNumbers | None:
    """The axes by which a parameter is one matrix, or many; None for a vector."""
    last = parameter.ndim - 1
    if last < 1:
        return None
    # Every unit has a matrix of its own in A [..., K, r].
    inputs = range(last - 1) if path[-1].key == "A" else range(last)
    return contrib.MuonDimensionNumbers(tuple(inputs), last)
