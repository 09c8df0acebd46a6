"""Softmax regression and sigmoid nets: FC10, FC100-100-10, FC200-200-10, FC123-456-10."""

from intriguing.models.layer_graph import LECUN, LayerGraph, Node, chain
from intriguing.models.layers import Dense, Dropout, Sigmoid


def fully_connected(
    hidden_sizes: tuple[int, ...] = (), num_classes: int = 10, dropout_rates: tuple[float, ...] = ()
) -> LayerGraph:
    """Dense sigmoid layers and a linear one on top, on flattened images (the paper's section 4.2).

    Args:
      hidden_sizes: units of each hidden layer, bottom to top; () is softmax regression (FC10).
      num_classes: units of the top layer.
      dropout_rates: in training, the fraction of the inputs of each layer that is set to 0, bottom
        to top; () drops nothing.

    Layers are fc1, fc2, ... from bottom to top; what the hidden ones give on is fc1_sigmoid, ...
    """
    nodes: list[Node] = []
    for i, size in enumerate((*hidden_sizes, num_classes), start=1):
        if dropout_rates:
            chain(nodes, (f"drop{i}", Dropout(dropout_rates[i - 1])))
        chain(nodes, (f"fc{i}", Dense(size)), (f"fc{i}_sigmoid", Sigmoid()))
    return LayerGraph(tuple(nodes[:-1]), init_kernel=LECUN)
