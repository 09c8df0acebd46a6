"""Tests for BatchedLBFGSB of intriguing/solver/box_lbfgs.py: a drop-in for jaxopt.LBFGSB.

What jaxopt asks of its own solver, SciPy's L-BFGS-B in float64 as the oracle, and the worst cases.
"""

import functools
import itertools
import os

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from jaxopt import OptStep, objective
from sklearn import datasets

from intriguing.solver import box_lbfgs
from intriguing.solver.box_lbfgs import Status

# A short history: the step is compiled for every problem here, in time that grows with it.
BatchedLBFGSB = functools.partial(box_lbfgs.BatchedLBFGSB, history_size=4)

INF = np.inf


def rosenbrock(x):
    return jnp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def beale(x):
    a, b = x
    return (1.5 - a + a * b) ** 2 + (2.25 - a + a * b**2) ** 2 + (2.625 - a + a * b**3) ** 2


def sphere(x):
    return jnp.sum(x**2)


def himmelblau(x):
    return (x[0] ** 2 + x[1] - 11.0) ** 2 + (x[0] + x[1] ** 2 - 7.0) ** 2


def matyas(x):
    return 0.26 * jnp.sum(x**2) - 0.48 * x[0] * x[1]


FUNCTIONS = {f.__name__: f for f in (rosenbrock, beale, sphere, himmelblau, matyas)}
STARTS = [(0.0, 0.0), (-1.2, 1.0), (1.5, 0.5), (2.0, -2.0), (0.1, 3.0)]
BOXES = {
    "none": (-INF, INF),
    "scalars": (-1.5, 2.5),
    "arrays": ([-1.0, -0.5], [0.8, 2.0]),
    "one-sided": ([0.5, -INF], [INF, 1.0]),
}


@pytest.fixture
def x64():
    """Double precision, compiled as users have it: in a flat valley the last digits decide."""
    quick = os.environ.get("JAX_DISABLE_MOST_OPTIMIZATIONS") == "1"  # see conftest.py
    jax.config.update("jax_disable_most_optimizations", False)
    with jax.enable_x64(True):
        yield
    jax.config.update("jax_disable_most_optimizations", quick)


def scipy_minimum(fun, start, lower, upper):
    value_and_grad = jax.jit(jax.value_and_grad(fun))

    def flat(x):
        value, grad = value_and_grad(jnp.asarray(x))
        return float(value), np.asarray(grad, np.float64)

    start = np.clip(np.asarray(start, np.float64), lower, upper)
    return oracle.minimize_box(flat, start, lower, upper)


def status_of(state):
    return int(state.step.status)


# ---- test functions


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_against_scipy(x64, name):
    fun = FUNCTIONS[name]
    solver = BatchedLBFGSB(fun, maxiter=500, tol=1e-8)
    run = jax.jit(lambda start, lower, upper: solver.run(start, (lower, upper)))
    starts = np.array(STARTS)
    for (lower, upper), start in itertools.product(BOXES.values(), starts):
        lower, upper = np.broadcast_to(lower, 2) * 1.0, np.broadcast_to(upper, 2) * 1.0
        params, state = run(jnp.asarray(start), lower, upper)
        assert (params >= lower).all() and (params <= upper).all()
        np.testing.assert_allclose(fun(params), state.value, rtol=1e-12, atol=1e-14)
        _, expected = scipy_minimum(fun, start, lower, upper)
        assert state.error <= 1e-8 or status_of(state) == Status.STALLED
        if state.value > expected + 1e-7:
            # Not convex: another minimum, as long as it is one. Then SciPy must agree from there.
            assert name in ("himmelblau", "beale", "rosenbrock")
            _, again = scipy_minimum(fun, params, lower, upper)
            np.testing.assert_allclose(again, state.value, atol=1e-8)
            others = [scipy_minimum(fun, s, lower, upper)[1] for s in starts]
            # Beale's valley goes on for ever: how far out rounding stops a solver depends on the
            # processor, SciPy's from these starts apart by 1e-5. There is no minimum to compare.
            slack = 1e-3 if name == "beale" and params[0] < -100 else 1e-7
            assert state.value <= max(others) + slack, "a worse minimum than SciPy's from any start"


