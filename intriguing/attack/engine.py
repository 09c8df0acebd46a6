"""The search on c for many images at once, with in-flight batching, in one jitted loop.

A lane works on one image: it minimises |r| + loss / c for one c, moves on to the next c the moment
that solve ends, and takes the next image of the queue when its search is over. Every loop step
evaluates the network once, forward and backward, for all lanes, whatever stage each is at.
"""

import functools

import jax
import jax.numpy as jnp

from intriguing.attack import penalty_search
from intriguing.attack.lanes import Finished, Lane, Options, Queue, Work
from intriguing.attack.objective import distance_term, evaluate, first_penalty
from intriguing.solver import lbfgs_step
from intriguing.solver.lbfgs_step import Status

MORE_PENALTIES = 12  # values of c that an image without any success gets on top
STEPS_PER_REFILL = 8  # finished lanes are emptied and refilled once in so many steps


def update_lane(lane: Lane, loss, loss_grad, margin, slot, options: Options) -> Lane:
    """Takes in the loss, its gradient and the margin at `lane.step.trial`; proposes the next."""
    fresh = lane.step.num_iters < 0
    start = penalty_search.start(first_penalty(loss_grad))
    search = jax.tree.map(functools.partial(jnp.where, fresh), start, lane.search)
    c, trial = search.penalty_weight, lane.step.trial

    distance, distance_grad, norm = distance_term(trial - lane.image, options.squared_norm)
    better = (margin > 0) & (norm < lane.best_norm) & ~lane.done
    step, accept = lbfgs_step.accept_or_shrink(
        lane.step, distance + loss / c, distance_grad + loss_grad / c,
        lane.lower, lane.upper, slot, rtol=options.rtol,
    )  # fmt: skip
    step = lbfgs_step.update_status(step, lane.lower, lane.upper, tol=options.tol)
    lane = lane._replace(
        loss=jnp.where(accept, loss, lane.loss),
        margin=jnp.where(accept, margin, lane.margin),
        best_image=jnp.where(better, trial, lane.best_image),
        best_norm=jnp.where(better, norm, lane.best_norm),
        best_penalty=jnp.where(better, c, lane.best_penalty),
        num_evals=lane.num_evals + ~lane.done,
        solve_evals=lane.solve_evals + 1,
        non_finite=lane.non_finite | (~jnp.isfinite(loss) & ~lane.done),
    )
    lane, step, over = next_penalty(lane, step, search, options)
    step = lbfgs_step.propose(step, accept | over, lane.lower, lane.upper, slot)
    return lane._replace(step=step)


def next_penalty(lane: Lane, step, search, options: Options):
    """If the solve is over, moves the solver to the next c; returns (lane, step, over).

    f and its gradient at x for the new c follow from those for the old one: no evaluation is spent.
    """
    over = (step.status != Status.RUNNING) | (lane.solve_evals >= options.maxiter)
    advanced = penalty_search.advance(search, lane.margin)
    distance, distance_grad, _ = distance_term(step.x - lane.image, options.squared_norm)
    ratio = search.penalty_weight / advanced.penalty_weight
    loss_grad = ratio * (step.grad - distance_grad)
    num_solves = lane.num_solves + over
    found = jnp.isfinite(lane.best_norm)
    most = jnp.where(found, options.num_penalties, options.num_penalties + MORE_PENALTIES)
    finished = (num_solves >= most) | penalty_search.is_narrow(advanced)
    finished |= (step.status == Status.NON_FINITE) | (lane.best_norm == 0)

    select = functools.partial(jnp.where, over)
    step = step._replace(
        value=select(distance + lane.loss / advanced.penalty_weight, step.value),
        grad=select(distance_grad + loss_grad, step.grad),
        stepsize=select(1.0, step.stepsize),
        num_backtracks=select(0, step.num_backtracks),
        num_flat=select(0, step.num_flat),
        status=select(Status.RUNNING, step.status),
    )
    lane = lane._replace(
        search=jax.tree.map(select, advanced, search),
        num_solves=num_solves,
        solve_evals=select(0, lane.solve_evals),
        done=lane.done | (over & finished),
    )
    return lane, step, over


