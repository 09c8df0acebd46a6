"""AlexNet (Krizhevsky et al. 2012), and the single tower that torchvision distributes."""

import flax.linen as nn

from intriguing.models.layer_graph import GAUSSIAN, TORCH_DEFAULT, LayerGraph, Node, chain
from intriguing.models.layers import (
    CAFFE,
    TORCH,
    Conv,
    Dense,
    Dropout,
    LocalResponseNorm,
    MaxPool,
    Normalise,
    Relu,
)


def alexnet(
    num_classes: int = 1000, normalise: Normalise = CAFFE, alpha: float = 1e-4, k: float = 2.0
) -> LayerGraph:
    """The network of 2012 for 227x227 images: two groups, LRN; 60,965,224 parameters.

    Args:
      num_classes: of the top layer.
      normalise: of the pixels.
      alpha, k: of the local response normalisation. Caffe's bvlc_alexnet has alpha 2e-5 and k 1.
    """
    lrn = LocalResponseNorm(5, alpha, 0.75, k)
    nodes: list[Node] = []
    chain(
        nodes,
        ("data", normalise),
        ("conv1", Conv(96, 11, 4)), ("relu1", Relu()), ("norm1", lrn), ("pool1", MaxPool(3, 2)),
        ("conv2", Conv(256, 5, 1, 2, groups=2)), ("relu2", Relu()), ("norm2", lrn),
        ("pool2", MaxPool(3, 2)),
        ("conv3", Conv(384, 3, 1, 1)), ("relu3", Relu()),
        ("conv4", Conv(384, 3, 1, 1, groups=2)), ("relu4", Relu()),
        ("conv5", Conv(256, 3, 1, 1, groups=2)), ("relu5", Relu()), ("pool5", MaxPool(3, 2)),
        ("fc6", Dense(4096)), ("relu6", Relu()), ("drop6", Dropout(0.5)),
        ("fc7", Dense(4096)), ("relu7", Relu()), ("drop7", Dropout(0.5)),
        ("fc8", Dense(num_classes)),
    )  # fmt: skip
    ones = nn.FrozenDict(dict.fromkeys(("conv2", "conv4", "conv5", "fc6", "fc7"), 1.0))
    return LayerGraph(tuple(nodes), init_biases=ones, init_kernel=GAUSSIAN)


def alexnet_single_tower(num_classes: int = 1000, normalise: Normalise = TORCH) -> LayerGraph:
    """Krizhevsky's second version (2014), for 224x224 images: 61,100,840 parameters."""
    nodes: list[Node] = []
    chain(
        nodes,
        ("data", normalise),
        ("conv1", Conv(64, 11, 4, 2)), ("relu1", Relu()), ("pool1", MaxPool(3, 2)),
        ("conv2", Conv(192, 5, 1, 2)), ("relu2", Relu()), ("pool2", MaxPool(3, 2)),
        ("conv3", Conv(384, 3, 1, 1)), ("relu3", Relu()),
        ("conv4", Conv(256, 3, 1, 1)), ("relu4", Relu()),
        ("conv5", Conv(256, 3, 1, 1)), ("relu5", Relu()), ("pool5", MaxPool(3, 2)),
        ("drop6", Dropout(0.5)), ("fc6", Dense(4096)), ("relu6", Relu()),
        ("drop7", Dropout(0.5)), ("fc7", Dense(4096)), ("relu7", Relu()),
        ("fc8", Dense(num_classes)),
    )  # fmt: skip
    return LayerGraph(tuple(nodes), init_kernel=TORCH_DEFAULT)
