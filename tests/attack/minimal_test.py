"""Tests for intriguing/attack/minimal.py: outcomes against exact answers, not internals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
import scipy.optimize
from jax.tree_util import Partial

from intriguing import attack, data, models, training
from intriguing.attack import AttackStatus
from intriguing.attack.objective import norm_and_unit, penalty_objective
from intriguing.errors import InputError

SOLVERS = ("batched", "jaxopt")
SHAPE = (8, 8, 1)
PIXELS, CLASSES, UNITS = 64, 10, 16
LANES = 8  # every test attacks this many at a time with one model function: one compilation

ROUNDING = 1e-4  # float32: distances of about 1, from sums over 64 pixels


def logits_of(params, images):
    """Softmax regression plus a sigmoid layer, NaN where the first pixel exceeds `poison`."""
    x = images.reshape(len(images), -1)
    hidden = jax.nn.sigmoid(x @ params["in_weights"] + params["in_biases"][None])
    logits = x @ params["weights"] + params["biases"][None] + hidden @ params["out_weights"]
    return jnp.where(x[:, :1] > params["poison"], jnp.nan, logits)


def make_params(weights=None, biases=None, hidden=None, poison=2.0):
    """Parameters of `logits_of`; what is left out is 0."""
    in_weights, in_biases, out_weights = hidden or (
        np.zeros((PIXELS, UNITS)), np.zeros(UNITS), np.zeros((UNITS, CLASSES)),
    )  # fmt: skip
    params = {
        "weights": np.zeros((PIXELS, CLASSES)) if weights is None else weights,
        "biases": np.zeros(CLASSES) if biases is None else biases,
        "in_weights": in_weights, "in_biases": in_biases, "out_weights": out_weights,
        "poison": poison,
    }  # fmt: skip
    return {name: np.asarray(value, np.float32) for name, value in params.items()}


def run(solver, params, images, targets, **options):
    images = np.asarray(images)
    # Always whole batches, so that each test runs what the first one compiled.
    rows = np.resize(np.arange(len(images)), -(-len(images) // LANES) * LANES)
    options = {"num_lanes": LANES, **options}
    result = attack.minimal_perturbation(
        Partial(logits_of, params), images[rows], np.asarray(targets)[rows], solver=solver,
        **options,
    )  # fmt: skip
    return attack.AttackResult(*[array[: len(images)] for array in result])


def predict(params, images):
    return np.asarray(logits_of(params, images)).argmax(axis=-1)


@pytest.fixture(scope="module", params=SOLVERS)
def solver(request):
    return request.param


@pytest.fixture(scope="module")
def digits():
    return data.take(data.load("digits", "train"), slice(400))


@pytest.fixture(scope="module")
def targets(digits):
    """A wrong class for each of the first 24 images."""
    return (digits.labels[:24] + np.arange(24) % 9 + 1) % 10


@functools.cache
def regression(weight_decay):
    """FC10(weight_decay) on 400 digits, as parameters of `logits_of`."""
    dataset = data.take(data.load("digits", "train"), slice(400))
    state = training.fit(
        models.fully_connected(), dataset, jax.random.key(0), num_epochs=60, batch_size=100,
        learning_rate=1e-2, weight_decay={"fc1": weight_decay},
    )  # fmt: skip
    return make_params(state.params["fc1"]["kernel"], state.params["fc1"]["bias"])


@pytest.fixture(scope="module")
def net(digits):
    """A sigmoid net, 64-16-10: not convex."""
    state = training.fit(
        models.fully_connected((UNITS,)), digits, jax.random.key(0), num_epochs=60, batch_size=100,
        learning_rate=1e-2,
    )  # fmt: skip
    first, second = state.params["fc1"], state.params["fc2"]
    return make_params(
        biases=second["bias"], hidden=(first["kernel"], first["bias"], second["kernel"])
    )


@pytest.fixture(scope="module")
def net_result(solver, net, digits, targets):
    return run(solver, net, digits.images[:10], targets[:10])


def exact_norms(params, images, targets):
    found = [
        oracle.exact_minimum(params["weights"], params["biases"], image.ravel(), target)
        for image, target in zip(images, targets, strict=True)
    ]
    return np.linalg.norm(np.array(found) - images.reshape(len(images), -1), axis=1)


# ---- the oracle


def test_oracle_agrees_with_slsqp():
    rng = np.random.default_rng(0)
    num_at_bounds = 0
    for _ in range(30):
        weights, biases = rng.normal(size=(6, 4)), rng.normal(size=4)
        image = rng.choice([0.0, 0.5, 1.0], size=6)
        target = (image @ weights + biases).argmin()
        try:
            z = oracle.exact_minimum(weights, biases, image, target)
        except ValueError:
            continue
        others = np.arange(4) != target
        a = (weights[:, [target]] - weights[:, others]).T
        found = scipy.optimize.minimize(
            lambda z, x=image: 0.5 * np.sum((z - x) ** 2), np.full(6, 0.5), method="SLSQP",
            jac=lambda z, x=image: z - x, bounds=[(0, 1)] * 6, options={"ftol": 1e-14},
            constraints={
                "type": "ineq",
                "fun": lambda z, a=a, d=biases[target] - biases[others]: a @ z + d,
                "jac": lambda z, a=a: a,
            },
        )  # fmt: skip
        assert found.success
        np.testing.assert_allclose(z, found.x, atol=1e-5)
        num_at_bounds += np.sum((z == 0) | (z == 1))
    assert num_at_bounds > 10


def test_oracle_knows_the_unreachable():
    with pytest.raises(ValueError, match="no point of the box"):
        oracle.exact_minimum(np.zeros((3, 2)), np.array([0.0, -1.0]), np.zeros(3), 1)


# ---- against exact answers


@pytest.mark.parametrize(
    ("weight_decay", "max_mean"),
    # The penalty's own gap: between more than two classes its minimisers are not the exact ones.
    # SciPy in float64 has it too: test_reaches_what_the_penalty_can. The stock solver stops short.
    [(1e-4, {"batched": 1.12, "jaxopt": 1.12}), (1.0, {"batched": 1.3, "jaxopt": 1.4})],
)
def test_softmax_regression_is_near_the_exact_minimum(
    solver, digits, targets, weight_decay, max_mean
):
    params, images = regression(weight_decay), digits.images[:24]
    result = run(solver, params, images, targets, refine=False, num_penalties=12)
    assert result.success.all()
    assert set(result.status.tolist()) <= {AttackStatus.REACHED, AttackStatus.ALREADY_THERE}
    exact = exact_norms(params, images, targets)
    moved = exact > 0
    assert (result.l2_norm[~moved] == 0).all()
    ratios = result.l2_norm[moved] / exact[moved]
    assert ratios.min() >= 1 - ROUNDING
    assert ratios.mean() <= max_mean[solver]


@pytest.mark.parametrize("weight_decay", [1e-4, 1e-2, 1.0])
def test_refined_it_is_the_exact_minimum(solver, digits, targets, weight_decay):
    params, images = regression(weight_decay), digits.images[:24]
    result = run(solver, params, images, targets)
    exact = exact_norms(params, images, targets)
    assert result.success.all()
    assert (result.l2_norm >= exact * (1 - ROUNDING)).all()
    assert result.l2_norm.mean() <= 1.005 * exact.mean()


def penalty_minimum(params, image, target):
    """Norm of the minimiser at the largest c that succeeds, by SciPy in float64 and bisection."""
    weights, biases = (params[name].astype(np.float64) for name in ("weights", "biases"))
    x = image.ravel().astype(np.float64)

    def solve(c, start):
        def value_and_grad(z):
            logits = z @ weights + biases
            probabilities = np.exp(logits - logits.max())
            loss = np.log(probabilities.sum()) + logits.max() - logits[target]
            probabilities /= probabilities.sum()
            probabilities[target] -= 1
            norm = np.linalg.norm(z - x)
            grad = (z - x) / norm if norm > 0 else 0.0
            return norm + loss / c, grad + weights @ probabilities / c

        return oracle.minimize_box(value_and_grad, start, 0.0, 1.0)[0]

    start = oracle.exact_minimum(weights, biases, x, target)  # not x: the norm has a kink there
    low, high, best = 1e-2, 1e1, np.inf
    for _ in range(14):
        c = np.sqrt(low * high)
        z = solve(c, start)
        if (z @ weights + biases).argmax() == target:
            low, best = c, min(best, np.linalg.norm(z - x))
        else:
            high = c
    return best


@pytest.mark.parametrize("weight_decay", [1e-4, 1.0])
def test_reaches_what_the_penalty_can(solver, digits, targets, weight_decay):
    params, images = regression(weight_decay), digits.images[:8]
    result = run(solver, params, images, targets[:8])
    images = images[:5]  # SciPy takes a second for each
    result = attack.AttackResult(*[array[:5] for array in result])
    best = np.array([
        penalty_minimum(params, image, target)
        for image, target in zip(images, targets[:5], strict=True)
    ])  # fmt: skip
    # Twelve values of c leave some 5% of it open, which matters where weights are small (decay 1).
    assert (result.l2_norm <= 1.2 * best + 1e-6).all(), result.l2_norm / best
    assert result.l2_norm.mean() <= 1.03 * best.mean(), result.l2_norm / best


# One or two pixels matter; margin of class 1 over class 0 is slope . (x0, x1) + bias. By hand.
HAND_CASES = {
    "one pixel": ((2.0, 0.0), -1.0, (0.1, 0.3), (0.5, 0.3)),
    "one pixel, downwards": ((-4.0, 0.0), 1.0, (0.75, 1.0), (0.25, 1.0)),
    "two pixels": ((3.0, 4.0), -2.5, (0.1, 0.05), (0.34, 0.37)),
    "two pixels, one against the other": ((1.0, -1.0), 0.0, (0.2, 0.6), (0.4, 0.4)),
    # Free, the change would be (0.24, 0.12), and pixel 0 would be 1.14: pixel 1 does the rest.
    "the bound moves it to the other pixel": ((2.0, 1.0), -2.6, (0.9, 0.2), (1.0, 0.6)),
    "already on the bound": ((3.0, 1.0), -3.5, (1.0, 0.0), (1.0, 0.5)),
    "downwards onto the bound": ((-2.0, -1.0), 0.6, (0.1, 0.8), (0.0, 0.6)),
}


def hand_model(slope, bias):
    weights, biases = np.zeros((PIXELS, CLASSES)), np.full(CLASSES, -1e3)
    weights[[0, 1], 1] = slope
    biases[:2] = 0.0, bias
    return make_params(weights, biases)


def hand_image(first, second):
    image = np.full(PIXELS, 0.25, np.float32)
    image[:2] = first, second
    return image.reshape(1, *SHAPE)


@pytest.mark.parametrize("case", HAND_CASES)
def test_two_classes_by_hand(solver, case):
    slope, bias, start, expected = HAND_CASES[case]
    result = run(solver, hand_model(slope, bias), hand_image(*start), [1])
    assert result.success.all() and result.status[0] == AttackStatus.REACHED
    exact = np.linalg.norm(np.subtract(expected, start))
    # Two classes: the penalty is exact, but c is found to 1% only. Where both classes are level
    # c = |slope| / 2, and the margin changes by 2 dc / c: by 0.02, over the pixels that are free.
    inside = (np.array(expected) > 0) & (np.array(expected) < 1)
    slack = 0.02 / np.linalg.norm(np.array(slope)[inside])
    assert exact * (1 - ROUNDING) <= result.l2_norm[0] <= exact + slack
    np.testing.assert_allclose(result.distortion, result.l2_norm / 8, rtol=1e-5)
    np.testing.assert_allclose(
        result.adv_images.ravel(), hand_image(*expected).ravel(), atol=slack + 1e-3
    )
    on_c = run(solver, hand_model(slope, bias), hand_image(*start), [1], search="penalty")
    assert on_c.penalty_weight[0] > 0  # exploring has no c
    assert exact * (1 - ROUNDING) <= on_c.l2_norm[0] <= exact + slack


@pytest.mark.parametrize("case", HAND_CASES)
def test_the_hand_cases_agree_with_the_oracle(case):
    slope, bias, start, expected = HAND_CASES[case]
    weights, biases = np.zeros((2, 2)), np.array([0.0, bias])
    weights[:, 1] = slope
    np.testing.assert_allclose(
        oracle.exact_minimum(weights, biases, np.array(start), 1), expected, atol=1e-9
    )


# ---- properties


@pytest.fixture(scope="module", params=["FC10(1e-4)", "net", "random pixels", "array bounds"])
def attacked(request, solver, digits, targets, net, net_result):
    """(params, images, targets, bounds, result) of several attacks."""
    images, bounds = digits.images[:24], (0.0, 1.0)
    if request.param == "net":
        return net, images[:10], targets[:10], bounds, net_result
    params = regression(1e-4)
    if request.param == "random pixels":  # no digit: the target is whatever is not the prediction
        rng = np.random.default_rng(0)
        images = rng.uniform(size=images.shape).astype(np.float32)
        images = np.where(rng.uniform(size=images.shape) < 0.6, 0.0, images).astype(np.float32)
        targets = (predict(params, images) + 1) % 10
    if request.param == "array bounds":
        bounds = (np.maximum(images - 0.5, 0), np.minimum(images + 0.5, 1))
        bounds[1][:, 3] = images[:, 3]  # a row of pixels that may only become darker
    return params, images, targets, bounds, run(solver, params, images, targets, bounds=bounds)


def test_result_lies_in_the_box(attacked):
    _, images, _, (lower, upper), result = attacked
    assert (result.adv_images >= lower).all() and (result.adv_images <= upper).all()
    assert result.adv_images.dtype == images.dtype and result.adv_images.shape == images.shape
    at_bounds = (result.adv_images == lower) | (result.adv_images == upper)
    assert at_bounds[result.success].mean() > 0.1  # or the bounds were never tried


def test_success_means_that_a_fresh_pass_says_target(attacked):
    params, _, targets, _, result = attacked
    reached = predict(params, result.adv_images) == targets
    np.testing.assert_array_equal(result.success, reached)
    assert result.success.mean() > 0.9
    np.testing.assert_array_equal(
        result.success, np.isin(result.status, [AttackStatus.REACHED, AttackStatus.ALREADY_THERE])
    )


def test_norms_are_those_of_the_perturbation(attacked):
    _, images, _, _, result = attacked
    norms = np.linalg.norm((result.adv_images - images).reshape(len(images), -1), axis=1)
    np.testing.assert_allclose(result.l2_norm[result.success], norms[result.success], rtol=1e-5)
    np.testing.assert_allclose(result.distortion, result.l2_norm / np.sqrt(PIXELS), rtol=1e-5)
    assert np.isinf(result.l2_norm[~result.success]).all()
    np.testing.assert_array_equal(result.adv_images[~result.success], images[~result.success])
    assert (result.num_evals >= 1).all()


def test_same_arguments_same_results_bitwise(solver, net, net_result, digits, targets):
    again = run(solver, net, digits.images[:10], targets[:10])
    for name, first, second in zip(net_result._fields, net_result, again, strict=True):
        np.testing.assert_array_equal(first, second, err_msg=name)


def test_results_do_not_depend_on_the_batch(solver, net, net_result, digits, targets):
    """8 at a time; 3 at a time, the last batch padded; and in another order."""
    images, targets = digits.images[:10], targets[:10]
    few = run(solver, net, images, targets, num_lanes=3)
    np.testing.assert_array_equal(few.success, net_result.success)
    np.testing.assert_array_equal(few.status, net_result.status)
    # A sum in another order ends a float32 solve elsewhere: 1e-3 in the norm, not in the image.
    np.testing.assert_allclose(few.l2_norm, net_result.l2_norm, rtol=1e-3)
    order = np.arange(10)[::-1]
    shuffled = run(solver, net, images[order], targets[order])
    np.testing.assert_allclose(shuffled.l2_norm[order], net_result.l2_norm, rtol=1e-3)


def test_refinement_takes_no_more_passes_at_once_than_there_are_lanes():
    seen, params = set(), make_params(weights=np.random.default_rng(0).normal(size=(64, 10)))

    def logits_fn(images):
        seen.add(len(images))
        return logits_of(params, images)

    images = np.full((8, *SHAPE), 0.5, np.float32)
    targets = np.arange(8)
    options = {"num_penalties": 1, "maxiter": 3, "num_lanes": 8}
    attack.minimal_perturbation(logits_fn, images, targets, **options, refine=False)
    without = set(seen)
    attack.minimal_perturbation(logits_fn, images, targets, **options, num_margins=2)
    assert seen - without == {8 // 2}  # each with 2 backward passes


def test_progress_counts_the_images(solver, net, digits, targets):
    seen = []
    run(solver, net, digits.images[:10], targets[:10], progress=seen.append)
    assert seen == sorted(seen) and seen[-1] == 16  # `run` fills up to whole batches


def test_already_there_is_not_moved(solver, digits):
    params, images = regression(1e-4), digits.images[:8]
    targets = predict(params, images)
    targets[:4] = (targets[:4] + 1) % 10
    result = run(solver, params, images, targets)
    assert (result.status[4:] == AttackStatus.ALREADY_THERE).all() and result.success.all()
    np.testing.assert_array_equal(result.adv_images[4:], images[4:])
    assert (result.l2_norm[4:] == 0).all() and (result.distortion[4:] == 0).all()
    assert (result.penalty_weight[4:] == 0).all()
    assert (result.status[:4] == AttackStatus.REACHED).all() and (result.l2_norm[:4] > 0).all()


@pytest.mark.parametrize("how", ["logits ignore the input", "bias of -1e3", "just out of the box"])
@pytest.mark.parametrize("num_penalties", [12, 40])
def test_unreachable_target(solver, digits, how, num_penalties):
    if num_penalties != 12 and how == "just out of the box":
        pytest.skip("one long search is enough")
    params, images = regression(1e-4), digits.images[:8]
    targets = (predict(params, images) + 1) % 10
    targets[0] = 3
    if how == "logits ignore the input":
        params = make_params(biases=np.linspace(1, 0, CLASSES))
    elif how == "bias of -1e3":
        params = {**params, "biases": np.where(np.arange(10) == 3, -1e3, params["biases"])}
        params["biases"] = params["biases"].astype(np.float32)
    else:
        params, images = hand_model((1.0, 1.0), -2.01), np.repeat(hand_image(0.2, 0.9), 8, axis=0)
        targets[:] = 1
    result = run(solver, params, images, targets, num_penalties=num_penalties)
    lost = np.ones(8, bool) if how != "bias of -1e3" else targets == 3
    there = predict(params, images) == targets
    np.testing.assert_array_equal(result.success, ~lost | there)
    lost &= ~there
    assert lost.any()
    assert (result.status[lost] == AttackStatus.NOT_REACHED).all(), result.status
    assert np.isinf(result.l2_norm[lost]).all() and np.isinf(result.distortion[lost]).all()
    np.testing.assert_array_equal(result.adv_images[lost], images[lost])
    assert (result.penalty_weight[lost] == 0).all()


@pytest.mark.parametrize("target", [0, 5])  # 0 is what argmax answers to NaN
def test_non_finite_model_is_told_and_spoils_no_other_row(solver, digits, targets, target):
    params = regression(1e-4)
    weights = params["weights"].copy()
    weights[0] = 0.0  # so that no other row has a reason to move its first pixel
    images, targets = digits.images[:8].copy(), targets[:8].copy()
    healthy = run(solver, {**params, "weights": weights}, images, targets)
    images[2, 0, 0, 0], targets[2] = 1.0, target
    poisoned = {**params, "weights": weights, "poison": np.float32(0.5)}
    result = run(solver, poisoned, images, targets)
    assert result.status[2] == AttackStatus.NON_FINITE
    assert not result.success[2]
    assert np.isinf(result.l2_norm[2]) and np.isinf(result.distortion[2])
    np.testing.assert_array_equal(result.adv_images[2], images[2])
    others = np.arange(8) != 2
    assert result.success[others].all()
    np.testing.assert_allclose(result.l2_norm[others], healthy.l2_norm[others], rtol=1e-3)


def test_nan_beyond_the_start_is_no_success(solver):
    """Logits are finite at x and NaN where the way to the target (class 0) leads."""
    weights, biases = np.zeros((PIXELS, CLASSES)), np.full(CLASSES, -1e3)
    weights[0, 0], biases[:2] = 10.0, (-8.0, 0.0)  # class 0 from x0 = 0.8 on
    params = make_params(weights, biases, poison=0.5)
    result = run(solver, params, hand_image(0.3, 0.5), [0])
    assert not result.success[0] and np.isinf(result.l2_norm[0])
    assert result.status[0] in (AttackStatus.NON_FINITE, AttackStatus.NOT_REACHED)
    np.testing.assert_array_equal(result.adv_images[0], hand_image(0.3, 0.5)[0])


def test_float64(solver, digits, targets):
    params, images = regression(1e-4), digits.images[:8]
    with jax.enable_x64(True):
        params64 = {name: array.astype(np.float64) for name, array in params.items()}
        result = run(solver, params64, images.astype(np.float64), targets[:8])
    assert result.adv_images.dtype == np.float64 and result.l2_norm.dtype == np.float64
    assert result.success.all()
    exact = exact_norms(params, images, targets[:8])
    assert (result.l2_norm >= exact * (1 - 1e-6)).all()
    assert (result.l2_norm[exact > 0] / exact[exact > 0]).mean() < 1.12
    single = run(solver, params, images, targets[:8])
    np.testing.assert_allclose(single.l2_norm, result.l2_norm, rtol=0.02)


# ---- the objective


def test_norm_is_safe_at_zero():
    r = jnp.array([3.0, 0.0, 0.0, -4.0])
    norm, unit = norm_and_unit(r)
    assert norm == 5.0
    np.testing.assert_allclose(unit, r / 5)
    norm, unit = norm_and_unit(jnp.zeros(4))
    assert norm == 0.0
    np.testing.assert_array_equal(unit, jnp.zeros(4))
    assert np.isfinite(norm_and_unit(jnp.full(4, 1e-15))[1]).all()


def explicit(params, z, image, target, c, squared_norm):
    """|r| + loss / c as the paper writes it, for automatic differentiation away from r = 0."""
    logits = z.ravel() @ params["weights"] + params["biases"]
    norm = jnp.linalg.norm(z - image)
    return norm ** (2 if squared_norm else 1) + (jax.nn.logsumexp(logits) - logits[target]) / c


@pytest.mark.parametrize("squared_norm", [False, True])
def test_objective(digits, squared_norm):
    params, image = regression(1e-4), digits.images[0]
    objective = penalty_objective(
        Partial(logits_of, params), image, 3, 0.5, squared_norm=squared_norm
    )
    z = np.clip(image + 0.1, 0, 1)
    logits = z.ravel() @ params["weights"] + params["biases"]
    loss = np.log(np.exp(logits).sum()) - logits[3]
    norm = np.linalg.norm(z - image)
    expected = (norm**2 if squared_norm else norm) + loss / 0.5
    value, grad = objective(z)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    numeric = jax.grad(lambda z: explicit(params, z, image, 3, 0.5, squared_norm))(jnp.asarray(z))
    np.testing.assert_allclose(grad, numeric, rtol=1e-4, atol=1e-5)
    value, grad = objective(image)  # r = 0
    assert np.isfinite(value) and np.isfinite(grad).all()
    assert np.abs(grad).max() > 0


# ---- choosing targets


def test_attack_is_seeded(solver, digits):
    params, images, labels = regression(1e-4), digits.images[:8], digits.labels[:8]
    logits_fn = Partial(logits_of, params)
    options = {"num_lanes": LANES, "solver": solver}
    first, targets = attack.attack_batch(
        logits_fn, images, labels, key=jax.random.key(3), **options
    )
    assert targets.shape == (8,) and (targets != labels).all()
    second, same = attack.attack_batch(logits_fn, images, labels, key=jax.random.key(3), **options)
    np.testing.assert_array_equal(targets, same)
    for name, a, b in zip(first._fields, first, second, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)
    _, others = attack.attack_batch(logits_fn, images, labels, key=jax.random.key(4), **options)
    assert (targets != others).any()


def test_attack_fixed_target(solver, digits):
    params = regression(1e-4)
    result, targets = attack.attack_batch(
        Partial(logits_of, params), digits.images[:8], digits.labels[:8], targets="fixed",
        target_class=7, num_lanes=LANES, solver=solver,
    )  # fmt: skip
    assert (targets == 7).all()
    assert (predict(params, result.adv_images) == 7).all()


def test_best_is_no_worse_than_any_single_target(solver, digits):
    params, images, labels = regression(1e-4), digits.images[:8], digits.labels[:8]
    best, chosen = attack.attack_batch(
        Partial(logits_of, params), images, labels, targets="best", num_lanes=LANES, solver=solver
    )
    assert (chosen != labels).all() and best.success.all()
    np.testing.assert_array_equal(predict(params, best.adv_images), chosen)
    norms = np.linalg.norm((best.adv_images - images).reshape(8, -1), axis=1)
    np.testing.assert_allclose(best.l2_norm, norms, rtol=1e-5)
    evals = np.zeros(8, int)
    smallest = np.full(8, np.inf)
    for offset in range(1, 10):
        single = run(solver, params, images, (labels + offset) % 10)
        smallest = np.minimum(smallest, single.l2_norm)
        evals += single.num_evals
    np.testing.assert_array_equal(best.l2_norm, smallest)
    np.testing.assert_array_equal(best.num_evals, evals)


# ---- bad input


def linear(images):
    if images.shape[1:] != SHAPE:
        raise TypeError("this model takes 8x8 images\nand says it at length")
    return images.reshape(len(images), -1)[:, :CLASSES]


def torch_like(images):
    raise TypeError(f"linear(): argument 'input' must be Tensor, not {type(images).__name__}")


def bad(images=None, targets=None, logits_fn=linear, **options):
    good = np.full((2, *SHAPE), 0.5, np.float32)
    images = good if images is None else images
    targets = np.array([1, 2]) if targets is None else targets
    return lambda: attack.minimal_perturbation(logits_fn, images, targets, **options)


def pixel(value):
    images = np.full((2, *SHAPE), 0.5, np.float32)
    images[1, 2, 3] = value
    return images


BAD_INPUTS = {
    "NaN": (bad(pixel(np.nan)), "image 1 has pixels outside the bounds or NaN"),
    "infinite": (bad(pixel(np.inf)), "image 1 has pixels outside"),
    "above": (bad(pixel(1.5)), "image 1 has pixels outside the bounds.*0.5 to 1.5"),
    "below": (bad(pixel(-0.1)), "image 1 has pixels outside the bounds.*-0.1"),
    "integers": (bad(np.zeros((2, *SHAPE), np.uint8)), "dtype uint8"),
    "empty": (bad(np.zeros((0, *SHAPE), np.float32), np.zeros(0, int)), "at least one"),
    "one number per image": (bad(np.float32([0.1, 0.2])), r"shape \(2,\)"),
    "too few targets": (bad(targets=np.array([1])), r"target_labels have shape \(1,\)"),
    "one-hot targets": (bad(targets=np.eye(10)[:2]), r"target_labels have shape \(2, 10\)"),
    "float targets": (bad(targets=np.array([1.0, 2.0])), "target_labels.*(dtype|integer)"),
    "target 10": (bad(targets=np.array([1, 10])), "target_labels.*(0 to 9|10)"),
    "target -1": (bad(targets=np.array([-1, 1])), "target_labels.*0 to 9"),
    "crossed": (bad(bounds=(1.0, 0.0)), "lower exceeds upper"),
    "NaN bounds": (bad(bounds=(0.0, np.nan)), "bounds"),
    "one bound": (bad(bounds=1.0), "bounds must be"),
    "three bounds": (bad(bounds=(0.0, 0.5, 1.0)), "bounds must be"),
    "odd bounds": (bad(bounds=(np.zeros(5), 1.0)), "bounds must be .* broadcast"),
    "model's shape": (
        bad(np.zeros((2, 9, 9, 1), np.float32)),
        r"logits_fn cannot take images \(2, 9, 9, 1\): this model takes 8x8 images$",
    ),
    "PyTorch's": (bad(logits_fn=torch_like), "must be Tensor.*attack intriguing.torch.logits_fn"),
    "no logits": (bad(logits_fn=lambda x: x.sum()), "must return logits"),
    "a pair": (bad(logits_fn=lambda x: (linear(x), {})), "must return logits"),
    "solver": (bad(solver="newton"), 'solver is "newton".*jaxopt'),
    "num_lanes": (bad(num_lanes=0), "num_lanes is 0"),
    "num_penalties": (bad(num_penalties=0), "num_penalties is 0"),
    "maxiter": (bad(maxiter=-1), "maxiter is -1"),
    "history_size": (bad(history_size=0), "history_size is 0"),
    "tol 0": (bad(tol=0.0), "tol is 0"),
    "tol NaN": (bad(tol=float("nan")), "tol is nan"),
}


@pytest.mark.parametrize("case", BAD_INPUTS)
def test_bad_input_is_one_line(case):
    call, message = BAD_INPUTS[case]
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("message", ["", "\n"])
def test_a_model_that_raises_without_a_word(message):
    def silent(images):
        raise AssertionError(message)

    with pytest.raises(InputError, match="cannot take images"):
        bad(logits_fn=silent)()


def test_the_smaller_of_two_attacks(net, digits, targets):
    first, second = (
        run("batched", net, digits.images[:8], targets[:8], squared_norm=squared, refine=False)
        for squared in (False, True)
    )
    lost = first._replace(l2_norm=np.where(np.arange(8) == 3, np.inf, first.l2_norm))
    both = attack.smaller(lost, second)
    np.testing.assert_array_equal(both.l2_norm, np.minimum(lost.l2_norm, second.l2_norm))
    norms = np.linalg.norm((both.adv_images - digits.images[:8]).reshape(8, -1), axis=1)
    np.testing.assert_allclose(norms, both.l2_norm, rtol=1e-5)
    assert both.l2_norm[3] == second.l2_norm[3]
    np.testing.assert_array_equal(both.num_evals, first.num_evals + second.num_evals)


BAD_LABELS = {
    "counted from 1": (lambda y: y + 1, r"labels span 1 to 3: the classes are 0 to 2"),
    "negative": (lambda y: y - 1, "labels span -1 to 1"),
    "one-hot": (lambda y: np.eye(3)[y], r"labels have shape \(3, 3\)"),
    "too few": (lambda y: y[:2], r"labels have shape \(2,\): one per image"),
    "a number": (lambda y: 1, r"labels have shape \(\)"),
    "floats": (lambda y: y.astype(float), "labels have dtype float64: give integers"),
}


@pytest.mark.parametrize("rule", ["random", "runner_up", "best"])
@pytest.mark.parametrize("case", BAD_LABELS)
def test_labels_of_no_class_are_refused(case, rule):
    change, message = BAD_LABELS[case]
    images, labels = np.full((3, 4), 0.5, np.float32), np.arange(3)
    with pytest.raises(InputError, match=f"^{message}"):
        attack.attack_batch(
            lambda x: x[:, :3], images, change(labels), targets=rule, key=jax.random.key(0)
        )
    with pytest.raises(InputError, match=r"images have shape \(0, 4\)"):
        attack.attack_batch(lambda x: x[:, :3], images[:0], labels[:0], targets=rule)


def test_bytes_in_the_other_order_are_the_same_numbers(net, digits, targets):
    images = digits.images[:8]
    turned = images.astype(images.dtype.newbyteorder())
    assert not turned.dtype.isnative
    found, expected = (
        attack.minimal_perturbation(Partial(logits_of, net), each, targets[:8], num_lanes=LANES)
        for each in (turned, images)
    )
    np.testing.assert_array_equal(found.adv_images, expected.adv_images)
    assert found.adv_images.dtype == np.float32
