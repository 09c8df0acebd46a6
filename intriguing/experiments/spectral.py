"""Table 5: operator norms of every layer, and what they certify about each image."""

import math
from pathlib import Path

import jax
import numpy as np

from intriguing import report
from intriguing.analysis import lipschitz, operator_norms
from intriguing.data import Dataset
from intriguing.experiments import build, tables
from intriguing.experiments.outcome import Outcome
from intriguing.models.layers import Conv, Dense
from intriguing.predict import logits
from intriguing.progress import Progress, logger
from intriguing.report import charts

FORMULA_NOTE = "printed_formula: the bound with the paper's factor D^-2; "
NORM_NOTE = (
    "upper_bound: sound, of convolutions by the frequency method; norm: of the layer itself, zero"
    f" padding and all; {FORMULA_NOTE}total: of the network up to there, in units of pixels in"
    " [0, 1]. Layers that never amplify (ReLU, concatenation) are left out; overlapping 3x3/2 max"
    " pooling counts as 2."
)
PAPER_NAMES = {"fc6": "fc1", "fc7": "fc2", "fc8": "fc3"}  # of AlexNet's layers in table 5


def spectral_analysis(config, workdir: Path, mesh) -> Outcome:
    """Bounds every model of `config.model_names`, and compares them with attacks."""
    source = build.open_images(config)
    with build.timed(workdir, "models"):
        trained = build.any_model(config, config.model_names, workdir, mesh)
    images, _ = source.read(range(1))
    norms, intervals, spans, claims = {}, {}, {}, []
    for name, net in trained.items():
        nodes = net.model.nodes
        params = jax.device_get(net.params)
        with build.timed(workdir, f"bounds of {name}"):
            bounds = lipschitz.lipschitz_bounds(nodes, params, images.shape[1:])
            norms |= _norm_rows(name, nodes, params, bounds, images.shape[1:])
        with build.timed(workdir, f"attacks on {name}"):
            intervals[name], spans[name], claim = _interval(
                config, name, net, bounds, source, workdir, mesh
            )
        claims.append(claim)
    claims.append(_norm_claim(norms))
    path = workdir / "figures" / "intervals.png"
    charts.intervals(path, spans, "Each image: certified distance (left), attack (right)")
    caption = (
        "Per image, the certified distance and that of the attack; left of it no class changes."
    )
    shown = [_norm_table(norms, trained, config), _interval_table(intervals, config)]
    return Outcome(shown, [(path, caption)], claims)


def _norm_rows(name: str, nodes, params, bounds, image_shape) -> dict[str, list[float]]:
    """Per layer: upper bound, exact norm (of linear layers), the paper's formula, total so far."""
    shapes = lipschitz.output_shapes(nodes, params, image_shape)
    rows = {}
    with Progress(len(nodes), f"norms of {name}", "layer") as progress:
        for done, (node, layer, inputs) in enumerate(nodes, start=1):
            bound = bounds[node]
            exact = printed = math.nan
            if isinstance(layer, Conv | Dense):
                kernel = params[node]["kernel"]
                exact = operator_norms.exact_norm(layer, kernel, shapes[inputs[0]])
            if isinstance(layer, Conv):
                printed = bound.constant / layer.stride  # D^-2 in place of D^-1
            if bound.constant != 1:
                rows[f"{name}: {node}"] = [bound.constant, exact, printed, bound.total]
            progress.update(done)
    return rows


