"""Runs a `logits_fn` over many images, a batch at a time."""

import functools
import hashlib
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.sharding import Mesh
from jax.tree_util import Partial

from intriguing import compiling, processes, sharding
from intriguing.errors import InputError, first_line
from intriguing.progress import logger


class _Code:
    """What a callable computes, but for the arrays it closes over, which are arguments in front.

    Equal to any other with the same program: jit then compiles it once, whatever the arrays are.

    Fields: `fn`, the callable; `text` of its program; `callbacks`, functions of the host that it
    calls: what they compute is not in the program.
    """

    def __init__(self, fn, text: str, callbacks: tuple = ()):
        self._fn, self._program = fn, (text, callbacks)

    def __eq__(self, other) -> bool:
        return isinstance(other, _Code) and self._program == other._program

    def __hash__(self) -> int:
        return hash(self._program[0])

    def __call__(self, *args):
        *arrays, images = args
        traced, outputs = _trace(self._fn, images)
        if [*map(np.shape, traced.consts)] != [*map(np.shape, arrays)]:
            raise InputError(
                "logits_fn closes over arrays that depend on the number of images, or have changed "
                "shape: pass them in a jax.tree_util.Partial"
            )
        found = jaxpr_as_fun(ClosedJaxpr(traced.jaxpr, arrays))(*jax.tree.leaves(images))
        return jax.tree.unflatten(jax.tree.structure(outputs), found)


def _trace(fn, images):
    """(what the function computes now, shapes of its outputs); through a lambda of its own, for
    which there is no cache.
    """
    return jax.make_jaxpr(lambda images: fn(images), return_shape=True)(images)


def _is_setting(leaf) -> bool:
    """Whether a leaf of a Partial is no array but part of the program, as `train=False` is."""
    return isinstance(leaf, (bool, str))


def one_of(images):
    """Shapes and dtypes of one example of arrays (batch, ...), or of a pytree of them."""
    return jax.tree.map(lambda a: shape_of(a, (1, *a.shape[1:])), images)


def shape_of(array, shape: tuple[int, ...]):
    """Of this dtype, as JAX has it: float64 is float32 where JAX has not been told otherwise."""
    return jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(array.dtype))


def as_partial(logits_fn, images) -> Partial:
    """The model as it is now: a pytree that jitted functions take as an argument.

    The arrays of a `Partial` are inputs of what is compiled. So are those that any other callable
    closes over: they are read here, every time, since jit knows a callable by its identity, and
    would go on with the weights that it had when it was first called.

    Args:
      logits_fn: images -> logits.
      images: (batch, ...) or a pytree of them, of which only shapes and dtypes count.
    """
    if isinstance(logits_fn, Partial) and not any(map(_is_setting, jax.tree.leaves(logits_fn))):
        return logits_fn
    one = one_of(images)
    traced, _ = _trace(logits_fn, one)
    text, callbacks = _text_of(traced.jaxpr), list(_callbacks_of(traced.jaxpr))
    if ("custom_" in text or callbacks) and (gradient := _gradient_of(traced, one)) is not None:
        text += _text_of(gradient.jaxpr) + _hash_of(gradient.consts)
        callbacks += _callbacks_of(gradient.jaxpr)
    return Partial(_Code(logits_fn, text, tuple(callbacks)), *traced.consts)


def _text_of(jaxpr) -> str:
    """The program, without the addresses of functions that are made anew by each trace."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(jaxpr))


def _callbacks_of(jaxpr):
    """The host's functions that a program calls, of it and of all programs in it."""
    for equation in jaxpr.eqns:
        for name, value in equation.params.items():
            if "callback" in name:
                yield getattr(value, "callback_func", value)
            for part in value if isinstance(value, tuple | list) else (value,):
                part = getattr(part, "jaxpr", part)
                if hasattr(part, "eqns"):
                    yield from _callbacks_of(part)


def _gradient_of(traced: ClosedJaxpr, one) -> ClosedJaxpr | None:
    """The program of the gradient; its constants are what rules of gradients close over.

    Of a function with a rule of its own (`jax.custom_vjp`, `jax.custom_jvp`) the program names the
    rule, and does not hold it: two that differ in nothing else would be taken for the same.
    """

    def pull_back(consts, images, weights):
        forward = jaxpr_as_fun(ClosedJaxpr(traced.jaxpr, consts))
        return jax.vjp(lambda images: forward(*jax.tree.leaves(images)), images)[1](weights)

    consts = [jax.ShapeDtypeStruct(np.shape(array), array.dtype) for array in traced.consts]
    weights = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in traced.out_avals]
    try:
        return jax.make_jaxpr(pull_back)(consts, one, weights)
    except Exception:  # it has none: whoever asks for it will be told
        return None


def _hash_of(arrays) -> str:
    digest = hashlib.sha256()
    for array in map(np.asarray, arrays):
        digest.update(f"{array.shape} {array.dtype}".encode() + array.tobytes())
    return digest.hexdigest()


@functools.cache
def _on_one(options):
    return jax.jit(lambda logits_fn, images: logits_fn(images), compiler_options=dict(options))


