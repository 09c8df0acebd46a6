"""Networks given as a list of layers: the forward pass of AlexNet, SqueezeNet and GoogLeNet."""

from collections.abc import Mapping
from typing import NamedTuple

import flax.linen as nn
import jax

from intriguing.models.layers import WITH_WEIGHTS, Conv, Dropout, Layer, Relu


class Node(NamedTuple):
    """A layer in a network: its name, what it computes, and the names of its inputs.

    "images" is the input of the network.
    """

    name: str
    layer: Layer
    inputs: tuple[str, ...]


def chain(nodes: list[Node], *layers: tuple[str, Layer], start: str | None = None) -> str:
    """Appends (name, layer) pairs, each on top of the last, the first on `start`.

    `start` is the last of `nodes` if it is not given. Returns the name of the last layer.
    """
    for name, layer in layers:
        below = start or (nodes[-1].name if nodes else "images")
        nodes.append(Node(name, layer, (below,)))
        start = None
    return nodes[-1].name


def conv_relu(nodes: list[Node], name: str, conv: Conv, start: str | None = None) -> str:
    """`chain` of a convolution and a ReLU, `relu_<name>`."""
    return chain(nodes, (name, conv), (f"relu_{name}", Relu()), start=start)


class LayerGraph(nn.Module):
    """A network without loops.

    Attributes:
      nodes: its layers, each after its inputs; the last one gives the logits.
      init_biases: start value of biases that are not 0, by layer.
      init_stddev: of normal distributed start weights; None: He et al. 2015.
    """

    nodes: tuple[Node, ...]
    init_biases: Mapping[str, float] = nn.FrozenDict()
    init_stddev: float | None = None

    @nn.compact
    def __call__(
        self, images: jax.Array, *, train: bool = False
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images (batch, h, w, c) in [0, 1] to logits and the activations of every node.

        Convolutions give (batch, h, w, features) before their non-linearity, which is a node of its
        own. `train` drops units out and needs a "dropout" PRNG.
        """
        activations = {"images": images}
        for name, layer, inputs in self.nodes:
            xs = [activations[below] for below in inputs]
            if isinstance(layer, WITH_WEIGHTS):
                xs += Weights(
                    layer.kernel_shape(xs[0].shape[1:]), self.init_biases.get(name, 0.0),
                    self.init_stddev, name=name,
                )()  # fmt: skip
            elif isinstance(layer, Dropout):
                xs.append(self.make_rng("dropout") if train else None)
            activations[name] = layer(*xs)
        return activations[name], activations


class Weights(nn.Module):
    """Kernel and bias of one layer."""

    shape: tuple[int, ...]
    init_bias: float
    init_stddev: float | None

    @nn.compact
    def __call__(self) -> tuple[jax.Array, jax.Array]:
        """(kernel, bias)."""
        stddev = self.init_stddev
        init = nn.initializers.he_normal() if stddev is None else nn.initializers.normal(stddev)
        bias = nn.initializers.constant(self.init_bias)
        return self.param("kernel", init, self.shape), self.param("bias", bias, self.shape[-1:])
