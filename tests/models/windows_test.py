"""Convolution and max pooling, against XLA's own derivatives of them and against PyTorch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.test_util import check_grads

from intriguing.models.layers import Conv, MaxPool

POOLS = [
    MaxPool(3, 2), MaxPool(3, 2, ceil=True), MaxPool(3, 1, 1), MaxPool(2, 2), MaxPool(2, 3),
    MaxPool(3, 2, 1, ceil=True), MaxPool(1, 1), MaxPool(5, 3, 2),
]  # fmt: skip
CONVS = [
    Conv(4, 3, 1, 1), Conv(4, 1), Conv(4, 1, 2), Conv(4, 1, 1, 1), Conv(4, 11, 4), Conv(4, 7, 2, 3),
    Conv(4, 4, 2, 1), Conv(4, 2, 3), Conv(4, 5, 1, 2, groups=2), Conv(4, 3, 2, 1, groups=2),
]  # fmt: skip


def images(seed: int, size: int, dtype=np.float32) -> np.ndarray:
    """(2, size, size + 2, 4), with many equal pixels, as ReLU makes them."""
    x = np.random.default_rng(seed).normal(size=(2, size, size + 2, 4)).astype(dtype)
    return np.maximum(x.round(1), 0)


def xla_max_pool(pool: MaxPool, x):
    padding = [(0, 0), *(pool.padding(size) for size in x.shape[1:3]), (0, 0)]
    window, stride = (1, pool.window, pool.window, 1), (1, pool.stride, pool.stride, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, window, stride, padding)


def xla_conv(conv: Conv, x, kernel, bias):
    return bias[None, None, None] + lax.conv_general_dilated(
        x, kernel, (conv.stride,) * 2, ((conv.pad,) * 2,) * 2, feature_group_count=conv.groups,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip


def pulled(fn, *args, seed: int = 1):
    """(value, gradients of a random sum of it with respect to all arguments)."""
    y, pull = jax.vjp(fn, *args)
    weights = np.random.default_rng(seed).normal(size=y.shape).astype(y.dtype)
    return y, pull(jnp.asarray(weights))


@pytest.mark.parametrize("size", [11, 12, 13])
@pytest.mark.parametrize("pool", POOLS, ids=str)
def test_max_pooling_is_xlas_with_ties_and_all(pool, size):
    x = images(0, size)
    value, (grad,) = pulled(pool, x)
    expected, (its_grad,) = pulled(lambda x: xla_max_pool(pool, x), x)
    np.testing.assert_array_equal(value, expected)
    np.testing.assert_array_equal(pool(x), expected)  # without a gradient it is another program
    np.testing.assert_allclose(grad, its_grad, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [12, 13])
@pytest.mark.parametrize("conv", CONVS, ids=str)
def test_convolution_is_xlas(conv, size):
    rng = np.random.default_rng(2)
    x = images(3, size)
    kernel = rng.normal(size=conv.kernel_shape(x.shape[1:])).astype(np.float32)
    bias = rng.normal(size=4).astype(np.float32)
    found = pulled(conv, x, kernel, bias)
    expected = pulled(lambda *args: xla_conv(conv, *args), x, kernel, bias)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layer", [MaxPool(3, 2), Conv(4, 3, 2, 1)], ids=str)
def test_all_derivatives_are_there_in_float64(layer):
    with jax.enable_x64(True):
        rng = np.random.default_rng(4)
        x = rng.permutation(2 * 7 * 9 * 4).reshape(2, 7, 9, 4) / 50.0  # no two are equal
        args = [jnp.asarray(x)]
        if isinstance(layer, Conv):
            args += [jnp.asarray(rng.normal(size=(3, 3, 4, 4))), jnp.zeros(4)]
        check_grads(lambda *args: layer(*args) ** 2, tuple(args), order=2, eps=1e-5)
        assert layer(*args).dtype == np.float64


@pytest.mark.parametrize("layer", [MaxPool(3, 2), MaxPool(3, 1, 1)], ids=str)
def test_max_pooling_is_pytorchs(layer):
    torch = pytest.importorskip("torch")
    x = images(5, 12)
    value, (grad,) = pulled(layer, x)
    theirs = torch.tensor(x.transpose(0, 3, 1, 2)).requires_grad_()
    pooled = torch.nn.functional.max_pool2d(theirs, layer.window, layer.stride, layer.pad)
    weights = np.random.default_rng(1).normal(size=value.shape).astype(np.float32)
    (its_grad,) = torch.autograd.grad(pooled, theirs, torch.tensor(weights.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(grad, its_grad.numpy().transpose(0, 2, 3, 1), atol=1e-6)


def test_windows_of_more_places_than_a_byte_counts():
    pool, x = MaxPool(17, 17), images(7, 17)
    x[:, 16, 16] = 100.0  # the last of 289 places has the maximum
    _, (grad,) = pulled(pool, x)
    _, (its_grad,) = pulled(lambda x: xla_max_pool(pool, x), x)
    assert np.abs(grad[:, 16, 16]).min() > 0
    np.testing.assert_allclose(grad, its_grad, atol=1e-6)


def test_the_gradient_scatters_nothing():
    """What XLA's own derivative of max pooling does, and what makes it slow on a CPU."""
    grad = jax.grad(lambda x: MaxPool(3, 2)(x).sum())
    assert "select_and_scatter" not in str(jax.make_jaxpr(grad)(images(6, 12)))
