"""Many images at once, with in-flight batching, in one jitted loop.

A lane works on one image, and takes the next image of the queue when its search is over. Every loop
step evaluates the network once, forward and backward, for all lanes, whatever stage each is at.
What a lane does with what it sees is its search's: on c (`penalty_lanes`), or `explore`.
"""

import jax
import jax.numpy as jnp

from intriguing.attack.goals import Goal
from intriguing.attack.lanes import Finished, Lane, Queue, Search, Work, traced
from intriguing.attack.objective import evaluate

STEPS_PER_REFILL = 8  # finished lanes are emptied and refilled once in so many steps


def exchange(work: Work, queue: Queue, search: Search) -> Work:
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

    image, lower, upper, label = (array.at[places].get(mode="clip") for array in queue[1:])
    lanes = lanes._replace(
        index=jnp.where(leaving | enter, index, lanes.index),
        image=put(image, lanes.image),
        lower=put(lower, lanes.lower),
        upper=put(upper, lanes.upper),
        label=put(label, lanes.label),
        state=search.enter(lanes.state, image, put),
        best_image=put(image, lanes.best_image),
        best_norm=put(jnp.inf, lanes.best_norm),
        best_penalty=put(0.0, lanes.best_penalty),
        num_evals=put(0, lanes.num_evals),
        non_finite=put(False, lanes.non_finite),
        trace=put(jnp.inf, lanes.trace),
        done=lanes.done & ~enter,
    )
    return work._replace(
        lanes=lanes,
        taken=work.taken + enter.sum(dtype=jnp.int32),
        finished=finished,
        num_finished=work.num_finished + leaving.sum(dtype=jnp.int32),
    )


def begin(lanes: Lane, clock, queue: Queue, search: Search) -> Work:
    """Gives every free lane an image; there is room for every image of the queue and every lane."""
    capacity = len(queue.index) + len(lanes.index)
    finished = Finished(*(
        jnp.zeros((capacity, *getattr(lanes, name).shape[1:]), getattr(lanes, name).dtype)
        for name in Finished._fields
    ))  # fmt: skip
    finished = finished._replace(index=finished.index - 1)
    zero = jnp.zeros((), jnp.int32)
    return exchange(Work(lanes, clock, zero, zero, finished, zero), queue, search)


def step(logits_fn, goal: Goal, work: Work, image_shape, search: Search) -> Work:
    """One evaluation of the network, and one step of every lane."""
    lanes = work.lanes
    num_lanes, n = lanes.image.shape
    images = jax.vmap(search.trial)(lanes.state).reshape(num_lanes, *image_shape)
    asks = jax.vmap(search.asks)(lanes.state)
    found = evaluate(logits_fn, goal, images, lanes.label, asks)
    seen = found._replace(grad=found.grad.reshape(num_lanes, n))
    return work._replace(
        lanes=traced(jax.vmap(search.update, (0, 0, None))(lanes, seen, work.clock)),
        clock=work.clock + 1,
        busy=work.busy + (~lanes.done).sum(dtype=jnp.int32),
    )


def keep_going(work: Work, queue: Queue, drain) -> jax.Array:
    """Whether images wait or, if `drain`, lanes are at work: a bool scalar."""
    num_queued = (queue.index >= 0).sum(dtype=jnp.int32)
    return (work.taken < num_queued) | (drain & (~work.lanes.done).any())


def run(
    logits_fn, goal: Goal, lanes: Lane, clock, queue: Queue, drain, image_shape, search: Search
) -> Work:
    """Works until the queue is empty or, if `drain`, until all lanes are.

    Args:
      logits_fn: images (lanes, *image_shape) -> outputs.
      goal: what counts as adversarial.
      lanes, clock: as left by the last call, or `empty_lanes` and 0.
      queue: images to take.
      drain: bool scalar; if false, lanes that are still at work are returned at work.
      image_shape: shape of one image.
      search: what a lane does, with its budgets.
    """

    def body(work: Work) -> Work:
        work = jax.lax.fori_loop(
            0, STEPS_PER_REFILL,
            lambda _, work: step(logits_fn, goal, work, image_shape, search), work,
        )  # fmt: skip
        return exchange(work, queue, search)

    return jax.lax.while_loop(
        lambda work: keep_going(work, queue, drain), body, begin(lanes, clock, queue, search)
    )
