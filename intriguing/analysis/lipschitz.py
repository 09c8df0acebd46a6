"""How much a network can amplify a change (section 4.3): sound bounds, and a penalty on them.

|phi(x) - phi(x + r)| <= L |r|, L the product of the layers' constants; no class can change within
margin / (sqrt(2) L) of an image.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from intriguing.analysis.operator_norms import check_kernel, frequency_norm, matrix_norm
from intriguing.errors import InputError
from intriguing.models.layer_graph import Node
from intriguing.models.layers import (
    Add,
    Conv,
    Dense,
    Layer,
    LocalResponseNorm,
    MaxPool,
    MeanPool,
    Normalise,
    Sigmoid,
)

if TYPE_CHECKING:
    from jax.typing import ArrayLike
    from jaxtyping import Float, Int

NUM_ITERS = 20  # of the power iterations of the penalty


class Bound(NamedTuple):
    """Of one node: `constant`, of the layer itself; `total`, from the images to its output."""

    constant: float
    total: float


def lipschitz_bounds(
    nodes: Sequence[Node], params, image_shape: tuple[int, ...]
) -> dict[str, Bound]:
    """Upper bounds of the Lipschitz constants of every node of a network.

    Args:
      nodes: of a `LayerGraph`.
      params: {layer: {"kernel", "bias"}}.
      image_shape: of one image.

    Returns:
      {node: Bound}; that of the last node is for the logits.

    Raises:
      InputError: a layer's weights are empty, NaN or infinite.
    """
    for name in (node.name for node in nodes if node.name in params):
        for what, weights in params[name].items():
            try:
                check_kernel(weights)
            except InputError as error:
                raise InputError(f"{name}/{what}: {error}") from None
    shapes, found = output_shapes(nodes, params, image_shape), {"images": Bound(1.0, 1.0)}
    for name, layer, inputs in nodes:
        below = [found[each].total for each in inputs]
        kernel = params[name]["kernel"] if name in params else None
        constant = layer_constant(layer, kernel, shapes[inputs[0]], len(inputs))
        # Several inputs: |(f(x), g(x))|^2 = |f|^2 + |g|^2, and |f(x) + g(x)| <= |f| + |g|.
        joint = sum(below) if isinstance(layer, Add) else constant * math.hypot(*below)
        found[name] = Bound(constant, joint)
    return found


def lipschitz_bound(
    layers: Any, params: Mapping | None = None, *, image_shape: tuple[int, ...]
) -> float:
    """An upper bound of a network's Lipschitz constant, from images to logits (the paper's 4.3).

    Args:
      layers: a `LayerGraph`; or any chain of our layers, bottom to top, as pairs (layer, kernel),
        kernel None where it has none: [(Dense(100), w1), (Sigmoid(), None), (Dense(10), w2)].
      params: of a `LayerGraph`, {layer: {"kernel", "bias"}}.
      image_shape: of one image.

    Raises:
      InputError: weights that are empty, NaN or infinite; a chain of something else.
    """
    if params is None:
        layers, params = _chain(layers)
    nodes = getattr(layers, "nodes", layers)
    return lipschitz_bounds(nodes, params, image_shape)[nodes[-1].name].total


def operator_norm(
    layer: Layer, kernel: Float[ArrayLike, " *window inputs features"], input_shape: tuple[int, ...]
) -> float:
    """An upper bound of a layer's operator norm (the paper's equations 3 and 4): `layer_constant`.

    Args:
      layer: one of `models.layers`.
      kernel: its weights in our layout, (inputs, features) or (y, x, inputs, features).
      input_shape: of one input.

    Raises:
      InputError: weights that are empty, NaN or infinite.
    """
    return layer_constant(layer, check_kernel(kernel), input_shape)


def _chain(pairs) -> tuple[list[Node], dict]:
    """(nodes, parameters) of a chain of (layer, kernel)."""
    nodes, params = [], {}
    try:
        for number, (layer, kernel) in enumerate(pairs, start=1):
            below = nodes[-1].name if nodes else "images"
            nodes.append(Node(f"layer{number}", layer, (below,)))
            if kernel is not None:
                kernel = np.asarray(kernel)
                params[nodes[-1].name] = {"kernel": kernel, "bias": np.zeros(kernel.shape[-1])}
    except (TypeError, ValueError) as error:
        raise InputError(
            "lipschitz_bound: give a LayerGraph and its params, or a chain of pairs (layer, kernel)"
            " with layers of intriguing.models.layers"
        ) from error
    if not nodes or not all(isinstance(node.layer, Layer) for node in nodes):
        raise InputError("lipschitz_bound: the chain holds what is no layer of models.layers")
    return nodes, params


def layer_constant(layer, kernel, input_shape: tuple[int, ...], num_inputs: int = 1) -> float:
    """Upper bound of a layer's Lipschitz constant: the change of its output over that of its input,
    of all `num_inputs` of them taken together.

    Convolutions: `frequency_norm`. Overlapping max pooling counts an input in up to
    ceil(window / stride)^2 windows (the paper passes over this).
    """
    match layer:
        case Dense():
            return matrix_norm(kernel)
        case Conv():
            return frequency_norm(layer, kernel, input_shape)
        case MaxPool():
            return float(-(-layer.window // layer.stride))
        case MeanPool():
            return 1 / math.sqrt(math.prod(input_shape[:2]))
        case LocalResponseNorm():
            return _response_norm_constant(layer)
        case Sigmoid():
            return 0.25
        case Normalise():
            return layer.scale / min(layer.std)
        case Add():
            return math.sqrt(num_inputs)
        case _:  # ReLU, Concat, PadShortcut, dropout (which is the identity outside training)
            return 1.0


def _response_norm_constant(layer: LocalResponseNorm) -> float:
    """Bound for y_i = x_i d_i^-b, d_i = k + a sum_{j in W(i)} x_j^2.

    Its Jacobian is diag(d^-b) - M, M_ij = 2 a b x_i x_j d_i^(-b-1) for j in W(i). The first part
    has norm k^-b at most. Row i of M has length 2 b d^(-b-1) sqrt(a) |x_i| sqrt(d - k), at most
    2 b (d - k) d^(-b-1), which is largest at d = k (b + 1) / b: 2 b k^-b b^b / (b + 1)^(b + 1).
    A column meets `size` rows, so that |M| is at most sqrt(size) times that.
    """
    beta = layer.beta
    row = 2 * beta * beta**beta / (beta + 1) ** (beta + 1)
    return layer.k**-beta * (1 + row * math.sqrt(layer.size))


def output_shapes(nodes, params, image_shape) -> dict[str, tuple[int, ...]]:
    """Shape of every node's output for one image of `image_shape`; see `lipschitz_bounds`."""

    def forward(params, images):
        outputs = {"images": images}
        for name, layer, inputs in nodes:
            arguments = [outputs[each] for each in inputs]
            if name in params:
                arguments += [params[name]["kernel"], params[name]["bias"]]
            outputs[name] = layer(*arguments)
        return outputs

    one = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    return {name: x.shape[1:] for name, x in jax.eval_shape(forward, params, one).items()}


