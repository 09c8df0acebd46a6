"""Tables 3 and 4: examples made for one half of the training set, tried on models of the other."""

from pathlib import Path

import jax
import numpy as np

from intriguing import data, metrics, report
from intriguing.analysis import transfer
from intriguing.attack import baselines
from intriguing.experiments import attacks as _attacks
from intriguing.experiments import build, tables
from intriguing.experiments.outcome import Outcome
from intriguing.experiments.phases import DIRECTIONS, NOISE, SPLIT, key_for, timed
from intriguing.report import Column, Measurement, charts

CAPTION = """Error that examples made for one model induce in the others (test set), against the
stddev that they are amplified to (before clipping to the box); dashed: a random direction of the
same stddev. Mean over the seeds.""".replace("\n", " ")
RANDOM = "random direction"


def cross_training_set(settings, workdir: Path, mesh) -> Outcome:
    """Trains the networks on the half that `settings.trained_on` names; attacks the test set.

    Everything is done `settings.num_seeds` times: other halves, other initial weights.
    """
    train_set, test_set = build.load_data(settings)
    names, seeds = settings.model_names, range(settings.num_seeds)
    halves = [split_in_two(settings, train_set, seed) for seed in seeds]
    labels = {(name, seed): tables.label_of(name, seed) for seed in seeds for name in names}
    with timed(workdir, "training"):
        jobs = [
            build.Job(name, halves[seed][settings.trained_on[name]], seed, label)
            for (name, seed), label in labels.items()
        ]
        trained = build.train_models(settings, jobs, workdir, mesh)
        victims = {job.label: model.logits_fn for job, model in zip(jobs, trained, strict=True)}
    attacks = _attacks.attack_all(settings, victims, test_set, workdir, mesh)
    with timed(workdir, "tables and figures"):
        records = []
        for seed in seeds:
            nets = {name: victims[labels[name, seed]] for name in names}
            found = {
                protocol: {name: attacks[protocol][labels[name, seed]] for name in names}
                for protocol in attacks
            }
            parts = {**halves[seed], "test": test_set}
            records.append(
                [
                    *measure(settings, nets, found, parts),
                    *measure_transfer(settings, nets, found, test_set, seed),
                    *measure_curve(settings, nets, found, test_set, seed),
                ]
            )
        records = report.over_seeds(records)
        crossed = [table4(records, settings, protocol) for protocol in attacks]
        curve, third = curve_table(records, settings), table3(records, settings)
        path = workdir / "figures" / "amplification.png"
        draw_amplification(path, curve, settings)
        ended = _attacks.endings_tables(records, names)
    found = [third, *crossed, curve, *ended]
    return Outcome(records, found, [report.Picture(path, CAPTION)], check_claims(records, settings))


def split_in_two(settings, dataset: data.Dataset, seed: int) -> dict[str, data.Dataset]:
    """P1 and P2: the halves of a random permutation of the training set."""
    key = key_for(settings, SPLIT, seed)
    order = np.asarray(jax.random.permutation(key, len(dataset.labels)))
    middle = len(order) // 2
    return {"P1": data.take(dataset, order[:middle]), "P2": data.take(dataset, order[middle:])}


def measure(settings, victims, attacks, parts) -> list[Measurement]:
    """Errors on both halves and the test set, and how the attacks went, of one seed."""
    records = []
    for name, logits_fn in victims.items():
        records += tables.measure_errors(name, logits_fn, parts)
        for protocol in settings.protocols:
            records += _attacks.measure(name, protocol, attacks[protocol][name])
    return records


def random_row(name: str) -> str:
    """The row of the control: random directions of the same norm, image by image."""
    return f"random direction, norm of {name}"


def measure_transfer(settings, victims, attacks, test_set, seed: int) -> list[Measurement]:
    """What examples made for each network, amplified ones, and noise induce in every network."""
    records = []
    for protocol in settings.protocols:
        sets, images, labels = _image_sets(settings, attacks[protocol], test_set, seed)
        counted = _counted(settings, attacks[protocol])
        errors, _ = transfer.transfer_table(victims, sets, images, labels, counted=counted)
        for on, changed in sets.items():
            shown = np.asarray(changed() if callable(changed) else changed)
            counts = counted.get(on, np.ones(len(labels), bool))
            size = metrics.mean(metrics.distortion(images, shown), where=counts)
            about = {"protocol": protocol, "on": on, "num": int(counts.sum())}
            records += [
                Measurement("transfer_error", error, victim, **about)
                for victim, error in zip(victims, errors[on], strict=True)
            ]
            records.append(Measurement("size", size, **about))
    return records


