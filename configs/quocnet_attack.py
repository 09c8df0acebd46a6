"""Figure 6: a network that learned without labels recognises cars; adversarial cars, it does not.

python launch.py --config=configs/quocnet_attack.py --config.data.dir=FOLDER

FOLDER holds one .npz file with x_train, y_train, x_test, y_test (64 pixels; class 1 is the car).
:full builds the network of 2012 at its full size, 1.3 billion parameters for 200 pixels. Filters
are then random, unless --config.models.QuocNet.weights=WORKDIR/checkpoints/QuocNet names trained
ones.

The paper shows pictures and no number. Ours, 64 pixels and two stages: 3.2% test error on frozen
features (31% on random filters), 64 of 64 cars turned, average distortion 0.0016. 8 minutes on two
cores; :full 23 minutes.
"""

import os

from configs import default
from intriguing.experiments import specs

DATA = os.environ.get("INTRIGUING_DATA", "")


def get_config(argument: str = ""):
    if argument not in ("", "quick", "full"):
        raise ValueError(f"unknown argument :{argument}; there are :quick, :full")
    config = default.get_config("quick" if argument == "quick" else "", "quocnet_attack")
    config.title = "QuocNet: cars made unrecognisable"
    config.data.name = "npz"
    config.data.dir = f"{DATA}/cars" if DATA else ""
    config.data.image_size = 64
    default.set_models(config, {"QuocNet": full() if argument == "full" else specs.QuocNet()})
    config.attack.num_images = 64  # of each class, that the network has right
    config.attack.targets = "runner_up"  # the other class
    if argument == "quick":
        config.attack.num_images = 4
        config.data.num_train = 200
        config.models.QuocNet.num_epochs = 1
    if argument == "full":
        config.data.image_size = 200
        config.data.num_train = 32
        config.classifier.num_views = 1
        config.baselines = False
        config.attack.num_images = 2
        config.num_shown = 2
        config.num_evaluated = 32
        config.model_devices = 0
    return config


def full() -> specs.QuocNet:
    """Le et al. 2012: 18x18 fields, 8 maps, 5x5 pooling, 5x5 normalisation, three times."""
    sizes = {
        "field": 18, "maps": 8, "stride": 1, "pad": 1, "pool": 5, "pool_stride": 1, "norm": 5,
        "norm_floor": 0.01, "sparsity_weight": 1.0,
    }  # fmt: skip
    return specs.QuocNet(weights="random", **{name: (size,) * 3 for name, size in sizes.items()})
