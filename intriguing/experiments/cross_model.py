"""Tables 1 and 2 and figure 7: six models, their minimal perturbations, and how these transfer."""

from pathlib import Path

import numpy as np

from intriguing import metrics, report
from intriguing.analysis import transfer
from intriguing.attack import baselines
from intriguing.experiments import build, tables
from intriguing.experiments.outcome import Outcome
from intriguing.predict import predict
from intriguing.report import charts, figures
from intriguing.runs import shards

NUM_SHOWN = 10  # images per row of figure 7


def cross_model(config, workdir: Path, mesh) -> Outcome:
    """Trains `config.models`, attacks each under each protocol, and crosses examples and models."""
    train_set, test_set = build.load_data(config)
    with build.timed(workdir, "training"):
        jobs = [build.Job(name, train_set) for name in config.model_names]
        trained = dict(
            zip(config.model_names, build.train_models(config, jobs, workdir, mesh), strict=True)
        )
    victims = {name: model.logits_fn for name, model in trained.items()}
    attacks = build.attack_all(config, victims, train_set, workdir, mesh)
    with build.timed(workdir, "tables and figures"):
        attacked = next(iter(attacks.values()))
        num_images = len(attacked[config.model_names[0]]["success"])
        images, labels = train_set.images[:num_images], train_set.labels[:num_images]
        noise_key = build.key_for(config, build.NOISE)
        noisy = {
            stddev: baselines.gaussian_noise(noise_key, np.arange(num_images), images, stddev)
            for stddev in (*config.noise_stddevs, config.figure_noise_stddev)
        }
        first = table1(victims, attacks, train_set, test_set, config)
        crossed = [
            table
            for protocol in config.protocols
            for table in table2(victims, attacks[protocol], noisy, images, labels, config, protocol)
        ]
        seventh = figure7(victims, attacks, noisy[config.figure_noise_stddev], images, labels,
                          config)  # fmt: skip
        shown = draw_figures(workdir, trained, attacks, noisy, images, labels, seventh, config)
        claims = check_claims(first, crossed[0], config)
    return Outcome([first, *crossed, seventh], shown, claims)


def table1(victims, attacks, train_set, test_set, config) -> report.Table:
    """Errors and the average minimum distortion of each model, over the attacks that succeeded."""
    rows = {}
    for name, logits_fn in victims.items():
        errors = [
            metrics.error_rate(predict(logits_fn, part.images), part.labels)
            for part in (train_set, test_set)
        ]
        found = [attacks[protocol][name] for protocol in config.protocols]
        distortions = [tables.mean_distortion(arrays) for arrays in found]
        success = [float(arrays["success"].mean()) for arrays in found]
        num_images = len(found[0]["success"])
        rows[name] = [*errors, *distortions, *success, num_images]
    paper = report.paper_table("table1")
    first, *others = config.protocols
    num = len(config.protocols)
    return report.Table(
        name="table1",
        title=f"Table 1: models and average minimum distortion ({config.data.name})",
        columns=("train_error", "test_error", "av_min_distortion",
                 *(f"av_min_distortion, {protocol}" for protocol in others),
                 *(f"success, {protocol}" for protocol in config.protocols), "num_images"),
        rows=rows,
        kinds=(*["percent"] * 2, *["distortion"] * num, *["percent"] * num, "count"),
        note=f"The first {num_images:,} training images are attacked, targets: "
        f"{config.attack.targets}. {tables.describe_protocols(config)} The first distortion is "
        f"that of protocol {first}. Means are over the attacks that succeed.",
        paper=paper["rows"],
        paper_columns=tuple(paper["columns"]),
    )  # fmt: skip


def table2(victims, attacks, noisy, images, labels, config, protocol) -> list[report.Table]:
    """Errors that the examples made for each model (row) induce in every model (column)."""
    sets = {name: lambda found=attacks[name]: found["adv_images"] for name in victims}
    sets |= {tables.noise_row(stddev): noisy[stddev] for stddev in config.noise_stddevs}
    distortions = {name: tables.mean_distortion(attacks[name]) for name in victims}
    distortions |= {tables.noise_row(stddev): stddev for stddev in config.noise_stddevs}
    paper = report.paper_table("table2")
    is_first = protocol == next(iter(config.protocols))
    made = []
    for suffix, cells, whom in zip(
        ("", "_right"),
        transfer.transfer_table(victims, sets, images, labels),
        ("all images", "the images that the column's model has right when they are clean"),
        strict=True,
    ):
        made.append(report.Table(
            name="table2" + ("" if is_first else f"_{protocol}") + suffix,
            title=f"Table 2: cross-model generalisation, protocol {protocol}, over {whom} "
            f"({config.data.name})",
            columns=(*victims, "av_distortion", "num_images"),
            rows={name: [*errors, distortions[name], len(images)]
                  for name, errors in cells.items()},
            kinds=(*["percent"] * len(victims), "distortion", "count"),
            note="Row: made for; column: error induced in. Gaussian noise is not clipped to the "
            "box.",
            paper=None if suffix else tables.paper_rows(paper["rows"]),
            paper_columns=tuple(paper["columns"]),
        ))  # fmt: skip
    return made


