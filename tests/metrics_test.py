"""Tests for intriguing/metrics.py"""

import numpy as np
import pytest

from intriguing import metrics
from intriguing.metrics import Average


def test_average_of_unequal_batches_is_no_mean_of_means():
    values = np.random.default_rng(0).normal(size=10)
    merged = Average.of(values[:7]).merge(Average.of(values[7:9])).merge(Average.of(values[9:]))
    assert merged.count == 10
    assert merged.mean == pytest.approx(values.mean(), rel=1e-12)


def test_average_leaves_out_what_where_leaves_out():
    found = Average.of([1.0, np.inf, 3.0, np.nan], where=[True, False, True, False])
    assert found == Average(4.0, 2) and found.mean == 2.0


def test_average_of_nothing_is_nan():
    assert np.isnan(Average().mean)
    assert np.isnan(Average.of([1.0, 2.0], where=[False, False]).mean)
    assert Average().merge(Average.of([3.0])).mean == 3.0


def test_average_of_float32_is_summed_in_float64():
    values = np.full(100_000, 0.1, np.float32)
    assert Average.of(values).mean == pytest.approx(float(np.float32(0.1)), rel=1e-12)


def test_distortion_by_hand():
    images = np.zeros((3, 2, 2, 1), np.float32)
    changed = images.copy()
    changed[1] = 0.5
    changed[2, 0, 0] = -0.3
    np.testing.assert_allclose(metrics.distortion(images, changed), [0, 0.5, 0.15], rtol=1e-6)
    np.testing.assert_allclose(metrics.l2_norm(changed - images), [0, 1.0, 0.3], rtol=1e-6)


def test_error_rate():
    assert metrics.error_rate([1, 2, 3, 4], [1, 2, 0, 0]) == 0.5
    assert metrics.error_rate(np.array([1]), np.array([1])) == 0.0
    assert np.isnan(metrics.error_rate([], []))
