"""`max_norm=`: what is longer counts as not reached, in the user's units, and is given up early."""

import jax
import numpy as np
import pytest
from jax.tree_util import Partial

from intriguing import attack
from intriguing.attack import AttackStatus
from intriguing.errors import InputError

NUM, PIXELS = 12, 20
RNG = np.random.default_rng(0)
PARAMS = tuple(np.float32(RNG.normal(size=size)) for size in ((PIXELS, 16), (16, 5)))
IMAGES = RNG.uniform(0.2, 0.8, (NUM, PIXELS)).astype(np.float32)


def relu_net(params, images):
    return jax.nn.relu(images @ params[0] - 0.3) @ params[1]


NET = Partial(relu_net, PARAMS)
LABELS = np.asarray(NET(IMAGES)).argmax(axis=1)


def run(images=IMAGES, net=NET, **options):
    return attack.minimal_perturbation(net, images, LABELS, goal="untargeted", **options)


@pytest.fixture(scope="module")
def free():
    return run()


@pytest.mark.parametrize("search", ["auto", "penalty"])
def test_longer_ones_are_not_reached(free, search):
    result = run(search=search) if search == "penalty" else free
    limit = float(np.median(result.l2_norm))
    found = run(max_norm=limit, search=search)
    short = result.l2_norm <= limit
    assert 0 < short.sum() < NUM
    np.testing.assert_array_equal(found.success, short)
    np.testing.assert_array_equal(found.l2_norm[short], result.l2_norm[short])
    assert (found.status[~short] == AttackStatus.NOT_REACHED).all()
    assert np.isinf(found.l2_norm[~short]).all() and np.isinf(found.distortion[~short]).all()
    np.testing.assert_array_equal(found.adv_images[~short], IMAGES[~short])


def test_what_is_far_is_given_up_early(free):
    found = run(max_norm=0.1 * float(free.l2_norm.min()))
    assert not found.success.any() and (found.num_evals < 0.7 * free.num_evals).all()


def test_the_limit_is_in_the_users_units(free):
    limit = float(np.median(free.l2_norm))
    net = Partial(lambda params, images: relu_net(params, images / 255), PARAMS)
    bytes_ = run(images=255 * IMAGES, net=net, bounds=(0, 255), max_norm=255 * limit)
    np.testing.assert_array_equal(bytes_.success, free.l2_norm <= limit)
    scaled = run(scale=np.full(PIXELS, 4.0), max_norm=limit / 4)
    np.testing.assert_array_equal(scaled.success, free.l2_norm <= limit)


def test_it_works_inside_jit(free):
    limit = float(np.median(free.l2_norm))
    options = attack.AttackOptions(max_norm=limit)
    problem = attack.problem_of(IMAGES, LABELS, goal="untargeted")
    found = jax.jit(lambda problem: attack.solve(NET, problem, options))(problem)
    np.testing.assert_array_equal(found.success, free.l2_norm <= limit)


def test_images_that_are_wrong_already_stay_successes(free):
    labels = (LABELS + 1) % 5
    found = attack.minimal_perturbation(NET, IMAGES, labels, goal="untargeted", max_norm=1e-6)
    assert (found.status == AttackStatus.ALREADY_THERE).all() and (found.l2_norm == 0).all()


@pytest.mark.parametrize("value", [0, -1.0, np.nan])
def test_a_limit_that_makes_no_sense(value):
    with pytest.raises(InputError, match="max_norm"):
        run(max_norm=value)
