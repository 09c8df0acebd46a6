"""Figures 1 and 2 with numbers: are units more coherent than random directions?"""

from pathlib import Path

import jax
import numpy as np

from intriguing import models, report
from intriguing.analysis import units
from intriguing.errors import InputError
from intriguing.experiments import build, tables
from intriguing.experiments.outcome import Outcome
from intriguing.experiments.phases import DIRECTIONS, key_for, timed
from intriguing.report import Column, Measurement, figures

SMALL = 0.1  # a difference below this part of that to random images counts as none
BASES = ("units", "random directions", "random images")
KINDS = {"purity": "percent", "entropy": "number", "pixel_distance": "number",
         "feature_distance": "number"}  # fmt: skip


def unit_analysis(settings, workdir: Path, mesh) -> Outcome:
    """Trains the network and looks at the units of its layers on the test set."""
    train_set, test_set = build.load_data(settings)
    (name,) = settings.model_names
    with timed(workdir, "training"):
        (trained,) = build.train_models(settings, [build.Job(name, train_set)], workdir, mesh)
    variables = {"params": trained.params}
    records = tables.measure_errors(name, trained.logits_fn, {"test": test_set})
    tops = {}
    for i, layer in enumerate(check_layers(settings, trained.model.nodes)):
        with timed(workdir, f"units of {layer}"):
            activations = models.activations(trained.model, variables, test_set.images, layer)
            key = jax.random.fold_in(key_for(settings, DIRECTIONS), i)
            tops[layer], found = analyse_layer(activations, test_set, key, settings)
            records += measure(name, layer, found, settings.seed)
    with timed(workdir, "tables and figures"):
        shown = draw_figures(
            workdir / "figures", tops, lambda rows: test_set.images[rows], settings
        )
    found = [coherence_table(records, settings), tests_table(records, settings)]
    return Outcome(records, found, shown, check_claims(records))


def measure(name: str, layer: str, found, seed: int) -> list[Measurement]:
    """Each measure of each basis, its mean over directions; and the bases against one another."""
    records = []
    for basis, coherence in found.items():
        records += [
            Measurement(measure, float(np.mean(getattr(coherence, measure))), name, on=basis,
                        layer=layer, num=len(coherence.purity))
            for measure in KINDS
        ]  # fmt: skip
    for measure in KINDS:
        for first, second in (BASES[:2], BASES[1:]):
            values = [getattr(found[basis], measure) for basis in (first, second)]
            compared = units.compare(*values, seed=seed)
            records += [
                Measurement(f"{measure}_compared", float(number), name, on=f"{first} - {second}",
                            layer=layer, at=part, num=len(values[0]))
                for part, number in compared._asdict().items()
            ]  # fmt: skip
    return records


def check_layers(settings, nodes) -> tuple[str, ...]:
    """`settings.units.layers`. Raises InputError if the network has no such."""
    there, asked = [node.name for node in nodes], tuple(settings.units.layers)
    if missing := [layer for layer in asked if layer not in there]:
        raise InputError(f"units.layers: there is no {missing[0]}, but {', '.join(there)}")
    return asked


def analyse_layer(activations, dataset, key, settings):
    """Top images and their coherence for each basis: two dicts by name of the basis."""
    k, num_images = settings.units.num_top, len(dataset.labels)
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
    chosen = np.asarray(jax.random.permutation(shown_key, len(live)))[: settings.units.num_shown]
    return {basis: top[chosen] for basis, top in tops.items()}, found


def coherence_table(records, settings, shown: str = "1 and 2", more: str = "") -> report.Table:
    """Mean of each measure, per layer and basis; `shown`: the figures of the same images."""
    (error,) = report.select(records, metric="error")
    purity = report.select(records, metric="purity")
    found = report.view(
        records,
        {f"{each.layer}: {each.on}": {"layer": each.layer, "on": each.on} for each in purity},
        [Column(measure, kind, {"metric": measure}) for measure, kind in KINDS.items()],
        name="units",
        title=f"Figures {shown}, measured: coherence of the top {settings.units.num_top} images "
        f"({settings.data.name}, test set)",
        note=f"{error.model}, test error {error.value:.2%}. Purity: share of the commonest "
        "label among the top images; entropy of their labels, in bits; mean Euclidean distance "
        "between two of them, in pixels and in the layer's activations. Units: all that are above "
        f"their least value in at least {settings.units.num_top} images; as many random "
        f"directions, and as many random sets of images.{more}",
    )
    counts = {f"{each.layer}: {each.on}": each.num for each in purity}
    return report.with_counts(found, counts, "directions")


def tests_table(records, settings) -> report.Table:
    """Units minus random directions, and random directions minus random images, per measure."""
    rows = {}
    for each in report.select(records, at="difference"):
        measure = each.metric.removesuffix("_compared").replace("_", " ")
        where = {"metric": each.metric, "layer": each.layer, "on": each.on}
        rows[f"{each.layer}, {measure}: {each.on}"] = where
    parts = units.Comparison._fields
    return report.view(
        records,
        rows,
        [Column(part, "number", {"at": part}) for part in parts],
        name="unit_tests",
        title=f"Are units more coherent than random directions? ({settings.data.name})",
        note="Differences of means over directions, with 95% bootstrap intervals and two-sided "
        "permutation tests (1,999 resamples: 0.001 is the smallest p there is). They take units "
        "for independent, which those of one map are not, and are of one trained net. More "
        "coherent is: higher purity, lower entropy, smaller distances.",
    )


def draw_figures(folder: Path, tops, read, settings, first: int = 1):
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
        heading = f"Figure {number}: top {settings.units.num_top} images of {basis}"
        figures.image_grid(path, groups, heading, cell_pixels=56)
        caption = (
            f"Figure {number}. A row: the images of the test set in which one of the {basis}, "
            "chosen at random, is largest; per layer."
        )
        shown.append(report.Picture(path, caption))
    return shown


def check_claims(records) -> list[report.Claim]:
    """The paper's sentence about figures 1 and 2, per layer and decided by label purity."""
    claims = []
    for layer in dict.fromkeys(each.layer for each in report.select(records, metric="purity")):
        of_layer = report.select(records, layer=layer)
        unit, random, images = (
            report.value(of_layer, metric="purity", on=basis) for basis in BASES
        )
        first, second = (
            {part: report.value(of_layer, metric="purity_compared", on=f"{one} - {other}", at=part)
             for part in units.Comparison._fields}
            for one, other in (BASES[:2], BASES[1:])
        )  # fmt: skip
        claims += [
            report.Claim(
                f"{layer}: the top images of random directions are alike, too.",
                f"label purity {random:.1%}, of random images {images:.1%} "
                f"(p = {second['p_value']:.2g})",
                random > images and second["p_value"] < 0.05,
            ),
            report.Claim(
                f"{layer}: units are not more coherent than random directions: what they have over "
                "them is less than a tenth of what those have over random images.",
                f"label purity {unit:.1%} against {random:.1%}: difference "
                f"{100 * first['difference']:+.1f} points, 95% interval "
                f"{100 * first['low']:+.1f} to {100 * first['high']:+.1f} "
                f"(p = {first['p_value']:.2g})",
                first["high"] < SMALL * (random - images),
            ),
        ]
    return claims
