"""The search on c with jaxopt's own LBFGSB, one image at a time under vmap: `solver="jaxopt"`.

The reference that the engine is measured against: every image waits for the slowest.
"""

import functools

import jax
import jax.numpy as jnp

from intriguing.attack import penalty_search
from intriguing.attack.lanes import Finished, Queue
from intriguing.attack.objective import evaluate, first_penalty, norm_and_unit, penalty_objective
from intriguing.attack.penalty_lanes import MORE_PENALTIES, PenaltyOptions


def _search(
    logits_fn, goal, index, image, lower, upper, label, options: PenaltyOptions
) -> Finished:
    """The search on c for one image; returns one row of `Finished`, with the image unflattened."""
    from intriguing.solver import box_lbfgs  # slow to import, and nobody else's need

    def solve(carry):
        num_solves, z, search, row = carry
        c = search.penalty_weight
        solution = box_lbfgs.minimize_box(
            penalty_objective(logits_fn, image, label, c, options.squared_norm, goal),
            z, lower, upper, solver="jaxopt", maxiter=options.maxiter,
            tol=options.tol, rtol=options.rtol, history_size=options.history_size,
        )  # fmt: skip
        z = solution.x
        norm, _ = norm_and_unit((z - image).ravel())
        margin = evaluate(logits_fn, goal, z[None], label[None]).margin[0]
        better = (margin > 0) & (norm < row.best_norm)
        row = Finished(
            index=index,
            best_image=jnp.where(better, z, row.best_image),
            best_norm=jnp.where(better, norm, row.best_norm),
            best_penalty=jnp.where(better, c, row.best_penalty),
            num_evals=row.num_evals + solution.num_evals + 1,
            non_finite=row.non_finite | (solution.status == box_lbfgs.Status.NON_FINITE),
            trace=row.trace,
        )
        return num_solves + 1, z, penalty_search.advance(search, margin), row

    def keep_going(carry):
        num_solves, _, search, row = carry
        unfinished = ~penalty_search.is_narrow(search) & (row.best_norm > 0)
        found = jnp.isfinite(row.best_norm)
        most = jnp.where(found, options.num_penalties, options.num_penalties + MORE_PENALTIES)
        return (num_solves < most) & unfinished & (index >= 0)

    loss, loss_grad, margin, *_ = evaluate(logits_fn, goal, image[None], label[None])
    row = Finished(
        index=index,
        best_image=image,
        best_norm=jnp.where(margin[0] > 0, 0.0, jnp.inf).astype(image.dtype),
        best_penalty=jnp.zeros((), image.dtype),
        num_evals=jnp.ones((), jnp.int32),
        non_finite=~jnp.isfinite(loss[0]),
        trace=jnp.zeros(0, image.dtype),
    )
    search = penalty_search.start(first_penalty(loss_grad.ravel()))
    return jax.lax.while_loop(keep_going, solve, (0, image, search, row))[3]


def run(logits_fn, goal, queue: Queue, image_shape, options: PenaltyOptions) -> Finished:
    """Searches for every image of the queue (q, n) at once; rows in the order of the queue."""
    index, *pixels, label = queue
    shape = queue.image.shape
    pixels = [jnp.broadcast_to(array, shape).reshape(-1, *image_shape) for array in pixels]
    search = functools.partial(_search, logits_fn, goal, options=options)
    found = jax.vmap(search)(index, *pixels, label)
    return found._replace(best_image=found.best_image.reshape(shape))
