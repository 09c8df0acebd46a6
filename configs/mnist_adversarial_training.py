"""Adversarial training on MNIST: pools per layer beside weight decay, dropout and others.

python launch.py --config=configs/mnist_adversarial_training.py

Test error, the paper's / ours over five seeds: weight decay 1.6% / 1.57%, dropout 1.3% / 1.65%,
pools of all layers below 1.2% / 1.21%, of the input alone - / 1.18%. 116 minutes on two cores.
"""

from configs import default
from intriguing.experiments import specs

LAYERS = ("images", "fc1_sigmoid", "fc2_sigmoid")  # whose pools there are: input, hidden layers


def net(*weight_decay: float, **differences) -> specs.FullyConnected:
    """A 100-100-10 sigmoid net."""
    return default.fully_connected((100, 100), *weight_decay, **differences)


def with_pools(
    weights: dict[str, float], stddevs: dict[str, float] | None = None, maxiter: int = 10
) -> specs.FullyConnected:
    """The net with pools: weight of each pool's loss, and the size of the perturbations.

    Found with `python -m benchmarks.pools` on the last 10,000 training images.
    """
    attack_options = {**specs.Pools().attack_options, "maxiter": maxiter}
    pools = specs.Pools(weights=weights, stddevs=stddevs or {}, targets="runner_up",
                        batch_size=500, replaced=0.05, attack_options=attack_options)  # fmt: skip
    return net(1e-3, 1e-3, 1e-4, pools=pools)


def get_config(argument: str = ""):
    config = default.get_config(argument, "adversarial_training")
    config.title = "Adversarial training on MNIST"
    config.data.name = "mnist"
    config.num_seeds = 5
    config.train.num_epochs = 200
    config.train.batch_size = 500
    config.train.learning_rate = 1e-2
    stddevs = {"images": 0.045, "fc1_sigmoid": 0.03, "fc2_sigmoid": 0.03}
    rows = {
        "weight decay": net(3e-3, 3e-3, 3e-4),
        "dropout": net(1e-5, 1e-5, 1e-6, dropout_rates=(0.2, 0.1, 0.1)),
        "Lipschitz penalty": net(0.0, 0.0, 0.0, lipschitz_weight=3e-4),
        "input pool": with_pools({"images": 1.0}, {"images": 0.045}, 5),
        "top pool": with_pools({"fc2_sigmoid": 0.3}, {"fc2_sigmoid": 0.03}, 5),
        "pool per layer": with_pools(dict(zip(LAYERS, (1.0, 0.3, 0.3), strict=True)), stddevs, 5),
        "pool per layer, minimal": with_pools(dict.fromkeys(LAYERS, 0.3)),
    }
    default.set_models(config, rows)
    if argument == "quick":
        config.num_seeds = 2
        config.data.num_train = 2000
        config.train.num_epochs = 3
        config.attack.num_images = 8
        for name in rows:
            config.models[name].pools.size = 500
    return config
