"""Networks given as a list of layers, and their forward pass: all of ours but QuocNet."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax

from intriguing.errors import InputError
from intriguing.models.layers import WITH_WEIGHTS, Conv, Dropout, Layer, Relu

# Start values, made once: networks that were built alike must compare equal.
HE = nn.initializers.he_normal()  # He et al. 2015
LECUN = nn.initializers.lecun_normal()  # LeCun et al. 1998
GAUSSIAN = nn.initializers.normal(0.01)  # Krizhevsky et al. 2012
XAVIER = nn.initializers.variance_scaling(1.0, "fan_in", "uniform")  # Caffe's
TORCH_DEFAULT = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


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
    """`chain` of a convolution and a ReLU, `<name>_relu`."""
    return chain(nodes, (name, conv), (f"{name}_relu", Relu()), start=start)


def nodes_above(nodes: Sequence[Node], layer: str) -> tuple[Node, ...]:
    """The nodes that the output of `layer` ("images": all) goes through.

    Raises:
      InputError: there is no such layer, none above it, or some of them have other inputs as well:
        then its output alone does not give the logits.
    """
    reached, above = {layer}, []
    for node in nodes:
        known = [below in reached for below in node.inputs]
        if any(known) and not all(known):
            raise InputError(f"{node.name} has other inputs beside what comes from {layer}")
        if all(known):
            reached.add(node.name)
            above.append(node)
    if not above or above[-1] != nodes[-1]:
        known = ", ".join(["images", *(node.name for node in nodes[:-1])])
        raise InputError(f'"{layer}" is not one of the layers that others are on: {known}')
    return tuple(above)


class LayerGraph(nn.Module):
    """A network without loops.

    Attributes:
      nodes: its layers, each after its inputs; the last one gives the logits.
      init_biases: start value of biases that are not 0, by layer.
      init_kernel: start values of kernels, (key, shape) -> array.
    """

    nodes: tuple[Node, ...]
    init_biases: Mapping[str, float] = nn.FrozenDict()
    init_kernel: nn.initializers.Initializer = HE

    @nn.compact
    def __call__(
        self, images: jax.Array, *, above: str = "images", train: bool = False
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images (batch, ...) in [0, 1] to logits and the activations of every node.

        Convolutions give (batch, h, w, features) before their non-linearity, which is a node of its
        own. With `above` the name of a layer, `images` are its activations, and the layers above it
        run. `train` drops units out and needs a "dropout" PRNG.

        Raises:
          InputError: nothing can be computed from that layer's activations alone.
        """
        activations = {above: images}
        for name, layer, inputs in nodes_above(self.nodes, above):
            xs = [activations[below] for below in inputs]
            if isinstance(layer, WITH_WEIGHTS):
                xs += Weights(
                    layer.kernel_shape(xs[0].shape[1:]), self.init_biases.get(name, 0.0),
                    self.init_kernel, name=name,
                )()  # fmt: skip
            elif isinstance(layer, Dropout):
                layer = nn.Dropout(layer.rate, deterministic=not train)
            activations[name] = layer(*xs)
        return activations[name], activations


class Weights(nn.Module):
    """Kernel and bias of one layer."""

    shape: tuple[int, ...]
    init_bias: float
    init_kernel: nn.initializers.Initializer

    @nn.compact
    def __call__(self) -> tuple[jax.Array, jax.Array]:
        """(kernel, bias)."""
        bias = nn.initializers.constant(self.init_bias)
        kernel = self.param("kernel", self.init_kernel, self.shape)
        return kernel, self.param("bias", bias, self.shape[-1:])
