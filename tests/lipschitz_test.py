"""Tests for ../intriguing/lipschitz.py"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from intriguing import lipschitz

SHAPES = [(12, 7), (7, 12), (9, 9), (5, 1), (1, 5)]
ITERATIONS = jax.jit(lipschitz.dense_norm, static_argnames="num_iters")


def matrix(shape, seed=0):
    """A matrix whose singular values are 3 times the powers of 2 / 5: one iteration counts 6."""
    rng = np.random.default_rng(seed)
    rank = min(shape)
    left = np.linalg.qr(rng.normal(size=(shape[0], rank)))[0]
    right = np.linalg.qr(rng.normal(size=(shape[1], rank)))[0]
    return (left * 3 * 0.4 ** np.arange(rank) @ right.T).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
def test_norm_and_gradient_are_those_of_the_svd(shape):
    kernel = matrix(shape)
    u, s, vt = np.linalg.svd(kernel.astype(float))
    norm, grad = jax.value_and_grad(lipschitz.dense_norm)(jnp.asarray(kernel))
    assert norm == pytest.approx(s[0], rel=1e-5) == 3
    np.testing.assert_allclose(grad, np.outer(u[:, 0], vt[0]), atol=1e-5)


def test_rank_one():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=6), rng.normal(size=4)
    norm = lipschitz.dense_norm(jnp.asarray(np.outer(first, second)), num_iters=1)
    assert norm == pytest.approx(np.linalg.norm(first) * np.linalg.norm(second), rel=1e-5)


def test_a_layer_of_zeros():
    norm, grad = jax.value_and_grad(lipschitz.dense_norm)(jnp.zeros((5, 3)))
    assert norm == 0
    assert np.isfinite(grad).all()
    penalty = jax.grad(lipschitz.lipschitz_penalty)({"a": {"kernel": jnp.zeros((5, 3))}}, ("a",))
    assert not penalty["a"]["kernel"].any()


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_scales_with_the_matrix(scale):
    kernel = matrix((8, 6))
    assert lipschitz.dense_norm(jnp.asarray(scale * kernel)) == pytest.approx(3 * scale, rel=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_from_below_and_nearer_with_more_iterations(seed):
    kernel = np.random.default_rng(seed).normal(size=(60, 40)).astype(np.float32)  # no gap
    exact = np.linalg.svd(kernel, compute_uv=False)[0]
    found = [float(ITERATIONS(kernel, num_iters=num)) / exact for num in (1, 5, 20, 500)]
    assert found == sorted(found)
    assert 0.95 < found[2] < found[3] == pytest.approx(1, abs=1e-4)


def layers():
    shapes = {"fc1": (6, 4), "fc2": (4, 5), "fc3": (5, 3)}
    params = {name: matrix(shape, i) * (i + 1) for i, (name, shape) in enumerate(shapes.items())}
    return {
        name: {"kernel": jnp.asarray(kernel), "bias": jnp.full(kernel.shape[1], 1e3)}
        for name, kernel in params.items()
    }


def test_penalty_is_the_sum_of_the_squares():
    params = layers()
    assert lipschitz.lipschitz_penalty(params, ("fc1",)) == pytest.approx(9, rel=1e-5)
    assert lipschitz.lipschitz_penalty(params, ("fc1", "fc3")) == pytest.approx(90, rel=1e-5)
    assert lipschitz.lipschitz_penalty(params, tuple(params)) == pytest.approx(126, rel=1e-5)
    assert lipschitz.lipschitz_penalty(params, ()) == 0


def test_descent_on_the_penalty_shrinks_the_norms_it_names():
    params = layers()
    gradient = jax.jit(lambda params: jax.grad(lipschitz.lipschitz_penalty)(params, ("fc1", "fc2")))
    before = {name: np.linalg.svd(params[name]["kernel"], compute_uv=False) for name in params}
    for _ in range(200):
        params = jax.tree.map(lambda value, grad: value - 0.001 * grad, params, gradient(params))
    for name, factor in {"fc1": 0.998**200, "fc2": 0.998**200, "fc3": 1}.items():
        after = np.linalg.svd(params[name]["kernel"], compute_uv=False)
        # Of each layer the largest value alone is pressed down, as long as it is the largest.
        expected = before[name] * [factor, *[1] * (len(after) - 1)]
        np.testing.assert_allclose(after, expected, rtol=1e-3)
        assert (np.asarray(params[name]["bias"]) == 1e3).all()
