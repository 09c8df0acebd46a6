"""Operator norms of linear layers: how much they can lengthen a vector (section 4.3).

Norms are of the linear part, between Euclidean spaces; biases cancel. All of it in float64 on the
host, but for `exact_norm`, which runs the layer itself.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
import scipy.sparse.linalg

from intriguing.errors import InputError
from intriguing.models.layers import Conv, Dense


def check_kernel(kernel) -> np.ndarray:
    """The weights in float64; InputError if there are none, or some are NaN or infinite.

    Comparisons with NaN are false: of a kernel that holds one, `max` would find the norm 0, and a
    bound of 0 would certify everything.
    """
    kernel = np.asarray(kernel, np.float64)
    if not kernel.size:
        raise InputError(f"weights of shape {kernel.shape} are empty: they have no norm")
    if not (finite := np.isfinite(kernel)).all():
        raise InputError(
            f"{kernel.size - finite.sum()} of {kernel.size} weights are NaN or infinite: "
            "they have no norm; train the network again, or fetch its weights again"
        )
    return kernel


def _scaled(kernel) -> tuple[np.ndarray, float]:
    """Checked weights over their largest magnitude, so that squares stay in range; and that."""
    kernel = check_kernel(kernel)
    scale = float(np.abs(kernel).max())
    return kernel / (scale or 1.0), scale


def matrix_norm(matrix) -> float:
    """Largest singular value of a matrix, from the eigenvalues of the smaller Gram matrix.

    Raises:
      InputError: weights that are empty, NaN or infinite.
    """
    matrix, scale = _scaled(matrix)
    gram = matrix.T @ matrix if matrix.shape[0] > matrix.shape[1] else matrix @ matrix.T
    square = scipy.linalg.eigvalsh(gram, subset_by_index=[len(gram) - 1] * 2)[0]
    return scale * math.sqrt(max(square, 0))


def frequency_norm(layer: Conv, kernel, input_shape: tuple[int, int, int]) -> float:
    """Upper bound of the norm of a convolution, from its Fourier transform (section 4.3).

    A convolution that pads with zeros is a circular one on a grid of n + window - 1, restricted to
    images and outputs inside it; so the norm of the circular one, which Parseval gives exactly, is
    a bound. With stride D the outputs' frequency xi mixes the D^2 aliases of the input: the norm is
    the supremum over xi of that of the matrix

        A(xi) = 1/D [ k(xi), k(xi + (N/D, 0)), ... ],   (features, c D^2)

    (the paper prints 1/D^2, which is too small by D).

    Args:
      layer: the convolution; `pad` below `window`.
      kernel: (window, window, c / groups, features).
      input_shape: (h, w, c).

    Raises:
      InputError: weights that are empty, NaN or infinite.
    """
    if layer.pad >= layer.window:
        raise ValueError(f"pad {layer.pad} must be below window {layer.window}")
    (kernel, scale), stride = _scaled(kernel), layer.stride
    if layer.window == stride == 1:  # the same matrix at every frequency
        return scale * max(
            matrix_norm(group[0, 0]) for group in np.split(kernel, layer.groups, axis=-1)
        )
    coarse = [-(-(n + layer.window - 1) // stride) for n in input_shape[:2]]
    most = 0.0
    for group in np.split(kernel, layer.groups, axis=-1):
        columns = np.fft.fft(group, coarse[0] * stride, axis=0)
        for i in range(coarse[0] // 2 + 1):  # frequencies f and -f have equal norms
            aliases = np.fft.fft(columns[i :: coarse[0]], coarse[1] * stride, axis=1)
            aliases = aliases.reshape(stride, stride, coarse[1], *group.shape[2:])
            matrices = aliases.transpose(2, 4, 0, 1, 3).reshape(coarse[1], group.shape[3], -1)
            if matrices.shape[1] > matrices.shape[2]:
                matrices = matrices.swapaxes(1, 2)
            gram = matrices @ matrices.conj().swapaxes(1, 2)
            most = max(most, np.linalg.eigvalsh(gram)[:, -1].max())
    return scale * math.sqrt(most) / stride


def exact_norm(
    layer: Conv | Dense, kernel, input_shape: tuple[int, ...], tol: float = 1e-6
) -> float:
    """The norm of the layer as it is, padding and all, by Lanczos iteration on its J^T J.

    Args:
      layer, kernel: as above, or a dense layer.
      input_shape: of one input.
      tol: relative accuracy of the iteration; rounding of float32 remains.

    Raises:
      InputError: weights that are empty, NaN or infinite.
    """
    if not check_kernel(kernel).any():
        return 0.0  # Lanczos has nowhere to go
    kernel = jnp.asarray(kernel)
    bias = jnp.zeros(kernel.shape[-1], kernel.dtype)

    def apply(x):
        return layer(x[None], kernel, bias)[0]

    @jax.jit
    def normal(x):
        y, vjp = jax.vjp(apply, x)
        return vjp(y)[0]

    size = math.prod(input_shape)
    if size == 1:  # Lanczos needs two dimensions
        return float(jnp.linalg.norm(apply(jnp.ones(input_shape, kernel.dtype)).ravel()))
    start = np.random.default_rng(0).normal(size=size)
    operator = scipy.sparse.linalg.LinearOperator(
        (size, size), dtype=np.float64,
        matvec=lambda x: np.asarray(
            normal(jnp.asarray(x.reshape(input_shape), kernel.dtype)), np.float64
        ).ravel(),
    )  # fmt: skip
    (_,), vector = scipy.sparse.linalg.eigsh(operator, k=1, tol=tol, v0=start)
    vector = jnp.asarray(vector.reshape(input_shape) / np.linalg.norm(vector), kernel.dtype)
    return float(jnp.linalg.norm(apply(vector).ravel()))
