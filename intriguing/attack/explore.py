"""Project, explore, project: the search for networks whose boundaries have kinks.

In three stages, of which each asks for one gradient per step, of every length relative to what the
image itself showed:

1. Project, a seventh of the budget, from the image: G, a running mean of the margin's gradients,
   averages over the kinks; r moves a fraction of the way to the smallest r* of the box with
   G . r* >= G . r - margin. The fraction falls as a cosine.
2. Explore, two fifths, from the best point, at its radius: a step along the normalised gradient of
   the loss, which falls as a cosine; the radius then shrinks if the point was adversarial, and
   grows if not; r is scaled to it (decoupled direction and norm, Rony et al. 2019, section 3).
3. Project, the rest, from the best point.

An image without success goes on from other starts: the middle of its box, then noise.
"""

import dataclasses
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from intriguing.attack.lanes import Lane, start_of, step_off
from intriguing.attack.objective import Asks, Evaluation, norm_and_unit
from intriguing.solver.products import dot

FIRST_SHARE, EXPLORE_SHARE = 0.15, 0.4  # of the budget
MIN_EXPLORED = 40  # a smaller budget goes to the last stage alone
NUM_PROBES = 4  # of the nearest classes, where one of them is enough
MEMORY = 0.9  # of the old mean, per step
FRACTIONS = ((0.5, 0.05), (0.5, 0.01))  # of the way: first and last, in the two projections
LEAST_FRACTION, OVERSHOOT = 0.3, 0.02  # while nothing was found
STEPS = (1.0, 0.01)  # explored: first and last, relative to the norm that was found
START = 0.5  # explored: from so far on the way to the best point
RADIUS = 0.8  # the first one, likewise
RESIZE = (0.2, 0.02)  # by which the radius changes: first and last
HOPELESS = 1.5  # times the longest norm that counts: the last stage takes away some percent
RESTARTS = 4  # runs of a whole budget from other starts, for an image without success
LEAST_MARGIN = 1e-4  # of a success, where the clean image has `FIRST_MARGIN`: beyond rounding
NEWTON_STEPS = 10
NEWTON_TOLERANCE = 1e-4  # of the offset


class ExploreState(NamedTuple):
    """Fields:
    trial: (n,), where the network is evaluated next.
    mean_grad: (n,), running mean of the margin's gradients.
    scale: of the outputs in the loss, 0 before the first evaluation.
    length, radius: the unit of exploring's steps; the norm that r is scaled to.
    towards, distance: of the classes that were probed the nearest, and how near it is.
    top_margin: highest so far; where nothing was found, `best_image` has it.
    count, run: evaluations of this run; number of the run.
    num_flat: evaluations in a row without a usable gradient.
    """

    trial: jax.Array
    mean_grad: jax.Array
    scale: jax.Array
    length: jax.Array
    radius: jax.Array
    towards: jax.Array
    distance: jax.Array
    top_margin: jax.Array
    count: jax.Array
    run: jax.Array
    num_flat: jax.Array


class Stages(NamedTuple):
    """Evaluations after which each stage of a run is over."""

    probed: jax.Array
    first: jax.Array
    explored: jax.Array
    budget: jax.Array


