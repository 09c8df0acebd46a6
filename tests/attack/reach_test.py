"""A linear program knows which classes an image of the box can be: the attack finds all of them."""

import jax
import numpy as np
import scipy.optimize

from intriguing import attack

NUM_PIXELS, NUM_CLASSES, NUM_IMAGES = 8, 60, 150


def top_margin(weights, bias, label: int) -> float:
    """The largest margin of a class that any image in [0, 1]^n has."""
    others = np.delete(np.arange(NUM_CLASSES), label)
    differ = (weights[:, [label]] - weights[:, others]).T.astype(np.float64)
    found = scipy.optimize.linprog(
        np.r_[np.zeros(NUM_PIXELS), -1.0],
        A_ub=np.c_[-differ, np.ones(NUM_CLASSES - 1)], b_ub=bias[label] - bias[others],
        bounds=[(0, 1)] * NUM_PIXELS + [(None, None)],
    )  # fmt: skip
    return -found.fun


def test_tiny_regions_are_reached_and_empty_ones_are_not():
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(NUM_PIXELS, NUM_CLASSES)).astype(np.float32)
    offsets = rng.normal(0, 2, NUM_CLASSES)
    bias = (offsets - weights.sum(axis=0) / 2).astype(np.float32)
    margins = np.array([top_margin(weights, bias, label) for label in range(NUM_CLASSES)])
    assert ((margins > 1e-3) & (margins < 0.5)).any() and (margins < -1e-3).any()
    logits_fn = jax.tree_util.Partial(lambda p, x: x @ p[0] + p[1][None], (weights, bias))
    images = rng.uniform(size=(NUM_IMAGES, NUM_PIXELS)).astype(np.float32)
    labels = (images @ weights + bias).argmax(axis=1)
    wanted = (labels + rng.integers(1, NUM_CLASSES, NUM_IMAGES)) % NUM_CLASSES
    found = attack.minimal_perturbation(logits_fn, images, wanted)
    np.testing.assert_array_equal(found.success[margins[wanted] > 1e-3], True)
    np.testing.assert_array_equal(found.success[margins[wanted] < -1e-3], False)
