"""What a training is, beside its network and its data."""

import dataclasses
import math
import typing

import jax
import optax

from coda_jax.errors import InputError
from coda_jax.errors.checks import check_choice, check_number, check_whole
from coda_jax.training.optimizer import make_optimizer


@dataclasses.dataclass(frozen=True)
class Training:
    """The settings of a training; with the network and the data they determine it.

    A run that began before there was one of these has its default. A value of another type or out of its range raises
    InputError, and so does what `on_device` cannot do: `crop_scale`, `crop_size`, `colour` and `randaugment`.

    Attributes:
        seed: the seed of the parameters, the order of the examples, and the augmentation.
        batch_size: examples a step, over all devices of all processes.
        num_epochs: epochs in all, by which the learning rate goes as well.
        min_steps: steps that all epochs have at least: of few images there are more epochs, and the schedule of the
            learning rate and the time between tests are stretched by as much. 0 for no such bound.
        num_steps: steps in all, those of earlier runs included; None for all epochs.
        optimizer: the optimiser's name, as in `optimizer.make_optimizer`; `weight_decay` is described there, too.
        learning_rate: the highest learning rate.
        warmup_epochs: epochs in which the rate grows linearly, from `warmup_from`; 0 for none.
        schedule: "step": the rate is divided by `decay` every `decay_epochs` (the paper: by 1.5 every 30; for ImageNet
            by 2 every 20, with a warm-up of 15). "cosine": it falls to 0 at the end as half a period of a cosine does,
            from the end of the warm-up on (Loshchilov and Hutter, arXiv 1608.03983).
        decay_epochs: counted from the start. Optax counts in float32: if they are no whole number of batches, a
            division may be one step early or late.
        flip: whether to mirror half of the images.
        crop_padding: pixels by which images are padded before they are cropped to the size of the test images.
        crop_scale: the least area of the crops that are trained on, as a share of the image's, above 0: they are
            resized, as in `augmentation.RandomResizedCrop`. 1 for crops that are not resized.
        crop_size: the height and width of the crops that are trained on, in pixels; None for those of the test images,
            or for three quarters of them where crops are resized. Objects are larger in resized crops than in whole
            images, so that smaller crops show them as tests do, at less cost (Touvron et al., NeurIPS 2019, arXiv
            1906.06423).
        colour: the strength of random changes of brightness, contrast and saturation, from 0 to 1; 0 for none.
        randaugment: the magnitude of RandAugment's two operations, from 1 to 10; 0 for none.
        num_workers: processes that prepare batches; 0 for threads of this one.
        on_device: whether the training images live on the devices, and are shuffled, mirrored and cropped there.
        accumulation: equal parts of each device's share of a batch, computed one by one, in the memory of one.
        penalty: λ, the weight of `losses.weight_penalty` in what is minimised; "penalty" is recorded if it is not 0.
        log_every: steps between two records.
        test_every: epochs between two tests; one is also made at the end.
        checkpoint_every: steps between two checkpoints; one is also saved at the end.
    """

    seed: int = 0
    batch_size: int = 64
    num_epochs: int = 60
    min_steps: int = 0
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
    crop_scale: float = 1.0
    crop_size: int | None = None
    colour: float = 0.0
    randaugment: int = 0
    num_workers: int = 0
    on_device: bool = False
    accumulation: int = 1
    penalty: float = 0.0
    log_every: int = 100
    test_every: int = 1
    checkpoint_every: int = 1000

    def __post_init__(self):
        """Refuse what cannot be used."""
        for field in dataclasses.fields(self):
            check_type(field.name, getattr(self, field.name), field.type)
        counts = (
            "batch_size",
            "num_epochs",
            "decay_epochs",
            "log_every",
            "test_every",
            "checkpoint_every",
            "accumulation",
        )
        for name in counts:
            check_whole(name, getattr(self, name))
        for name in ("seed", "min_steps", "warmup_epochs", "crop_padding", "randaugment", "num_workers"):
            check_whole(name, getattr(self, name), 0)
        for name in ("num_steps", "crop_size"):
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name))
        for name in ("learning_rate", "warmup_from", "penalty"):
            check_number(name, getattr(self, name), least=0)
        check_number("decay", self.decay, above=0)
        check_number("crop_scale", self.crop_scale, above=0)
        check_number("colour", self.colour, least=0)
        for name in ("crop_scale", "colour"):
            if getattr(self, name) > 1:
                raise InputError(f"{name} must be at most 1, not {getattr(self, name)}")
        check_choice("schedule", self.schedule, ("step", "cosine"))
        self.make_optimizer(num_examples=1)  # Refuses a name or a weight decay that it cannot use.
        if self.seed >= 2**32:
            raise InputError(f"seed must be below 2³², not {self.seed}")
        if self.randaugment:
            from coda_jax.data.randaugment import LARGEST_MAGNITUDE  # Training on arrays does without its libraries.

            if self.randaugment > LARGEST_MAGNITUDE:
                raise InputError(f"randaugment must be at most {LARGEST_MAGNITUDE}, not {self.randaugment}")
        for name in ("crop_scale", "crop_size", "colour", "randaugment"):
            if self.on_device and getattr(self, name) != DEFAULTS[name]:
                raise InputError(
                    f"with on_device images are mirrored and cropped only: use {name}={DEFAULTS[name]}, or "
                    "on_device=False"
                )

    @property
    def augmentation(self) -> dict[str, bool | float]:
        """The random changes of the images, as arguments of `coda_jax.data.train_batches`."""
        names = ("flip", "crop_padding", "crop_scale", "colour", "randaugment")
        return {name: getattr(self, name) for name in names}

    def crop_pixels(self, image_size: int) -> int:
        """The height and width of the crops that are trained on, where tests are on images of `image_size` pixels."""
        if self.crop_size is not None:
            return self.crop_size
        return 3 * image_size // 4 if self.crop_scale < 1 else image_size

    def make_optimizer(self, num_examples: int) -> optax.GradientTransformation:
        """The optimiser, for epochs of so many examples."""
        return make_optimizer(self.optimizer, self.learning_rate_schedule(num_examples), self.weight_decay)

    def learning_rate_schedule(self, num_examples: int) -> optax.Schedule:
        """The learning rate of every step, counted from 0, for epochs of so many examples."""
        stretch = self.stretch(num_examples)
        warmup_steps = self.steps_of(self.warmup_epochs * stretch, num_examples)
        if self.schedule == "cosine":
            steps = self.planned_steps(num_examples)
            after_warmup = optax.cosine_decay_schedule(self.learning_rate, max(1, steps - warmup_steps))
        else:
            interval = self.decay_epochs * stretch * num_examples / self.batch_size
            stairs = optax.exponential_decay(self.learning_rate, interval, 1 / self.decay, staircase=True)

            def after_warmup(step: jax.Array) -> jax.Array:
                return stairs(step + warmup_steps)  # Counted from the start.

        if not warmup_steps:
            return after_warmup
        warmup = optax.linear_schedule(self.warmup_from, self.learning_rate, warmup_steps)
        return optax.join_schedules([warmup, after_warmup], [warmup_steps])

    def steps(self, num_examples: int) -> int:
        """Steps in all, for epochs of so many examples."""
        return self.num_steps or self.planned_steps(num_examples)

    def planned_steps(self, num_examples: int) -> int:
        """The steps of all epochs, for which the learning rate is planned whatever `num_steps` is."""
        return self.steps_of(self.num_epochs * self.stretch(num_examples), num_examples)

    def stretch(self, num_examples: int) -> int:
        """How many times as many epochs there are as `num_epochs` says, so that they have `min_steps` steps."""
        return max(1, math.ceil(self.min_steps * self.batch_size / (self.num_epochs * num_examples)))

    def steps_of(self, epochs: int, num_examples: int) -> int:
        """The steps after which so many epochs, of so many examples each, are over."""
        return math.ceil(epochs * num_examples / self.batch_size)

    def vanishing(self) -> str | None:
        """What is to be said where steps of the learning rate leave less than a thousandth of it; None elsewhere."""
        divisions = (self.num_epochs - 1) // self.decay_epochs
        if self.schedule != "step" or divisions * math.log(self.decay) < math.log(1000):
            return None
        needed = math.ceil(math.log(1000) / math.log(self.decay)) * self.decay_epochs
        return (
            f"the learning rate vanishes: after {needed} of {self.num_epochs} epochs it is less than a thousandth of "
            f"{self.learning_rate}: raise decay_epochs with num_epochs, or use schedule=cosine"
        )


DEFAULTS = {field.name: field.default for field in dataclasses.fields(Training)}


def check_type(name: str, value: object, kind: object) -> None:
    """Raise InputError unless `value` is of the type: one such as int, or int | None; a float may be whole."""
    kinds = typing.get_args(kind) or (kind,)
    if not isinstance(value, (*kinds, int) if float in kinds else kinds) or (
        isinstance(value, bool) and bool not in kinds
    ):
        raise InputError(f"{name} is {value!r}, but must be of type {kinds[0].__name__}")