def smallest_step(grad, offset, lower, upper):
    """The smallest r in the box with grad . r >= offset, or as near to that as the box allows.

    r = clip(mu grad): grad . r is concave and piecewise linear in mu >= 0, so that Newton's method
    climbs to its root from the left.
    """
    squared = dot(grad, grad)
    safe = jnp.where(squared > 0, squared, 1.0)

    def value_at(mu):
        r = jnp.clip(mu * grad, lower, upper)
        slope = jnp.where((r > lower) & (r < upper), grad, 0.0)
        return offset - dot(grad, r), dot(slope, grad)

    def body(carry):
        step, mu, _ = carry
        missing, slope = value_at(mu)
        going = (missing > NEWTON_TOLERANCE * jnp.abs(offset)) & (slope > 1e-6 * squared)
        return step + 1, jnp.where(going, mu + missing / jnp.where(going, slope, 1.0), mu), going

    start = (0, jnp.maximum(offset / safe, 0.0), squared > 0)
    _, mu, _ = jax.lax.while_loop(lambda c: c[2] & (c[0] < NEWTON_STEPS), body, start)
    return jnp.clip(mu * grad, lower, upper)


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("budget", "max_norm"),
    meta_fields=("is_union", "num_traced"),
)
@dataclasses.dataclass(frozen=True)
class ExploreOptions:
    """`budget`: evaluations per image; up to `RESTARTS` times as many more without success.

    `is_union`: one of several margins is enough, so that the nearest is looked for first.
    `max_norm`: an image whose best is longer than `HOPELESS` times that after exploring is left.
    """

    budget: int
    is_union: bool = False
    max_norm: float = math.inf
    num_traced: int = 0

    def stages(self) -> Stages:
        """When each of them is over."""
        budget = jnp.asarray(self.budget, jnp.int32)
        first, explored = (
            jnp.where(budget < MIN_EXPLORED, 0, jnp.round(share * budget)).astype(jnp.int32)
            for share in (FIRST_SHARE, FIRST_SHARE + EXPLORE_SHARE)
        )
        probed = jnp.where(first > 0, NUM_PROBES if self.is_union else 0, 0)
        return Stages(probed, first + probed, explored, budget)

    def init(self, image) -> ExploreState:
        """A state whose first evaluation is at the image (n,)."""
        zero, number = jnp.zeros((), jnp.int32), jnp.zeros((), image.dtype)
        return ExploreState(
            trial=image, mean_grad=jnp.zeros_like(image), scale=number, length=number,
            radius=number, towards=zero - 1, distance=number + jnp.inf,
            top_margin=number - jnp.inf, count=zero, run=zero, num_flat=zero,
        )  # fmt: skip

    def enter(self, state: ExploreState, image, put) -> ExploreState:
        """Begun anew where `put` says."""
        return jax.tree.map(put, jax.vmap(self.init)(image), state)

    def trial(self, state: ExploreState):
        """The next point to evaluate."""
        return state.trial

    def asks(self, state: ExploreState) -> Asks:
        """The margin's gradient to project, the loss's to explore."""
        stages = self.stages()
        first = state.count < stages.first
        explores = ~first & (state.count < stages.explored)
        towards = jnp.where(state.count < stages.probed, -1 - state.count, state.towards)
        return Asks(state.scale, ~explores, jnp.where(first, towards, -1))

    def update(self, lane: Lane, seen: Evaluation, clock) -> Lane:
        """Keeps the best point, and moves on."""
        del clock
        stages, before = self.stages(), lane.state
        point = _point(lane, seen)
        lane = _keep(lane, seen, point)
        state = lane.state
        explores = (state.count >= stages.first) & (state.count < stages.explored)
        state, explored = _explore(state, stages, point, lane.best_norm)
        mean_grad, nearest, projected = _project(lane, stages, point, seen, explores)
        step = jnp.where(explores, explored, projected)
        trial = jnp.clip(lane.image + step, lane.lower, lane.upper)

        probes, (distance, _) = state.count < stages.probed, norm_and_unit(nearest)
        enough = dot(seen.grad, nearest - point.r) >= -0.99 * seen.pulled
        nearer = probes & enough & (distance < state.distance) & point.usable
        trial = jnp.where(probes, state.trial, trial)
        trial = jnp.where(point.usable, trial, step_off(lane, state.trial, state.num_flat))
        count = state.count + 1
        explores_next = (count == stages.first) & (count < stages.explored)
        back = jnp.where(explores_next, START, 1.0).astype(trial.dtype)
        best = lane.image + back * (lane.best_image - lane.image)
        again = (count == stages.first) | (count == stages.explored)
        has_best = point.found | jnp.isfinite(state.top_margin)
        trial = jnp.where(again & has_best, best, trial)

        over = count >= stages.budget
        restart = over & ~point.found & (state.run < RESTARTS)
        state = state._replace(
            trial=jnp.where(restart, start_of(lane, state.run + 1), trial),
            mean_grad=jnp.where(point.usable, mean_grad, before.mean_grad),
            towards=jnp.where(nearer, seen.towards, state.towards),
            distance=jnp.where(restart, jnp.inf, jnp.where(nearer, distance, state.distance)),
            count=jnp.where(restart, 0, count),
            run=state.run + restart,
            num_flat=jnp.where(point.usable, 0, state.num_flat + 1),
            top_margin=jnp.where(restart, -jnp.inf, state.top_margin),
        )
        hopeless = (count >= stages.explored) & (lane.best_norm > HOPELESS * self.max_norm)
        hopeless &= point.found & (stages.explored > 0)
        done = lane.done | (over & ~restart) | (lane.best_norm == 0) | point.lost | hopeless
        return lane._replace(state=state, done=done)


class Point(NamedTuple):
    """What is to be said of a trial point.

    Fields: `r`, its `norm`; `unit`, the gradient's direction, and `grad_norm`; `usable`, whether it
    is one to go along; `broken`, NaN or infinity was met; `lost`, at the image itself; `reached`
    the goal; `found`: this or an earlier point did.
    """

    r: jax.Array
    norm: jax.Array
    unit: jax.Array
    grad_norm: jax.Array
    usable: jax.Array
    broken: jax.Array
    lost: jax.Array
    reached: jax.Array
    found: jax.Array


