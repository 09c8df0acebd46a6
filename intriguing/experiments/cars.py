"""Figure 6: cars that QuocNet recognises, and no longer does; and the reverse."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from intriguing import data, metrics, models, processes, report, runs
from intriguing.errors import InputError
from intriguing.experiments import attacks as _attacks
from intriguing.experiments import build
from intriguing.experiments.outcome import Outcome
from intriguing.experiments.phases import VIEWS, key_for, timed
from intriguing.models import quocnet
from intriguing.predict import choose_batch_size, class_of, predict
from intriguing.progress import Progress, logger
from intriguing.report import Column, Measurement, charts, figures
from intriguing.training import logistic, rica

NUM_FILTERS = 160  # shown at most; sparsity leaves many others unused


def quocnet_attack(settings, workdir: Path, mesh) -> Outcome:
    """Learns filters without labels, a classifier on top of them, and attacks both classes."""
    (name,) = settings.model_names
    spec, (train_set, test_set) = settings.models[name], build.load_data(settings)
    test_set = data.take(test_set, slice(settings.num_evaluated or None))
    model = build.quocnet_model(spec, len(train_set.class_names))
    num_views, max_shift = settings.classifier.num_views, settings.classifier.max_shift
    views = make_views(train_set, num_views, max_shift, key_for(settings, VIEWS))
    with timed(workdir, "learning filters"):
        filters = build.quocnet_filters(settings, name, model, views, workdir, mesh)
    with timed(workdir, "classifiers"):
        trained = f"{name}, {'random' if spec.weights == 'random' else 'trained'}"
        features_fn = _features_fn(model, filters)
        classifier, records = _classify(settings, features_fn, views, test_set, trained)
        for other, features_fn in _baselines(settings, model, filters, views, mesh).items():
            records += _classify(settings, features_fn, views, test_set, other)[1]
    logits_fn = models.logits_fn(model, {"params": {**filters, "classifier": classifier}})
    attacks = _attack(settings, logits_fn, test_set, workdir, mesh)
    for label, (_, arrays) in attacks.items():
        row = turned(label, test_set.class_names)
        records.append(Measurement("images", len(arrays["success"]), row, settings.protocol))
        records += _attacks.measure(row, settings.protocol, arrays)
    with timed(workdir, "tables and figures"):
        rows = [turned(label, test_set.class_names) for label in attacks]
        found = [accuracy_table(records, train_set), attack_table(records, rows),
                 *_attacks.endings_tables(records, rows)]  # fmt: skip
        shown = _figure6(settings, attacks, test_set, workdir)
        shown += _learning_figures(settings, filters, train_set, workdir)
    return Outcome(records, found, shown, check_claims(records, rows))


def turned(name: str, class_names) -> str:
    """What is done to the images of a class."""
    return f"{name} to {' or '.join(other for other in class_names if other != name)}"


def make_views(dataset: data.Dataset, num_views: int, max_shift: int, key) -> data.Dataset:
    """Each image `num_views` times: as it is first, then mirrored every other time and moved.

    Moves are by up to `max_shift` pixels each way; the edges are repeated.
    """
    images, num = dataset.images, len(dataset.images)
    height, width = images.shape[1:3]
    padded = np.pad(images, [(0, 0), *[(max_shift, max_shift)] * 2, (0, 0)], mode="edge")
    views = [images]
    for view in range(1, num_views):
        offsets = jax.random.randint(jax.random.fold_in(key, view), (num, 2), 0, 2 * max_shift + 1)
        moved = np.stack([image[top : top + height, left : left + width]
                          for image, (top, left) in zip(padded, np.asarray(offsets), strict=True)
                          ])  # fmt: skip
        views.append(moved[:, :, ::-1] if view % 2 else moved)
    labels = np.tile(dataset.labels, num_views)
    return dataset._replace(images=np.concatenate(views), labels=labels)


def _features_fn(model, filters):
    run = jax.jit(lambda params, x: quocnet.run_stages(model, params, x, len(model.stages)))
    return lambda images: run(filters, images)


def small_pixels(images: np.ndarray, size: int = 16) -> np.ndarray:
    """Means of blocks: (num, size, size, channels); the baseline's features."""
    num, height, width, channels = images.shape
    blocks = images.reshape(num, size, height // size, size, width // size, channels)
    return blocks.mean(axis=(2, 4))


def _features(features_fn, images, name: str) -> np.ndarray:
    """Features (num, size), a batch at a time."""
    parts, batch_size = [], choose_batch_size(images)
    with Progress(len(images), f"features of {name}") as progress:
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            padded = np.pad(batch, [(0, batch_size - len(batch)), *[(0, 0)] * 3])
            parts.append(processes.fetch(features_fn(padded))[: len(batch)].reshape(len(batch), -1))
            progress.update(start + len(batch))
    return np.concatenate(parts)


def _classify(settings, features_fn, views, test_set, name: str) -> tuple[dict, list[Measurement]]:
    """A classifier on features of the views of the training images, and its errors."""
    features, test_features = (_features(features_fn, each.images, name)
                               for each in (views, test_set))  # fmt: skip
    classifier = logistic.fit(
        features,
        views.labels,
        len(views.class_names),
        weight_decay=settings.classifier.weight_decay,
    )

    def error(features, labels) -> float:
        answers = class_of(np.asarray(features @ classifier["kernel"] + classifier["bias"]))
        return metrics.error_rate(answers, labels)

    num = len(views.labels) // settings.classifier.num_views  # the images as they are come first
    train_error = error(features[:num], views.labels[:num])
    test_error = error(test_features, test_set.labels)
    records = [
        Measurement("features", features.shape[1], name),
        Measurement("error", train_error, name, on="train", num=num),
        Measurement("error", test_error, name, on="test", num=len(test_set.labels)),
    ]
    return classifier, records


def _baselines(settings, model, filters, views, mesh) -> dict:
    """Features that nothing was learned for, by name: functions of images."""
    if not settings.baselines:
        return {}
    # As long as the learned ones: the floors of the contrast are made for their responses.
    fresh = rica.init(model, views.images.shape[1:], jax.random.key(settings.seed), mesh)
    fresh = jax.tree.map(
        lambda old, new: new * jnp.linalg.norm(old) / jnp.linalg.norm(new), filters, fresh
    )
    (name,) = settings.model_names
    return {f"{name}, random filters": _features_fn(model, fresh), "16x16 pixels": small_pixels}


def _attack(settings, logits_fn, test_set, workdir: Path, mesh) -> dict[str, tuple]:
    """Attacks images of each class that are recognised: {class name: (images, arrays)}."""
    with timed(workdir, "classifying"):
        right = predict(logits_fn, test_set.images) == test_set.labels
    attacks = {}
    for label, name in enumerate(test_set.class_names):
        chosen = data.take(test_set, np.flatnonzero(right & (test_set.labels == label)))
        wanted = settings.attack.num_images  # 0: all of them
        if len(chosen.images) < wanted:
            logger.warning("%s: %d images are recognised, fewer than attack.num_images (%d)",
                           name, len(chosen.images), wanted)  # fmt: skip
        if not len(chosen.images):
            continue
        (arrays,) = _attacks.attack_all(settings, {name: logits_fn}, chosen, workdir, mesh).values()
        attacks[name] = data.take(chosen, slice(wanted or None)), arrays[name]
    if not attacks:
        raise InputError(
            f"{settings.model_names[0]} has none of the {len(right)} test images right"
        )
    return attacks


def accuracy_table(records, train_set) -> report.Table:
    """What each kind of features is worth."""
    errors = [Column(f"{on}_error", "percent", {"metric": "error", "on": on})
              for on in ("train", "test")]  # fmt: skip
    return report.view(
        records,
        {each.model: {"model": each.model} for each in report.select(records, metric="features")},
        [Column("features", "count", {"metric": "features"}), *errors],
        name="accuracy",
        title="Logistic regression on frozen features",
        note=f"Trained on {len(train_set.labels):,} labelled images.",
    )


def attack_table(records, rows) -> report.Table:
    """Success and distortion per class of the original."""
    names = {"images": ("images", "count"), "success": ("success", "percent"),
             "distortion": ("av_distortion", "distortion"),
             "evaluations": ("evaluations", "number")}  # fmt: skip
    return report.view(
        records,
        {row: {"model": row} for row in rows},
        [Column(name, kind, {"metric": metric}) for metric, (name, kind) in names.items()],
        name="figure6",
        title="Figure 6: images that the network no longer recognises",
        note="The paper shows examples and gives no number.",
    )


def check_claims(records, rows) -> list[report.Claim]:
    """What figure 6 shows, and what learning without labels is worth."""
    claims = []
    for row in rows:
        success = report.value(records, metric="success", model=row)
        claim = f"Every image can be turned: {row}."
        claims.append(report.Claim(claim, f"{success:.1%}", success == 1))
    tested = report.select(records, metric="error", on="test")
    ours, *others = tested
    if others:
        claims.append(report.Claim(
            "Features learned without labels beat pixels and random filters.",
            "; ".join(f"{each.model} {1 - each.value:.1%} right" for each in tested),
            ours.value < min(each.value for each in others),
        ))  # fmt: skip
    return claims


def _figure6(settings, attacks, test_set, workdir: Path) -> list[report.Picture]:
    groups, tiles = [], []
    for name, (chosen, arrays) in attacks.items():
        rows = np.flatnonzero(arrays["success"])[: settings.num_shown]
        if not len(rows):
            continue
        images, adv = chosen.images[rows], arrays["adv_images"][rows]
        answers = [test_set.class_names[label] for label in arrays["target_labels"][rows]]
        tiles += report.compare(images, adv, [name] * len(rows), answers)
        difference = np.abs(adv - images)
        largest = difference.max(axis=(1, 2, 3), keepdims=True)
        factors = 1 / np.where(largest > 0, largest, 1)
        groups.append(figures.ImageGroup("", [
            figures.ImageRow("original", images, [name] * len(rows)),
            figures.ImageRow("adversarial", adv, answers),
            figures.ImageRow("absolute\ndifference", difference * factors,
                             [f"times {factor:.0f}" for factor in factors.ravel()]),
        ]))  # fmt: skip
    if not groups:
        return []
    path = workdir / "figures" / "figure6.png"
    figures.image_grid(path, groups, f"Figure 6: {settings.model_names[0]}")
    caption = (
        "Figure 6: images that are recognised, adversarial ones that are not (what the network "
        "calls them beneath each), and the absolute difference, magnified until its largest is 1."
    )
    return [report.Picture(path, caption, tiles)]


def _learning_figures(settings, filters, train_set, workdir: Path) -> list:
    """First-stage filters at some positions; the cost of each stage as it learned."""
    (name,) = settings.model_names
    kernel, spec = np.asarray(filters["stage1"]["kernel"]), settings.models[name]
    middles = (np.arange(1, 5) * len(kernel)) // 5  # a grid of positions away from the edges
    weights = kernel[np.ix_(middles, middles)].reshape(-1, kernel.shape[-1])
    longest = np.argsort(-np.linalg.norm(weights, axis=1), kind="stable")[:NUM_FILTERS]
    path = workdir / "figures" / "filters.png"
    shape = (spec.field[0], spec.field[0], train_set.images.shape[-1])
    figures.filters(path, weights[longest].T, shape, f"{name}: filters of the first stage")
    shown = [report.Picture(path, f"The {len(longest)} longest of the filters that the first stage "
             "has at 16 positions, each scaled on its own; zero is grey.")]  # fmt: skip
    learned = {}
    for line in runs.read_metrics(workdir / "metrics.jsonl"):
        for key, value in line.items():
            if key.startswith(f"train/{name}/"):
                learned.setdefault(key.rpartition("/")[2], {})[line["step"]] = value
    if learned:
        steps = sorted(next(iter(learned.values())))
        lines = [charts.Line(stage, [found[step] / found[steps[0]] for step in steps])
                 for stage, found in learned.items()]  # fmt: skip
        path = workdir / "figures" / "learning.png"
        charts.curves(path, steps, {"": lines}, "Learning without labels", "step",
                      "cost, of that at the start")  # fmt: skip
        caption = "Cost of reconstruction and sparsity per stage, as it was trained."
        shown.append(report.Picture(path, caption))
    return shown
