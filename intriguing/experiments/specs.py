"""What a config says of networks, their training and attacks: records with units and sources.

Nothing here needs jax before a network is built: a wrong value fails at once.
"""

import dataclasses
from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=-(2**31), lt=2**31)]
CountOrAll = Annotated[int, Field(ge=0)]  # 0: all, or as suits
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Rate = Annotated[float, Field(ge=0, lt=1)]
record = dataclass(frozen=True, kw_only=True, config={"extra": "forbid", "allow_inf_nan": False})


def fields_of(spec) -> dict:
    """A record as a nested dict."""
    return dataclasses.asdict(spec)


@record
class Data:
    """Labelled images, and how they are prepared."""

    name: str = "digits"  # digits, mnist, fashion_mnist, idx, npz, image_folder, any TFDS name
    # Where the files are; "": the environment variable INTRIGUING_DATA, or what is published.
    dir: str = ""
    download: bool = True  # fetch data and weights that are missing (TFDS names: needs TensorFlow)
    image_size: CountOrAll = 0  # pixels: short side and centre crop; 0 leaves images as they are
    num_train: CountOrAll = 0  # how many training images to use; 0 means all of them


@record
class Unlabelled:
    """Images that filters are learned from; without a name: views of the labelled ones."""

    name: str = ""
    dir: str = ""


@record
class Train:
    """Adam with a cosine schedule, for every model that is trained on a whole data set."""

    num_epochs: Count = 200
    batch_size: Count = 100  # images per step, over all devices
    learning_rate: Positive = 3e-3  # at the start; the schedule ends at 0


@record
class Sgd:
    """Krizhevsky et al. 2012, section 5: for a large network that has no weights."""

    image_size: Count = 256  # pixels; crops of data.image_size are drawn from it
    num_epochs: Count = 90
    batch_size: Count = 128
    learning_rate: Positive = 0.01  # falls tenfold after 1/3, 2/3 and 8/9
    momentum: Rate = 0.9
    weight_decay: NotNegative = 5e-4


@record
class Attack:
    """Minimal perturbations; the paper's way (section 4.1) with `refine=False`.

    0 leaves a number to what suits the budget and the network.
    """

    num_images: CountOrAll = 0  # images attacked, from the first on; 0 means all of them
    targets: Literal["random", "runner_up", "least_likely", "fixed", "untargeted", "best"] = (
        "random"
    )
    target_class: CountOrAll = 0  # for targets="fixed"
    budget: CountOrAll = 0  # evaluations of the network per image; 0: 100
    search: Literal["auto", "explore", "penalty"] = "auto"  # penalty: on c, as the paper has it
    solver: Literal["batched", "jaxopt"] = "batched"  # in-flight batching, or the stock LBFGSB
    refine: bool = True  # shrink r to a local minimum of |r| at the end; False: the paper's way
    num_penalties: CountOrAll = 0  # values of c per image, at most
    maxiter: CountOrAll = 0  # evaluations (jaxopt: iterations) per value of c, at most
    tol: Positive = 1e-3  # max norm of the projected gradient of |r| + loss / c
    rtol: NotNegative = 0  # a solve ends when three steps lower |r| + loss / c by less than this
    history_size: Count = 5  # pairs that L-BFGS remembers
    squared_norm: bool = False  # penalise |r|^2 in place of the paper's |r|
    refine_steps: CountOrAll = 0  # linearisations of the class boundary
    num_margins: CountOrAll = 0  # classes beside the target that each of them takes into account
    num_lanes: CountOrAll = 0  # images that each device works on at a time; 0: as suits the device


@record
class Pools:
    """Adversarial training (section 4.2): pools of examples per layer."""

    # Of each pool's loss, by layer ("images", "fc1_sigmoid", ...); {}: no pools.
    weights: dict[str, NotNegative] = field(default_factory=dict)
    size: Count = 60_000  # examples per pool
    replaced: Annotated[float, Field(gt=0, le=1)] = 0.1  # fraction made anew before every epoch
    batch_size: Count = 100  # examples of each pool per step
    # RMS that perturbations are scaled to, by layer; else they are minimal.
    stddevs: dict[str, Positive] = field(default_factory=dict)
    first_epoch: CountOrAll = 1  # epochs on the data alone before the pools are made
    targets: Literal["random", "runner_up", "least_likely"] = "random"
    attack_options: dict[str, bool | int | float] = field(
        default_factory=lambda: {
            "refine": False, "num_penalties": 1, "maxiter": 10, "tol": 1e-2, "rtol": 1e-2
        }
    )  # fmt: skip


