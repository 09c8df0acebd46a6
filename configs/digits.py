"""Tables 1 and 2 on the 1,797 real handwritten digits (8x8) of scikit-learn: no download.

python launch.py --config=configs/digits.py --workdir=runs/digits
"""

from configs import default


def get_config(argument: str = ""):
    config = default.get_config(argument)
    config.title = "Tables 1 and 2 on scikit-learn's digits"
    if argument == "quick":
        config.train.num_epochs = 20
        config.models["AE400-10"].autoencoder.num_epochs = 20
        config.models["AE400-10"].classifier.num_epochs = 20
        config.attack.num_images = 16
    return config
