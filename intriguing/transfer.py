"""Do images made for one model fool another? (The paper's section 4.2, tables 2 and 4.)"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from intriguing.metrics import Average, error_rate
from intriguing.predict import predict


@jax.jit
def gaussian_noise(key: jax.Array, indices: jax.Array, images: jax.Array, stddev: float):
    """images + stddev * N(0, 1), not clipped, so that its distortion is `stddev`: (batch, ...).

    Image i draws from `fold_in(key, indices[i])`, so its noise does not depend on the batch.
    """

    def draw(index, image):
        return image + stddev * jax.random.normal(jax.random.fold_in(key, index), image.shape)

    return jax.vmap(draw)(indices, images)


def amplify(images, adv_images, stddev: float, bounds=(0.0, 1.0)) -> np.ndarray:
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
def random_directions(key: jax.Array, indices: jax.Array, images: jax.Array, stddevs: jax.Array):
    """images + a random direction of root mean square `stddevs` (batch,), not clipped.

    Image i draws from `fold_in(key, indices[i])`.
    """

    def draw(index, image, stddev):
        noise = jax.random.normal(jax.random.fold_in(key, index), image.shape)
        return image + stddev * noise / jnp.sqrt(jnp.mean(noise**2))

    return jax.vmap(draw)(indices, images, stddevs)


def transfer_table(
    logits_fns: Mapping[str, object], image_sets: Mapping[str, np.ndarray], images, labels
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Error that each set of changed images induces in each victim model.

    Args:
      logits_fns: victims, by name.
      image_sets: changed images by the name of what made them, (batch, ...) each, the changed
        versions of `images`.
      images: (batch, ...) clean.
      labels: (batch,) true classes.

    Returns:
      Two tables, {set: [a number per victim]}: the error rate over all images, and over those whose
      clean version the victim has right (NaN if there are none).
    """
    labels = np.asarray(labels)
    over_all = {name: [] for name in image_sets}
    over_right = {name: [] for name in image_sets}
    for logits_fn in logits_fns.values():
        right = predict(logits_fn, images) == labels
        for name, changed in image_sets.items():
            predictions = predict(logits_fn, changed)
            over_all[name].append(error_rate(predictions, labels))
            over_right[name].append(Average.of(predictions != labels, where=right).mean)
    return over_all, over_right
