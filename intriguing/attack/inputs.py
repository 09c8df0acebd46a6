"""Refuses arrays and options that an attack cannot work with, each in one line."""

import jax
import numpy as np

from intriguing.attack import feed
from intriguing.attack.problem import AttackOptions, Problem
from intriguing.errors import InputError, first_line


def check_options(options: AttackOptions) -> None:
    """Raises InputError for an unknown solver, a tolerance or a count out of range."""
    if options.solver not in feed.SOLVERS:
        raise InputError(
            f'attack.solver is "{options.solver}": it must be one of {", ".join(feed.SOLVERS)}'
        )
    num_lanes = 1 if options.num_lanes is None else options.num_lanes
    for name, value in {**options.counts(), "num_lanes": num_lanes}.items():
        if value < 1:
            raise InputError(f"attack.{name} is {value}: it must be at least 1")
    for name, value in {"tol": options.tol, "rtol": options.rtol}.items():
        if not value > 0:
            raise InputError(f"attack.{name} is {value}: it must be positive")


def check_arrays(logits_fn, images, target_labels, bounds) -> Problem:
    """The problem, of numpy arrays. Raises InputError for what is none."""
    images = _check_images(images)
    lower, upper = _check_bounds(images, bounds)
    num_classes = _check_model(logits_fn, images)
    target_labels = _check_labels("target_labels", target_labels, len(images), num_classes)
    return Problem(images, lower, upper, target_labels)


def check_labelled(logits_fn, images, labels) -> tuple[np.ndarray, np.ndarray]:
    """(images, labels int32). Raises InputError for what is none, or has no such classes."""
    images = _check_images(images)
    num_classes = _check_model(logits_fn, images)
    return images, _check_labels("labels", labels, len(images), num_classes)


def _check_images(images) -> np.ndarray:
    images = np.asarray(images)
    if not np.issubdtype(images.dtype, np.floating):
        raise InputError(f"images have dtype {images.dtype}: give floats inside the bounds")
    if images.ndim < 2 or not len(images):
        raise InputError(f"images have shape {images.shape}: (batch, ...), at least one, is needed")
    return images.astype(jax.dtypes.canonicalize_dtype(images.dtype))  # float64 only under x64


def _check_labels(name: str, labels, num_images: int, num_classes: int) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.shape != (num_images,):
        wanted = f"one per image, ({num_images},)"
        raise InputError(f"{name} have shape {labels.shape}: {wanted}, is needed")
    if not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"{name} have dtype {labels.dtype}: give integers")
    least, most = labels.min(), labels.max()
    if least < 0 or most >= num_classes:
        raise InputError(f"{name} span {least} to {most}: the classes are 0 to {num_classes - 1}")
    return labels.astype(np.int32)


def _check_bounds(images, bounds):
    try:
        scalars = all(np.ndim(bound) == 0 for bound in bounds)
        lower, upper = (np.broadcast_to(np.asarray(b, images.dtype), images.shape) for b in bounds)
    except (TypeError, ValueError) as error:
        wanted = f"(lower, upper), scalars or arrays that broadcast to images {images.shape}"
        raise InputError(f"bounds must be {wanted}: {error}") from error
    if not (lower <= upper).all():
        raise InputError("bounds: lower exceeds upper (or one is NaN) somewhere")
    inside = (images >= lower) & (images <= upper)  # False for NaN too
    if not inside.all():
        first = int(np.argmin(inside.reshape(len(images), -1).all(axis=-1)))
        span = f"{images[first].min():g} to {images[first].max():g}"
        raise InputError(
            f"image {first} has pixels outside the bounds or NaN (it spans {span}): scale it or "
            "pass other bounds"
        )
    if scalars:
        one = (slice(None), *[slice(1)] * (images.ndim - 1))
        lower, upper = lower[one], upper[one]
    return lower, upper


def _check_model(logits_fn, images) -> int:
    """Number of classes of a model that takes these images."""
    try:
        logits = jax.eval_shape(logits_fn, jax.ShapeDtypeStruct(images.shape, images.dtype))
    except Exception as error:  # whatever a model raises at a shape that it cannot take
        reason = first_line(error)
        raise InputError(f"logits_fn cannot take images {images.shape}: {reason}") from error
    if getattr(logits, "ndim", 0) != 2 or logits.shape[0] != len(images) or logits.shape[1] < 2:
        raise InputError(f"logits_fn must return logits (batch, 2 classes or more), not {logits}")
    return logits.shape[1]
