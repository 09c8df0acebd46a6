"""GoogLeNet (Szegedy et al. 2015), as Caffe's and as torchvision's, without auxiliary classifiers.

torchvision's has batch normalisation in place of local response normalisation, a 3x3 window where
the paper has 5x5, a smaller fourth pooling, and pixels from -1 to 1.
"""

from intriguing.models.layer_graph import XAVIER, LayerGraph, Node, chain, conv_relu
from intriguing.models.layers import (
    CAFFE,
    Concat,
    Conv,
    Dense,
    Dropout,
    LocalResponseNorm,
    MaxPool,
    MeanPool,
    Normalise,
)

INCEPTIONS = {  # 1x1, 3x3_reduce, 3x3, 5x5_reduce, 5x5, pool_proj
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
HALF = Normalise(1.0, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
POOLED = {"3b": "pool3_3x3_s2", "4e": "pool4_3x3_s2"}


def googlenet(num_classes: int = 1000, normalise: Normalise = CAFFE) -> LayerGraph:
    """The network, for 224x224 images; 6,998,552 parameters."""
    nodes: list[Node] = []
    pool, lrn = MaxPool(3, 2, ceil=True), LocalResponseNorm(5, 2e-5, 0.75, 1.0)
    chain(nodes, ("data", normalise))
    conv_relu(nodes, "conv1_7x7_s2", Conv(64, 7, 2, 3))
    chain(nodes, ("pool1_3x3_s2", pool), ("pool1_norm1", lrn))
    conv_relu(nodes, "conv2_3x3_reduce", Conv(64, 1))
    conv_relu(nodes, "conv2_3x3", Conv(192, 3, 1, 1))
    chain(nodes, ("conv2_norm2", lrn), ("pool2_3x3_s2", pool))
    for block, sizes in INCEPTIONS.items():
        _inception(nodes, f"inception_{block}", sizes)
        if block in POOLED:
            chain(nodes, (POOLED[block], pool))
    chain(nodes, ("pool5_7x7_s1", MeanPool()), ("drop5", Dropout(0.4)))
    chain(nodes, ("loss3_classifier", Dense(num_classes)))
    return LayerGraph(tuple(nodes), init_kernel=XAVIER)


def _inception(nodes: list[Node], block: str, sizes: tuple[int, ...], window: int = 5) -> None:
    """Four branches on the last of `nodes`, joined; `window` is what its 5x5 convolution has."""
    below = nodes[-1].name
    one, three_reduce, three, five_reduce, five, projected = sizes
    branches = [conv_relu(nodes, f"{block}_1x1", Conv(one, 1), below)]
    conv_relu(nodes, f"{block}_3x3_reduce", Conv(three_reduce, 1), below)
    branches.append(conv_relu(nodes, f"{block}_3x3", Conv(three, 3, pad=1)))
    conv_relu(nodes, f"{block}_5x5_reduce", Conv(five_reduce, 1), below)
    branches.append(conv_relu(nodes, f"{block}_5x5", Conv(five, window, pad=window // 2)))
    chain(nodes, (f"{block}_pool", MaxPool(3, 1, 1)), start=below)
    branches.append(conv_relu(nodes, f"{block}_pool_proj", Conv(projected, 1)))
    nodes.append(Node(f"{block}_output", Concat(), tuple(branches)))


def googlenet_torchvision(num_classes: int = 1000) -> LayerGraph:
    """The network, for 224x224 images; batch normalisations are part of its convolutions."""
    nodes: list[Node] = []
    pool = MaxPool(3, 2, ceil=True)
    chain(nodes, ("data", HALF))
    conv_relu(nodes, "conv1", Conv(64, 7, 2, 3))
    chain(nodes, ("maxpool1", pool))
    conv_relu(nodes, "conv2", Conv(64, 1))
    conv_relu(nodes, "conv3", Conv(192, 3, 1, 1))
    chain(nodes, ("maxpool2", pool))
    for block, sizes in INCEPTIONS.items():
        _inception(nodes, f"inception{block}", sizes, window=3)
        if block in POOLED:
            chain(nodes, (f"maxpool{block[0]}", pool if block == "3b" else MaxPool(2, 2)))
    chain(nodes, ("avgpool", MeanPool()), ("dropout", Dropout(0.2)), ("fc", Dense(num_classes)))
    return LayerGraph(tuple(nodes), init_kernel=XAVIER)
