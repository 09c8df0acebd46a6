"""SqueezeNet v1.1 (Iandola et al. 2016): AlexNet's accuracy with 1.2 million parameters."""

from intriguing.models.layer_graph import XAVIER, LayerGraph, Node, chain, conv_relu
from intriguing.models.layers import CAFFE, Concat, Conv, Dropout, MaxPool, MeanPool, Normalise

FIRES = {"fire2": 16, "fire3": 16, "fire4": 32, "fire5": 32, "fire6": 48, "fire7": 48,
         "fire8": 64, "fire9": 64}  # fmt: skip
POOLED = {"fire3": "pool3", "fire5": "pool5"}


def squeezenet(num_classes: int = 1000, normalise: Normalise = CAFFE) -> LayerGraph:
    """The network, for 227x227 images or larger; 1,235,496 parameters.

    Its logits are means of what a ReLU lets through. A class that no place in the image speaks for
    has logit 0 and no gradient: an attack cannot start towards it. (Of the pretrained net's logits
    on photographs none is 0.)
    """
    nodes: list[Node] = []
    pool = MaxPool(3, 2, ceil=True)
    chain(nodes, ("data", normalise))
    conv_relu(nodes, "conv1", Conv(64, 3, 2))
    chain(nodes, ("pool1", pool))
    for fire, size in FIRES.items():
        squeezed = conv_relu(nodes, f"{fire}_squeeze1x1", Conv(size, 1))
        expanded = (
            conv_relu(nodes, f"{fire}_expand1x1", Conv(4 * size, 1), squeezed),
            conv_relu(nodes, f"{fire}_expand3x3", Conv(4 * size, 3, pad=1), squeezed),
        )
        nodes.append(Node(f"{fire}_concat", Concat(), expanded))
        if fire in POOLED:
            chain(nodes, (POOLED[fire], pool))
    chain(nodes, ("drop9", Dropout(0.5)))
    conv_relu(nodes, "conv10", Conv(num_classes, 1))
    chain(nodes, ("pool10", MeanPool()))
    return LayerGraph(tuple(nodes), init_kernel=XAVIER)
