"""Adversarial training (section 4.2): pools per layer beside the usual regularisers."""

from pathlib import Path

import numpy as np

from intriguing import metrics, report
from intriguing.experiments import build, tables
from intriguing.experiments.outcome import Outcome
from intriguing.predict import predict
from intriguing.report import charts


def adversarial_training(config, workdir: Path, mesh) -> Outcome:
    """Trains `config.models`, with every seed, and attacks the test set of each trained net."""
    train_set, test_set = build.load_data(config)
    names, seeds = config.model_names, range(config.num_seeds)
    with build.timed(workdir, "training"):
        jobs = [
            build.Job(name, train_set, seed, tables.label_of(name, seed))
            for name in names
            for seed in seeds
        ]
        trained = build.train_models(config, jobs, workdir, mesh)
        victims = {job.label: model.logits_fn for job, model in zip(jobs, trained, strict=True)}
    (attacks,) = build.attack_all(config, victims, test_set, workdir, mesh).values()
    with build.timed(workdir, "tables and figures"):
        table = results_table(victims, attacks, train_set, test_set, config)
        path = workdir / "figures" / "distortions.png"
        charts.distortion_histogram(
            path,
            {name: np.concatenate([attacks[tables.label_of(name, seed)]["distortion"]
                                   for seed in seeds]) for name in names},
            f"Minimum distortion of test images ({config.data.name}), all seeds",
        )  # fmt: skip
    caption = "Minimum distortion of each attacked test image, per way of training; all seeds."
    return Outcome([table], [(path, caption)], check_claims(table))


def results_table(victims, attacks, train_set, test_set, config) -> report.Table:
    """Errors and average minimum distortion of each way of training, over the seeds."""
    found = []
    for seed in range(config.num_seeds):
        rows = {}
        for name in config.model_names:
            label = tables.label_of(name, seed)
            errors = [
                metrics.error_rate(predict(victims[label], part.images), part.labels)
                for part in (train_set, test_set)
            ]
            arrays = attacks[label]
            rows[name] = [*errors, tables.mean_distortion(arrays), float(arrays["success"].mean())]
        found.append(rows)
    rows, spread = tables.over_seeds(found)
    paper = report.paper_table("adversarial_training")
    return report.Table(
        name="adversarial_training",
        title=f"Adversarial training of a 100-100-10 net ({config.data.name})",
        columns=("train_error", "test_error", "av_min_distortion", "success"),
        rows=rows,
        kinds=("percent", "percent", "distortion", "percent"),
        note=f"The paper: test error {paper['weight_decay_only']:.1%} with weight decay alone, "
        f"about {paper['dropout']:.1%} with well tuned dropout, below "
        f"{paper['test_error_below']:.1%} with a pool of adversarial examples per layer. The first "
        f"{len(arrays['success']):,} test images are attacked, targets: {config.attack.targets}. "
        f"{tables.describe_seeds(config)}",
        spread=spread,
    )


def check_claims(table: report.Table) -> list[report.Claim]:
    """The paper's sentences about adversarial training, decided by the mean test errors."""
    column = table.columns.index("test_error")
    means = {name: row[column] for name, row in table.rows.items()}
    spread = {name: (table.spread or {}).get(name, [0] * 9)[column] for name in means}
    if not {"weight decay", "dropout", "input pool", "top pool", "pool per layer"} <= means.keys():
        return []

    def measured(*names: str) -> str:
        return "; ".join(f"{name} {means[name]:.2%} ± {spread[name]:.2%}" for name in names)

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
