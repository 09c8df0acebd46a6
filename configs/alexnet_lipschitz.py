"""Table 5: how much each layer of AlexNet can amplify a change; and what that certifies.

python launch.py --config=configs/alexnet_lipschitz.py

Weights and photographs come by themselves, as in alexnet_attack.py. The argument takes another
network: two_towers, squeezenet or googlenet.

The paper's bounds of AlexNet's layers: 2.75, 10, 7, 7.5, 11, 3.12, 4, 4. Ours, of SqueezeNet, whose
weights were at hand, are in RESULTS.md (4 minutes on two cores); their product is 7.8e13.
"""

from configs import alexnet_attack, default, imagenet_attack

ARGUMENTS = ("", "quick", *alexnet_attack.ARCHITECTURES, *imagenet_attack.FILES)


def get_config(argument: str = ""):
    if argument not in ARGUMENTS:
        raise ValueError(f"unknown argument :{argument}; there are :{', :'.join(ARGUMENTS[1:])}")
    if argument in imagenet_attack.FILES:
        config = imagenet_attack.base("", "spectral_analysis")
        default.set_models(config, imagenet_attack.nets(argument))
    else:
        config = alexnet_attack.base(argument, "spectral_analysis")
    config.title = "Spectral bounds of every layer"
    config.attack.num_images = 1 if config.quick else 16
    config.attack.targets = "runner_up"  # the nearest boundary, most often
    config.shard_size = 256
    return config
