"""Tests for intriguing/attack/explore.py, goals.py, view.py and solve.py."""

import functools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import oracle
import pytest
from jax.sharding import PartitionSpec
from jax.tree_util import Partial

from intriguing import attack, predict, sharding
from intriguing.attack import AttackStatus, explore, explore_steps, goals
from intriguing.errors import InputError

PIXELS, CLASSES, NUM = 20, 5, 12


def relu_net(params, images):
    first, second = params
    return jax.nn.relu(images.reshape(len(images), -1) @ first - 0.3) @ second


def linear(params, images):
    return images @ params


@pytest.fixture(scope="module")
def net():
    rng = np.random.default_rng(0)
    params = tuple(np.float32(rng.normal(size=s)) for s in ((PIXELS, 16), (16, CLASSES)))
    images = rng.uniform(0.2, 0.8, (NUM, PIXELS)).astype(np.float32)
    order = np.asarray(relu_net(params, images)).argsort(axis=1)
    return Partial(relu_net, params), images, order[:, -1], order[:, -2]


@pytest.fixture(scope="module")
def weights():
    return np.float32(np.random.default_rng(2).normal(size=(PIXELS, CLASSES)))


# ---- exploring and projecting


def test_smallest_step_against_the_oracle():
    rng = np.random.default_rng(1)
    for _ in range(20):
        grad, image = rng.normal(size=10), rng.choice([0.0, 0.4, 1.0], size=10)
        offset = 0.7 * np.maximum(grad * (1 - image), grad * -image).sum()  # within reach
        step = explore_steps.smallest_step(*map(np.float32, (grad, offset, -image, 1 - image)))
        two = np.stack([np.zeros(10), grad], axis=1)
        exact = oracle.exact_minimum(two, np.array([0.0, -offset - grad @ image]), image, 1)
        assert grad @ step >= offset * (1 - 2e-4)
        assert np.linalg.norm(step) <= np.linalg.norm(exact - image) * (1 + 1e-4)


@pytest.mark.parametrize("budget", [10, 30, 100])
def test_the_budget_is_kept(net, budget):
    fn, images, labels, targets = net
    for goal, wanted in (("targeted", targets), ("untargeted", labels)):
        result = attack.minimal_perturbation(fn, images, wanted, goal=goal, budget=budget)
        assert (result.num_evals[result.status == AttackStatus.REACHED] % budget == 0).all()
        assert np.median(result.num_evals) == budget
        assert result.success.mean() > 0.8


def test_more_budget_is_no_worse_and_kinks_beat_the_penalty(net):
    fn, images, _, targets = net
    small, large, penalty = (
        attack.minimal_perturbation(fn, images, targets, **options)
        for options in ({"budget": 20}, {}, {"search": "penalty"})
    )
    assert large.success.all()
    both = small.success
    assert large.l2_norm[both].mean() <= small.l2_norm[both].mean()
    both = penalty.success
    assert large.l2_norm[both].mean() < 1.01 * penalty.l2_norm[both].mean()


def test_a_target_out_of_reach_is_tried_from_other_starts():
    """Class 1 only in a corner that no gradient at the image points to."""

    def bump(images):
        near = jax.nn.relu(0.4 - jnp.abs(images - 0.5).max(axis=1))  # at most in the middle
        return jnp.stack([jnp.full(len(images), 0.2), near], axis=1)

    result = attack.minimal_perturbation(bump, np.zeros((1, 6), np.float32), [1], budget=40)
    assert result.success.all() and result.num_evals[0] > 40 and result.num_evals[0] % 40 == 0
    none = attack.minimal_perturbation(
        lambda x: bump(x) * jnp.array([[1, 0.1]]), np.zeros((1, 6), np.float32), [1], budget=40
    )
    assert none.status.tolist() == [AttackStatus.NOT_REACHED]
    assert none.num_evals[0] == 40 * (1 + explore.RESTARTS)


def test_a_large_budget_finds_other_valleys():
    """The gradient at the image points away from the nearer boundary: one run never sees it."""

    def fn(images):
        there = images[:, 0] - 0.5
        wanted = jnp.maximum(there - 0.3, 10 * (-there - 0.1))
        return jnp.stack([jnp.zeros(len(images)), wanted], axis=1)

    images = np.full((3, 4), 0.5, np.float32)
    one, several = (
        attack.minimal_perturbation(fn, images, [1] * 3, budget=budget) for budget in (100, 900)
    )
    np.testing.assert_allclose(one.l2_norm, 0.3, rtol=1e-3)
    np.testing.assert_allclose(several.l2_norm, 0.1, rtol=1e-3)
    assert (several.num_evals <= 900).all() and (several.num_evals > 880).all()


