"""Distortion, error rate, and averages that can be merged."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Average(NamedTuple):
    """A mean that can be merged with others: no mean of means when the last batch is smaller.

    Fields: `total`, the sum of the values counted, and `count`, how many there were.
    """

    total: float = 0.0
    count: int = 0

    @classmethod
    def of(cls, values, where=None) -> "Average":
        """Average of an array, of those entries where `where` (same shape, bool) is true."""
        values = np.asarray(values, np.float64)
        if where is not None:
            values = values[np.asarray(where, bool)]
        return cls(float(values.sum()), int(values.size))

    def merge(self, other: "Average") -> "Average":
        return Average(self.total + other.total, self.count + other.count)

    @property
    def mean(self) -> float:
        """The mean; NaN if nothing was counted."""
        return self.total / self.count if self.count else float("nan")


def l2_norm(perturbation: jax.Array) -> jax.Array:
    """Euclidean norm of each perturbation, (batch, ...) -> (batch,)."""
    return jnp.linalg.norm(perturbation.reshape(len(perturbation), -1), axis=-1)


def distortion(images: jax.Array, adv_images: jax.Array) -> jax.Array:
    """sqrt(mean_i (x'_i - x_i)^2) of each image (the paper's section 4.1): (batch,)."""
    return l2_norm(adv_images - images) / np.sqrt(max(1, images[0].size))


def error_rate(predictions, labels) -> float:
    """Fraction of predictions (batch,) that differ from labels (batch,); NaN if there are none."""
    return Average.of(np.asarray(predictions) != np.asarray(labels)).mean
