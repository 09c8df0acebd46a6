"""The state of exploring and projecting, their steps, and what is to be said of a trial point."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from intriguing.attack.lanes import Lane
from intriguing.attack.objective import Evaluation, norm_and_unit
from intriguing.solver.products import dot

FRACTIONS = ((0.5, 0.05), (0.5, 0.01))  # of the way: first and last, in the two projections
LEAST_FRACTION, OVERSHOOT = 0.3, 0.02  # while nothing was found
MEMORY = 0.9  # of the old mean, per step
STEPS = (1.0, 0.01)  # explored: first and last, relative to the norm that was found
RADIUS = 0.8  # the first one, likewise
RESIZE = (0.2, 0.02)  # by which the radius changes: first and last
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
    run_image, run_norm: the smallest success of this run, infinity while there is none; then the
      image is that with `top_margin`, the highest so far.
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
    run_image: jax.Array
    run_norm: jax.Array
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


class Point(NamedTuple):
    """What is to be said of a trial point.

    Fields: `r`, its `norm`; `unit`, the gradient's direction, and `grad_norm`; `usable`, whether it
    is one to go along; `broken`, NaN or infinity was met; `lost`, at the image itself; `reached`
    the goal; `found`: this or an earlier point of the run did.
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


def point_of(lane: Lane, seen: Evaluation) -> Point:
    r = lane.state.trial - lane.image
    norm, _ = norm_and_unit(r)
    grad_norm, unit = norm_and_unit(seen.grad)
    told = seen.margin < jnp.inf  # not NaN; -inf is a class that the network masks
    broken = ~(told & jnp.isfinite(grad_norm))
    usable = ~broken & jnp.isfinite(seen.margin) & (grad_norm > 0)
    reached = (seen.margin * seen.scale > LEAST_MARGIN) & (seen.margin > seen.rounding)
    found = jnp.isfinite(lane.state.run_norm) | reached
    lost = ~told & (norm == 0)
    return Point(r, norm, unit, grad_norm, usable, broken, lost, reached, found)


def _cosine(step, num):
    """1 at step 0, 0 at step num."""
    return 0.5 * (1 + jnp.cos(jnp.pi * step / jnp.maximum(num, 1)))


def _between(ends, share):
    first, last = ends
    return last + (first - last) * share


def explore(lane: Lane, stages: Stages, point: Point):
    """(state with the next radius, the next r) of exploring."""
    state = lane.state
    begins = state.count == stages.first
    ever = jnp.isfinite(lane.best_norm)
    length = jnp.where(ever, lane.best_norm, jnp.maximum(point.norm, state.length))
    length = jnp.where(begins, length, state.length)
    radius = jnp.where(begins, RADIUS * length, state.radius)
    share = _cosine(state.count - stages.first, stages.explored - stages.first)
    dtype = point.r.dtype
    moved = point.r - _between(STEPS, share).astype(dtype) * length * point.unit
    resize = _between(RESIZE, share).astype(dtype)
    radius = radius * jnp.where(point.reached, 1 - resize, 1 + resize)
    _, direction = norm_and_unit(moved)
    return state._replace(length=length, radius=radius), radius * direction


def project(lane: Lane, stages: Stages, point: Point, seen: Evaluation, explores):
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
