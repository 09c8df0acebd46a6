"""Tests for intriguing/analysis/transfer.py, on victims made by hand."""

import functools
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from intriguing.analysis import transfer
from intriguing.attack import baselines


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
    noisy = np.asarray(baselines.gaussian_noise(jax.random.key(0), np.arange(64), images, stddev))
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
    whole = np.asarray(baselines.gaussian_noise(key, np.arange(7), images, 0.3))
    for part in ([2, 3], [6], [5, 0, 1]):
        found = baselines.gaussian_noise(key, np.array(part), images[part], 0.3)
        np.testing.assert_array_equal(found, whole[part])
    other = np.asarray(baselines.gaussian_noise(jax.random.key(4), np.arange(7), images, 0.3))
    assert (other != whole).mean() > 0.99


def rms(change):
    return np.sqrt(np.mean(change.astype(float) ** 2, axis=tuple(range(1, change.ndim))))


def pairs(scale):
    """Images far from the edges of the box, and changed ones."""
    rng = np.random.default_rng(0)
    images = rng.uniform(0.4, 0.6, size=(6, 5, 4, 1)).astype(np.float32)
    change = scale * rng.uniform(-1, 1, size=images.shape)
    return images, (images + change).astype(np.float32)


@pytest.mark.parametrize("scale", [1e-3, 0.3])  # lengthened, shortened
def test_amplify_keeps_the_direction(scale):
    images, adv_images = pairs(scale)
    found = baselines.amplify(images, adv_images, 0.1)
    assert found.shape == images.shape and found.dtype == np.float32
    np.testing.assert_allclose(rms(found - images), 0.1, rtol=1e-5)
    for before, after in zip(adv_images - images, found - images, strict=True):
        cosine = np.sum(before * after) / np.linalg.norm(before) / np.linalg.norm(after)
        assert cosine == pytest.approx(1, abs=1e-6)


def test_amplify_clips_to_the_box():
    images, adv_images = pairs(0.1)
    found = baselines.amplify(images, adv_images, 0.4)
    free = baselines.amplify(images, adv_images, 0.4, bounds=(-np.inf, np.inf))
    np.testing.assert_allclose(rms(free - images), 0.4, rtol=1e-5)
    assert (free < 0).any() and (free > 1).any()
    np.testing.assert_array_equal(found, np.clip(free, 0, 1))
    assert (rms(found - images) < 0.4).all()
    np.testing.assert_array_equal(
        baselines.amplify(images, adv_images, 0.4, bounds=(0.3, 0.7)), np.clip(free, 0.3, 0.7)
    )


def test_amplify_leaves_unchanged_images():
    images, adv_images = pairs(0.1)
    adv_images[[1, 4]] = images[[1, 4]]
    found = baselines.amplify(images, adv_images, 0.2)
    np.testing.assert_array_equal(found[[1, 4]], images[[1, 4]])
    np.testing.assert_allclose(rms(found - images)[[0, 2, 3, 5]], 0.2, rtol=1e-5)


def test_random_directions_have_the_length_asked_for():
    images = np.full((5, 8, 8, 1), 0.5, np.float32)
    stddevs = np.array([0.0, 0.01, 0.1, 1.0, 3.0], np.float32)
    found = np.asarray(baselines.move_randomly(jax.random.key(0), np.arange(5), images, stddevs))
    assert found.shape == images.shape and found.dtype == np.float32
    np.testing.assert_allclose(rms(found - images), stddevs, rtol=1e-5)
    assert (found > 1).any() and (found < 0).any()  # not clipped
    cosines = np.corrcoef((found - images)[1:].reshape(4, -1))[~np.eye(4, dtype=bool)]
    assert np.abs(cosines).max() < 0.5  # 1 / 8 each if independent


def test_random_directions_do_not_depend_on_the_batch():
    images = np.random.default_rng(0).uniform(size=(7, 4, 4, 1)).astype(np.float32)
    stddevs = np.linspace(0.1, 0.7, 7, dtype=np.float32)
    key = jax.random.key(3)
    whole = np.asarray(baselines.move_randomly(key, np.arange(7), images, stddevs))
    for part in ([2, 3], [6], [5, 0, 1]):
        found = baselines.move_randomly(key, np.array(part), images[part], stddevs[part])
        np.testing.assert_allclose(found, whole[part], rtol=1e-6)
    again = baselines.move_randomly(key, np.arange(7), images, stddevs)
    np.testing.assert_array_equal(again, whole)
    other = baselines.move_randomly(jax.random.key(4), np.arange(7), images, stddevs)
    assert (np.asarray(other) != whole).mean() > 0.99


def test_sets_that_are_functions_are_called_once_and_not_kept():
    """What is on disk need not fit in memory: each set is gone when the next is made."""
    images = np.random.default_rng(0).uniform(size=(4, 6)).astype(np.float32)
    labels = np.arange(4) % 3
    victims = {str(i): lambda x, i=i: x[:, i : i + 3] for i in range(2)}
    alive, made = [], []

    class Images(np.ndarray):
        """Arrays that can be referred to weakly."""

    def make(i):
        assert not any(each() is not None for each in alive)
        changed = (images + i).view(Images)
        alive.append(weakref.ref(changed))
        made.append(i)
        return changed

    found = transfer.transfer_table(
        victims, {str(i): functools.partial(make, i) for i in range(3)}, images, labels
    )
    assert made == [0, 1, 2]
    whole = {str(i): images + i for i in range(3)}
    assert found == transfer.transfer_table(victims, whole, images, labels)