def _counted(settings, attacks) -> dict[str, np.ndarray]:
    """Which images of a set made from attacks count: those of attacks that succeeded."""
    kinds = (str, random_row, lambda name: tables.amplified_row(name, settings.amplified_stddev))
    return {of(name): arrays["success"] for name, arrays in attacks.items() for of in kinds}


def _image_sets(settings, attacks, test_set, seed: int):
    """Changed images by what made them, the rows of table 4; the clean ones, and their labels."""
    num = len(next(iter(attacks.values()))["success"])
    images, labels = test_set.images[:num], test_set.labels[:num]
    indices, stddev = np.arange(num), settings.amplified_stddev
    noise_key, key = (key_for(settings, purpose, seed) for purpose in (NOISE, DIRECTIONS))
    small, large = (
        {tables.noise_row(level): baselines.gaussian_noise(noise_key, indices, images, level)}
        for level in settings.noise_stddevs
    )
    sets = {name: lambda found=arrays: found["adv_images"] for name, arrays in attacks.items()}
    sets |= {
        random_row(name): baselines.move_randomly(
            key, indices, images, np.where(arrays["success"], arrays["distortion"], 0)
        )
        for name, arrays in attacks.items()
    }
    sets |= small
    sets |= {
        tables.amplified_row(name, stddev): lambda found=arrays: baselines.amplify(
            images, found["adv_images"], stddev
        )
        for name, arrays in attacks.items()
    }
    return sets | large, images, labels


def measure_curve(settings, victims, attacks, test_set, seed: int) -> list[Measurement]:
    """Error in each network against the stddev that examples made for each are scaled to."""
    attacks = attacks[list(settings.protocols)[-1]]
    num = len(next(iter(attacks.values()))["success"])
    images, labels, records = test_set.images[:num], test_set.labels[:num], []
    key = key_for(settings, DIRECTIONS, seed)
    changes = {
        name: lambda stddev, arrays=arrays: baselines.amplify(images, arrays["adv_images"], stddev)
        for name, arrays in attacks.items()
    }
    changes[RANDOM] = lambda stddev: baselines.move_randomly(
        key, np.arange(num), images, np.full(num, stddev, np.float32)
    )
    for made_for, change in changes.items():
        sets = {f"{stddev:g}": change(stddev) for stddev in settings.curve_stddevs}
        counts = attacks[made_for]["success"] if made_for in attacks else np.ones(num, bool)
        errors, _ = transfer.transfer_table(
            victims, sets, images, labels, counted=dict.fromkeys(sets, counts)
        )
        records += [
            Measurement(
                "amplified_error", error, victim, on=made_for, at=stddev, num=int(counts.sum())
            )
            for stddev, found in errors.items()
            for victim, error in zip(victims, found, strict=True)
        ]
    return records


def table3(records, settings) -> report.Table:
    """Errors on both halves and the test set, and the distortions under each protocol."""
    first, *_ = settings.protocols
    names = {"P1": "error_P1", "P2": "error_P2", "test": "test_error"}
    errors = [Column(name, "percent", {"metric": "error", "on": on}) for on, name in names.items()]
    distortions, success = tables.attack_columns(list(settings.protocols))
    paper, num = report.paper_table("table3"), report.select(records, metric="success")[0].num
    return report.view(
        records,
        {name: {"model": name} for name in settings.model_names},
        [*errors, *distortions, *success],
        name="table3",
        title=f"Table 3: models trained on disjoint halves ({settings.data.name})",
        note=f"{trained_on(settings)} The first {num:,} test images are "
        f"attacked, targets: {settings.attack.targets}. {tables.describe_protocols(settings)} The "
        f"first distortion is that of protocol {first}. "
        f"{tables.describe_seeds(settings.num_seeds)}",
        paper=paper["rows"],
        paper_columns=tuple(paper["columns"]),
    )


def trained_on(settings) -> str:
    """A sentence that says which model saw which half."""
    return ", ".join(f"{name} is trained on {settings.trained_on[name]}"
                     for name in settings.model_names) + "."  # fmt: skip


