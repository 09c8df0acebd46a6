"""Refuses networks that cannot be attacked, each in one line."""

import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np

from intriguing import predict
from intriguing.attack.goals import Goal
from intriguing.attack.view import View, call
from intriguing.errors import InputError, first_line

ROW_TOLERANCE = 0.02  # of the largest output: bfloat16 networks round to 0.4%, over some layers


def check_model(logits_fn, images, view: View, goal: Goal):
    """(the network as a Partial, shape of its outputs) of one that takes these images."""
    shapes = jax.tree.map(lambda a: predict.shape_of(a, np.shape(a)), images)
    num, wide = jax.tree.leaves(shapes)[0].shape[0], "logits (batch, 2 classes or more)"
    try:
        model = predict.as_partial(logits_fn, shapes)
        outputs = jax.eval_shape(model, shapes)
    except Exception as error:  # whatever a model raises at a shape that it cannot take
        shape = " and ".join(str((num, *shape)) for shape in view.shapes)
        said = first_line(error)
        if re.search("must be Tensor|invalid combination of arguments", str(error)):
            said += ": it is PyTorch's: attack intriguing.torch.logits_fn(it)"
        raise InputError(f"logits_fn cannot take images {shape}: {said}") from error
    shape = getattr(outputs, "shape", None)
    if not shape or shape[0] != num:
        raise InputError(f"logits_fn must return {wide}, not {outputs}")
    if not jnp.issubdtype(outputs.dtype, jnp.floating):
        raise InputError(f"logits_fn returns {outputs.dtype}: outputs must be floats")
    if goal.needs_classes and shape[1:] == (1,):
        raise InputError(f"logits_fn must return {wide}: of one binary logit z return [0, z]")
    if goal.needs_classes and (len(shape) != 2 or shape[1] < 2):
        raise InputError(f"logits_fn must return {wide}, not {outputs}")
    return model, jax.ShapeDtypeStruct(shape, jnp.dtype(view.dtype))


def check_trace(compiled, *args, **kwargs) -> None:
    """Traces what will be run, as it will be. Raises InputError for a network that it fails on."""
    try:
        compiled.eval_shape(*args, **kwargs)
    except Exception as error:  # whatever a network raises where it is traced or differentiated
        raise InputError(f"logits_fn cannot be attacked: {first_line(error)}") from error


def check_rows(task) -> None:
    """Raises InputError if a row of an `inputs.Task`'s outputs depends on the others, or on chance.

    Such a network (batch statistics, dropout) says one thing where it is attacked and another where
    it is judged. One image is evaluated first beside its like, then second beside another.
    """
    images, lower, upper = (np.asarray(array[:1]) for array in task.problem[:3])
    low, high = (np.broadcast_to(bound, images.shape) for bound in (lower, upper))
    other = low + high - images
    other = np.where(np.isfinite(other), other, -images).astype(images.dtype)
    outputs = [
        np.asarray(_outputs(task.view, task.logits_fn, np.concatenate(rows)), np.float64)
        for rows in ((images, images), (other, images))
    ]
    alone, beside = outputs[0][0], outputs[1][1]
    if task.problem.goal.needs_classes and (alone >= 0).all() and abs(alone.sum() - 1) < 1e-3:
        warnings.warn("logits_fn seems to return probabilities: give logits", stacklevel=3)
    finite = np.isfinite(alone) & np.isfinite(beside)
    gap = np.abs(np.subtract(alone, beside, where=finite, out=np.zeros_like(alone)))
    size = np.abs(alone, where=finite, out=np.zeros_like(alone)).max(initial=0.0)
    if gap.max(initial=0.0) > ROW_TOLERANCE * max(size, 1e-30):
        raise InputError(
            "logits_fn gives an image other outputs beside other images: rows must not depend on "
            "one another or on chance (use train=False, running averages, no dropout)"
        )


@jax.jit
def _outputs(view, logits_fn, array):
    return call(view, logits_fn, None, array)
