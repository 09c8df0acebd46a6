"""The networks: lists of layers that map images in [0, 1] to (logits, activations), and QuocNet."""

import functools

import flax.linen as nn
import jax
import numpy as np
from jax.tree_util import Partial

from intriguing.models.alexnet import alexnet, alexnet_single_tower
from intriguing.models.autoencoder import autoencoder, autoencoder_classifier
from intriguing.models.conv_net import conv_net
from intriguing.models.fully_connected import fully_connected
from intriguing.models.googlenet import googlenet, googlenet_torchvision
from intriguing.models.layer_graph import LayerGraph, Node
from intriguing.models.pretrained import PRETRAINED, Architecture
from intriguing.models.quocnet import QuocNet
from intriguing.models.resnet import resnet, resnet20, resnet32
from intriguing.models.robust_small import robust_small
from intriguing.models.squeezenet import squeezenet

__all__ = [
    "PRETRAINED",
    "Architecture",
    "LayerGraph",
    "Node",
    "QuocNet",
    "activations",
    "alexnet",
    "alexnet_single_tower",
    "autoencoder",
    "autoencoder_classifier",
    "conv_net",
    "fully_connected",
    "googlenet",
    "googlenet_torchvision",
    "logits_fn",
    "num_params",
    "resnet",
    "resnet20",
    "resnet32",
    "robust_small",
    "squeezenet",
]


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


def num_params(model: nn.Module, image_shape: tuple[int, ...]) -> int:
    """Number of parameters for images of `image_shape` (without batch); nothing is allocated."""
    images = jax.ShapeDtypeStruct((1, *image_shape), jax.numpy.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    return sum(leaf.size for leaf in jax.tree.leaves(params))