def table4(records, settings, protocol: str) -> report.Table:
    """Errors that examples made for each model, amplified ones, and noise induce in every model."""
    paper, is_first = report.paper_table("table4"), protocol == next(iter(settings.protocols))
    columns = [Column(name, "percent", {"metric": "transfer_error", "model": name})
               for name in settings.model_names]  # fmt: skip
    columns.append(Column("av_distortion", "distortion", {"metric": "size"}))
    rows = [each.on for each in report.select(records, metric="size", protocol=protocol)]
    return report.view(
        records,
        {row: {"on": row, "protocol": protocol} for row in rows},
        columns,
        name="table4" if is_first else f"table4_{protocol}",
        title=f"Table 4: generalisation to models of other training sets, protocol {protocol} "
        f"({settings.data.name})",
        note=f"Row: made for; column: error induced in. {tables.LEFT_OUT} Amplified: "
        "scaled to the stddev, then clipped to the box, after which the average distortion is as "
        "the last column says. A random direction has, image by image, the norm of the adversarial "
        f"change; it and the noise are not clipped. {tables.describe_seeds(settings.num_seeds)}",
        paper=tables.paper_rows(paper["rows"]),
        paper_columns=tuple(paper["columns"]),
    )


def curve_table(records, settings) -> report.Table:
    """Error in each model against the stddev that examples made for each model are scaled to."""
    names = settings.model_names
    rows = [(made_for, victim) for made_for in (*names, RANDOM) for victim in names]
    return report.view(
        report.select(records, metric="amplified_error"),
        {f"{made_for} in {victim}": {"on": made_for, "model": victim} for made_for, victim in rows},
        [Column(f"{stddev:g}", "percent", {"at": f"{stddev:g}"})
         for stddev in settings.curve_stddevs],
        name="amplification",
        title=f"Error induced, against the stddev of the change ({settings.data.name})",
        note="Row: examples made for a model, tried in a model; column: stddev that they are "
        "scaled to before they are clipped to the box. "
        f"{tables.describe_seeds(settings.num_seeds)}",
    )  # fmt: skip


def draw_amplification(path: Path, curve: report.Table, settings) -> None:
    """A panel per model that examples were made for, a line per model they were tried in."""
    # fmt: off
    spread, names, panels = curve.spread or {}, settings.model_names, {}
    for made_for in names:
        lines = [charts.Line(f"in {name}", curve.rows[row], spread.get(row))
                 for name in names for row in [f"{made_for} in {name}"]]
        lines += [charts.Line("" if i else RANDOM, curve.rows[f"{RANDOM} in {name}"], dashed=True)
                  for i, name in enumerate(names)]
        panels[f"made for {made_for}, on {settings.trained_on[made_for]}"] = lines
    charts.curves(path, settings.curve_stddevs, panels, "Transfer against amplification",
                  "stddev of the change, before clipping", "error")
    # fmt: on


def check_claims(records, settings) -> list[report.Claim]:
    """The paper's sentences about tables 3 and 4, decided by the means over the seeds."""
    names, stddev = settings.model_names, settings.amplified_stddev
    pairs, protocol = tables.find_pairs(names), next(iter(settings.protocols))

    def error(made_for: str, victim: str) -> float:
        return report.value(
            records, metric="transfer_error", on=made_for, model=victim, protocol=protocol
        )

    def amplified(pair: tuple[str, str]) -> float:
        return error(tables.amplified_row(pair[0], stddev), pair[1])

    noise = tables.noise_row(settings.noise_stddevs[-1])
    num_plain = sum(error(*pair) > error(random_row(pair[0]), pair[1]) for pair in pairs)
    num_amplified = sum(amplified(pair) > error(noise, pair[1]) for pair in pairs)
    mean = metrics.mean([error(*pair) for pair in pairs])
    control = metrics.mean([error(random_row(row), column) for row, column in pairs])
    halves = settings.trained_on
    same = [pair for pair in pairs if halves[pair[0]] == halves[pair[1]]]
    other = [pair for pair in pairs if pair not in same]
    means = [metrics.mean([amplified(pair) for pair in group]) for group in (same, other)]
    least = min(tables.least_success(records).values())
    return [
        report.Claim(
            "Every test image has an adversarial example for every model (success 100%).",
            f"least success {least:.2%}", least == 1,
        ),
        report.Claim(
            "Examples made for one model are harder for the others than random directions of the "
            "same norm, also for a model of a disjoint training set.",
            f"in {num_plain} of {len(pairs)} pairs; mean error {mean:.2%} against {control:.2%}",
            tables.all_of(num_plain, pairs),
        ),
        report.Claim(
            f"Amplified to stddev {stddev:g}, they are far harder than Gaussian noise of that "
            "stddev.",
            f"in {num_amplified} of {len(pairs)} pairs", tables.all_of(num_amplified, pairs),
        ),
        report.Claim(
            "They remain hard for models of a disjoint training set, though less than for another "
            "model of the same one.",
            f"error induced by amplified examples: {means[0]:.1%} in a model of the same half, "
            f"{means[1]:.1%} across halves",
            error(noise, names[0]) < means[1] < means[0] if same and other else None,
        ),
    ]  # fmt: skip
