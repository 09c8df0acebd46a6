"""Table 5: operator norms of every layer, and what they certify about each image."""

import math
from pathlib import Path

import jax
import numpy as np

from intriguing import metrics, report
from intriguing.analysis import lipschitz, operator_norms
from intriguing.data import Dataset
from intriguing.experiments import attacks as _attacks
from intriguing.experiments import build
from intriguing.experiments.outcome import Outcome
from intriguing.experiments.phases import timed
from intriguing.models.layers import Conv, Dense
from intriguing.predict import class_of, logits
from intriguing.progress import Progress, logger
from intriguing.report import Column, Measurement, charts

FORMULA_NOTE = "paper's formula: the bound with the paper's factor D^-2; "
NORM_NOTE = (
    "upper bound: sound, of convolutions by the frequency method; norm: of the layer itself, zero"
    f" padding and all; {FORMULA_NOTE}total: of the network up to there, in units of pixels in"
    " [0, 1]. Layers that never amplify (ReLU, concatenation) are left out; overlapping 3x3/2 max"
    " pooling counts as 2."
)
PRINTED = "printed_formula"
NORMS = ("upper_bound", "norm", PRINTED, "total")
PAPER_NAMES = {"fc6": "fc1", "fc7": "fc2", "fc8": "fc3"}  # of AlexNet's layers in table 5


def spectral_analysis(settings, workdir: Path, mesh) -> Outcome:
    """Bounds every network, and compares them with attacks."""
    source = build.open_images(settings)
    names = settings.model_names
    with timed(workdir, "models"):
        trained = build.any_model(settings, names, workdir, mesh)
    for net in trained.values():
        source = build.match(source, net)
    images, _ = source.read(range(1))
    records, spans = [], {}
    for name, net in trained.items():
        nodes, params = net.model.nodes, jax.device_get(net.params)
        with timed(workdir, f"bounds of {name}"):
            bounds = lipschitz.lipschitz_bounds(nodes, params, images.shape[1:])
            records += measure_norms(name, nodes, params, bounds, images.shape[1:])
        with timed(workdir, f"attacks on {name}"):
            found, spans[name] = measure_interval(
                settings, name, net, bounds, source, workdir, mesh
            )
            records += found
    path = workdir / "figures" / "intervals.png"
    charts.intervals(path, spans, "Each image: certified distance (left), attack (right)")
    caption = (
        "Per image, the certified distance and that of the attack; left of it no class changes."
    )
    shown = [norm_table(records, trained, settings), interval_table(records, settings),
             *_attacks.endings_tables(records, names)]  # fmt: skip
    return Outcome(records, shown, [report.Picture(path, caption)], check_claims(records, names))


def measure_norms(name: str, nodes, params, bounds, image_shape) -> list[Measurement]:
    """Per layer: upper bound, exact norm (of linear layers), the paper's formula, total so far."""
    shapes = lipschitz.output_shapes(nodes, params, image_shape)
    records = []
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
                row = (bound.constant, exact, printed, bound.total)
                records += [Measurement(metric, float(number), name, layer=node)
                            for metric, number in zip(NORMS, row, strict=True)]  # fmt: skip
            progress.update(done)
    return records


def measure_interval(settings, name: str, net: build.Trained, bounds, source, workdir, mesh):
    """The certified distance of images and that of an attack: records, and what is drawn."""
    logits_fn, nodes = net.logits_fn, net.model.nodes
    num_images = min(settings.attack.num_images or len(source.labels), len(source.labels))
    images, readable = source.read(range(num_images))
    labels = source.labels[: len(images)]
    values = logits(logits_fn, images)
    right = readable & (class_of(values) == labels)
    total, num_classes = bounds[nodes[-1].name].total, values.shape[1]

    def of(metric: str, number: float) -> Measurement:
        return Measurement(metric, float(number), name, settings.protocol, num=int(right.sum()))

    records = [of("images", right.sum()), of("lipschitz_bound", total)]
    if not right.any():
        logger.warning("%s has none of the first %d images right", name, len(images))
        return [*records, of("least_ratio", math.nan)], (np.zeros(0), np.zeros(0))
    images, labels, values = images[right], labels[right], values[right]
    dataset = Dataset(images, labels, source.class_names)
    arrays = _attacks.attack_images(
        settings, logits_fn, dataset, name, workdir, mesh, settings.protocol
    )
    pairs = lipschitz.difference_bounds(nodes, jax.device_get(net.params), bounds, num_classes)
    radius = lipschitz.certified_radius(values, labels, pairs)
    plain = lipschitz.certified_radius(values, labels, total)
    success, scale = arrays["success"], math.sqrt(images[0].size)
    norms, radii = arrays["l2_norm"][success].astype(float), radius[success]
    ratios = np.divide(norms, radii, out=np.full(len(radii), np.inf), where=radii > 0)
    records += [
        of("certified", metrics.mean(plain) / scale),
        of("certified_by_pairs", metrics.mean(radius) / scale),
        of("median_ratio", np.median(ratios) if len(ratios) else math.nan),
        of("least_ratio", ratios.min() if len(ratios) else math.nan),
        *_attacks.measure(name, settings.protocol, arrays),
    ]
    return records, (radius[success] / scale, arrays["distortion"][success])


