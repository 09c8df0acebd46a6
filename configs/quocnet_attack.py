"""Figure 6: a network that learned without labels recognises cars; adversarial cars, it does not.

python launch.py --config=configs/quocnet_attack.py --config.data.dir=FOLDER

FOLDER holds one .npz file with x_train, y_train, x_test, y_test (64 pixels; class 1 is the car).
:full builds the network of 2012 at its full size, 1.3 billion parameters for 200 pixels. Filters
are then random, unless --config.models.QuocNet.weights=WORKDIR/checkpoints/QuocNet names trained
ones.
"""

import os

from ml_collections import ConfigDict

from configs import default

DATA = os.environ.get("INTRIGUING_DATA", "")


def get_config(argument: str = ""):
    if argument not in ("", "quick", "full"):
        raise ValueError(f"unknown argument :{argument}; there are :quick, :full")
    config = default.get_config("quick" if argument == "quick" else "")
    config.experiment = "quocnet_attack"
    config.title = "QuocNet: cars made unrecognisable"
    config.data.name = "npz"
    config.data.dir = f"{DATA}/cars" if DATA else ""
    config.data.image_size = 64
    config.unlabelled = ConfigDict({"name": "", "dir": ""})  # filters learn from; "": data's views
    config.models = ConfigDict({"QuocNet": quocnet()})
    config.model_names = ("QuocNet",)
    config.num_evaluated = 0  # test images that are classified; 0: all of them
    config.classifier = classifier = ConfigDict()
    classifier.weight_decay = 1e-3
    classifier.num_views = 6  # of each training image, the first as it is, others mirrored, moved
    classifier.max_shift = 6  # pixels
    config.baselines = True  # the same classifier on pixels, and on random filters
    config.attack.num_images = 64  # of each class, that the network has right
    config.attack.targets = "runner_up"  # the other class
    config.protocols = ConfigDict({"refined": {"refine": True}})
    config.num_shown = 8  # images of each class in figure 6
    if argument == "quick":
        config.attack.num_images = 4
        config.data.num_train = 200
        config.models.QuocNet.num_epochs = 1
    if argument == "full":
        config.models.QuocNet = full()
        config.data.image_size = 200
        config.data.num_train = 32
        config.classifier.num_views = 1
        config.baselines = False
        config.attack.num_images = 2
        config.num_shown = 2
        config.num_evaluated = 32
        config.model_devices = 0
    return config


def quocnet() -> ConfigDict:
    """Small enough to be trained on 4,000 images of 64 pixels; a number per stage.

    Two stages of the three: after them 4x4 positions are left, and a third one loses accuracy.
    """
    return ConfigDict({
        "family": "quocnet",
        "field": (10, 3),  # side of the receptive fields
        "maps": (32, 64),  # filters at each position
        "stride": (4, 1),
        "pad": (6, 2),  # rows and columns of zeros
        "pool": (4, 3),  # side of the L2 pooling windows
        "pool_stride": (2, 2),
        "norm": (5, 3),  # side of the contrast normalisation windows
        "norm_floor": (4.0, 0.5),  # a smaller contrast is not amplified
        "input_norm": 9,  # the same, of the images; 0: none
        "weights": "",  # folder of trained filters; "random"; "": they are trained
        "num_epochs": 2,  # of each stage, over all views
        "batch_size": 50,
        "learning_rate": 1e-2,
        "sparsity_weight": (1.0, 0.003),
    })  # fmt: skip


def full() -> ConfigDict:
    """Le et al. 2012: 18x18 fields, 8 maps, 5x5 pooling, 5x5 normalisation, three times."""
    config = quocnet()
    for name, value in {
        "field": 18, "maps": 8, "stride": 1, "pad": 1, "pool": 5, "pool_stride": 1, "norm": 5,
        "norm_floor": 0.01, "sparsity_weight": 1.0,
    }.items():  # fmt: skip
        config[name] = (value,) * 3
    config.weights = "random"
    return config
