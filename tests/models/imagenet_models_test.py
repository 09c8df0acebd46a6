"""Tests for intriguing/models/{layers,layer_graph,alexnet,squeezenet,googlenet}.py"""

import os
from pathlib import Path

import jax
import numpy as np
import pytest

from intriguing import models
from intriguing.models import import_weights
from intriguing.models.layers import Conv, Dropout, LocalResponseNorm, MaxPool, MeanPool

WEIGHTS = Path(os.environ.get("INTRIGUING_DATA", "")) / "weights"
# AlexNet: the paper of 2012 and torchvision publish the first two. SqueezeNet, GoogLeNet: the sizes
# of the arrays that their authors distribute, added up.
NUM_PARAMS = {
    "alexnet": 60_965_224,
    "alexnet_single_tower": 61_100_840,
    "squeezenet": 1_235_496,
    "googlenet": 6_998_552,
}


@pytest.mark.parametrize("name", models.IMAGENET)
def test_number_of_parameters(name):
    build, image_size = models.IMAGENET[name]
    assert models.num_params(build(), (image_size, image_size, 3)) == NUM_PARAMS[name]
    fewer = models.num_params(build(num_classes=10), (image_size, image_size, 3))
    inputs = {"squeezenet": 512, "googlenet": 1024}.get(name, 4096)
    assert NUM_PARAMS[name] - fewer == 990 * (inputs + 1)


@pytest.mark.parametrize("name", models.IMAGENET)
def test_every_node_is_an_activation(name):
    build, image_size = models.IMAGENET[name]
    model, images = build(), jax.ShapeDtypeStruct((2, image_size, image_size, 3), np.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    logits, activations = jax.eval_shape(model.apply, variables, images)
    assert logits.shape == (2, 1000)
    assert set(activations) == {"images", *(node.name for node in model.nodes)}
    known = {"images"}
    for node in model.nodes:
        assert set(node.inputs) <= known, node
        assert node.name not in known
        known.add(node.name)
    hash(model)  # jitted functions take models as static arguments


# ---- against PyTorch


def to_torch(images):
    import torch

    return torch.tensor(np.asarray(images)).permute(0, 3, 1, 2)


def from_torch(images):
    return images.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("size", range(5, 14))
@pytest.mark.parametrize(("window", "stride", "pad"), [(3, 2, 0), (3, 1, 1), (2, 2, 0), (3, 2, 1)])
@pytest.mark.parametrize("ceil", [False, True])
def test_max_pool(size, window, stride, pad, ceil):
    torch = pytest.importorskip("torch")
    images = np.random.default_rng(0).normal(size=(2, size, size + 1, 3)).astype(np.float32)
    theirs = torch.nn.functional.max_pool2d(to_torch(images), window, stride, pad, ceil_mode=ceil)
    ours = MaxPool(window, stride, pad, ceil)(images)
    np.testing.assert_array_equal(ours, from_torch(theirs))


@pytest.mark.parametrize("size", [1, 4, 5])
def test_local_response_norm(size):
    torch = pytest.importorskip("torch")
    images = 100 * np.random.default_rng(0).normal(size=(2, 3, 3, 7)).astype(np.float32)
    theirs = torch.nn.functional.local_response_norm(to_torch(images), size, 1e-2 * size, 0.75, 2)
    ours = LocalResponseNorm(size, 1e-2, 0.75, 2)(images)
    np.testing.assert_allclose(ours, from_torch(theirs), rtol=1e-5)


@pytest.mark.parametrize("conv", [Conv(6, 3), Conv(6, 5, 2, 2, 3), Conv(4, 4, 3, 1, 2)])
def test_conv(conv):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, 9, 11, 6)).astype(np.float32)
    kernel = rng.normal(size=conv.kernel_shape(images.shape[1:])).astype(np.float32)
    bias = rng.normal(size=conv.features).astype(np.float32)
    theirs = torch.nn.functional.conv2d(
        to_torch(images), torch.tensor(kernel.transpose(3, 2, 0, 1).copy()), torch.tensor(bias),
        conv.stride, conv.pad, groups=conv.groups,
    )  # fmt: skip
    np.testing.assert_allclose(conv(images, kernel, bias), from_torch(theirs), atol=1e-4)


