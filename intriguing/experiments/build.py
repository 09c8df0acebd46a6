"""From config fields to data, trained models and attacks: what every experiment needs."""

import time
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from intriguing import attack, data, identity, models, runs, sharding, training
from intriguing.analysis import lipschitz
from intriguing.data import stream
from intriguing.errors import InputError
from intriguing.models import import_weights, quocnet
from intriguing.progress import Progress, logger
from intriguing.runs import shards
from intriguing.training import adversarial, rica, sgd


def load_data(config) -> tuple[data.Dataset, data.Dataset]:
    """The training set and the test set that `config.data` names."""
    options = {
        "data_dir": config.data.dir or None,
        "download": config.data.download,
        "image_size": config.data.image_size or None,
    }
    num_train = config.data.num_train or None
    train_set = data.load(config.data.name, "train", num_examples=num_train, **options)
    return train_set, data.load(config.data.name, "test", **options)


def open_images(config, split: str = "test", image_size: int = 0) -> stream.Source:
    """The images that `config.data` names, of that size or its own, read as they are needed."""
    return stream.open_source(
        config.data.name, split, image_size=image_size or config.data.image_size or None,
        data_dir=config.data.dir or None, download=config.data.download,
    )  # fmt: skip


class Trained(NamedTuple):
    """A model with its parameters."""

    model: object
    params: dict

    @property
    def logits_fn(self):
        return models.logits_fn(self.model, {"params": self.params})


def large_model(config, name: str, workdir: Path, mesh) -> Trained:
    """The network of `config.models[name]` with weights from a file, "random", or training.

    Training is by `config.sgd`, on the training images that `config.data` names.
    """
    spec = config.models[name]
    about = models.PRETRAINED[spec.architecture]
    if spec.weights == "random":
        logger.warning("%s has random weights: what follows says nothing about trained ones", name)
        model, images = about.build(), jnp.zeros((1, *about.image_shape))
        return Trained(model, jax.jit(model.init)(jax.random.key(config.seed), images)["params"])
    if spec.weights:
        weights = import_weights.load(spec.weights, spec.architecture)
        return Trained(weights.model, jax.device_put(weights.params))
    options = dict(config.sgd)
    source = open_images(config, "train", options.pop("image_size"))
    model = about.build(len(source.class_names))
    logger.info("%s has no weights (--config.models.%s.weights): training on %d images", name, name,
                len(source.labels))  # fmt: skip
    state = sgd.fit(
        model, source, jax.random.key(config.seed), crop_size=config.data.image_size,
        mesh=sharding.whole_batches(mesh), checkpoint_dir=workdir / "checkpoints" / name,
        name=f"training {name}", log=metrics_logger(workdir, name), **options,
    )  # fmt: skip
    return Trained(model, jax.device_get(state.params))


def quocnet_model(spec, num_classes: int) -> quocnet.QuocNet:
    """The network of a spec of the family "quocnet"."""
    sizes = (spec[field] for field in quocnet.Stage._fields)
    stages = tuple(quocnet.Stage(*stage) for stage in zip(*sizes, strict=True))
    return quocnet.QuocNet(stages, num_classes, spec.input_norm)


def quocnet_filters(
    config, name: str, model: quocnet.QuocNet, views: data.Dataset, workdir: Path, mesh
) -> dict:
    """Its filters: from a folder, "random", or learned without labels.

    From the images of `config.unlabelled`; if that names none, from `views` of the training images.
    """
    spec, input_shape = config.models[name], views.images.shape[1:]
    key = jax.random.key(config.seed)
    if spec.weights == "random":
        logger.warning("%s has random filters: nothing was learned", name)
        return rica.init(model, input_shape, key, mesh)
    if spec.weights:
        return rica.load(model, input_shape, spec.weights, mesh)
    source = stream.of_dataset(views)
    if config.unlabelled.name:
        source = stream.open_source(
            config.unlabelled.name, "train", image_size=config.data.image_size,
            data_dir=config.unlabelled.dir or None, download=config.data.download,
        )  # fmt: skip
        if (shape := source.read(range(1))[0].shape[1:]) != input_shape:
            raise InputError(f"unlabelled: images are {shape}, those of data {input_shape}")
    return rica.fit(
        model, source, key, crop_size=config.data.image_size, num_epochs=spec.num_epochs,
        batch_size=spec.batch_size, learning_rate=spec.learning_rate,
        sparsity_weights=spec.sparsity_weight, mesh=mesh,
        checkpoint_dir=workdir / "checkpoints" / name, name=f"training {name}",
        log=metrics_logger(workdir, name),
    )  # fmt: skip


