"""Tests for intriguing/attack/penalty_search.py, on margins that change sign at a known c."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from intriguing.attack import penalty_search

# Margin of the target at the minimiser, as a function of c / threshold: positive below 1.
MARGINS = {
    "two classes": lambda ratio: np.log(2 / ratio - 1) if ratio < 2 else -30.0,
    "steep": lambda ratio: -20 * np.log(ratio),
    "flat": lambda ratio: -0.01 * np.log(ratio),
    "sign": lambda ratio: 1.0 if ratio < 1 else -1.0,
    "huge": lambda ratio: 1e4 if ratio < 1 else -1e4,
}

advance = jax.jit(penalty_search.advance)


def simulate(start, margin, num_steps):
    """The searches before each step; `margin` is a function of c."""
    search = penalty_search.start(jnp.float32(start))
    history = [search]
    for _ in range(num_steps):
        found = jnp.float32(margin(float(search.penalty_weight)))
        history.append(search := advance(search, found))
    return history


@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize("threshold", [1e-4, 0.03, 1.01, 2e3])
@pytest.mark.parametrize("start", [0.01, 1.0, 50.0])
def test_finds_the_largest_c_that_succeeds(start, threshold, margin):
    history = simulate(start, lambda c: MARGINS[margin](c / threshold), 80)
    narrow = [bool(penalty_search.is_narrow(search)) for search in history]
    assert any(narrow)
    done = history[narrow.index(True)]
    assert done.succeeded <= threshold * (1 + 1e-6) and done.failed >= threshold * (1 - 1e-6)
    assert done.failed / done.succeeded <= np.exp(penalty_search.SHRINK_LIMIT) * 1.001


@pytest.mark.parametrize("threshold", [0.03, 1.01, 70.0])
def test_two_classes_need_few_steps(threshold):
    """A factor of 100 in c, to 5%, in no more values of c than an attack has."""
    history = simulate(threshold * 100, lambda c: MARGINS["two classes"](c / threshold), 12)
    best = history[-1].succeeded
    assert threshold * 0.95 <= best <= threshold * (1 + 1e-6)


@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize("threshold", [1e-3, 0.3, 40.0])
def test_the_bracket_only_shrinks_and_c_is_inside(threshold, margin):
    history = simulate(1.0, lambda c: MARGINS[margin](c / threshold), 14)
    for before, after in itertools.pairwise(history):
        assert after.succeeded >= before.succeeded and after.failed <= before.failed
        assert after.succeeded <= threshold <= after.failed
        if not penalty_search.is_narrow(before):
            assert after.succeeded < after.penalty_weight < after.failed


@pytest.mark.parametrize("margin", [1e-6, 1.0, 1e4, -1e-6, -1.0, -1e4])
@pytest.mark.parametrize("start", [1e-6, 1.0, 1e4])
def test_c_stays_a_positive_finite_number(start, margin):
    """However long nothing, or everything, succeeds: loss / c must not overflow."""
    for search in simulate(start, lambda c: margin, 40):
        c = float(search.penalty_weight)
        assert np.isfinite(c) and c >= np.finfo(np.float32).tiny
        assert np.isfinite(np.float32(1e3) / np.float32(c))  # a loss of a thousand nats
        assert not penalty_search.is_narrow(search)


def test_c_stays_a_positive_finite_number_where_the_margin_is_none():
    for margin in (np.nan, np.inf, -np.inf):
        for search in simulate(1.0, lambda c, margin=margin: margin, 5):
            assert np.isfinite(search.penalty_weight) and search.penalty_weight > 0


@pytest.mark.parametrize("sign", [1, -1])
def test_without_a_bracket_c_moves_away_and_faster(sign):
    c = [float(search.penalty_weight) for search in simulate(1.0, lambda c: 50.0 * sign, 4)]
    steps = sign * np.diff(np.log(c))
    assert (steps > 0).all()
    if sign > 0:  # the guess of a large margin: each step is at least as long as the one before
        assert (np.diff(steps) >= -1e-4).all()


def test_a_success_beyond_a_failure_ends_the_search():
    """Where the loss is not convex, a larger c may succeed after a smaller one failed."""
    search = penalty_search.start(jnp.float32(1.0))._replace(
        succeeded=jnp.float32(2.0), failed=jnp.float32(1.0)
    )
    assert penalty_search.is_narrow(search)
    after = advance(search, jnp.float32(0.3))
    assert np.isfinite(after.penalty_weight) and after.penalty_weight > 0


def test_vmap():
    thresholds = np.float32([0.01, 1.5, 300.0])
    search = jax.vmap(penalty_search.start)(jnp.full(3, 1.0))
    step = jax.jit(jax.vmap(penalty_search.advance))
    for _ in range(30):
        search = step(search, -jnp.log(search.penalty_weight / thresholds))
    np.testing.assert_allclose(search.succeeded, thresholds, rtol=0.01)
    for i, threshold in enumerate(thresholds):
        alone = simulate(1.0, lambda c, t=threshold: -np.log(c / t), 30)[-1]
        np.testing.assert_allclose(alone.succeeded, search.succeeded[i], rtol=0.01)
