import pytest

from coda_jax import InputError
from coda_jax.training.configuration import DEFAULTS, Training, check_type


def test_defaults_are_a_training():
    assert vars(Training()) == DEFAULTS


def test_steps_are_those_given_or_of_all_epochs():
    training = Training(batch_size=8, num_epochs=3)
    assert training.steps(50) == 19  # 150 / 8, and a last batch that reaches into the next epoch.
    assert Training(batch_size=8, num_steps=5).steps(50) == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": "8"}, "batch_size is '8', but must be of type int"),
        ({"flip": 1}, "flip is 1, but must be of type bool"),
        ({"seed": True}, "seed is True, but must be of type int"),
        ({"num_epochs": 0}, "num_epochs must be at least 1, not 0"),
        ({"num_steps": 0}, "num_steps must be at least 1, not 0"),
        ({"seed": 2**32}, "seed must be below 2³², not 4294967296"),
        ({"penalty": float("nan")}, "penalty must be finite, not nan"),
        ({"randaugment": 11}, "randaugment must be at most 10, not 11"),
        ({"randaugment": 9, "on_device": True}, "use randaugment=0, or on_device=False"),
    ],
)
def test_what_is_no_training(changes, message):
    with pytest.raises(InputError, match=message):
        Training(**changes)


def test_types():
    check_type("a", 1, float)
    check_type("a", None, str | None)
    with pytest.raises(InputError, match="a is True, but must be of type float"):
        check_type("a", True, float)
