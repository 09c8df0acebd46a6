"""How an attack sees a network: arrays in the solver's dtype and units, whatever the user's are.

The solver works on one array per example, in float32 (float64 if the images are), and in units in
which the box is about 1 wide, so that neither the user's unit nor bfloat16 images matter to it.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@jax.tree_util.register_static
@dataclass(frozen=True)
class View:
    """The user's arrays: their structure, shapes of one example, and dtypes.

    Fields: `structure` of the pytree; `shapes`, `dtypes` (names) of its arrays; `dtype` of the
    solver.
    """

    structure: Any
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]
    dtype: str

    @classmethod
    def of(cls, images) -> "View":
        """The view of arrays (batch, ...), a pytree of them or one."""
        leaves, structure = jax.tree.flatten(images)
        dtypes = tuple(str(jnp.dtype(leaf.dtype)) for leaf in leaves)
        is_double = jax.config.jax_enable_x64 and "float64" in dtypes
        shapes = tuple(tuple(leaf.shape[1:]) for leaf in leaves)
        return cls(structure, shapes, dtypes, "float64" if is_double else "float32")

    @property
    def is_array(self) -> bool:
        """Whether an example is one array, whose shape the solver's arrays then keep."""
        return jax.tree_util.treedef_is_leaf(self.structure)

    def pack(self, images) -> np.ndarray:
        """The solver's array (batch, ...) of the user's arrays; flat (batch, n) if several."""
        leaves = [np.asarray(leaf).astype(self.dtype) for leaf in jax.tree.leaves(images)]
        if self.is_array:
            return leaves[0]
        return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)

    def unpack(self, array):
        """The inverse, on device arrays or numpy's: the user's structure and dtypes."""
        on_host = isinstance(array, np.ndarray)
        # float64 is float32 on a device where JAX has not been told to have it.
        dtypes = map(jnp.dtype if on_host else jax.dtypes.canonicalize_dtype, self.dtypes)
        if self.is_array:
            return array.astype(next(dtypes))
        ends = np.cumsum([int(np.prod(shape)) for shape in self.shapes])[:-1].tolist()
        split = np.split if on_host else jnp.split
        parts = split(array, ends, axis=1)
        leaves = [
            part.reshape(len(part), *shape).astype(dtype)
            for part, shape, dtype in zip(parts, self.shapes, dtypes, strict=True)
        ]
        return jax.tree.unflatten(self.structure, leaves)

    def rounded(self, array):
        """`array` as the user's dtypes can hold it."""
        leaves = jax.tree.leaves(self.unpack(array))
        flat = [leaf.reshape(len(array), -1).astype(array.dtype) for leaf in leaves]
        return jnp.concatenate(flat, axis=1).reshape(array.shape)


def native(images):
    """The same arrays; those whose bytes are in the other order (FITS has them so) are turned."""

    def turned(leaf):
        if isinstance(leaf, np.ndarray) and not leaf.dtype.isnative:
            return leaf.astype(leaf.dtype.newbyteorder("="))
        return leaf

    return jax.tree.map(turned, images)


def call(view: View, logits_fn, unit, z):
    """Outputs of the user's network for solver's arrays z, in the solver's dtype."""
    x = z if unit is None else z * unit
    return logits_fn(view.unpack(x)).astype(z.dtype)


def model_of(view: View, logits_fn, unit) -> jax.tree_util.Partial:
    """The network as the solver calls it: z -> outputs at the user's `z * unit`."""
    return jax.tree_util.Partial(call, view, logits_fn, unit)


def unit_of(bounds, scale):
    """What the solver counts in: `scale` times a power of two near the width of the box.

    A power of two changes no digit of a pixel. None for 1; no width, no change.

    Args:
      bounds: (lower, upper) as the user gave them, arrays in the solver's layout or scalars.
      scale: None, or an array that broadcasts to one example.
    """
    lower, upper = bounds
    width = np.asarray(upper, np.float64) - np.asarray(lower, np.float64)
    width = width if scale is None else width / scale
    widths = width[np.isfinite(width) & (width > 0)]
    power = 2.0 ** np.round(np.log2(widths.max())) if widths.size else 1.0
    if scale is None:
        return None if power == 1 else np.float64(power)
    return np.asarray(scale, np.float64) * power


def solver_norm(norm: float, unit, scale) -> float:
    """A norm of the user's, |r / scale|, as the solver counts, which has |r / unit|."""
    unit, scale = (1.0 if each is None else np.asarray(each) for each in (unit, scale))
    return norm / float(np.ravel(unit / scale)[0])


def users_norm(norm, unit, scale):
    """The inverse of `solver_norm`, traceable."""
    unit, scale = (jnp.ones(1) if each is None else jnp.asarray(each) for each in (unit, scale))
    return norm * (jnp.ravel(unit)[0] / jnp.ravel(scale)[0])
