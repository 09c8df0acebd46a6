"""Refuses arrays and options that an attack cannot work with, each in one line."""

import numbers
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from intriguing import sharding
from intriguing.attack import budget, feed, networks
from intriguing.attack.goals import NAMED, FromMargin, Goal
from intriguing.attack.problem import AttackOptions, Problem
from intriguing.attack.view import View, model_of, native, unit_of
from intriguing.errors import InputError, first_line


class Task(NamedTuple):
    """What is attacked, as the solver sees it.

    Fields: `view` of the user's arrays; `logits_fn`, the user's network, as a Partial; `unit`, what
    the solver's pixels count in, None for 1; `scale` of the norm, likewise; `problem`, in the
    user's units; `clean`, shape and dtype of the outputs.
    """

    view: View
    logits_fn: jax.tree_util.Partial
    unit: jax.Array | None
    scale: jax.Array | None
    problem: Problem
    clean: jax.ShapeDtypeStruct

    def seen(self) -> tuple:
        """What tells how the network is called: view, network, unit, scale."""
        return self[:4]

    def in_units(self) -> Problem:
        """The problem as the solver counts."""
        if self.unit is None:
            return self.problem
        images, lower, upper, labels, goal = self.problem
        arrays = ((a / self.unit).astype(a.dtype) for a in (images, lower, upper))
        return Problem(*arrays, labels, goal)

    def model(self):
        """The network as the solver calls it."""
        return model_of(self.view, self.logits_fn, self.unit)


def check_options(options: AttackOptions) -> None:
    """Raises InputError for an unknown solver or search, a tolerance or a count out of range."""
    for name, known in {"solver": feed.SOLVERS, "search": budget.SEARCHES}.items():
        value = getattr(options, name)
        if not isinstance(value, str) or value not in known:
            raise InputError(f'attack.{name} is "{value}": it must be one of {", ".join(known)}')
    for name, value in options.counts().items():
        least = budget.MIN_BUDGET if name == "budget" else 1
        if not _is_number(value, numbers.Integral) or value < least:
            raise InputError(f"attack.{name} is {value!r}: a whole number, at least {least}")
    for name in ("tol", "rtol", "max_norm"):
        value = getattr(options, name)
        if value is not None and not (_is_number(value, numbers.Real) and value > 0):
            raise InputError(f"attack.{name} is {value!r}: it must be a positive number")
    for name in ("refine", "squared_norm", "trace"):
        if not isinstance(value := getattr(options, name), bool | np.bool_):
            raise InputError(f"attack.{name} is {value!r}: it must be True or False")
    if options.utilisation is not None and not callable(options.utilisation):
        raise InputError(f"attack.utilisation is {options.utilisation!r}: it must be a function")
    asked, is_batched = f'attack.search is "{options.search}"', options.solver == "batched"
    if options.search == "explore" and not is_batched:
        raise InputError(f'{asked}: it has no other solver than "batched"')
    if options.search == "explore" and not options.refine:
        raise InputError(f"{asked}: refine=False, the paper's protocol, is a search on c")
    if options.trace and not is_batched:
        raise InputError('attack.trace: only the solver "batched" keeps one')


def _is_number(value, kind) -> bool:
    """Whether it is of a kind of numbers; True is none."""
    return isinstance(value, kind) and not isinstance(value, bool)


def check_task(logits_fn, images, labels, goal, bounds, scale) -> Task:
    """The task, of numpy arrays. Raises InputError for what is none."""
    goal, images = _check_goal(goal), native(images)
    view, array = _check_images(images)
    logits_fn, clean = networks.check_model(logits_fn, images, view, goal)
    labels = _check_labels("target_labels" if goal is NAMED["targeted"] else "labels",
                           labels, len(array), clean, goal)  # fmt: skip
    if isinstance(goal, FromMargin):
        goal = _check_margin(goal, clean, labels)
    scale = _check_scale(scale, view, array)
    lower, upper, unit = _check_bounds(view, array, bounds, scale)
    unit, scale = (
        None if a is None else jnp.asarray(a if np.ndim(a) == 0 else a[None], array.dtype)
        for a in (unit, scale)
    )
    return Task(view, logits_fn, unit, scale, Problem(array, lower, upper, labels, goal), clean)


def check_labelled(logits_fn, images, labels):
    """(images, labels int32). Raises InputError for what is none, or has no such classes."""
    view, array = _check_images(images := native(images))
    _, clean = networks.check_model(logits_fn, images, view, NAMED["targeted"])
    labels = _check_labels("labels", labels, len(array), clean, NAMED["targeted"])
    return view.unpack(array), labels


def check_mesh(mesh: Mesh | None) -> Mesh:
    """The mesh, or one of one device. Raises InputError for one that is not `make_mesh`'s."""
    mesh = sharding.make_mesh(1) if mesh is None else mesh
    if not isinstance(mesh, Mesh):
        raise InputError(f"mesh is {type(mesh).__name__}: pass one of sharding.make_mesh()")
    sharding.check_independent(mesh)
    return mesh


def _check_goal(goal) -> Goal:
    if isinstance(goal, str) and goal in NAMED:
        return NAMED[goal]
    if isinstance(goal, Goal):
        return goal
    names = ", ".join(f'"{name}"' for name in NAMED)
    raise InputError(f"goal is {goal!r}: it must be {names}, or attack.from_margin(...)")


