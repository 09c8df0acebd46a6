"""Box-constrained L-BFGS: minimise a smooth function of an array subject to lower <= x <= upper.

The only module that imports jaxopt; it knows nothing of images.
"""

import enum
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jaxopt

INTERIOR = 1e-4  # where jaxopt starts: this fraction of the box away from its faces

MAX_LINE_SEARCH = 8  # evaluations per line search; near the optimum float32 cannot satisfy it


class Status(enum.IntEnum):
    """Why a solve ended."""

    CONVERGED = 0  # error <= tol
    MAXITER = 1  # out of iterations
    NON_FINITE = 2  # value or gradient became NaN or infinite; the best point before it is returned
    STALLED = 3  # the last step did not lower the value by more than rounding


class Solution(NamedTuple):
    """Result of `minimize_box`.

    Fields:
      x: the best point seen, inside the box.
      value: the function there.
      error: max norm of the projected gradient step there, |clip(x - grad) - x|.
      num_iters: iterations done.
      num_evals: evaluations of the value and gradient.
      status: a `Status`, as int32.
    """

    x: jax.Array
    value: jax.Array
    error: jax.Array
    num_iters: jax.Array
    num_evals: jax.Array
    status: jax.Array


def projected_gradient_norm(x, grad, lower, upper) -> jax.Array:
    """|clip(x - grad, lower, upper) - x|, max norm: 0 exactly at a stationary point in the box."""
    return jnp.max(jnp.abs(jnp.clip(x - grad, lower, upper) - x), initial=0.0)


def move_inside(x, lower, upper):
    """Moves x away from finite bounds by a small fraction of the box.

    jaxopt's LBFGSB fails silently when it starts with many variables exactly on their bounds.
    """
    width = upper - lower
    margin = INTERIOR * jnp.where(jnp.isfinite(width), width, 1.0)
    return jnp.clip(x, lower + margin, upper - margin)


def minimize_box(
    value_and_grad_fn: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
    x0: jax.Array,
    lower: jax.Array | float,
    upper: jax.Array | float,
    *,
    maxiter: int = 100,
    tol: float = 1e-3,
    history_size: int = 10,
) -> Solution:
    """Minimises one function with jaxopt's LBFGSB (Byrd, Lu, Nocedal, Zhu 1995); vmap for many.

    Hardened: starts inside the box, keeps the best finite point seen, stops at the first non-finite
    value or gradient, and clips the result to the box.

    Args:
      value_and_grad_fn: x -> (scalar, array like x).
      x0: start, any shape, a floating dtype; moved inside the box.
      lower, upper: the box, scalars or arrays that broadcast to x0; may be infinite.
      maxiter: iterations at most.
      tol: ends when the projected gradient (see `Solution.error`) is at most this.
      history_size: pairs that L-BFGS remembers.

    Returns:
      A `Solution`.
    """
    lower, upper = (jnp.broadcast_to(jnp.asarray(b, x0.dtype), x0.shape) for b in (lower, upper))
    solver = jaxopt.LBFGSB(
        value_and_grad_fn, value_and_grad=True, maxiter=maxiter, tol=tol, history_size=history_size,
        maxls=MAX_LINE_SEARCH, implicit_diff=False, unroll=False,
    )  # fmt: skip
    x0 = move_inside(jnp.clip(x0, lower, upper), lower, upper)
    start = solver.init_state(x0, (lower, upper))

    def improve(best: Solution, x, state) -> Solution:
        finite = jnp.isfinite(state.value) & jnp.all(jnp.isfinite(state.grad))
        x = jnp.clip(x, lower, upper)
        error = projected_gradient_norm(x, state.grad, lower, upper)
        better = finite & (state.value < best.value)
        rounding = 4 * jnp.finfo(x0.dtype).eps * jnp.abs(best.value)
        stalled = finite & (state.value >= best.value - rounding)
        status = jnp.where(stalled, Status.STALLED, Status.MAXITER)
        status = jnp.where(error <= tol, Status.CONVERGED, status)
        return Solution(
            x=jnp.where(better, x, best.x),
            value=jnp.where(better, state.value, best.value),
            error=jnp.where(better, error, best.error),
            num_iters=jnp.asarray(state.iter_num, jnp.int32),
            num_evals=jnp.asarray(state.num_fun_eval, jnp.int32),
            status=jnp.where(finite, status, Status.NON_FINITE).astype(jnp.int32),
        )

    def keep_going(carry):
        _, state, best = carry
        return (best.status == Status.MAXITER) & (state.iter_num < maxiter)

    def body(carry):
        x, state, best = carry
        x, state = solver.update(x, state, (lower, upper))
        return x, state, improve(best, x, state)

    infinity = jnp.full((), jnp.inf, x0.dtype)
    zero = jnp.zeros((), jnp.int32)
    nothing = Solution(x0, infinity, infinity, zero, zero, zero)
    return jax.lax.while_loop(keep_going, body, (x0, start, improve(nothing, x0, start)))[2]