@record
class _Trained:
    """What is common to networks that are trained on a whole data set."""

    weight_decay: dict[str, NotNegative] = field(default_factory=dict)  # lambda by layer (table 1)
    lipschitz_weight: NotNegative = 0.0  # of the sum of the layers' squared operator norms
    train: dict[str, int | float] = field(default_factory=dict)  # what differs from config.train
    pools: Pools = Pools()


@record
class FullyConnected(_Trained):
    """A sigmoid net."""

    family: Literal["fully_connected"] = "fully_connected"
    hidden_sizes: tuple[Count, ...] = ()
    dropout_rates: tuple[
        Rate, ...
    ] = ()  # of the inputs of each layer, bottom to top; () drops none

    def build(self, num_classes: int):
        """The network."""
        from intriguing import models  # needs jax

        return models.fully_connected(self.hidden_sizes, num_classes, self.dropout_rates)


@record
class ConvNet(_Trained):
    """Blocks of 5x5 convolution and pooling with `features` maps, a hidden layer, softmax."""

    family: Literal["conv_net"] = "conv_net"
    features: Annotated[tuple[Count, ...], Field(min_length=1)] = (16, 32)
    num_units: Count = 200

    def build(self, num_classes: int):
        """The network."""
        from intriguing import models  # needs jax

        return models.conv_net(self.features, self.num_units, num_classes)


@record
class Autoencoder:
    """The first phase of AE400-10."""

    num_epochs: Count = 200
    weight_decay: dict[str, NotNegative] = field(  # strong: the filters are pen strokes
        default_factory=lambda: {"encoder": 1.0, "decoder": 2.0}
    )
    sparsity: Annotated[float, Field(gt=0, lt=1)] = 0.05  # fraction of images a unit is on for
    sparsity_weight: NotNegative = 3.0  # nats per unit, beside the pixels' cross-entropy


@record
class Top:
    """The second phase of AE400-10."""

    num_epochs: Count = 200
    weight_decay: dict[str, NotNegative] = field(default_factory=lambda: {"fc1": 1e-6})


@record
class AutoencoderClassifier:
    """AE400-10: a sparse autoencoder, and a softmax on its frozen code."""

    family: Literal["autoencoder_classifier"] = "autoencoder_classifier"
    num_units: Count = 400
    autoencoder: Autoencoder = Autoencoder()
    classifier: Top = Top()

    def build(self, num_classes: int):
        """The network."""
        from intriguing import models  # needs jax

        return models.autoencoder_classifier(self.num_units, num_classes)


SMALL = FullyConnected | ConvNet | AutoencoderClassifier  # trained on a whole data set


@record
class Large:
    """A network of `models.PRETRAINED`."""

    family: Literal["large"] = "large"
    architecture: str = "alexnet"
    weights: str = ""  # their file; "": as published, fetched; "random"; "train": by config.sgd


@record
class QuocNet:
    """Le et al. 2012, a number per stage; the defaults are small enough for 4,000 images of 64
    pixels. Two stages of the three: after them 4x4 positions are left, and a third loses accuracy.
    """

    family: Literal["quocnet"] = "quocnet"
    field: tuple[Count, ...] = (10, 3)  # side of the receptive fields
    maps: tuple[Count, ...] = (32, 64)  # filters at each position
    stride: tuple[Count, ...] = (4, 1)
    pad: tuple[CountOrAll, ...] = (6, 2)  # rows and columns of zeros
    pool: tuple[Count, ...] = (4, 3)  # side of the L2 pooling windows
    pool_stride: tuple[Count, ...] = (2, 2)
    norm: tuple[Count, ...] = (5, 3)  # side of the contrast normalisation windows
    norm_floor: tuple[Positive, ...] = (4.0, 0.5)  # a smaller contrast is not amplified
    input_norm: CountOrAll = 9  # the same, of the images; 0: none
    weights: str = ""  # folder of trained filters; "random"; "": they are trained
    num_epochs: Count = 2  # of each stage, over all views
    batch_size: Count = 50
    learning_rate: Positive = 1e-2
    sparsity_weight: tuple[NotNegative, ...] = (1.0, 0.003)


@record
class Classifier:
    """Logistic regression on QuocNet's frozen features."""

    weight_decay: Positive = 1e-3
    num_views: Count = 6  # of each training image, the first as it is, others mirrored, moved
    max_shift: CountOrAll = 6  # pixels


@record
class Units:
    """Whose top images are looked at (figures 1 to 4)."""

    # Whose units, and as many random directions.
    layers: Annotated[tuple[str, ...], Field(min_length=1)] = ()
    num_top: Annotated[int, Field(ge=2)] = 10  # images per direction
    num_shown: Count = 6  # directions in the figures, per layer


@record
class StreamedUnits(Units):
    """The same of large layers, of which only projections are kept."""

    num_directions: Annotated[int, Field(ge=2)] = 400  # units, and random directions, per layer
