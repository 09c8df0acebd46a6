"""Tests for ../intriguing/models"""

import jax
import numpy as np
import pytest

from intriguing import models

IMAGE_SHAPE = (28, 28, 1)
# Weights and biases of each layer, added up by hand: 784 * 10 + 10 = 7,850 and so on.
MODEL_SIZES = {
    "FC10": ("fully_connected", models.FullyConnected(), 7_850),
    "FC100-100-10": ("fully_connected", models.FullyConnected((100, 100)), 89_610),
    "FC200-200-10": ("fully_connected", models.FullyConnected((200, 200)), 199_210),
    "FC123-456-10": ("fully_connected", models.FullyConnected((123, 456)), 157_669),
    "AE400": ("autoencoder", models.Autoencoder(400), 628_384),
    "AE400-10": ("autoencoder_classifier", models.AutoencoderClassifier(400), 318_010),
}
ACTIVATIONS = {
    "FC10": {}, "FC100-100-10": {"fc1": 100, "fc2": 100}, "FC200-200-10": {"fc1": 200, "fc2": 200},
    "FC123-456-10": {"fc1": 123, "fc2": 456}, "AE400": {"encoder": 400},
    "AE400-10": {"encoder": 400},
}  # fmt: skip


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(size=(3, *IMAGE_SHAPE)).astype(np.float32)


def test_every_family_has_a_size():
    assert {family for family, _, _ in MODEL_SIZES.values()} == set(models.MODELS)
    for family, model, _ in MODEL_SIZES.values():
        assert type(model) is models.MODELS[family]
    assert MODEL_SIZES.keys() == ACTIVATIONS.keys()


@pytest.mark.parametrize("name", MODEL_SIZES)
def test_num_params(name):
    _, model, size = MODEL_SIZES[name]
    assert models.num_params(model, IMAGE_SHAPE) == size
    variables = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, *IMAGE_SHAPE)))
    assert set(variables) == {"params"}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("name", MODEL_SIZES)
def test_outputs_are_those_of_a_forward_pass_in_numpy(name, images):
    family, model, _ = MODEL_SIZES[name]
    variables = model.init(jax.random.key(1), images)
    # Biases begin at 0, where a forgotten one would not be noticed.
    rng = np.random.default_rng(2)
    variables = jax.tree.map(lambda a: a + 0.01 * rng.normal(size=a.shape), variables)
    logits, activations = model.apply(variables, images)
    assert logits.shape == (3, 784 if family == "autoencoder" else 10)
    shapes = {layer: (3, units) for layer, units in ACTIVATIONS[name].items()}
    assert {layer: array.shape for layer, array in activations.items()} == shapes

    params = jax.tree.map(lambda a: np.asarray(a, np.float64), variables["params"])
    x = images.reshape(3, 784).astype(np.float64)
    for layer in ACTIVATIONS[name]:
        x = sigmoid(x @ params[layer]["kernel"] + params[layer]["bias"])
        np.testing.assert_allclose(activations[layer], x, rtol=1e-4)
    (top,) = params.keys() - ACTIVATIONS[name].keys()
    expected = x @ params[top]["kernel"] + params[top]["bias"]
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_num_classes(images):
    for model in (models.FullyConnected((5,), 3), models.AutoencoderClassifier(5, 3)):
        logits, _ = model.apply(model.init(jax.random.key(0), images), images)
        assert logits.shape == (3, 3)


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
        model = models.FullyConnected((4,))  # another object, the same architecture
        variables = model.init(jax.random.key(seed), images)
        logits.append(call(models.logits_fn(model, variables), images))
        np.testing.assert_allclose(logits[-1], model.apply(variables, images)[0], rtol=1e-5)
    assert num_traces == 1
    assert (logits[0] != logits[1]).any()
    other = models.FullyConnected((5,))
    call(models.logits_fn(other, other.init(jax.random.key(0), images)), images)
    assert num_traces == 2


def test_sparsity_penalty_by_hand():
    code = np.array([[0.1, 0.0, 0.9], [0.3, 0.4, 0.7]])  # means 0.2, 0.2, 0.8
    penalty = models.autoencoder.sparsity_penalty
    assert penalty(code[:, :2], 0.2) == pytest.approx(0, abs=1e-6)
    expected = 0.2 * np.log(0.2 / 0.8) + 0.8 * np.log(0.8 / 0.2)
    assert penalty(code, 0.2) == pytest.approx(expected, rel=1e-5)
    assert penalty(code, 0.3) > 0


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_sparsity_penalty_of_dead_and_stuck_units_is_finite(value):
    code = np.full((4, 3), value, np.float32)
    found, grad = jax.value_and_grad(models.autoencoder.sparsity_penalty)(code, 0.05)
    assert np.isfinite(found) and found > 0
    assert np.isfinite(grad).all()
