"""Tests for intriguing/models"""

from typing import get_args

import jax
import numpy as np
import pytest
import scipy.signal

from intriguing import models
from intriguing.experiments import specs
from intriguing.models.autoencoder import sparsity_penalty

IMAGE_SHAPE = (28, 28, 1)
# Weights and biases of each layer, added up by hand: 784 * 10 + 10 = 7,850 and so on.
MODEL_SIZES = {
    "FC10": ("fully_connected", models.fully_connected(), 7_850),
    "FC100-100-10": ("fully_connected", models.fully_connected((100, 100)), 89_610),
    "FC200-200-10": ("fully_connected", models.fully_connected((200, 200)), 199_210),
    "FC123-456-10": ("fully_connected", models.fully_connected((123, 456)), 157_669),
    # 5 * 5 * 1 * 16 + 16 = 416; 5 * 5 * 16 * 32 + 32 = 12,832; two poolings leave 7 * 7 * 32 =
    # 1,568 inputs: 1,568 * 200 + 200 = 313,800; 200 * 10 + 10 = 2,010.
    "ConvNet": ("conv_net", models.conv_net((16, 32), 200), 329_058),
    "AE400": ("autoencoder", models.autoencoder(400, 784), 628_384),
    "AE400-10": ("autoencoder_classifier", models.autoencoder_classifier(400), 318_010),
}
ACTIVATIONS = {
    # what each hidden layer gives on: {layer with weights: (name of its output, units)}
    "FC10": {},
    "FC100-100-10": {"fc1": ("fc1_sigmoid", 100), "fc2": ("fc2_sigmoid", 100)},
    "FC200-200-10": {"fc1": ("fc1_sigmoid", 200), "fc2": ("fc2_sigmoid", 200)},
    "FC123-456-10": {"fc1": ("fc1_sigmoid", 123), "fc2": ("fc2_sigmoid", 456)},
    "AE400": {"encoder": ("code", 400)},
    "AE400-10": {"encoder": ("code", 400)},
    "ConvNet": {"conv1": ("pool1", (14, 14, 16)), "conv2": ("pool2", (7, 7, 32)),
                "fc1": ("fc1_relu", 200)},
}  # fmt: skip


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(size=(3, *IMAGE_SHAPE)).astype(np.float32)


def test_every_family_has_a_size():
    families = {kind.family for kind in get_args(specs.SMALL)}
    assert {family for family, _, _ in MODEL_SIZES.values()} == {*families, "autoencoder"}
    assert MODEL_SIZES.keys() == ACTIVATIONS.keys()


