"""AE400-10: a one-layer sparse autoencoder, and the softmax classifier on its frozen code."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class Autoencoder(nn.Module):
    """One hidden layer of sigmoid units that reconstructs its input.

    Attributes:
      num_units: units of the code.

    Call it with images (batch, ...) in [0, 1]; it returns (reconstruction logits, activations):
    the reconstruction is the sigmoid of the first, (batch, pixels); `activations["encoder"]` is the
    code, (batch, num_units).
    """

    num_units: int = 400

    @nn.compact
    def __call__(
        self, images: jax.Array, *, train: bool = False
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        del train
        x = images.reshape(len(images), -1)
        code = nn.sigmoid(nn.Dense(self.num_units, name="encoder")(x))
        return nn.Dense(x.shape[-1], name="decoder")(code), {"encoder": code}


class AutoencoderClassifier(nn.Module):
    """The encoder of an `Autoencoder` with a softmax layer, `classifier`, on its code (AE400-10).

    Attributes:
      num_units: units of the code.
      num_classes: units of the top layer.
    """

    num_units: int = 400
    num_classes: int = 10

    @nn.compact
    def __call__(
        self, images: jax.Array, *, train: bool = False
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images (batch, ...) in [0, 1] to logits (batch, num_classes) and activations."""
        del train
        x = images.reshape(len(images), -1)
        code = nn.sigmoid(nn.Dense(self.num_units, name="encoder")(x))
        return nn.Dense(self.num_classes, name="classifier")(code), {"encoder": code}


def sparsity_penalty(code: jax.Array, sparsity: float) -> jax.Array:
    """Sum over units of KL(sparsity || mean activation): a scalar that is 0 when all means agree.

    The sparse autoencoder of Ng's CS294A notes: each sigmoid unit of `code` (batch, units) is asked
    to be on for a fraction `sparsity` of the images.
    """
    mean = jnp.clip(code.mean(axis=0), 1e-6, 1 - 1e-6)  # a dead unit must not make log(0)
    kl = sparsity * jnp.log(sparsity / mean)
    kl += (1 - sparsity) * jnp.log((1 - sparsity) / (1 - mean))
    return kl.sum()
