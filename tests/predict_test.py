"""Tests for intriguing/predict.py: a model is read as it is now."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from intriguing import attack, predict
from intriguing.errors import InputError

TRACES = []


class Model:
    """Weights that change in place, as those of Flax's NNX modules do."""

    def __init__(self, seed):
        self.kernel = jax.random.normal(jax.random.key(seed), (16, 5))

    def __call__(self, images):
        TRACES.append(images.shape)
        return images.reshape(len(images), -1) @ self.kernel


def closure_over_a_dict():
    weights = {"kernel": jax.random.normal(jax.random.key(1), (16, 5))}
    return weights, lambda images: images @ weights["kernel"]


@pytest.fixture
def images():
    return np.random.default_rng(0).uniform(0.3, 0.7, (6, 16)).astype(np.float32)


def check(model, images):
    """Attacks the model as it is, and asks it itself."""
    classes = np.asarray(model(images)).argmax(axis=1)
    np.testing.assert_array_equal(predict.predict(model, images), classes)
    targets = (classes + 1) % 5
    result = attack.minimal_perturbation(model, images, targets)
    assert result.success.all()
    np.testing.assert_array_equal(np.asarray(model(result.adv_images)).argmax(axis=1), targets)


def test_weights_that_change_in_place(images):
    model = Model(0)
    check(model, images)
    model.kernel = -model.kernel
    check(model, images)


def test_a_method_and_a_closure_that_change(images):
    model = Model(0)
    check(model.__call__, images)
    model.kernel = 2 * jnp.roll(model.kernel, 1, axis=1)
    check(model.__call__, images)
    weights, logits_fn = closure_over_a_dict()
    check(logits_fn, images)
    weights["kernel"] = -weights["kernel"]
    check(logits_fn, images)


def test_other_code_under_the_same_name(images):
    """What is not an array changes the program, and is compiled anew."""
    settings = {"sign": 1.0}
    kernel = jax.random.normal(jax.random.key(2), (16, 5))

    def logits_fn(images):
        return settings["sign"] * (images @ kernel)

    check(logits_fn, images)
    settings["sign"] = -1.0
    check(logits_fn, images)


def test_other_weights_compile_nothing(images):
    """Reading a model traces it once for one image; the engine does not trace it again."""
    check(Model(3), images)
    del TRACES[:]
    check(Model(4), images)  # another object, too
    assert set(TRACES) <= {(1, 16), (6, 16)}  # read, and asked by the test and the checks


def test_arrays_that_depend_on_the_number_of_images(images):
    def logits_fn(images):
        return images @ np.ones((16, 3), np.float32) + np.zeros((len(images), 1), np.float32)

    with pytest.raises(InputError, match=r"depend on the number of images.*Partial"):
        predict.logits(logits_fn, images)
