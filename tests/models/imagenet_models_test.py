"""Tests for intriguing/models/{layers,layer_graph,pretrained,alexnet,squeezenet,googlenet}.py"""

import os
from pathlib import Path

import jax
import numpy as np
import pytest
import torch_blocks

from intriguing import data, models
from intriguing.errors import InputError
from intriguing.models import import_weights
from intriguing.models.layer_graph import LayerGraph, Node, nodes_above
from intriguing.models.layers import Conv, Dropout, LocalResponseNorm, MaxPool, MeanPool
from intriguing.predict import predict

WEIGHTS = Path(os.environ.get("INTRIGUING_DATA", "")) / "weights"
# AlexNet: the paper of 2012 and torchvision publish the first two. SqueezeNet, GoogLeNet: the sizes
# of the arrays that their authors distribute, added up.
NUM_PARAMS = {
    "alexnet": 60_965_224,
    "alexnet_single_tower": 61_100_840,
    "squeezenet": 1_235_496,
    "googlenet": 6_998_552,
    "googlenet_torchvision": 6_624_904 - 7_280,  # torchvision's, less what normalisations scale by
    # He et al. 2015, table 6, give 0.27 and 0.46 million. Convolutions: 432 + 6 x 2,304 + 4,608 +
    # 5 x 9,216 + 18,432 + 5 x 36,864 = 267,696; a bias for each map, 688; 650 on top.
    "resnet20": 269_034,
    # Four more of each size of convolution: 4 x (2,304 + 9,216 + 36,864), and 4 x 112 biases.
    "resnet32": 463_018,
    # 784 + 8,224 + 204,900 + 1,010; with one channel 272 + 8,224 + 156,900 + 1,010.
    "robust_small_cifar": 214_918,
    "robust_small_mnist": 166_406,
}


@pytest.mark.parametrize("name", models.PRETRAINED)
def test_number_of_parameters(name):
    build, image_shape = models.PRETRAINED[name][:2]
    num_classes = 10 if image_shape[0] < 64 else 1000
    model = build(**next(iter(models.PRETRAINED[name].origins.values())))
    assert models.num_params(model, image_shape) == NUM_PARAMS[name]
    fewer = models.num_params(build(num_classes - 5), image_shape)
    inputs = {"squeezenet": 512, "googlenet": 1024, "googlenet_torchvision": 1024, "resnet20": 64,
              "resnet32": 64, "robust_small_cifar": 100, "robust_small_mnist": 100}  # fmt: skip
    inputs = inputs.get(name, 4096)
    assert NUM_PARAMS[name] - fewer == 5 * (inputs + 1)


@pytest.mark.parametrize("name", models.PRETRAINED)
def test_every_node_is_an_activation(name):
    build, image_shape = models.PRETRAINED[name][:2]
    model, images = build(), jax.ShapeDtypeStruct((2, *image_shape), np.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    logits, activations = jax.eval_shape(model.apply, variables, images)
    assert logits.shape == (2, 10 if image_shape[0] < 64 else 1000)
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
    build, image_shape = models.PRETRAINED[name][:2]
    model, rng = build(), np.random.default_rng(0)
    images = rng.uniform(size=(2, *image_shape)).astype(np.float32)
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


@pytest.mark.parametrize("name", ["resnet20", "resnet32"])
@pytest.mark.skipif(not WEIGHTS.is_dir(), reason="INTRIGUING_DATA has no weights/")
def test_pretrained_resnet_is_that_of_pytorch(name):
    torch = pytest.importorskip("torch")
    path = WEIGHTS / "cifar10" / f"{name}.npz"
    weights = import_weights.load(path, name)
    images, _ = cifar10(64)
    ours = jax.jit(weights.model.apply)({"params": weights.params}, images)[0]
    mean, std = (torch.tensor(each)[:, None, None] for each in (
        (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))  # fmt: skip
    theirs = torch_blocks.resnet(dict(np.load(path)), (to_torch(images) - mean) / std).numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())


def cifar10(num):
    with np.load(WEIGHTS.parent / "cifar10" / "cifar10_sample.npz") as archive:
        return (archive["x_test"][:num] / 255).astype(np.float32), archive["y_test"][:num]


# Per cent that they have right of the first 1,000 test images (../shared/data/README.md), and what
# the makers of the others say of all 10,000: 97.6 and 88.8 (Wong et al. 2018, table 2).
@pytest.mark.parametrize(
    ("name", "file", "right"),
    [("resnet20", "resnet20", 0.925), ("robust_small_cifar", "robust_small_l2", 0.562)],
)
@pytest.mark.skipif(not WEIGHTS.is_dir(), reason="INTRIGUING_DATA has no weights/")
def test_pretrained_on_cifar10(name, file, right):
    weights = import_weights.load(WEIGHTS / "cifar10" / f"{file}.npz", name)
    images, labels = cifar10(1000)
    answers = predict(models.logits_fn(weights.model, {"params": weights.params}), images)
    assert np.mean(answers == labels) == right


@pytest.mark.parametrize(("file", "least"), [("linf01", 0.97), ("linf03", 0.85)])
@pytest.mark.skipif(not WEIGHTS.is_dir(), reason="INTRIGUING_DATA has no weights/")
def test_pretrained_on_mnist(file, least):
    path = WEIGHTS / "mnist_robust" / f"robust_small_{file}.npz"
    weights = import_weights.load(path, "robust_small_mnist")
    test_set = data.load("mnist", "test", data_dir=str(WEIGHTS.parent))
    answers = predict(models.logits_fn(weights.model, {"params": weights.params}), test_set.images)
    assert np.mean(answers == test_set.labels) > least


# ---- the forward pass itself


def test_only_what_goes_through_a_layer_is_above_it():
    nodes = models.resnet20().nodes
    above = nodes_above(nodes, "layer1_0_relu")
    assert above[0].name == "layer1_1_conv1" and above[-1] == nodes[-1]
    with pytest.raises(InputError, match="layer1_1_add has other inputs beside what comes from"):
        nodes_above(nodes, "layer1_1_conv1")
    for wrong in ("linear", "fc7"):
        with pytest.raises(InputError, match=f'"{wrong}" is not one of the layers that others'):
            nodes_above(nodes, wrong)


def test_dropout_only_in_training():
    x = np.ones((4, 1000), np.float32)
    model = LayerGraph((Node("drop", Dropout(0.25), ("images",)),))
    np.testing.assert_array_equal(model.apply({}, x)[0], x)
    dropped, _ = model.apply({}, x, train=True, rngs={"dropout": jax.random.key(0)})
    assert set(np.unique(dropped)) == {0, np.float32(1 / 0.75)}
    assert abs(dropped.mean() - 1) < 0.05


def test_training_drops_units_of_alexnet():
    model = models.alexnet_single_tower(num_classes=3)
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