def _point(lane: Lane, seen: Evaluation) -> Point:
    r = lane.state.trial - lane.image
    norm, _ = norm_and_unit(r)
    grad_norm, unit = norm_and_unit(seen.grad)
    told = seen.margin < jnp.inf  # not NaN; -inf is a class that the network masks
    broken = ~(told & jnp.isfinite(grad_norm))
    usable = ~broken & jnp.isfinite(seen.margin) & (grad_norm > 0)
    reached = (seen.margin * seen.scale > LEAST_MARGIN) & (seen.margin > seen.rounding)
    found = jnp.isfinite(lane.best_norm) | reached
    lost = ~told & (norm == 0)
    return Point(r, norm, unit, grad_norm, usable, broken, lost, reached, found)


def _keep(lane: Lane, seen: Evaluation, point: Point) -> Lane:
    """The lane with the smallest success so far; while there is none, the highest margin."""
    state = lane.state
    better = point.reached & (point.norm < lane.best_norm)
    closer = ~point.found & (seen.margin > state.top_margin)
    first_order = jnp.abs(seen.margin) / jnp.where(point.grad_norm > 0, point.grad_norm, 1.0)
    margin = jnp.where(point.broken, -jnp.inf, seen.margin)
    state = state._replace(
        scale=seen.scale,
        top_margin=jnp.maximum(state.top_margin, margin),
        length=jnp.where(state.count == 0, first_order, state.length),
    )
    return lane._replace(
        state=state,
        best_image=jnp.where((better | closer) & ~lane.done, state.trial, lane.best_image),
        best_norm=jnp.where(better & ~lane.done, point.norm, lane.best_norm),
        num_evals=lane.num_evals + ~lane.done,
        # What is met from starts that we chose says nothing of the image.
        non_finite=lane.non_finite | (point.broken & (state.run == 0) & ~lane.done),
    )


def _cosine(step, num):
    """1 at step 0, 0 at step num."""
    return 0.5 * (1 + jnp.cos(jnp.pi * step / jnp.maximum(num, 1)))


def _between(ends, share):
    first, last = ends
    return last + (first - last) * share


def _explore(state: ExploreState, stages: Stages, point: Point, best_norm):
    """(state with the next radius, the next r) of exploring."""
    begins = state.count == stages.first
    length = jnp.where(point.found, best_norm, jnp.maximum(point.norm, state.length))
    length = jnp.where(begins, length, state.length)
    radius = jnp.where(begins, RADIUS * length, state.radius)
    share = _cosine(state.count - stages.first, stages.explored - stages.first)
    dtype = point.r.dtype
    moved = point.r - _between(STEPS, share).astype(dtype) * length * point.unit
    resize = _between(RESIZE, share).astype(dtype)
    radius = radius * jnp.where(point.reached, 1 - resize, 1 + resize)
    _, direction = norm_and_unit(moved)
    return state._replace(length=length, radius=radius), radius * direction


def _project(lane: Lane, stages: Stages, point: Point, seen: Evaluation, explores):
    """(running mean of the gradients, the r that it points to, the next r) of projecting."""
    state, r = lane.state, point.r
    second = state.count >= stages.explored
    begins = (state.count <= stages.probed) | (state.count == stages.explored)
    mixed = MEMORY * state.mean_grad + (1 - MEMORY) * seen.grad
    mean_grad = jnp.where(begins, seen.grad, jnp.where(explores, state.mean_grad, mixed))
    beyond = jnp.where(point.found, 0.0, OVERSHOOT * jnp.abs(dot(mean_grad, r) - seen.pulled))
    offset = jnp.where(explores, 0.0, dot(mean_grad, r) - seen.pulled + beyond)
    nearest = smallest_step(mean_grad, offset, lane.lower - lane.image, lane.upper - lane.image)
    step = jnp.where(second, state.count - stages.explored, state.count)
    num = jnp.where(second, stages.budget - stages.explored, stages.first)
    ends = (jnp.where(second, *pair) for pair in zip(FRACTIONS[1], FRACTIONS[0], strict=True))
    fraction = _between(tuple(ends), _cosine(step, num)).astype(r.dtype)
    # A mean of gradients nears the boundary from outside, and might never cross it.
    fraction = jnp.where(point.found, fraction, jnp.maximum(fraction, LEAST_FRACTION))
    return mean_grad, nearest, r + fraction * (nearest - r)
