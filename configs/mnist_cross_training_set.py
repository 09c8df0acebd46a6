"""Tables 3 and 4 on MNIST: examples made for one half of the training set, tried on the other.

python launch.py --config=configs/mnist_cross_training_set.py

Average minimum distortion, the paper's / ours: 0.062 / 0.0501, 0.059 / 0.0543, 0.058 / 0.0502; test
errors 2.0% / 2.67%, 2.1% / 2.44%, 2.1% / 2.62%. Table 4 is in RESULTS.md. 12 minutes on two cores.
"""

from ml_collections import ConfigDict

from configs import default

TRAINED_ON = {"FC100-100-10": "P1", "FC123-456-10": "P1", "FC100-100-10'": "P2"}


def get_config(argument: str = ""):
    config = default.get_config(argument, "cross_training_set")
    config.title = "Tables 3 and 4 on MNIST"
    config.data.name = "mnist"
    config.num_seeds = 5
    decay = (1e-5, 1e-5, 1e-6)
    nets = {
        "FC100-100-10": default.fully_connected((100, 100), *decay),
        "FC123-456-10": default.fully_connected((123, 456), *decay),
        "FC100-100-10'": default.fully_connected((100, 100), *decay),
    }
    default.set_models(config, nets)
    config.trained_on = ConfigDict(TRAINED_ON)
    config.train.num_epochs = 60
    config.noise_stddevs = (0.06, 0.1)  # beside the examples, and beside the amplified ones
    config.curve_stddevs = (0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.125, 0.15, 0.2, 0.25, 0.3)
    if argument == "quick":
        config.num_seeds = 2
        config.data.num_train = 2000
        config.train.num_epochs = 10
        config.attack.num_images = 8
    return config
