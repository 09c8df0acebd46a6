"""Tests for ../intriguing/transfer.py, on victims made by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from intriguing import transfer


def by_first_pixel(images):
    """Class 1 where the first pixel exceeds a half, else class 0."""
    over = images.reshape(len(images), -1)[:, :1] > 0.5
    return jnp.where(over, jnp.array([[0.0, 1.0]]), jnp.array([[1.0, 0.0]]))


def by_second_pixel(images):
    return by_first_pixel(images.reshape(len(images), -1)[:, 1:])


def always_zero(images):
    return jnp.tile(jnp.array([1.0, 0.0]), (len(images), 1))


def always_one(images):
    return 1 - always_zero(images)


VICTIMS = {"first": by_first_pixel, "second": by_second_pixel, "zero": always_zero}


def test_both_denominators_by_hand():
    images = np.array([[0.0, 0.0], [1.0, 1.0], [1.0, 0.0], [0.0, 0.0]], np.float32)
    labels = np.array([0, 1, 1, 0])
    # right when clean: first: all; second: 0, 1, 3; zero: 0, 3
    changed = {
        "itself": images,
        "first flipped": np.abs(images - [[1, 0]]).astype(np.float32),
        "all ones": np.ones_like(images),
    }
    over_all, over_right = transfer.transfer_table(VICTIMS, changed, images, labels)
    assert over_all == {
        "itself": [0.0, 0.25, 0.5],
        "first flipped": [1.0, 0.25, 0.5],
        "all ones": [0.5, 0.5, 0.5],
    }
    assert list(over_right) == list(changed)
    np.testing.assert_allclose(over_right["itself"], [0, 0, 0])
    np.testing.assert_allclose(over_right["first flipped"], [1, 0, 0])
    np.testing.assert_allclose(over_right["all ones"], [0.5, 2 / 3, 0])


def test_nan_where_the_victim_had_none_right():
    images, labels = np.zeros((3, 2), np.float32), np.zeros(3, int)
    over_all, over_right = transfer.transfer_table(
        {"one": always_one, "zero": always_zero}, {"a": images}, images, labels
    )
    assert over_all == {"a": [1.0, 0.0]}
    assert np.isnan(over_right["a"][0]) and over_right["a"][1] == 0.0


@pytest.mark.parametrize("stddev", [0.1, 1.0])
def test_gaussian_noise_has_the_stddev_and_is_not_clipped(stddev):
    images = np.full((64, 16, 16, 1), 0.9, np.float32)
    noisy = np.asarray(transfer.gaussian_noise(jax.random.key(0), np.arange(64), images, stddev))
    assert noisy.shape == images.shape and noisy.dtype == np.float32
    noise = noisy - images
    # 16,384 draws: the standard deviation is known to 0.55%, the mean to stddev / 128.
    assert noise.std() == pytest.approx(stddev, rel=0.03)
    assert abs(noise.mean()) < 5 * stddev / 128
    assert (noisy > 1).any()
    rows = noise.reshape(64, -1)
    correlations = np.corrcoef(rows)[~np.eye(64, dtype=bool)]
    assert np.abs(correlations).max() < 0.35  # 1 / 16 each if independent


def test_gaussian_noise_does_not_depend_on_the_batch():
    images = np.random.default_rng(0).uniform(size=(7, 4, 4, 1)).astype(np.float32)
    key = jax.random.key(3)
    whole = np.asarray(transfer.gaussian_noise(key, np.arange(7), images, 0.3))
    for part in ([2, 3], [6], [5, 0, 1]):
        found = transfer.gaussian_noise(key, np.array(part), images[part], 0.3)
        np.testing.assert_array_equal(found, whole[part])
    other = np.asarray(transfer.gaussian_noise(jax.random.key(4), np.arange(7), images, 0.3))
    assert (other != whole).mean() > 0.99
