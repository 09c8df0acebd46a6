"""The search on c for many images at once, with in-flight batching, in one jitted loop.

A lane works on one image: it minimises |r| + loss / c for one c, moves on to the next c the moment
that solve ends, and takes the next image of the queue when its search is over. Every loop step
evaluates the network once, forward and backward, for all lanes, whatever stage each is at.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from intriguing import lbfgs_step, penalty_search
from intriguing.lbfgs_step import Status
from intriguing.objective import distance_term, evaluate, first_penalty

MORE_PENALTIES = 12  # values of c that an image without any success gets on top
STEPS_PER_REFILL = 8  # finished lanes are emptied and refilled once in so many steps


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("num_penalties", "maxiter", "tol", "rtol"),
    meta_fields=("history_size", "squared_norm"),
)
@dataclasses.dataclass(frozen=True)
class Options:
    """Settings of the engine; see `attack.minimal_perturbation`.

    A pytree: budgets and tolerances are inputs of the compiled engine, so that one compilation
    serves for all of them; the others are part of its code.
    """

    num_penalties: int
    maxiter: int
    tol: float
    rtol: float
    history_size: int
    squared_norm: bool


class Lane(NamedTuple):
    """One image under way; pixels are flat, (n,).

    Fields:
      index: row of the image in the caller's arrays, -1 for an empty lane.
      image, lower, upper, target_label: the problem.
      step: the solver's state at the present c.
      loss, margin: cross-entropy at `step.x`, and logit of the target minus the highest other.
      search: the search on c.
      best_image, best_norm, best_penalty: the smallest success so far; norm infinity if none.
      num_solves, solve_evals, num_evals: values of c done; evaluations at this c, and in all.
      non_finite: whether NaN or infinity was met.
      done: the search is over (or the lane is empty).
    """

    index: jax.Array
    image: jax.Array
    lower: jax.Array
    upper: jax.Array
    target_label: jax.Array
    step: lbfgs_step.StepState
    loss: jax.Array
    margin: jax.Array
    search: penalty_search.PenaltySearch
    best_image: jax.Array
    best_norm: jax.Array
    best_penalty: jax.Array
    num_solves: jax.Array
    solve_evals: jax.Array
    num_evals: jax.Array
    non_finite: jax.Array
    done: jax.Array


class Queue(NamedTuple):
    """Images to attack: `index` (q,), -1 for padding at the end; image (q, n); bounds (q, n) or
    (q, 1); target_label (q,)."""

    index: jax.Array
    image: jax.Array
    lower: jax.Array
    upper: jax.Array
    target_label: jax.Array


class Finished(NamedTuple):
    """Rows of finished images, in the order of finishing; `index` is -1 where there is none."""

    index: jax.Array
    best_image: jax.Array
    best_norm: jax.Array
    best_penalty: jax.Array
    num_evals: jax.Array
    non_finite: jax.Array


class Work(NamedTuple):
    """What is under way between two steps.

    Fields: `lanes`; `clock`, loop steps since the lanes were made: it says which pair of the
    histories is replaced next; `busy`, lane steps that worked on an image; `taken` images of the
    queue; `finished` rows, `num_finished` of them.
    """

    lanes: Lane
    clock: jax.Array
    busy: jax.Array
    taken: jax.Array
    finished: Finished
    num_finished: jax.Array


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def empty_lanes(num_lanes: int, n: int, bound_size: int, dtype, history_size: int) -> Lane:
    """Lanes that wait for an image of n pixels; `bound_size` is n, or 1 for scalar bounds."""

    def lane(_):
        pixels, bound = jnp.zeros(n, dtype), jnp.zeros(bound_size, dtype)
        zero = jnp.zeros((), jnp.int32)
        number, no = jnp.zeros((), dtype), jnp.asarray(False)
        return Lane(
            index=zero - 1, image=pixels, lower=bound, upper=bound, target_label=zero,
            step=lbfgs_step.init(pixels, history_size), loss=number, margin=number,
            search=penalty_search.start(number + 1), best_image=pixels, best_norm=number + jnp.inf,
            best_penalty=number, num_solves=zero, solve_evals=zero, num_evals=zero, non_finite=no,
            done=~no,
        )  # fmt: skip

    return jax.vmap(lane)(jnp.arange(num_lanes))


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
