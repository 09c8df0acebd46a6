"""Tables 1 and 2 and figure 7: six models, their minimal perturbations, and how these transfer."""

from pathlib import Path

import numpy as np

from intriguing import metrics, report
from intriguing.analysis import transfer
from intriguing.attack import baselines
from intriguing.experiments import attacks as _attacks
from intriguing.experiments import build, tables
from intriguing.experiments.outcome import Outcome
from intriguing.experiments.phases import NOISE, key_for, timed
from intriguing.predict import predict
from intriguing.report import Column, Measurement, charts, figures
from intriguing.runs import shards

NUM_SHOWN = 10  # images per row of figure 7
ALL, RIGHT = "transfer_error", "transfer_error_right"  # the two denominators of table 2
HARDEST = "FC10(1)"


def cross_model(settings, workdir: Path, mesh) -> Outcome:
    """Trains the networks, attacks each under each protocol, and crosses examples and networks."""
    train_set, test_set = build.load_data(settings)
    names = settings.model_names
    with timed(workdir, "training"):
        jobs = [build.Job(name, train_set) for name in names]
        trained = dict(zip(names, build.train_models(settings, jobs, workdir, mesh), strict=True))
    victims = {name: model.logits_fn for name, model in trained.items()}
    attacks = _attacks.attack_all(settings, victims, train_set, workdir, mesh)
    with timed(workdir, "tables and figures"):
        images, labels, noisy = _attacked(settings, attacks, train_set)
        records = measure(settings, victims, attacks, train_set, test_set)
        records += measure_transfer(settings, victims, attacks, noisy, images, labels)
        found = [table1(records, settings)]
        for protocol in settings.protocols:
            found += [table2(records, settings, protocol, metric) for metric in (ALL, RIGHT)]
        found += [figure7(records, settings), *_attacks.endings_tables(records, names)]
        shown = draw_figures(workdir, trained, attacks, noisy, images, records, settings)
    return Outcome(records, found, shown, check_claims(records, settings, found[0]))


def _attacked(settings, attacks, train_set):
    """The images that were attacked, their labels, and noisy versions by standard deviation."""
    num = len(next(iter(next(iter(attacks.values())).values()))["success"])
    images, labels = train_set.images[:num], train_set.labels[:num]
    noisy = {
        stddev: baselines.gaussian_noise(key_for(settings, NOISE), np.arange(num), images, stddev)
        for stddev in (*settings.noise_stddevs, settings.figure_noise_stddev)
    }
    return images, labels, noisy


def measure(settings, victims, attacks, train_set, test_set) -> list[Measurement]:
    """Errors of each network, and how the attacks on it went."""
    records = []
    for name, logits_fn in victims.items():
        parts = {"train": train_set, "test": test_set}
        records += tables.measure_errors(name, logits_fn, parts)
        for protocol in settings.protocols:
            records += _attacks.measure(name, protocol, attacks[protocol][name])
    return records


def measure_transfer(settings, victims, attacks, noisy, images, labels) -> list[Measurement]:
    """Errors that examples made for each network, and noise, induce in every network."""
    records, num = [], len(labels)
    noise = {tables.noise_row(stddev): noisy[stddev] for stddev in settings.noise_stddevs}
    for protocol in settings.protocols:
        found = attacks[protocol]
        sets = {name: lambda arrays=found[name]: arrays["adv_images"] for name in victims}
        counted = {name: arrays["success"] for name, arrays in found.items()}
        nums = {on: int(which.sum()) for on, which in counted.items()}
        crossed = transfer.transfer_table(victims, sets | noise, images, labels, counted=counted)
        for metric, cells in zip((ALL, RIGHT), crossed, strict=True):
            records += [
                Measurement(metric, error, victim, protocol, on, num=nums.get(on, num))
                for on, errors in cells.items()
                for victim, error in zip(victims, errors, strict=True)
            ]
        sizes = {name: metrics.mean(arrays["distortion"], where=arrays["success"])
                 for name, arrays in found.items()}  # fmt: skip
        sizes |= {tables.noise_row(stddev): stddev for stddev in settings.noise_stddevs}
        records += [
            Measurement("size", size, protocol=protocol, on=on, num=nums.get(on, num))
            for on, size in sizes.items()
        ]
    last = list(settings.protocols)[-1]
    for name, logits_fn in victims.items():
        arrays, noise = attacks[last][name], noisy[settings.figure_noise_stddev]
        parts = {"clean": images, "adversarial": arrays["adv_images"], "noise": noise}
        for on, shown in parts.items():
            counts = arrays["success"] if on == "adversarial" else np.ones(num, bool)
            right = metrics.mean(predict(logits_fn, shown) == labels, where=counts)
            records.append(Measurement("accuracy", right, name, last, on, num=int(counts.sum())))
    return records


