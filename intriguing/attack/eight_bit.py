"""Adversarial images as a file holds them: what survives rounding to 8 bits, and how to make it.

A minimal perturbation ends at the boundary of the class: rounding, an error of about 0.3 grey
levels in every pixel, often throws it back. (The paper is silent on this.)
"""

import io
from typing import NamedTuple

import numpy as np
from PIL import Image

from intriguing import predict
from intriguing.metrics import distortion

SCALES = 1.02 ** np.arange(0, 80)  # of the perturbation, up to 4.8 times


class EightBit(NamedTuple):
    """One row per image.

    Fields: `images` uint8; `success`, (batch,) bool, that they are their targets; `distortion`
    (batch,) of the 8-bit image, in [0, 1] pixels, infinity where not `success`; `scale` of the
    perturbation before it was rounded.
    """

    images: np.ndarray
    success: np.ndarray
    distortion: np.ndarray
    scale: np.ndarray


def to_uint8(images) -> np.ndarray:
    """Images in [0, 1], rounded to the nearest of 256 levels."""
    return np.rint(255 * np.clip(images, 0, 1)).astype(np.uint8)


def from_uint8(images) -> np.ndarray:
    """float32 in [0, 1]."""
    return np.divide(images, 255, dtype=np.float32)


def png_bytes(pixels: np.ndarray) -> bytes:
    """A PNG file of uint8 pixels (height, width, 1 or 3)."""
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()


def round_images(logits_fn, images, adv_images, target_labels, survive: bool) -> EightBit:
    """Rounds adversarial images and asks the network again.

    Args:
      logits_fn: images (batch, ...) -> logits.
      images, adv_images: (batch, ...) in [0, 1].
      target_labels: (batch,) int.
      survive: lengthen each perturbation, step by step, until its rounded image is its target.
    """
    images, adv_images = np.asarray(images), np.asarray(adv_images)
    found = to_uint8(adv_images)
    success = predict.predict(logits_fn, from_uint8(found)) == target_labels
    scale = np.ones(len(images), np.float32)
    for factor in SCALES[1:] if survive else ():
        left = np.flatnonzero(~success)
        if not len(left):
            break
        longer = to_uint8(images + factor * (adv_images - images))
        works = predict.predict(logits_fn, from_uint8(longer)) == target_labels
        new = ~success & works
        found[new], scale[new] = longer[new], factor
        success |= works
    return EightBit(
        found,
        success,
        np.where(success, np.asarray(distortion(images, from_uint8(found))), np.inf),
        scale,
    )