def test_runs_go_towards_classes_that_do_not_seem_near():
    """Four logits are nearer than that of the class whose boundary is nearest."""
    num = 10
    slopes = np.full(num, 1.0)
    slopes[5] = 30.0
    weights = np.float32(np.diag(slopes))
    biases = np.float32([0.0, *(-0.1 * np.arange(1, num))])

    def fn(images):
        return images @ weights + biases[None]

    images = np.full((1, num), 0.3, np.float32)
    biases[5] -= 30 * 0.3
    biases[6:] -= 20  # its logit is the fifth
    assert fn(images)[0].argsort()[::-1].tolist().index(5) > explore.NUM_PROBES
    result = attack.minimal_perturbation(fn, images, [0], goal="untargeted", budget=900)
    margin = float(fn(images)[0, 0] - fn(images)[0, 5])
    exact = margin / np.hypot(1.0, 30.0)
    np.testing.assert_allclose(result.l2_norm, [exact], rtol=5e-3)


# ---- goals


def test_untargeted_is_the_nearest_class_of_a_linear_net(weights):
    images = np.random.default_rng(3).uniform(0.3, 0.7, (NUM, PIXELS)).astype(np.float32)
    labels = (images @ weights).argmax(axis=1)
    exact = np.min([
        [np.linalg.norm(oracle.exact_minimum(np.delete(weights, [k for k in range(CLASSES)
                                                                 if k not in (label, other)], 1),
                                             np.zeros(2), x, int(other > label)) - x)
         if other != label else np.inf for other in range(CLASSES)]
        for x, label in zip(images, labels, strict=True)
    ], axis=1)  # fmt: skip
    fn = Partial(linear, weights)
    result = attack.minimal_perturbation(fn, images, labels, goal="untargeted")
    assert result.success.all()
    assert (predict.predict(fn, result.adv_images) != labels).all()
    np.testing.assert_allclose(result.l2_norm, exact, rtol=2e-3)
    result, answers = attack.attack_batch(fn, images, labels, targets="untargeted")
    np.testing.assert_array_equal(answers, predict.predict(fn, result.adv_images))
    best, _ = attack.attack_batch(fn, images, labels, targets="best")
    assert result.l2_norm.mean() <= best.l2_norm.mean() * 1.002
    assert result.num_evals.mean() < best.num_evals.mean() / (CLASSES - 2)


def test_untargeted_costs_the_same_on_many_classes():
    rng = np.random.default_rng(4)
    weights = np.float32(rng.normal(size=(PIXELS, 1000)))
    images = rng.uniform(0.3, 0.7, (4, PIXELS)).astype(np.float32)
    labels = (images @ weights).argmax(axis=1)
    fn = Partial(linear, weights)
    evals = [
        attack.minimal_perturbation(fn, images, wanted, goal=goal).num_evals.mean()
        for goal, wanted in (("untargeted", labels), ("targeted", (labels + 1) % 1000))
    ]
    assert evals[0] <= 1.1 * evals[1]


@pytest.mark.parametrize("how", ["explore", "penalty"])
def test_goals_of_the_users_own(weights, how):
    images = np.random.default_rng(5).uniform(0.3, 0.7, (NUM, PIXELS)).astype(np.float32)
    outputs = images @ weights

    def flips(z, signs):
        return (z[:, :2] * -signs).min(axis=1)

    # Two of many labels flip at once.
    goal = attack.from_margin(flips, takes_labels=True)
    signs = np.sign(outputs[:, :2])
    fn = Partial(linear, weights)
    result = attack.minimal_perturbation(fn, images, signs, goal=goal, search=how)
    assert result.success.all()
    assert (np.sign(fn(result.adv_images)[:, :2]) == -signs).all()
    # A regression beyond a threshold: the exact distance is known.
    threshold = outputs[:, 0].max() + 0.2

    def value(images):
        return images @ weights[:, 0]

    goal = attack.from_margin(lambda z: z - threshold)
    result = attack.minimal_perturbation(value, images, goal=goal, search=how)
    assert result.success.all()
    exact = (threshold - outputs[:, 0]) / np.linalg.norm(weights[:, 0])
    free = ((result.adv_images > 0) & (result.adv_images < 1)).all(axis=1)
    assert free.any()
    np.testing.assert_allclose(result.l2_norm[free], exact[free], rtol=0.01)
    # A class that means "I do not know" is no success.
    goal = attack.from_margin(
        lambda z, label: jnp.where(jax.nn.one_hot(label, CLASSES - 1, dtype=bool), -jnp.inf,
                                   z[:, :-1]).max(axis=1)
        - jnp.maximum(jnp.take_along_axis(z, label[:, None], axis=1)[:, 0], z[:, -1]),
        takes_labels=True,
    )  # fmt: skip
    labels = outputs[:, :-1].argmax(axis=1)
    result = attack.minimal_perturbation(fn, images, labels, goal=goal, search=how)
    answers = predict.predict(fn, result.adv_images)
    assert result.success.all() and (answers != labels).all() and (answers != CLASSES - 1).all()


