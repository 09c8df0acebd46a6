"""Tables 1 and 2 and figure 7: six models, their minimal perturbations, and how these transfer."""

from pathlib import Path

import jax
import numpy as np

from intriguing import figures, metrics, report, transfer
from intriguing.experiments import build
from intriguing.predict import predict

NUM_SHOWN = 10  # images per row of figure 7


def cross_model(config, workdir: Path, mesh) -> dict:
    """Trains the models of `config.models`, attacks each, and crosses the examples with all models.

    Returns the summary, as written to `workdir/summary.json`.
    """
    train_set, test_set = build.load_data(config)
    victims, attacks = {}, {}
    target_key, noise_key = jax.random.split(jax.random.key(config.seed))
    for name in config.model_names:
        with build.timed(workdir, f"train {name}"):
            victims[name] = build.train_model(config, train_set, name, workdir, mesh)
    for name, logits_fn in victims.items():
        with build.timed(workdir, f"attack {name}"):
            attacks[name] = build.attack_images(
                config, logits_fn, train_set, name, workdir, target_key, mesh
            )
    with build.timed(workdir, "tables and figures"):
        images = train_set.images[: len(attacks[name]["success"])]
        labels = train_set.labels[: len(images)]
        noisy = {
            stddev: np.asarray(
                transfer.gaussian_noise(noise_key, np.arange(len(images)), images, stddev)
            )
            for stddev in (*config.noise_stddevs, config.figure_noise_stddev)
        }
        tables = [
            table1(victims, attacks, train_set, test_set, config),
            *table2(victims, attacks, noisy, images, labels, config),
        ]
        report.write_tables(workdir, tables)
        shown = draw_figures(workdir, victims, attacks, noisy, images, labels, config)
    return build.write_outcome(config, workdir, tables, shown)


def table1(victims, attacks, train_set, test_set, config) -> report.Table:
    """Errors and the average minimum distortion of each model, over the attacks that succeeded."""
    rows = {}
    for name, logits_fn in victims.items():
        errors = [
            metrics.error_rate(predict(logits_fn, part.images), part.labels)
            for part in (train_set, test_set)
        ]
        success, num_evals = attacks[name]["success"], attacks[name]["num_evals"]
        mean = metrics.Average.of(attacks[name]["distortion"], where=success).mean
        rows[name] = [*errors, mean, float(success.mean()), len(success), float(num_evals.mean())]
    paper = report.paper_table("table1")
    return report.Table(
        name="table1",
        title=f"Table 1: models and average minimum distortion ({config.data.name})",
        columns=("train_error", "test_error", "av_min_distortion", "success", "num_images",
                 "num_evals"),
        rows=rows,
        kinds=("percent", "percent", "distortion", "percent", "count", "count"),
        note=f"The first {len(success):,} training images are attacked (column images), "
        f"targets: {config.attack.targets}. The mean distortion is over the attacks that succeed; "
        "num_evals is the mean number of evaluations of the loss and its gradient per image.",
        paper=paper["rows"],
        paper_columns=tuple(paper["columns"]),
    )  # fmt: skip


def table2(victims, attacks, noisy, images, labels, config) -> list[report.Table]:
    """Errors that the examples made for each model (row) induce in every model (column)."""
    sets = {name: attacks[name]["adv_images"] for name in victims}
    sets |= {noise_row(stddev): noisy[stddev] for stddev in config.noise_stddevs}
    distortions = {name: attacks[name]["distortion"] for name in victims}
    distortions |= {noise_row(stddev): np.array([stddev]) for stddev in config.noise_stddevs}
    paper = report.paper_table("table2")
    tables = []
    for suffix, cells, whom in zip(
        ("", "_right"),
        transfer.transfer_table(victims, sets, images, labels),
        ("all images", "the images that the column's model has right when they are clean"),
        strict=True,
    ):
        rows = {}
        for name, errors in cells.items():
            found = np.isfinite(distortions[name])
            rows[name] = [*errors, metrics.Average.of(distortions[name], found).mean, len(images)]
        tables.append(report.Table(
            name="table2" + suffix,
            title=f"Table 2: cross-model generalisation, over {whom} ({config.data.name})",
            columns=(*victims, "av_distortion", "num_images"),
            rows=rows,
            kinds=(*["percent"] * len(victims), "distortion", "count"),
            note="Row: what the examples were made for. Column: the model in which they induce the "
            f"error. Error rates over {whom}. Gaussian noise is not clipped to the box.",
            paper=None if suffix else paper["rows"],
            paper_columns=tuple(paper["columns"]),
        ))  # fmt: skip
    return tables


def noise_row(stddev: float) -> str:
    """The paper's name for a row of Gaussian noise."""
    return f"Gaussian noise, stddev {stddev:g}"


def draw_figures(workdir, victims, attacks, noisy, images, labels, config):
    """Figure 7 and the histograms of distortions; returns [(path, caption)]."""
    stddev = config.figure_noise_stddev
    groups = []
    for name, logits_fn in victims.items():
        adv_images = attacks[name]["adv_images"]
        accuracy = [
            f"{1 - metrics.error_rate(predict(logits_fn, x), labels):.0%} right"
            for x in (images, adv_images, noisy[stddev])
        ]
        mean = metrics.Average.of(attacks[name]["distortion"], attacks[name]["success"]).mean
        names = ("original", "adversarial", f"noise, stddev {stddev:g}")
        rows = [
            figures.ImageRow(f"{kind}\n{right}", shown[:NUM_SHOWN])
            for kind, right, shown in zip(
                names, accuracy, (images, adv_images, noisy[stddev]), strict=True
            )
        ]
        groups.append(figures.ImageGroup(f"{name}: average distortion {mean:.3f}", rows))
    path = workdir / "figures"
    figures.image_grid(path / "figure7.png", groups, "Figure 7: original, adversarial, noise")
    paper = report.paper_table("table1")
    column = paper["columns"].index("av_min_distortion")
    figures.distortion_histogram(
        path / "distortions.png",
        {name: arrays["distortion"] for name, arrays in attacks.items()},
        f"Minimum distortion per model ({config.data.name})",
        paper_means={
            name: paper["rows"][name][column] for name in victims if name in paper["rows"]
        },
    )
    return [
        (path / "figure7.png", "Figure 7. Originals, the same images made adversarial for each "
         f"model, and with Gaussian noise of stddev {stddev:g}; beside each row, how many of "
         f"the {len(images):,} attacked images the model has right."),
        (path / "distortions.png", "Minimum distortion of each image, per model; the dashed line "
         "is the paper's mean on MNIST."),
    ]  # fmt: skip
