"""Random keys whose draws do not depend on what else is drawn at the same time."""

import jax
import jax.numpy as jnp

IMPL = "threefry2x32"


def independent(key: jax.Array) -> jax.Array:
    """A threefry key made from any key: itself if it is one.

    Under `jax.vmap` the "rbg" generators (a usual setting on TPUs) draw all rows from the first
    row's key: what image i gets would depend on the batch that it is in. Threefry draws row by row.

    Args:
      key: one key, typed (`jax.random.key`) or of the old kind (`jax.random.PRNGKey`).
    """
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.wrap_key_data(key)
    data = jax.random.key_data(key)
    if data.shape == (2,):
        return jax.random.wrap_key_data(data, impl=IMPL)
    first, second = data.reshape(2, 2)  # rbg: the halves are alike in a fresh key
    return jax.random.fold_in(
        jax.random.fold_in(jax.random.wrap_key_data(first, impl=IMPL), second[0]), second[1]
    )
