"""Figures 3 and 4 with numbers: units of large networks, over images that are streamed."""

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from intriguing import identity, metrics
from intriguing.analysis import units
from intriguing.errors import InputError
from intriguing.experiments import build
from intriguing.experiments.outcome import Outcome
from intriguing.experiments.phases import DIRECTIONS, key_for, timed
from intriguing.experiments.unit_analysis import (
    BASES,
    check_claims,
    check_layers,
    coherence_table,
    draw_figures,
    measure,
    tests_table,
)
from intriguing.predict import choose_batch_size, class_of
from intriguing.progress import Progress
from intriguing.report import Measurement
from intriguing.runs import shards


def streamed_units(settings, workdir: Path, mesh) -> Outcome:
    """Looks at layers of a large network.

    Only projections are kept of each image: on some of the layer's units, on as many random
    directions, and on random directions of its pixels. Distances are estimated from those.
    """
    source = build.open_images(settings)
    (name,) = settings.model_names
    trained = build.large_model(settings, name, workdir, mesh)
    source = build.match(source, trained)
    images, _ = source.read(range(1))
    shapes = jax.eval_shape(trained.model.apply, {"params": trained.params}, images)[1]
    records, tops = [], {}
    for i, layer in enumerate(check_layers(settings, trained.model.nodes)):
        with timed(workdir, f"units of {layer}"):
            key = jax.random.fold_in(key_for(settings, DIRECTIONS), i)
            shape = shapes[layer].shape[1:]
            arrays = project(settings, trained, layer, shape, source, key, workdir)
            kept = math.sqrt(math.prod(shape) / arrays["directions"].shape[1])
            tops[layer], found = _analyse(arrays, kept, source, settings, key)
            records += measure(name, layer, found, settings.seed)
    readable = np.flatnonzero(arrays["readable"])
    labels = source.labels[readable]
    error = metrics.error_rate(arrays["classes"][readable], labels)
    records.append(Measurement("error", error, name, on="test", num=len(labels)))
    with timed(workdir, "tables and figures"):
        shown = draw_figures(
            workdir / "figures", tops, lambda rows: source.read(readable[rows])[0], settings,
            first=3,
        )  # fmt: skip
    num_labels = len(np.unique(labels))
    means = coherence_table(
        records, settings, "3 and 4", f" Of {len(labels)} images of {num_labels} classes. At most "
        f"{settings.units.num_directions} units of a layer, drawn at random; distances are "
        "estimated from as many random projections.",
    )  # fmt: skip
    tested = tests_table(records, settings)
    if num_labels < len(labels):
        return Outcome(records, [means, tested], shown, check_claims(records))
    # No two images share a label: purity says nothing, and so do claims that rest on it.
    rows = {row: found for row, found in tested.rows.items() if "distance" in row}
    return Outcome(records, [means, tested._replace(rows=rows)], shown, [])


def project(settings, trained, layer: str, shape, source, key, workdir: Path) -> dict:
    """What is kept of every image of the source; the arrays have a row per image.

    Arrays: `units` and `directions`, (num, directions): projections of the layer's activations on
    single units and on random directions; `pixels`: of the pixels on random directions; `classes`
    that the network answers; `readable`.
    """
    size, num = math.prod(shape), len(source.labels)
    num_directions = min(settings.units.num_directions, size)
    unit_key, direction_key, pixel_key = jax.random.split(key, 3)
    chosen = np.asarray(jax.random.permutation(unit_key, size))[:num_directions]
    directions = units.random_directions(direction_key, num_directions, size)
    first, _ = source.read(range(1))
    num_kept = min(settings.units.num_directions, first[0].size)
    of_pixels = units.random_directions(pixel_key, num_kept, first[0].size)
    of_pixels = of_pixels * math.sqrt(first[0].size / num_kept)  # distances stay, on average

    @jax.jit
    def projections(params, directions, of_pixels, images):
        outputs, activations = trained.model.apply({"params": params}, images)
        values = activations[layer].reshape(len(images), -1)
        return {
            "units": values[:, chosen], "directions": values @ directions.T,
            "pixels": images.reshape(len(images), -1) @ of_pixels.T,
            "outputs": outputs,
        }  # fmt: skip

    directions, of_pixels = jnp.asarray(directions), jnp.asarray(of_pixels)
    batch_size = choose_batch_size(first)

    def compute(start: int, stop: int) -> dict[str, np.ndarray]:
        images, readable = source.read(range(start, stop))
        parts = []
        for at in range(0, len(images), batch_size):
            batch = images[at : at + batch_size]
            padding = [(0, batch_size - len(batch)), *[(0, 0)] * 3]
            found = projections(trained.params, directions, of_pixels, np.pad(batch, padding))
            parts.append({key: np.asarray(value)[: len(batch)] for key, value in found.items()})
        arrays = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        classes = class_of(arrays.pop("outputs"))
        return {**arrays, "classes": classes, "readable": readable}

    model = identity.of_model(trained.logits_fn, first.shape[1:])
    projected = {"directions": identity.of_arrays(chosen, directions, of_pixels, layer)}

    def made_from(start: int, stop: int) -> identity.MadeFrom:
        return {**model, **projected, "images": source.digest(range(start, stop))}

    with Progress(num, f"units of {layer}") as progress:
        return shards.map_shards(
            shards.Shards(workdir / "results" / "units" / layer, num, settings.shard_size),
            compute, made_from=made_from, progress=progress,
        )  # fmt: skip


def _analyse(arrays, scale: float, source, settings, key):
    """Top images and their coherence for each basis, as `analyse_layer` there.

    `scale` times a difference of projections is as long as the difference, on average.
    """
    readable = arrays["readable"]
    labels = source.labels[readable]
    of_units, of_directions = arrays["units"][readable], arrays["directions"][readable]
    k = settings.units.num_top
    if len(labels) < k:
        raise InputError(f"units.num_top is {k}: there are {len(labels)} images")
    live = units.live_units(of_units, k)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    tops = {
        BASES[0]: units.top_images(of_units[:, live], None, k),
        BASES[1]: units.top_images(of_directions, None, k),
        BASES[2]: np.stack([rng.choice(len(labels), k, replace=False) for _ in live]),
    }
    num_classes = len(source.class_names)
    found = {
        basis: units.coherence(
            top, labels, arrays["pixels"][readable], scale * of_directions, num_classes
        )
        for basis, top in tops.items()
    }
    shown = {basis: top[: settings.units.num_shown] for basis, top in tops.items()}
    return shown, found
