"""The paper's optimiser."""

import optax

from coda_jax.checks import check_number, check_whole


def adam_with_step_decay(
    learning_rate: float, *, decay: float, decay_epochs: int, batch_size: int, num_examples: int
) -> optax.GradientTransformation:
    """Adam whose learning rate is divided by `decay` every `decay_epochs` epochs (the paper: by 1.5 every 30).

    Args:
        learning_rate: of the first epochs.
        decay: the divisor.
        decay_epochs: epochs between divisions.
        batch_size: examples a step, over all devices.
        num_examples: examples an epoch.

    Raises:
        InputError: a learning rate below 0, a divisor or epochs of 0 or below, or numbers that are not finite.
    """
    check_number("learning_rate", learning_rate, least=0)
    check_number("decay", decay, above=0)
    check_whole("decay_epochs", decay_epochs)

    def schedule(step: int) -> float:
        epoch = step * batch_size // num_examples
        return learning_rate / decay ** (epoch // decay_epochs)

    return optax.adam(schedule)
