"""AE400-10: a one-layer sparse autoencoder, and the softmax classifier on its frozen code."""

import jax
import jax.numpy as jnp

from intriguing.models.layer_graph import LECUN, LayerGraph, Node, chain
from intriguing.models.layers import Dense, Sigmoid


def autoencoder(num_units: int, num_pixels: int) -> LayerGraph:
    """One hidden layer of sigmoid units, `code`, that reconstructs its input.

    Args:
      num_units: units of the code.
      num_pixels: of an image, all channels.

    Its logits are those of the pixels: the reconstruction is their sigmoid, (batch, num_pixels).
    """
    return _on_code(num_units, "decoder", num_pixels)


def autoencoder_classifier(num_units: int = 400, num_classes: int = 10) -> LayerGraph:
    """The encoder of an `autoencoder` and a softmax layer, `classifier`, on its code: AE400-10."""
    return _on_code(num_units, "classifier", num_classes)


def _on_code(num_units: int, top: str, num_outputs: int) -> LayerGraph:
    nodes: list[Node] = []
    chain(nodes, ("encoder", Dense(num_units)), ("code", Sigmoid()), (top, Dense(num_outputs)))
    return LayerGraph(tuple(nodes), init_kernel=LECUN)


def sparsity_penalty(code: jax.Array, sparsity: float) -> jax.Array:
    """Sum over units of KL(sparsity || mean activation): a scalar that is 0 when all means agree.

    The sparse autoencoder of Ng's CS294A notes: each sigmoid unit of `code` (batch, units) is asked
    to be on for a fraction `sparsity` of the images.
    """
    mean = jnp.clip(code.mean(axis=0), 1e-6, 1 - 1e-6)  # a dead unit must not make log(0)
    kl = sparsity * jnp.log(sparsity / mean)
    kl += (1 - sparsity) * jnp.log((1 - sparsity) / (1 - mean))
    return kl.sum()
