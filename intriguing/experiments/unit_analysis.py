"""Figures 1 and 2 with numbers: are units more coherent than random directions?"""

from pathlib import Path

import jax
import numpy as np

from intriguing import metrics, models, report
from intriguing.analysis import units
from intriguing.errors import InputError
from intriguing.experiments import build
from intriguing.experiments.outcome import Outcome
from intriguing.predict import predict
from intriguing.report import figures

SMALL = 0.1  # a difference below this part of that to random images counts as none
BASES = ("units", "random directions", "random images")
KINDS = {"purity": "percent", "entropy": "number", "pixel_distance": "number",
         "feature_distance": "number"}  # fmt: skip


def unit_analysis(config, workdir: Path, mesh) -> Outcome:
    """Trains the first of `config.model_names` and looks at every layer's units on the test set."""
    train_set, test_set = build.load_data(config)
    name = config.model_names[0]
    with build.timed(workdir, "training"):
        (trained,) = build.train_models(config, [build.Job(name, train_set)], workdir, mesh)
    error = metrics.error_rate(predict(trained.logits_fn, test_set.images), test_set.labels)
    variables = {"params": trained.params}
    measured, tops = {}, {}
    for i, layer in enumerate(check_layers(config, trained.model.nodes)):
        with build.timed(workdir, f"units of {layer}"):
            activations = models.activations(trained.model, variables, test_set.images, layer)
            key = jax.random.fold_in(build.key_for(config, build.DIRECTIONS), i)
            tops[layer], measured[layer] = analyse_layer(activations, test_set, key, config)
    with build.timed(workdir, "tables and figures"):
        tested = tests_table(measured, config)
        shown = draw_figures(workdir / "figures", tops, lambda rows: test_set.images[rows], config)
    means = coherence_table(measured, error, config)
    return Outcome([means, tested], shown, check_claims(means, tested))


def check_layers(config, nodes) -> tuple[str, ...]:
    """`config.units.layers`. Raises InputError if there are none, or the network has no such."""
    there, asked = [node.name for node in nodes], tuple(config.units.layers)
    if missing := [layer for layer in asked if layer not in there]:
        raise InputError(f"units.layers: there is no {missing[0]}, but {', '.join(there)}")
    if not asked:
        raise InputError(f"units.layers is empty: name some of {', '.join(there)}")
    return asked


def analyse_layer(activations, dataset, key, config):
    """Top images and their coherence for each basis: two dicts by name of the basis."""
    k, num_images = config.units.num_top, len(dataset.labels)
    activations = activations.reshape(num_images, -1)
    live = units.live_units(activations, k)
    direction_key, image_key, shown_key = jax.random.split(key, 3)
    directions = units.random_directions(direction_key, len(live), activations.shape[1])
    rng = np.random.default_rng(np.asarray(jax.random.key_data(image_key)))
    tops = {
        "units": units.top_images(activations[:, live], None, k),
        "random directions": units.top_images(activations, directions, k),
        "random images": np.stack([rng.choice(num_images, k, replace=False) for _ in live]),
    }
    num_classes = len(dataset.class_names)
    found = {
        basis: units.coherence(top, dataset.labels, dataset.images, activations, num_classes)
        for basis, top in tops.items()
    }
    chosen = np.asarray(jax.random.permutation(shown_key, len(live)))[: config.units.num_shown]
    return {basis: top[chosen] for basis, top in tops.items()}, found


def coherence_table(measured, error: float, config, shown: str = "1 and 2") -> report.Table:
    """Mean of each measure, per layer and basis; `shown`: the figures of the same images."""
    rows = {
        f"{layer}: {basis}": [*(float(np.mean(each)) for each in found), len(found.purity)]
        for layer, bases in measured.items()
        for basis, found in bases.items()
    }
    return report.Table(
        name="units",
        title=f"Figures {shown}, measured: coherence of the top {config.units.num_top} images "
        f"({config.data.name}, test set)",
        columns=(*KINDS, "directions"),
        rows=rows,
        kinds=(*KINDS.values(), "count"),
        note=f"{config.model_names[0]}, test error {error:.2%}. Purity: share of the commonest "
        "label among the top images; entropy of their labels, in bits; mean Euclidean distance "
        "between two of them, in pixels and in the layer's activations. Units: all that are above "
        f"their least value in at least {config.units.num_top} images; as many random directions, "
        "and as many random sets of images.",
    )


def tests_table(measured, config) -> report.Table:
    """Units minus random directions, and random directions minus random images, per measure."""
    rows = {}
    for layer, bases in measured.items():
        for measure in KINDS:
            for first, second in (BASES[:2], BASES[1:]):
                values = [getattr(bases[basis], measure) for basis in (first, second)]
                found = units.compare(*values, seed=config.seed)
                rows[f"{layer}, {measure.replace('_', ' ')}: {first} - {second}"] = list(found)
    return report.Table(
        name="unit_tests",
        title=f"Are units more coherent than random directions? ({config.data.name})",
        columns=("difference", "low", "high", "p_value"),
        rows=rows,
        kinds=("number",) * 4,
        note="Differences of means over directions, with 95% bootstrap intervals and two-sided "
        "permutation tests (1,999 resamples: 0.001 is the smallest p there is). They take units "
        "for independent, which those of one map are not, and are of one trained net. More "
        "coherent is: higher purity, lower entropy, smaller distances.",
    )


def draw_figures(folder: Path, tops, read, config, first: int = 1):
    """Figures 1 and 2: top images of randomly chosen units, and of random directions.

    `read` maps indices to images; `first` is the number of the first figure.
    """
    shown = []
    for number, basis in enumerate(BASES[:2], start=first):
        groups = [
            figures.ImageGroup(layer, [figures.ImageRow("", read(row)) for row in bases[basis]])
            for layer, bases in tops.items()
        ]
        path = folder / f"figure{number}.png"
        heading = f"Figure {number}: top {config.units.num_top} images of {basis}"
        figures.image_grid(path, groups, heading, cell_pixels=56)
        caption = (
            f"Figure {number}. A row: the images of the test set in which one of the {basis}, "
            "chosen at random, is largest; per layer."
        )
        shown.append((path, caption))
    return shown


def check_claims(means: report.Table, tested: report.Table) -> list[report.Claim]:
    """The paper's sentence about figures 1 and 2, per layer and decided by label purity."""
    claims = []
    for layer in dict.fromkeys(row.split(":")[0] for row in means.rows):
        unit, random, images = (means.rows[f"{layer}: {basis}"][0] for basis in BASES)
        difference, low, high, p_value = tested.rows[f"{layer}, purity: {BASES[0]} - {BASES[1]}"]
        random_p = tested.rows[f"{layer}, purity: {BASES[1]} - {BASES[2]}"][3]
        claims += [
            report.Claim(
                f"{layer}: the top images of random directions are alike, too.",
                f"label purity {random:.1%}, of random images {images:.1%} (p = {random_p:.2g})",
                random > images and random_p < 0.05,
            ),
            report.Claim(
                f"{layer}: units are not more coherent than random directions: what they have over "
                "them is less than a tenth of what those have over random images.",
                f"label purity {unit:.1%} against {random:.1%}: difference {100 * difference:+.1f} "
                f"points, 95% interval {100 * low:+.1f} to {100 * high:+.1f} (p = {p_value:.2g})",
                high < SMALL * (random - images),
            ),
        ]
    return claims