@pytest.mark.parametrize("bounds", [None, (-1.5, 0.5), (-1.5, np.array([0.5, INF]))])
def test_how_bounds_may_be_given(x64, bounds):
    params, state = BatchedLBFGSB(beale, maxiter=200, tol=1e-8).run(jnp.array([0.1, 0.1]), bounds)
    lower, upper = bounds or (-INF, INF)
    _, expected = scipy_minimum(beale, [0.1, 0.1], lower, upper)
    np.testing.assert_allclose(state.value, expected, atol=1e-10)
    assert (params >= lower).all() and (params <= upper).all()


def test_rosenbrock_in_float32_and_ten_dimensions():
    solver = BatchedLBFGSB(rosenbrock, maxiter=500, tol=1e-3)
    params, state = solver.run(jnp.full(10, -1.0), bounds=None)
    np.testing.assert_allclose(params, 1.0, atol=1e-2)
    assert state.value < 1e-4


def test_bounds_as_a_pytree():
    def fun(params):
        return jnp.sum((params["a"] - 2.0) ** 2) + 3.0 * jnp.sum((params["b"] + 1.0) ** 4)

    init = {"a": jnp.zeros((2, 3)), "b": jnp.zeros(4)}
    lower = {"a": jnp.full((2, 3), -1.0), "b": jnp.array([-0.5, -9.0, -0.2, 0.0])}
    upper = {"a": jnp.array([[1.0, 3.0, 9.0], [0.5, 1.5, 2.5]]), "b": jnp.full(4, 1.0)}
    params, state = BatchedLBFGSB(fun, maxiter=200, tol=1e-5).run(init, (lower, upper))
    assert jax.tree.structure(params) == jax.tree.structure(init)
    np.testing.assert_allclose(params["a"], np.minimum(upper["a"], 2.0), atol=1e-3)
    # A quartic is flat at its minimum.
    np.testing.assert_allclose(params["b"], [-0.5, -1.0, -0.2, 0.0], atol=0.03)
    np.testing.assert_allclose(state.value, fun(params), rtol=1e-5)
    assert jax.tree.structure(state.grad) == jax.tree.structure(init)


def test_scalar_bounds_for_a_pytree():
    init = {"a": jnp.zeros(2), "b": (jnp.zeros(()),)}

    def fun(params):
        return jnp.sum((params["a"] - 2.0) ** 2) + (params["b"][0] + 3.0) ** 2

    params, _ = BatchedLBFGSB(fun, tol=1e-5).run(init, (-1.0, 1.0))
    np.testing.assert_allclose(params["a"], 1.0)
    np.testing.assert_allclose(params["b"][0], -1.0)


def test_the_start_is_projected_onto_the_box():
    params, state = BatchedLBFGSB(sphere).run(jnp.array([9.0, -9.0]), (1.0, 2.0))
    np.testing.assert_array_equal(params, 1.0)
    assert status_of(state) == Status.CONVERGED


# ---- machine learning problems


@pytest.fixture(scope="module")
def iris():
    features, labels = datasets.load_iris(return_X_y=True)
    features = (features - features.mean(0)) / features.std(0)
    return features.astype(np.float32), labels


@pytest.mark.parametrize("upper", [INF, 0.1])
def test_binary_logistic_regression(x64, iris, upper):
    features, labels = iris[0].astype(np.float64), (iris[1] == 1).astype(int)

    def fun(w, l2reg, data):
        return objective.binary_logreg(w, data) + 0.5 * l2reg * jnp.sum(w**2)

    solver = BatchedLBFGSB(fun, maxiter=200, tol=1e-6)
    init, data = jnp.zeros(4), (features, labels)
    params, state = solver.run(init, (-INF, upper), l2reg=0.1, data=data)
    assert state.error <= 1e-6
    grad = jax.grad(fun)(params, 0.1, data)
    assert np.abs(np.clip(params - grad, -INF, upper) - params).max() <= 1e-5
    _, expected = scipy_minimum(lambda w: fun(w, 0.1, data), init, -INF, upper)
    np.testing.assert_allclose(state.value, expected, rtol=1e-8)
    if upper != INF:
        assert (params == upper).any()


