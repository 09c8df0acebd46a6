"""From settings to data and trained networks: what every experiment needs."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from intriguing import data, models, processes, sharding, training
from intriguing.analysis import lipschitz
from intriguing.data import imagenet, stream
from intriguing.errors import InputError
from intriguing.experiments import settings as _settings
from intriguing.experiments import specs
from intriguing.experiments.phases import metrics_logger
from intriguing.models import import_weights, quocnet
from intriguing.progress import logger
from intriguing.training import adversarial, rica, sgd


def load_data(settings) -> tuple[data.Dataset, data.Dataset]:
    """The training set and the test set that `settings.data` names."""
    spec = settings.data
    options = {
        "data_dir": spec.dir or None,
        "download": spec.download,
        "image_size": spec.image_size or None,
    }
    train_set = data.load(spec.name, "train", num_examples=spec.num_train or None, **options)
    return train_set, data.load(spec.name, "test", **options)


def open_images(settings, split: str = "test", image_size: int = 0) -> stream.Source:
    """The images that `settings.data` names, of that size or its own, read as they are needed."""
    spec = settings.data
    return stream.open_source(
        spec.name, split, image_size=image_size or spec.image_size or None,
        data_dir=spec.dir or None, download=spec.download,
    )  # fmt: skip


class Trained(NamedTuple):
    """A model with its parameters."""

    model: object
    params: dict

    @property
    def logits_fn(self):
        """Images -> logits."""
        return models.logits_fn(self.model, {"params": self.params})


def large_model(settings, name: str, workdir: Path, mesh) -> Trained:
    """The network of `settings.models[name]`, with weights as its spec says.

    From a file, as published (fetched), "random", or "train": by `settings.sgd`, on the training
    images that `settings.data` names.
    """
    spec = settings.models[name]
    about, key = models.PRETRAINED[spec.architecture], jax.random.key(settings.seed)
    if spec.weights == "random":
        logger.warning("%s has random weights: what follows says nothing about trained ones", name)
        model, images = about.build(), jnp.zeros((1, *about.image_shape))
        return Trained(model, jax.jit(model.init)(key, images)["params"])
    if spec.weights != "train":
        path = spec.weights or import_weights.published(spec.architecture, settings.data.download)
        weights = import_weights.load(path, spec.architecture)
        return Trained(weights.model, jax.device_put(weights.params))
    options = dataclasses.asdict(settings.sgd)
    source = open_images(settings, "train", options.pop("image_size"))
    source = stream.thin(source, settings.data.num_train)
    _check_trainable(source, settings.quick)
    model = about.build(len(source.class_names))
    logger.info("%s: weights=train: training on %d images", name, len(source.labels))
    state = sgd.fit(
        model, source, key, crop_size=settings.data.image_size,
        mesh=sharding.of_all_processes(mesh), checkpoint_dir=workdir / "checkpoints" / name,
        name=f"training {name}", log=metrics_logger(workdir, name), **options,
    )  # fmt: skip
    return Trained(model, jax.device_get(state.params))


def _check_trainable(source: stream.Source, quick: bool) -> None:
    """Raises InputError if most classes have one image: nothing can be learned that carries over.

    A quick run, which is to learn nothing, is warned.
    """
    _, counts = np.unique(source.labels, return_counts=True)
    if np.median(counts) > 1:
        return
    reason = (
        f"{len(source.labels)} training images of {len(counts)} classes, most with one image each:"
        " a network would learn these images by heart; give more images, or name weights"
    )
    if not quick:
        raise InputError(reason)
    logger.warning(reason)


def match(source: stream.Source, net: Trained) -> stream.Source:
    """The source with labels that are the network's classes. Raises InputError: they are others."""
    image = jax.ShapeDtypeStruct((1, *source.read(range(1))[0].shape[1:]), jnp.float32)
    return imagenet.match(source, jax.eval_shape(net.logits_fn, image).shape[1])


def quocnet_model(spec: specs.QuocNet, num_classes: int) -> quocnet.QuocNet:
    """The network of a spec of the family "quocnet"."""
    sizes = (getattr(spec, size) for size in quocnet.Stage._fields)
    stages = tuple(quocnet.Stage(*stage) for stage in zip(*sizes, strict=True))
    return quocnet.QuocNet(stages, num_classes, spec.input_norm)


def quocnet_filters(
    settings, name: str, model: quocnet.QuocNet, views: data.Dataset, workdir: Path, mesh
) -> dict:
    """Its filters: from a folder, "random", or learned without labels.

    From the images of `settings.unlabelled`; if that names none, from `views` of the training ones.
    """
    spec, input_shape = settings.models[name], views.images.shape[1:]
    key = jax.random.key(settings.seed)
    if spec.weights == "random":
        logger.warning("%s has random filters: nothing was learned", name)
        return rica.init(model, input_shape, key, mesh)
    if spec.weights:
        return rica.load(model, input_shape, spec.weights, mesh)
    source, image_size = stream.of_dataset(views), settings.data.image_size
    if settings.unlabelled.name:
        source = stream.open_source(
            settings.unlabelled.name, "train", image_size=image_size,
            data_dir=settings.unlabelled.dir or None, download=settings.data.download,
        )  # fmt: skip
        if (shape := source.read(range(1))[0].shape[1:]) != input_shape:
            raise InputError(f"unlabelled: images are {shape}, those of data {input_shape}")
    return rica.fit(
        model, source, key, crop_size=image_size, num_epochs=spec.num_epochs,
        batch_size=spec.batch_size, learning_rate=spec.learning_rate,
        sparsity_weights=spec.sparsity_weight, mesh=mesh,
        checkpoint_dir=workdir / "checkpoints" / name, name=f"training {name}",
        log=metrics_logger(workdir, name),
    )  # fmt: skip


