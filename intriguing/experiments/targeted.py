"""Figure 5: images of any size turned into one class, streamed; and their transfer."""

import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np

from intriguing import atomic, attack, identity, metrics
from intriguing.attack import baselines, eight_bit
from intriguing.data.stream import Source
from intriguing.errors import InputError
from intriguing.experiments import attacks as _attacks
from intriguing.experiments import build
from intriguing.experiments import targeted_views as views
from intriguing.experiments.outcome import Outcome
from intriguing.experiments.phases import NOISE, TARGETS, key_for, timed
from intriguing.predict import logits, predict
from intriguing.progress import Progress, logger
from intriguing.report import Measurement
from intriguing.runs import shards

LARGE = ("adv_images", "png_images")  # stay in the result files
UNREADABLE = -1  # in place of a predicted class


class Victim(NamedTuple):
    """A network to attack: its name, its logits, and the class that it gives every image."""

    name: str
    logits_fn: object
    predictions: np.ndarray


def targeted_attack(settings, workdir: Path, mesh) -> Outcome:
    """Attacks images that each model has right until they are of the class that is aimed at."""
    source, victims = build.open_images(settings), []
    nets = {name: build.large_model(settings, name, workdir, mesh) for name in settings.model_names}
    for net in nets.values():
        source = build.match(source, net)
    aim = views.aim_of(settings, source.class_names)
    for name, net in nets.items():
        logits_fn = net.logits_fn
        with timed(workdir, f"classifying with {name}"):
            predictions = _classify(settings, name, logits_fn, source, workdir)
            victims.append(Victim(name, logits_fn, predictions))
    attacks = {}
    for victim in victims:
        with timed(workdir, f"attacking {victim.name}"):
            chosen = choose(victim, source.labels, settings)
            arrays = _attack(settings, victim, victims, source, chosen, workdir, mesh)
            attacks[victim.name] = chosen, arrays
    with timed(workdir, "tables and figures"):
        kinds = kinds_of(settings)
        records = measure(settings, attacks, victims, source, kinds)
        tables = [views.attack_table(records, settings, aim, len(source.labels))]
        if len(victims) > 1:
            tables.append(views.transfer_table(records, settings, kinds))
        tables += _attacks.endings_tables(records, settings.model_names)
        shown = [
            views.draw_figure(settings, victim.name, attacks[victim.name], source, workdir)
            for victim in victims
            if attacks[victim.name][1]["success"].any()
        ]
    return Outcome(records, tables, shown, views.check_claims(records, settings, aim))


def kinds_of(settings) -> list[str]:
    """The sets of changed images that are tried on every network."""
    kinds = [views.PLAIN, views.SAME_NORM]
    for stddev in settings.curve_stddevs:
        kinds += [amplified(stddev), directions(stddev)]
    return kinds


def measure(settings, attacks, victims, source: Source, kinds) -> list[Measurement]:
    """Errors, how the attacks went, what is left of them in 8 bits, and whom else they fool."""
    records = []
    for victim in victims:
        chosen, arrays = attacks[victim.name]
        readable = victim.predictions != UNREADABLE
        wrong = (victim.predictions != source.labels)[readable]
        records.append(Measurement("error", metrics.mean(wrong), victim.name, on="test",
                                   num=int(readable.sum())))  # fmt: skip
        records.append(Measurement("images", len(chosen), victim.name, settings.protocol))
        records += _attacks.measure(victim.name, settings.protocol, arrays)
        in_files = arrays["png_success"]
        for metric, value in {
            "rounded_success": metrics.mean(arrays["rounded_success"]),
            "png_success": metrics.mean(in_files),
            "png_distortion": metrics.mean(arrays["png_distortion"], where=in_files),
        }.items():
            records.append(Measurement(metric, value, victim.name, settings.protocol,
                                       num=len(chosen)))  # fmt: skip
        for kind in kinds:
            for other in victims:
                right = (other.predictions[chosen] == arrays["labels"]) & arrays["success"]
                error = metrics.mean(arrays[f"{other.name}: {kind}"] != arrays["labels"], right)
                on = views.row_of(victim.name, kind)
                records.append(Measurement("transfer_error", error, other.name, settings.protocol,
                                           on, num=int(right.sum())))  # fmt: skip
    return records


def _classify(settings, name: str, logits_fn, source: Source, workdir: Path) -> np.ndarray:
    """The class that a model gives each image of the source, or `UNREADABLE`."""
    num, (one, _) = len(source.labels), source.read(range(1))
    model = identity.of_model(logits_fn, one.shape[1:])

    def made_from(start: int, stop: int) -> identity.MadeFrom:
        return {**model, "images": source.digest(range(start, stop))}

    def compute(start: int, stop: int) -> dict[str, np.ndarray]:
        images, readable = source.read(range(start, stop))
        classes = predict(logits_fn, images)
        return {"predictions": np.where(readable, classes, UNREADABLE).astype(np.int32)}

    with Progress(num, f"classifying with {name}") as progress:
        arrays = shards.map_shards(
            shards.Shards(workdir / "results" / "classes" / name, num, settings.shard_size),
            compute, made_from=made_from, progress=progress,
        )  # fmt: skip
    return arrays["predictions"]