@pytest.mark.parametrize("bounds", [None, (-0.3, 0.3)])
def test_multiclass_logreg_optimality(iris, bounds):
    fun = objective.l2_multiclass_logreg
    solver = BatchedLBFGSB(fun, maxiter=300, tol=1e-3)
    params, state = solver.run(jnp.zeros((4, 3)), bounds, l2reg=0.01, data=iris)
    assert state.error <= 1e-3
    optimality = solver.optimality_fun(
        params, bounds if bounds else (-INF, INF), l2reg=0.01, data=iris
    )
    assert np.abs(optimality).max() <= 2e-3
    expected = scipy_minimum(
        lambda w: fun(w.reshape(4, 3), 0.01, iris), np.zeros(12), *(bounds or (-INF, INF))
    )[1]
    np.testing.assert_allclose(state.value, expected, rtol=1e-4)


def test_multiclass_logreg_with_an_intercept(iris):
    fun = objective.l2_multiclass_logreg_with_intercept
    solver = BatchedLBFGSB(fun, maxiter=300, tol=1e-3)
    init = (jnp.zeros((4, 3)), jnp.zeros(3))
    with jax.numpy_rank_promotion("allow"):  # jaxopt adds the intercept without an axis
        params, state = solver.run(init, None, l2reg=0.01, data=iris)
        optimality = jax.tree.leaves(jax.grad(fun)(params, 0.01, iris))
        expected = scipy_minimum(
            lambda w: fun((w[:12].reshape(4, 3), w[12:]), 0.01, iris), np.zeros(15), -INF, INF
        )[1]
    assert [p.shape for p in params] == [(4, 3), (3,)] and state.error <= 1e-3
    assert max(np.abs(leaf).max() for leaf in optimality) <= 2e-3
    np.testing.assert_allclose(state.value, expected, rtol=1e-4)


def test_has_aux():
    def fun(x, shift):
        return jnp.sum((x - shift) ** 2), {"twice": 2 * x, "shift": shift}

    solver = BatchedLBFGSB(fun, has_aux=True, tol=1e-4)
    params, state = solver.run(jnp.zeros(3), (0.0, 0.5), 0.75)
    np.testing.assert_allclose(params, 0.5)
    np.testing.assert_allclose(state.aux["twice"], 2 * params, rtol=1e-5)
    assert state.aux["shift"] == 0.75
    assert BatchedLBFGSB(sphere).run(jnp.ones(3), None).state.aux is None


@pytest.mark.parametrize("has_aux", [False, True])
def test_value_and_grad(has_aux):
    def with_aux(x):
        return jnp.sum((x - 0.3) ** 4), x.sum()

    plain = with_aux if has_aux else (lambda x: with_aux(x)[0])
    both = jax.value_and_grad(plain, has_aux=has_aux)
    options = {"has_aux": has_aux, "tol": 1e-4, "maxiter": 100}
    expected = BatchedLBFGSB(plain, **options).run(jnp.ones(3), (0.0, 2.0))
    found = BatchedLBFGSB(both, value_and_grad=True, **options).run(jnp.ones(3), (0.0, 2.0))
    np.testing.assert_allclose(found.params, expected.params, atol=1e-6)
    assert found.state.num_fun_eval == expected.state.num_fun_eval
    if has_aux:
        np.testing.assert_allclose(found.state.aux, found.params.sum(), rtol=1e-4)


# ---- warm start, state, driving it by hand


def test_warm_start_needs_fewer_evaluations():
    solver = BatchedLBFGSB(rosenbrock, maxiter=300, tol=1e-3)
    bounds = (-2.0, 2.0)
    cold = solver.run(jnp.full(6, -1.0), bounds)
    warm = solver.run(cold, bounds)
    assert warm.state.num_fun_eval <= 2 < cold.state.num_fun_eval
    np.testing.assert_allclose(warm.params, cold.params, atol=1e-3)
    tighter = BatchedLBFGSB(rosenbrock, maxiter=300, tol=2e-4)
    again = tighter.run(cold, bounds)
    assert again.state.num_fun_eval < tighter.run(jnp.full(6, -1.0), bounds).state.num_fun_eval
    assert again.state.value <= cold.state.value * (1 + 1e-6)


