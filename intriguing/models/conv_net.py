"""A small convolutional net for MNIST-sized images: the unit analysis of figures 1 and 2."""

from intriguing.models.layer_graph import LECUN, LayerGraph, Node, chain, conv_relu
from intriguing.models.layers import Conv, Dense, MaxPool, Relu


def conv_net(
    features: tuple[int, ...] = (16, 32), num_units: int = 200, num_classes: int = 10
) -> LayerGraph:
    """Blocks of 5x5 convolution, ReLU and 2x2 max pooling, a hidden layer, and a linear one on top.

    Args:
      features: maps of each convolution, bottom to top.
      num_units: units of the hidden layer.
      num_classes: units of the top layer.

    Layers are conv1, conv1_relu, pool1, conv2, ..., then fc1, fc1_relu and fc2.
    """
    nodes: list[Node] = []
    for i, maps in enumerate(features, start=1):
        conv_relu(nodes, f"conv{i}", Conv(maps, 5, pad=2))
        chain(nodes, (f"pool{i}", MaxPool(2, 2)))
    chain(nodes, ("fc1", Dense(num_units)), ("fc1_relu", Relu()), ("fc2", Dense(num_classes)))
    return LayerGraph(tuple(nodes), init_kernel=LECUN)