def difference_bounds(
    nodes: Sequence[Node], params, bounds: dict[str, Bound], num_classes: int
) -> np.ndarray:
    """Lipschitz bounds of the difference of every two logits: (classes, classes), its diagonal 0.

    With a dense layer on top, columns w of its kernel: |w_i - w_j| times the bound of its input.
    That is never more than sqrt(2) L, which bounds them for any other layer on top.

    Args:
      nodes, params: as in `lipschitz_bounds`.
      bounds: what it returned.
      num_classes: logits.
    """
    name, layer, inputs = nodes[-1]
    if not isinstance(layer, Dense):
        return math.sqrt(2) * bounds[name].total * (1 - np.eye(num_classes))
    kernel = check_kernel(params[name]["kernel"])
    # Not from inner products: what cancels between like columns would make it too small.
    distances = [np.linalg.norm(kernel - column[:, None], axis=0) for column in kernel.T]
    return bounds[inputs[0]].total * np.stack(distances)


def certified_radius(
    logits: Float[ArrayLike, " batch classes"],
    labels: Int[ArrayLike, " batch"],
    bound: float | Float[np.ndarray, " classes classes"],
) -> Float[np.ndarray, " batch"]:
    """Euclidean distance within which no image can lose its class: (batch,), 0 where it has none.

    What is not finite certifies nothing: logits of an image, a bound, or the radius itself (of a
    network whose weights are all 0, say, to which every image is alike).

    Two logits change by at most `sqrt(2) L |r|` against each other, so that their difference, the
    margin, is gone at margin / (sqrt(2) L) at the earliest.

    Args:
      logits: (batch, classes).
      labels: (batch,) int.
      bound: L, from the images to the logits; or (classes, classes), `difference_bounds`.
    """
    logits, rows = np.array(logits, np.float64), np.arange(len(logits))
    usable = np.isfinite(logits).all(axis=1)
    logits = np.where(usable[:, None], logits, 0.0)
    margins = np.maximum(logits[rows, labels][:, None] - logits, 0)
    bound = np.where(np.isfinite(bound), bound, np.inf)
    slopes = math.sqrt(2) * bound if np.ndim(bound) == 0 else bound[labels]
    # Logits that move as one keep their order for ever.
    never = np.where(margins > 0, np.inf, 0.0)
    slopes = np.broadcast_to(slopes, margins.shape)
    radii = np.divide(margins, slopes, out=never, where=slopes > 0)
    radii[rows, labels] = np.inf  # no other class
    radius = radii.min(axis=1)
    return np.where(usable & np.isfinite(radius), radius, 0.0)