def _interval(config, name: str, net: build.Trained, bounds, source, workdir: Path, mesh):
    """The certified distance of images and that of an attack: a row, what is drawn, a claim."""
    logits_fn, nodes = net.logits_fn, net.model.nodes
    (protocol,) = config.protocols
    num_images = min(config.attack.num_images or len(source.labels), len(source.labels))
    images, readable = source.read(range(num_images))
    labels = source.labels[: len(images)]
    values = logits(logits_fn, images)
    right = readable & (values.argmax(axis=1) == labels)
    total, num_classes = bounds[nodes[-1].name].total, values.shape[1]
    claim = report.Claim(f"{name}: no attack ends inside the certified distance.", "", None)
    if not right.any():
        logger.warning("%s has none of the first %d images right", name, len(images))
        return [0, total, *[math.nan] * 5], (np.zeros(0), np.zeros(0)), claim
    images, labels, values = images[right], labels[right], values[right]
    dataset = Dataset(images, labels, source.class_names)
    arrays = build.attack_images(config, logits_fn, dataset, name, workdir, mesh, protocol)
    pairs = lipschitz.difference_bounds(nodes, jax.device_get(net.params), bounds, num_classes)
    radius = lipschitz.certified_radius(values, labels, pairs)
    plain = lipschitz.certified_radius(values, labels, total)
    success, scale = arrays["success"], math.sqrt(images[0].size)
    norms, radii = arrays["l2_norm"][success].astype(float), radius[success]
    ratios = np.divide(norms, radii, out=np.full(len(radii), np.inf), where=radii > 0)
    least = ratios.min(initial=np.inf)
    row = [
        len(images), total, float(plain.mean()) / scale, float(radius.mean()) / scale,
        tables.mean_distortion(arrays),
        float(np.median(ratios)) if len(ratios) else math.nan, float(least),
    ]  # fmt: skip
    claim = claim._replace(
        measured=f"the least of {len(ratios)} ratios of distance to radius is {least:.3g}",
        holds=bool(least >= 1) if len(ratios) else None,
    )
    span = radius[success] / scale, arrays["distortion"][success]
    return row, span, claim


def _norm_claim(norms) -> report.Claim:
    worst = min((row[0] / row[1] for row in norms.values() if row[1] > 0), default=math.inf)
    return report.Claim(
        "Every layer's exact norm is at or below its bound.",
        f"the least ratio of bound to norm is {worst:.6f}", worst >= 1 - 1e-4,
    )  # fmt: skip


def _norm_table(norms, trained, config) -> report.Table:
    paper = report.paper_table("table5")["rows"]
    paper_rows = {
        f"{name}: {node}": paper[PAPER_NAMES.get(node, node)]
        for name, net in trained.items()
        if config.models[name].get("architecture") == "alexnet"
        for node, *_ in net.model.nodes
        if PAPER_NAMES.get(node, node) in paper
    }
    columns, note = ["upper_bound", "norm", "printed_formula", "total"], NORM_NOTE
    if all(math.isnan(row[2]) for row in norms.values()):  # no convolution
        columns.remove("printed_formula")
        norms = {layer: [*row[:2], row[3]] for layer, row in norms.items()}
        note = note.replace(FORMULA_NOTE, "")
    return report.Table(
        name="table_5",
        title="Table 5: how much each layer can amplify a change",
        columns=tuple(columns),
        rows=norms,
        kinds=("number",) * len(columns),
        paper=paper_rows,
        paper_columns=("upper_bound",),
        paper_data="AlexNet on ImageNet",
        note=note,
    )


def _interval_table(intervals, config) -> report.Table:
    return report.Table(
        name="certified",
        title="What the bounds certify, and where attacks succeed",
        columns=("images", "lipschitz_bound", "certified", "certified_by_pairs", "av_distortion",
                 "median_ratio", "least_ratio"),
        rows=intervals,
        kinds=("count", "number", "distortion", "distortion", "distortion", "number", "number"),
        note="certified: mean over images that are classified right of margin / (sqrt(2) L), as a "
        "root mean square per pixel; by pairs: with the distance between the two classes' own "
        "weights in place of sqrt(2) times the top layer's norm, if that layer is dense; "
        f"av_distortion: of the attack on them, targets: {config.attack.targets}; ratios: attack "
        "over distance certified by pairs, image by image.",
    )  # fmt: skip
