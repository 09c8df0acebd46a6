"""Tests for intriguing/models/quocnet.py: against loops in NumPy, and its size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from intriguing.models import quocnet
from intriguing.models.quocnet import QuocNet, Stage

RNG = np.random.default_rng(0)


def naive_filters(x, kernel, stage):
    """Each field on its own."""
    before = stage.pad // 2
    padding = (before, stage.pad - before)
    x = np.pad(x, [(0, 0), padding, padding, (0, 0)])
    rows, columns, maps, _ = kernel.shape
    out = np.zeros((len(x), rows, columns, maps))
    for row in range(rows):
        for column in range(columns):
            top, left = row * stage.stride, column * stage.stride
            field = x[:, top : top + stage.field, left : left + stage.field]
            out[:, row, column] = field.reshape(len(x), -1) @ kernel[row, column].T
    return out


@pytest.mark.parametrize(
    "stage", [Stage(3, 2, 1, 0), Stage(4, 3, 2, 1), Stage(5, 1, 3, 4), Stage(7, 2, 1, 6)]
)
def test_filters_are_those_of_a_loop(stage):
    x = RNG.normal(size=(2, 9, 11, 3)).astype(np.float32)
    shape = quocnet.kernel_shape(stage, x.shape[1:])
    kernel = RNG.normal(size=shape).astype(np.float32)
    found = quocnet.untied_filters(x, kernel, stage)
    assert found.shape == (2, *shape[:3])
    np.testing.assert_allclose(found, naive_filters(x, kernel, stage), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [3, 4])
def test_l2_pool_is_that_of_a_loop(size, stride):
    x = RNG.normal(size=(2, 7, 8, 3)).astype(np.float32)
    padded = np.pad(x, [(0, 0), *[((size - 1) // 2, size // 2)] * 2, (0, 0)])
    wanted = np.stack(
        [
            [
                np.sqrt((padded[:, i : i + size, j : j + size] ** 2).sum(axis=(1, 2)))
                for j in range(0, 8, stride)
            ]
            for i in range(0, 7, stride)
        ]
    ).transpose(2, 0, 1, 3)
    np.testing.assert_allclose(quocnet.l2_pool(x, size, stride), wanted, rtol=1e-5)


def test_l2_pool_has_a_gradient_at_zero():
    value, grad = jax.value_and_grad(lambda x: quocnet.l2_pool(x, 3, 1).sum())(
        jnp.zeros((1, 4, 4, 2))
    )
    assert value == 0
    np.testing.assert_array_equal(grad, 0)


@pytest.mark.parametrize("per_map", [False, True])
@pytest.mark.parametrize("floor", [0.01, 1.0])
def test_contrast_normalisation_is_that_of_a_loop(floor, per_map):
    size, x = 5, RNG.normal(size=(2, 8, 9, 3))
    offsets = np.arange(size) - 2
    line = np.exp(-0.5 * (offsets / (size / 4)) ** 2)

    def mean(values):
        out = np.zeros(values.shape)
        for i in range(8):
            for j in range(9):
                rows, columns = np.meshgrid(i + offsets, j + offsets, indexing="ij")
                inside = (rows >= 0) & (rows < 8) & (columns >= 0) & (columns < 9)
                weights = (line[:, None] * line)[inside]
                picked = values[:, rows[inside], columns[inside]]
                out[:, i, j] = weights @ picked / weights.sum()
        return out

    centred = x - mean(x if per_map else x.mean(axis=-1, keepdims=True))
    contrast = np.sqrt(mean((centred**2).mean(axis=-1, keepdims=True)))
    assert (contrast < floor).any() == (floor == 1)
    wanted = centred / np.maximum(contrast, floor)
    found = quocnet.contrast_normalise(x.astype(np.float32), size, floor, per_map=per_map)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_contrast_normalisation_ignores_brightness_and_contrast():
    x = RNG.uniform(size=(1, 9, 9, 2)).astype(np.float32)
    found = (quocnet.contrast_normalise(each, 5) for each in (x, 3 * x + 0.5))
    np.testing.assert_allclose(*found, atol=1e-4)


def test_a_flat_image_gives_zeros_and_no_nan():
    model = QuocNet((Stage(3, 2, 1, 2), Stage(3, 2, 1, 2)), input_norm=3)
    images = jnp.full((1, 8, 8, 3), 0.5)
    variables = jax.jit(model.init)(jax.random.key(0), images)

    @jax.jit
    def loss(images):
        return model.apply(variables, images)[0].sum()

    assert np.isfinite(loss(images))
    assert np.isfinite(jax.jit(jax.grad(loss))(images)).all()


def test_activations_are_named_and_shaped():
    stages = (Stage(4, 3, 2, 2, pool_stride=2), Stage(3, 5, 1, 2))
    model = QuocNet(stages, num_classes=4)
    images = RNG.uniform(size=(2, 16, 16, 3)).astype(np.float32)
    variables = jax.jit(model.init)(jax.random.key(0), images)
    logits, activations = jax.jit(model.apply)(variables, images)
    assert logits.shape == (2, 4)
    assert {k: v.shape for k, v in activations.items()} == {
        "stage1": (2, 4, 4, 3), "stage2": (2, 4, 4, 5),
    }  # fmt: skip
    for num, name in enumerate(activations, start=1):
        run = jax.jit(quocnet.run_stages, static_argnums=(0, 3))
        found = run(model, variables["params"], images, num)
        np.testing.assert_allclose(found, activations[name], rtol=1e-5, atol=1e-5)


def test_full_size_has_a_billion_parameters():
    images = jax.ShapeDtypeStruct((1, 200, 200, 3), jnp.float32)
    params = jax.eval_shape(QuocNet().init, jax.random.key(0), images)["params"]
    shapes = {name: params[name]["kernel"].shape for name in params}
    assert shapes == {
        "stage1": (184, 184, 8, 18 * 18 * 3),
        "stage2": (168, 168, 8, 18 * 18 * 8),
        "stage3": (152, 152, 8, 18 * 18 * 8),
        "classifier": (152 * 152 * 8, 2),
    }
    filters = sum(np.prod(shape) for name, shape in shapes.items() if name != "classifier")
    assert filters == 1_327_601_664
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 1_327_971_330
    for rows in (184, 168, 152):
        assert rows % 8 == 0  # eight devices share them evenly
