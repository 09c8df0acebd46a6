"""Softmax regression and sigmoid nets: FC10, FC100-100-10, FC200-200-10, FC123-456-10."""

import flax.linen as nn
import jax


class FullyConnected(nn.Module):
    """Dense sigmoid layers and a linear one on top, on flattened images (the paper's section 4.2).

    Attributes:
      hidden_sizes: units of each hidden layer, bottom to top; () is softmax regression (FC10).
      num_classes: units of the top layer.
      dropout_rates: in training, the fraction of the inputs of each layer that is set to 0, bottom
        to top; () drops nothing.

    Layers are named fc1, fc2, ... from bottom to top.
    """

    hidden_sizes: tuple[int, ...] = ()
    num_classes: int = 10
    dropout_rates: tuple[float, ...] = ()

    @nn.compact
    def __call__(
        self, images: jax.Array, *, above: str = "images", train: bool = False
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images (batch, ...) in [0, 1] to logits (batch, num_classes) and activations.

        The activations hold the output of every hidden layer under its name, (batch, units). With
        `above` the name of a layer, `images` are its activations, and the layers above it run.
        """
        names = ["images", *(f"fc{i}" for i in range(1, len(self.hidden_sizes) + 2))]
        sizes = (*self.hidden_sizes, self.num_classes)
        activations = {}
        x = images.reshape(len(images), -1)
        for i in range(names.index(above), len(sizes)):
            if self.dropout_rates:
                x = nn.Dropout(self.dropout_rates[i], deterministic=not train)(x)
            x = nn.Dense(sizes[i], name=names[i + 1])(x)
            if i < len(self.hidden_sizes):
                x = nn.sigmoid(x)
                activations[names[i + 1]] = x
        return x, activations
