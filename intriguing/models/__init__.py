"""The models: linen modules that map images in [0, 1] to (logits, activations)."""

import functools

import flax.linen as nn
import jax
from jax.tree_util import Partial

from intriguing.models.autoencoder import Autoencoder, AutoencoderClassifier
from intriguing.models.fully_connected import FullyConnected

MODELS = {
    "fully_connected": FullyConnected,
    "autoencoder": Autoencoder,
    "autoencoder_classifier": AutoencoderClassifier,
}


@functools.cache
def _logits_of(model: nn.Module):
    # One function object per model, so that jit caches by architecture and not by call.
    def apply(variables, images):
        return model.apply(variables, images)[0]

    return apply


def logits_fn(model: nn.Module, variables) -> Partial:
    """Binds variables to a model: a function from images (batch, ...) to logits (batch, classes).

    It is a pytree: jitted functions that take it as an argument see the variables as inputs, not as
    constants, and are compiled once for all variables of one architecture.
    """
    return Partial(_logits_of(model), variables)


def num_params(model: nn.Module, image_shape: tuple[int, ...]) -> int:
    """Number of parameters for images of `image_shape` (without batch); nothing is allocated."""
    images = jax.ShapeDtypeStruct((1, *image_shape), jax.numpy.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    return sum(leaf.size for leaf in jax.tree.leaves(params))