def figure7(victims, attacks, noise, images, labels, config) -> report.Table:
    """Accuracies of each model on the three kinds of images that figure 7 shows."""
    protocol = list(config.protocols)[-1]
    rows = {}
    for name, logits_fn in victims.items():
        shown = (images, attacks[protocol][name]["adv_images"], noise)
        right = [1 - metrics.error_rate(predict(logits_fn, part), labels) for part in shown]
        rows[name] = [*right, tables.mean_distortion(attacks[protocol][name]), len(images)]
    paper = report.paper_table("figure7")
    stddev = config.figure_noise_stddev
    return report.Table(
        name="figure7",
        title=f"Figure 7: accuracy on clean, adversarial and noisy images ({config.data.name})",
        columns=("clean", "adversarial", f"noise, stddev {stddev:g}", "av_distortion",
                 "num_images"),
        rows=rows,
        kinds=("percent", "percent", "percent", "distortion", "count"),
        note=f"Protocol {protocol}. The paper: 0% on adversarial images of stddev "
        f"{paper['fc10_stddev']:g} (FC10) and {paper['fc200_stddev']:g} (FC200-200-10), "
        f"{paper['gaussian_accuracy']:.0%} on Gaussian noise of stddev "
        f"{paper['gaussian_stddev']:g} (it does not say by which model).",
    )  # fmt: skip


def draw_figures(workdir, trained, attacks, noisy, images, labels, seventh, config):
    """Figure 7, the histograms of distortions, the autoencoder's filters; [(path, caption)]."""
    stddev, protocol = config.figure_noise_stddev, list(config.protocols)[-1]
    refined = attacks[protocol]
    groups = []
    for name, arrays in refined.items():
        shown = range(min(NUM_SHOWN, len(images)))
        adv = shards.read_rows(arrays.where, shown, ["adv_images"])["adv_images"]
        sets = (images, adv, noisy[stddev])
        kinds = ("original", "adversarial", f"noise, stddev {stddev:g}")
        rows = [
            figures.ImageRow(f"{kind}\n{right:.0%} right", np.asarray(each[:NUM_SHOWN]))
            for kind, right, each in zip(kinds, seventh.rows[name][:3], sets, strict=True)
        ]
        mean = tables.mean_distortion(arrays)
        groups.append(figures.ImageGroup(f"{name}: average distortion {mean:.3f}", rows))
    folder = workdir / "figures"
    figures.image_grid(folder / "figure7.png", groups, "Figure 7: original, adversarial, noise")
    paper = report.paper_table("table1")
    column = paper["columns"].index("av_min_distortion")
    charts.distortion_histogram(
        folder / "distortions.png",
        {name: arrays["distortion"] for name, arrays in refined.items()},
        f"Minimum distortion per model ({config.data.name})",
        paper_means={
            name: paper["rows"][name][column] for name in trained if name in paper["rows"]
        },
    )
    shown = [
        (folder / "figure7.png", "Figure 7. Originals, the same images made adversarial for each "
         f"model (protocol {protocol}), and with Gaussian noise of stddev {stddev:g}; beside each "
         f"row, how many of the {len(images):,} attacked images the model has right."),
        (folder / "distortions.png", f"Minimum distortion of each image, per model (protocol "
         f"{protocol}); the dashed line is the paper's mean on MNIST."),
    ]  # fmt: skip
    for name, model in trained.items():
        if "encoder" in model.params:
            path = folder / "filters.png"
            weights, shape = np.asarray(model.params["encoder"]["kernel"]), images.shape[1:]
            figures.filters(path, weights, shape, f"First-layer filters of {name}")
            shown.append((path, f"What each unit of {name} looks for; the paper trained its "
                          "autoencoder until these were good."))  # fmt: skip
    return shown


def check_claims(first: report.Table, crossed: report.Table, config) -> list[report.Claim]:
    """The paper's sentences about tables 1 and 2, decided by the numbers."""
    names = list(config.model_names)
    protocols = list(config.protocols)
    success = {
        protocol: [first.rows[name][first.columns.index(f"success, {protocol}")] for name in names]
        for protocol in protocols
    }
    pairs = [(row, column) for row in names for column in names if row != column]
    stronger = [
        (row, column)
        for row, column in pairs
        if crossed.rows[row][names.index(column)] > tables.noise_error(crossed, row, column)
    ]
    means = {name: first.rows[name][2] for name in names}
    hardest = max(means, key=means.get)
    claims = [
        report.Claim(
            "For all the networks, for each sample, we have always managed to generate very "
            "close adversarial examples (success 100% everywhere).",
            "; ".join(f"{p}: least success {min(s):.2%}" for p, s in success.items()),
            all(min(values) == 1 for values in success.values()),
        ),
        report.Claim(
            "Examples made for one model fool another more than Gaussian noise that is at least "
            "as large.",
            f"in {len(stronger)} of {len(pairs)} pairs of models",
            len(stronger) == len(pairs) if pairs else None,
        ),
    ]
    if "FC10(1)" in names:
        claims.append(report.Claim(
            "FC10(1), the linear model with the strongest weight decay, is the hardest to attack.",
            f"largest average distortion: {hardest} ({means[hardest]:.3f})", hardest == "FC10(1)",
        ))  # fmt: skip
    if config.data.name == "mnist" and first.paper:
        last = 2 + len(protocols) - 1
        paper = {name: first.paper_value(name, "av_min_distortion") for name in names}
        known = [name for name in names if paper[name] is not None]
        below = [name for name in known if first.rows[name][last] <= paper[name]]
        claims.append(report.Claim(
            f"(ours) The distortions of protocol {protocols[-1]} are at or below the paper's.",
            f"in {len(below)} of {len(known)} rows of table 1", below == known,
        ))  # fmt: skip
    return claims
