"""The attack as one pure function, for use inside the user's own jit, vmap, shard_map or training.

`minimal_perturbation` is the host's way to the same: it checks, feeds a queue, and judges.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from intriguing.attack import budget, engine
from intriguing.attack.goals import NAMED, Goal
from intriguing.attack.lanes import Queue, empty_lanes
from intriguing.attack.problem import AttackOptions, Problem, most_norm
from intriguing.attack.result import AttackResult, finish
from intriguing.attack.view import View

if TYPE_CHECKING:
    from jax.typing import ArrayLike
    from jaxtyping import Array, Float, Int

DEFAULT = AttackOptions()


def problem_of(
    images: Float[ArrayLike, " batch *pixels"],
    labels: Int[ArrayLike, " batch"] | Sequence[int],
    *,
    goal: Goal | str = "targeted",
    bounds: tuple[Any, Any] = (0.0, 1.0),
) -> Problem:
    """The problem of images (batch, ...) and labels (batch,) in a box; nothing is checked."""
    goal = NAMED[goal] if isinstance(goal, str) else goal
    images = jnp.asarray(images)
    one = (len(images), *[1] * (images.ndim - 1))
    lower, upper = (
        jnp.broadcast_to(jnp.asarray(bound, images.dtype), images.shape if jnp.ndim(bound) else one)
        for bound in bounds
    )
    return Problem(images, lower, upper, jnp.asarray(labels), goal)


def solve(
    logits_fn: Callable[[Any], Float[Array, " batch classes"]],
    problem: Problem,
    options: AttackOptions = DEFAULT,
    *,
    is_smooth: bool = False,
) -> AttackResult:
    """Minimal perturbations of a batch, traceable: no host, and no checks.

    Args:
      logits_fn: images (batch, ...) -> outputs, row by row; it may close over traced arrays.
      problem: of `problem_of`; images in float32 (or float64), in units near the box's width.
      options: `AttackOptions`, fixed while tracing; `num_lanes` None makes every image a lane;
        `solver` and `utilisation` are not read.
      is_smooth: whether the network has no kinks, so that a refinement pays.

    Returns:
      An `AttackResult` of JAX arrays, in the order of the images.
    """
    *arrays, goal = problem
    images, lower, upper, labels = map(jnp.asarray, arrays)
    num, shape = len(images), images.shape[1:]
    outputs = jax.eval_shape(logits_fn, images[:1])
    plan = budget.choose(options, is_smooth, goal).within(outputs.shape, goal)
    queue = Queue(
        jnp.arange(num, dtype=jnp.int32), *(a.reshape(num, -1) for a in (images, lower, upper)),
        labels,
    )  # fmt: skip
    lanes = empty_lanes(min(options.num_lanes or num, num), queue, plan.search)
    work = engine.run(
        logits_fn, goal, lanes, jnp.zeros((), jnp.int32), queue, jnp.asarray(True), shape,
        plan.search,
    )  # fmt: skip
    # Room is left for images still at work, of which there are none: their index is -1.
    rows = jnp.argsort(jnp.where(work.finished.index < 0, num, work.finished.index))[:num]
    found = type(work.finished)(*(array[rows] for array in work.finished))
    return finish(
        (View.of(images), logits_fn, None, None), problem, found, most_norm(options),
        unroll=False, **plan.refinement(),
    )  # fmt: skip
