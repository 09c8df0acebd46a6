"""Minimal adversarial perturbations by the penalty method (the paper's section 4.1).

    D(x, l) = x + r,  r = argmin |r|_2  subject to  f(x + r) = l,  x + r in [lower, upper]

is approximated by minimising `c |r| + loss(x + r, l)` in the box for several c and keeping the
smallest r that reaches the class l; `refine` then shrinks it to a local minimum of |r|.
"""

import enum
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from intriguing import predict, sharding
from intriguing.attack import feed
from intriguing.attack.inputs import check_arrays, check_labelled, check_options
from intriguing.attack.lanes import Finished, Options
from intriguing.attack.problem import AttackOptions, Problem
from intriguing.attack.refine import refine as refine_images
from intriguing.attack.targets import choose_targets
from intriguing.metrics import distortion, l2_norm


class AttackStatus(enum.IntEnum):
    """How the attack on one image ended."""

    REACHED = 0  # the target class was reached
    ALREADY_THERE = 1  # the clean image is classified as the target: r = 0
    NOT_REACHED = 2  # no point that was seen is classified as the target
    NON_FINITE = 3  # not reached, and the model gave NaN or infinity


class AttackResult(NamedTuple):
    """One row per image; rows of images that failed hold the clean image and infinite norms.

    Fields:
      adv_images: (batch, ...) inside the box.
      success: (batch,) bool, judged by a fresh forward pass on `adv_images`.
      distortion: (batch,) sqrt(mean((adv_images - images)^2)); infinity where not `success`, so
        that a mean that forgets to leave failures out cannot go unnoticed.
      l2_norm: (batch,) Euclidean norm of the perturbation; infinity where not `success`.
      penalty_weight: (batch,) the c that gave the perturbation; 0 if none did or none was needed.
      num_evals: (batch,) int32, evaluations of the loss (or of a margin) and its gradient.
      status: (batch,) int32, an `AttackStatus`.
    """

    adv_images: np.ndarray
    success: np.ndarray
    distortion: np.ndarray
    l2_norm: np.ndarray
    penalty_weight: np.ndarray
    num_evals: np.ndarray
    status: np.ndarray


@sharding.jit(static_argnames=("mesh", "refine_steps", "num_margins", "unroll"))
def _finish(logits_fn, problem: Problem, found: Finished, mesh, refine_steps, num_margins, unroll):
    """Refines what the search found and judges it by a fresh forward pass; an `AttackResult`."""

    def on_device(logits_fn, problem: Problem, found: Finished):
        images, target_labels = problem.images, problem.target_labels
        clean = logits_fn(images)
        there = predict.is_class(clean, target_labels)
        adv_images = found.best_image.reshape(images.shape)
        num_evals = found.num_evals
        if refine_steps:
            refined, margins = refine_images(
                logits_fn, problem, adv_images,
                num_steps=refine_steps, num_margins=num_margins, unroll=unroll,
            )  # fmt: skip
            # Of the two, the one that the network calls the target; the refined one is smaller.
            worked = (margins > 0) & predict.is_class(logits_fn(refined), target_labels)
            adv_images = jnp.where(_rows(worked, images), refined, adv_images)
            num_evals = num_evals + refine_steps * num_margins
        reached = jnp.isfinite(found.best_norm) | (refine_steps > 0)
        reached &= predict.is_class(logits_fn(adv_images), target_labels)
        success = there | reached
        kept = there | ~reached  # rows that hold the clean image
        adv_images = jnp.where(_rows(kept, images), images, adv_images)
        non_finite = found.non_finite | ~jnp.isfinite(clean).all(axis=-1)
        status = jnp.where(non_finite, AttackStatus.NON_FINITE, AttackStatus.NOT_REACHED)
        status = jnp.where(reached, AttackStatus.REACHED, status)
        status = jnp.where(there, AttackStatus.ALREADY_THERE, status)
        return AttackResult(
            adv_images=adv_images,
            success=success,
            distortion=jnp.where(success, distortion(images, adv_images), jnp.inf),
            l2_norm=jnp.where(success, l2_norm(adv_images - images), jnp.inf),
            penalty_weight=jnp.where(kept, 0.0, found.best_penalty),
            num_evals=num_evals,
            status=status.astype(jnp.int32),
        )

    run = sharding.map_devices(on_device, mesh)
    return run(logits_fn, problem, found)