@pytest.mark.parametrize("name", MODEL_SIZES)
def test_num_params(name):
    _, model, size = MODEL_SIZES[name]
    assert models.num_params(model, IMAGE_SHAPE) == size
    variables = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, *IMAGE_SHAPE)))
    assert set(variables) == {"params"}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def layer_in_numpy(x, params, relu):
    """A hidden layer: dense, or a convolution (height, width, maps in, maps out) and pooling."""
    kernel, bias = params["kernel"], params["bias"]
    if kernel.ndim == 2:
        x = x.reshape(len(x), -1) @ kernel + bias
        return np.maximum(x, 0) if relu else sigmoid(x)
    maps = np.empty((*x.shape[:3], kernel.shape[3]))
    for i, out in np.ndindex(len(x), kernel.shape[3]):
        maps[i, ..., out] = bias[out] + sum(
            scipy.signal.correlate(x[i, ..., j], kernel[..., j, out], mode="same")
            for j in range(kernel.shape[2])
        )
    num, height, width, _ = maps.shape
    blocks = maps.reshape(num, height // 2, 2, width // 2, 2, -1)
    return np.maximum(blocks.max(axis=(2, 4)), 0)


@pytest.mark.parametrize("name", MODEL_SIZES)
def test_outputs_are_those_of_a_forward_pass_in_numpy(name, images):
    family, model, _ = MODEL_SIZES[name]
    variables = model.init(jax.random.key(1), images)
    # Biases begin at 0, where a forgotten one would not be noticed.
    rng = np.random.default_rng(2)
    variables = jax.tree.map(lambda a: a + 0.01 * rng.normal(size=a.shape), variables)
    logits, activations = model.apply(variables, images)
    assert logits.shape == (3, 784 if family == "autoencoder" else 10)
    for layer, units in ACTIVATIONS[name].values():
        assert activations[layer].shape == (3, *np.atleast_1d(units))

    params = jax.tree.map(lambda a: np.asarray(a, np.float64), variables["params"])
    x = images.astype(np.float64)
    for layer, (output, _) in ACTIVATIONS[name].items():
        x = layer_in_numpy(x, params[layer], relu=family == "conv_net")
        np.testing.assert_allclose(activations[output], x, rtol=1e-4, atol=1e-6)
    (top,) = params.keys() - ACTIVATIONS[name].keys()
    expected = x.reshape(3, -1) @ params[top]["kernel"] + params[top]["bias"]
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_num_classes(images):
    for model in (models.fully_connected((5,), 3), models.autoencoder_classifier(5, 3)):
        logits, _ = model.apply(model.init(jax.random.key(0), images), images)
        assert logits.shape == (3, 3)


def deep_net(images, **options):
    model = models.fully_connected((6, 5), **options)
    return model, model.init(jax.random.key(0), images)


def test_above_runs_the_layers_above(images):
    model, variables = deep_net(images)
    logits, activations = model.apply(variables, images)
    for i, layer in enumerate(("images", "fc1_sigmoid", "fc2_sigmoid")):
        start = images if layer == "images" else activations[layer]
        found, above = model.apply(variables, start, above=layer)
        np.testing.assert_array_equal(found, logits)
        assert list(above) == [layer, *(node.name for node in model.nodes[2 * i :])]
        bound = models.logits_fn(model, variables, above=layer)
        np.testing.assert_array_equal(bound(start), logits)
    np.testing.assert_array_equal(models.logits_fn(model, variables)(images), logits)


def test_dropout_acts_in_training_only(images):
    model, variables = deep_net(images, dropout_rates=(0.2, 0.5, 0.5))
    plain, plain_variables = deep_net(images)
    assert jax.tree.structure(variables) == jax.tree.structure(plain_variables)
    assert models.num_params(model, IMAGE_SHAPE) == models.num_params(plain, IMAGE_SHAPE)
    expected = plain.apply(variables, images)[0]
    np.testing.assert_array_equal(model.apply(variables, images)[0], expected)

    def train(seed, **options):
        rngs = {"dropout": jax.random.key(seed)}
        return model.apply(variables, images, train=True, rngs=rngs, **options)[0]

    assert (train(0) != expected).all() and (train(0) != train(1)).all()
    np.testing.assert_array_equal(train(0), train(0))
    same = plain.apply(variables, images, train=True)[0]  # needs no key
    np.testing.assert_array_equal(same, expected)


@pytest.mark.parametrize("layer", ["images", "fc1_sigmoid"])
def test_dropout_of_each_layer_s_inputs(layer):
    """Layers that hand their inputs on: what comes out is what was not dropped."""
    rates = {"images": 0.25, "fc1_sigmoid": 0.75}
    model = models.fully_connected((10,), dropout_rates=tuple(rates.values()))
    identity = {"kernel": np.eye(10, dtype=np.float32), "bias": np.zeros(10, np.float32)}
    inputs = np.random.default_rng(0).uniform(0.5, 1, size=(2000, 10)).astype(np.float32)
    found, activations = model.apply(
        {"params": {"fc1": identity, "fc2": identity}}, inputs, above=layer, train=True,
        rngs={"dropout": jax.random.key(0)},
    )  # fmt: skip
    if layer == "images":
        hidden = np.asarray(activations["fc1_sigmoid"], np.float64)
        found = np.log(hidden / (1 - hidden))
    dropped = np.abs(found) < 1e-6
    # 20,000 draws: the share is known to 0.3%.
    assert dropped.mean() == pytest.approx(rates[layer], abs=0.02)
    kept = inputs / (1 - rates[layer])
    np.testing.assert_allclose(np.asarray(found)[~dropped], kept[~dropped], rtol=1e-4)
    assert found.mean() == pytest.approx(inputs.mean(), rel=0.06)


@pytest.mark.parametrize("name", ["FC123-456-10", "ConvNet"])
def test_activations_of_many_images(name, images):
    model = MODEL_SIZES[name][1]
    variables = model.init(jax.random.key(0), images)
    assert models.activations(model, variables, images, "images") is images
    expected = model.apply(variables, images)[1]
    for layer, _ in ACTIVATIONS[name].values():
        for batch_size in (2, 1000):
            found = models.activations(model, variables, images, layer, batch_size=batch_size)
            assert isinstance(found, np.ndarray)
            np.testing.assert_allclose(found, expected[layer], rtol=1e-4, atol=1e-6)


def test_a_change_of_variables_compiles_nothing(images):
    """`logits_fn` is an argument of jitted functions: one compilation for one architecture."""
    num_traces = 0

    @jax.jit
    def call(logits_fn, images):
        nonlocal num_traces
        num_traces += 1
        return logits_fn(images)

    logits = []
    for seed in range(3):
        model = models.fully_connected((4,))  # another object, the same architecture
        variables = model.init(jax.random.key(seed), images)
        logits.append(call(models.logits_fn(model, variables), images))
        np.testing.assert_allclose(logits[-1], model.apply(variables, images)[0], rtol=1e-5)
    assert num_traces == 1
    assert (logits[0] != logits[1]).any()
    other = models.fully_connected((5,))
    call(models.logits_fn(other, other.init(jax.random.key(0), images)), images)
    assert num_traces == 2


def test_sparsity_penalty_by_hand():
    code = np.array([[0.1, 0.0, 0.9], [0.3, 0.4, 0.7]])  # means 0.2, 0.2, 0.8
    assert sparsity_penalty(code[:, :2], 0.2) == pytest.approx(0, abs=1e-6)
    expected = 0.2 * np.log(0.2 / 0.8) + 0.8 * np.log(0.8 / 0.2)
    assert sparsity_penalty(code, 0.2) == pytest.approx(expected, rel=1e-5)
    assert sparsity_penalty(code, 0.3) > 0


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_sparsity_penalty_of_dead_and_stuck_units_is_finite(value):
    code = np.full((4, 3), value, np.float32)
    found, grad = jax.value_and_grad(sparsity_penalty)(code, 0.05)
    assert np.isfinite(found) and found > 0
    assert np.isfinite(grad).all()