def any_model(config, names, workdir: Path, mesh) -> dict[str, Trained]:
    """The models of these names: trained (or restored) on the training set, or pretrained."""
    found = {name: large_model(config, name, workdir, mesh) for name in names
             if config.models[name].family == "large"}  # fmt: skip
    jobs = [name for name in names if name not in found]
    if jobs:
        train_set, _ = load_data(config)
        trained = train_models(config, [Job(name, train_set) for name in jobs], workdir, mesh)
        found.update(zip(jobs, trained, strict=True))
    return found


class Job(NamedTuple):
    """One training: which entry of `config.models`, on which data, and what it is called."""

    name: str
    dataset: data.Dataset
    seed: int = 0  # added to the config's
    label: str = ""  # of its files and progress; default: `name`


def train_models(config, jobs: Iterable[Job], workdir: Path, mesh) -> list[Trained]:
    """Trains (or restores) a model per job, as many at a time as there are devices."""

    def run(job: Job, mesh) -> Trained:
        label = job.label or job.name
        key = jax.random.key(config.seed + job.seed)
        options = {
            **config.train,
            **config.models[job.name].get("train", {}),
            "mesh": sharding.whole_batches(mesh),
            "checkpoint_dir": workdir / "checkpoints" / label,
            "name": f"training {label}",
            "log": metrics_logger(workdir, label),
        }
        key = jax.random.fold_in(key, config.model_names.index(job.name))
        return train(config.models[job.name], job.dataset, key, options)

    return sharding.side_by_side(run, jobs, mesh)


def _small_model(spec, num_classes: int) -> models.LayerGraph:
    """The network of a spec that is trained on a whole data set."""
    match spec.family:
        case "fully_connected":
            sizes, rates = tuple(spec.hidden_sizes), tuple(spec.dropout_rates)
            return models.fully_connected(sizes, num_classes, rates)
        case "conv_net":
            return models.conv_net(tuple(spec.features), spec.num_units, num_classes)
        case "autoencoder_classifier":
            return models.autoencoder_classifier(spec.num_units, num_classes)
    raise InputError(f'family is "{spec.family}": it must be one of {", ".join(FAMILIES)}')


FAMILIES = ("fully_connected", "conv_net", "autoencoder_classifier")  # trained on whole data sets


def train(spec, dataset: data.Dataset, key, options) -> Trained:
    """Trains the network of one spec; `options` of `training.fit`."""
    model = _small_model(spec, len(dataset.class_names))
    if spec.family == "autoencoder_classifier":
        phases = {"autoencoder": spec.autoencoder, "classifier": spec.classifier}
        params = training.fit_autoencoder_classifier(model, dataset, key, phases=phases, **options)
        return Trained(model, params)
    options["weight_decay"] = spec.weight_decay
    if spec.pools.weights:
        pools = adversarial.PoolOptions(**spec.pools)
        return Trained(model, adversarial.fit(model, dataset, key, pools=pools, **options).params)
    if spec.lipschitz_weight:
        nodes, image_shape, weight = model.nodes, dataset.images.shape[1:], spec.lipschitz_weight
        options["penalty_fn"] = lambda params: (
            weight * lipschitz.lipschitz_penalty(nodes, params, image_shape)
        )
    return Trained(model, training.fit(model, dataset, key, **options).params)


