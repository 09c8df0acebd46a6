"""Figure 5: images of any size turned into one class, streamed; and their transfer."""

import math
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np

from intriguing import atomic, attack, identity, metrics, report
from intriguing.attack import baselines, eight_bit
from intriguing.data.stream import Source
from intriguing.errors import InputError
from intriguing.experiments import build
from intriguing.experiments.outcome import Outcome
from intriguing.predict import logits
from intriguing.progress import Progress, logger
from intriguing.report import figures
from intriguing.runs import shards

LARGE = ("adv_images", "png_images")  # stay in the result files
UNREADABLE = -1  # in place of a predicted class
PLAIN, SAME_NORM = "as found", "random directions, same norm"


class Victim(NamedTuple):
    """A network to attack: its name, its logits, and the class that it gives every image."""

    name: str
    logits_fn: object
    predictions: np.ndarray


def targeted_attack(config, workdir: Path, mesh) -> Outcome:
    """Attacks images that each model has right until they are of the class that is aimed at."""
    source = build.open_images(config)
    aim = aim_of(config, source.class_names)
    victims = []
    for name in config.model_names:
        with build.timed(workdir, f"classifying with {name}"):
            logits_fn = build.large_model(config, name, workdir, mesh).logits_fn
            predictions = _classify(config, name, logits_fn, source, workdir)
            victims.append(Victim(name, logits_fn, predictions))
    attacks = {}
    for victim in victims:
        with build.timed(workdir, f"attacking {victim.name}"):
            chosen = choose(victim, source.labels, config)
            arrays = _attack(config, victim, victims, source, chosen, workdir, mesh)
            attacks[victim.name] = chosen, arrays
    with build.timed(workdir, "tables and figures"):
        tables = [attack_table(attacks, victims, source, config, aim)]
        if len(victims) > 1:
            tables.append(transfer_table(attacks, victims, config.curve_stddevs))
        shown = [
            _figure(config, victim, attacks[victim.name], source, workdir)
            for victim in victims
            if attacks[victim.name][1]["success"].any()
        ]
    return Outcome(tables, shown, check_claims(attacks, tables, aim))


AIMS = {  # what is made of the images, by the rule that chooses their targets
    "random": "turned into a random other class",
    "runner_up": "turned into the network's second choice",
    "least_likely": "turned into the network's last choice",
    "best": "turned into the nearest other class",
}


def aim_of(config, class_names) -> str:
    """What the attack is to make of the images, in words.

    Raises:
      InputError: the one class that is aimed at does not exist.
    """
    target = config.attack.target_class
    if config.attack.targets != "fixed":
        return AIMS[config.attack.targets]
    if not 0 <= target < len(class_names):
        raise InputError(
            f"attack.target_class is {target}: the classes are 0 to {len(class_names) - 1}"
        )
    return f"turned into {class_names[target]}"


def _classify(config, name: str, logits_fn, source: Source, workdir: Path) -> np.ndarray:
    """The class that a model gives each image of the source, or `UNREADABLE`."""
    num, (one, _) = len(source.labels), source.read(range(1))
    model = identity.of_model(logits_fn, one.shape[1:])

    def made_from(start: int, stop: int) -> identity.MadeFrom:
        return {**model, "images": source.digest(range(start, stop))}

    def compute(start: int, stop: int) -> dict[str, np.ndarray]:
        images, readable = source.read(range(start, stop))
        classes = logits(logits_fn, images).argmax(axis=-1)
        return {"predictions": np.where(readable, classes, UNREADABLE).astype(np.int32)}

    with Progress(num, f"classifying with {name}") as progress:
        arrays = shards.map_shards(
            shards.Shards(workdir / "results" / "classes" / name, num, config.shard_size),
            compute, made_from=made_from, progress=progress.update,
        )  # fmt: skip
    return arrays["predictions"]


def choose(victim: Victim, labels: np.ndarray, config) -> np.ndarray:
    """The first images that the victim has right and that are not of the one target class.

    Raises:
      InputError: there is none.
    """
    right = victim.predictions == labels
    if config.attack.targets == "fixed":
        right &= labels != config.attack.target_class
    chosen, wanted = np.flatnonzero(right), config.attack.num_images or len(labels)
    if not len(chosen):
        raise InputError(
            f"{victim.name} has none of the {len(labels)} images right: are weights, labels and"
            " class numbers those of one data set?"
        )
    if len(chosen) < wanted and config.attack.num_images:
        logger.warning("%s has %d images right, fewer than the %d that attack.num_images asks for",
                       victim.name, len(chosen), wanted)  # fmt: skip
    return chosen[:wanted]


