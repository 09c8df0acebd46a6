"""The networks whose weights others have trained: how each is built, and for which images."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from intriguing.fetch import Remote
from intriguing.models.alexnet import alexnet, alexnet_single_tower
from intriguing.models.googlenet import INCEPTIONS, googlenet, googlenet_torchvision
from intriguing.models.layer_graph import LayerGraph
from intriguing.models.layers import CAFFE, TORCH
from intriguing.models.resnet import resnet20, resnet32
from intriguing.models.robust_small import CIFAR, robust_small
from intriguing.models.squeezenet import squeezenet

TORCHVISION = "torchvision"  # names joined by dots: "features.0.weight"; RGB, mean and deviation
CAFFE_NAMES = "caffe"  # by slashes: "conv1/weight"; BGR, 0 to 255, less a mean


class Architecture(NamedTuple):
    """A network that can be loaded.

    Fields:
      build: number of classes and options -> network.
      image_shape: of the images it is for, (height, width, channels).
      origins: whose weights there are, and the options of `build` that go with them: Caffe's and
        torchvision's want their pixels prepared in different ways.
      names: torchvision's names of our layers, where they are not ours with dots.
      folded: batch normalisations, by the convolution that takes them in; our names.
      epsilon: of these batch normalisations.
      unused: layers of the file that the network has no use for: they only helped to train it.
      published: the weights that others trained on ImageNet and publish, if they do.
    """

    build: Callable[..., LayerGraph]
    image_shape: tuple[int, int, int]
    origins: Mapping[str, Mapping]
    names: Mapping[str, str] = {}
    folded: Mapping[str, str] = {}
    epsilon: float = 1e-5  # PyTorch's
    unused: tuple[str, ...] = ()
    published: Remote | None = None


_URL = "https://download.pytorch.org/models"
PUBLISHED = {  # torchvision's files: a name ends in the first digits of its SHA-256
    name: Remote(f"{_URL}/{file}-{digits}.pth", digits, num_bytes)
    for name, file, digits, num_bytes in (
        ("alexnet", "alexnet-owt", "7be5be79", 244_409_000),
        ("squeezenet", "squeezenet1_1", "b8a52dc0", 4_959_000),
        ("googlenet", "googlenet", "1378be20", 52_147_000),
    )
}
_CAFFE, _TORCH = {"normalise": CAFFE}, {"normalise": TORCH}
_BOTH = {CAFFE_NAMES: _CAFFE, TORCHVISION: _TORCH}
_CAFFE_LRN = {"alpha": 2e-5, "k": 1.0}  # of bvlc_alexnet; the paper of 2012 has others
_FIRES = dict(zip((3, 4, 6, 7, 9, 10, 11, 12), range(2, 10), strict=True))
_ALEXNET = {
    **{f"features.{i}": f"conv{n}" for n, i in enumerate((0, 3, 6, 8, 10), start=1)},
    **{f"classifier.{i}": f"fc{n}" for n, i in enumerate((1, 4, 6), start=6)},
}
_SQUEEZENET = {
    "features.0": "conv1",
    **{f"features.{i}.{part}": f"fire{n}_{ours}" for i, n in _FIRES.items() for part, ours in
       (("squeeze", "squeeze1x1"), ("expand1x1",) * 2, ("expand3x3",) * 2)},
    "classifier.1": "conv10",
}  # fmt: skip
_SMALL = {"0": "conv1", "2": "conv2", "5": "fc1", "7": "fc2"}


def _folded(model: LayerGraph) -> dict[str, str]:
    """Every convolution of a ResNet has the batch normalisation of its own number."""
    return {node.name: node.name.replace("conv", "bn") for node in model.nodes
            if "conv" in node.name and not node.name.endswith("_relu")}  # fmt: skip


def _googlenet_names() -> tuple[dict[str, str], dict[str, str]]:
    """(our names of torchvision's layers, the batch normalisation of each convolution)."""
    parts = {"branch1": "1x1", "branch2.0": "3x3_reduce", "branch2.1": "3x3",
             "branch3.0": "5x5_reduce", "branch3.1": "5x5", "branch4.1": "pool_proj"}  # fmt: skip
    convs = {name: name for name in ("conv1", "conv2", "conv3")}
    convs |= {f"inception{block}.{theirs}": f"inception{block}_{ours}"
              for block in INCEPTIONS for theirs, ours in parts.items()}  # fmt: skip
    names = {f"{theirs}.conv": ours for theirs, ours in convs.items()}
    names |= {f"{theirs}.bn": f"{ours}_bn" for theirs, ours in convs.items()}
    return names, {ours: f"{ours}_bn" for ours in convs.values()}


_GOOGLENET, _GOOGLENET_FOLDED = _googlenet_names()

PRETRAINED = {
    "alexnet": Architecture(
        alexnet, (227, 227, 3), {CAFFE_NAMES: _CAFFE | _CAFFE_LRN, TORCHVISION: _TORCH}
    ),
    "alexnet_single_tower": Architecture(
        alexnet_single_tower, (224, 224, 3), _BOTH, _ALEXNET, published=PUBLISHED["alexnet"]
    ),
    "squeezenet": Architecture(
        squeezenet, (227, 227, 3), _BOTH, _SQUEEZENET, published=PUBLISHED["squeezenet"]
    ),
    "googlenet": Architecture(googlenet, (224, 224, 3), {CAFFE_NAMES: _CAFFE}),
    "googlenet_torchvision": Architecture(
        googlenet_torchvision,
        (224, 224, 3),
        {TORCHVISION: {}},
        _GOOGLENET,
        _GOOGLENET_FOLDED,
        epsilon=1e-3,
        unused=("aux1", "aux2"),
        published=PUBLISHED["googlenet"],
    ),
    "resnet20": Architecture(resnet20, (32, 32, 3), {TORCHVISION: {}}, folded=_folded(resnet20())),
    "resnet32": Architecture(resnet32, (32, 32, 3), {TORCHVISION: {}}, folded=_folded(resnet32())),
    "robust_small_cifar": Architecture(
        robust_small, (32, 32, 3), {TORCHVISION: {"normalise": CIFAR}}, _SMALL
    ),
    "robust_small_mnist": Architecture(robust_small, (28, 28, 1), {TORCHVISION: {}}, _SMALL),
}
