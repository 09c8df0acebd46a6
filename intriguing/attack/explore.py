"""Project, explore, project: the search for networks whose boundaries have kinks.

A run has three stages, of which each asks for one gradient per step, of every length relative to
what the image itself showed:

1. Project, a seventh of it, from the start: G, a running mean of the margin's gradients, averages
   over the kinks; r moves a fraction of the way to the smallest r* of the box with
   G . r* >= G . r - margin. The fraction falls as a cosine.
2. Explore, two fifths, from the best point, at its radius: a step along the normalised gradient of
   the loss, which falls as a cosine; the radius then shrinks if the point was adversarial, and
   grows if not; r is scaled to it (decoupled direction and norm, Rony et al. 2019, section 3).
3. Project, the rest, from the best point of the run.

The first run starts at the image. A longer run comes to lie in the same valley, so that a large
budget goes to several: from noise, of the length that was found and longer; where one of several
margins is enough, every other one from the image, towards the next class. An image without success
goes on from other starts: the middle of its box, then noise.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp

from intriguing.attack.explore_steps import (
    ExploreState,
    Point,
    Stages,
    explore,
    point_of,
    project,
)
from intriguing.attack.lanes import Lane, noise_of, start_of, step_off
from intriguing.attack.objective import Asks, Evaluation, norm_and_unit
from intriguing.solver.products import dot

FIRST_SHARE, EXPLORE_SHARE = 0.15, 0.4  # of a run
MIN_EXPLORED = 40  # a smaller budget goes to the last stage alone
RUN, RUN_OF_UNION = 150, 100  # evaluations that are enough for one
MOST_RUNS = 9
FARTHER = 2.0  # per run from noise: how far it starts from the image, in norms that were found
NUM_PROBES = 4  # of the nearest classes, where one of them is enough
START = 0.5  # explored: from so far on the way to the best point
HOPELESS = 1.5  # times the longest norm that counts: the last stage takes away some percent
RESTARTS = 4  # times the budget more, from other starts, for an image without success


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

    def num_runs(self) -> jax.Array:
        """Of an image that the first one succeeds with."""
        enough = RUN_OF_UNION if self.is_union else RUN
        num = (jnp.asarray(self.budget, jnp.int32) + enough // 5) // enough
        return jnp.clip(num, 1, MOST_RUNS)

    def stages(self) -> Stages:
        """When each of them is over, in a run."""
        budget = jnp.asarray(self.budget, jnp.int32) // self.num_runs()
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
            run_image=image, run_norm=number + jnp.inf, top_margin=number - jnp.inf, count=zero,
            run=zero, num_flat=zero,
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
        probes = state.count < stages.probed
        towards = jnp.where(first, jnp.where(probes, -1 - state.count, state.towards), -1)
        later = self._is_towards_one(state.run)
        towards = jnp.where(later, state.towards, towards)
        return Asks(state.scale, ~explores | later, towards)

    def _is_towards_one(self, run):
        """Whether a run is towards one of several classes: every other one of a union."""
        return (run % 2 == 1) & self.is_union

    def update(self, lane: Lane, seen: Evaluation, clock) -> Lane:
        """Keeps the best point, and moves on."""
        del clock
        stages, before = self.stages(), lane.state
        point = point_of(lane, seen)
        lane = _keep(lane, seen, point)
        state = lane.state
        explores = (state.count >= stages.first) & (state.count < stages.explored)
        # The loss is descended, the margin of the one class climbed.
        downhill = jnp.where(self._is_towards_one(state.run), -point.unit, point.unit)
        state, explored = explore(lane, stages, point._replace(unit=downhill))
        mean_grad, nearest, projected = project(lane, stages, point, seen, explores)
        step = jnp.where(explores, explored, projected)
        trial = jnp.clip(lane.image + step, lane.lower, lane.upper)

        probes = (state.count < stages.probed) & (state.run == 0)
        distance, _ = norm_and_unit(nearest)
        enough = dot(seen.grad, nearest - point.r) >= -0.99 * seen.pulled
        nearer = probes & enough & (distance < state.distance) & point.usable
        trial = jnp.where(probes, state.trial, trial)
        trial = jnp.where(point.usable, trial, step_off(lane, state.trial, state.num_flat))
        count = state.count + 1
        explores_next = (count == stages.first) & (count < stages.explored)
        back = jnp.where(explores_next, START, 1.0).astype(trial.dtype)
        best = lane.image + back * (state.run_image - lane.image)
        again = (count == stages.first) | (count == stages.explored)
        has_best = point.found | jnp.isfinite(state.top_margin)
        trial = jnp.where(again & has_best, best, trial)
        begins = (state.run > 0) & (state.count == 0)
        state = state._replace(
            trial=trial,
            mean_grad=jnp.where(point.usable, mean_grad, before.mean_grad),
            towards=jnp.where(nearer | begins, seen.towards, state.towards),
            distance=jnp.where(nearer, distance, state.distance),
            count=count,
            num_flat=jnp.where(point.usable, 0, state.num_flat + 1),
        )
        return self._end_run(lane._replace(state=state), stages, point)

    def _end_run(self, lane: Lane, stages: Stages, point: Point) -> Lane:
        """Done, or at the start of the next run, where this one is over."""
        state, ever = lane.state, jnp.isfinite(lane.best_norm)
        over, num_runs = state.count >= stages.budget, self.num_runs()
        again = over & (state.run + 1 < jnp.where(ever, num_runs, num_runs * (1 + RESTARTS)))
        run = state.run + 1
        follows = self._is_towards_one(run)
        num_noisy = state.run // 2 if self.is_union else state.run
        far = jnp.where(ever & ~follows, lane.best_norm, 0) * (1 + FARTHER * num_noisy)
        start = lane.image + far.astype(lane.image.dtype) * noise_of(lane, state.run)
        start = jnp.where(ever, start, start_of(lane, run))
        new = self.init(jnp.clip(start, lane.lower, lane.upper))._replace(
            scale=state.scale, length=state.length, radius=state.radius, run=run,
            mean_grad=state.mean_grad, num_flat=state.num_flat,
            towards=jnp.where(follows, -1 - (run + 1) // 2, -1),
            run_image=lane.image,
        )  # fmt: skip
        state = jax.tree.map(lambda new, old: jnp.where(again, new, old), new, state)
        hopeless = (state.count >= stages.explored) & (lane.best_norm > HOPELESS * self.max_norm)
        hopeless &= point.found & (stages.explored > 0)
        done = lane.done | (over & ~again) | (lane.best_norm == 0) | point.lost | hopeless
        return lane._replace(state=state, done=done)


def _keep(lane: Lane, seen: Evaluation, point: Point) -> Lane:
    """The lane with the smallest success so far; while there is none, the highest margin."""
    state = lane.state
    better = point.reached & (point.norm < lane.best_norm)
    higher = ~point.found & (seen.margin > state.top_margin)
    closer = higher & ~jnp.isfinite(lane.best_norm)
    in_run = higher | (point.reached & (point.norm < state.run_norm))
    first_order = jnp.abs(seen.margin) / jnp.where(point.grad_norm > 0, point.grad_norm, 1.0)
    margin = jnp.where(point.broken, -jnp.inf, seen.margin)
    state = state._replace(
        scale=seen.scale,
        run_image=jnp.where(in_run, state.trial, state.run_image),
        run_norm=jnp.where(point.reached, jnp.minimum(state.run_norm, point.norm), state.run_norm),
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