def _attack(config, victim: Victim, victims, source: Source, chosen, workdir: Path, mesh) -> dict:
    """Attacks the chosen images shard by shard, resuming: a dict of arrays, less `LARGE`."""
    (protocol,) = config.protocols
    options = build.attack_options(config, protocol)
    del options["num_images"]
    noise_key = build.key_for(config, build.NOISE)
    key, (one, _) = build.key_for(config, build.TARGETS), source.read(range(1))
    shared = build.attack_identity(victim.logits_fn, one, key, options) | {
        "other networks": identity.of_settings(
            **{other.name: identity.of_model(other.logits_fn, one.shape[1:]) for other in victims}
        ),
        "controls": identity.of_settings(
            stddevs=list(config.curve_stddevs), survive_rounding=config.survive_rounding
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
        rounded = eight_bit.round_images(victim.logits_fn, images, found.adv_images, targets, False)
        kept = rounded
        if config.survive_rounding:
            kept = eight_bit.round_images(victim.logits_fn, images, found.adv_images, targets, True)
        stddevs = np.where(found.success, found.distortion, 0).astype(np.float32)
        changed = {PLAIN: found.adv_images}
        changed[SAME_NORM] = baselines.random_directions(noise_key, indices, images, stddevs)
        for stddev in config.curve_stddevs:
            at = np.full(len(images), stddev, np.float32)
            changed[amplified(stddev)] = baselines.amplify(images, found.adv_images, stddev)
            changed[directions(stddev)] = baselines.random_directions(
                noise_key, indices, images, at
            )
        predictions = {
            f"{other.name}: {kind}": logits(other.logits_fn, np.clip(each, 0, 1)).argmax(axis=-1)
            for kind, each in changed.items()
            for other in victims
        }  # fmt: skip
        return {
            **found._asdict(), **predictions, "labels": source.labels[indices],
            "target_labels": targets, "indices": indices,
            "names": np.array([source.names[index] for index in indices]),
            "png_images": kept.images,
            "rounded_success": rounded.success, "png_success": kept.success,
            "png_distortion": kept.distortion,
            "confidence": confidence(victim.logits_fn, images),
            "adv_confidence": confidence(victim.logits_fn, found.adv_images),
        }  # fmt: skip

    with Progress(len(chosen), f"attacking {victim.name}") as progress:
        where = attack_shards(config, victim.name, len(chosen), workdir)
        arrays = shards.map_shards(
            where, compute, made_from=made_from, progress=progress.update, on_disk=LARGE
        )
    made = identity.of_settings(shards=[made_from(*span) for span in where.spans()])
    _write_pngs(workdir / "adversarial" / victim.name, where, arrays, made)
    return arrays


def attack_shards(config, name: str, num: int, workdir: Path) -> shards.Shards:
    """Where the attacks on a network are kept."""
    return shards.Shards(workdir / "results" / name, num, config.attack_shard_size)


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


def attack_table(attacks, victims, source: Source, config, aim: str) -> report.Table:
    """Success and distortion per model, of floats and of 8-bit images."""
    rows = {}
    for victim in victims:
        chosen, arrays = attacks[victim.name]
        success, png = arrays["success"], arrays["png_success"]
        readable = victim.predictions != UNREADABLE
        rows[victim.name] = [
            float((victim.predictions != source.labels)[readable].mean()),
            len(chosen), float(success.mean()),
            metrics.mean(arrays["distortion"], where=success),
            float(arrays["rounded_success"].mean()), float(png.mean()),
            metrics.mean(arrays["png_distortion"], where=png),
            float(arrays["num_evals"].mean()),
        ]  # fmt: skip
    paper = report.paper_table("figure5")
    return report.Table(
        name="targeted",
        title=f"Figure 5: images {aim}",
        columns=("test_error", "images", "success", "av_distortion", "rounded_success",
                 "png_success", "png_distortion", "evaluations"),
        rows=rows,
        kinds=("percent", "count", "percent", "distortion", "percent", "percent", "distortion",
               "number"),
        paper={"alexnet": [paper["av_distortion"]]},
        paper_columns=("av_distortion",),
        paper_data="AlexNet on ImageNet",
        note=f"test error: of all {len(source.labels)} images, of which the first that the network "
        f"has right are attacked. The paper's AlexNet: all of {paper['examples']} images, average "
        f"distortion {paper['av_distortion']}. rounded_success: of the images rounded to 8 bits; "
        "png_success, png_distortion: of the PNG files, whose perturbations are "
        + ("lengthened until they survive." if config.survive_rounding else "only rounded."),
    )  # fmt: skip


def transfer_table(attacks, victims, stddevs) -> report.Table:
    """Error of each model on the examples of each, and on same-norm controls."""
    kinds = [PLAIN, SAME_NORM]
    for stddev in stddevs:
        kinds += [amplified(stddev), directions(stddev)]
    rows = {}
    for name, (chosen, arrays) in attacks.items():
        for kind in kinds:
            rows[f"{name}: {kind}"] = [_error(arrays, chosen, kind, v) for v in victims]
    return report.Table(
        name="transfer",
        title="Do examples made for one network fool the other?",
        columns=tuple(victim.name for victim in victims),
        rows=rows,
        kinds=("percent",) * len(victims),
        note="Row: the network that the examples were made for, and their size (root mean square). "
        "Cell: error of the column's network on those of the images that it has right when they "
        "are clean. Controls point in random directions and are as long.",
    )


def _error(arrays, chosen, kind: str, victim: Victim) -> float:
    labels = arrays["labels"]
    right = (victim.predictions[chosen] == labels) & arrays["success"]
    return metrics.mean(arrays[f"{victim.name}: {kind}"] != labels, where=right)


def check_claims(attacks, tables, aim: str) -> list[report.Claim]:
    """What the paper says of figure 5 and of transfer, decided by numbers."""
    claims = []
    for name, (chosen, arrays) in attacks.items():
        num = int(arrays["success"].sum())
        claim = f"{name}: every image can be {aim}."
        claims.append(report.Claim(claim, f"{num} of {len(chosen)}", num == len(chosen)))
    for table in tables[1:]:
        for name in attacks:
            for other in (other for other in attacks if other != name):
                column = table.columns.index(other)
                found, noise = (
                    table.rows[f"{name}: {kind}"][column] for kind in (PLAIN, SAME_NORM)
                )
                claims.append(report.Claim(
                    f"Examples made for {name} fool {other} more than noise of the same size.",
                    f"{found:.1%} against {noise:.1%}",
                    None if math.isnan(found) else found > noise,
                ))  # fmt: skip
    return claims


def _figure(config, victim: Victim, attacked, source: Source, workdir: Path):
    """Original, difference times 10 + 128, and adversarial image of the first successes."""
    chosen, arrays = attacked
    rows = np.flatnonzero(arrays["success"])[: config.num_shown]
    images, _ = source.read(chosen[rows])
    where = attack_shards(config, victim.name, len(chosen), workdir)
    adv = shards.read_rows(where, rows, ["adv_images"])["adv_images"]
    names, targets = (
        [source.class_names[label].split(",")[0] for label in labels]
        for labels in (source.labels[chosen[rows]], arrays["target_labels"][rows])
    )
    path = workdir / "figures" / f"figure5_{victim.name}.png"
    group = figures.ImageGroup("", [
        figures.ImageRow("original", images, [f"{name}, {value:.0%}" for name, value in
                                              zip(names, arrays["confidence"][rows], strict=True)]),
        figures.ImageRow("difference\nx 10", np.clip(10 * (adv - images) + 128 / 255, 0, 1)),
        figures.ImageRow("adversarial", adv, [f"{name}, {value:.0%}" for name, value in zip(
            targets, arrays["adv_confidence"][rows], strict=True)]),
    ])  # fmt: skip
    figures.image_grid(path, [group], f"Figure 5: {victim.name}")
    return path, (
        f"Figure 5 for {victim.name}: originals, the difference times 10 (+ 128, clamped), "
        "and the images that it takes for another class; label and confidence beneath each."
    )