def table1(records, settings) -> report.Table:
    """Errors and the average minimum distortion of each model, over the attacks that succeeded."""
    first, *_ = settings.protocols
    distortions, success = tables.attack_columns(list(settings.protocols))
    errors = [Column(f"{on}_error", "percent", {"metric": "error", "on": on})
              for on in ("train", "test")]  # fmt: skip
    paper, num_images = report.paper_table("table1"), _num_images(records)
    found = report.view(
        records,
        {name: {"model": name} for name in settings.model_names},
        [*errors, *distortions, *success],
        name="table1",
        title=f"Table 1: models and average minimum distortion ({settings.data.name})",
        note=f"The first {num_images:,} training images are attacked, targets: "
        f"{settings.attack.targets}. {tables.describe_protocols(settings)} The first distortion is "
        f"that of protocol {first}. Means are over the attacks that succeed.",
        paper=paper["rows"],
        paper_columns=tuple(paper["columns"]),
    )
    return report.with_counts(found, dict.fromkeys(settings.model_names, num_images))


def _num_images(records) -> int:
    return report.select(records, metric="success")[0].num


def table2(records, settings, protocol: str, metric: str) -> report.Table:
    """Errors that the examples made for each model (row) induce in every model (column)."""
    names = settings.model_names
    rows = [*names, *map(tables.noise_row, settings.noise_stddevs)]
    columns = [Column(name, "percent", {"metric": metric, "model": name}) for name in names]
    columns.append(Column("av_distortion", "distortion", {"metric": "size", "model": ""}))
    is_first = protocol == next(iter(settings.protocols))
    whom = {ALL: "all images",
            RIGHT: "the images that the column's model has right when they are clean"}  # fmt: skip
    paper = report.paper_table("table2")
    found = report.view(
        records,
        {row: {"on": row, "protocol": protocol} for row in rows},
        columns,
        name="table2" + ("" if is_first else f"_{protocol}") + ("" if metric == ALL else "_right"),
        title=f"Table 2: cross-model generalisation, protocol {protocol}, over {whom[metric]} "
        f"({settings.data.name})",
        note="Row: made for; column: error induced in. Gaussian noise is not clipped to the box. "
        + tables.LEFT_OUT,
        paper=tables.paper_rows(paper["rows"]) if metric == ALL else None,
        paper_columns=tuple(paper["columns"]),
    )
    sizes = report.select(records, metric="size", protocol=protocol)
    return report.with_counts(found, {each.on: each.num for each in sizes})


def figure7(records, settings) -> report.Table:
    """Accuracies of each model on the three kinds of images that figure 7 shows."""
    protocol = list(settings.protocols)[-1]
    names = {"clean": "clean", "adversarial": "adversarial",
             "noise": f"noise, stddev {settings.figure_noise_stddev:g}"}  # fmt: skip
    columns = [Column(name, "percent", {"metric": "accuracy", "on": on})
               for on, name in names.items()]  # fmt: skip
    columns.append(Column("av_distortion", "distortion", {"metric": "distortion"}))
    paper = report.paper_table("figure7")
    found = report.view(
        records,
        {name: {"model": name, "protocol": protocol} for name in settings.model_names},
        columns,
        name="figure7",
        title=f"Figure 7: accuracy on clean, adversarial and noisy images ({settings.data.name})",
        note=f"Protocol {protocol}. The paper: 0% on adversarial images of stddev "
        f"{paper['fc10_stddev']:g} (FC10) and {paper['fc200_stddev']:g} (FC200-200-10), "
        f"{paper['gaussian_accuracy']:.0%} on Gaussian noise of stddev "
        f"{paper['gaussian_stddev']:g} (it does not say by which model). {tables.LEFT_OUT}",
    )
    return report.with_counts(found, dict.fromkeys(settings.model_names, _num_images(records)))


def draw_figures(workdir, trained, attacks, noisy, images, records, settings):
    """Figure 7, the histograms of distortions, the autoencoder's filters."""
    protocol, folder = list(settings.protocols)[-1], workdir / "figures"
    refined, paper = attacks[protocol], report.paper_table("table1")
    column = paper["columns"].index("av_min_distortion")
    charts.distortion_histogram(
        folder / "distortions.png",
        {name: arrays["distortion"] for name, arrays in refined.items()},
        f"Minimum distortion per model ({settings.data.name})",
        paper_means={
            name: paper["rows"][name][column] for name in trained if name in paper["rows"]
        },
    )
    caption = (
        f"Minimum distortion of each image, per model (protocol {protocol}); the dashed line is "
        "the paper's mean on MNIST."
    )
    noise = noisy[settings.figure_noise_stddev]
    return [
        _draw_figure7(folder / "figure7.png", refined, images, noise, records, settings),
        report.Picture(folder / "distortions.png", caption),
        *_draw_filters(folder / "filters.png", trained, images.shape[1:]),
    ]


