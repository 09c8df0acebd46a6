"""Tests for intriguing/analysis/operator_norms.py: dense singular values are the oracle."""

import itertools

import numpy as np
import pytest

from intriguing.analysis.operator_norms import exact_norm, frequency_norm, matrix_norm
from intriguing.errors import InputError
from intriguing.models.layers import Conv, Dense

CASES = [
    (Conv(4, window, stride, pad, groups), size)
    for window, stride, groups, size in itertools.product(
        (1, 2, 3, 4), (1, 2, 3, 4), (1, 2), (6, 9)
    )
    for pad in {0, window // 2}
]  # VALID, and SAME where the stride is 1


def dense_matrix(layer, kernel, shape):
    """The layer as a matrix (outputs, inputs), one column per unit vector."""
    basis = np.eye(np.prod(shape), dtype=np.float32).reshape(-1, *shape)
    outputs = layer(basis, kernel, np.zeros(kernel.shape[-1], np.float32))
    return np.asarray(outputs, np.float64).reshape(len(basis), -1).T


def random_kernel(layer, shape, seed=0):
    kernel = np.random.default_rng(seed).normal(size=layer.kernel_shape(shape))
    return kernel.astype(np.float32)


@pytest.mark.parametrize("seed", range(3))
def test_bound_and_norm_of_convolutions(seed):
    for case, (layer, size) in enumerate(CASES):
        shape = (size, size + 1, 2)
        if size + 2 * layer.pad < layer.window:
            continue
        kernel = random_kernel(layer, shape, 100 * seed + case)
        truth = np.linalg.norm(dense_matrix(layer, kernel, shape), 2)
        bound = frequency_norm(layer, kernel, shape)
        assert bound >= truth * (1 - 1e-6), layer
        assert bound <= 2.5 * truth, layer  # random kernels: borders take little away
        if case % 5 == seed:
            assert exact_norm(layer, kernel, shape) == pytest.approx(truth, rel=1e-4), layer


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_circular_convolutions_have_exactly_the_bound(stride):
    # The bound is the norm of the circular convolution on the padded grid: make that by hand.
    window, n = 3, 10
    size = -(-(n + window - 1) // stride) * stride
    layer = Conv(3, window, stride)
    kernel = random_kernel(layer, (n, n, 2))
    outputs = []
    for unit in np.eye(size * size * 2, dtype=np.float32).reshape(-1, size, size, 2):
        wrapped = np.pad(unit, ((0, window - 1), (0, window - 1), (0, 0)), mode="wrap")
        outputs.append(np.ravel(layer(wrapped[None], kernel, np.zeros(3, np.float32))))
    truth = np.linalg.norm(np.array(outputs), 2)
    assert frequency_norm(layer, kernel, (n, n, 2)) == pytest.approx(truth, rel=1e-5)


def test_the_papers_factor_is_too_small():
    # Section 4.3 prints D^-2: half of the true norm at stride 2.
    layer, shape = Conv(3, 3, 2, 1), (24, 24, 2)
    kernel = random_kernel(layer, shape)
    truth = np.linalg.norm(dense_matrix(layer, kernel, shape), 2)
    assert frequency_norm(layer, kernel, shape) / 2 < 0.6 * truth


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (7, 7), (1, 4)])
def test_dense(shape):
    kernel = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    truth = np.linalg.norm(kernel, 2)
    assert matrix_norm(kernel) == pytest.approx(truth, rel=1e-6)
    assert exact_norm(Dense(shape[1]), kernel, shape[:1]) == pytest.approx(truth, rel=1e-4)
    assert matrix_norm(np.zeros(shape)) == 0


def test_a_convolution_of_a_single_weight():
    kernel = np.zeros((3, 3, 1, 1), np.float32)
    kernel[0, 2, 0, 0] = -2.0  # moves the image and multiplies it
    assert frequency_norm(Conv(1, 3, 1, 1), kernel, (8, 8, 1)) == pytest.approx(2)
    assert exact_norm(Conv(1, 3, 1, 1), kernel, (8, 8, 1)) == pytest.approx(2, rel=1e-5)


def norms_of(kernel):
    conv = Conv(kernel.shape[-1], kernel.shape[0], 1, 1)
    matrix = kernel.reshape(-1, kernel.shape[-1])
    return {
        "matrix": lambda: matrix_norm(matrix),
        "frequency": lambda: frequency_norm(conv, kernel, (5, 5, 2)),
        "exact": lambda: exact_norm(conv, kernel, (5, 5, 2)),
    }


@pytest.mark.parametrize("name", ["matrix", "frequency", "exact"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 20, -1])
def test_weights_that_are_not_finite_have_no_norm(name, bad, place):
    kernel = np.ones((3, 3, 2, 4), np.float32)
    kernel.ravel()[place] = bad
    with pytest.raises(InputError, match="1 of 72 weights are NaN or infinite"):
        norms_of(kernel)[name]()


def test_no_weights_have_no_norm():
    with pytest.raises(InputError, match="are empty"):
        matrix_norm(np.zeros((0, 3)))


@pytest.mark.parametrize("name", ["matrix", "frequency", "exact"])
def test_zeros_have_norm_zero(name):
    assert norms_of(np.zeros((3, 3, 2, 4), np.float32))[name]() == 0


@pytest.mark.parametrize("name", ["matrix", "frequency"])
@pytest.mark.parametrize("scale", [1e-200, 1e200])  # whose squares are out of range
def test_the_norm_of_weights_of_any_size(name, scale):
    kernel = np.random.default_rng(0).normal(size=(3, 3, 2, 4))
    assert norms_of(scale * kernel)[name]() == pytest.approx(scale * norms_of(kernel)[name]())


def test_padding_beyond_the_window():
    with pytest.raises(ValueError, match="pad 3 must be below window 3"):
        frequency_norm(Conv(1, 3, 1, 3), np.zeros((3, 3, 1, 1)), (8, 8, 1))


def test_no_observed_ratio_exceeds_the_bound():
    layer, shape = Conv(6, 5, 2, 2, 2), (17, 13, 4)
    kernel = random_kernel(layer, shape)
    bound = frequency_norm(layer, kernel, shape)
    bias = np.zeros(6, np.float32)
    images = np.random.default_rng(1).normal(size=(200, *shape)).astype(np.float32)
    ratios = np.linalg.norm(np.asarray(layer(images, kernel, bias)).reshape(200, -1), axis=1)
    ratios /= np.linalg.norm(images.reshape(200, -1), axis=1)
    assert (ratios <= bound).all()
