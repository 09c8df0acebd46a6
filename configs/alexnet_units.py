"""Figures 3 and 4: top images of units and of random directions of AlexNet.

python launch.py --config=configs/alexnet_units.py:single_tower \
    --config.data.dir=FOLDER --config.models.alexnet.weights=FILE
"""

from configs import alexnet_attack, imagenet_units


def get_config(argument: str = ""):
    return imagenet_units.analyse(alexnet_attack.get_config(argument), ("pool5", "relu6", "relu7"))
