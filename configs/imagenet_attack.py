"""Figure 5 with real networks: photographs turned into ostriches; and transfer between networks.

python launch.py --config=configs/imagenet_attack.py:squeezenet

The argument is squeezenet or googlenet; without one both are attacked, and each other's examples
are tried on them. With nothing else typed torchvision's weights (5 and 52 MB) and Imagenette's
photographs (99 MB) are fetched, once. --config.data.dir=FOLDER takes your own photographs: images/
and labels.csv, or <class>/*.jpg; --config.models.squeezenet.weights=FILE other weights. With
INTRIGUING_DATA set, weights (Caffe's) and photographs below it are taken.

The paper's AlexNet: all of 64 images, average distortion 0.0065. Ours, of 64 images each:
SqueezeNet all, 0.0011; GoogLeNet all, 0.0015. 35 minutes on two cores.
"""

import os

from ml_collections import ConfigDict

from configs import default
from intriguing.experiments import specs

DATA = os.environ.get("INTRIGUING_DATA", "")  # where weights/ and imagenet_sample/ may be
FILES = {
    "squeezenet": "weights/squeezenet_v1.1/squeezenet_v1.1.npz",
    "googlenet": "weights/bvlc_googlenet/bvlc_googlenet.npz",
}

PUBLISHED = {"googlenet": "googlenet_torchvision"}  # which of them others publish


def nets(*names: str) -> dict[str, specs.Large]:
    """SqueezeNet, GoogLeNet, with their weights below INTRIGUING_DATA if that is set."""
    if DATA:
        return {name: specs.Large(architecture=name, weights=f"{DATA}/{FILES[name]}")
                for name in names}  # fmt: skip
    return {name: specs.Large(architecture=PUBLISHED.get(name, name)) for name in names}


def base(argument: str = "", experiment: str = "targeted_attack") -> ConfigDict:
    """Photographs of ImageNet's classes, as large networks take them."""
    config = default.get_config(argument, experiment)
    config.data.name = "image_folder"
    config.data.dir = f"{DATA}/imagenet_sample" if DATA else ""
    config.data.image_size = 224
    return config


def aim_at_ostrich(config: ConfigDict) -> None:
    """The attack of figure 5."""
    config.attack.num_images = 1 if config.quick else 64  # of those that the network has right
    config.attack.targets = "fixed"
    config.attack.target_class = 9  # ostrich, Struthio camelus


def get_config(argument: str = ""):
    if argument not in ("", "quick", *FILES):
        raise ValueError(f"unknown argument :{argument}; there are :quick, :{', :'.join(FILES)}")
    config = base("quick" if argument == "quick" else "")
    aim_at_ostrich(config)
    names = (argument,) if argument in FILES else ("squeezenet",) if config.quick else tuple(FILES)
    default.set_models(config, nets(*FILES), names)
    config.curve_stddevs = (0.02, 0.05, 0.1)  # of amplified examples and their controls
    return config
