"""Tests for intriguing/analysis/units.py"""

from collections import Counter

import jax
import numpy as np
import pytest
import scipy.stats
from scipy.spatial.distance import pdist

from intriguing import data
from intriguing.analysis import units

NUM_IMAGES, NUM_UNITS = 120, 17


@pytest.fixture(scope="module")
def activations():
    """Few different values, so that there are ties everywhere; products of them are exact."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 6, size=(NUM_IMAGES, NUM_UNITS)).astype(np.float32)


def by_sorting(values, k):
    """values (images, directions) -> (directions, k): every image sorted, ties by their index."""
    order = [sorted(range(len(column)), key=lambda i: -column[i])[:k] for column in values.T]
    return np.array(order)  # (Python's sort is stable)


@pytest.mark.parametrize("k", [1, 5, 50, NUM_IMAGES])
@pytest.mark.parametrize("chunk_size", [1, 7, 512])
def test_top_images_of_units(activations, k, chunk_size):
    found = units.top_images(activations, None, k, chunk_size=chunk_size)
    np.testing.assert_array_equal(found, by_sorting(activations, k))


@pytest.mark.parametrize("chunk_size", [1, 7, 512])
def test_top_images_of_directions(activations, chunk_size):
    directions = np.random.default_rng(1).integers(-2, 3, size=(20, NUM_UNITS)).astype(np.float32)
    expected = by_sorting(activations @ directions.T, 10)
    found = units.top_images(activations, directions, 10, chunk_size=chunk_size)
    np.testing.assert_array_equal(found, expected)


def test_the_natural_basis_is_the_identity_matrix(activations):
    eye = np.eye(NUM_UNITS, dtype=np.float32)
    np.testing.assert_array_equal(
        units.top_images(activations, eye, 8), units.top_images(activations, None, 8)
    )


def test_live_units_by_hand():
    activations = np.zeros((6, 6), np.float32)
    activations[:, 0] = 1  # the same everywhere: dead
    activations[:2, 1] = 3  # two images
    activations[:3, 2] = [1, 5, 1]  # three
    activations[:, 3] = [-1, -2, -1, -1, -2, -2]  # three above the least, which is not 0
    activations[:, 4] = range(6)  # five
    found = {k: units.live_units(activations, k).tolist() for k in (1, 2, 3, 4, 5, 6)}
    assert found == {1: [1, 2, 3, 4], 2: [1, 2, 3, 4], 3: [2, 3, 4], 4: [4], 5: [4], 6: []}


def test_coherence_is_that_of_a_loop_over_rows():
    digits = data.take(data.load("digits", "train"), slice(200))
    rng = np.random.default_rng(0)
    activations = rng.uniform(size=(200, 9)).astype(np.float32)
    top = np.stack([rng.choice(200, 6, replace=False) for _ in range(30)])
    top[0] = np.flatnonzero(digits.labels == 3)[:6]  # of one class
    found = units.coherence(top, digits.labels, digits.images, activations, 10)
    for i, row in enumerate(top):
        counts = list(Counter(digits.labels[row].tolist()).values())
        expected = units.Coherence(
            max(counts) / 6,
            scipy.stats.entropy(counts, base=2),
            pdist(digits.images[row].reshape(6, 64).astype(float)).mean(),
            pdist(activations[row].astype(float)).mean(),
        )
        np.testing.assert_allclose([measure[i] for measure in found], expected, rtol=1e-4)
    assert found.purity[0] == 1 and found.entropy[0] == 0
    assert all(measure.shape == (30,) for measure in found)


@pytest.mark.parametrize("chunk_size", [1, 3, 256])
def test_mean_distances_in_chunks(chunk_size):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 5))
    groups = rng.integers(0, 40, size=(10, 4))
    expected = [pdist(vectors[group]).mean() for group in groups]
    found = units.mean_distances(vectors, groups, chunk_size=chunk_size)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_vector_is_near_itself():
    vectors = np.random.default_rng(0).uniform(size=(5, 50)).astype(np.float32)
    found = units.mean_distances(vectors, np.arange(5)[:, None].repeat(3, axis=1))
    np.testing.assert_allclose(found, 0, atol=5e-3)  # float32: the root of a few 1e-6


def test_random_directions():
    key = jax.random.key(0)
    directions = units.random_directions(key, 4000, 5)
    assert directions.shape == (4000, 5) and directions.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1, rtol=1e-6)
    # Uniform on the sphere: mean 0 and covariance I / 5; a component's standard error is 0.007.
    np.testing.assert_allclose(directions.mean(axis=0), 0, atol=0.035)
    np.testing.assert_allclose(directions.T @ directions / 4000, np.eye(5) / 5, atol=0.02)
    np.testing.assert_array_equal(units.random_directions(key, 4000, 5), directions)
    assert (units.random_directions(jax.random.key(1), 4000, 5) != directions).mean() > 0.99


def test_compare_finds_a_clear_difference():
    rng = np.random.default_rng(0)
    first, second = rng.normal(2, 1, size=60), rng.normal(0, 2, size=80)
    found = units.compare(first, second)
    assert found.difference == pytest.approx(first.mean() - second.mean())
    assert found.p_value == pytest.approx(0.001)
    assert 0 < found.low < found.difference < found.high
    welch = scipy.stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    assert found.high - found.low == pytest.approx(welch.high - welch.low, rel=0.1)
    assert units.compare(first, second) == found
    assert units.compare(first, second, seed=1) != found
    turned = units.compare(second, first)
    assert turned.difference == -found.difference and turned.high < 0
    assert turned.p_value == pytest.approx(0.001)


def test_compare_finds_nothing_where_nothing_is():
    """The permutation test's p is about that of the t test, and so uniform."""
    found, expected, covered = [], [], 0
    for seed in range(40):
        first, second = np.random.default_rng(seed).exponential(size=(2, 30))
        comparison = units.compare(first, second, seed=seed)
        found.append(comparison.p_value)
        expected.append(scipy.stats.ttest_ind(first, second).pvalue)
        covered += comparison.low < 0 < comparison.high
    np.testing.assert_allclose(found, expected, atol=0.1)
    assert sum(p < 0.1 for p in found) < 8
    assert 0.35 < np.mean(found) < 0.65
    assert covered > 33
