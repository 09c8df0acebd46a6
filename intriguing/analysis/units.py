"""Is a single unit special? Top images of directions in activation space (section 3, figures 1-4).

For the images in which a direction is largest: how alike they are, in class, in pixels and in the
activation space itself; and whether units do better than random directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

if TYPE_CHECKING:
    from jax.typing import ArrayLike
    from jaxtyping import Float, Int


class Coherence(NamedTuple):
    """How alike the top images of each direction are; one number per direction, (directions,).

    Fields:
      purity: share of the images that have the commonest label.
      entropy: of the labels, in bits.
      pixel_distance: mean Euclidean distance between two of the images.
      feature_distance: the same between their activations.
    """

    purity: Float[np.ndarray, " directions"]
    entropy: Float[np.ndarray, " directions"]
    pixel_distance: Float[np.ndarray, " directions"]
    feature_distance: Float[np.ndarray, " directions"]


class Comparison(NamedTuple):
    """Two sets of directions compared on one measure.

    Fields: `difference` of the means (first - second); `low`, `high`, its 95% confidence interval
    (bootstrap over directions); `p_value`, two-sided, of a permutation test.
    """

    difference: float
    low: float
    high: float
    p_value: float


def random_directions(key: jax.Array, num: int, num_units: int) -> np.ndarray:
    """Directions drawn uniformly from the sphere: float32 (num, num_units), of length 1."""
    directions = jax.random.normal(key, (num, num_units))
    return np.asarray(directions / jnp.linalg.norm(directions, axis=-1, keepdims=True))


@jax.jit
def _project(activations, directions):
    return directions @ activations.T


def top_images(
    activations: Float[ArrayLike, " images units"],
    directions: Float[ArrayLike, " directions units"] | None,
    k: int,
    chunk_size: int = 512,
) -> Int[np.ndarray, " directions k"]:
    """The k images in which each direction is largest: argmax_x <phi(x), v>.

    Args:
      activations: (images, units).
      directions: (directions, units); None: every unit itself, the natural basis.
      k: how many, at most the number of images.
      chunk_size: directions at a time; memory is chunk_size * images.

    Returns:
      int (directions, k), the largest first; of equal values the first image.
    """
    found, num = [], activations.shape[1] if directions is None else len(directions)
    for start in range(0, num, chunk_size):
        if directions is None:
            values = np.asarray(activations[:, start : start + chunk_size]).T
        else:
            values = np.asarray(_project(activations, directions[start : start + chunk_size]))
        found.append(np.argsort(-values, axis=1, kind="stable")[:, :k])
    return np.concatenate(found)


def live_units(activations, k: int) -> np.ndarray:
    """Units that tell at least k images from the rest: int (units,).

    A ReLU unit that is 0 in all but a few images has no k top ones: which are taken would depend on
    their order in the file.
    """
    activations = np.asarray(activations)
    above_least = (activations > activations.min(axis=0)).sum(axis=0)
    return np.flatnonzero(above_least >= k)


def coherence(
    top: Int[np.ndarray, " directions k"],
    labels: Int[ArrayLike, " images"],
    images: Float[ArrayLike, " images *pixels"],
    activations: Float[ArrayLike, " images units"],
    num_classes: int,
) -> Coherence:
    """Measures each row of `top`, (directions, k) indices of images.

    Args:
      top: of `top_images`, or random indices as a control.
      labels: (images,) int.
      images: (images, ...); activations: (images, units).
      num_classes: of the labels.
    """
    counts = np.stack([(np.asarray(labels)[top] == c).sum(axis=1) for c in range(num_classes)], 1)
    shares = counts / top.shape[1]
    logs = np.log2(shares, where=shares > 0, out=np.zeros_like(shares))
    return Coherence(
        shares.max(axis=1),
        -(shares * logs).sum(axis=1),
        mean_distances(np.asarray(images).reshape(len(images), -1), top),
        mean_distances(np.asarray(activations), top),
    )


def mean_distances(vectors: np.ndarray, groups: np.ndarray, chunk_size: int = 256) -> np.ndarray:
    """Mean Euclidean distance between two of each group's vectors.

    Args:
      vectors: (num, size).
      groups: int (groups, k), k at least 2.

    Returns:
      (groups,).
    """
    upper = np.triu_indices(groups.shape[1], 1)
    norms, found = np.einsum("ij,ij->i", vectors, vectors), []
    for start in range(0, len(groups), chunk_size):
        group = groups[start : start + chunk_size]
        members = vectors[group]
        products = members @ members.transpose(0, 2, 1)
        squares = norms[group][:, :, None] + norms[group][:, None, :] - 2 * products
        found.append(np.sqrt(np.maximum(squares[:, *upper], 0)).mean(axis=1))
    return np.concatenate(found)


def compare(first: Sequence[float], second: Sequence[float], seed: int = 0) -> Comparison:
    """Compares the means of one measure over two sets of directions.

    1,999 permutations and as many bootstrap samples: the smallest p-value is 0.001.
    """

    def difference(x, y, axis=-1):
        return np.mean(x, axis=axis) - np.mean(y, axis=axis)

    options = {"n_resamples": 1999, "vectorized": True, "batch": 50, "rng": seed}
    samples = (np.asarray(first, float), np.asarray(second, float))
    test = scipy.stats.permutation_test(samples, difference, **options)
    interval = scipy.stats.bootstrap(
        samples, difference, method="percentile", **options
    ).confidence_interval
    return Comparison(
        float(difference(*samples)), float(interval.low), float(interval.high), float(test.pvalue)
    )
