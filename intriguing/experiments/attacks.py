"""Attacks on many networks: kept shard by shard, resumed, and what was measured of them."""

import dataclasses
from pathlib import Path

import numpy as np

from intriguing import attack, identity, metrics, report, sharding
from intriguing.attack import AttackStatus
from intriguing.experiments.phases import TARGETS, key_for, timed
from intriguing.experiments.specs import Attack
from intriguing.progress import Progress
from intriguing.report import Column, Measurement
from intriguing.runs import shards

ENDINGS = {status: status.name.lower().replace("_", " ") for status in AttackStatus}
# Settings whose 0 leaves them to the attack.
LEFT_OPEN = (
    "budget", "num_penalties", "maxiter", "rtol", "refine_steps", "num_margins", "num_lanes",
)  # fmt: skip
QUANTILES = {"least": 0.0, "median": 0.5, "largest": 1.0}  # of c, over the successes


def attack_options(spec: Attack) -> dict:
    """Arguments of `attack.attack_batch`."""
    options = dataclasses.asdict(spec)
    del options["num_images"]
    return {**options, **{name: options[name] or None for name in LEFT_OPEN}}


def attack_images(settings, logits_fn, dataset, name: str, workdir: Path, mesh, protocol: str):
    """Attacks the first images of `dataset` shard by shard, resuming; the images stay on disk."""
    spec = settings.attack_by(protocol)
    options, num_images = attack_options(spec), len(dataset.images)
    num_images = min(spec.num_images or num_images, num_images)
    key = key_for(settings, TARGETS)
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
            **result.to_dict(), "target_labels": target_labels, "labels": labels,
            "indices": np.arange(start, stop),
        }  # fmt: skip

    where = shards.Shards(workdir / "results" / name / protocol, num_images, settings.shard_size)
    with Progress(num_images, f"attacking {name} ({protocol})") as progress:
        return shards.map_shards(
            where, compute, made_from=made_from, progress=progress, on_disk=("adv_images",),
            together=sharding.spans_processes(mesh),
        )  # fmt: skip


def attack_identity(logits_fn, images, key, options: dict) -> identity.MadeFrom:
    """What attacks with these options depend on, but for the images themselves."""
    told = {name: value for name, value in options.items() if name != "num_lanes"}
    return {
        **identity.of_model(logits_fn, images.shape[1:], images.dtype),
        "settings": identity.of_settings(**told),
        "seed": identity.of_arrays(key),
    }


def attack_all(settings, victims: dict, dataset, workdir: Path, mesh) -> dict[str, dict]:
    """Attacks every model of `victims` under every protocol: {protocol: {name: arrays}}."""
    attacks = {}
    for protocol in settings.protocols:
        with timed(workdir, f"attacks, {protocol}"):
            attacks[protocol] = {
                name: attack_images(settings, logits_fn, dataset, name, workdir, mesh, protocol)
                for name, logits_fn in victims.items()
            }
    return attacks


def measure(model: str, protocol: str, arrays) -> list[Measurement]:
    """How the attacks on a network went: success, distortion, endings, c, evaluations."""
    success, num = arrays["success"], len(arrays["success"])

    def of(metric: str, value: float, num: int = num, at: str = "") -> Measurement:
        return Measurement(metric, float(value), model, protocol, at=at, num=num)

    num_found = int(success.sum())
    found = [
        of("success", metrics.mean(success)),
        of("distortion", metrics.mean(arrays["distortion"], where=success), num_found),
        of("evaluations", metrics.mean(arrays["num_evals"])),
    ]
    statuses = np.asarray(arrays["status"])
    found += [of("ended", (statuses == status).sum(), at=name) for status, name in ENDINGS.items()]
    weights = arrays["penalty_weight"][success & (statuses == AttackStatus.REACHED)]
    weights = weights[weights > 0]  # exploring has none
    for name, quantile in QUANTILES.items():
        c = np.quantile(weights, quantile) if len(weights) else np.nan
        found.append(of("c", c, len(weights), name))
    return found


def endings_tables(records, names) -> list[report.Table]:
    """How the attacks on each network ended, and which c they ended with; none without attacks."""
    endings = [Column(name, "count", {"metric": "ended", "at": name}) for name in ENDINGS.values()]
    weights = [Column(f"c, {name}", "number", {"metric": "c", "at": name}) for name in QUANTILES]
    evaluations = Column("evaluations", "number", {"metric": "evaluations"})
    attacked = {
        (each.model, each.protocol) for each in report.select(records, metric="evaluations")
    }
    protocols = list(dict.fromkeys(each.protocol for each in records if each.metric == "ended"))
    if not attacked:
        return []
    found = report.view(
        records,
        {
            f"{name}, {protocol}": {"model": name, "protocol": protocol}
            for name in names
            for protocol in protocols
            if (name, protocol) in attacked
        },
        [*endings, *weights, evaluations],
        name="attacks",
        title="How the attacks ended",
        note="Images per ending: the target was reached; the clean image is of that class already; "
        "it was not reached; the network gave NaN or infinity. c: the weight of the distortion "
        "beside the loss, with which the search on c ended; exploring has none.",
    )
    return [found]
