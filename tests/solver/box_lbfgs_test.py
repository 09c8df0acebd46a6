"""Tests for intriguing/solver/box_lbfgs.py: SciPy's L-BFGS-B in float64 is the oracle."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from jax.tree_util import Partial

from intriguing.attack.objective import penalty_objective
from intriguing.solver import box_lbfgs, lbfgs_step
from intriguing.solver.box_lbfgs import Status

MINIMIZERS = {
    solver: functools.partial(box_lbfgs.minimize_box, solver=solver)
    for solver in ("batched", "jaxopt")
}
NUM = 6  # problems at a time
SIZE = 40


@pytest.fixture(scope="module", params=MINIMIZERS)
def minimize(request):
    return MINIMIZERS[request.param]


@pytest.fixture(scope="module")
def minimize_many(minimize):
    """jit(vmap(minimize)) of an objective (params, x) that is compiled once."""

    @functools.partial(jax.jit, static_argnames=("objective", "options"))
    def run(objective, params, x0, lower, upper, options):
        def one(params, x0, lower, upper):
            value_and_grad = jax.value_and_grad(functools.partial(objective, params))
            return minimize(value_and_grad, x0, lower, upper, **dict(options))

        return jax.vmap(one)(params, x0, lower, upper)

    def call(objective, params, x0, lower, upper, **options):
        bounds = (jnp.asarray(bound, x0.dtype) for bound in (lower, upper))
        lower, upper = (jnp.broadcast_to(bound, x0.shape) for bound in bounds)
        options = tuple(sorted(options.items()))
        return run(objective, params, x0, lower, upper, options=options)

    return call


def quadratic(params, x):
    matrix, vector = params
    return 0.5 * jnp.sum((matrix @ x) ** 2) - vector @ x


def relu_objective(params, z):
    """|z - x|^2 + loss / c of a ReLU net: not smooth, not convex."""
    hidden = jax.nn.relu(z @ params["first"])
    logits = hidden @ params["second"]
    loss = jax.nn.logsumexp(logits) - logits[params["target"]]
    return jnp.sum((z - params["image"]) ** 2) + loss / params["c"]


@pytest.fixture(scope="module")
def quadratics():
    """Positive definite, and most variables end on a bound: (params, lower, upper)."""
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(NUM, SIZE, SIZE)) / np.sqrt(SIZE) + np.eye(SIZE)
    vector = 5 * rng.normal(size=(NUM, SIZE))
    return (matrix.astype(np.float32), vector.astype(np.float32)), 0.0, 1.0


@pytest.fixture(scope="module")
def relu_problems():
    """Random pixels, 60% of them exactly 0 and some exactly 1, as a digit's are."""
    rng = np.random.default_rng(1)
    images = rng.uniform(size=(NUM, SIZE))
    images = np.where(images > 0.9, 1.0, images)
    images = np.where(rng.uniform(size=images.shape) < 0.6, 0.0, images)
    first, second = rng.normal(size=(SIZE, 20)) / 3, rng.normal(size=(20, 5)) / 2
    logits = np.maximum(images @ first, 0) @ second
    return {
        "image": images.astype(np.float32),
        "first": np.tile(first.astype(np.float32), (NUM, 1, 1)),
        "second": np.tile(second.astype(np.float32), (NUM, 1, 1)),
        "target": logits.argmin(axis=1),
        "c": np.float32([0.03, 0.1, 0.3, 0.03, 0.1, 0.3]),
    }


def scipy_values(objective, params, x0, lower, upper):
    """Minimum of every problem by SciPy from the same start; gradients in float64."""
    values = []
    with jax.enable_x64(True):
        value_and_grad = jax.jit(jax.value_and_grad(objective, argnums=1))
        for i in range(len(x0)):
            one = jax.tree.map(
                lambda a, i=i: np.asarray(a[i], np.float64 if a.dtype == np.float32 else a.dtype),
                params,
            )

            def value_and_grad_numpy(x, one=one):
                value, grad = value_and_grad(one, x)
                return float(value), np.asarray(grad)

            values.append(oracle.minimize_box(value_and_grad_numpy, x0[i], lower, upper)[1])
    return np.array(values)


STARTS = {
    "inside": lambda x: np.full_like(x, 0.5),
    "lower bound": np.zeros_like,
    "upper bound": np.ones_like,
    "corner": lambda x: (np.arange(x.size).reshape(x.shape) % 2).astype(x.dtype),
}


@pytest.mark.parametrize("start", STARTS)
def test_quadratics_with_active_bounds(minimize_many, quadratics, start):
    params, lower, upper = quadratics
    x0 = STARTS[start](params[1])
    solution = minimize_many(quadratic, params, x0, lower, upper, maxiter=200, tol=1e-4)
    expected = scipy_values(quadratic, params, x0, lower, upper)
    np.testing.assert_allclose(solution.value, expected, rtol=1e-4)
    assert (solution.x >= lower).all() and (solution.x <= upper).all()
    at_bounds = (solution.x == lower) | (solution.x == upper)
    assert 0.5 < at_bounds.mean() < 1
    # Float32 may stall just before the tolerance, with the same value.
    assert np.isin(solution.status, [Status.CONVERGED, Status.STALLED]).all()
    assert (solution.error < 1e-2).all()
    assert (solution.num_iters > 0).all() and (solution.num_evals >= solution.num_iters).all()


