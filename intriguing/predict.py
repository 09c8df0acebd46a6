"""Runs a `logits_fn` over many images, a batch at a time."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.tree_util import Partial


def as_partial(logits_fn) -> Partial:
    """A pytree that jitted functions take as an argument; wrapping twice would defeat their cache.

    The arrays of a `Partial` are inputs of what is compiled; those that any other callable closes
    over become constants of it.
    """
    return logits_fn if isinstance(logits_fn, Partial) else Partial(logits_fn)


@jax.jit
def _logits(logits_fn, images):
    return logits_fn(images)


BATCH_PIXELS = {"cpu": 2**20, "gpu": 2**25, "tpu": 2**25}  # that a forward pass gets at a time


def choose_batch_size(images) -> int:
    """Images per forward pass: 8 to 512, so that large ones fit in memory."""
    budget = BATCH_PIXELS.get(jax.default_backend(), BATCH_PIXELS["gpu"])
    return int(np.clip(budget // max(images[0].size, 1), 8, 512))


def logits(logits_fn, images, batch_size: int | None = None) -> np.ndarray:
    """Logits (num, classes) of images (num, ...), `batch_size` at a time."""
    logits_fn, parts = as_partial(logits_fn), []
    batch_size = batch_size or choose_batch_size(images)
    for start in range(0, len(images), batch_size):
        batch = np.asarray(images[start : start + batch_size])
        padding = [(0, batch_size - len(batch)), *[(0, 0)] * (batch.ndim - 1)]
        padded = np.pad(batch, padding)  # one shape, one compilation, for any number of images
        parts.append(np.asarray(_logits(logits_fn, padded))[: len(batch)])
    return np.concatenate(parts)


def predict(logits_fn, images, batch_size: int | None = None) -> np.ndarray:
    """Predicted class of each image: (num, ...) -> (num,) int."""
    return logits(logits_fn, images, batch_size).argmax(axis=-1)


def is_class(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Whether each row (batch, classes) is finite and answers its label: NaN answers nothing."""
    return jnp.isfinite(logits).all(axis=-1) & (logits.argmax(axis=-1) == labels)


def has_slow_loops(logits_fn, images, mesh: Mesh) -> bool:
    """Whether the model is slow inside a compiled loop: XLA's convolutions are, on a CPU."""
    if mesh.devices.flat[0].platform != "cpu":
        return False
    one = jax.ShapeDtypeStruct((1, *images.shape[1:]), images.dtype)
    traced = jax.make_jaxpr(lambda logits_fn, images: logits_fn(images))(as_partial(logits_fn), one)
    return "conv_general_dilated" in str(traced)
