"""Figure 5: photographs that AlexNet has right, turned into ostriches.

python launch.py --config=configs/alexnet_attack.py:single_tower \
    --config.data.dir=FOLDER --config.models.alexnet.weights=FILE

Without an argument the network of 2012 (Caffe's .npz); :single_tower is torchvision's
(alexnet-owt-7be5be79.pth, or the same as .safetensors). Without weights the network is trained on
the images of FOLDER/train, by the recipe of 2012, into the workdir; the same command resumes.
"""

from ml_collections import ConfigDict

from configs import imagenet_attack

ARCHITECTURES = {"": "alexnet", "single_tower": "alexnet_single_tower"}


def get_config(argument: str = ""):
    if argument not in ("quick", *ARCHITECTURES):
        raise ValueError(f"unknown argument :{argument}; there are :quick and :single_tower")
    config = imagenet_attack.base("quick" if argument == "quick" else "")
    config.title = "AlexNet: images turned into ostriches"
    architecture = ARCHITECTURES.get(argument, "alexnet")
    config.models = ConfigDict({"alexnet": imagenet_attack.large(architecture)})
    config.model_names = ("alexnet",)
    config.data.image_size = 227 if architecture == "alexnet" else 224
    config.curve_stddevs = ()
    return config
