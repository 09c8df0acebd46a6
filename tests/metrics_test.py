"""Tests for intriguing/metrics.py"""

import numpy as np
import pytest

from intriguing import metrics


def test_mean_leaves_out_what_where_leaves_out():
    assert metrics.mean([1.0, np.inf, 3.0, np.nan], where=[True, False, True, False]) == 2.0


def test_mean_of_nothing_is_nan():
    assert np.isnan(metrics.mean([]))
    assert np.isnan(metrics.mean([1.0, 2.0], where=[False, False]))


def test_mean_of_float32_is_summed_in_float64():
    values = np.full(100_000, 0.1, np.float32)
    assert metrics.mean(values) == pytest.approx(float(np.float32(0.1)), rel=1e-12)


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
