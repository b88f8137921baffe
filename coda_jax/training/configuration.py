"""What a training is, beside its network and its data."""

import dataclasses
import math
import typing

import optax

from coda_jax.checks import check_number, check_whole
from coda_jax.data.randaugment import LARGEST_MAGNITUDE
from coda_jax.errors import InputError
from coda_jax.training.optimizer import learning_rate_schedule, make_optimizer

_LEAST = {
    **dict.fromkeys(("num_epochs", "num_steps", "decay_epochs", "log_every", "checkpoint_every", "accumulation"), 1),
    **dict.fromkeys(("seed", "crop_padding", "randaugment", "num_workers", "warmup_epochs"), 0),
}
_SEEDS = 2**32


@dataclasses.dataclass(frozen=True)
class Training:
    """The settings of a training; with the network and the data they determine it.

    A run that began before there was one of these has its default.

    Attributes:
        seed: of the parameters, the order of the examples, and the augmentation.
        batch_size: examples a step, over all devices of all processes.
        num_epochs: epochs in all, by which the learning rate goes as well.
        num_steps: steps in all, those of earlier runs included; None for all epochs.
        optimizer: as in `optimizer.make_optimizer`; so is `weight_decay`.
        weight_decay: as there.
        learning_rate: the highest, as in `optimizer.learning_rate_schedule`; so are the next five.
        warmup_epochs: in which the rate grows from `warmup_from`.
        warmup_from: the rate of the first step of a warm-up.
        schedule: "step", or "cosine" without the next two.
        decay: the rate is divided by it every `decay_epochs`.
        decay_epochs: epochs between divisions.
        flip: whether to mirror half of the images.
        crop_padding: pixels by which images are padded before they are cropped to the size of the test images.
        randaugment: the magnitude of RandAugment's two operations, from 1 to 10; 0 for none.
        num_workers: processes that prepare batches; 0 for threads of this one.
        on_device: whether the training images live on the devices, and are shuffled, mirrored and cropped there.
        accumulation: equal parts of every device's share of a batch that are computed one after the other, for batches
            that do not fit in memory at once.
        penalty: λ of the regularisation of `W(x)`, as in `step.train_step`; "penalty" is recorded then.
        log_every: steps between two records.
        checkpoint_every: steps between two checkpoints; one is also saved at the end.

    Raises:
        InputError: a value of another type, out of its range, or `randaugment` with `on_device`.
    """

    seed: int = 0
    batch_size: int = 64
    num_epochs: int = 60
    num_steps: int | None = None
    optimizer: str = "adam"
    weight_decay: float = 0.0
    learning_rate: float = 1e-3
    warmup_epochs: int = 0
    warmup_from: float = 0.0
    schedule: str = "step"
    decay: float = 1.5
    decay_epochs: int = 30
    flip: bool = True
    crop_padding: int = 0
    randaugment: int = 0
    num_workers: int = 0
    on_device: bool = False
    accumulation: int = 1
    penalty: float = 0.0
    log_every: int = 100
    checkpoint_every: int = 1000

    def __post_init__(self):
        """Refuse what cannot be used."""
        for field in dataclasses.fields(self):
            check_type(field.name, getattr(self, field.name), field.type)
        for name, least in _LEAST.items():
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name), least)
        if self.seed >= _SEEDS:
            raise InputError(f"seed must be below 2³², not {self.seed}")
        check_number("penalty", self.penalty, least=0)
        if self.randaugment > LARGEST_MAGNITUDE:
            raise InputError(f"randaugment must be at most {LARGEST_MAGNITUDE}, not {self.randaugment}")
        if self.randaugment and self.on_device:
            raise InputError(
                "with on_device images are mirrored and cropped only: use randaugment=0, or on_device=False"
            )

    def make_optimizer(self, num_examples: int) -> optax.GradientTransformation:
        """The optimiser, for epochs of so many examples.

        Raises:
            InputError: what it cannot be made of.
        """
        schedule = learning_rate_schedule(
            self.learning_rate,
            self.schedule,
            decay=self.decay,
            decay_epochs=self.decay_epochs,
            warmup_epochs=self.warmup_epochs,
            warmup_from=self.warmup_from,
            num_epochs=self.num_epochs,
            batch_size=self.batch_size,
            num_examples=num_examples,
        )
        return make_optimizer(self.optimizer, schedule, self.weight_decay)

    def steps(self, num_examples: int) -> int:
        """Steps in all, for epochs of so many examples."""
        return self.num_steps or math.ceil(self.num_epochs * num_examples / self.batch_size)


DEFAULTS = {field.name: field.default for field in dataclasses.fields(Training)}
"""The settings that a training has where no others are given."""


def check_type(name: str, value: object, kind: object) -> None:
    """Raise InputError unless `value` is of the type: one such as int, or int | None; a float may be whole."""
    kinds = typing.get_args(kind) or (kind,)
    if not isinstance(value, (*kinds, int) if float in kinds else kinds) or (
        isinstance(value, bool) and bool not in kinds
    ):
        raise InputError(f"{name} is {value!r}, but must be of type {kinds[0].__name__}")
