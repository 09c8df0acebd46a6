"""Adversarial training (section 4.2): pools per layer beside the usual regularisers."""

from pathlib import Path

import numpy as np

from intriguing import report
from intriguing.experiments import attacks as _attacks
from intriguing.experiments import build, tables
from intriguing.experiments.outcome import Outcome
from intriguing.experiments.phases import timed
from intriguing.report import Column, Measurement, charts

CAPTION = "Minimum distortion of each attacked test image, per way of training; all seeds."
COMPARED = ("weight decay", "dropout", "input pool", "top pool", "pool per layer")


def adversarial_training(settings, workdir: Path, mesh) -> Outcome:
    """Trains the networks, with every seed, and attacks the test set of each trained net."""
    train_set, test_set = build.load_data(settings)
    names, seeds = settings.model_names, range(settings.num_seeds)
    with timed(workdir, "training"):
        jobs = [
            build.Job(name, train_set, seed, tables.label_of(name, seed))
            for name in names
            for seed in seeds
        ]
        trained = build.train_models(settings, jobs, workdir, mesh)
        victims = {job.label: model.logits_fn for job, model in zip(jobs, trained, strict=True)}
    (attacks,) = _attacks.attack_all(settings, victims, test_set, workdir, mesh).values()
    with timed(workdir, "tables and figures"):
        parts = {"train": train_set, "test": test_set}
        records = measure(settings, victims, attacks, parts)
        path = workdir / "figures" / "distortions.png"
        charts.distortion_histogram(
            path,
            {name: np.concatenate([attacks[tables.label_of(name, seed)]["distortion"]
                                   for seed in seeds]) for name in names},
            f"Minimum distortion of test images ({settings.data.name}), all seeds",
        )  # fmt: skip
    found = [results_table(records, settings), *_attacks.endings_tables(records, names)]
    return Outcome(records, found, [report.Picture(path, CAPTION)], check_claims(records, settings))


def measure(settings, victims, attacks, parts) -> list[Measurement]:
    """Errors of each way of training, and how the attacks went: means over the seeds."""
    records = []
    for seed in range(settings.num_seeds):
        found = []
        for name in settings.model_names:
            label = tables.label_of(name, seed)
            found += tables.measure_errors(name, victims[label], parts)
            found += _attacks.measure(name, settings.protocol, attacks[label])
        records.append(found)
    return report.over_seeds(records)


def results_table(records, settings) -> report.Table:
    """Errors and average minimum distortion of each way of training, over the seeds."""
    columns = [
        Column("train_error", "percent", {"metric": "error", "on": "train"}),
        Column("test_error", "percent", {"metric": "error", "on": "test"}),
        Column("av_min_distortion", "distortion", {"metric": "distortion"}),
        Column("success", "percent", {"metric": "success"}),
    ]
    paper = report.paper_table("adversarial_training")
    num = report.select(records, metric="success")[0].num
    return report.view(
        records,
        {name: {"model": name} for name in settings.model_names},
        columns,
        name="adversarial_training",
        title=f"Adversarial training ({settings.data.name})",
        note=f"The paper: test error {paper['weight_decay_only']:.1%} with weight decay alone, "
        f"about {paper['dropout']:.1%} with well tuned dropout, below "
        f"{paper['test_error_below']:.1%} with a pool of adversarial examples per layer. The first "
        f"{num:,} test images are attacked, targets: {settings.attack.targets}. "
        f"{tables.describe_seeds(settings.num_seeds)}",
    )


def check_claims(records, settings) -> list[report.Claim]:
    """The paper's sentences about adversarial training, decided by the mean test errors."""
    if not set(COMPARED) <= set(settings.model_names):
        return []
    found = {name: report.find(records, metric="error", on="test", model=name)
             for name in COMPARED}  # fmt: skip
    means = {name: each.value for name, each in found.items()}

    def measured(*names: str) -> str:
        return "; ".join(f"{name} {means[name]:.2%} ± {found[name].spread or 0:.2%}"
                         for name in names)  # fmt: skip

    limit = report.paper_table("adversarial_training")["test_error_below"]
    return [
        report.Claim(
            f"With a pool for each layer the test error is below {limit:.1%}.",
            measured("pool per layer"), means["pool per layer"] < limit,
        ),
        report.Claim(
            "That is lower than with weight decay alone, and than with well tuned dropout.",
            measured("pool per layer", "weight decay", "dropout"),
            means["pool per layer"] < min(means["weight decay"], means["dropout"]),
        ),
        report.Claim(
            "Pools of higher layers help more than that of the input.",
            measured("top pool", "input pool"),
            means["top pool"] < means["input pool"],
        ),
    ]  # fmt: skip
