import jax
import numpy as np
import pytest

from coda_jax import add_inverse, data
from coda_jax.losses import binary_cross_entropy
from coda_jax.training import state
from coda_jax.training.evaluation import evaluate
from coda_jax.training.step import mapped_eval_step
from tests.training.problem import DATASET, MODEL, OPTIMIZER


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