def exchange(work: Work, queue: Queue) -> Work:
    """Writes finished lanes out and gives every free lane the next image of the queue."""
    lanes, finished = work.lanes, work.finished
    leaving = lanes.done & (lanes.index >= 0)
    rows = jnp.where(
        leaving, work.num_finished + jnp.cumsum(leaving, dtype=jnp.int32) - 1, len(finished.index)
    )
    finished = Finished(*(
        getattr(finished, name).at[rows].set(getattr(lanes, name), mode="drop")
        for name in Finished._fields
    ))  # fmt: skip
    places = jnp.where(
        lanes.done, work.taken + jnp.cumsum(lanes.done, dtype=jnp.int32) - 1, len(queue.index)
    )
    index = queue.index.at[places].get(mode="fill", fill_value=-1)
    enter = index >= 0

    def put(new, old):
        return jnp.where(enter.reshape(-1, *[1] * (old.ndim - 1)), new, old)

    image, lower, upper, target = (array.at[places].get(mode="clip") for array in queue[1:])
    step, history = lanes.step, lanes.step.history
    lanes = lanes._replace(
        index=jnp.where(leaving | enter, index, lanes.index),
        image=put(image, lanes.image),
        lower=put(lower, lanes.lower),
        upper=put(upper, lanes.upper),
        target_label=put(target, lanes.target_label),
        step=step._replace(
            x=put(image, step.x), trial=put(image, step.trial), grad=put(0.0, step.grad),
            value=put(jnp.inf, step.value), num_iters=put(-1, step.num_iters),
            num_flat=put(0, step.num_flat), num_backtracks=put(0, step.num_backtracks),
            status=put(Status.RUNNING, step.status), stepsize=put(1.0, step.stepsize),
            history=history._replace(rho=put(0.0, history.rho)),
        ),
        best_image=put(image, lanes.best_image),
        best_norm=put(jnp.inf, lanes.best_norm),
        best_penalty=put(0.0, lanes.best_penalty),
        num_solves=put(0, lanes.num_solves),
        solve_evals=put(0, lanes.solve_evals),
        num_evals=put(0, lanes.num_evals),
        non_finite=put(False, lanes.non_finite),
        done=lanes.done & ~enter,
    )  # fmt: skip
    return work._replace(
        lanes=lanes,
        taken=work.taken + enter.sum(dtype=jnp.int32),
        finished=finished,
        num_finished=work.num_finished + leaving.sum(dtype=jnp.int32),
    )


def begin(lanes: Lane, clock, queue: Queue) -> Work:
    """Gives every free lane an image; there is room for every image of the queue and every lane."""
    capacity = len(queue.index) + len(lanes.index)
    finished = Finished(*(
        jnp.zeros((capacity, *getattr(lanes, name).shape[1:]), getattr(lanes, name).dtype)
        for name in Finished._fields
    ))  # fmt: skip
    finished = finished._replace(index=finished.index - 1)
    zero = jnp.zeros((), jnp.int32)
    return exchange(Work(lanes, clock, zero, zero, finished, zero), queue)


def step(logits_fn, work: Work, image_shape, options: Options) -> Work:
    """One evaluation of the network, and one step of every lane."""
    lanes = work.lanes
    num_lanes, n = lanes.image.shape
    images = lanes.step.trial.reshape(num_lanes, *image_shape)
    loss, grad, margin = evaluate(logits_fn, images, lanes.target_label)
    update = jax.vmap(functools.partial(update_lane, options=options), (0, 0, 0, 0, None))
    slot = work.clock % options.history_size
    return work._replace(
        lanes=update(lanes, loss, grad.reshape(num_lanes, n), margin, slot),
        clock=work.clock + 1,
        busy=work.busy + (~lanes.done).sum(dtype=jnp.int32),
    )


def keep_going(work: Work, queue: Queue, drain) -> jax.Array:
    """Whether images wait or, if `drain`, lanes are at work: a bool scalar."""
    num_queued = (queue.index >= 0).sum(dtype=jnp.int32)
    return (work.taken < num_queued) | (drain & (~work.lanes.done).any())


def run(logits_fn, lanes: Lane, clock, queue: Queue, drain, image_shape, options: Options) -> Work:
    """Works until the queue is empty or, if `drain`, until all lanes are.

    Args:
      logits_fn: images (lanes, *image_shape) -> logits.
      lanes, clock: as left by the last call, or `empty_lanes` and 0.
      queue: images to take.
      drain: bool scalar; if false, lanes that are still at work are returned at work.
      image_shape: shape of one image.
      options: budgets and tolerances.
    """

    def body(work: Work) -> Work:
        work = jax.lax.fori_loop(
            0, STEPS_PER_REFILL, lambda _, work: step(logits_fn, work, image_shape, options), work
        )
        return exchange(work, queue)

    return jax.lax.while_loop(
        lambda work: keep_going(work, queue, drain), body, begin(lanes, clock, queue)
    )
