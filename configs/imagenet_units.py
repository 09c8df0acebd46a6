"""Figures 3 and 4: top images of units and of random directions of SqueezeNet or GoogLeNet.

python launch.py --config=configs/imagenet_units.py:googlenet \
    --config.data.dir=FOLDER --config.models.googlenet.weights=FILE
"""

from ml_collections import ConfigDict

from configs import imagenet_attack

LAYERS = {  # from low to high
    "squeezenet": ("fire4_concat", "fire9_concat", "pool10"),
    "googlenet": ("inception_3b_output", "inception_4e_output", "pool5_7x7_s1"),
}


def analyse(config: ConfigDict, layers: tuple[str, ...]) -> ConfigDict:
    """The config as one that looks at these layers."""
    config.experiment = "streamed_units"
    config.title = "Units of a large network"
    config.models = ConfigDict({name: config.models[name] for name in config.model_names})
    config.units.layers = layers
    config.units.num_directions = 400  # units, and random directions, per layer
    return config


def get_config(argument: str = "squeezenet"):
    if argument not in LAYERS:
        raise ValueError(f"unknown argument :{argument}; there are :{', :'.join(LAYERS)}")
    return analyse(imagenet_attack.get_config(argument), LAYERS[argument])
