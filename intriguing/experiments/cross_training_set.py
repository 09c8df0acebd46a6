"""Tables 3 and 4: examples made for one half of the training set, tried on models of the other."""

from pathlib import Path

import jax
import numpy as np

from intriguing import data, metrics, report
from intriguing.analysis import transfer
from intriguing.attack import baselines
from intriguing.experiments import build, tables
from intriguing.experiments.outcome import Outcome
from intriguing.predict import predict
from intriguing.report import charts


def cross_training_set(config, workdir: Path, mesh) -> Outcome:
    """Trains `config.models` on the half that `config.trained_on` names; attacks the test set.

    Everything is done `config.num_seeds` times: other halves, other initial weights.
    """
    train_set, test_set = build.load_data(config)
    names, seeds = config.model_names, range(config.num_seeds)
    halves = [split_in_two(config, train_set, seed) for seed in seeds]
    with build.timed(workdir, "training"):
        jobs = [
            build.Job(
                name, halves[seed][config.trained_on[name]], seed, tables.label_of(name, seed)
            )
            for seed in seeds
            for name in names
        ]
        trained = build.train_models(config, jobs, workdir, mesh)
        victims = {job.label: model.logits_fn for job, model in zip(jobs, trained, strict=True)}
    attacks = build.attack_all(config, victims, test_set, workdir, mesh)
    with build.timed(workdir, "tables and figures"):
        victims = [{name: victims[tables.label_of(name, seed)] for name in names} for seed in seeds]
        attacks = {
            protocol: [
                {name: found[tables.label_of(name, seed)] for name in names} for seed in seeds
            ]
            for protocol, found in attacks.items()
        }
        third = table3(victims, attacks, halves, test_set, config)
        crossed = [
            table4(victims, attacks[protocol], test_set, config, protocol) for protocol in attacks
        ]
        curve = amplification(victims, attacks[list(config.protocols)[-1]], test_set, config)
        path = workdir / "figures" / "amplification.png"
        draw_amplification(path, curve, config)
    caption = (
        "Error that examples made for one model induce in the others (test set), against the "
        "stddev that they are amplified to (before clipping to the box); dashed: a random "
        "direction of the same stddev. Mean over the seeds."
    )
    claims = check_claims(third, crossed[0], config)
    return Outcome([third, *crossed, curve], [(path, caption)], claims)


def split_in_two(config, dataset: data.Dataset, seed: int) -> dict[str, data.Dataset]:
    """P1 and P2: the halves of a random permutation of the training set."""
    key = build.key_for(config, build.SPLIT, seed)
    order = np.asarray(jax.random.permutation(key, len(dataset.labels)))
    middle = len(order) // 2
    return {"P1": data.take(dataset, order[:middle]), "P2": data.take(dataset, order[middle:])}


def table3(victims, attacks, halves, test_set, config) -> report.Table:
    """Errors on both halves and the test set, and the distortions under each protocol."""
    found = []
    for seed, models in enumerate(victims):
        parts = (halves[seed]["P1"], halves[seed]["P2"], test_set)
        rows = {}
        for name, logits_fn in models.items():
            errors = [
                metrics.error_rate(predict(logits_fn, part.images), part.labels) for part in parts
            ]
            arrays = [attacks[protocol][seed][name] for protocol in config.protocols]
            rows[name] = [
                *errors,
                *map(tables.mean_distortion, arrays),
                *(float(each["success"].mean()) for each in arrays),
            ]
        found.append(rows)
    rows, spread = tables.over_seeds(found)
    first, *others = config.protocols
    paper = report.paper_table("table3")
    num = len(config.protocols)
    return report.Table(
        name="table3",
        title=f"Table 3: models trained on disjoint halves ({config.data.name})",
        columns=("error_P1", "error_P2", "test_error", "av_min_distortion",
                 *(f"av_min_distortion, {protocol}" for protocol in others),
                 *(f"success, {protocol}" for protocol in config.protocols)),
        rows=rows,
        kinds=(*["percent"] * 3, *["distortion"] * num, *["percent"] * num),
        note=f"{trained_on(config)} The first {len(arrays[0]['success']):,} test images are "
        f"attacked, targets: {config.attack.targets}. {tables.describe_protocols(config)} The "
        f"first distortion is that of protocol {first}. {tables.describe_seeds(config)}",
        paper=paper["rows"],
        paper_columns=tuple(paper["columns"]),
        spread=spread,
    )  # fmt: skip


