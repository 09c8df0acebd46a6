"""Figure 6: cars that QuocNet recognises, and no longer does; and the reverse."""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from intriguing import data, metrics, models, report, runs
from intriguing.errors import InputError
from intriguing.experiments import build, tables
from intriguing.experiments.outcome import Outcome
from intriguing.models import quocnet
from intriguing.predict import choose_batch_size, predict
from intriguing.progress import Progress, logger
from intriguing.report import charts, figures
from intriguing.training import logistic, rica

VIEWS = 1004  # purpose of a key, beside those of `build`
NAME = "QuocNet"  # the one network of such a config
NUM_FILTERS = 160  # shown at most; sparsity leaves many others unused


class Scored(NamedTuple):
    """A classifier on some features: how many there are, and its errors."""

    num_features: int
    train_error: float
    test_error: float


def quocnet_attack(config, workdir: Path, mesh) -> Outcome:
    """Learns filters without labels, a classifier on top of them, and attacks both classes."""
    if tuple(config.model_names) != (NAME,):
        raise InputError(f"model_names is {', '.join(config.model_names)}: it must be {NAME} alone")
    spec, (train_set, test_set) = config.models[NAME], build.load_data(config)
    test_set = data.take(test_set, slice(config.num_evaluated or None))
    model = build.quocnet_model(spec, len(train_set.class_names))
    num_views, max_shift = config.classifier.num_views, config.classifier.max_shift
    views = make_views(train_set, num_views, max_shift, build.key_for(config, VIEWS))
    with build.timed(workdir, "learning filters"):
        filters = build.quocnet_filters(config, NAME, model, views, workdir, mesh)
    with build.timed(workdir, "classifiers"):
        classifier, scored = _classify(config, _features_fn(model, filters), views, test_set, NAME)
        scores = {f"{NAME}, trained" if spec.weights != "random" else f"{NAME}, random": scored}
        if config.baselines:
            scores.update(_baselines(config, model, filters, views, test_set, mesh))
    logits_fn = models.logits_fn(model, {"params": {**filters, "classifier": classifier}})
    attacks = _attack(config, logits_fn, test_set, workdir, mesh)
    with build.timed(workdir, "tables and figures"):
        found = [accuracy_table(scores, train_set), attack_table(attacks, test_set.class_names)]
        shown = [_figure6(config, attacks, test_set, workdir)]
        shown += _learning_figures(config, filters, train_set, workdir)
    return Outcome(found, shown, check_claims(*found))


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
            parts.append(np.asarray(features_fn(padded))[: len(batch)].reshape(len(batch), -1))
            progress.update(start + len(batch))
    return np.concatenate(parts)


def _classify(config, features_fn, views, test_set, name: str) -> tuple[dict, Scored]:
    """A classifier on features of the views of the training images, and its errors."""
    features, test_features = (_features(features_fn, each.images, name)
                               for each in (views, test_set))  # fmt: skip
    classifier = logistic.fit(
        features, views.labels, len(views.class_names), weight_decay=config.classifier.weight_decay
    )

    def error(features, labels) -> float:
        answers = (features @ classifier["kernel"] + classifier["bias"]).argmax(axis=1)
        return metrics.error_rate(answers, labels)

    num = len(views.labels) // config.classifier.num_views  # the images as they are come first
    train_error = error(features[:num], views.labels[:num])
    test_error = error(test_features, test_set.labels)
    return classifier, Scored(features.shape[1], train_error, test_error)


def _baselines(config, model, filters, views, test_set, mesh) -> dict[str, Scored]:
    # As long as the learned ones: the floors of the contrast are made for their responses.
    fresh = rica.init(model, views.images.shape[1:], jax.random.key(config.seed), mesh)
    fresh = jax.tree.map(
        lambda old, new: new * jnp.linalg.norm(old) / jnp.linalg.norm(new), filters, fresh
    )
    scores = {}
    for name, features_fn in {
        f"{NAME}, random filters": _features_fn(model, fresh),
        "16x16 pixels": small_pixels,
    }.items():
        scores[name] = _classify(config, features_fn, views, test_set, name)[1]
    return scores


def _attack(config, logits_fn, test_set, workdir: Path, mesh) -> dict[str, tuple]:
    """Attacks images of each class that are recognised: {class name: (images, arrays)}."""
    with build.timed(workdir, "classifying"):
        right = predict(logits_fn, test_set.images) == test_set.labels
    attacks = {}
    for label, name in enumerate(test_set.class_names):
        chosen = data.take(test_set, np.flatnonzero(right & (test_set.labels == label)))
        wanted = config.attack.num_images  # 0: all of them
        if len(chosen.images) < wanted:
            logger.warning("%s: %d images are recognised, fewer than attack.num_images (%d)",
                           name, len(chosen.images), wanted)  # fmt: skip
        if not len(chosen.images):
            continue
        (arrays,) = build.attack_all(config, {name: logits_fn}, chosen, workdir, mesh).values()
        attacks[name] = data.take(chosen, slice(wanted or None)), arrays[name]
    if not attacks:
        raise InputError(f"{NAME} has none of the {len(right)} test images right")
    return attacks