def test_readings_are_the_gradients_of_what_they_say():
    rng = np.random.default_rng(6)
    outputs, labels = np.float32(rng.normal(size=(6, CLASSES))), np.arange(6) % CLASSES
    scale = np.float32(rng.uniform(0.1, 3, size=6))
    own = attack.from_margin(lambda z: z[:, 0] - z[:, 1] ** 2)
    for goal in (*goals.NAMED.values(), own):
        seen = goal.read(outputs, labels, scale)
        for name in ("loss", "margin"):
            grad = jax.grad(lambda z, g=goal, n=name: getattr(g.read(z, labels, scale), n).sum())
            found = getattr(seen, f"{name}_grad")
            np.testing.assert_allclose(found, grad(outputs), rtol=1e-4, atol=1e-5)
        reached = goal.is_reached(outputs, labels)
        np.testing.assert_array_equal(reached, seen.margin > 0)


# ---- scales and units


@pytest.mark.parametrize("factor", [0.1, 0.01, 50.0])
def test_the_scale_of_the_logits_does_not_matter(net, factor):
    fn, images, _, targets = net
    one = attack.minimal_perturbation(fn, images, targets)
    other = attack.minimal_perturbation(lambda x: factor * fn(x), images, targets)
    assert other.l2_norm.mean() == pytest.approx(one.l2_norm.mean(), rel=0.01)


def test_probabilities_are_recognised_and_attacked(net):
    fn, images, _, targets = net
    with pytest.warns(UserWarning, match="probabilities"):
        result = attack.minimal_perturbation(lambda x: jax.nn.softmax(fn(x)), images, targets)
    logits = attack.minimal_perturbation(fn, images, targets)
    assert result.success.all()
    assert result.l2_norm.mean() <= 1.1 * logits.l2_norm.mean()


def test_a_class_that_the_network_masks(net):
    fn, images, *_ = net

    def masked(images):
        return jnp.where(jnp.arange(CLASSES) == 2, -jnp.inf, fn(images))

    order = np.asarray(masked(images)).argsort(axis=1)
    labels, targets = order[:, -1], order[:, -2]
    targets[:3] = 2
    for options in ({}, {"search": "penalty"}):
        result = attack.minimal_perturbation(masked, images, targets, **options)
        np.testing.assert_array_equal(result.success, targets != 2)
        assert (result.status[targets == 2] == AttackStatus.NOT_REACHED).all()
    result = attack.minimal_perturbation(masked, images, labels, goal="untargeted")
    assert result.success.all()


@pytest.mark.parametrize("options", [{}, {"search": "penalty"}, {"refine": False}])
def test_a_kink_at_the_clean_image(options):
    """|x| on a black image has the gradient x / |x|: NaN."""

    def norm_net(images, least=0.3):
        norm = jnp.sqrt((images**2).sum(axis=1))
        return jnp.stack([jnp.full(len(images), least), norm], axis=1)

    result = attack.minimal_perturbation(norm_net, np.zeros((2, 4), np.float32), [1, 1], **options)
    assert result.success.all()
    np.testing.assert_allclose(result.l2_norm, 0.3, rtol=0.05)

    def no_gradient(images):
        return norm_net(images, 30.0) + 0 * jnp.sqrt(jnp.minimum(images[:, :1], 0) * 0)

    result = attack.minimal_perturbation(
        no_gradient, np.full((1, 4), 0.01, np.float32), [1], **options
    )
    assert result.status.tolist() == [AttackStatus.NON_FINITE]


# ---- inputs