def dense_norm(kernel: jax.Array, num_iters: int = NUM_ITERS) -> jax.Array:
    """Largest singular value of a matrix (inputs, units), by power iteration from a fixed start.

    Differentiable: the gradient is that of `u^T kernel v` at the singular vectors found, which is
    the gradient of the norm once they have converged. A lower bound of the norm before that: use
    it for training, and an SVD where a bound must be sound.
    """
    fixed = jax.lax.stop_gradient(kernel)
    start = jax.random.normal(jax.random.key(0), kernel.shape[1:], kernel.dtype)
    v = jax.lax.fori_loop(0, num_iters, lambda _, v: _normalise(fixed.T @ (fixed @ v)), start)
    return _normalise(fixed @ v) @ kernel @ v


def conv_norm(
    layer: Conv, kernel: jax.Array, input_shape: tuple[int, ...], num_iters: int = NUM_ITERS
) -> jax.Array:
    """The norm of a convolution of images (h, w, c), padding and all, as `dense_norm` finds it.

    The iteration runs the layer itself, so that any stride, padding and groups are as they are.
    """
    bias = jnp.zeros(kernel.shape[-1:], kernel.dtype)

    def apply(kernel, x):
        return layer(x[None], kernel, bias)[0]

    fixed = functools.partial(apply, jax.lax.stop_gradient(kernel))
    v = jax.random.normal(jax.random.key(0), input_shape, kernel.dtype)
    transpose = jax.linear_transpose(fixed, v)
    for _ in range(num_iters):  # unrolled: on a CPU, XLA has no fast convolutions in a loop
        v = _normalise(transpose(fixed(v))[0])
    return jnp.vdot(_normalise(fixed(v)), apply(kernel, v))


def _normalise(v: jax.Array) -> jax.Array:
    return v / jnp.maximum(jnp.linalg.norm(v), jnp.finfo(v.dtype).tiny)


def lipschitz_penalty(
    nodes: Sequence[Node], params: dict, image_shape: tuple[int, ...]
) -> jax.Array:
    """Sum over dense and convolutional layers of their squared operator norms: a scalar.

    The paper's section 4.3 ends by suggesting to penalise each layer's upper Lipschitz bound in
    training. Arguments as in `lipschitz_bounds`.
    """
    shapes, total = output_shapes(nodes, params, image_shape), jnp.zeros(())
    for name, layer, (below, *_) in nodes:
        match layer:
            case Dense():
                total += dense_norm(params[name]["kernel"]) ** 2
            case Conv():
                total += conv_norm(layer, params[name]["kernel"], shapes[below]) ** 2
    return total
