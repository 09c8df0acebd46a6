"""A small convolutional net for MNIST-sized images: the unit analysis of figures 1 and 2."""

import flax.linen as nn
import jax


class ConvNet(nn.Module):
    """Blocks of 5x5 convolution, ReLU and 2x2 max pooling, a hidden layer, and a linear one on top.

    Attributes:
      features: maps of each convolution, bottom to top.
      num_units: units of the hidden layer.
      num_classes: units of the top layer.

    Layers are named conv1, conv2, ..., then fc1 and fc2.
    """

    features: tuple[int, ...] = (16, 32)
    num_units: int = 200
    num_classes: int = 10

    @nn.compact
    def __call__(
        self, images: jax.Array, *, train: bool = False
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images (batch, height, width, channels) to logits (batch, classes) and activations.

        The activations hold what each block gives after pooling, (batch, height, width, maps), and
        `fc1` (batch, num_units), after its ReLU.
        """
        del train
        activations, x = {}, images
        for i, maps in enumerate(self.features, start=1):
            x = nn.relu(nn.Conv(maps, (5, 5), name=f"conv{i}")(x))
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
            activations[f"conv{i}"] = x
        x = nn.relu(nn.Dense(self.num_units, name="fc1")(x.reshape(len(x), -1)))
        activations["fc1"] = x
        return nn.Dense(self.num_classes, name="fc2")(x), activations
