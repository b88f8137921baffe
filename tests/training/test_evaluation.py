import jax
import numpy as np
import pytest
from flax import linen as nn

from coda_jax import add_inverse, data
from coda_jax.training import state
from coda_jax.training.evaluation import classify, evaluate
from coda_jax.training.losses import binary_cross_entropy
from coda_jax.training.step import mapped_eval_step
from tests.training.problem import DATASET, MODEL, OPTIMIZER


@pytest.mark.devices
@pytest.mark.parametrize("share", [1, 3, 50])
def test_every_example_counts_once_whatever_the_batch(share):
    variables = state.create(MODEL, OPTIMIZER, (4, 4), seed=0).variables
    batches = data.test_batches(DATASET.test, batch_size=share * jax.device_count())
    results = evaluate(mapped_eval_step(MODEL), variables, batches)
    images = np.stack([example["image"] for example in DATASET.test]).astype(np.float32) / 255
    labels = np.array([example["label"] for example in DATASET.test])
    logits = jax.jit(MODEL.apply)(variables, add_inverse(images))
    assert results.keys() == {"test_loss", "test_accuracy"}
    assert results["test_accuracy"] == np.mean(np.argmax(logits, -1) == labels)
    # float32 sums in another order.
    np.testing.assert_allclose(results["test_loss"], np.mean(binary_cross_entropy(logits, labels)), rtol=1e-5)


def test_every_example_is_classified_once_and_in_order():
    """640 examples: two whole batches, and one that is filled up."""
    examples = DATASET.test * 30 + DATASET.train[:10]
    variables = {"params": state.create(MODEL, OPTIMIZER, (4, 4), seed=0).params}
    counts = []
    logits, labels = classify(MODEL, variables, examples, counts.append)
    images = np.stack([example["image"] for example in examples]).astype(np.float32) / 255
    # float32 sums in another order.
    np.testing.assert_allclose(logits, jax.jit(MODEL.apply)(variables, add_inverse(images)), rtol=1e-5, atol=1e-6)
    assert labels.tolist() == [example["label"] for example in examples]
    assert len(counts) == 3 and sum(counts) == len(examples) == 640


def test_precision_is_the_callers():
    """A CPU multiplies alike at all of them, so that what the network is told is looked at."""
    told = []

    class Told(nn.Module):
        def __call__(self, inputs):
            told.append(jax.config.jax_default_matmul_precision)
            return inputs.sum((1, 2))

    model = Told()
    classify(model, {}, DATASET.test)
    with jax.default_matmul_precision("highest"):
        classify(model, {}, DATASET.test)
    assert told == [None, "highest"]
