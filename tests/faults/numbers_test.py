"""NaN and infinity from a network, for one image, from one layer, for all: marked, and alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from intriguing import attack, predict, training
from intriguing.attack import AttackStatus
from intriguing.errors import InputError

NUM = 12


@pytest.fixture(scope="module")
def problem():
    """(weights, images, labels)"""
    rng = np.random.default_rng(0)
    weights = (rng.normal(size=(16, 20)), rng.normal(size=(20, 4)))
    images = rng.uniform(0.2, 0.8, size=(NUM, 16)).astype(np.float32)
    return tuple(w.astype(np.float32) for w in weights), images, rng.integers(0, 4, NUM)


def network(weights, images, value=None, where=None):
    """Two layers; the hidden one gives `value` for the images that `where` names."""
    hidden = jax.nn.relu(images @ weights[0])
    if value is not None:
        hidden = jnp.where(where(images)[:, None], value, hidden)
    return hidden @ weights[1]


@pytest.mark.parametrize("goal", ["targeted", "untargeted"])
@pytest.mark.parametrize("search", ["penalty", "explore"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_one_image(problem, tally, goal, search, value):
    """NaN or infinity for one image: it is marked, the others are bit for bit what they were."""
    weights, images, labels = problem
    clean, images = images, images.copy()
    images[5] = 0.95  # the network breaks near white
    options = {"goal": goal, "search": search}

    def broken(weights, x):
        return network(weights, x, value, lambda x: x.mean(axis=1) > 0.9)

    logits_fn = jax.tree_util.Partial(broken, weights)
    expected = attack.minimal_perturbation(logits_fn, clean, labels, **options)
    found = attack.minimal_perturbation(logits_fn, images, labels, **options)
    others = np.arange(NUM) != 5
    survived = found.status[5] == AttackStatus.NON_FINITE and not found.success[5]
    for name, array in found._asdict().items():
        survived &= np.array_equal(array[others], getattr(expected, name)[others])
    tally(survived)
    assert survived, found.status


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_layer(problem, tally, value, caplog):
    """NaN or infinity from a layer: every image is marked, none has a class, nothing hangs."""
    weights, images, labels = problem
    broken = jax.tree_util.Partial(
        lambda weights, x: network(weights, x, value, lambda x: x.mean(axis=1) > -1), weights
    )
    found = attack.minimal_perturbation(broken, images, labels)
    survived = bool((found.status == AttackStatus.NON_FINITE).all() and not found.success.any())
    survived &= np.array_equal(found.adv_images, images) and np.isinf(found.l2_norm).all()
    survived &= (predict.predict(broken, images) == predict.NO_CLASS).all()
    survived &= f"{NUM} of {NUM} images" in caplog.text
    tally(survived)
    assert survived


def test_weights_that_leave_the_numbers(tmp_path, tally):
    """A training whose weights grow beyond the numbers: one line, and no such weights are kept."""
    from intriguing import data, models

    digits = data.load("digits", "train")
    with pytest.raises(InputError, match="learning_rate may be too large") as caught:
        training.fit(
            models.fully_connected((10,)), digits, jax.random.key(0), num_epochs=20, batch_size=100,
            learning_rate=1e38, checkpoint_dir=tmp_path,
        )  # fmt: skip
    survived = "\n" not in str(caught.value) and not list(tmp_path.glob("[0-9]*"))
    tally(survived)
    assert survived
