"""Figure 5: photographs that AlexNet has right, turned into ostriches.

python launch.py --config=configs/alexnet_attack.py

With nothing else typed it fetches torchvision's trained weights (one tower, 244 MB) and
Imagenette's photographs of 160 pixels (99 MB), once, into the cache folder.
--config.data.dir=FOLDER takes your own photographs, --config.models.alexnet.weights=FILE other
weights; weights "train" trains the network on FOLDER/train by the recipe of 2012. :two_towers is
the network of 2012, whose weights (Caffe's .npz) you must have. :imagenet2012 and :imagenette are
data sets that TFDS prepares, in place of a folder; the labels of TFDS's imagenette are 0 to 9, not
ImageNet's: a network is trained on it.

The paper: all of 64 images, average distortion 0.0065. Ours: weights trained on ImageNet were not
at hand. :quick trains for 3 steps.
"""

from configs import default, imagenet_attack
from intriguing.experiments import specs

ARCHITECTURES = {"single_tower": "alexnet_single_tower", "two_towers": "alexnet"}
DATA_SETS = ("imagenet2012", "imagenette")
ARGUMENTS = ("quick", *ARCHITECTURES, *DATA_SETS)


def base(argument: str = "", experiment: str = "targeted_attack"):
    """AlexNet, and photographs in its size."""
    if argument not in ("", *ARGUMENTS):
        raise ValueError(f"unknown argument :{argument}; there are :{', :'.join(ARGUMENTS)}")
    config = imagenet_attack.base("quick" if argument == "quick" else "", experiment)
    architecture = ARCHITECTURES.get(argument, "alexnet_single_tower")
    weights = "train" if argument in ("quick", "imagenette") else ""
    default.set_models(config, {"alexnet": specs.Large(architecture=architecture, weights=weights)})
    config.data.image_size = 227 if architecture == "alexnet" else 224
    if argument in DATA_SETS:
        config.data.name, config.data.dir = argument, imagenet_attack.DATA
    if config.quick:
        config.data.num_train, config.sgd.batch_size = 96, 32
        config.sgd.num_epochs = 1
    return config


def get_config(argument: str = ""):
    config = base(argument)
    imagenet_attack.aim_at_ostrich(config)
    if config.quick:
        config.attack.budget = 10  # a network that has learned nothing takes all of its budget
    return config
