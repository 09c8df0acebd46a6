"""Products at full precision, whatever the process's default: TF32 and bfloat16, the defaults on
GPUs and TPUs, are coarser than a minimal perturbation.
"""

import functools

import jax
import jax.numpy as jnp

PRECISION = jax.lax.Precision.HIGHEST
dot = functools.partial(jnp.dot, precision=PRECISION)
matmul = functools.partial(jnp.matmul, precision=PRECISION)
einsum = functools.partial(jnp.einsum, precision=PRECISION)
