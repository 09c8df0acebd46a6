"""The small net that Wong and Kolter (2018) train to be provably robust, for MNIST and CIFAR-10."""

from intriguing.models.layer_graph import TORCH_DEFAULT, LayerGraph, Node, chain, conv_relu
from intriguing.models.layers import Conv, Dense, Normalise, Relu

CIFAR = Normalise(1.0, (0.485, 0.456, 0.406), (0.225, 0.225, 0.225))


def robust_small(num_classes: int = 10, normalise: Normalise | None = None) -> LayerGraph:
    """Two 4x4 convolutions of stride 2, a hidden layer of 100; `normalise` None: pixels as is."""
    nodes: list[Node] = []
    if normalise:
        chain(nodes, ("data", normalise))
    conv_relu(nodes, "conv1", Conv(16, 4, 2, 1))
    conv_relu(nodes, "conv2", Conv(32, 4, 2, 1))
    chain(nodes, ("fc1", Dense(100)), ("fc1_relu", Relu()), ("fc2", Dense(num_classes)))
    return LayerGraph(tuple(nodes), init_kernel=TORCH_DEFAULT)
