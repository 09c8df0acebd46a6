"""Tests for intriguing/solver/lbfgs_step.py: properties of the pure step."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from intriguing.solver import lbfgs_step
from intriguing.solver.lbfgs_step import Status

SIZE, PAIRS = 12, 5
EPS = np.finfo(np.float32).eps


STEPS = 120


def quadratic(params, x):
    """A dense bowl whose minimum is far outside [0, 1]."""
    matrix, vector = params
    return 0.5 * jnp.sum((matrix @ x) ** 2) - vector @ x


def wells(params, x):
    """Not convex: many ripples."""
    mix, phase = params
    return jnp.sum(jnp.sin(2 * (mix @ x) + phase))


def walled(params, x):
    """NaN wherever the first variable exceeds 0.6; wants to go there."""
    _, centre = params
    value = jnp.sum((x - jnp.abs(centre)) ** 2 * jnp.arange(1.0, 1.0 + SIZE))
    return jnp.where(x[0] > 0.6, jnp.nan, value)


OBJECTIVES = {"quadratic": quadratic, "wells": wells, "walled": walled}
PROBLEMS = [(name, seed) for name in OBJECTIVES for seed in range(3)]


@functools.partial(jax.jit, static_argnames="objective")
def _drive(objective, params, start, tol, rtol):
    lower, upper = jnp.zeros(SIZE), jnp.ones(SIZE)

    def body(state, i):
        value, grad = jax.value_and_grad(functools.partial(objective, params))(state.trial)
        state = lbfgs_step.step(state, value, grad, lower, upper, i % PAIRS, tol=tol, rtol=rtol)
        return state, state

    return jax.lax.scan(body, lbfgs_step.init(start, PAIRS), jnp.arange(STEPS))[1]


def drive(name, seed, *, tol=0.0, rtol=0.0):
    """Every state of a solve, as numpy: states[i] is what evaluation i gave."""
    rng = np.random.default_rng(seed)
    params = rng.normal(size=(SIZE, SIZE)) + 0.3 * np.eye(SIZE), 8 * rng.normal(size=SIZE)
    start = rng.choice([0.0, 0.02, 0.5, 1.0], size=SIZE)
    if name == "walled":
        start = np.full(SIZE, 0.1)
    params, start = jax.tree.map(np.float32, (params, start))
    states = jax.tree.map(np.asarray, _drive(OBJECTIVES[name], params, start, tol, rtol))
    return [jax.tree.map(lambda a, i=i: a[i], states) for i in range(STEPS)]


@pytest.fixture(scope="module", params=PROBLEMS, ids=lambda p: f"{p[0]} {p[1]}")
def states(request):
    return drive(*request.param)


def test_the_value_never_rises_but_for_rounding(states):
    values = np.array([state.value for state in states], np.float64)
    assert np.isfinite(values).all()
    assert (np.diff(values) <= 2 * EPS * np.abs(values[:-1])).all(), np.diff(values).max()
    assert values[-1] < values[0] - 1e-2  # it went somewhere


def test_trial_points_lie_in_the_box(states):
    for state in states:
        for point in (state.x, state.trial):
            assert np.isfinite(point).all() and (point >= 0).all() and (point <= 1).all()


def test_every_direction_is_downhill(states):
    for state in states:
        free = np.asarray(lbfgs_step.free_variables(state.x, state.grad, 0.0, 1.0))
        if np.abs(state.grad * free).max() > 1e-5:
            assert np.dot(state.direction, state.grad) < 0
        assert (state.direction[free == 0] == 0).all()  # held variables do not move


def test_the_counters_count(states):
    num_iters = np.array([state.num_iters for state in states])
    assert num_iters[0] == 0  # the evaluation at the start is no iteration
    assert set(np.diff(num_iters).tolist()) <= {0, 1} and num_iters[-1] > 3
    for before, after in itertools.pairwise(states):
        if after.num_iters > before.num_iters:
            assert after.num_backtracks == 0 and after.stepsize == 1
            # Some compilers make the point twice, once with a fused multiply-add.
            np.testing.assert_allclose(after.x, before.trial, rtol=3e-7)
        elif before.status == Status.RUNNING and before.num_backtracks < 15:
            assert after.num_backtracks == before.num_backtracks + 1
            assert 0.1 - 1e-6 <= after.stepsize / before.stepsize <= 0.5 + 1e-6
            np.testing.assert_array_equal(after.x, before.x)


def test_the_error_is_the_projected_gradient_s(states):
    for state in states[::7]:
        projected = np.clip(state.x - state.grad, 0, 1) - state.x
        assert state.error == pytest.approx(np.abs(projected).max(), rel=1e-5, abs=1e-7)


def test_a_step_uphill_is_not_taken():
    """A downhill direction that the box bends uphill: the slope to the trial is positive."""
    lower, upper = jnp.zeros(2), jnp.float32([1.0, 0.5])
    x, grad = jnp.float32([0.5, 0.499]), jnp.float32([1.0, -1.0])
    direction = jnp.float32([0.5, 1.0])
    trial = jnp.clip(x + direction, lower, upper)
    assert jnp.dot(grad, direction) < 0 < jnp.dot(grad, trial - x)
    state = lbfgs_step.init(x, PAIRS)._replace(
        value=jnp.float32(1.0), grad=grad, num_iters=jnp.int32(3), trial=trial, direction=direction
    )
    higher = jnp.float32(1.0 + 3e-5)  # far beyond rounding
    new = lbfgs_step.step(state, higher, grad, lower, upper, 0, tol=1e-6, rtol=0.0)
    assert new.value <= state.value
    np.testing.assert_array_equal(new.x, x)


# ---- the two-loop recursion


def make_pairs(rng, num, size=SIZE):
    """Pairs (s, y) with positive curvature, of one random quadratic plus noise."""
    root = rng.normal(size=(size, size))
    hessian = root @ root.T / size + 0.5 * np.eye(size)
    s = rng.normal(size=(num, size))
    y = s @ hessian + 0.05 * rng.normal(size=(num, size))
    assert (np.sum(s * y, axis=1) > 0).all()
    return s, y


def dense_product(s, y, v):
    """H v with H by the BFGS update of the inverse (Nocedal and Wright, 6.17), oldest first."""
    gamma = s[-1] @ y[-1] / (y[-1] @ y[-1])
    h = gamma * np.eye(len(v))
    for one_s, one_y in zip(s, y, strict=True):
        rho = 1 / (one_s @ one_y)
        left = np.eye(len(v)) - rho * np.outer(one_s, one_y)
        h = left @ h @ left.T + rho * np.outer(one_s, one_s)
    return h @ v


store_pair = jax.jit(lbfgs_step.store_pair)
two_loop = jax.jit(lbfgs_step.two_loop)
propose = jax.jit(lbfgs_step.propose)


def write_pairs(s, y, keep, size):
    """The ring after all pairs were written in order, one slot after the other."""
    history = lbfgs_step.empty_history(s.shape[1], size, s.dtype)
    for i in range(len(s)):
        history = store_pair(history, s[i], y[i], keep[i], i % size)
    return history


@pytest.mark.parametrize("free", ["all", "some"])
def test_two_loop_without_pairs_scales(free):
    v = jnp.asarray(np.random.default_rng(0).normal(size=SIZE).astype(np.float32))
    mask = jnp.ones(SIZE) if free == "all" else jnp.asarray(np.arange(SIZE) % 2, jnp.float32)
    history = lbfgs_step.empty_history(SIZE, PAIRS, jnp.float32)._replace(gamma=jnp.float32(0.25))
    for slot in range(PAIRS):
        np.testing.assert_array_equal(two_loop(history, v, mask, slot), 0.25 * v)


@pytest.mark.parametrize("num_written", [1, 3, 5, 6, 8, 10, 13])
@pytest.mark.parametrize("size", [1, 5])
def test_two_loop_is_the_dense_bfgs_product(num_written, size):
    rng = np.random.default_rng(num_written)
    s, y = make_pairs(rng, num_written)
    v = rng.normal(size=SIZE)
    with jax.enable_x64(True):
        keep = np.ones(num_written, bool)
        history = write_pairs(jnp.asarray(s), jnp.asarray(y), keep, size)
        found = two_loop(history, jnp.asarray(v), jnp.ones(SIZE), (num_written - 1) % size)
        assert found.dtype == jnp.float64
    expected = dense_product(s[-size:], y[-size:], v)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("emptied", [(3,), (5,), (7,), (6, 7), (3, 5, 7), (3, 4, 5, 6)])
def test_two_loop_ignores_emptied_slots(emptied):
    """8 written into 5 slots; some of the last 5 are refused, as after a backtrack."""
    rng = np.random.default_rng(sum(emptied))
    s, y = make_pairs(rng, 8)
    v = rng.normal(size=SIZE)
    keep = ~np.isin(np.arange(8), emptied)
    with jax.enable_x64(True):
        history = write_pairs(jnp.asarray(s), jnp.asarray(y), keep, 5)
        found = two_loop(history, jnp.asarray(v), jnp.ones(SIZE), 7 % 5)
    assert (np.asarray(history.rho) == 0).sum() == len(emptied)
    left = [i for i in range(3, 8) if keep[i]]
    np.testing.assert_allclose(found, dense_product(s[left], y[left], v), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("curvature", ["negative", "zero", "below rounding"])
def test_a_pair_without_curvature_empties_its_slot(curvature):
    rng = np.random.default_rng(0)
    s, y = make_pairs(rng, 3)
    history = write_pairs(
        jnp.asarray(s, jnp.float32), jnp.asarray(y, jnp.float32), np.ones(3, bool), 3
    )
    bad_s = np.float32(s[0])
    bad_y = {"negative": -bad_s, "zero": 0 * bad_s, "below rounding": np.roll(bad_s, 1)}[curvature]
    if curvature == "below rounding":
        bad_y = bad_y - bad_s * (bad_y @ bad_s) / (bad_s @ bad_s) + 1e-9 * bad_s
    new = store_pair(history, bad_s, bad_y, True, 1)
    assert new.rho[1] == 0 and not new.s[1].any() and not new.y[1].any()
    assert new.gamma == history.gamma
    assert (np.asarray(new.rho)[[0, 2]] > 0).all()


def test_masked_directions_stay_downhill_and_in_the_free_space():
    """Pairs whose y was masked, a mask that has changed since: -v . H v must be negative."""
    rng = np.random.default_rng(4)
    for _ in range(10):
        s, y = make_pairs(rng, 9)
        masks = rng.uniform(size=y.shape) < 0.8
        y = np.where(masks, y, 0)
        s = np.where(masks, s, s * (rng.uniform(size=s.shape) < 0.3))
        keep = np.ones(9, bool)
        history = write_pairs(jnp.asarray(s, jnp.float32), jnp.asarray(y, jnp.float32), keep, 5)
        free = jnp.asarray(masks[-1], jnp.float32)
        x = jnp.full(SIZE, 0.5, jnp.float32)
        x = jnp.where(free > 0, x, 0.0)
        grad = jnp.asarray(rng.normal(size=SIZE), jnp.float32)
        grad = jnp.where(free > 0, grad, jnp.abs(grad))
        state = lbfgs_step.init(x, 5)._replace(
            value=jnp.float32(0.0), grad=grad, history=history, num_iters=jnp.int32(9),
            num_backtracks=jnp.int32(0),
        )  # fmt: skip
        new = propose(state, True, jnp.zeros(SIZE), jnp.ones(SIZE), 8 % 5)
        assert jnp.dot(new.direction, grad) < 0
        assert not new.direction[np.asarray(free) == 0].any()


# ---- how a solve ends


STATIONARY = {
    # name: (x, gradient there); the box is [0, 1]
    "no gradient": ([0.5, 0.5, 0.5], [0.0, 0.0, 0.0]),
    "held at both bounds": ([0.0, 1.0, 0.0], [3.0, -2.0, 0.5]),
    "some held, the rest flat": ([0.0, 0.4, 1.0], [3.0, 0.0, -1.0]),
    "almost": ([0.0, 0.4, 1.0], [3.0, 9e-4, -1.0]),
}


@pytest.mark.parametrize("case", STATIONARY)
def test_one_evaluation_at_a_stationary_point(case):
    x, grad = (jnp.float32(a) for a in STATIONARY[case])
    state = lbfgs_step.init(x, PAIRS)
    assert state.status == Status.RUNNING
    state = lbfgs_step.step(
        state, jnp.float32(7.0), grad, jnp.zeros(3), jnp.ones(3), 0, tol=1e-3, rtol=0.0
    )
    assert state.status == Status.CONVERGED and state.num_iters == 0
    assert state.value == 7.0 and state.error <= 1e-3
    np.testing.assert_array_equal(state.x, x)


def test_not_stationary_goes_on():
    """The gradient pushes inwards from the bounds."""
    state = lbfgs_step.init(jnp.float32([0.0, 1.0]), PAIRS)
    state = lbfgs_step.step(
        state, jnp.float32(7.0), jnp.float32([-1.0, 0.5]), jnp.zeros(2), jnp.ones(2), 0,
        tol=1e-3, rtol=0.0,
    )  # fmt: skip
    assert state.status == Status.RUNNING and state.error == 1.0
    assert state.trial[0] > 0 and state.trial[1] < 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["value", "gradient"])
def test_non_finite_at_the_start(bad, where):
    x = jnp.float32([0.2, 0.3, 0.4])
    value, grad = jnp.float32(1.0), jnp.float32([1.0, 0.0, 0.0])
    if where == "value":
        value = jnp.float32(bad)
    else:
        grad = grad.at[1].set(bad)
    state = lbfgs_step.init(x, PAIRS)
    state = lbfgs_step.step(state, value, grad, jnp.zeros(3), jnp.ones(3), 0, tol=1e-3, rtol=0.0)
    assert state.status == Status.NON_FINITE
    np.testing.assert_array_equal(state.x, x)
    assert np.isfinite(state.trial).all()


def test_the_solves_converge():
    states = drive("quadratic", 0, tol=1e-3)
    final = states[-1]
    assert final.status == Status.CONVERGED and final.error <= 1e-3
    first = next(i for i, state in enumerate(states) if state.status == Status.CONVERGED)
    assert states[first - 1].status == Status.RUNNING and states[first - 1].error > 1e-3
    assert all(state.status == Status.CONVERGED for state in states[first:])  # it stays so


def test_stalled_when_rounding_is_reached():
    final = drive("quadratic", 1)[-1]
    assert final.status in (Status.STALLED, Status.CONVERGED)
    assert final.error < 0.1


def test_rtol_ends_earlier_with_a_higher_value():
    rough, fine = (drive("quadratic", 2, rtol=rtol) for rtol in (0.05, 0.0))
    lengths = [sum(state.status == Status.RUNNING for state in states) for states in (rough, fine)]
    assert rough[-1].status == Status.STALLED and lengths[0] < lengths[1]
    end = rough[lengths[0]]
    assert end.num_flat >= 3 and end.value >= fine[-1].value


def test_a_wrong_gradient_stalls_and_keeps_the_start():
    """No step lowers the value: both the direction and steepest descent are given up."""
    x = np.full(3, 0.5, np.float32)
    state = lbfgs_step.init(jnp.asarray(x), PAIRS)
    step = jax.jit(functools.partial(lbfgs_step.step, tol=1e-6, rtol=0.0))
    for i in range(3 * lbfgs_step.MAX_BACKTRACKS):
        rise = jnp.sum(state.trial - 0.5)  # the gradient that is told has the opposite sign
        value = jnp.float32(1.0) + jnp.where(rise != 0, 1.0, 0.0)
        state = step(
            state, value, jnp.full(3, -1.0), jnp.zeros(3), jnp.ones(3), jnp.int32(i % PAIRS)
        )
        if state.status != Status.RUNNING:
            break
    assert state.status == Status.STALLED
    assert i <= 2 * lbfgs_step.MAX_BACKTRACKS
    np.testing.assert_array_equal(state.x, x)


@pytest.mark.parametrize("last", [True, False])
def test_any_lane_is_one_answer_for_all(last):
    flags = jnp.array([[False, False], [False, last]])
    # out_axes=None is an error where lanes differ.
    once = jax.vmap(lbfgs_step.any_lane, out_axes=None)
    assert [bool(once(row)) for row in flags] == [False, last]
    assert bool(jax.vmap(once, out_axes=None)(flags)) == last


@pytest.mark.parametrize("name", ["quadratic", "wells"])
@pytest.mark.parametrize("slot", range(PAIRS))
def test_what_has_ended_stays_as_it_is(name, slot):
    """However often it is stepped: past the count at which a history would be given up."""
    states = drive(name, 0, tol=1e-3)
    ended = jax.tree.map(jnp.asarray, states[-1])
    assert ended.status != Status.RUNNING and (ended.history.rho > 0).any()
    later, step = ended, functools.partial(lbfgs_step.step, tol=1e-3, rtol=0.0)
    for i in range(2 * lbfgs_step.MAX_BACKTRACKS + 3):
        value, grad = jnp.float32(i - 1.0), jnp.full(SIZE, jnp.float32(1 - i))
        later = step(later, value, grad, jnp.zeros(SIZE), jnp.ones(SIZE), (slot + i) % PAIRS)
    for field, before, after in zip(ended._fields, ended, later, strict=True):
        if field not in ("trial", "direction"):  # not looked at again
            jax.tree.map(np.testing.assert_array_equal, after, before)
