"""The search behind configs/mnist_adversarial_training.py: ways to train the 100-100-10 net.

    INTRIGUING_DATA=... python -m benchmarks.pools [--trial="input 45e-3" ...]

Trains on the first 50,000 images and prints the errors on the other 10,000, by which settings are
chosen, and on the test set. A trial that is finished is not trained again.
"""

from dataclasses import replace
from pathlib import Path

from absl import app, flags

from benchmarks import common
from configs import default
from configs.mnist_adversarial_training import get_config as paper_config
from configs.mnist_adversarial_training import net, with_pools
from intriguing import data, metrics, sharding
from intriguing.experiments import build, settings
from intriguing.experiments.specs import FullyConnected
from intriguing.predict import predict

_TRIALS = flags.DEFINE_multi_string("trial", [], "name of a trial; default: all")
_WORKDIR = flags.DEFINE_string("workdir", "runs/pools", "where trained nets are kept")
NUM_VALIDATION = 10_000


def trial(spec: FullyConnected, num_epochs: int = 200, **pools) -> FullyConnected:
    """The spec with this length of training; `pools` are fields of its pools."""
    pools = replace(spec.pools, size=60_000 - NUM_VALIDATION, **pools)
    return replace(spec, train={"num_epochs": num_epochs}, pools=pools)


def half_decay(spec: FullyConnected) -> FullyConnected:
    """The spec with half the weight decay."""
    halved = {layer: decay / 2 for layer, decay in spec.weight_decay.items()}
    return replace(spec, weight_decay=halved)


INPUT = {"images": 1.0}
ALL = {"images": 1.0, "fc1_sigmoid": 0.3, "fc2_sigmoid": 0.3}
TRIALS = {  # new ones go to the end: the place in the list is part of a trial's seed
    "input 45e-3": trial(with_pools(INPUT, {"images": 0.045})),
    "input 60e-3": trial(with_pools(INPUT, {"images": 0.06})),
    "input 45e-3, maxiter 5": trial(with_pools(INPUT, {"images": 0.045}, 5)),
    "input 45e-3, half decay": half_decay(trial(with_pools(INPUT, {"images": 0.045}))),
    "layers 45e-3, 30e-3, 30e-3": trial(
        with_pools(ALL, {"images": 0.045, "fc1_sigmoid": 0.03, "fc2_sigmoid": 0.03})
    ),
    "layers 45e-3, 100e-3, 100e-3": trial(
        with_pools(ALL, {"images": 0.045, "fc1_sigmoid": 0.1, "fc2_sigmoid": 0.1})
    ),
}

for decay in (3e-3, 1e-3):
    TRIALS[f"decay {decay:.0e}"] = trial(net(decay, decay, decay / 10))
for rates in ((0.2, 0.0, 0.0), (0.2, 0.1, 0.1)):
    name = "dropout " + " ".join(f"{100 * rate:.0f}%" for rate in rates)
    TRIALS[name] = trial(net(1e-5, 1e-5, 1e-6, dropout_rates=rates))
for weight in (3e-4, 1e-4, 1e-3, 3e-3):
    TRIALS[f"Lipschitz {weight:.0e}"] = trial(net(0.0, 0.0, 0.0, lipschitz_weight=weight))


def main(_) -> None:
    config = paper_config()
    default.set_models(config, TRIALS)
    config = settings.read(config.to_dict())
    train_set, test_set = build.load_data(config)
    fit_set, validation_set = (
        data.take(train_set, part)
        for part in (slice(-NUM_VALIDATION), slice(-NUM_VALIDATION, None))
    )
    names = _TRIALS.value or list(TRIALS)
    jobs = [build.Job(name, fit_set, 0, name) for name in names]
    trained = build.train_models(config, jobs, Path(_WORKDIR.value), sharding.make_mesh())
    parts = (fit_set, validation_set, test_set)
    rows = [
        [name, *(f"{metrics.error_rate(predict(model.logits_fn, part.images), part.labels):.2%}"
                 for part in parts)]
        for name, model in zip(names, trained, strict=True)
    ]  # fmt: skip
    common.print_table("Ways to train", ["trial", "train", "validation", "test"], rows)


if __name__ == "__main__":
    sharding.use_cores()
    app.run(main)
