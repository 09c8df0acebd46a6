"""Convolution and max pooling whose derivatives XLA computes quickly, on a CPU above all.

The values are XLA's. Its derivative of max pooling is a scatter that looks through each window
again, with four arrays of indices; that of a convolution with a stride spreads its input out with
zeros and multiplies these, too. Both are said here as sums over the `stride` by `stride` planes of
pixels that lie alike in their cells, so that their transposes are dense. They are linear in the
tangent: JAX derives every other derivative from them.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

Pads = tuple[tuple[int, int], tuple[int, int]]  # before and after, of height and width
LAYOUT = ("NHWC", "HWIO", "NHWC")


def _cells(x, size: tuple[int, int], stride: int, before: tuple[int, int]):
    """x (n, h, w, c) as (n, size[0], stride, size[1], stride, c), with zeros `before` it."""
    n, h, w, c = x.shape
    ends = [num * stride - side - pad for num, side, pad in zip(size, (h, w), before, strict=True)]
    pads = [(0, 0, 0), (before[0], ends[0], 0), (before[1], ends[1], 0), (0, 0, 0)]
    x = lax.pad(x, jnp.zeros((), x.dtype), pads)
    return x.reshape(n, size[0], stride, size[1], stride, c)


def _places(window: int):
    """(row, column) of each place in a window."""
    return itertools.product(range(window), repeat=2)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def max_pool(window: int, stride: int, pads: Pads, x: jax.Array) -> jax.Array:
    """Maximum over windows of x (n, h, w, c); the first of equals has the gradient."""
    return lax.reduce_window(
        x, -jnp.inf, lax.max, (1, window, window, 1), (1, stride, stride, 1),
        [(0, 0), *pads, (0, 0)],
    )  # fmt: skip


@max_pool.defjvp
def _max_pool_jvp(window: int, stride: int, pads: Pads, primals, tangents):
    (x,), (dx,) = primals, tangents
    padded = jnp.pad(x, [(0, 0), *pads, (0, 0)], constant_values=-jnp.inf)
    num = tuple((side - window) // stride + 1 for side in padded.shape[1:3])
    high, wide = ((count - 1) * stride + 1 for count in num)
    seen = [padded[:, i : i + high : stride, j : j + wide : stride, :] for i, j in _places(window)]
    y = functools.reduce(jnp.maximum, seen)
    dtype = np.min_scalar_type(len(seen))  # a byte, unless windows are very large
    first = jnp.full(y.shape, len(seen) - 1, dtype)
    for number in reversed(range(len(seen) - 1)):
        first = jnp.where(seen[number] == y, dtype.type(number), first)
    first = lax.optimization_barrier(first)  # XLA would find it anew for each place
    moved = _windows_of(dx, window, stride, num, pads)
    return y, sum(jnp.where(first == number, each, 0) for number, each in enumerate(moved))


def _windows_of(x, window: int, stride: int, num: tuple[int, int], pads: Pads):
    """For each place in a window what lies there in each of `num` windows: arrays (n, *num, c)."""
    more = -(-window // stride) - 1
    size = (num[0] + more, num[1] + more)
    cells = _cells(x, size, stride, (pads[0][0], pads[1][0]))
    # Split, whose transpose is one concatenation; that of indexing is a sum of padded arrays.
    planes = [
        [plane.reshape(len(x), *size, -1) for plane in lax.split(row, [1] * stride, 4)]
        for row in lax.split(cells, [1] * stride, 2)
    ]
    for i, j in _places(window):
        top, left = i // stride, j // stride
        yield planes[i % stride][j % stride][:, top : top + num[0], left : left + num[1], :]


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def convolve(stride: int, pad: int, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x (n, h, w, c) with kernel (window, window, c, features), without groups."""
    if kernel.shape[:2] == (1, 1) and stride == 1 and pad == 0:
        return x @ kernel[0, 0]
    return lax.conv_general_dilated(x, kernel, (stride,) * 2, ((pad, pad),) * 2,
                                    dimension_numbers=LAYOUT)  # fmt: skip


@functools.partial(convolve.defjvp, symbolic_zeros=True)
def _convolve_jvp(stride: int, pad: int, primals, tangents):
    (x, kernel), (dx, dkernel) = primals, tangents
    y, parts = convolve(stride, pad, x, kernel), []
    if not isinstance(dx, SymbolicZero):
        along = convolve if stride == 1 else _convolve_cells
        parts.append(along(stride, pad, dx, kernel))
    if not isinstance(dkernel, SymbolicZero):  # an attack leaves the weights as they are
        parts.append(convolve(stride, pad, x, dkernel))
    return y, sum(parts[1:], parts[0])


def _convolve_cells(stride: int, pad: int, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The same with the pixels of a cell as channels, for which the stride is 1."""
    num = tuple((side + 2 * pad - len(kernel)) // stride + 1 for side in x.shape[1:3])
    wide = -(-len(kernel) // stride)
    size = (num[0] + wide - 1, num[1] + wide - 1)
    x = _cells(x, size, stride, (pad, pad)).transpose(0, 1, 3, 2, 4, 5)
    kernel = jnp.pad(kernel, [(0, wide * stride - len(kernel))] * 2 + [(0, 0)] * 2)
    features = kernel.shape[-1]
    kernel = kernel.reshape(wide, stride, wide, stride, -1, features).transpose(0, 2, 1, 3, 4, 5)
    return convolve(1, 0, x.reshape(len(x), *size, -1), kernel.reshape(wide, wide, -1, features))
