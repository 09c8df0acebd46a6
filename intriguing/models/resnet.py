"""ResNets for CIFAR-10 (He et al. 2015, section 4.2): 6n + 2 layers, shortcuts without weights."""

from intriguing.models.layer_graph import HE, LayerGraph, Node, chain, conv_relu
from intriguing.models.layers import TORCH, Add, Conv, Dense, MeanPool, Normalise, PadShortcut, Relu

SIZES = (16, 32, 64)  # maps of the three stages


def resnet(
    blocks_per_stage: int, num_classes: int = 10, normalise: Normalise = TORCH
) -> LayerGraph:
    """The network for 32x32 images; ResNet-20 has 3 blocks per stage, 269,034 parameters here.

    Batch normalisation is folded into the convolutions (`import_weights`), each of which has a bias
    in its place: without training, the two are the same function.
    """
    nodes: list[Node] = []
    chain(nodes, ("data", normalise))
    below = conv_relu(nodes, "conv1", Conv(SIZES[0], 3, pad=1))
    maps = SIZES[0]
    for stage, size in enumerate(SIZES, start=1):
        for i in range(blocks_per_stage):
            name, stride = f"layer{stage}_{i}", 1 if size == maps else 2
            conv_relu(nodes, f"{name}_conv1", Conv(size, 3, stride, pad=1), below)
            branch = chain(nodes, (f"{name}_conv2", Conv(size, 3, pad=1)))
            if stride > 1:
                below = chain(nodes, (f"{name}_shortcut", PadShortcut(size, stride)), start=below)
            nodes.append(Node(f"{name}_add", Add(), (branch, below)))
            below = chain(nodes, (f"{name}_relu", Relu()))
            maps = size
    chain(nodes, ("pool", MeanPool()), ("linear", Dense(num_classes)))
    return LayerGraph(tuple(nodes), init_kernel=HE)


def resnet20(num_classes: int = 10, normalise: Normalise = TORCH) -> LayerGraph:
    """Three blocks per stage."""
    return resnet(3, num_classes, normalise)


def resnet32(num_classes: int = 10, normalise: Normalise = TORCH) -> LayerGraph:
    """Five blocks per stage."""
    return resnet(5, num_classes, normalise)