def test_a_pytree_with_a_bound_each_and_a_mask(weights):
    rng = np.random.default_rng(7)
    images = {
        "pixels": rng.uniform(size=(NUM, 3, 4)).astype(np.float32),
        "age": rng.uniform(20, 80, size=(NUM, 8)).astype(np.float32),
    }

    def fn(x):
        flat = jnp.concatenate([x["pixels"].reshape(len(x["age"]), -1), x["age"] / 100], axis=1)
        return flat @ weights

    labels = np.asarray(fn(images)).argmax(axis=1)
    held = rng.uniform(size=8) < 0.5
    age_bounds = [np.where(held, images["age"], bound) for bound in (0.0, 120.0)]
    bounds = tuple(
        {"pixels": bound, "age": age} for bound, age in zip((0.0, 1.0), age_bounds, strict=True)
    )
    scale = {"pixels": 1.0, "age": 100.0}
    result = attack.minimal_perturbation(
        fn, images, labels, goal="untargeted", bounds=bounds, scale=scale
    )
    assert result.success.all()
    adv = result.adv_images
    np.testing.assert_array_equal(adv["age"][:, held], images["age"][:, held])
    assert adv["pixels"].shape == (NUM, 3, 4) and adv["pixels"].min() >= 0
    assert (np.asarray(fn(adv)).argmax(axis=1) != labels).all()
    weighed = [(adv[name] - images[name]).reshape(NUM, -1) / scale[name] for name in images]
    norms = np.linalg.norm(np.concatenate(weighed, axis=1), axis=1)
    np.testing.assert_allclose(result.l2_norm, norms, rtol=1e-3)
    # The same as the problem that is scaled by hand.
    by_hand = np.concatenate([images["pixels"].reshape(NUM, -1), images["age"] / 100], axis=1)
    lower = np.concatenate([np.zeros((NUM, 12)), age_bounds[0] / 100], axis=1)
    upper = np.concatenate([np.ones((NUM, 12)), age_bounds[1] / 100], axis=1)
    same = attack.minimal_perturbation(
        lambda x: x @ weights, by_hand.clip(lower, upper), labels, goal="untargeted",
        bounds=(lower, upper),
    )  # fmt: skip
    np.testing.assert_allclose(result.l2_norm, same.l2_norm, rtol=1e-2)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16])
def test_half_precision_takes_no_more_evaluations(net, dtype):
    fn, images, _, targets = net
    half = images.astype(dtype)
    single = attack.minimal_perturbation(fn, half.astype(np.float32), targets)
    result = attack.minimal_perturbation(lambda x: fn(x).astype(dtype), half, targets)
    assert result.adv_images.dtype == half.dtype and result.success.all()
    assert result.num_evals.mean() <= 1.1 * single.num_evals.mean()
    assert result.l2_norm.mean() <= 1.05 * single.l2_norm.mean()
    answers = np.asarray(fn(result.adv_images).astype(dtype)).astype(np.float32).argmax(axis=1)
    np.testing.assert_array_equal(answers, targets)


def test_rows_that_depend_on_each_other_are_refused(net):
    fn, images, labels, _ = net
    key = jax.random.key(0)

    def normalised(x):
        return fn(x) - fn(x).mean(axis=0, keepdims=True)

    def dropout(x):
        return fn(x * jax.random.bernoulli(key, 0.5, x.shape))

    for model in (normalised, dropout):
        with pytest.raises(InputError, match="beside other images"):
            attack.minimal_perturbation(model, images, labels, goal="untargeted")


