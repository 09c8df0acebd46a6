"""Figure 5: photographs that AlexNet has right, turned into ostriches.

python launch.py --config=configs/alexnet_attack.py:single_tower \
    --config.data.dir=FOLDER --config.models.alexnet.weights=FILE

Without an argument the network of 2012 (Caffe's .npz); :single_tower is torchvision's
(alexnet-owt-7be5be79.pth, or the same as .safetensors). Without weights the network is trained on
the images of FOLDER/train, by the recipe of 2012, into the workdir; the same command resumes.
:imagenet2012 and :imagenette are data sets that TFDS prepares, in place of a folder of images;
imagenette has ten classes, no ostrich among them: its target is a parachute.

The paper: all of 64 images, average distortion 0.0065. Ours: weights trained on ImageNet were not
at hand. :quick trains for 3 steps where there are none.
"""

from configs import default, imagenet_attack
from intriguing.experiments import specs

ARCHITECTURES = {"single_tower": "alexnet_single_tower"}
DATA_SETS = ("imagenet2012", "imagenette")
ARGUMENTS = ("quick", *ARCHITECTURES, *DATA_SETS)


def base(argument: str = "", experiment: str = "targeted_attack"):
    """AlexNet, and photographs in its size."""
    if argument not in ("", *ARGUMENTS):
        raise ValueError(f"unknown argument :{argument}; there are :{', :'.join(ARGUMENTS)}")
    config = imagenet_attack.base("quick" if argument == "quick" else "", experiment)
    architecture = ARCHITECTURES.get(argument, "alexnet")
    default.set_models(config, {"alexnet": specs.Large(architecture=architecture)})
    config.data.image_size = 227 if architecture == "alexnet" else 224
    if argument in DATA_SETS:
        config.data.name, config.data.dir = argument, imagenet_attack.DATA
    if config.quick:
        config.data.num_train, config.sgd.batch_size = 96, 32  # where there are no weights
        config.sgd.num_epochs = 1
    return config


def get_config(argument: str = ""):
    config = base(argument)
    imagenet_attack.aim_at_ostrich(config)
    if config.quick:
        config.attack.budget = 10  # a network that has learned nothing takes all of its budget
    return config
