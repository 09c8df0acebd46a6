"""Figure 5: photographs that AlexNet has right, turned into ostriches.

python launch.py --config=configs/alexnet_attack.py:single_tower \
    --config.data.dir=FOLDER --config.models.alexnet.weights=FILE

Without an argument the network of 2012 (Caffe's .npz); :single_tower is torchvision's
(alexnet-owt-7be5be79.pth, or the same as .safetensors). Without weights the network is trained on
the images of FOLDER/train, by the recipe of 2012, into the workdir; the same command resumes.
:imagenet2012 and :imagenette are data sets that TFDS prepares, in place of a folder of images;
imagenette has ten classes, no ostrich among them: its target is a parachute.
"""

from ml_collections import ConfigDict

from configs import imagenet_attack

ARCHITECTURES = {"single_tower": "alexnet_single_tower"}
DATA_SETS = ("imagenet2012", "imagenette")


def get_config(argument: str = ""):
    known = ("quick", *ARCHITECTURES, *DATA_SETS)
    if argument not in ("", *known):
        raise ValueError(f"unknown argument :{argument}; there are :{', :'.join(known)}")
    config = imagenet_attack.base("quick" if argument == "quick" else "")
    architecture = ARCHITECTURES.get(argument, "alexnet")
    config.models = ConfigDict({"alexnet": imagenet_attack.large(architecture)})
    config.model_names = ("alexnet",)
    config.data.image_size = 227 if architecture == "alexnet" else 224
    config.curve_stddevs = ()
    if argument in DATA_SETS:
        config.data.name, config.data.dir = argument, imagenet_attack.DATA
    return config
