"""Softmax regression and sigmoid nets: FC10, FC100-100-10, FC200-200-10, FC123-456-10."""

import flax.linen as nn
import jax


class FullyConnected(nn.Module):
    """Dense sigmoid layers and a linear one on top, on flattened images (the paper's section 4.2).

    Attributes:
      hidden_sizes: units of each hidden layer, bottom to top; () is softmax regression (FC10).
      num_classes: units of the top layer.

    Layers are named fc1, fc2, ... from bottom to top.
    """

    hidden_sizes: tuple[int, ...] = ()
    num_classes: int = 10

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images (batch, ...) in [0, 1] to logits (batch, num_classes) and activations.

        The activations hold the output of every hidden layer under its name, (batch, units).
        """
        activations = {}
        x = images.reshape(len(images), -1)
        for i, size in enumerate(self.hidden_sizes, start=1):
            x = nn.sigmoid(nn.Dense(size, name=f"fc{i}")(x))
            activations[f"fc{i}"] = x
        logits = nn.Dense(self.num_classes, name=f"fc{len(self.hidden_sizes) + 1}")(x)
        return logits, activations