def trained_on(config) -> str:
    """A sentence that says which model saw which half."""
    return ", ".join(f"{name} is trained on {config.trained_on[name]}"
                     for name in config.model_names) + "."  # fmt: skip


def random_row(name: str) -> str:
    """The row of the control: random directions of the same norm, image by image."""
    return f"random direction, norm of {name}"


def table4(victims, attacks, test_set, config, protocol) -> report.Table:
    """Errors that examples made for each model, amplified ones, and noise induce in every model."""
    paper = report.paper_table("table4")
    rows, spread = tables.over_seeds([
        one_table4(models, attacks[seed], test_set, seed, config)
        for seed, models in enumerate(victims)
    ])  # fmt: skip
    is_first = protocol == next(iter(config.protocols))
    return report.Table(
        name="table4" if is_first else f"table4_{protocol}",
        title=f"Table 4: generalisation to models of other training sets, protocol {protocol} "
        f"({config.data.name})",
        columns=(*config.model_names, "av_distortion"),
        rows=rows,
        kinds=(*["percent"] * len(config.model_names), "distortion"),
        note="Row: made for; column: error induced in, over all attacked test images. Amplified: "
        "scaled to the stddev, then clipped to the box, after which the average distortion is as "
        "the last column says. A random direction has, image by image, the norm of the adversarial "
        f"change; it and the noise are not clipped. {tables.describe_seeds(config)}",
        paper=tables.paper_rows(paper["rows"]),
        paper_columns=tuple(paper["columns"]),
        spread=spread,
    )


def one_table4(victims, attacks, test_set, seed: int, config) -> dict[str, list[float]]:
    """The rows of table 4 for one seed."""
    num_images = len(next(iter(attacks.values()))["success"])
    images, labels = test_set.images[:num_images], test_set.labels[:num_images]
    indices, stddev = np.arange(num_images), config.amplified_stddev
    noise_key = build.key_for(config, build.NOISE, seed)
    small, large = [
        (tables.noise_row(level), baselines.gaussian_noise(noise_key, indices, images, level))
        for level in config.noise_stddevs
    ]
    key = build.key_for(config, build.DIRECTIONS, seed)
    sets = {name: lambda found=arrays: found["adv_images"] for name, arrays in attacks.items()}
    sets |= {
        random_row(name): baselines.random_directions(
            key, indices, images, np.where(arrays["success"], arrays["distortion"], 0)
        )
        for name, arrays in attacks.items()
    }
    sets |= dict([small])
    sets |= {
        tables.amplified_row(name, stddev): lambda found=arrays: baselines.amplify(
            images, found["adv_images"], stddev
        )
        for name, arrays in attacks.items()
    }
    sets |= dict([large])
    errors, _ = transfer.transfer_table(victims, sets, images, labels)
    return {name: [*errors[name], _distortion(images, changed)] for name, changed in sets.items()}


def _distortion(images, changed) -> float:
    """Mean distortion of one of the sets that `transfer_table` takes."""
    changed = np.asarray(changed() if callable(changed) else changed)
    return float(metrics.distortion(images, changed).mean())


