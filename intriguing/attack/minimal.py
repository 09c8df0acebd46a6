"""Minimal adversarial perturbations by the penalty method (the paper's section 4.1).

    D(x, l) = x + r,  r = argmin |r|_2  subject to  f(x + r) = l,  x + r in [lower, upper]

is approximated by minimising `c |r| + loss(x + r, l)` in the box for several c and keeping the
smallest r that reaches the class l; `refine` then shrinks it to a local minimum of |r|.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from intriguing import compiling, predict, sharding
from intriguing.attack import budget, feed, goals, inputs, memory, networks
from intriguing.attack.inputs import Task
from intriguing.attack.lanes import Finished
from intriguing.attack.problem import AttackOptions, Problem, most_norm
from intriguing.attack.result import AttackResult, finish
from intriguing.progress import Progress

if TYPE_CHECKING:
    from jax.typing import ArrayLike
    from jaxtyping import Array, Float, Int

FINISHED_PIXELS = 2**18  # of the passes of images that are refined at once, on each device


@compiling.jit(static_argnames=("mesh", "refine_steps", "num_margins", "unroll"))
def _finish(task, problem: Problem, found: Finished, mesh, refine_steps, num_margins, unroll):
    """Refines what the search found and judges it by a fresh forward pass; an `AttackResult`.

    Args:
      task: (view, logits_fn, unit, scale) of a `Task`, and the longest norm that counts.
      problem: rows of it, in the user's units, without their goal, and the goal.
    """

    def on_device(shared, problem: Problem, found: Finished):
        (*task, max_norm), goal = shared
        return finish(
            task, problem._replace(goal=goal), found, max_norm, refine_steps=refine_steps,
            num_margins=num_margins, unroll=unroll,
        )  # fmt: skip

    run = sharding.map_devices(on_device, mesh)
    return run((task, problem.goal), problem._replace(goal=None), found)


def num_finished_at_once(how: feed.How, plan: budget.Plan, num_pixels: int, asked) -> int:
    """Images that are refined at once: their passes, one per margin, are no more than the lanes.

    All of GoogLeNet's lanes at once, nine margins each, filled 24 GB. Unless a number of lanes was
    `asked` for, small images are more at once, since each call has its cost.
    """
    num_shards = sharding.num_shards(how.mesh)
    passes = how.num_lanes // num_shards
    if asked is None:
        passes = max(passes, FINISHED_PIXELS // num_pixels)
    return num_shards * max(1, passes // (plan.num_margins if plan.refine_steps else 1))


def minimal_perturbation(
    logits_fn: Callable[[Any], Float[Array, " batch classes"]],
    images: Float[ArrayLike, " batch *pixels"] | Mapping | Sequence,
    labels: Int[ArrayLike, " batch"] | Sequence[int] | None = None,
    *,
    goal: goals.Goal | str = "targeted",
    bounds: tuple[Any, Any] = (0.0, 1.0),
    scale: Any = None,
    mesh: Mesh | None = None,
    progress: Callable[[int], None] | bool | None = None,
    **options: Any,
) -> AttackResult:
    """Finds, for each image, the smallest change that makes the model answer what is wanted.

    Args:
      logits_fn: images (batch, ...) -> logits (batch, classes), row by row. If it is a
        `jax.tree_util.Partial` its arrays are inputs of the compiled attack, and it is compiled
        once for all of them; so are those that any other callable closes over, read at each call.
        A logit of -inf masks a class.
      images: (batch, ...) floating, inside `bounds`; or a pytree of such arrays, as `logits_fn`
        takes it; integer and categorical features are out. The solver works in float32, or float64.
      labels: (batch,) integers: the target classes or, untargeted, the classes to leave.
      goal: "targeted", "untargeted", or `attack.from_margin(...)`.
      bounds: (lower, upper), scalars or arrays that broadcast to `images`; of a pytree's structure
        for a bound each. A pixel whose bounds meet never moves.
      scale: positive, broadcasts to one image (a pytree of them for a pytree): `|r / scale|` is
        what is minimised, and what `l2_norm` holds.
      mesh: devices to use (`sharding.make_mesh`), that divide the images or, by a model axis over
        all of them, the weights; default: one.
      progress: called now and then with the number of images done; True shows a bar.
      **options: fields of `AttackOptions`; `budget`, evaluations per image, is the one to know.

    Returns:
      An `AttackResult` of numpy arrays, in the order of `images`; what it holds does not depend on
      `num_lanes` or `mesh`, but for rounding.

    Raises:
      InputError: arrays, bounds, options or a model that make no sense; the message says which.
      TypeError: an option that there is not.
    """
    options = AttackOptions(**options)
    inputs.check_options(options)
    mesh = inputs.check_mesh(mesh)
    task = inputs.check_task(logits_fn, images, labels, goal, bounds, scale)
    task = task._replace(logits_fn=sharding.place(task.logits_fn, mesh))
    networks.check_rows(task)
    model, problem = task.model(), task.in_units()
    plan = budget.choose(options, predict.is_smooth(model, problem.images), problem.goal)
    plan = plan.within(task.clean.shape, problem.goal).limited(task.unit, task.scale)
    num_lanes = _choose_num_lanes(model, problem, plan.search, options.num_lanes, mesh)
    slow_loops = predict.has_slow_loops(model, problem.images, mesh)
    how = feed.How(plan.search, num_lanes, mesh, slow_loops)
    tell = _never_fewer(progress, len(problem.images))
    num_rows = num_finished_at_once(how, plan, problem.images[0].size, options.num_lanes)
    static = {"mesh": mesh, "unroll": slow_loops, **plan.refinement()}
    seen = (*task.seen(), most_norm(options))
    _check_trace(model, task, seen, how, num_rows, static)
    parts = feed.SOLVERS[options.solver](model, problem, how, tell, options.utilisation)
    return _finish_all(task, seen, parts, num_rows, tell, static)


def _choose_num_lanes(model, problem: Problem, search, num_lanes: int | None, mesh: Mesh) -> int:
    """Lanes over all devices: as are asked for, or as many as suit the device and fit there."""
    chosen = feed.choose_num_lanes(problem.images, num_lanes, mesh)
    free = memory.free_bytes(mesh.devices.flat[0])
    if num_lanes is not None or free is None:
        return chosen
    most = memory.lanes_that_fit(model, problem, search, free)
    return min(chosen, most * sharding.num_shards(mesh))


def _check_trace(model, task: Task, seen, how: feed.How, num_rows: int, static) -> None:
    """Traces the network as it will be run: with its gradient, and refined."""

    def like(array, num: int):
        return jax.ShapeDtypeStruct((num, *array.shape[1:]), array.dtype)

    images, _, _, labels, goal = task.problem
    num_lanes = how.num_lanes // sharding.num_shards(how.mesh)
    flat = jax.ShapeDtypeStruct((num_lanes, images[0].size), images.dtype)
    networks.check_trace(
        memory.first_step, model, goal, like(images, num_lanes), like(labels, num_lanes), flat,
        how.search,
    )  # fmt: skip
    number, count = (jax.ShapeDtypeStruct((num_rows,), t) for t in (images.dtype, jnp.int32))
    found = Finished(
        index=count, best_image=like(images.reshape(len(images), -1), num_rows), best_norm=number,
        best_penalty=number, num_evals=count, non_finite=jax.ShapeDtypeStruct((num_rows,), bool),
        trace=jax.ShapeDtypeStruct((num_rows, how.search.num_traced), images.dtype),
    )  # fmt: skip
    rows = Problem(*(like(array, num_rows) for array in task.problem[:-1]), goal)
    networks.check_trace(_finish, seen, rows, found, **static)


def _never_fewer(progress, num_images: int) -> Callable[[int], None]:
    """Tells `progress` how many are found, or also refined and judged: the most so far.

    All of them only when all are judged: until then the last one is not done.
    """
    num_told, bar = 0, None
    if progress is True:
        bar = Progress(num_images, "attacking")
        progress = bar.update

    def tell(num_found: int, is_judged: bool = False) -> None:
        nonlocal num_told
        num_told = max(num_told, num_found if is_judged else min(num_found, num_images - 1))
        if callable(progress):
            progress(num_told)
        if bar is not None and num_told == num_images:
            bar.close()

    return tell


def _finish_all(task: Task, seen, parts, num_rows: int, progress, static: dict) -> AttackResult:
    """`_finish` for `num_rows` found rows at a time, put in the order of the images."""
    num, results, num_done = len(task.problem.images), None, 0
    for found in feed.in_batches(parts, num_rows, num):
        rows = np.arange(num_rows) % len(found.index)  # padded: one compilation serves for all
        padded = Finished(*(field[rows] for field in found))
        batch = _finish(seen, task.problem.rows(padded.index), padded, **static)
        if results is None:
            results = [np.zeros((num, *part.shape[1:]), part.dtype) for part in batch]
        for whole, part in zip(results, batch, strict=True):
            whole[found.index] = np.asarray(part)[: len(found.index)]
        num_done += len(found.index)
        progress(num_done, True)
    result = AttackResult(*results)
    return result._replace(adv_images=task.view.unpack(result.adv_images))