@pytest.mark.parametrize("start", ["the image", "inside"])
def test_relu_net_from_the_bounds(minimize_many, relu_problems, start):
    """Started at x, with most pixels exactly on a bound, and inside."""
    images = relu_problems["image"]
    x0 = images if start == "the image" else np.full_like(images, 0.5)
    solution = minimize_many(relu_objective, relu_problems, x0, 0.0, 1.0, maxiter=200, tol=1e-4)
    assert (solution.x >= 0).all() and (solution.x <= 1).all()
    value = jax.vmap(relu_objective)(relu_problems, solution.x)
    np.testing.assert_allclose(value, solution.value, rtol=1e-4, atol=1e-5)
    clean = np.asarray(jax.vmap(relu_objective)(relu_problems, images))
    expected = scipy_values(relu_objective, relu_problems, x0, 0.0, 1.0)
    excess = (np.asarray(solution.value) - expected) / (clean - expected)
    # Kinks and other local minima: neither solver wins everywhere.
    assert excess.mean() < 0.02, excess
    assert excess.max() < 0.1, excess
    if start == "the image":
        assert (solution.value < clean).all()


def test_vmapped_is_single(minimize, minimize_many, quadratics):
    params, lower, upper = quadratics
    x0 = np.full_like(params[1], 0.5)
    together = minimize_many(quadratic, params, x0, lower, upper, maxiter=200, tol=1e-4)
    for i in range(2):
        one = jax.tree.map(lambda a, i=i: a[i : i + 1], params)
        alone = minimize_many(quadratic, one, x0[i : i + 1], lower, upper, maxiter=200, tol=1e-4)
        np.testing.assert_allclose(alone.value[0], together.value[i], rtol=1e-4)


def test_the_error_is_the_projected_gradient_s(minimize_many, quadratics):
    params, _, _ = quadratics
    x0 = np.full_like(params[1], 0.5)
    solution = minimize_many(quadratic, params, x0, 0.0, 1.0, maxiter=200, tol=1e-4)
    grads = jax.vmap(jax.grad(quadratic, argnums=1))(params, solution.x)
    expected = np.abs(np.clip(solution.x - grads, 0, 1) - solution.x).max(axis=1)
    np.testing.assert_allclose(solution.error, expected, atol=1e-4)
    np.testing.assert_allclose(
        solution.value, jax.vmap(quadratic)(params, solution.x), rtol=1e-5, atol=1e-5
    )


def test_projected_gradient_by_hand():
    x, grad = jnp.float32([0.0, 0.0, 1.0, 0.5]), jnp.float32([2.0, -0.2, -3.0, 0.1])
    project = functools.partial(lbfgs_step.projected_gradient, lower=0.0, upper=1.0)
    np.testing.assert_allclose(project(x, grad), [0.0, 0.2, 0.0, -0.1], rtol=1e-6)
    assert not project(x, jnp.float32([2.0, 0.0, -3.0, 0.0])).any()
    np.testing.assert_allclose(project(x, -10 * grad), [1.0, 0.0, -1.0, 0.5])  # the whole box


def test_move_inside():
    lower, upper = jnp.float32([0.0, -1.0, 2.0, -jnp.inf]), jnp.float32([1.0, 1.0, 2.0, jnp.inf])
    moved = box_lbfgs.move_inside(jnp.float32([0.0, 1.0, 2.0, 5.0]), lower, upper)
    assert (moved[:2] > lower[:2]).all() and (moved[:2] < upper[:2]).all()
    np.testing.assert_allclose(moved, [0.0, 1.0, 2.0, 5.0], atol=1e-3)
    assert moved[2] == 2.0 and moved[3] == 5.0


def walled(params, x):
    """A bowl that is NaN beyond a wall."""
    centre, wall = params
    return jnp.where(jnp.max(x) > wall, jnp.nan, jnp.sum((x - centre) ** 2))


WALLED = {
    # name: (centre, wall, start, lower, upper)
    "fixed variables": ([0.3, 0.7, 0.2], 9.0, [0.5, 0.5, 0.5], [0.0, 0.5, 0.0], [1.0, 0.5, 1.0]),
    "no bounds": ([0.3, -7.0, 20.0], 99.0, [0.0, 0.0, 0.0], [-np.inf] * 3, [np.inf] * 3),
    "one-sided": ([0.3, -7.0, 2.0], 99.0, [1.0, 1.0, 1.0], [0.0] * 3, [np.inf] * 3),
    "at the minimum": ([0.3, 0.7, 0.2], 9.0, [0.3, 0.7, 0.2], [0.0] * 3, [1.0] * 3),
    "start outside": ([0.3, 0.7, 2.0], 9.0, [5.0, -5.0, 0.5], [0.0] * 3, [1.0] * 3),
    "NaN at the start": ([0.3, 0.7, 0.2], 0.4, [0.5, 0.5, 0.5], [0.0] * 3, [1.0] * 3),
    "NaN on the way": ([0.9, 0.9, 0.9], 0.5, [0.1, 0.1, 0.1], [0.0] * 3, [1.0] * 3),
}


