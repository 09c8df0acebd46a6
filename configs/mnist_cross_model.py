"""Tables 1 and 2 on MNIST: six models, and how far examples made for one fool the others.

python launch.py --config=configs/mnist_cross_model.py --workdir=runs/mnist_cross_model

Average minimum distortion, the paper's / ours by the same protocol / refined: FC10(1e-4) 0.062 /
0.0413 / 0.0404; FC10(1e-2) 0.1 / 0.0797 / 0.0775; FC10(1) 0.14 / 0.114 / 0.0968; FC100-100-10
0.058 / 0.0500 / 0.0498; FC200-200-10 0.065 / 0.0586 / 0.0585; AE400-10 0.086 / 0.0848 / 0.0841; all
60,000 training images turned. 20 minutes on two cores.
"""

from configs import default


def get_config(argument: str = ""):
    config = default.get_config(argument, "cross_model")
    config.title = "Tables 1 and 2 on MNIST"
    train_paper_models(config)
    if config.quick:
        config.attack.num_images = 8
    return config


def train_paper_models(config) -> None:
    """The six models of table 1, trained on MNIST."""
    default.set_models(config, default.paper_models())
    config.data.name = "mnist"
    config.train.num_epochs = 60
    config.models["AE400-10"].autoencoder.num_epochs = 30
    config.models["AE400-10"].classifier.num_epochs = 150
    if config.quick:
        config.data.num_train = 2000
        config.train.num_epochs = 5
        config.models["AE400-10"].autoencoder.num_epochs = 5
        config.models["AE400-10"].classifier.num_epochs = 5