def _check_images(images) -> tuple[View, np.ndarray]:
    """(the view of the images, the solver's array of them)."""
    if isinstance(images, list):
        try:
            images = np.asarray(images)
        except ValueError as error:
            raise InputError(f"images are no array: {first_line(error)}") from error
    leaves = jax.tree.leaves(images)
    if not leaves:
        raise InputError("images hold no array")
    for leaf in leaves:
        dtype, shape = np.asarray(leaf).dtype, np.shape(leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            raise InputError(f"images have dtype {dtype}: give floats inside the bounds")
        is_row = len(shape) < (2 if len(leaves) == 1 else 1)
        if is_row or not shape[0] or shape[0] != np.shape(leaves[0])[0]:
            raise InputError(f"images have shape {shape}: (batch, ...), at least one, is needed")
    view = View.of(jax.tree.map(np.asarray, images))
    return view, view.pack(images)


def _check_labels(name: str, labels, num_images: int, outputs, goal: Goal):
    """int32 classes; or what the goal takes, one row per image; zeros if it takes none."""
    if isinstance(goal, FromMargin):
        labels = np.zeros(num_images, np.int32) if labels is None else np.asarray(labels)
        if labels.shape[:1] != (num_images,):
            raise InputError(f"labels have shape {labels.shape}: one row per image is needed")
        return labels.astype(jax.dtypes.canonicalize_dtype(labels.dtype))
    if labels is None:
        raise InputError(f"{name} are missing: one class per image is needed")
    labels, num_classes = np.asarray(labels), outputs.shape[1]
    if labels.shape != (num_images,):
        wanted = f"one per image, ({num_images},)"
        raise InputError(f"{name} have shape {labels.shape}: {wanted}, is needed")
    if not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"{name} have dtype {labels.dtype}: give integers")
    least, most = labels.min(), labels.max()
    if least < 0 or most >= num_classes:
        raise InputError(f"{name} span {least} to {most}: the classes are 0 to {num_classes - 1}")
    return labels.astype(np.int32)


def _check_margin(goal: FromMargin, clean, labels) -> FromMargin:
    """The goal, with a margin function that is read as it is now."""
    outputs = jax.ShapeDtypeStruct((1, *clean.shape[1:]), clean.dtype)
    row = jax.ShapeDtypeStruct((1, *labels.shape[1:]), labels.dtype)
    try:
        goal = goal.as_now(outputs, row)
        margin = jax.eval_shape(lambda goal, *args: goal.read(*args).margin, goal, outputs, row)
    except Exception as error:  # whatever the user's function raises
        raise InputError(f"the goal's margin function fails: {first_line(error)}") from error
    if margin.shape != (1,):
        raise InputError(f"the goal's margins have shape {margin.shape} for 1 image: (batch,)")
    return goal


def _check_scale(scale, view: View, array: np.ndarray):
    """None, or an array of the solver's layout for one example."""
    if scale is None:
        return None
    try:
        if view.is_array:
            scale = np.broadcast_to(np.asarray(scale, np.float64), array.shape[1:])
        else:
            parts = jax.tree.map(np.broadcast_to, scale, _rows(view))
            scale = np.concatenate([np.ravel(part) for part in jax.tree.leaves(parts)])
    except (TypeError, ValueError) as error:
        raise InputError(f"scale must broadcast to one image: {first_line(error)}") from error
    if not (np.isfinite(scale) & (scale > 0)).all():
        raise InputError("scale must be positive: to hold a feature, let its bounds meet")
    return scale


def _rows(view: View):
    """The shapes of one example, in the user's structure."""
    return jax.tree.unflatten(view.structure, view.shapes)


def _check_bounds(view: View, array, bounds, scale):
    """(lower, upper, unit): bounds (batch, ...), or (batch, 1, ...) if they are two numbers."""
    try:
        lower, upper = bounds
        scalars = np.ndim(lower) == np.ndim(upper) == 0 and scale is None
        if not view.is_array:
            lower, upper = (_pack_bound(view, bound, len(array)) for bound in bounds)
        else:
            lower, upper = (np.asarray(view.unpack(np.asarray(b))) for b in (lower, upper))
        given = (lower, upper)
        lower, upper = (np.broadcast_to(np.asarray(b, array.dtype), array.shape) for b in given)
    except (TypeError, ValueError) as error:
        wanted = "(lower, upper), scalars or arrays that broadcast to images"
        raise InputError(f"bounds must be {wanted} {array.shape}: {first_line(error)}") from error
    if not (lower <= upper).all():
        raise InputError("bounds: lower exceeds upper (or one is NaN) somewhere")
    inside = (array >= lower) & (array <= upper)  # False for NaN too
    if not inside.all():
        first = int(np.argmin(inside.reshape(len(array), -1).all(axis=-1)))
        excess = np.maximum(lower[first] - array[first], array[first] - upper[first]).max()
        mend = "clip it" if excess < 1e-3 else "scale it, or pass other bounds"
        where = f"by {excess:.2g} (it spans {array[first].min():.9g} to {array[first].max():.9g})"
        raise InputError(f"image {first} has pixels outside the bounds or NaN, {where}: {mend}")
    if scalars:
        one = (slice(None), *[slice(1)] * (array.ndim - 1))
        lower, upper = lower[one], upper[one]
    return lower, upper, unit_of(given, scale)


def _pack_bound(view: View, bound, num: int) -> np.ndarray:
    """One bound for each array of a pytree, or one number for all, as the solver's array."""
    if np.ndim(bound) == 0 and not isinstance(bound, (dict, list, tuple)):
        bound = jax.tree.unflatten(view.structure, [bound] * len(view.shapes))
    leaves = jax.tree.leaves(bound)
    if jax.tree.structure(bound) != view.structure:
        raise ValueError("they are not of the images' structure")
    full = [
        np.broadcast_to(np.asarray(leaf, dtype).astype(view.dtype), (num, *shape))
        for leaf, shape, dtype in zip(leaves, view.shapes, map(jnp.dtype, view.dtypes), strict=True)
    ]
    return np.concatenate([part.reshape(num, -1) for part in full], axis=1)