BAD = {
    "one binary logit": (lambda x: x[:, :1], {}, r"return \[0, z\]"),
    "integer outputs": (lambda x: jnp.round(x).astype(int), {}, "outputs must be floats"),
    "no gradient": (
        lambda x: jax.lax.while_loop(lambda c: c[1] < 3, lambda c: (2 * c[0], c[1] + 1), (x, 0))[0],
        {}, "cannot be attacked",
    ),
    "a goal that is none": (None, {"goal": "away"}, "goal is 'away'"),
    "a margin of another shape": (
        None, {"goal": attack.from_margin(lambda z: z.sum())}, "margins have shape"
    ),
    "a scale of 0": (None, {"scale": 0.0}, "scale must be positive"),
    "a budget of 3": (None, {"budget": 3}, "budget is 3: a whole number, at least"),
    "another search": (None, {"search": "grid"}, 'search is "grid".*explore'),
    "a search that is no protocol": (
        None, {"search": "explore", "refine": False}, "paper's protocol"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(net, case):
    model, options, message = BAD[case]
    with pytest.raises(InputError, match=message):
        attack.minimal_perturbation(model or net[0], net[1], net[2] * 0, **options)


def test_a_setting_inside_a_partial(net):
    def apply(params, images, train):
        return relu_net(params, images) * (0 if train else 1)

    fn, images, labels, _ = net
    result = attack.minimal_perturbation(
        Partial(apply, fn.args[0], train=False), images, labels, goal="untargeted"
    )
    assert result.success.all()


def test_a_mesh_of_the_users_own_is_refused(net):
    mesh = jax.make_mesh((1,), ("batch",))
    with pytest.raises(InputError, match=r"sharding\.make_mesh"):
        attack.minimal_perturbation(*net[:3], goal="untargeted", mesh=mesh)


# ---- solve


def test_solve_is_the_attack_under_jit_vmap_and_shard_map(net):
    fn, images, labels, _ = net
    whole = attack.minimal_perturbation(fn, images, labels, goal="untargeted")

    @jax.jit
    def jitted(images, labels):
        return attack.solve(fn, attack.problem_of(images, labels, goal="untargeted"))

    result = jitted(images, labels)
    np.testing.assert_allclose(result.l2_norm, whole.l2_norm, rtol=0.02)
    assert result.success.all() and (np.asarray(fn(result.adv_images)).argmax(1) != labels).all()

    halves = jax.jit(jax.vmap(jitted))(images.reshape(2, -1, PIXELS), labels.reshape(2, -1))
    np.testing.assert_allclose(halves.l2_norm.ravel(), result.l2_norm, rtol=0.02)

    mesh = sharding.make_mesh(1)
    spec = PartitionSpec("data")
    mapped = jax.shard_map(
        jitted, mesh=mesh, in_specs=(spec, spec), out_specs=spec, check_vma=False
    )
    np.testing.assert_allclose(mapped(images, labels).l2_norm, result.l2_norm, rtol=0.02)


def test_solve_inside_a_training_step(net):
    _, images, labels, _ = net

    @jax.jit
    def step(params):
        fn = functools.partial(relu_net, params)
        options = attack.AttackOptions(budget=10)
        found = attack.solve(fn, attack.problem_of(images, labels, goal="untargeted"), options)
        adv = jax.lax.stop_gradient(found.adv_images)

        def loss(params):
            logits = relu_net(params, adv)
            return -jax.nn.log_softmax(logits)[jnp.arange(NUM), labels].mean()

        value, grads = jax.value_and_grad(loss)(params)
        return value, jax.tree.map(lambda p, g: p - 0.01 * g, params, grads)

    params = net[0].args[0]
    value, params = step(params)
    assert np.isfinite(value) and step(params)[0] < value + 1


def test_compilations_do_not_grow_with_the_batch_sizes(net):
    fn, images, labels, _ = net
    traced = []

    def counted(params, images):
        traced.append(images.shape[0])
        return relu_net(params, images)

    model = Partial(counted, fn.args[0])
    counts = {}
    for num in (1, 5, 6, 7, 64, 6, 1, 64):
        before = len(traced)
        rows = np.arange(num) % NUM
        attack.minimal_perturbation(model, images[rows], labels[rows], goal="untargeted")
        # The shape of the whole batch is looked at once, and one image's program read.
        counts.setdefault(num, []).append(len([n for n in traced[before:] if n not in (1, num)]))
    assert counts[6] == [0, 0] and counts[7] == [0] and counts[64][1] == 0 and counts[1][1] == 0


@pytest.mark.parametrize("size", [1.0, pytest.param(100.0, marks=pytest.mark.slow)])
def test_images_beside_the_boundary_are_judged_as_they_were_found(size):
    """What crosses by less than rounding is no success of the search: a fresh pass decides."""
    rng = np.random.default_rng(3)
    params = tuple(
        np.float32(rng.normal(size=shape) * scale)
        for shape, scale in (((49, 30), 0.3), ((30, 10), size))
    )

    def net(params, images):
        return jax.nn.sigmoid(images @ params[0]) @ params[1]

    fn = Partial(net, params)
    images = rng.uniform(0.1, 0.9, (60, 49)).astype(np.float32)
    labels = np.asarray(fn(images)).argmax(axis=1)
    beside = attack.minimal_perturbation(fn, images, labels, goal="untargeted").adv_images
    for num_lanes in (None, 3):  # of other sizes of batch, sums of other orders
        back = attack.minimal_perturbation(fn, beside, labels, num_lanes=num_lanes)
        assert back.success.all(), (back.status, back.l2_norm)
        assert np.median(back.l2_norm) < 1e-4