def metrics_logger(workdir: Path, name: str) -> Callable[..., None]:
    """A function (epoch, **metrics) that appends to the metrics file of the run."""

    def log(epoch: int, **metrics: float) -> None:
        named = {f"train/{name}/{metric}": value for metric, value in metrics.items()}
        runs.append_metrics(workdir / "metrics.jsonl", epoch, **named)

    return log


def attack_options(config, protocol: str) -> dict:
    """Arguments of `attack.attack_batch` under one of `config.protocols`; and `num_images`."""
    options = {**config.attack, **config.protocols[protocol]}
    return {**options, "num_lanes": options["num_lanes"] or None}


def attack_images(config, logits_fn, dataset, name: str, workdir: Path, mesh, protocol: str):
    """Attacks the first images of `dataset` shard by shard, resuming; the images stay on disk."""
    options = attack_options(config, protocol)
    num_images = min(options.pop("num_images") or len(dataset.images), len(dataset.images))
    key = key_for(config, TARGETS)
    attacked = attack_identity(logits_fn, dataset.images, key, options)

    def made_from(start: int, stop: int) -> identity.MadeFrom:
        images, labels = dataset.images[start:stop], dataset.labels[start:stop]
        return {**attacked, "images": identity.of_arrays(images, labels)}

    def compute(start: int, stop: int) -> dict[str, np.ndarray]:
        images, labels = dataset.images[start:stop], dataset.labels[start:stop]
        result, target_labels = attack.attack_batch(
            logits_fn, images, labels, key=key, indices=np.arange(start, stop), mesh=mesh, **options
        )
        return {
            **result._asdict(), "target_labels": target_labels, "labels": labels,
            "indices": np.arange(start, stop),
        }  # fmt: skip

    where = shards.Shards(workdir / "results" / name / protocol, num_images, config.shard_size)
    with Progress(num_images, f"attacking {name} ({protocol})") as progress:
        return shards.map_shards(
            where, compute, made_from=made_from, progress=progress.update, on_disk=("adv_images",)
        )


def attack_identity(logits_fn, images, key, options: dict) -> identity.MadeFrom:
    """What attacks with these options depend on, but for the images themselves."""
    told = {name: value for name, value in options.items() if name != "num_lanes"}
    return {
        **identity.of_model(logits_fn, images.shape[1:], images.dtype),
        "settings": identity.of_settings(**told),
        "seed": identity.of_arrays(key),
    }


def attack_all(config, victims: dict, dataset, workdir: Path, mesh) -> dict[str, dict]:
    """Attacks every model of `victims` under every protocol: {protocol: {name: arrays}}."""
    attacks = {}
    for protocol in config.protocols:
        with timed(workdir, f"attacks, {protocol}"):
            attacks[protocol] = {
                name: attack_images(config, logits_fn, dataset, name, workdir, mesh, protocol)
                for name, logits_fn in victims.items()
            }
    return attacks


# What keys are for: folded into that of the config's seed, beside the models' own (0, 1, ...).
TARGETS, NOISE, SPLIT, DIRECTIONS = 1000, 1001, 1002, 1003


def key_for(config, purpose: int, seed: int = 0) -> jax.Array:
    """The key of one purpose, `NOISE` for instance."""
    return jax.random.fold_in(jax.random.key(config.seed + seed), purpose)


@contextmanager
def timed(workdir: Path, phase: str):
    """Adds the seconds that the block took to the metrics file; see `seconds_per_phase`."""
    logger.info("%s", phase)
    start = time.monotonic()
    try:
        yield
    finally:
        seconds = time.monotonic() - start
        runs.append_metrics(workdir / "metrics.jsonl", 0, phase=phase, seconds=seconds)


def seconds_per_phase(workdir: Path) -> dict[str, float]:
    """Seconds spent in each phase, over all runs in this workdir."""
    seconds = {}
    for line in runs.read_metrics(workdir / "metrics.jsonl"):
        if "phase" in line:
            seconds[line["phase"]] = seconds.get(line["phase"], 0.0) + line["seconds"]
    return seconds
