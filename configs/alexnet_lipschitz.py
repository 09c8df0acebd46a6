"""Table 5: how much each layer of AlexNet can amplify a change; and what that certifies.

python launch.py --config=configs/alexnet_lipschitz.py \
    --config.data.dir=FOLDER --config.models.alexnet.weights=FILE

The argument takes another network: single_tower, squeezenet or googlenet.
"""

from ml_collections import ConfigDict

from configs import alexnet_attack, imagenet_attack

ARGUMENTS = ("", "single_tower", *imagenet_attack.FILES)


def get_config(argument: str = ""):
    if argument not in ARGUMENTS:
        raise ValueError(f"unknown argument :{argument}; there are :{', :'.join(ARGUMENTS[1:])}")
    if argument in imagenet_attack.FILES:
        config = imagenet_attack.get_config(argument)
    else:
        config = alexnet_attack.get_config(argument)
    config.experiment = "spectral_analysis"
    config.title = "Spectral bounds of every layer"
    config.models = ConfigDict({name: config.models[name] for name in config.model_names})
    config.attack.num_images = 16
    config.attack.targets = "runner_up"  # the nearest boundary, most often
    return config