def _draw_figure7(path: Path, refined, images, noise, records, settings) -> report.Picture:
    stddev, protocol = settings.figure_noise_stddev, list(settings.protocols)[-1]
    shown, groups, tiles = range(min(NUM_SHOWN, len(images))), [], []
    for name, arrays in refined.items():
        adv = shards.read_rows(arrays.where, shown, ["adv_images"])["adv_images"]
        sets = {"clean": ("original", images), "adversarial": ("adversarial", adv),
                "noise": (f"noise, stddev {stddev:g}", noise)}  # fmt: skip
        rows = []
        for on, (kind, each) in sets.items():
            right = report.value(records, metric="accuracy", model=name, on=on)
            rows.append(
                figures.ImageRow(f"{kind}\n{right:.0%} right", np.asarray(each[:NUM_SHOWN]))
            )
        mean = report.value(records, metric="distortion", model=name, protocol=protocol)
        groups.append(figures.ImageGroup(f"{name}: average distortion {mean:.3f}", rows))
        labels, targets = (
            [f"{name}: {label}" for label in arrays[which][: len(shown)]]
            for which in ("labels", "target_labels")
        )
        tiles += report.compare(images[: len(shown)], adv, labels, targets)
    figures.image_grid(path, groups, "Figure 7: original, adversarial, noise")
    return report.Picture(
        path,
        "Figure 7. Originals, the same images made adversarial for each "
        f"model (protocol {protocol}), and with Gaussian noise of stddev {stddev:g}; beside each "
        f"row, how many of the {len(images):,} attacked images the model has right.",
        tiles,
    )


def _draw_filters(path: Path, trained, image_shape) -> list[report.Picture]:
    encoders = {name: model.params["encoder"] for name, model in trained.items()
                if "encoder" in model.params}  # fmt: skip
    for name, encoder in encoders.items():
        weights = np.asarray(encoder["kernel"])
        figures.filters(path, weights, image_shape, f"First-layer filters of {name}")
        return [report.Picture(path, f"What each unit of {name} looks for; the paper trained its "
                "autoencoder until these were good.")]  # fmt: skip
    return []


def weakest_noise(records, settings, size: float, **where) -> float:
    """Error that the weakest noise of at least that size induces."""
    stddevs = settings.noise_stddevs
    stddev = min((each for each in stddevs if each >= size), default=max(stddevs))
    return report.value(records, metric=ALL, on=tables.noise_row(stddev), **where)


def check_claims(records, settings, first: report.Table) -> list[report.Claim]:
    """The paper's sentences about tables 1 and 2, decided by the measurements."""
    names, protocol = settings.model_names, next(iter(settings.protocols))
    success, pairs, stronger = tables.least_success(records), tables.find_pairs(names), 0
    for made_for, victim in pairs:
        where = {"model": victim, "protocol": protocol}
        size = report.value(records, metric="size", on=made_for, protocol=protocol)
        noise = weakest_noise(records, settings, size, **where)
        stronger += report.value(records, metric=ALL, on=made_for, **where) > noise
    claims = [
        report.Claim(
            "For all the networks, for each sample, we have always managed to generate very "
            "close adversarial examples (success 100% everywhere).",
            "; ".join(f"{p}: least success {least:.2%}" for p, least in success.items()),
            all(least == 1 for least in success.values()),
        ),
        report.Claim(
            "Examples made for one model fool another more than Gaussian noise that is at least "
            "as large.",
            f"in {stronger} of {len(pairs)} pairs of models", tables.all_of(stronger, pairs),
        ),
    ]  # fmt: skip
    if HARDEST in names and len(names) > 1:
        means = {
            name: report.value(records, metric="distortion", model=name, protocol=protocol)
            for name in names
        }
        hardest = max(means, key=means.get)
        claims.append(report.Claim(
            f"{HARDEST}, the linear model with the strongest weight decay, is the hardest to "
            "attack.",
            f"largest average distortion: {hardest} ({means[hardest]:.3f})", hardest == HARDEST,
        ))  # fmt: skip
    last = list(settings.protocols)[-1]
    paper = {name: first.paper_value(name, "av_min_distortion") for name in names}
    known = [name for name in names if paper[name] is not None]
    if settings.data.name == "mnist" and known:
        below = [
            name for name in known
            if report.value(records, metric="distortion", model=name, protocol=last) <= paper[name]
        ]  # fmt: skip
        claims.append(report.Claim(
            f"(ours) The distortions of protocol {last} are at or below the paper's.",
            f"in {len(below)} of {len(known)} rows of table 1", below == known,
        ))  # fmt: skip
    return claims