def any_model(settings, names, workdir: Path, mesh) -> dict[str, Trained]:
    """The models of these names: trained (or restored) on the training set, or pretrained."""
    found = {name: large_model(settings, name, workdir, mesh) for name in names
             if settings.models[name].family == "large"}  # fmt: skip
    jobs = [name for name in names if name not in found]
    if jobs:
        train_set, _ = load_data(settings)
        trained = train_models(settings, [Job(name, train_set) for name in jobs], workdir, mesh)
        found.update(zip(jobs, trained, strict=True))
    return found


class Job(NamedTuple):
    """One training: which entry of `settings.models`, on which data, and what it is called."""

    name: str
    dataset: data.Dataset
    seed: int = 0  # added to the settings'
    label: str = ""  # of its files and progress; default: `name`


def train_models(settings, jobs: Iterable[Job], workdir: Path, mesh) -> list[Trained]:
    """Trains (or restores) a model per job, as many at a time as there are devices.

    Seeds of one network are one program, but for those whose training leaves it: pools, which are
    attacked anew every epoch, and the two phases of the autoencoder.
    """
    jobs, groups = list(jobs), {}
    for i, job in enumerate(jobs):
        spec = settings.models[job.name]
        is_alone = isinstance(spec, specs.AutoencoderClassifier) or spec.pools.weights
        groups.setdefault((job.name, i if is_alone else -1), []).append(i)

    def run(group: list[int], mesh) -> list[Trained]:
        return _train_together(settings, [jobs[i] for i in group], workdir, mesh)

    if processes.count() > 1:  # each trains some; then all find all of them finished
        names = [f"{i:03d}" for i in range(len(groups))]
        processes.share(workdir / "checkpoints", list(groups.values()), names, run,
                        lambda do, items: sharding.side_by_side(do, items, mesh))  # fmt: skip
    trained = sharding.side_by_side(run, groups.values(), mesh)
    found = {
        i: each
        for group, models_ in zip(groups.values(), trained, strict=True)
        for i, each in zip(group, models_, strict=True)
    }
    return [found[i] for i in range(len(jobs))]


def _train_together(settings, jobs: list[Job], workdir: Path, mesh) -> list[Trained]:
    """Trains one network on each of the jobs' data, with each of their seeds."""
    name, labels = jobs[0].name, [job.label or job.name for job in jobs]
    spec, dataset = settings.models[name], jobs[0].dataset
    keys = [
        jax.random.fold_in(jax.random.key(settings.seed + job.seed),
                           settings.model_names.index(name))
        for job in jobs
    ]  # fmt: skip
    logs = [metrics_logger(workdir, label) for label in labels]
    label = labels[0] if len(jobs) == 1 else f"{name}, {len(jobs)} seeds"
    options = {
        **_settings.train_options(settings, spec),
        "mesh": sharding.whole_batches(mesh),
        "checkpoint_dir": workdir / "checkpoints" / label,
        "name": f"training {label}",
    }
    if len(jobs) == 1:
        return [train(spec, dataset, keys[0], options | {"log": logs[0]})]

    def log_all(step: int, loss: np.ndarray) -> None:
        for log, each in zip(logs, loss, strict=True):
            log(step, loss=float(each))

    if any(job.dataset is not dataset for job in jobs):
        parts = zip(*((job.dataset.images, job.dataset.labels) for job in jobs), strict=True)
        images, targets = map(np.stack, parts)
        dataset = dataset._replace(images=images, labels=targets)
    whole = train(spec, dataset, jnp.stack(keys), options | {"log": log_all})
    params = jax.device_get(whole.params)
    return [whole._replace(params=jax.tree.map(lambda array, i=i: array[i], params))
            for i in range(len(jobs))]  # fmt: skip


def train(spec: specs.SMALL, dataset: data.Dataset, key: jax.Array, options: dict) -> Trained:
    """Trains the network of one spec; `options` of `training.fit`."""
    model = spec.build(len(dataset.class_names))
    if isinstance(spec, specs.AutoencoderClassifier):
        phases = {
            "autoencoder": dataclasses.asdict(spec.autoencoder),
            "classifier": dataclasses.asdict(spec.classifier),
        }
        params = training.fit_autoencoder_classifier(model, dataset, key, phases=phases, **options)
        return Trained(model, params)
    options["weight_decay"] = spec.weight_decay
    if spec.pools.weights:
        pools = adversarial.PoolOptions(**dataclasses.asdict(spec.pools))
        return Trained(model, adversarial.fit(model, dataset, key, pools=pools, **options).params)
    if spec.lipschitz_weight:
        nodes, weight = model.nodes, spec.lipschitz_weight
        image_shape = dataset.images.shape[dataset.labels.ndim :]
        options["penalty_fn"] = lambda params: (
            weight * lipschitz.lipschitz_penalty(nodes, params, image_shape)
        )
    return Trained(model, training.fit(model, dataset, key, **options).params)