def choose(victim: Victim, labels: np.ndarray, settings) -> np.ndarray:
    """The first images that the victim has right and that are not of the one target class.

    Raises:
      InputError: there is none.
    """
    right = victim.predictions == labels
    if settings.attack.targets == "fixed":
        right &= labels != settings.attack.target_class
    chosen, wanted = np.flatnonzero(right), settings.attack.num_images or len(labels)
    if not len(chosen):
        raise InputError(
            f"{victim.name} has none of the {len(labels)} images right: are weights, labels and"
            " class numbers those of one data set?"
        )
    if len(chosen) < wanted and settings.attack.num_images:
        logger.warning("%s has %d images right, fewer than the %d that attack.num_images asks for",
                       victim.name, len(chosen), wanted)  # fmt: skip
    return chosen[:wanted]


def _attack(settings, victim: Victim, victims, source: Source, chosen, workdir: Path, mesh) -> dict:
    """Attacks the chosen images shard by shard, resuming: a dict of arrays, less `LARGE`."""
    options = _attacks.attack_options(settings.attack_by(settings.protocol))
    key, (one, _) = key_for(settings, TARGETS), source.read(range(1))
    shared = _attacks.attack_identity(victim.logits_fn, one, key, options) | {
        "other networks": identity.of_settings(
            **{other.name: identity.of_model(other.logits_fn, one.shape[1:]) for other in victims}
        ),
        "controls": identity.of_settings(
            stddevs=list(settings.curve_stddevs), survive_rounding=settings.survive_rounding
        ),
    }

    def made_from(start: int, stop: int) -> identity.MadeFrom:
        rows = identity.of_arrays(chosen[start:stop])
        return {**shared, "images": source.digest(chosen[start:stop]), "choice of images": rows}

    def compute(start: int, stop: int) -> dict[str, np.ndarray]:
        indices = chosen[start:stop]
        images, _ = source.read(indices)
        found, targets = attack.attack_batch(
            victim.logits_fn, images, source.labels[indices], indices=indices, mesh=mesh,
            key=key,
            progress=lambda done: progress.update(start + done), **options,
        )  # fmt: skip
        logger.info("rounding %d images of %s to 8 bits", len(images), victim.name)
        rounded = eight_bit.round_images(victim.logits_fn, images, found.adv_images, targets, False)
        kept = rounded
        if settings.survive_rounding:
            kept = eight_bit.round_images(victim.logits_fn, images, found.adv_images, targets, True)
        changed = _with_controls(settings, indices, images, found)
        logger.info("trying %d kinds of changed images on %d networks", len(changed), len(victims))
        predictions = {
            f"{other.name}: {kind}": predict(other.logits_fn, np.clip(each, 0, 1))
            for kind, each in changed.items()
            for other in victims
        }  # fmt: skip
        return {
            **found.to_dict(), **predictions, "labels": source.labels[indices],
            "target_labels": targets, "indices": indices,
            "names": np.array([source.names[index] for index in indices]),
            "png_images": kept.images,
            "rounded_success": rounded.success, "png_success": kept.success,
            "png_distortion": kept.distortion,
            "confidence": confidence(victim.logits_fn, images),
            "adv_confidence": confidence(victim.logits_fn, found.adv_images),
        }  # fmt: skip

    with Progress(len(chosen), f"attacking {victim.name}") as progress:
        where = views.attack_shards(settings, victim.name, len(chosen), workdir)
        arrays = shards.map_shards(
            where, compute, made_from=made_from, progress=progress, on_disk=LARGE
        )
    made = identity.of_settings(shards=[made_from(*span) for span in where.spans()])
    _write_pngs(workdir / "adversarial" / victim.name, where, arrays, made)
    return arrays


def _with_controls(settings, indices, images, found) -> dict[str, np.ndarray]:
    """The adversarial images, amplified ones, and random directions as long, by their kind."""
    key, num = key_for(settings, NOISE), len(images)
    stddevs = np.where(found.success, found.distortion, 0).astype(np.float32)
    changed = {
        views.PLAIN: found.adv_images,
        views.SAME_NORM: baselines.move_randomly(key, indices, images, stddevs),
    }
    for stddev in settings.curve_stddevs:
        at = np.full(num, stddev, np.float32)
        changed[amplified(stddev)] = baselines.amplify(images, found.adv_images, stddev)
        changed[directions(stddev)] = baselines.move_randomly(key, indices, images, at)
    return changed


def amplified(stddev: float) -> str:
    """Name of a set of amplified examples."""
    return f"amplified to {stddev:g}"


def directions(stddev: float) -> str:
    """Name of the control of that set."""
    return f"random directions of {stddev:g}"


def confidence(logits_fn, images) -> np.ndarray:
    """Softmax probability of the predicted class: (batch,)."""
    values = logits(logits_fn, images).astype(np.float64)
    return 1 / np.exp(values - values.max(axis=1, keepdims=True)).sum(axis=1)


def png_name(index: int, name: str) -> str:
    """Of the adversarial image: numbered, for files of different classes may have the same name."""
    stem = Path(name).stem
    return f"{index:05d}" if stem == str(index) else f"{index:05d}_{stem}"


def _write_pngs(folder: Path, where: shards.Shards, arrays, made_from: str) -> None:
    """The 8-bit images that work, as files; those made from anything else go.

    A label beside them says what they were made from: a second run does not write them again.
    """
    label = folder / "made_from.txt"
    if label.is_file() and label.read_text() == made_from:
        return
    if folder.is_dir():
        shutil.rmtree(folder)
    good, row = arrays["success"] & arrays["png_success"], 0
    for shard in shards.read_shards(where, ["png_images"]):
        for pixels in shard["png_images"]:
            if good[row]:
                name = png_name(arrays["indices"][row], str(arrays["names"][row]))
                atomic.write_atomic(folder / f"{name}.png", eight_bit.png_bytes(pixels))
            row += 1
    atomic.write_atomic(label, made_from)