@pytest.fixture(scope="module")
def walled_solutions(minimize_many):
    centre, wall, start, lower, upper = (
        np.array(column, np.float32) for column in zip(*WALLED.values(), strict=True)
    )
    solution = minimize_many(walled, (centre, wall), start, lower, upper, maxiter=60, tol=1e-5)
    return {name: jax.tree.map(lambda a, i=i: a[i], solution) for i, name in enumerate(WALLED)}


@pytest.mark.parametrize("case", [name for name in WALLED if "NaN" not in name])
def test_bowls(walled_solutions, case):
    centre, _, _, lower, upper = WALLED[case]
    solution = walled_solutions[case]
    np.testing.assert_allclose(solution.x, np.clip(centre, lower, upper), atol=2e-4)
    assert (solution.x >= np.array(lower)).all() and (solution.x <= np.array(upper)).all()
    assert solution.status in (Status.CONVERGED, Status.STALLED)


def test_nan_at_the_start(walled_solutions):
    solution = walled_solutions["NaN at the start"]
    assert solution.status == Status.NON_FINITE
    assert np.isfinite(solution.x).all() and (solution.x >= 0).all() and (solution.x <= 1).all()


def test_nan_on_the_way_keeps_the_best_finite_point(walled_solutions):
    """And the lanes beside it are not touched: `test_bowls`."""
    solution = walled_solutions["NaN on the way"]
    assert np.isfinite(solution.x).all() and np.isfinite(solution.value)
    assert solution.x.max() <= 0.5
    assert solution.value <= 3 * 0.8**2 * 1.001  # no worse than the start
    np.testing.assert_allclose(solution.value, np.sum((solution.x - 0.9) ** 2), rtol=1e-4)


def test_maxiter_is_obeyed_and_told(minimize_many, quadratics):
    params, lower, upper = quadratics
    solution = minimize_many(
        quadratic, params, np.full_like(params[1], 0.5), lower, upper, maxiter=2, tol=1e-6
    )
    assert (solution.num_iters <= 2).all()
    assert (solution.status == Status.MAXITER).all()
    longer = scipy_values(quadratic, params, np.full_like(params[1], 0.5), lower, upper)
    assert (solution.value > longer + 1e-3).any()


def test_a_larger_c_never_gives_a_larger_r(minimize):
    """Softmax regression: the solution path of a convex objective, in float64."""
    rng = np.random.default_rng(3)
    image = np.where(rng.uniform(size=12) < 0.5, 0.0, rng.uniform(size=12))
    with jax.enable_x64(True):
        weights = jnp.asarray(rng.normal(size=(12, 4)))
        logits_fn = Partial(lambda weights, images: images @ weights, weights)
        target = int(np.argmin(image @ np.asarray(weights)))

        @jax.jit
        @jax.vmap
        def solve(c):
            objective = penalty_objective(logits_fn, jnp.asarray(image), target, c)
            start = jnp.asarray(np.full(12, 0.5))
            solution = minimize(objective, start, 0.0, 1.0, maxiter=500, tol=1e-9)
            return solution.x, objective(solution.x)[0], objective(jnp.asarray(image))[0]

        c = np.geomspace(1e-3, 30, 24)
        z, value, value_at_image = (np.asarray(a) for a in solve(c))
    assert (value <= value_at_image + 1e-3).all()
    norms = np.linalg.norm(z - image, axis=1)
    losses = (value - norms) * c
    assert (np.diff(norms) <= 1e-4).all(), norms
    assert (np.diff(losses) >= -1e-4).all(), losses
    assert norms[0] > 0.5 and norms[-1] < 1e-3  # r = 0 once c exceeds the gradient of the loss
    with jax.enable_x64(True):
        for i in (0, 8, 14):  # and each is the minimum

            def value_and_grad(z, c=c[i]):
                logits = z @ np.asarray(weights)
                p = np.exp(logits - logits.max())
                loss = np.log(p.sum()) + logits.max() - logits[target]
                p /= p.sum()
                p[target] -= 1
                norm = np.linalg.norm(z - image)
                return norm + loss / c, (z - image) / max(norm, 1e-12) + np.asarray(weights) @ p / c

            expected = oracle.minimize_box(value_and_grad, np.full(12, 0.5), 0.0, 1.0)[1]
            assert value[i] == pytest.approx(expected, rel=1e-5)
