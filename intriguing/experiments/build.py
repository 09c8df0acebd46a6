"""From config fields to data, trained models and attacks: what every experiment needs."""

import platform
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np

from intriguing import (
    attack,
    attack_inputs,
    data,
    models,
    report,
    results,
    sharding,
    targets,
    train,
)
from intriguing.errors import InputError
from intriguing.progress import Progress, logger


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


FAMILIES = ("fully_connected", "autoencoder_classifier")


def check_config(config) -> None:
    """Raises InputError for what no experiment can run with, before anything is computed."""
    if not config.model_names:
        raise InputError(f"model_names is empty: name some of {', '.join(config.models)}")
    for name in config.model_names:
        if name not in config.models:
            raise InputError(f'model_names: "{name}" is not one of {", ".join(config.models)}')
        spec = config.models[name]
        if spec.family not in FAMILIES:
            known = ", ".join(FAMILIES)
            raise InputError(f'models.{name}.family is "{spec.family}": it must be one of {known}')
        parts = [spec] if spec.family == "fully_connected" else [spec.autoencoder, spec.classifier]
        for part in parts:
            settings = {**config.train, **part}
            wanted = ("num_epochs", "batch_size", "learning_rate", "weight_decay")
            try:
                train.check_options(**{key: settings[key] for key in wanted})
            except InputError as error:
                raise InputError(f"{name}: {error}") from error
    if config.attack.targets not in targets.RULES:
        known = ", ".join(targets.RULES)
        raise InputError(f'attack.targets is "{config.attack.targets}": it must be one of {known}')
    options = dict(config.attack, num_lanes=config.attack.num_lanes or None)
    for key in ("num_images", "targets", "target_class", "refine", "squared_norm"):
        del options[key]
    attack_inputs.check_options(**options)
    if config.shard_size < 1 or config.data.num_train < 0:
        raise InputError("shard_size must be at least 1 and data.num_train at least 0")


def train_model(config, dataset: data.Dataset, name: str, workdir: Path, mesh):
    """Trains (or restores) the model that `config.models[name]` describes; its logits function."""
    spec = config.models[name]
    key = jax.random.fold_in(jax.random.key(config.seed), config.model_names.index(name))
    options = {
        **config.train,
        "mesh": sharding.whole_batches(mesh),
        "checkpoint_dir": workdir / "checkpoints" / name,
        "name": f"training {name}",
        "log": metrics_logger(workdir, name),
    }
    num_classes = len(dataset.class_names)
    if spec.family == "autoencoder_classifier":
        model = models.AutoencoderClassifier(spec.num_units, num_classes)
        phases = {"autoencoder": spec.autoencoder, "classifier": spec.classifier}
        params = train.fit_autoencoder_classifier(model, dataset, key, **phases, **options)
    else:
        model = models.FullyConnected(tuple(spec.hidden_sizes), num_classes)
        options["weight_decay"] = spec.weight_decay
        params = train.fit(model, dataset, key, **options).params
    return models.logits_fn(model, {"params": params})


def metrics_logger(workdir: Path, name: str) -> Callable[..., None]:
    """A function (epoch, **metrics) that appends to the metrics file of the run."""

    def log(epoch: int, **metrics: float) -> None:
        named = {f"train/{name}/{metric}": value for metric, value in metrics.items()}
        results.append_metrics(workdir / "metrics.jsonl", epoch, **named)

    return log


def attack_images(config, logits_fn, dataset, name: str, workdir: Path, key, mesh):
    """Attacks the first images of `dataset` shard by shard, resuming; returns a dict of arrays."""
    options = dict(config.attack)
    options["num_lanes"] = options["num_lanes"] or None
    num_images = min(options.pop("num_images") or len(dataset.images), len(dataset.images))

    def compute(start: int, stop: int) -> dict[str, np.ndarray]:
        images, labels = dataset.images[start:stop], dataset.labels[start:stop]
        result, target_labels = attack.attack_batch(
            logits_fn, images, labels, key=key, indices=np.arange(start, stop), mesh=mesh, **options
        )
        arrays = result._asdict()
        perturbations = arrays["adv_images"] - images
        return {**arrays, "perturbation": perturbations, "target_labels": target_labels}

    directory = workdir / "results" / name
    with Progress(num_images, f"attacking {name}") as progress:
        return results.map_shards(
            directory, num_images, config.shard_size, compute, progress=progress.update
        )


@contextmanager
def timed(workdir: Path, phase: str):
    """Adds the seconds that the block took to the metrics file; see `seconds_per_phase`."""
    logger.info("%s", phase)
    start = time.monotonic()
    try:
        yield
    finally:
        seconds = time.monotonic() - start
        results.append_metrics(workdir / "metrics.jsonl", 0, phase=phase, seconds=seconds)


def seconds_per_phase(workdir: Path) -> dict[str, float]:
    """Seconds spent in each phase, over all runs in this workdir."""
    seconds = {}
    for line in results.read_metrics(workdir / "metrics.jsonl"):
        if "phase" in line:
            seconds[line["phase"]] = seconds.get(line["phase"], 0.0) + line["seconds"]
    return seconds


def versions() -> dict[str, str]:
    """What the numbers were made with: library versions and the device."""
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        "jax": jax.__version__,
        "numpy": np.__version__,
        "device": f"{len(jax.devices())} x {device.device_kind}",
    }


def write_outcome(config, workdir: Path, tables, shown) -> dict:
    """Writes report.html and summary.json from the tables and figures; returns the summary."""
    seconds = seconds_per_phase(workdir)
    facts = {
        "experiment": config.experiment,
        "seed": config.seed,
        **versions(),
        "seconds": f"{sum(seconds.values()):.0f} in all",
        **{f"seconds: {phase}": f"{value:.1f}" for phase, value in seconds.items()},
    }
    report.write_report(workdir, config.title, tables, shown, facts)
    about = {"experiment": config.experiment, "versions": versions(), "seconds": seconds}
    summary = report.merge_summary(about, tables)
    results.write_summary(workdir / "summary.json", summary)
    for table in tables:
        print(report.to_text(table), flush=True)
    print(f"Report: {workdir / 'report.html'}")
    return summary
