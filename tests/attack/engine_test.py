"""Tests for intriguing/attack/engine.py and feed.py: order, lanes, queue chunks, lowering."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from intriguing import attack, models, predict, sharding
from intriguing.attack import AttackStatus, feed, memory, minimal
from intriguing.attack.explore import ExploreOptions
from intriguing.attack.lanes import Finished
from intriguing.attack.penalty_lanes import PenaltyOptions
from intriguing.attack.problem import Problem
from intriguing.attack.view import View

PIXELS, CLASSES, NUM = 12, 4, 23
TRACES = []


def logits_of(params, images):
    TRACES.append(images.shape)
    weights, biases = params  # convex: rounding cannot send two runs to different minima
    return images @ weights + biases


def make_params(seed=0):
    rng = np.random.default_rng(seed)
    shapes = (PIXELS, CLASSES), (1, CLASSES)
    return tuple(rng.normal(size=shape).astype(np.float32) for shape in shapes)


@pytest.fixture(scope="module")
def problem():
    images = np.random.default_rng(1).uniform(size=(NUM, PIXELS)).astype(np.float32)
    order = np.asarray(logits_of(make_params(), images)).argsort(axis=1)
    return images, order[:, -2].astype(np.int32)  # the runner-up: always reachable


def run(images, targets, **options):
    logits_fn = Partial(logits_of, make_params())
    return attack.minimal_perturbation(logits_fn, images, targets, **options)


@pytest.fixture(scope="module")
def five_lanes(problem):
    """23 images, 20 to a queue: two chunks. (result, progress, utilisation)."""
    progress, utilisation = [], []
    result = run(*problem, num_lanes=5, progress=progress.append, utilisation=utilisation.append)
    assert NUM > 5 * feed.QUEUE_LENGTH
    return result, progress, utilisation


def test_rows_are_in_input_order(problem, five_lanes):
    images, targets = problem
    result = five_lanes[0]
    assert result.success.all() and len(set(result.l2_norm.tolist())) == NUM
    for i in range(NUM):
        alone = run(images[i : i + 1], targets[i : i + 1], num_lanes=1)
        np.testing.assert_allclose(alone.l2_norm[0], result.l2_norm[i], rtol=0.02)


@pytest.mark.parametrize("num_lanes", [1, 4, 64])
def test_lanes_do_not_matter(problem, five_lanes, num_lanes):
    result = run(*problem, num_lanes=num_lanes)
    np.testing.assert_array_equal(result.success, five_lanes[0].success)
    np.testing.assert_allclose(result.distortion.mean(), five_lanes[0].distortion.mean(), rtol=5e-3)


def test_progress_and_utilisation(five_lanes):
    _, progress, ((busy, total),) = five_lanes
    assert progress == sorted(set(progress)) and progress[-1] == NUM and len(progress) > 1
    assert 0.5 * total < busy <= total


@pytest.mark.slow
@pytest.mark.parametrize(("refine", "rtol"), [(True, 0.01), (False, 0.03)])
def test_solvers_agree(problem, refine, rtol):
    """The engine keeps the best point of all that it evaluates, jaxopt that of its minimisers."""
    options = {"refine": refine, "num_penalties": 12, "maxiter": 100, "rtol": 1e-6, "num_lanes": 8}
    ours, stock = (run(*problem, solver=solver, **options) for solver in ("batched", "jaxopt"))
    np.testing.assert_array_equal(ours.success, stock.success)
    np.testing.assert_allclose(ours.distortion.mean(), stock.distortion.mean(), rtol=rtol)
    assert ours.distortion.mean() <= stock.distortion.mean() * 1.001


def test_stepping_in_python_changes_nothing(problem, five_lanes, monkeypatch):
    monkeypatch.setattr(predict, "has_slow_loops", lambda *_: True)
    stepped = run(*problem, num_lanes=5)
    calls, told = [], []
    result = run(*problem, search="penalty", num_lanes=5, utilisation=calls.append,
                 progress=told.append)  # fmt: skip
    assert told == sorted(told) and told[-1] == NUM and len(set(told)) > NUM / 2  # one by one
    monkeypatch.undo()
    looped = run(*problem, search="penalty", num_lanes=5, utilisation=calls.append)
    for one, other in ((stepped, five_lanes[0]), (result, looped)):
        np.testing.assert_array_equal(one.status, other.status)
        np.testing.assert_allclose(one.l2_norm, other.l2_norm, rtol=1e-4)
    # Lanes are refilled at once, not once in so many steps: fewer of them wait.
    assert calls[0].busy / calls[0].total > calls[1].busy / calls[1].total


def test_who_has_slow_loops():
    mesh, key = sharding.make_mesh(1), jax.random.key(0)
    images = np.zeros((2, 8, 8, 1), np.float32)
    for model, slow in ((models.conv_net((2,), 3), True), (models.fully_connected((3,)), False)):
        logits_fn = models.logits_fn(model, model.init(key, images))
        assert predict.has_slow_loops(logits_fn, images, mesh) == slow
        assert predict.has_slow_loops(lambda x, fn=logits_fn: fn(x), images, mesh) == slow


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_lowers_for_other_devices(problem, platform):
    images, targets = problem
    mesh, logits_fn = sharding.make_mesh(1), Partial(logits_of, make_params())
    lower, upper = np.zeros_like(images), np.ones_like(images)
    problem = Problem(images, lower, upper, targets)
    queue = feed.make_queue(problem, 0, 20, mesh)
    run_engine, finish = (
        jax.jit(function.__wrapped__, static_argnames=names, donate_argnums=donated)
        for function, names, donated in (
            (feed.run_engine, ("mesh", "image_shape"), (1, 2)),
            (minimal._finish, ("mesh", "refine_steps", "num_margins", "unroll"), ()),
        )
    )
    texts = []
    for search in (PenaltyOptions(4, 30, 1e-3, 1e-3, 5, False), ExploreOptions(50)):
        lanes, clock = feed.make_lanes(queue, search, num_lanes=5, mesh=mesh)
        texts.append(run_engine.trace(
            feed.Job(logits_fn, problem.goal, search), lanes, clock, queue, jnp.asarray(True),
            mesh=mesh, image_shape=(PIXELS,),
        ).lower(lowering_platforms=(platform,)).as_text())  # fmt: skip
        assert "jax.buffer_donor" in texts[-1] or "tf.aliasing_output" in texts[-1]
    zeros = np.zeros(NUM, np.float32)
    found = Finished(
        np.arange(NUM, dtype=np.int32),
        images,
        zeros,
        zeros,
        zeros.astype(np.int32),
        zeros > 0,
        np.zeros((NUM, 0), np.float32),
    )
    seen = (View.of(images), logits_fn, None, None, jnp.inf)
    texts.append(finish.trace(
        seen, problem, found, mesh=mesh, refine_steps=4, num_margins=3, unroll=False,
    ).lower(lowering_platforms=(platform,)).as_text())  # fmt: skip
    for text in texts:
        assert "while" in text and "lapack" not in text.lower()
        for dot in re.findall(r"stablehlo.dot_general.*", text):
            of_network = re.search(
                rf"tensor<(\d+x)?({PIXELS}x{CLASSES}|{CLASSES}x{PIXELS})xf32>", dot
            )
            assert of_network or "precision = [HIGHEST, HIGHEST]" in dot, dot
        assert "HIGHEST" in text


def test_new_parameters_do_not_compile_again(problem, five_lanes):
    first = {"num_penalties": 2, "maxiter": 10, "tol": 1e-3, "rtol": 1e-4}
    run(*problem, num_lanes=5, **first)
    count = len(TRACES)
    other = {"num_penalties": 3, "maxiter": 20, "tol": 1e-2, "rtol": 1e-3}  # nor new budgets
    attack.minimal_perturbation(Partial(logits_of, make_params(7)), *problem, num_lanes=5, **other)
    # check_arrays may trace the shape; the engine and the refinement must not.
    assert all(shape[0] != 5 for shape in TRACES[count:]), TRACES[count:]


def test_odd_images_disturb_no_other():
    """Already there, unreachable and NaN, among healthy ones."""

    def odd(images):
        logits = jnp.stack([0 * images[:, 0], 4 * images[:, 1] - 2, -1e3 + images[:, 2]], axis=1)
        return jnp.where(images[:, :1] > 0.9, jnp.nan, logits)

    images = np.full((6, 3), 0.25, np.float32)
    images[4, 0] = 1.0
    result = attack.minimal_perturbation(odd, images, np.array([1, 0, 2, 1, 1, 1]), num_lanes=3)
    reached, there, not_reached, non_finite = AttackStatus
    assert result.status.tolist() == [
        reached, there, not_reached, reached, non_finite, reached,
    ]  # fmt: skip
    np.testing.assert_allclose(result.l2_norm[[0, 3, 5]], 0.25, rtol=5e-3)
    assert result.l2_norm[1] == 0 and np.isinf(result.l2_norm[[2, 4]]).all()


def test_lanes_fit_in_the_devices_memory(problem, five_lanes, monkeypatch):
    """A device that says how little it has gets few lanes, and the same results."""
    images, targets = problem
    model = Partial(logits_of, make_params())
    whole = Problem(images, np.zeros_like(images), np.ones_like(images), targets)
    cost = memory.bytes_per_lane(model, whole, ExploreOptions(100))
    assert cost >= 12 * images[0].nbytes
    assert memory.free_bytes(jax.devices()[0]) is None  # a CPU does not say
    for num in (1, 3):
        free = int((num + 0.5) * cost / memory.SHARE)
        assert memory.lanes_that_fit(model, whole, ExploreOptions(100), free) == num
        monkeypatch.setattr(memory, "free_bytes", lambda device, free=free: free)
        used = []
        result = run(images, targets, utilisation=used.append)
        np.testing.assert_allclose(result.l2_norm, five_lanes[0].l2_norm, rtol=1e-3)
        assert used[0].total < num * (NUM / num + 1) * 110  # so many lanes, one after the other
