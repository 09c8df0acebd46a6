"""Figures 1 and 2 on MNIST, with the measurement that the paper lacks: units or any direction?

python launch.py --config=configs/mnist_units.py
"""

from ml_collections import ConfigDict

from configs import default


def get_config(argument: str = ""):
    config = default.get_config(argument)
    config.experiment = "unit_analysis"
    config.title = "Figures 1 and 2 on MNIST: units and random directions"
    config.data.name = "mnist"
    config.models = ConfigDict({"ConvNet": default.conv_net((16, 32), 200)})
    config.model_names = ("ConvNet",)
    config.units.layers = ("pool1", "pool2", "fc1_relu")
    config.train.num_epochs = 5
    config.train.learning_rate = 1e-3
    if argument == "quick":
        config.data.num_train = 2000
        config.train.num_epochs = 2
    return config
