"""Table 5 for the nets of table 1: bounds of their layers, and what those certify on MNIST.

python launch.py --config=configs/mnist_lipschitz.py
"""

from ml_collections import ConfigDict

from configs import default, mnist_cross_model


def get_config(argument: str = ""):
    config = mnist_cross_model.get_config(argument)
    config.experiment = "spectral_analysis"
    config.title = "Spectral bounds on MNIST"
    config.models["FC100-100-10, penalty"] = default.fully_connected((100, 100), 0.0, 0.0, 0.0)
    config.models["FC100-100-10, penalty"].lipschitz_weight = 1e-3  # section 4.3's own proposal
    config.model_names = (*config.model_names, "FC100-100-10, penalty")
    config.attack.num_images = config.attack.num_images or 1000  # test images
    config.attack.targets = "best"  # the nearest class: nothing is nearer than the radius
    config.protocols = ConfigDict({"refined": {"refine": True}})
    return config
