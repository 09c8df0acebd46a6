"""`trace=True`: the best norm after each evaluation, on the same way to the same result."""

import jax
import numpy as np
import pytest
from jax.tree_util import Partial

from intriguing import attack
from intriguing.attack import AttackStatus
from intriguing.errors import InputError

NUM, PIXELS = 13, 12
RNG = np.random.default_rng(0)
PARAMS = tuple(np.float32(RNG.normal(size=size)) for size in ((PIXELS, 16), (16, 5)))
IMAGES = RNG.uniform(0.2, 0.8, (NUM, PIXELS)).astype(np.float32)


def net(activation):
    return Partial(lambda p, x: activation(x @ p[0] - 0.3) @ p[1], PARAMS)


KINKED, SMOOTH = net(jax.nn.relu), net(jax.nn.sigmoid)


def run(logits_fn, images=IMAGES, **options):
    labels = np.asarray(logits_fn(images)).argmax(axis=1)
    labels[0] = (labels[0] + 1) % 5  # the first is wrong already
    return attack.minimal_perturbation(
        logits_fn, images, labels, goal="untargeted", num_lanes=4, **options
    )


@pytest.mark.parametrize(
    ("logits_fn", "search"),
    [
        (KINKED, "auto"),
        (SMOOTH, "penalty"),
        pytest.param(SMOOTH, "auto", marks=pytest.mark.slow),
        pytest.param(KINKED, "penalty", marks=pytest.mark.slow),
    ],
    ids=["kinked", "smooth, c", "smooth", "kinked, c"],
)
def test_it_ends_at_the_result_and_changes_nothing(logits_fn, search):
    plain, found = run(logits_fn, search=search), run(logits_fn, trace=True, search=search)
    assert plain.trace.shape == (NUM, 0)
    length = found.trace.shape[1]  # the whole of a search on c: 4 values of c, 60 evaluations each
    assert length == 100 if search == "auto" else length > 240
    # Another program rounds otherwise, and a search on c then takes another way.
    np.testing.assert_array_equal(found.status, plain.status)
    rtol = 1e-4 if search == "auto" else 0.02
    np.testing.assert_allclose(found.l2_norm, plain.l2_norm, rtol=rtol)
    in_time = found.num_evals <= length  # an image without success by then gets more evaluations
    assert in_time.sum() > NUM / 2
    for norms, num, norm in zip(found.trace, found.num_evals, found.l2_norm, strict=True):
        seen = norms[: min(num, length)]
        assert (seen[1:-1] <= seen[:-2]).all()  # but for the last, which another pass has judged
        if num <= length:
            assert norms[-1] == seen[-1] == norm
    assert (found.trace[0] == 0).all() and found.status[0] == AttackStatus.ALREADY_THERE
    # The clean image is no success, and some point before the end is one.
    assert np.isinf(found.trace[1:, 0]).all()
    told = in_time & found.success
    before = found.trace[:, :-1].min(axis=1)
    assert (before < 1.5 * found.l2_norm + 1e-6)[told].all() and told.sum() > 3


def test_each_value_is_that_of_the_best_point_so_far():
    """After a search alone (no refinement follows), its last value is the search's best."""
    found = run(KINKED, trace=True, budget=40)
    in_time = found.num_evals <= 40
    before = found.trace[:, :-1].min(axis=1)
    assert in_time.sum() > 3 and (found.l2_norm <= before * 1.0001)[in_time].all()


def test_units_are_the_users():
    plain = run(KINKED, trace=True, budget=30)
    of_bytes = Partial(lambda net, x: net(x / 255), KINKED)
    bytes_ = run(of_bytes, 255 * IMAGES, bounds=(0, 255), trace=True, budget=30)
    np.testing.assert_allclose(bytes_.trace[1:] / 255, plain.trace[1:], rtol=1e-3)
    scaled = run(KINKED, trace=True, budget=30, scale=np.full(PIXELS, 4.0))
    in_time = scaled.num_evals <= 30
    np.testing.assert_allclose(
        scaled.trace.min(axis=1)[in_time], scaled.l2_norm[in_time], rtol=1e-3
    )


def test_inside_a_program_and_in_a_file(tmp_path):
    problem = attack.problem_of(IMAGES, np.zeros(NUM, int))
    options = attack.AttackOptions(budget=30, trace=True)
    found = jax.jit(lambda problem: attack.solve(KINKED, problem, options))(problem)
    assert found.trace.shape == (NUM, 30)
    attack.save(tmp_path / "a.npz", attack.AttackResult(*map(np.asarray, found)))
    np.testing.assert_array_equal(attack.load(tmp_path / "a.npz").trace, found.trace)


def test_the_stock_solver_keeps_none():
    with pytest.raises(InputError, match="trace"):
        run(KINKED, trace=True, solver="jaxopt")
