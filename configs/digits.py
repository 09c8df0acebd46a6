"""Tables 1 and 2 on the 1,797 real handwritten digits (8x8) of scikit-learn: no download.

python launch.py --config=configs/digits.py --workdir=runs/digits

The paper measured on MNIST, and its distortions are not to be compared with these; what it says is:
every image of every model is turned (here: all), examples fool other models more than noise does
(in 28 of 30 pairs), FC10(1) is the hardest (it is: 0.167). A minute on two cores.
"""

from configs import default


def get_config(argument: str = ""):
    config = default.get_config(argument, "cross_model")
    default.set_models(config, default.paper_models())
    config.title = "Tables 1 and 2 on scikit-learn's digits"
    # 64 pixels, not 784: the same decay would weigh twelve times as much in the decoder.
    autoencoder = config.models["AE400-10"].autoencoder
    autoencoder.weight_decay.encoder = autoencoder.weight_decay.decoder = 0.1
    autoencoder.sparsity_weight = 0.1
    if argument == "quick":
        config.train.num_epochs = 20
        config.models["AE400-10"].autoencoder.num_epochs = 20
        config.models["AE400-10"].classifier.num_epochs = 20
        config.attack.num_images = 16
    return config
