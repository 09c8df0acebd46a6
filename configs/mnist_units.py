"""Figures 1 and 2 on MNIST, with the measurement that the paper lacks: units or any direction?

python launch.py --config=configs/mnist_units.py
"""

from configs import default
from intriguing.experiments import specs


def get_config(argument: str = ""):
    config = default.get_config(argument, "unit_analysis")
    config.title = "Figures 1 and 2 on MNIST: units and random directions"
    config.data.name = "mnist"
    default.set_models(config, {"ConvNet": specs.ConvNet(features=(16, 32), num_units=200)})
    config.units.layers = ("pool1", "pool2", "fc1_relu")
    config.train.num_epochs = 5
    config.train.learning_rate = 1e-3
    if argument == "quick":
        config.data.num_train = 2000
        config.train.num_epochs = 2
    return config
