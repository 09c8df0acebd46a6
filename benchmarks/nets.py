"""The networks of the benchmarks, with their weights: those of the data folder, or trained here.

Trained ones stay in `runs/benchmarks`; the second command finds them there.
"""

import dataclasses
import os
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from intriguing import data, models, predict, training
from intriguing.data import stream
from intriguing.experiments import specs
from intriguing.models import import_weights

PRETRAINED = {  # architecture, file under INTRIGUING_DATA/weights
    "robust_mnist": ("robust_small_mnist", "mnist_robust/robust_small_linf01.npz"),
    "resnet20": ("resnet20", "cifar10/resnet20.npz"),
    "resnet32": ("resnet32", "cifar10/resnet32.npz"),
    "robust_cifar": ("robust_small_cifar", "cifar10/robust_small_l2.npz"),
    "squeezenet": ("squeezenet", "squeezenet_v1.1/squeezenet_v1.1.npz"),
    "googlenet": ("googlenet", "bvlc_googlenet/bvlc_googlenet.npz"),
}
TRAINED = {
    "FC10": {"fc1": 1e-5},
    "FC100-100-10": {"fc1": 1e-5, "fc2": 1e-5, "fc3": 1e-6},
    "AE400-10": {},
}  # weight decay
LARGE = ("squeezenet", "googlenet")  # they are given photographs
WORKDIR = Path("runs/benchmarks")
OSTRICH = 9


class Problem(NamedTuple):
    """Images that the network has right, and what is wanted of them.

    Fields: `logits_fn`, ours; `model` and `params`, of which others make theirs; images (num, h, w,
    c) float32; labels, targets (num,).
    """

    logits_fn: jax.tree_util.Partial
    model: models.LayerGraph
    params: dict
    images: np.ndarray
    labels: np.ndarray
    targets: np.ndarray


def data_folder() -> Path:
    """Of real data and weights, which `INTRIGUING_DATA` names."""
    return Path(os.environ["INTRIGUING_DATA"])


def with_weights(net: str):
    """(model, params, shape of an image) of a network."""
    if net == "alexnet":  # of 2012, with random weights: for its speed
        model, shape = models.alexnet(), (227, 227, 3)
        params = model.init(jax.random.key(0), jnp.zeros((1, *shape)))["params"]
    elif net in PRETRAINED:
        architecture, file = PRETRAINED[net]
        model, params, shape, _ = import_weights.load(
            data_folder() / "weights" / file, architecture
        )
    else:
        (model, params), shape = trained(net), (28, 28, 1)
    return model, jax.device_get(params), shape


def trained(net: str, workdir: Path = WORKDIR):
    """(model, params) of one of MNIST's, kept in `workdir`."""
    train_set = data.load("mnist", "train", data_dir=os.environ.get("INTRIGUING_DATA"))
    options = {"checkpoint_dir": workdir / "checkpoints" / net, "name": f"training {net}"}
    if net == "AE400-10":
        spec = specs.AutoencoderClassifier()
        phases = {
            part: dataclasses.asdict(getattr(spec, part)) for part in ("autoencoder", "classifier")
        }
        phases["autoencoder"]["num_epochs"], phases["classifier"]["num_epochs"] = 30, 150
        model = spec.build(10)
        return model, training.fit_autoencoder_classifier(
            model,
            train_set,
            jax.random.key(0),
            phases=phases,
            batch_size=100,
            learning_rate=1e-3,
            **options,
        )
    model = models.fully_connected(tuple(map(int, net.removeprefix("FC").split("-")[:-1])))
    state = training.fit(
        model, train_set, jax.random.key(0), num_epochs=60, batch_size=100, learning_rate=3e-3,
        weight_decay=TRAINED[net], **options,
    )  # fmt: skip
    return model, state.params


def problem(net: str, num: int) -> Problem:
    """The first `num` images that the network has right; random targets, or ostrich."""
    model, params, shape = with_weights(net)
    logits_fn = models.logits_fn(model, {"params": jax.device_put(params)})
    if net in LARGE:
        folder = str(data_folder() / "imagenet_sample")
        source = stream.open_source("image_folder", "test", image_size=shape[0], data_dir=folder)
        images, _ = source.read(range(min(3 * num, len(source.labels))))
        labels = np.asarray(source.labels[: len(images)])
    elif "28" in str(shape):
        test_set = data.load("mnist", "test", data_dir=str(data_folder()))
        images, labels = test_set.images[: 2 * num], test_set.labels[: 2 * num]
    else:
        with np.load(data_folder() / "cifar10" / "cifar10_sample.npz") as arrays:
            images, labels = arrays["x_test"][: 2 * num + 10], arrays["y_test"][: 2 * num + 10]
            images = images.astype(np.float32) / 255
    labels = labels.astype(np.int32)
    rows = np.flatnonzero(predict.predict(logits_fn, images) == labels)[:num]
    images, labels = images[rows], labels[rows]
    if net in LARGE:
        targets = np.full(len(rows), OSTRICH, np.int32)
    else:
        offsets = np.random.default_rng(0).integers(1, 10, len(rows))
        targets = ((labels + offsets) % 10).astype(np.int32)
    return Problem(logits_fn, model, params, images, labels, targets)
