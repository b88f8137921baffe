"""Optimisers and learning rates, the paper's among them."""

import math
from typing import Any

import jax
import optax
from optax import contrib

from coda_jax.checks import check_choice, check_number, check_whole

SCHEDULES = ("step", "cosine")
OPTIMIZERS = ("adam", "muon")


def learning_rate_schedule(
    learning_rate: float,
    schedule: str,
    *,
    decay: float,
    decay_epochs: int,
    warmup_epochs: int,
    warmup_from: float,
    num_epochs: int,
    batch_size: int,
    num_examples: int,
) -> optax.Schedule:
    """The learning rate of every step, counted from 0.

    Args:
        learning_rate: the highest.
        schedule: "step": divided by `decay` every `decay_epochs` (the paper: by 1.5 every 30; for ImageNet by 2 every
            20, with a warm-up of 15). "cosine": falls to 0 at the end as half a period of a cosine does, from the end
            of the warm-up on (Loshchilov and Hutter, arXiv 1608.03983).
        decay: the divisor.
        decay_epochs: epochs between divisions, counted from the start. Optax counts in float32: where their batches are
            no whole number, a division may be one step early or late.
        warmup_epochs: in which the rate grows linearly; 0 for none.
        warmup_from: the rate of the first step of a warm-up.
        num_epochs: of the whole training.
        batch_size: examples a step, over all devices.
        num_examples: examples an epoch.

    Raises:
        InputError: an unknown schedule, a rate below 0, a divisor or epochs of 0 or below, numbers that are not finite.
    """
    check_choice("schedule", schedule, SCHEDULES)
    check_number("learning_rate", learning_rate, least=0)
    check_number("warmup_from", warmup_from, least=0)
    check_number("decay", decay, above=0)
    check_whole("decay_epochs", decay_epochs)
    check_whole("warmup_epochs", warmup_epochs, 0)
    check_whole("num_epochs", num_epochs)
    warmup_steps, steps = (math.ceil(epochs * num_examples / batch_size) for epochs in (warmup_epochs, num_epochs))
    if schedule == "cosine":
        after_warmup = optax.cosine_decay_schedule(learning_rate, max(1, steps - warmup_steps))
    else:
        interval = decay_epochs * num_examples / batch_size
        stairs = optax.exponential_decay(learning_rate, interval, 1 / decay, staircase=True)

        def after_warmup(step: jax.Array) -> jax.Array:
            return stairs(step + warmup_steps)  # Counted from the start.

    if not warmup_steps:
        return after_warmup
    warmup = optax.linear_schedule(warmup_from, learning_rate, warmup_steps)
    return optax.join_schedules([warmup, after_warmup], [warmup_steps])


def make_optimizer(name: str, schedule: optax.Schedule, weight_decay: float) -> optax.GradientTransformation:
    """An optimiser by its name.

    Args:
        name: "adam", the paper's; or "muon" (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon), which
            makes the updates of matrices orthogonal, and scales them to be as large as Adam's; vectors it leaves to
            Adam with Nesterov's momentum. The matrices of a layer of DAUs are its `B`, every unit's `A_j`, and the
            `b_j` of all units.
        schedule: the learning rate of every step.
        weight_decay: decoupled weight decay: each step subtracts learning rate × weight_decay × parameter (Loshchilov
            and Hutter, arXiv 1711.05101).

    Raises:
        InputError: an unknown name, or a weight decay below 0 or not finite.
    """
    check_choice("optimizer", name, OPTIMIZERS)
    check_number("weight_decay", weight_decay, least=0)
    if name == "adam":
        return optax.adamw(schedule, weight_decay=weight_decay) if weight_decay else optax.adam(schedule)
    return contrib.muon(
        schedule,
        weight_decay=weight_decay,
        adam_weight_decay=weight_decay,
        consistent_rms=_RMS_OF_ADAM,
        muon_weight_dimension_numbers=_matrices,
    )


# Liu et al., arXiv 2502.16982, section 2.2: of updates by Adam.
_RMS_OF_ADAM = 0.2


def _matrices(params: Any) -> Any:
    """For every parameter the axes by which it is one matrix, or many; None for vectors."""

    def of_parameter(path: tuple[Any, ...], parameter: jax.Array) -> contrib.MuonDimensionNumbers | None:
        if parameter.ndim < 2:
            return None
        # Every unit has a matrix of its own in A [..., K, r].
        last = parameter.ndim - 1
        inputs = range(last - 1) if path[-1].key == "A" else range(last)
        return contrib.MuonDimensionNumbers(tuple(inputs), last)

    return jax.tree_util.tree_map_with_path(of_parameter, params)
