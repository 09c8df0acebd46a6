"""Figure 5 as tables, pictures and claims: views of what `targeted` measured."""

import math
from pathlib import Path

import numpy as np

from intriguing import report
from intriguing.data.stream import Source
from intriguing.errors import InputError
from intriguing.report import Column, figures
from intriguing.runs import shards

PLAIN, SAME_NORM = "as found", "random directions, same norm"


def attack_shards(settings, name: str, num: int, workdir: Path) -> shards.Shards:
    """Where the attacks on a network are kept."""
    return shards.Shards(workdir / "results" / name, num, settings.attack_shard_size)


def row_of(name: str, kind: str) -> str:
    """Images of one kind that were made for a network."""
    return f"{name}: {kind}"


AIMS = {  # what is made of the images, by the rule that chooses their targets
    "random": "turned into a random other class",
    "runner_up": "turned into the network's second choice",
    "least_likely": "turned into the network's last choice",
    "untargeted": "turned into any other class",
    "best": "turned into the nearest other class",
}


def aim_of(settings, class_names) -> str:
    """What the attack is to make of the images, in words.

    Raises:
      InputError: the one class that is aimed at does not exist.
    """
    target = settings.attack.target_class
    if settings.attack.targets != "fixed":
        return AIMS[settings.attack.targets]
    if not 0 <= target < len(class_names):
        raise InputError(
            f"attack.target_class is {target}: the classes are 0 to {len(class_names) - 1}"
        )
    return f"turned into {class_names[target]}"


def attack_table(records, settings, aim: str, num_all: int) -> report.Table:
    """Success and distortion per model, of floats and of 8-bit images."""
    paper = report.paper_table("figure5")
    kinds = {
        "success": "percent", "distortion": "distortion", "rounded_success": "percent",
        "png_success": "percent", "png_distortion": "distortion", "evaluations": "number",
    }  # fmt: skip
    names = {"distortion": "av_distortion"}
    return report.view(
        records,
        {name: {"model": name} for name in settings.model_names},
        [Column("test_error", "percent", {"metric": "error"}),
         Column("images", "count", {"metric": "images"}),
         *(Column(names.get(metric, metric), kind, {"metric": metric})
           for metric, kind in kinds.items())],
        name="targeted",
        title=f"Figure 5: images {aim}",
        paper={"alexnet": [paper["av_distortion"]]},
        paper_columns=("av_distortion",),
        paper_data="AlexNet on ImageNet",
        note=f"test error: of all {num_all} images, of which the first that the network "
        f"has right are attacked. The paper's AlexNet: all of {paper['examples']} images, average "
        f"distortion {paper['av_distortion']}. 8 bits: the images rounded "
        "to 8 bits; PNG: the files, whose perturbations are "
        + ("lengthened until they survive." if settings.survive_rounding else "only rounded."),
    )  # fmt: skip


def transfer_table(records, settings, kinds) -> report.Table:
    """Error of each model on the examples of each, and on same-norm controls."""
    names = settings.model_names
    rows = [row_of(name, kind) for name in names for kind in kinds]
    return report.view(
        report.select(records, metric="transfer_error"),
        {row: {"on": row} for row in rows},
        [Column(name, "percent", {"model": name}) for name in names],
        name="transfer",
        title="Do examples made for one network fool the other?",
        note="Row: the network that the examples were made for, and their size (root mean square). "
        "Cell: error of the column's network on those of the images that it has right when they "
        "are clean. Controls point in random directions and are as long.",
    )


def check_claims(records, settings, aim: str) -> list[report.Claim]:
    """What the paper says of figure 5 and of transfer, decided by numbers."""
    claims, names = [], settings.model_names
    for name in names:
        success = report.find(records, metric="success", model=name)
        claim = f"{name}: every image can be {aim}."
        num = round(success.value * success.num)
        claims.append(report.Claim(claim, f"{num} of {success.num}", num == success.num))
    for name, other in ((name, other) for name in names for other in names if other != name):
        found, noise = (
            report.value(records, metric="transfer_error", model=other, on=row_of(name, kind))
            for kind in (PLAIN, SAME_NORM)
        )
        claims.append(report.Claim(
            f"Examples made for {name} fool {other} more than noise of the same size.",
            f"{found:.1%} against {noise:.1%}",
            None if math.isnan(found) else found > noise,
        ))  # fmt: skip
    return claims


def draw_figure(settings, name: str, attacked, source: Source, workdir: Path):
    """Original, difference times 10 + 128, and adversarial image of the first successes."""
    chosen, arrays = attacked
    rows = np.flatnonzero(arrays["success"])[: settings.num_shown]
    images, _ = source.read(chosen[rows])
    where = attack_shards(settings, name, len(chosen), workdir)
    adv = shards.read_rows(where, rows, ["adv_images"])["adv_images"]
    labels, adv_labels = (
        [f"{source.class_names[label].split(',')[0]}, {value:.0%}"
         for label, value in zip(classes, arrays[confidence][rows], strict=True)]
        for classes, confidence in ((source.labels[chosen[rows]], "confidence"),
                                    (arrays["target_labels"][rows], "adv_confidence"))
    )  # fmt: skip
    path = workdir / "figures" / f"figure5_{name}.png"
    group = figures.ImageGroup(
        "",
        [
            figures.ImageRow("original", images, labels),
            figures.ImageRow("difference\nx 10", np.clip(10 * (adv - images) + 128 / 255, 0, 1)),
            figures.ImageRow("adversarial", adv, adv_labels),
        ],
    )
    figures.image_grid(path, [group], f"Figure 5: {name}")
    caption = (
        f"Figure 5 for {name}: originals, the difference times 10 (+ 128, clamped), "
        "and the images that it takes for another class; label and confidence beneath each."
    )
    return report.Picture(path, caption, report.compare(images, adv, labels, adv_labels))
