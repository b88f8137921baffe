import jax.numpy as jnp
import numpy as np

from coda_jax.training.optimizer import adam_with_step_decay


def test_rate_is_divided_after_every_decay_epochs():
    # 10 examples in batches of 4: epochs 0, 1, 2, 3 begin with steps 0, 3, 5, 8 (counted from 0).
    optimizer = adam_with_step_decay(0.8, decay=2.0, decay_epochs=2, batch_size=4, num_examples=10)
    state = optimizer.init(jnp.zeros(()))
    rates = []
    for _ in range(12):
        # With the same gradient at every step Adam's step is the learning rate.
        update, state = optimizer.update(jnp.ones(()), state)
        rates.append(-float(update))
    np.testing.assert_allclose(
        rates, [0.8] * 5 + [0.4] * 5 + [0.2] * 2, rtol=1e-4
    )  # Adam corrects its means' bias in float32.
