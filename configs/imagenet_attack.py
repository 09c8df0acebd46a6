"""Figure 5 with real networks: photographs turned into ostriches; and transfer between networks.

python launch.py --config=configs/imagenet_attack.py:squeezenet \
    --config.data.dir=FOLDER --config.models.squeezenet.weights=FILE

FOLDER holds images/ and labels.csv, or <class>/*.jpg. The argument is squeezenet or googlenet;
without one both are attacked, and each other's examples are tried on them.
"""

import os

from ml_collections import ConfigDict

from configs import default

DATA = os.environ.get("INTRIGUING_DATA", "")  # where weights/ and imagenet_sample/ may be
FILES = {
    "squeezenet": "weights/squeezenet_v1.1/squeezenet_v1.1.npz",
    "googlenet": "weights/bvlc_googlenet/bvlc_googlenet.npz",
}


def large(architecture: str, weights: str = "") -> ConfigDict:
    """A network of `intriguing.models.IMAGENET` and the file of its weights ("": it is trained)."""
    return ConfigDict({"family": "large", "architecture": architecture, "weights": weights})


def base(argument: str = "") -> ConfigDict:
    """What the configs of ImageNet-sized attacks share."""
    config = default.get_config(argument)
    config.experiment = "targeted_attack"
    config.data.name = "image_folder"
    config.data.dir = f"{DATA}/imagenet_sample" if DATA else ""
    config.data.image_size = 224
    config.shard_size = 256  # images classified between two result files
    config.attack_shard_size = 16  # images attacked between two result files
    config.attack.num_images = 64  # of those that the network has right
    config.attack.targets = "fixed"
    config.attack.target_class = 9  # ostrich, Struthio camelus
    config.protocols = ConfigDict({"refined": {"refine": True}})
    config.survive_rounding = True  # lengthen perturbations until 8-bit images work
    config.num_shown = 6  # images in figure 5
    config.sgd = sgd = ConfigDict()  # Krizhevsky et al. 2012, section 5; where there are no weights
    sgd.image_size = 256  # pixels; crops of data.image_size are drawn from it
    sgd.num_epochs = 90
    sgd.batch_size = 128
    sgd.learning_rate = 0.01  # falls tenfold after 1/3, 2/3 and 8/9
    sgd.momentum = 0.9
    sgd.weight_decay = 5e-4
    if argument == "quick":
        config.attack.num_images = 4
    return config


def get_config(argument: str = ""):
    if argument not in ("", "quick", *FILES):
        raise ValueError(f"unknown argument :{argument}; there are :quick, :{', :'.join(FILES)}")
    config = base("quick" if argument == "quick" else "")
    config.models = ConfigDict(
        {name: large(name, f"{DATA}/{file}" if DATA else "") for name, file in FILES.items()}
    )
    config.model_names = (argument,) if argument in FILES else tuple(FILES)
    config.curve_stddevs = (0.02, 0.05, 0.1)  # of amplified examples and their controls
    return config
