"""Figures 3 and 4: top images of units and of random directions of AlexNet.

python launch.py --config=configs/alexnet_units.py

Weights and photographs come by themselves, as in alexnet_attack.py.

The paper shows pictures and no number. Ours: weights trained on ImageNet were not at hand.
"""

from configs import alexnet_attack


def get_config(argument: str = ""):
    config = alexnet_attack.base(argument, "streamed_units")
    config.title = "Units of a large network"
    config.units.layers = ("relu7",) if config.quick else ("pool5", "relu6", "relu7")
    if config.quick:
        config.units.num_directions = 40
    return config