def num_finished_at_once(num_lanes: int, num_margins: int, mesh: Mesh) -> int:
    """Images that are refined at once: their passes, one per margin, are no more than the lanes.

    All of GoogLeNet's lanes at once, nine margins each, filled 24 GB.
    """
    num_shards = sharding.num_shards(mesh)
    return num_shards * max(1, num_lanes // num_shards // num_margins)


def _rows(mask, images):
    """A mask (batch,) that broadcasts against images (batch, ...)."""
    return mask.reshape(-1, *[1] * (images.ndim - 1))


def minimal_perturbation(
    logits_fn: Callable[[jax.Array], jax.Array],
    images,
    target_labels,
    *,
    bounds=(0.0, 1.0),
    mesh: Mesh | None = None,
    progress: Callable[[int], None] | None = None,
    utilisation: Callable[[feed.Utilisation], None] | None = None,
    **options,
) -> AttackResult:
    """Finds, for each image, the smallest change that makes the model answer its target class.

    Args:
      logits_fn: images (batch, ...) -> logits (batch, classes), row by row. If it is a
        `jax.tree_util.Partial` its arrays are inputs of the compiled attack, and it is compiled
        once for all of them; so are those that any other callable closes over, read at each call.
      images: (batch, ...) floating, inside `bounds`.
      target_labels: (batch,) integers.
      bounds: (lower, upper), scalars or arrays that broadcast to `images`.
      mesh: devices to use (`sharding.make_mesh`); default: one. They divide either the images or,
        with a model axis over all of them, the weights that lie on it.
      progress: called now and then with the number of images done.
      utilisation: called once with the engine's lane steps.
      **options: fields of `AttackOptions`: refine, solver, num_penalties, maxiter, tol, rtol,
        history_size, squared_norm, refine_steps, num_margins, num_lanes.

    Returns:
      An `AttackResult` of numpy arrays, in the order of `images`; what it holds does not depend on
      `num_lanes` or `mesh`, but for rounding.

    Raises:
      InputError: arrays, bounds or options that make no sense; the message says which.
      TypeError: an option that there is not.
    """
    options = AttackOptions(**options)
    problem = check_arrays(logits_fn, images, target_labels, bounds)
    check_options(options)
    mesh = sharding.make_mesh(1) if mesh is None else mesh
    sharding.check_independent(mesh)
    logits_fn = sharding.place(predict.as_partial(logits_fn, problem.images), mesh)
    num_lanes = feed.choose_num_lanes(problem.images, options.num_lanes, mesh)
    slow_loops = predict.has_slow_loops(logits_fn, problem.images, mesh)
    how = feed.Search(Options.of(options), num_lanes, mesh, slow_loops)
    tell = _never_fewer(progress)
    parts = feed.SOLVERS[options.solver](logits_fn, problem, how, tell, utilisation)
    num_classes = jax.eval_shape(logits_fn, problem.images).shape[-1]
    num_margins = min(options.num_margins, num_classes - 1) if options.refine else 1
    num_rows = num_finished_at_once(num_lanes, num_margins, mesh)
    return _finish_all(
        logits_fn, problem, parts, num_rows, tell, mesh=mesh,
        refine_steps=options.refine_steps if options.refine else 0, num_margins=num_margins,
        unroll=slow_loops,
    )  # fmt: skip


def _never_fewer(progress: Callable[[int], None] | None) -> Callable[[int], None]:
    """Tells `progress` how many are found, or also refined and verified: the most so far."""
    num_told = 0

    def tell(num_found: int) -> None:
        nonlocal num_told
        num_told = max(num_told, num_found)
        if progress is not None:
            progress(num_told)

    return tell


def _finish_all(logits_fn, problem, parts, num_rows: int, progress, **options) -> AttackResult:
    """`_finish` for `num_rows` found rows at a time, put in the order of the images."""
    num, results, num_done = len(problem.images), None, 0
    for found in feed.in_batches(parts, num_rows, num):
        rows = np.arange(num_rows) % len(found.index)  # padded: one compilation serves for all
        padded = Finished(*(field[rows] for field in found))
        batch = _finish(logits_fn, problem.rows(padded.index), padded, **options)
        if results is None:
            results = [np.zeros((num, *part.shape[1:]), part.dtype) for part in batch]
        for whole, part in zip(results, batch, strict=True):
            whole[found.index] = np.asarray(part)[: len(found.index)]
        num_done += len(found.index)
        progress(num_done)
    return AttackResult(*results)


def attack_batch(
    logits_fn, images, labels, *, targets="random", key=None, indices=None, target_class=None,
    **options,
) -> tuple[AttackResult, np.ndarray]:  # fmt: skip
    """Chooses targets by a rule and attacks; returns (result, target labels (batch,) int32).

    Args:
      logits_fn, images, **options: as in `minimal_perturbation`.
      labels: (batch,) true classes.
      targets: a rule of `choose_targets`, or "best": every wrong class is tried, and the smallest
        success is kept (the untargeted minimum; classes - 1 times the work).
      key, indices, target_class: as in `choose_targets`.

    Raises:
      InputError: as `minimal_perturbation`; labels of another shape or dtype, or of no class.
    """
    images, labels = check_labelled(logits_fn, images, labels)
    logits = predict.logits(logits_fn, images)
    if targets != "best":
        target_labels = np.asarray(choose_targets(
            targets, logits, labels, key=key, indices=indices, target_class=target_class
        ))  # fmt: skip
        return minimal_perturbation(logits_fn, images, target_labels, **options), target_labels
    return _attack_every_class(logits_fn, images, labels, logits.shape[1], options)


def _attack_every_class(logits_fn, images, labels, num_classes, options):
    best, best_labels = None, None
    for offset in range(1, num_classes):
        target_labels = ((labels + offset) % num_classes).astype(np.int32)
        result = minimal_perturbation(logits_fn, images, target_labels, **options)
        if best is None:
            best, best_labels = result, target_labels
        else:
            best_labels = np.where(result.l2_norm < best.l2_norm, target_labels, best_labels)
            best = smaller(best, result)
    return best, best_labels


def smaller(first: AttackResult, second: AttackResult) -> AttackResult:
    """Of two attacks on the same images the smaller perturbation, row by row.

    Attacks with other options end in other local minima: that with `squared_norm=True`, say, and
    that without. `num_evals` counts both.
    """
    better = second.l2_norm < first.l2_norm
    rows = (np.where(_rows(better, new), new, old) for new, old in zip(second, first, strict=True))
    return AttackResult(*rows)._replace(num_evals=first.num_evals + second.num_evals)
