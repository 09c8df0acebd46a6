"""Images changed without a search: Gaussian noise, random directions, amplified perturbations.

What adversarial images are compared with (the paper's section 4.2, tables 2 and 4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from intriguing import keys

if TYPE_CHECKING:
    from jax.typing import ArrayLike
    from jaxtyping import Array, Float, Int, Key


@jax.jit
def gaussian_noise(
    key: Key[Array, ""],
    indices: Int[ArrayLike, " batch"],
    images: Float[ArrayLike, " batch *pixels"],
    stddev: float,
) -> Float[Array, " batch *pixels"]:
    """images + stddev * N(0, 1), not clipped, so that its distortion is `stddev`: (batch, ...).

    Image i draws from `fold_in(key, indices[i])`, so its noise does not depend on the batch.
    """

    base = keys.independent(key)

    def draw(index, image):
        return image + stddev * jax.random.normal(jax.random.fold_in(base, index), image.shape)

    return jax.vmap(draw)(indices, images)


def amplify(
    images: Float[ArrayLike, " batch *pixels"],
    adv_images: Float[ArrayLike, " batch *pixels"],
    stddev: float,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Float[np.ndarray, " batch *pixels"]:
    """Scales each perturbation to a root mean square of `stddev`, then clips to the box.

    The clipping can only shorten it. An image that was not changed stays as it is. (The paper's
    section 4.2 prints a formula that would make the *norm* 0.1; its table says stddev.)

    Args:
      images, adv_images: (batch, ...).
      stddev: of the perturbation, in pixels.
      bounds: (lower, upper), scalars.
    """
    change = np.asarray(adv_images) - np.asarray(images)
    rms = np.sqrt(np.mean(change**2, axis=tuple(range(1, change.ndim)), keepdims=True))
    scale = np.divide(stddev, rms, out=np.zeros_like(rms), where=rms > 0)
    return np.clip(images + scale * change, *bounds).astype(change.dtype)


@jax.jit
def move_randomly(key: jax.Array, indices: jax.Array, images: jax.Array, stddevs: jax.Array):
    """images + a random direction of root mean square `stddevs` (batch,), not clipped.

    Image i draws from `fold_in(key, indices[i])`.
    """

    base = keys.independent(key)

    def draw(index, image, stddev):
        noise = jax.random.normal(jax.random.fold_in(base, index), image.shape)
        return image + stddev * noise / jnp.sqrt(jnp.mean(noise**2))

    return jax.vmap(draw)(indices, images, stddevs)
