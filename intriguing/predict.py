"""Runs a `logits_fn` over many images, a batch at a time."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial


def as_partial(logits_fn) -> Partial:
    """A pytree that jitted functions take as an argument; wrapping twice would defeat their cache.

    The arrays of a `Partial` are inputs of what is compiled; those that any other callable closes
    over become constants of it.
    """
    return logits_fn if isinstance(logits_fn, Partial) else Partial(logits_fn)


@functools.partial(jax.jit, static_argnames="batch_size")
def _logits(logits_fn, images, batch_size):
    return jax.lax.map(lambda x: logits_fn(x[None])[0], images, batch_size=batch_size)


def logits(logits_fn, images, batch_size: int = 2048) -> np.ndarray:
    """Logits (num, classes) of images (num, ...), `batch_size` at a time."""
    return np.asarray(_logits(as_partial(logits_fn), images, batch_size=batch_size))


def predict(logits_fn, images, batch_size: int = 2048) -> np.ndarray:
    """Predicted class of each image: (num, ...) -> (num,) int."""
    return logits(logits_fn, images, batch_size).argmax(axis=-1)


def is_class(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Whether each row (batch, classes) is finite and answers its label: NaN answers nothing."""
    return jnp.isfinite(logits).all(axis=-1) & (logits.argmax(axis=-1) == labels)
