"""Distortion, error rate, and means over those that count."""

import jax
import jax.numpy as jnp
import numpy as np


def mean(values, where=None) -> float:
    """Mean in float64 of an array, of those entries where `where` (same shape, bool) is true.

    NaN if there are none.
    """
    values = np.asarray(values, np.float64)
    if where is not None:
        values = values[np.asarray(where, bool)]
    return float(values.mean()) if values.size else float("nan")


def l2_norm(perturbation: jax.Array) -> jax.Array:
    """Euclidean norm of each perturbation, (batch, ...) -> (batch,)."""
    return jnp.linalg.norm(perturbation.reshape(len(perturbation), -1), axis=-1)


def distortion(images: jax.Array, adv_images: jax.Array) -> jax.Array:
    """sqrt(mean_i (x'_i - x_i)^2) of each image (the paper's section 4.1): (batch,)."""
    return l2_norm(adv_images - images) / np.sqrt(max(1, images[0].size))


def error_rate(predictions, labels) -> float:
    """Fraction of predictions (batch,) that differ from labels (batch,); NaN if there are none."""
    return mean(np.asarray(predictions) != np.asarray(labels))
