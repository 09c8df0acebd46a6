"""Tests for intriguing/keys.py: what one image draws does not depend on its batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from intriguing import keys
from intriguing.attack import baselines, targets
from intriguing.training import streams

NUM = 12
IMAGES = np.random.default_rng(0).uniform(size=(NUM, 6, 6, 1)).astype(np.float32)


def draw_targets(key, rows):
    return targets.random_targets(key, np.zeros(len(rows), np.int32), rows, 1000)


def draw_noise(key, rows):
    return baselines.gaussian_noise(key, rows, IMAGES[rows], 0.1)


def draw_directions(key, rows):
    return baselines.move_randomly(key, rows, IMAGES[rows], np.ones(len(rows), np.float32))


@pytest.fixture(params=["threefry2x32", "rbg", "unsafe_rbg"])
def key(request):
    return jax.random.key(3, impl=request.param)


@pytest.mark.parametrize("draw", [draw_targets, draw_noise, draw_directions])
def test_draws_do_not_depend_on_the_batch(key, draw):
    whole = np.asarray(draw(key, np.arange(NUM)))
    parts = [draw(key, np.arange(start, start + 4)) for start in (0, 4, 8)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    assert len({row.tobytes() for row in whole}) >= NUM - 1  # of 999 classes two may be equal


def test_crops_differ_and_do_not_depend_on_the_batch(key):
    whole = np.asarray(streams.random_crops(key, jnp.asarray(IMAGES), 3))
    np.testing.assert_array_equal(whole[:5], streams.random_crops(key, jnp.asarray(IMAGES[:5]), 3))


def test_a_threefry_key_is_itself():
    key = jax.random.key(5, impl="threefry2x32")
    assert (jax.random.key_data(keys.independent(key)) == jax.random.key_data(key)).all()
    old = jax.random.PRNGKey(5)
    assert jax.random.key_data(keys.independent(old)).shape == (2,)


@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg"])
def test_other_keys_give_other_keys(impl):
    base = jax.random.key(0, impl=impl)
    several = [base, jax.random.key(1, impl=impl), *jax.random.split(base, 5)]
    found = {np.asarray(jax.random.key_data(keys.independent(key))).tobytes() for key in several}
    assert len(found) == len(several)