def amplification(victims, attacks, test_set, config) -> report.Table:
    """Error in each model against the stddev that examples made for each model are scaled to."""
    num_images = len(next(iter(attacks[0].values()))["success"])
    images, labels = test_set.images[:num_images], test_set.labels[:num_images]
    found = []
    for seed, models in enumerate(victims):
        key = build.key_for(config, build.DIRECTIONS, seed)
        changed = {
            name: lambda stddev, arrays=arrays: baselines.amplify(
                images, arrays["adv_images"], stddev
            )
            for name, arrays in attacks[seed].items()
        }
        changed["random direction"] = lambda stddev, key=key: baselines.random_directions(
            key, np.arange(num_images), images, np.full(num_images, stddev, np.float32)
        )
        rows = {}
        for made_for, change in changed.items():
            sets = {stddev: change(stddev) for stddev in config.curve_stddevs}
            errors, _ = transfer.transfer_table(models, sets, images, labels)
            for column, name in enumerate(models):
                rows[f"{made_for} in {name}"] = [errors[stddev][column] for stddev in sets]
        found.append(rows)
    rows, spread = tables.over_seeds(found)
    return report.Table(
        name="amplification",
        title=f"Error induced, against the stddev of the change ({config.data.name})",
        columns=tuple(f"{stddev:g}" for stddev in config.curve_stddevs),
        rows=rows,
        kinds=("percent",) * len(config.curve_stddevs),
        note="Row: examples made for a model, tried in a model; column: stddev that they are "
        f"scaled to before they are clipped to the box. {tables.describe_seeds(config)}",
        spread=spread,
    )


def draw_amplification(path: Path, curve: report.Table, config) -> None:
    """A panel per model that examples were made for, a line per model they were tried in."""
    spread = curve.spread or {}
    panels = {}
    for made_for in config.model_names:
        lines = [
            charts.Line(f"in {name}", curve.rows[f"{made_for} in {name}"],
                         spread.get(f"{made_for} in {name}"))
            for name in config.model_names
        ]  # fmt: skip
        lines += [
            charts.Line("" if i else "random direction",
                         curve.rows[f"random direction in {name}"], dashed=True)
            for i, name in enumerate(config.model_names)
        ]  # fmt: skip
        panels[f"made for {made_for}, on {config.trained_on[made_for]}"] = lines
    charts.curves(path, config.curve_stddevs, panels, "Transfer against amplification",
                   "stddev of the change, before clipping", "error")  # fmt: skip


def check_claims(third: report.Table, crossed: report.Table, config) -> list[report.Claim]:
    """The paper's sentences about tables 3 and 4, decided by the means over the seeds."""
    names, stddev = list(config.model_names), config.amplified_stddev
    noise = tables.noise_row(config.noise_stddevs[-1])
    pairs = [(row, column) for row in names for column in names if row != column]

    def error(row: str, column: str) -> float:
        return crossed.rows[row][names.index(column)]

    plain = [pair for pair in pairs if error(*pair) > error(random_row(pair[0]), pair[1])]
    amplified = [
        (row, column)
        for row, column in pairs
        if error(tables.amplified_row(row, stddev), column) > error(noise, column)
    ]
    mean = metrics.mean([error(*pair) for pair in pairs])
    control = metrics.mean([error(random_row(row), column) for row, column in pairs])
    same = [p for p in pairs if config.trained_on[p[0]] == config.trained_on[p[1]]]
    other = [p for p in pairs if p not in same]
    means = [
        metrics.mean([error(tables.amplified_row(row, stddev), column) for row, column in group])
        for group in (same, other)
    ]
    success = [
        row[third.columns.index(f"success, {protocol}")]
        for row in third.rows.values()
        for protocol in config.protocols
    ]
    return [
        report.Claim(
            "Every test image has an adversarial example for every model (success 100%).",
            f"least success {min(success):.2%}", min(success) == 1,
        ),
        report.Claim(
            "Examples made for one model are harder for the others than random directions of the "
            "same norm, also for a model of a disjoint training set.",
            f"in {len(plain)} of {len(pairs)} pairs; mean error {mean:.2%} against {control:.2%}",
            len(plain) == len(pairs) if pairs else None,
        ),
        report.Claim(
            f"Amplified to stddev {stddev:g}, they are far harder than Gaussian noise of that "
            "stddev.",
            f"in {len(amplified)} of {len(pairs)} pairs",
            len(amplified) == len(pairs) if pairs else None,
        ),
        report.Claim(
            "They remain hard for models of a disjoint training set, though less than for another "
            "model of the same one.",
            f"error induced by amplified examples: {means[0]:.1%} in a model of the same half, "
            f"{means[1]:.1%} across halves",
            error(noise, names[0]) < means[1] < means[0] if same and other else None,
        ),
    ]  # fmt: skip
