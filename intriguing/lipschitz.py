"""How much a layer can amplify a change (section 4.3): operator norms, and a penalty on them."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def dense_norm(kernel: jax.Array, num_iters: int = 20) -> jax.Array:
    """Largest singular value of a matrix (inputs, units), by power iteration from a fixed start.

    Differentiable: the gradient is that of `u^T kernel v` at the singular vectors found, which is
    the gradient of the norm once they have converged. A lower bound of the norm before that: use
    it for training, and an SVD where a bound must be sound.
    """

    def normalise(v):
        return v / jnp.maximum(jnp.linalg.norm(v), jnp.finfo(v.dtype).tiny)

    fixed = jax.lax.stop_gradient(kernel)
    start = jax.random.normal(jax.random.key(0), kernel.shape[1:], kernel.dtype)
    v = jax.lax.fori_loop(0, num_iters, lambda _, v: normalise(fixed.T @ (fixed @ v)), start)
    return normalise(fixed @ v) @ kernel @ v


def lipschitz_penalty(params: dict, layers: Sequence[str]) -> jax.Array:
    """Sum over dense layers of their squared operator norms: a scalar.

    The paper's section 4.3 ends by suggesting to penalise each layer's upper Lipschitz bound in
    training.
    """
    norms = [dense_norm(params[layer]["kernel"]) for layer in layers]
    return sum((norm**2 for norm in norms), jnp.zeros(()))