def check_claims(records, names) -> list[report.Claim]:
    """That the bounds bound."""
    claims = []
    for name in names:
        least = report.value(records, metric="least_ratio", model=name)
        num = sum(each.num for each in report.select(records, metric="distortion", model=name))
        claims.append(report.Claim(
            f"{name}: no attack ends inside the certified distance.",
            f"the least of {num} ratios of distance to radius is {least:.3g}",
            None if math.isnan(least) else least >= 1,
        ))  # fmt: skip
    bounds, norms = (report.select(records, metric=metric) for metric in NORMS[:2])
    ratios = [bound.value / norm.value for bound, norm in zip(bounds, norms, strict=True)
              if norm.value > 0]  # fmt: skip
    worst = min(ratios, default=math.inf)
    claims.append(report.Claim(
        "Every layer's exact norm is at or below its bound.",
        f"the least ratio of bound to norm is {worst:.6f}",
        worst >= 1 - 1e-4 if ratios else None,
    ))  # fmt: skip
    return claims


def norm_table(records, trained, settings) -> report.Table:
    """Table 5: each layer's bound, norm, and the bound of all up to it."""
    paper, layers = report.paper_table("table5")["rows"], report.select(records, metric=NORMS[0])
    paper_rows = {
        f"{name}: {node}": paper[PAPER_NAMES.get(node, node)]
        for name, net in trained.items()
        if getattr(settings.models[name], "architecture", "") == "alexnet"
        for node, *_ in net.model.nodes
        if PAPER_NAMES.get(node, node) in paper
    }
    columns, note = list(NORMS), NORM_NOTE
    if all(math.isnan(each.value) for each in report.select(records, metric=PRINTED)):
        columns.remove(PRINTED)  # no convolution
        note = note.replace(FORMULA_NOTE, "")
    return report.view(
        records,
        {f"{each.model}: {each.layer}": {"model": each.model, "layer": each.layer}
         for each in layers},
        [Column(metric, "number", {"metric": metric}) for metric in columns],
        name="table_5",
        title="Table 5: how much each layer can amplify a change",
        paper=paper_rows,
        paper_columns=("upper_bound",),
        paper_data="AlexNet on ImageNet",
        note=note,
    )  # fmt: skip


def interval_table(records, settings) -> report.Table:
    """What the bounds certify about images, and what an attack needs."""
    kinds = {"images": "count", "lipschitz_bound": "number", "certified": "distortion",
             "certified_by_pairs": "distortion", "distortion": "distortion",
             "median_ratio": "number", "least_ratio": "number"}  # fmt: skip
    return report.view(
        records,
        {name: {"model": name, "protocol": settings.protocol} for name in settings.model_names},
        [Column({"distortion": "av_distortion"}.get(metric, metric), kind, {"metric": metric})
         for metric, kind in kinds.items()],
        name="certified",
        title="What the bounds certify, and where attacks succeed",
        note="certified: mean over images that are classified right of margin / (sqrt(2) L), as a "
        "root mean square per pixel; by pairs: with the distance between the two classes' own "
        "weights in place of sqrt(2) times the top layer's norm, if that layer is dense; "
        f"av. distortion: of the attack on them, targets: {settings.attack.targets}; ratios: "
        "attack over distance certified by pairs, image by image.",
    )  # fmt: skip
