"""Figures 3 and 4: top images of units and of random directions of SqueezeNet or GoogLeNet.

python launch.py --config=configs/imagenet_units.py:googlenet

Weights and photographs come by themselves, as in imagenet_attack.py.

The paper shows pictures and no number. Ours, SqueezeNet on 128 photographs of as many classes: top
images of units and of random directions are about as far apart (RESULTS.md). 2 minutes, two cores.
"""

from configs import default, imagenet_attack

LAYERS = {  # from low to high
    "squeezenet": ("fire4_concat", "fire9_concat", "pool10"),
    "googlenet": ("inception_3b_output", "inception_4e_output", "pool5_7x7_s1"),
    "googlenet_torchvision": ("inception3b_output", "inception4e_output", "avgpool"),
}


def get_config(argument: str = "squeezenet"):
    known = tuple(imagenet_attack.FILES)
    if argument not in ("quick", *known):
        raise ValueError(f"unknown argument :{argument}; there are :quick, :{', :'.join(known)}")
    name = "squeezenet" if argument == "quick" else argument
    config = imagenet_attack.base("quick" if argument == "quick" else "", "streamed_units")
    config.title = "Units of a large network"
    default.set_models(config, imagenet_attack.nets(name))
    layers = LAYERS[config.models[name].architecture]
    config.units.layers = layers[-1:] if config.quick else layers
    if config.quick:
        config.units.num_directions = 40
    return config
