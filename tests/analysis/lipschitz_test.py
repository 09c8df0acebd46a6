"""Tests for intriguing/analysis/lipschitz.py"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import intriguing
from intriguing import attack, data, models
from intriguing.analysis import lipschitz, operator_norms
from intriguing.errors import InputError
from intriguing.experiments import build, specs
from intriguing.models.layer_graph import LayerGraph, Node, chain, conv_relu
from intriguing.models.layers import (
    Add,
    Concat,
    Conv,
    Dense,
    Dropout,
    LocalResponseNorm,
    MaxPool,
    MeanPool,
    Normalise,
    PadShortcut,
    Relu,
    Sigmoid,
)

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


def test_layers_of_zeros():
    nodes = []
    conv_relu(nodes, "conv", Conv(2, 3))
    chain(nodes, ("fc", Dense(3)))
    params = {
        "conv": {"kernel": jnp.zeros((3, 3, 1, 2))}, "fc": {"kernel": jnp.zeros((18, 3))}
    }  # fmt: skip
    value, grads = jax.value_and_grad(penalty_of(nodes, (5, 5, 1)))(with_biases(params))
    assert value == 0
    assert all((np.asarray(grad) == 0).all() for grad in jax.tree.leaves(grads))
    norm, grad = jax.value_and_grad(lipschitz.dense_norm)(jnp.zeros((5, 3)))
    assert norm == 0
    assert np.isfinite(grad).all()


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


def penalty_of(nodes, image_shape):
    return jax.jit(lambda params: lipschitz.lipschitz_penalty(nodes, params, image_shape))


def with_biases(params):
    return {
        name: {**each, "bias": jnp.full(each["kernel"].shape[-1], 1e3)}
        for name, each in params.items()
    }


def layers():
    """Three dense layers on images of 6 pixels, and a function from their names to a network."""
    shapes = {"fc1": (6, 4), "fc2": (4, 5), "fc3": (5, 3)}
    kernels = {name: matrix(shape, i) * (i + 1) for i, (name, shape) in enumerate(shapes.items())}
    params = with_biases({name: {"kernel": jnp.asarray(each)} for name, each in kernels.items()})

    def network(*names):
        nodes = []
        if names:
            chain(nodes, *((name, Dense(shapes[name][1])) for name in names))
        return nodes, shapes[names[0] if names else "fc1"][:1]

    return params, network


def test_penalty_is_the_sum_of_the_squares():
    params, network = layers()
    assert penalty_of(*network("fc1"))(params) == pytest.approx(9, rel=1e-5)
    assert penalty_of(*network("fc2", "fc3"))(params) == pytest.approx(36 + 81, rel=1e-5)
    assert penalty_of(*network("fc1", "fc2", "fc3"))(params) == pytest.approx(126, rel=1e-5)
    assert penalty_of(*network())(params) == 0


def test_descent_on_the_penalty_shrinks_the_norms_it_names():
    params, network = layers()
    gradient = jax.jit(jax.grad(penalty_of(*network("fc1", "fc2"))))
    before = {name: np.linalg.svd(params[name]["kernel"], compute_uv=False) for name in params}
    for _ in range(200):
        params = jax.tree.map(lambda value, grad: value - 0.001 * grad, params, gradient(params))
    for name, factor in {"fc1": 0.998**200, "fc2": 0.998**200, "fc3": 1}.items():
        after = np.linalg.svd(params[name]["kernel"], compute_uv=False)
        # Of each layer the largest value alone is pressed down, as long as it is the largest.
        expected = before[name] * [factor, *[1] * (len(after) - 1)]
        np.testing.assert_allclose(after, expected, rtol=1e-3)
        assert (np.asarray(params[name]["bias"]) == 1e3).all()


# ---- convolutions

CONVS = [
    (Conv(5, 3, pad=1), (5, 6, 3)),
    (Conv(4, 5, pad=2), (6, 6, 1)),
    (Conv(6, 3, stride=2, pad=1, groups=2), (8, 7, 4)),
    (Conv(4, 4, stride=3), (11, 10, 2)),
    (Conv(4, 2, stride=3), (8, 8, 3)),  # some pixels are seen by nobody
    (Conv(6, 1, groups=3), (4, 5, 3)),
]


def conv_kernel(layer, shape):
    """With this seed the second singular value is below 0.991 of the first, or equal to it."""
    return np.random.default_rng(1).normal(size=layer.kernel_shape(shape))


@pytest.mark.parametrize(("layer", "shape"), CONVS)
def test_norm_of_a_convolution_is_the_exact_one(layer, shape):
    kernel = jnp.asarray(conv_kernel(layer, shape), jnp.float32)
    exact = operator_norms.exact_norm(layer, kernel, shape)
    found = [float(lipschitz.conv_norm(layer, kernel, shape, num)) for num in (1, 20, 200)]
    assert found[0] < found[1] <= found[2] * (1 + 1e-6) <= exact * (1 + 1e-5)  # from below
    assert found[1] == pytest.approx(exact, rel=0.03)
    assert found[2] == pytest.approx(exact, rel=1e-3)


@pytest.mark.parametrize(("layer", "shape"), CONVS)
def test_gradient_of_a_convolution_is_the_slope_of_its_norm(layer, shape):
    # Of the exact norm: the iteration plays no part in what is expected.
    def exact(kernel):
        def outputs(x):
            return layer(x[None], jnp.asarray(kernel), jnp.zeros(layer.features)).ravel()

        jacobian = jax.jacobian(outputs)(jnp.zeros(shape))
        return np.linalg.norm(np.asarray(jacobian).reshape(-1, int(np.prod(shape))), 2)

    with jax.enable_x64(True):
        kernel = conv_kernel(layer, shape)
        grad = jax.grad(lambda kernel: lipschitz.conv_norm(layer, kernel, shape, 300))(kernel)
        for seed in (1, 2):
            step = 1e-5 * np.random.default_rng(seed).normal(size=kernel.shape)
            slope = (exact(kernel + step) - exact(kernel - step)) / 2
            assert slope == pytest.approx(float((grad * step).sum()), rel=1e-3)


def test_penalty_counts_every_layer_with_weights():
    model, shape = branching_net(), (13, 13, 3)
    nodes, params = model.nodes, random_params(model, shape)
    shapes = lipschitz.output_shapes(nodes, params, shape)
    norms = [
        operator_norms.exact_norm(layer, params[name]["kernel"], shapes[inputs[0]])
        for name, layer, inputs in nodes
        if name in params
    ]
    assert len(norms) == 3
    expected = sum(norm**2 for norm in norms)
    assert penalty_of(nodes, shape)(params) == pytest.approx(expected, rel=0.1)


def test_training_a_convolutional_net_with_the_penalty_lowers_its_bound():
    digits = data.take(data.load("digits", "train"), slice(300))
    options = {"num_epochs": 15, "batch_size": 50, "learning_rate": 1e-2}
    totals = []
    for changes in ({}, {"lipschitz_weight": 3e-3}):
        spec = specs.ConvNet(features=(4,), num_units=16, **changes)
        model, params = build.train(spec, digits, jax.random.key(0), dict(options))
        bounds = lipschitz.lipschitz_bounds(model.nodes, params, digits.images.shape[1:])
        totals.append(bounds["fc2"].total)
        answers = model.apply({"params": params}, digits.images)[0].argmax(axis=-1)
        assert (answers == digits.labels).mean() > 0.9
    assert totals[1] < 0.8 * totals[0]


# ---- bounds of whole networks


def random_params(model, image_shape, seed=0):
    variables = model.init(jax.random.key(seed), jnp.zeros((1, *image_shape)))
    return jax.device_get(variables["params"])


def branching_net():
    """All kinds of layers, with two branches that are joined."""
    nodes = []
    chain(nodes, ("data", Normalise(2.0, (0.1, 0.2, 0.3), (0.5, 1.0, 2.0), reverse=True)))
    below = conv_relu(nodes, "conv1", Conv(4, 3, 2, 1))
    first = conv_relu(nodes, "conv2", Conv(4, 3, pad=1, groups=2), below)
    second = chain(nodes, ("norm", LocalResponseNorm(3, 0.3, 0.75, 1.0)), start=below)
    nodes.append(Node("joined", Concat(), (first, second)))
    chain(nodes, ("pool", MaxPool(3, 2, ceil=True)), ("mean", MeanPool()), ("drop", Dropout(0.5)),
          ("fc", Dense(5)))  # fmt: skip
    return LayerGraph(tuple(nodes))


def residual_net():
    """A block with a shortcut that pads, as those of ResNets."""
    nodes = []
    below = conv_relu(nodes, "conv1", Conv(6, 3, pad=1))
    branch = conv_relu(nodes, "conv2", Conv(8, 3, 2, 1), below)
    short = chain(nodes, ("shortcut", PadShortcut(8, 2)), start=below)
    nodes.append(Node("add", Add(), (branch, short)))
    chain(nodes, ("relu", Relu()), ("mean", MeanPool()), ("fc", Dense(3)))
    return LayerGraph(tuple(nodes))


NETS = {
    "branching": (branching_net(), (9, 11, 3)),
    "fully connected": (models.fully_connected((7, 6), 4), (4, 4, 1)),
    "residual": (residual_net(), (4, 4, 2)),
    "convolutional": (models.conv_net((3, 4), 6, 3), (8, 8, 1)),
    "autoencoder": (models.autoencoder_classifier(8, 3), (4, 4, 1)),
}


@pytest.mark.parametrize("name", NETS)
def test_no_jacobian_exceeds_the_bounds(name):
    model, shape = NETS[name]
    nodes, size = model.nodes, int(np.prod(shape))
    outputs = jax.jit(jax.jacobian(lambda images, params: {
        name: out.ravel() for name, out in model.apply({"params": params}, images)[1].items()
    }))  # fmt: skip
    for seed in range(5):
        params = random_params(model, shape, seed)
        bounds = lipschitz.lipschitz_bounds(nodes, params, shape)
        images = np.random.default_rng(seed).uniform(size=(1, *shape)).astype(np.float32)
        jacobians = outputs(images, params)
        assert bounds.keys() == jacobians.keys()
        for node, jacobian in jacobians.items():
            norm = np.linalg.norm(np.asarray(jacobian, float).reshape(-1, size), 2)
            assert norm <= bounds[node].total * (1 + 1e-5), node
            assert norm > 0


@pytest.mark.parametrize("pool", [MaxPool(3, 2), MaxPool(2, 2), MaxPool(3, 1, 1), MaxPool(3, 3)])
def test_overlapping_pooling_reaches_its_constant(pool):
    # One bright pixel in the middle is the maximum of all windows that hold it.
    image = np.zeros((1, 9, 9, 1), np.float32)
    ratios = []
    for row, column in np.ndindex(9, 9):
        image[:] = 0
        image[0, row, column, 0] = 1
        ratios.append(np.linalg.norm(np.ravel(pool(image))))
    assert max(ratios) == pytest.approx(lipschitz.layer_constant(pool, None, (9, 9, 1)))


@pytest.mark.parametrize("size", [1, 3, 5])
def test_response_normalisation(size):
    layer = LocalResponseNorm(size, 0.01, 0.75, 2.0)
    bound = lipschitz.layer_constant(layer, None, (1, 1, 8))
    jacobian = jax.jit(jax.vmap(jax.jacobian(layer)))
    rng = np.random.default_rng(0)
    for scale in (0.1, 1.0, 10.0, 30.0, 100.0):
        inputs = (scale * rng.normal(size=(500, 8))).astype(np.float32)
        norms = np.linalg.norm(np.asarray(jacobian(inputs), float), 2, axis=(1, 2))
        assert norms.max() <= bound
    assert bound >= 2**-0.75  # what it does to small inputs


def test_certified_radius_by_hand():
    logits = np.array([[3.0, 1.0, 0.0], [0.0, 1.0, 0.5], [2.0, 2.0, 0.0]])
    radius = lipschitz.certified_radius(logits, np.array([0, 0, 1]), 2.0)
    np.testing.assert_allclose(radius, [2 / (np.sqrt(2) * 2), 0, 0])
    pairs = np.array([[0, 4.0, 1.0], [4.0, 0, 0], [1.0, 0, 0]])  # the last two move as one
    radius = lipschitz.certified_radius(logits, np.array([0, 1, 1]), pairs)
    np.testing.assert_allclose(radius, [2 / 4, 1 / 4, 0])
    # A class that cannot change against one other is bounded by the third.
    pairs = np.array([[0, 0, 0], [0, 0, 2.0], [0, 2.0, 0]])
    assert lipschitz.certified_radius(np.array([[0, 2.0, 1.0]]), [1], pairs) == 0.5


@pytest.mark.parametrize("bound", [0.0, np.nan, np.inf, np.zeros((3, 3)), np.full((3, 3), np.nan)])
def test_a_bound_that_says_nothing_certifies_nothing(bound):
    assert (lipschitz.certified_radius(np.array([[0, 2.0, 1.0]]), [1], bound) == 0).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", [0, 1])
def test_logits_that_are_not_finite_certify_nothing(bad, column):
    logits = np.array([[0, 2.0, 1.0], [0, 2.0, 1.0]])
    logits[0, column] = bad
    radius = lipschitz.certified_radius(logits, [1, 1], 1.0)
    np.testing.assert_allclose(radius, [0, 1 / np.sqrt(2)])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("what", ["kernel", "bias"])
@pytest.mark.parametrize("name", ["conv", "fc"])
def test_weights_that_are_not_finite_have_no_bound(name, what, bad):
    nodes = (Node("conv", Conv(3, 3, 1, 1), ("images",)), Node("fc", Dense(2), ("conv",)))
    params = {
        "conv": {"kernel": np.ones((3, 3, 2, 3)), "bias": np.zeros(3)},
        "fc": {"kernel": np.ones((48, 2)), "bias": np.zeros(2)},
    }
    assert lipschitz.lipschitz_bounds(nodes, params, (4, 4, 2))["fc"].total > 0
    params[name][what].ravel()[1] = bad
    with pytest.raises(InputError, match=f"{name}/{what}: 1 of .* NaN or infinite"):
        lipschitz.lipschitz_bounds(nodes, params, (4, 4, 2))


def test_columns_that_are_nearly_alike_keep_their_distance():
    kernel = np.full((100, 2), 1e4)
    kernel[0, 1] += 1e-5  # lost in an inner product
    nodes = (Node("fc", Dense(2), ("images",)),)
    params = {"fc": {"kernel": kernel, "bias": np.zeros(2)}}
    bounds = lipschitz.lipschitz_bounds(nodes, params, (100,))
    pairs = lipschitz.difference_bounds(nodes, params, bounds, 2)
    np.testing.assert_allclose(pairs[0, 1], kernel[0, 1] - kernel[0, 0], rtol=1e-12)


def test_no_attack_gets_inside_the_certified_radius():
    model, shape = models.fully_connected((12,), 4), (3, 3, 1)
    params = jax.tree.map(lambda x: 3 * x, random_params(model, shape))
    logits_fn = models.logits_fn(model, {"params": params})
    images = np.random.default_rng(0).uniform(0.3, 0.7, size=(40, *shape)).astype(np.float32)
    logits = np.asarray(logits_fn(images))
    labels = logits.argmax(axis=1)
    nodes = model.nodes
    bounds = lipschitz.lipschitz_bounds(nodes, params, shape)
    plain = lipschitz.certified_radius(logits, labels, bounds["fc2"].total)
    pairs = lipschitz.difference_bounds(nodes, params, bounds, 4)
    radius = lipschitz.certified_radius(logits, labels, pairs)
    assert (radius > plain).all()
    found, _ = attack.attack_batch(logits_fn, images, labels, targets="best", num_lanes=40)
    assert found.success.mean() > 0.5 and (radius > 0).all()
    assert (found.l2_norm >= radius).all()


def test_pairs_certify_all_of_a_linear_model_and_no_more():
    model, shape = models.fully_connected((), 4), (3, 3, 1)
    params = random_params(model, shape)
    logits_fn, nodes = models.logits_fn(model, {"params": params}), model.nodes
    bounds = lipschitz.lipschitz_bounds(nodes, params, shape)
    pairs = lipschitz.difference_bounds(nodes, params, bounds, 4)
    kernel = np.asarray(params["fc1"]["kernel"], float)
    np.testing.assert_allclose(pairs[1, 3], np.linalg.norm(kernel[:, 1] - kernel[:, 3]), rtol=1e-9)
    assert (pairs <= np.sqrt(2) * bounds["fc1"].total * (1 + 1e-6)).all()
    images = np.random.default_rng(0).uniform(size=(20, *shape)).astype(np.float32)
    logits = np.asarray(logits_fn(images))
    radius = lipschitz.certified_radius(logits, logits.argmax(axis=1), pairs)
    # No box is in the way: the nearest class is as far as the radius says.
    found, _ = attack.attack_batch(logits_fn, images, logits.argmax(axis=1), targets="best",
                                   bounds=(-100.0, 100.0), num_lanes=20)  # fmt: skip
    assert found.success.all()
    np.testing.assert_allclose(found.l2_norm, radius, rtol=1e-3)


def test_another_layer_on_top_is_bounded_by_its_norm():
    nodes = (Node("conv", Conv(3, 1, 1), ("images",)), Node("pool", MeanPool(), ("conv",)))
    params = {"conv": {"kernel": np.ones((1, 1, 2, 3)), "bias": np.zeros(3)}}
    bounds = lipschitz.lipschitz_bounds(nodes, params, (4, 4, 2))
    pairs = lipschitz.difference_bounds(nodes, params, bounds, 3)
    np.testing.assert_allclose(pairs, np.sqrt(2) * bounds["pool"].total * (1 - np.eye(3)))


# ---- the public names


def test_a_chain_of_layers_is_bounded_as_the_network_is():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(6, 5)), rng.normal(size=(5, 3))
    chain = [(Dense(5), first), (Sigmoid(), None), (Dense(3), second)]
    norms = [np.linalg.svd(each, compute_uv=False)[0] for each in (first, second)]
    found = intriguing.lipschitz_bound(chain, image_shape=(6,))
    np.testing.assert_allclose(found, norms[0] * norms[1] / 4, rtol=1e-5)
    np.testing.assert_allclose(intriguing.operator_norm(Dense(5), first, (6,)), norms[0], rtol=1e-5)
    model = models.fully_connected((5,), 3)
    params = {"fc1": {"kernel": first, "bias": np.zeros(5)},
              "fc2": {"kernel": second, "bias": np.zeros(3)}}  # fmt: skip
    np.testing.assert_allclose(
        intriguing.lipschitz_bound(model, params, image_shape=(6,)), found, rtol=1e-6
    )


@pytest.mark.parametrize("chain", [[], [1, 2], [("dense", np.ones((2, 2)))], None])
def test_a_chain_of_something_else(chain):
    with pytest.raises(InputError, match="chain"):
        intriguing.lipschitz_bound(chain, image_shape=(2,))
