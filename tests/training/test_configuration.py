import jax
import numpy as np
import pytest

from coda_jax import InputError
from coda_jax.training.configuration import DEFAULTS, Training, check_type


def test_defaults_are_a_training():
    assert vars(Training()) == DEFAULTS


def test_steps_are_those_given_or_of_all_epochs():
    training = Training(batch_size=8, num_epochs=3)
    assert training.steps(50) == 19  # 150 / 8, and a last batch that reaches into the next epoch.
    assert Training(batch_size=8, num_steps=5).steps(50) == 5


PAPER = {
    "learning_rate": 0.8,
    "schedule": "step",
    "decay": 2.0,
    "decay_epochs": 2,
    "warmup_epochs": 0,
    "warmup_from": 0.0,
    "num_epochs": 5,
    "batch_size": 4,
}
NUM_EXAMPLES = 10  # Epochs 0, 1, 2, 3 begin with steps 0, 3, 5, 8 (counted from 0).


def test_few_images_get_more_epochs():
    # 3 epochs of 50 examples are 19 steps; 3 times as many are 57.
    training = Training(batch_size=8, num_epochs=3, min_steps=40)
    assert (training.stretch(50), training.steps(50)) == (3, 57)
    assert (training.stretch(500), training.steps(500)) == (1, 188)
    assert Training(batch_size=8, num_epochs=3, min_steps=40, num_steps=5).steps(50) == 5


def test_rates_vanish_only_where_steps_divide_them_by_more_than_a_thousand():
    # 1.5 is divided by 18 times, after epoch 72.
    training = Training(num_epochs=100, decay_epochs=4, learning_rate=0.5)
    expected = "the learning rate vanishes: after 72 of 100 epochs it is less than a thousandth of 0.5: raise decay_ep"
    assert training.vanishing().startswith(expected)
    for changes in ({"num_epochs": 72}, {"decay_epochs": 30}, {"decay": 1.0}, {"schedule": "cosine"}):
        assert Training(**{"num_epochs": 100, "decay_epochs": 4} | changes).vanishing() is None
    assert Training(num_epochs=73, decay_epochs=4).vanishing()


def rates(steps, **changes):
    schedule = Training(**PAPER | changes).learning_rate_schedule(NUM_EXAMPLES)
    return [float(jax.jit(schedule)(step)) for step in range(steps)]


def test_rate_is_divided_after_every_decay_epochs():
    np.testing.assert_allclose(rates(12), [0.8] * 5 + [0.4] * 5 + [0.2] * 2, rtol=1e-6)  # float32.


def test_warm_up_grows_by_the_step_and_epochs_are_counted_from_the_start():
    expected = [0.2, 0.32, 0.44, 0.56, 0.68, *[0.4] * 5, 0.2]  # 2 epochs are 5 steps.
    np.testing.assert_allclose(rates(11, warmup_epochs=2, warmup_from=0.2), expected, rtol=1e-6)


def test_cosine_falls_to_zero_at_the_end_of_all_epochs():
    # 5 epochs are 13 steps, of which 3 are the warm-up: half of the rate is left after 5 of 10.
    found = rates(15, schedule="cosine", warmup_epochs=1)
    np.testing.assert_allclose(found[:4], [0, 0.8 / 3, 1.6 / 3, 0.8], rtol=1e-6)
    np.testing.assert_allclose([found[8], found[13], found[14]], [0.4, 0, 0], atol=1e-6)
    assert all(first > second for first, second in zip(found[3:13], found[4:14], strict=True))


@pytest.mark.parametrize("changes", [{}, {"schedule": "cosine"}])
def test_rates_of_more_epochs_are_stretched(changes):
    changes |= {"warmup_epochs": 2, "num_epochs": 4}  # 10 steps, of which 5 are the warm-up.
    stretched = rates(20, min_steps=20, **changes)
    np.testing.assert_allclose(stretched[::2], rates(10, **changes), rtol=1e-5, atol=1e-7)
    assert stretched[:10] != rates(10, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_steps": -1}, "min_steps must be at least 0, not -1"),
        ({"batch_size": "8"}, "batch_size is '8', but must be of type int"),
        ({"flip": 1}, "flip is 1, but must be of type bool"),
        ({"seed": True}, "seed is True, but must be of type int"),
        ({"num_epochs": 0}, "num_epochs must be at least 1, not 0"),
        ({"num_steps": 0}, "num_steps must be at least 1, not 0"),
        ({"seed": 2**32}, "seed must be below 2³², not 4294967296"),
        ({"penalty": float("nan")}, "penalty must be finite, not nan"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"batch_size": -3}, "batch_size must be at least 1, not -3"),
        ({"optimizer": "sgd"}, "optimizer is 'sgd', but must be one of adam, muon"),
        ({"weight_decay": -0.1}, "weight_decay must be at least 0, not -0.1"),
        ({"schedule": "linear"}, "schedule is 'linear', but must be one of step, cosine"),
        ({"learning_rate": -1.0}, "learning_rate must be at least 0, not -1.0"),
        ({"warmup_from": float("nan")}, "warmup_from must be finite, not nan"),
        ({"warmup_epochs": -1}, "warmup_epochs must be at least 0, not -1"),
        ({"decay": 0.0}, "decay must be above 0, not 0.0"),
        ({"decay_epochs": 0}, "decay_epochs must be at least 1, not 0"),
        ({"crop_scale": 0.0}, "crop_scale must be above 0, not 0.0"),
        ({"crop_scale": 1.5}, "crop_scale must be at most 1, not 1.5"),
        ({"colour": -0.1}, "colour must be at least 0, not -0.1"),
        ({"colour": 1.1}, "colour must be at most 1, not 1.1"),
        ({"crop_size": 0}, "crop_size must be at least 1, not 0"),
        ({"test_every": 0}, "test_every must be at least 1, not 0"),
        ({"crop_scale": 0.5, "on_device": True}, "use crop_scale=1.0, or on_device=False"),
        ({"crop_size": 5, "on_device": True}, "use crop_size=None, or on_device=False"),
        ({"colour": 0.5, "on_device": True}, "use colour=0.0, or on_device=False"),
        ({"randaugment": 11}, "randaugment must be at most 10, not 11"),
        ({"randaugment": 9, "on_device": True}, "use randaugment=0, or on_device=False"),
    ],
)
def test_what_is_no_training(changes, message):
    with pytest.raises(InputError, match=message):
        Training(**changes)


@pytest.mark.parametrize(
    ("settings", "pixels"),
    [({}, 64), ({"crop_scale": 0.5}, 48), ({"crop_scale": 0.5, "crop_size": 40}, 40), ({"crop_size": 40}, 40)],
)
def test_crops_that_are_resized_are_smaller_than_test_images(settings, pixels):
    assert Training(**settings).crop_pixels(64) == pixels


def test_types():
    check_type("a", 1, float)
    check_type("a", None, str | None)
    with pytest.raises(InputError, match="a is True, but must be of type float"):
        check_type("a", True, float)