@functools.cache
def bowl(size=30):
    """A dense quadratic, and its matrix and vector."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(size, size))
    matrix = root @ root.T / size + 0.05 * np.eye(size)
    vector = rng.normal(size=size)
    return (lambda x: 0.5 * x @ jnp.asarray(matrix) @ x - jnp.asarray(vector) @ x), matrix, vector


def test_a_warm_start_of_a_batch_keeps_what_each_would_keep_alone():
    """The first ends at once, the second goes on for many steps: neither loses a pair by that."""
    scales = jnp.stack([jnp.array([1.0, 1.5, 2.0]), jnp.array([1.0, 300.0, 2e4])])
    solver = BatchedLBFGSB(lambda x, scale: jnp.sum(scale * (x - 0.3) ** 2), tol=1e-4, maxiter=60)
    solve = functools.partial(solver.run, jnp.ones(3), None)
    together = jax.vmap(solve)(scales).state
    alone = [solve(scale).state for scale in scales]
    assert alone[0].num_fun_eval + 4 < alone[1].num_fun_eval  # a whole history later
    for i, state in enumerate(alone):
        kept = np.asarray(together.step.history.rho[i])
        assert (kept > 0).sum() == (np.asarray(state.step.history.rho) > 0).sum() > 0
        np.testing.assert_allclose(np.sort(kept), np.sort(state.step.history.rho), rtol=1e-3)


@pytest.mark.parametrize("first_iters", [7, 12, 13, 17])
def test_a_warm_start_keeps_a_consistent_history(x64, first_iters):
    """The matrix H that the history stands for is symmetric and positive definite."""
    from intriguing.solver import lbfgs_step

    fun, _, _ = bowl()
    first = BatchedLBFGSB(fun, maxiter=first_iters, tol=1e-12, history_size=6)
    cold = first.run(jnp.zeros(30), None)
    warm = first.init_state(cold, None)
    eye = jnp.eye(30)

    def matrix(state, slot):
        product = functools.partial(
            lbfgs_step.two_loop, state.step.history, free=jnp.ones(30), slot=slot
        )
        return np.asarray(jax.vmap(product)(eye))

    before = matrix(cold.state, (int(cold.state.num_fun_eval) - 1) % 6)
    np.testing.assert_allclose(before, before.T, atol=1e-8 * np.abs(before).max())
    after = matrix(warm, 0)
    np.testing.assert_allclose(after, after.T, atol=1e-6 * np.abs(after).max())
    assert np.linalg.eigvalsh((after + after.T) / 2).min() > 0


@pytest.mark.parametrize("jit", [True, False])
def test_driven_by_hand_is_run(jit):
    solver = BatchedLBFGSB(rosenbrock, maxiter=40, tol=1e-3, jit=jit)
    bounds = (-2.0, np.array([0.8, 2.0, 2.0], np.float32))
    bounds = (np.full(3, -2.0, np.float32), bounds[1])
    params = jnp.array([-1.2, 1.0, -0.5])
    if not jit:
        solver.maxiter = 4
    expected = solver.run(params, bounds)
    state = solver.init_state(params, bounds)
    assert state.num_fun_eval == 1 and state.iter_num == 0
    values = [float(state.value)]
    for _ in range(2 * solver.maxiter):
        if state.error <= solver.tol or state.iter_num >= solver.maxiter:
            break
        params, state = solver.update(params, state, bounds)
        values.append(float(state.value))
        assert state.num_fun_eval == len(values)
    np.testing.assert_allclose(params, expected.params, rtol=1e-5)
    assert state.iter_num == expected.state.iter_num
    assert state.num_fun_eval == expected.state.num_fun_eval
    assert (np.diff(values) <= 1e-6 * np.abs(values[:-1])).all()


@pytest.mark.parametrize("maxiter", [0, 1, 3, 10])
def test_maxiter_is_obeyed(maxiter):
    solver = BatchedLBFGSB(rosenbrock, maxiter=maxiter, tol=1e-10)
    params, state = solver.run(jnp.full(4, -1.0), (-2.0, 2.0))
    assert state.iter_num <= maxiter
    assert state.num_fun_eval <= 2 * maxiter + 1
    assert np.isfinite(params).all()
    assert state.iter_num >= min(maxiter, 3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtypes_are_kept(x64, dtype):
    """In params and in all of the state, also with bounds of the other dtype."""
    other = np.float64 if dtype == np.float32 else np.float32
    bounds = (np.zeros(3, other), np.ones(3, other))
    solver = BatchedLBFGSB(lambda x: jnp.sum((x - 0.3) ** 4), tol=1e-4)
    init = jnp.full(3, 0.9, dtype)
    state = solver.init_state(init, bounds)
    updated = solver.update(init, state, bounds)
    for step in (OptStep(init, state), updated, solver.run(init, bounds)):
        assert step.params.dtype == dtype
        leaves = jax.tree.leaves(step.state)
        floats = [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]
        assert len(floats) >= 8 and {leaf.dtype for leaf in floats} == {np.dtype(dtype)}
        assert {leaf.dtype for leaf in leaves} - {np.dtype(dtype)} <= {
            np.dtype(np.int32), np.dtype(bool),
        }  # fmt: skip


# ---- transformations


@pytest.fixture(scope="module")
def many():
    """Five problems: (fun(x, scale, centre), starts, scales, centres)."""
    rng = np.random.default_rng(2)
    starts, centres = rng.uniform(size=(2, 5, 8)).astype(np.float32)
    scales = np.geomspace(1, 30, 8).astype(np.float32) * rng.uniform(1, 2, size=(5, 1))

    def fun(x, scale, centre):
        away = x - 2 * centre + 0.5
        return jnp.sum(scale * away**2) + jnp.sum(jnp.cos(3 * x[1:] * x[:-1]))

    return fun, starts, scales.astype(np.float32), centres


def test_jit_and_vmap_are_single_runs(many):
    fun, starts, scales, centres = many
    solver = BatchedLBFGSB(fun, maxiter=200, tol=1e-3)

    def run(start, scale, centre):
        return solver.run(start, (0.0, 1.0), scale, centre)

    jitted = jax.jit(run)
    together = jax.jit(jax.vmap(run))(starts, scales, centres)
    assert together.params.shape == starts.shape
    assert len(set(np.asarray(together.state.num_fun_eval).tolist())) > 1  # each ends by itself
    for i in range(len(starts)):
        plain = run(starts[i], scales[i], centres[i])
        alone = jitted(starts[i], scales[i], centres[i])
        for one in (plain, alone):
            np.testing.assert_allclose(one.params, together.params[i], atol=2e-3)
            np.testing.assert_allclose(one.state.value, together.state.value[i], rtol=1e-5)
        assert status_of(jax.tree.map(lambda a, i=i: a[i], together.state)) == status_of(
            alone.state
        )


def test_vmap_over_bounds_and_pytrees():
    def fun(params):
        return jnp.sum((params["a"] - 1.0) ** 2) + jnp.sum((params["b"] + 1.0) ** 2)

    solver = BatchedLBFGSB(fun, tol=1e-4)
    init = {"a": np.full((3, 2), 0.1, np.float32), "b": np.full((3, 4), 0.1, np.float32)}
    upper = jax.tree.map(lambda a: a * 0 + np.float32([[0.25], [0.5], [2.0]]), init)
    lower = jax.tree.map(lambda a: -a - 0.4, upper)
    params, _ = jax.vmap(lambda p, low, up: solver.run(p, (low, up)))(init, lower, upper)
    np.testing.assert_allclose(params["a"][:, 0], [0.25, 0.5, 1.0], atol=1e-3)
    np.testing.assert_allclose(params["b"][:, 0], [-0.65, -0.9, -1.0], atol=1e-3)


def ridge(w, l2reg, data):
    features, labels = data
    return 0.5 * jnp.mean((features @ w - labels) ** 2) + 0.5 * l2reg * jnp.sum(w**2)


@pytest.mark.parametrize("bounds", [None, (-INF, 0.3)])
def test_implicit_differentiation(x64, iris, bounds):
    data = (iris[0].astype(np.float64), iris[1].astype(np.float64))
    solver = BatchedLBFGSB(ridge, maxiter=500, tol=1e-10)

    def solution(l2reg):
        return solver.run(jnp.zeros(4), bounds, l2reg, data).params

    jacobian = jax.jacrev(solution)(0.3)
    h = 1e-4
    numeric = (solution(0.3 + h) - solution(0.3 - h)) / (2 * h)
    assert np.abs(numeric).max() > 1e-2
    np.testing.assert_allclose(jacobian, numeric, atol=1e-5)
    if bounds is None:  # and in closed form
        gram = data[0].T @ data[0] / len(data[0]) + 0.3 * np.eye(4)
        np.testing.assert_allclose(jacobian, -np.linalg.solve(gram, solution(0.3)), atol=1e-6)
    else:
        assert (np.asarray(solution(0.3)) == 0.3).any()


def test_unrolled_differentiation_in_forward_mode(x64):
    solver = BatchedLBFGSB(lambda x, a: jnp.sum((x - a) ** 2 * jnp.array([1.0, 5.0])), tol=1e-8,
                           implicit_diff=False, maxiter=30)  # fmt: skip
    _, tangent = jax.jvp(lambda a: solver.run(jnp.zeros(2), (-1.0, 1.0), a).params, (0.25,), (1.0,))
    np.testing.assert_allclose(tangent, 1.0, atol=1e-4)


# ---- worst cases


@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
def test_a_constant_function(bounds):
    start = jnp.array([0.0, 0.3, 1.0])
    params, state = BatchedLBFGSB(lambda x: 0.0 * x.sum() + 7.0).run(start, bounds)
    np.testing.assert_array_equal(params, start)
    assert state.value == 7.0 and state.error == 0.0 and state.num_fun_eval <= 2


def test_a_slope_that_ends_on_a_plateau():
    """The gradient is 0 beyond 1: the first point on the plateau is a minimum."""

    def fun(x):
        return jnp.sum(jnp.maximum(1.0 - x, 0.0) ** 2)

    params, state = BatchedLBFGSB(fun, tol=1e-4).run(jnp.full(3, -5.0), (-9.0, 9.0))
    assert state.value <= 1e-6 and (params >= 1 - 1e-3).all() and (params <= 9).all()
    on_top = BatchedLBFGSB(lambda x: jnp.minimum(sphere(x), 4.0)).run(jnp.full(3, 5.0), None)
    assert on_top.state.error == 0.0  # a stationary point, if not a minimum
    np.testing.assert_array_equal(on_top.params, 5.0)


@pytest.mark.parametrize("bounds", [None, (-0.5, 0.7)])
def test_scales_a_million_apart(x64, bounds):
    rng = np.random.default_rng(3)
    scales = 10.0 ** rng.uniform(-3, 3, size=20)
    rotation, _ = np.linalg.qr(rng.normal(size=(20, 20)))
    centre = rng.normal(size=20)

    def fun(x):
        return 1.0 + 0.5 * jnp.sum(
            scales * (0.5 * (x - centre) + 0.5 * rotation @ (x - centre)) ** 2
        )

    solver = BatchedLBFGSB(fun, maxiter=5000, tol=1e-9)
    _, state = jax.jit(lambda x: solver.run(x, bounds))(jnp.zeros(20))
    lower, upper = bounds or (-INF, INF)
    _, expected = scipy_minimum(fun, np.zeros(20), lower, upper)
    np.testing.assert_allclose(state.value, expected, rtol=1e-4)


@pytest.mark.parametrize("corner", list(itertools.product([0.0, 1.0], repeat=3)))
def test_start_in_a_corner(corner):
    """Of a box whose minimum is inside, on a face, and on an edge."""
    rng = np.random.default_rng(4)
    matrix = np.float32(rng.normal(size=(3, 3)) + 2 * np.eye(3))
    starts = jnp.tile(jnp.array(corner, jnp.float32), (3, 1))
    centres = np.float32([[0.4, 0.6, 0.3], [0.4, 1.7, 0.3], [-0.4, 0.6, 1.8]])
    run = _corner_run(tuple(map(tuple, matrix.tolist())))
    params, state = run(starts, centres)
    assert (params >= 0).all() and (params <= 1).all()
    for i, centre in enumerate(centres):
        expected = scipy_minimum(
            lambda x, c=centre: jnp.sum((matrix @ (x - c)) ** 2), np.full(3, 0.5), 0.0, 1.0
        )[1]
        np.testing.assert_allclose(state.value[i], expected, rtol=1e-4, atol=1e-6)


@functools.cache
def _corner_run(matrix):
    matrix = np.float32(matrix)

    def fun(x, centre):
        return jnp.sum((matrix @ (x - centre)) ** 2)

    solver = BatchedLBFGSB(fun, maxiter=200, tol=1e-4)
    return jax.jit(jax.vmap(lambda x, centre: solver.run(x, (0.0, 1.0), centre)))


@pytest.mark.parametrize("start", [0.01, 1.0, 50.0, 1e4])
def test_a_log_barrier(start):
    """sum(x) - log(x): NaN beyond 0, where long steps lead; the minimum is at 1."""
    params, state = BatchedLBFGSB(
        lambda x: jnp.sum(x) - jnp.sum(jnp.log(x)), maxiter=300, tol=1e-4
    ).run(jnp.full(4, start), None)
    np.testing.assert_allclose(params, 1.0, atol=1e-2)
    assert np.isfinite(state.value) and status_of(state) in (Status.CONVERGED, Status.STALLED)


def test_an_infinite_barrier_from_a_steep_start():
    """-log(1 - x) - log(x) is infinite on the bounds of the box; different scales."""
    scale = jnp.array([1.0, 30.0, 1000.0])

    def fun(x):
        return jnp.sum(scale * x) - jnp.sum(jnp.log(x) + jnp.log(1 - x))

    params, state = BatchedLBFGSB(fun, maxiter=300, tol=1e-3).run(jnp.full(3, 0.99), (0.0, 1.0))
    # scale = 1 / x - 1 / (1 - x)
    s = np.array([1.0, 30.0, 1000.0])
    np.testing.assert_allclose(params, ((s + 2) - np.sqrt(s**2 + 4)) / (2 * s), rtol=2e-2)
    assert np.isfinite(state.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_finite_at_the_start(bad):
    start = jnp.array([0.25, 0.5])
    solver = BatchedLBFGSB(lambda x: jnp.where(x[0] < 0.3, bad, 0.0) + sphere(x), maxiter=20)
    params, state = solver.run(start, (0.0, 1.0))
    assert status_of(state) == Status.NON_FINITE
    np.testing.assert_array_equal(params, start)
    assert state.num_fun_eval <= 2


def test_a_bad_lane_spoils_no_other():
    solver = BatchedLBFGSB(lambda x, bad: jnp.where(bad, jnp.nan, 0.0) + sphere(x - 0.3), tol=1e-4)
    bad = np.array([False, True, False])
    starts = jnp.full((3, 2), 0.9)
    params, state = jax.vmap(lambda x, b: solver.run(x, (0.0, 1.0), b))(starts, bad)
    np.testing.assert_allclose(params, [[0.3, 0.3], [0.9, 0.9], [0.3, 0.3]], atol=1e-3)
    assert (state.step.status == np.array([0, 2, 0])).all()


@pytest.mark.parametrize("start", [0.0, 0.5, 1.0])
def test_kinks(start):
    """sum of weights |x - a|, by ReLUs: not smooth at the minimiser, x = a (or the bound)."""
    rng = np.random.default_rng(5)
    a = np.float32(rng.uniform(-0.2, 1.2, size=6))
    weights = np.float32(rng.uniform(0.5, 2, size=6))

    def fun(x):
        return jnp.sum(weights * (jax.nn.relu(x - a) + jax.nn.relu(a - x)))

    solver = box_lbfgs.BatchedLBFGSB(fun, maxiter=300, tol=1e-5)
    params, state = solver.run(jnp.full(6, start), (0.0, 1.0))
    least = fun(np.clip(a, 0, 1))
    clean = fun(jnp.full(6, start))
    assert state.value - least <= 0.02 * (clean - least)
    assert (params >= 0).all() and (params <= 1).all()


@pytest.mark.parametrize("bounds", [None, (-0.5, 1.0), (2.5, 9.0), (1.0, 1.0)])
def test_one_variable(bounds):
    solver = BatchedLBFGSB(lambda x: jnp.sum((x - 2.0) ** 2 + 0.1 * (x - 2.0) ** 4), tol=1e-4)
    params, _ = solver.run(jnp.array([0.7]), bounds)
    lower, upper = bounds or (-INF, INF)
    np.testing.assert_allclose(params, np.clip(2.0, lower, upper), atol=1e-3)


def test_two_hundred_thousand_variables(x64):  # float32 cannot resolve so large a sum
    rng = np.random.default_rng(6)
    n = 200_000
    centre, weights = rng.uniform(-1, 2, size=n), rng.uniform(1, 20, size=n)
    solver = BatchedLBFGSB(
        lambda x: 0.5 * jnp.sum(weights * (x - centre) ** 2), maxiter=200, tol=1e-6
    )
    params, state = jax.jit(lambda x: solver.run(x, (0.0, 1.0)))(jnp.full(n, 0.5))
    expected = np.clip(centre, 0, 1)
    assert state.error <= 1e-6 and status_of(state) == Status.CONVERGED
    np.testing.assert_allclose(params, expected, atol=2e-6)
    held = (centre < -1e-5) | (centre > 1 + 1e-5)
    np.testing.assert_array_equal(params[held], expected[held])
    assert held.mean() > 0.5