@compiling.jit(static_argnames=("mesh",))
def _on_all(logits_fn, images, mesh):
    return sharding.map_devices(lambda logits_fn, images: logits_fn(images), mesh)(
        logits_fn, images
    )


BATCH_PIXELS = {"cpu": 2**20, "gpu": 2**25, "tpu": 2**25}  # that a forward pass gets at a time
NO_CLASS = -1  # of an image for which the network gives NaN or infinity


def choose_batch_size(images) -> int:
    """Images per forward pass: 8 to 512, so that large ones fit in memory."""
    budget = BATCH_PIXELS.get(jax.default_backend(), BATCH_PIXELS["gpu"])
    return int(np.clip(budget // max(math.prod(images.shape[1:]), 1), 8, 512))


def logits(logits_fn, images, batch_size: int | None = None) -> np.ndarray:
    """Logits (num, classes) of images (num, ...), `batch_size` at a time on each device.

    The devices are those of `sharding.using`, or one. Each gets batches of the same size, so that
    their number changes nothing.

    Raises:
      InputError: images that are no array, or that the network cannot take; no logits.
    """
    images = _array_of(images)
    logits_fn, num_classes = _model_of(logits_fn, images)
    batch_size, mesh = batch_size or choose_batch_size(images), sharding.current_mesh()
    if mesh is not None and sharding.num_shards(mesh) > 1 and len(images) > batch_size:
        batch_size *= sharding.num_shards(mesh)
        run = functools.partial(_on_all, sharding.place(logits_fn, mesh), mesh=mesh)
    else:
        run = functools.partial(_on_one(tuple(compiling.compiler_options().items())), logits_fn)
    parts = [np.zeros((0, num_classes), np.float32)]
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        padding = [(0, batch_size - len(batch)), *[(0, 0)] * (batch.ndim - 1)]
        padded = np.pad(batch, padding)  # one shape, one compilation, for any number of images
        parts.append(processes.fetch(run(padded))[: len(batch)])
    return np.concatenate(parts[min(1, len(parts) - 1) :])


def _array_of(images) -> np.ndarray:
    try:
        found = np.asarray(images)
        if found.ndim > 0 and found.dtype.kind not in "OUSMmc":
            return found
    except ValueError as error:
        raise InputError(f"images are no array: {first_line(error)}") from error
    raise InputError(f"images are {found.dtype} of shape {found.shape}: give numbers (num, ...)")


def _model_of(logits_fn, images: np.ndarray) -> tuple[Partial, int]:
    """(the network as a Partial, its number of classes)."""
    one = one_of(images)
    try:
        model = as_partial(logits_fn, one)
        outputs = jax.eval_shape(model, one)
    except Exception as error:  # whatever a model raises at a shape that it cannot take
        raise InputError(
            f"logits_fn cannot take images {one.shape}, or takes no other number of them: "
            f"{first_line(error)}"
        ) from error
    shape, dtype = getattr(outputs, "shape", ()), getattr(outputs, "dtype", None)
    if len(shape) != 2 or shape[0] != 1 or jnp.issubdtype(dtype, jnp.complexfloating):
        raise InputError(f"logits_fn must return logits (num, classes), not {outputs}")
    return model, shape[1]


def predict(logits_fn, images, batch_size: int | None = None) -> np.ndarray:
    """Predicted class of each image: (num, ...) -> (num,) int.

    `NO_CLASS`, which no label equals, where the network gives NaN or positive infinity; that is
    said in a warning. Raises InputError as `logits`.
    """
    return class_of(logits(logits_fn, images, batch_size))


def class_of(logits: np.ndarray) -> np.ndarray:
    """The class that each row (num, classes) answers, or `NO_CLASS`, with a warning."""
    broken = np.isnan(logits).any(axis=-1) | (logits == np.inf).any(axis=-1)
    if broken.any():
        logger.warning("%d of %d images: the network gives NaN or infinity, which is no class",
                       broken.sum(), len(logits))  # fmt: skip
    return np.where(broken, NO_CLASS, logits.argmax(axis=-1))


def is_class(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Whether each row (batch, classes) is finite and answers its label: NaN answers nothing."""
    return jnp.isfinite(logits).all(axis=-1) & (logits.argmax(axis=-1) == labels)


def has_slow_loops(logits_fn, images, mesh: Mesh) -> bool:
    """Whether the model is slow inside a compiled loop: XLA's convolutions are, on a CPU."""
    if mesh.devices.flat[0].platform != "cpu":
        return False
    return "conv_general_dilated" in _program(logits_fn, images)


KINKS = re.compile(
    r"= (max|min|abs|sign|clamp|select_n|floor|ceil|round|sort|top_k|argmax|argmin|cummax|cummin|"
    r"reduce_max|reduce_min|reduce_window\w*|pure_callback|custom_vjp_call)\b"
)


def is_smooth(logits_fn, images) -> bool:
    """Whether nothing in the model's program has a kink, as ReLU and max pooling have."""
    return KINKS.search(_program(logits_fn, images)) is None


def _program(logits_fn, images) -> str:
    one = one_of(images)
    model = as_partial(logits_fn, one)
    return str(jax.make_jaxpr(lambda model, images: model(images))(model, one))