def accuracy_table(scores: dict[str, Scored], train_set) -> report.Table:
    """What each kind of features is worth."""
    return report.Table(
        name="accuracy",
        title="Logistic regression on frozen features",
        columns=("features", "train_error", "test_error"),
        rows={name: list(scored) for name, scored in scores.items()},
        kinds=("count", "percent", "percent"),
        note=f"Trained on {len(train_set.labels):,} labelled images.",
    )


def attack_table(attacks, class_names) -> report.Table:
    """Success and distortion per class of the original."""
    rows = {}
    for name, (chosen, arrays) in attacks.items():
        others = " or ".join(other for other in class_names if other != name)
        rows[f"{name} to {others}"] = [
            len(chosen.images), float(arrays["success"].mean()), tables.mean_distortion(arrays),
            float(arrays["num_evals"].mean()),
        ]  # fmt: skip
    return report.Table(
        name="figure6",
        title="Figure 6: images that the network no longer recognises",
        columns=("images", "success", "av_distortion", "evaluations"),
        rows=rows,
        kinds=("count", "percent", "distortion", "number"),
        note="The paper shows examples and gives no number.",
    )


def check_claims(accuracy: report.Table, attacked: report.Table) -> list[report.Claim]:
    """What figure 6 shows, and what learning without labels is worth."""
    column = attacked.columns.index("success")
    claims = [
        report.Claim(f"Every image can be turned: {row}.", f"{values[column]:.1%}",
                     values[column] == 1)
        for row, values in attacked.rows.items()
    ]  # fmt: skip
    errors = {name: row[accuracy.columns.index("test_error")]
              for name, row in accuracy.rows.items()}  # fmt: skip
    ours, *others = errors
    if others:
        claims.append(report.Claim(
            "Features learned without labels beat pixels and random filters.",
            "; ".join(f"{name} {1 - error:.1%} right" for name, error in errors.items()),
            errors[ours] < min(errors[other] for other in others),
        ))  # fmt: skip
    return claims


def _figure6(config, attacks, test_set, workdir: Path):
    groups = []
    for name, (chosen, arrays) in attacks.items():
        rows = np.flatnonzero(arrays["success"])[: config.num_shown]
        images, adv = chosen.images[rows], arrays["adv_images"][rows]
        answers = [test_set.class_names[label] for label in arrays["target_labels"][rows]]
        difference = np.abs(adv - images)
        factors = 1 / difference.max(axis=(1, 2, 3), keepdims=True)
        groups.append(figures.ImageGroup("", [
            figures.ImageRow("original", images, [name] * len(rows)),
            figures.ImageRow("adversarial", adv, answers),
            figures.ImageRow("absolute\ndifference", difference * factors,
                             [f"times {factor:.0f}" for factor in factors.ravel()]),
        ]))  # fmt: skip
    path = workdir / "figures" / "figure6.png"
    figures.image_grid(path, groups, f"Figure 6: {NAME}")
    return path, (
        "Figure 6: images that are recognised, adversarial ones that are not (what the network "
        "calls them beneath each), and the absolute difference, magnified until its largest is 1."
    )


def _learning_figures(config, filters, train_set, workdir: Path) -> list:
    """First-stage filters at some positions; the cost of each stage as it learned."""
    kernel, spec = np.asarray(filters["stage1"]["kernel"]), config.models[NAME]
    middles = (np.arange(1, 5) * len(kernel)) // 5  # a grid of positions away from the edges
    weights = kernel[np.ix_(middles, middles)].reshape(-1, kernel.shape[-1])
    longest = np.argsort(-np.linalg.norm(weights, axis=1), kind="stable")[:NUM_FILTERS]
    path = workdir / "figures" / "filters.png"
    shape = (spec.field[0], spec.field[0], train_set.images.shape[-1])
    figures.filters(path, weights[longest].T, shape, f"{NAME}: filters of the first stage")
    shown = [(path, f"The {len(longest)} longest of the filters that the first stage has at 16 "
              "positions, each scaled on its own; zero is grey.")]  # fmt: skip
    learned = {}
    for line in runs.read_metrics(workdir / "metrics.jsonl"):
        for key, value in line.items():
            if key.startswith(f"train/{NAME}/"):
                learned.setdefault(key.rpartition("/")[2], {})[line["step"]] = value
    if learned:
        steps = sorted(next(iter(learned.values())))
        lines = [charts.Line(name, [found[step] / found[steps[0]] for step in steps])
                 for name, found in learned.items()]  # fmt: skip
        path = workdir / "figures" / "learning.png"
        charts.curves(path, steps, {"": lines}, "Learning without labels", "step",
                      "cost, of that at the start")  # fmt: skip
        shown.append((path, "Cost of reconstruction and sparsity per stage, as it was trained."))
    return shown