def torch_of(model, params, images):
    """The network in PyTorch's layers, with `params`: written for AlexNet's kinds of layers."""
    import torch
    from torch.nn import functional as F

    x = (torch.tensor(images) if not model.nodes[0].layer.reverse else
         torch.tensor(images[..., ::-1].copy()))  # fmt: skip
    first = model.nodes[0].layer
    x = ((first.scale * x - torch.tensor(first.mean)) / torch.tensor(first.std)).permute(0, 3, 1, 2)
    for name, layer, _ in model.nodes[1:]:
        kind = type(layer).__name__
        if name in params:
            kernel = torch.tensor(params[name]["kernel"])
            bias = torch.tensor(params[name]["bias"])
        if kind == "Conv":
            x = F.conv2d(x, kernel.permute(3, 2, 0, 1), bias, layer.stride, layer.pad,
                         groups=layer.groups)  # fmt: skip
        elif kind == "Dense":
            x = x.permute(0, 2, 3, 1).flatten(1) if x.ndim == 4 else x
            x = F.linear(x, kernel.T, bias)
        elif kind == "MaxPool":
            x = F.max_pool2d(x, layer.window, layer.stride)
        elif kind == "LocalResponseNorm":
            x = F.local_response_norm(x, layer.size, layer.alpha * layer.size, layer.beta, layer.k)
        elif kind == "Relu":
            x = F.relu(x)
        else:
            assert kind == "Dropout"
    return x.numpy()


@pytest.mark.parametrize("name", ["alexnet", "alexnet_single_tower"])
def test_alexnet_is_that_of_pytorch(name):
    pytest.importorskip("torch")
    build, image_size = models.IMAGENET[name]
    model, rng = build(), np.random.default_rng(0)
    images = rng.uniform(size=(2, image_size, image_size, 3)).astype(np.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images[:1])["params"]
    params = jax.tree.map(  # He et al.'s, so that no layer's output fades away
        lambda x: rng.normal(0, np.sqrt(2 / max(1, np.prod(x.shape[:-1]))), x.shape)
        .astype(np.float32), shapes,
    )  # fmt: skip
    ours = jax.jit(model.apply)({"params": params}, images)[0]
    theirs = torch_of(model, params, images)
    assert np.abs(theirs).max() > 0.1
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())


# ---- against the reference outputs of the pretrained nets (../shared/data/README.md)


@pytest.mark.parametrize(
    ("name", "folder"), [("squeezenet", "squeezenet_v1.1"), ("googlenet", "bvlc_googlenet")]
)
@pytest.mark.skipif(not WEIGHTS.is_dir(), reason="INTRIGUING_DATA has no weights/")
def test_pretrained(name, folder):
    weights = import_weights.load(WEIGHTS / folder / f"{folder}.npz", name)
    reference = np.load(WEIGHTS / folder / "reference_16.npz")
    images = (reference["x_uint8_rgb_nhwc"] / 255).astype(np.float32)
    logits = jax.jit(weights.model.apply)({"params": weights.params}, images)[0]
    np.testing.assert_allclose(logits, reference["logits_float64"], atol=1e-4)
    np.testing.assert_array_equal(logits.argmax(1), reference["logits_float64"].argmax(1))


# ---- the forward pass itself


def test_dropout_only_in_training():
    x = np.ones((4, 1000), np.float32)
    np.testing.assert_array_equal(Dropout(0.5)(x, None), x)
    dropped = np.asarray(Dropout(0.25)(x, jax.random.key(0)))
    assert set(np.unique(dropped)) == {0, np.float32(1 / 0.75)}
    assert abs(dropped.mean() - 1) < 0.05


def test_training_drops_units_of_alexnet():
    model = models.IMAGENET["alexnet_single_tower"][0](num_classes=3)
    images = np.random.default_rng(0).uniform(size=(1, 64, 64, 3)).astype(np.float32)
    variables = model.init(jax.random.key(0), images)
    keys = jax.random.split(jax.random.key(1))
    first, second = (
        model.apply(variables, images, train=True, rngs={"dropout": key})[0] for key in keys
    )
    again = model.apply(variables, images, train=True, rngs={"dropout": keys[0]})[0]
    assert not np.allclose(first, second)
    np.testing.assert_array_equal(first, again)


def test_mean_pool():
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    np.testing.assert_allclose(MeanPool()(x), x.reshape(2, 12, 5).mean(1), rtol=1e-5)
