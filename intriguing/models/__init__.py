"""The models: linen modules that map images in [0, 1] to (logits, activations)."""

import functools

import flax.linen as nn
import jax
import numpy as np
from jax.tree_util import Partial

from intriguing.models.alexnet import alexnet, alexnet_single_tower
from intriguing.models.autoencoder import Autoencoder, AutoencoderClassifier
from intriguing.models.conv_net import ConvNet
from intriguing.models.fully_connected import FullyConnected
from intriguing.models.googlenet import googlenet
from intriguing.models.layer_graph import LayerGraph, Node, chain, conv_relu
from intriguing.models.layers import Conv, Dense, MaxPool, Relu, Sigmoid
from intriguing.models.squeezenet import squeezenet

MODELS = {
    "fully_connected": FullyConnected,
    "conv_net": ConvNet,
    "autoencoder": Autoencoder,
    "autoencoder_classifier": AutoencoderClassifier,
}
IMAGENET = {  # function of the number of classes, and the side of its images
    "alexnet": (alexnet, 227),
    "alexnet_single_tower": (alexnet_single_tower, 224),
    "squeezenet": (squeezenet, 227),
    "googlenet": (googlenet, 224),
}


@functools.cache
def _logits_of(model: nn.Module, above: str | None):
    # One function object per model, so that jit caches by architecture and not by call.
    options = {} if above is None else {"above": above}

    def apply(variables, images):
        return model.apply(variables, images, **options)[0]

    return apply


def logits_fn(model: nn.Module, variables, above: str | None = None) -> Partial:
    """Binds variables to a model: a function from images (batch, ...) to logits (batch, classes).

    It is a pytree: jitted functions that take it as an argument see the variables as inputs, not as
    constants, and are compiled once for all variables of one architecture. With `above`, the name
    of a layer, it maps that layer's activations to logits.
    """
    return Partial(_logits_of(model, above), variables)


@functools.cache
def _activations_of(model: nn.Module):
    @jax.jit
    def apply(variables, images):
        return model.apply(variables, images)[1]

    return apply


def activations(model: nn.Module, variables, images, layer: str, batch_size: int = 1000):
    """Activations (num, ...) of one layer on images (num, ...), a numpy array; "images": these."""
    if layer == "images":
        return np.asarray(images)
    apply, parts = _activations_of(model), []
    for start in range(0, len(images), batch_size):
        parts.append(np.asarray(apply(variables, images[start : start + batch_size])[layer]))
    return np.concatenate(parts)


def layers_of(model: nn.Module) -> tuple[Node, ...]:
    """The layers of any of our models, as a list; their weights have the nodes' names."""
    nodes: list[Node] = []
    match model:
        case LayerGraph():
            return model.nodes
        case FullyConnected():
            sizes = (*model.hidden_sizes, model.num_classes)
            for i, size in enumerate(sizes, start=1):
                chain(nodes, (f"fc{i}", Dense(size)), (f"sigmoid{i}", Sigmoid()))
            nodes.pop()
        case AutoencoderClassifier():
            chain(nodes, ("encoder", Dense(model.num_units)), ("sigmoid", Sigmoid()),
                  ("classifier", Dense(model.num_classes)))  # fmt: skip
        case ConvNet():
            for i, maps in enumerate(model.features, start=1):
                conv_relu(nodes, f"conv{i}", Conv(maps, 5, pad=2))
                chain(nodes, (f"pool{i}", MaxPool(2, 2)))
            chain(nodes, ("fc1", Dense(model.num_units)), ("relu_fc1", Relu()),
                  ("fc2", Dense(model.num_classes)))  # fmt: skip
        case _:
            raise TypeError(f"{type(model).__name__} has no list of layers")
    return tuple(nodes)


def num_params(model: nn.Module, image_shape: tuple[int, ...]) -> int:
    """Number of parameters for images of `image_shape` (without batch); nothing is allocated."""
    images = jax.ShapeDtypeStruct((1, *image_shape), jax.numpy.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    return sum(leaf.size for leaf in jax.tree.leaves(params))
