"""What an attack returns, and how what a search found becomes it: refined, and judged anew."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from intriguing.attack import view as views
from intriguing.attack.goals import is_valid
from intriguing.attack.lanes import Finished
from intriguing.attack.problem import Problem
from intriguing.attack.refine import num_passes, refine
from intriguing.metrics import distortion, l2_norm

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

# A search ends beside a boundary, where another pass of the network may round to the other side:
# the perturbation is then made longer, by the least of these shares that this pass confirms.
LENGTHENED = (1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03)


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
      trace: (batch, evaluations) `l2_norm` of the best so far after each evaluation, infinity
        before the first success; (batch, 0) unless `trace=True` was asked for. The search's own
        judgement, but for the last.
    """

    adv_images: Float[np.ndarray, " batch *pixels"]
    success: Bool[np.ndarray, " batch"]
    distortion: Float[np.ndarray, " batch"]
    l2_norm: Float[np.ndarray, " batch"]
    penalty_weight: Float[np.ndarray, " batch"]
    num_evals: Int[np.ndarray, " batch"]
    status: Int[np.ndarray, " batch"]
    trace: Float[np.ndarray, " batch evaluations"]

    def to_dict(self) -> dict[str, np.ndarray]:
        """Its arrays by name; a trace only if there is one."""
        arrays = self._asdict()
        if not self.trace.shape[1]:
            del arrays["trace"]
        return arrays


def finish(task, problem: Problem, found: Finished, max_norm, *, refine_steps, num_margins, unroll):
    """Refines what the search found and judges it by a fresh pass; traceable, an `AttackResult`.

    Args:
      task: (view, logits_fn, unit, scale) of an `inputs.Task`.
      problem: in the user's units.
      found: rows of the search, in the solver's units; one for each of the problem.
      max_norm: a longer perturbation does not count; infinity: any does.
      refine_steps: 0: none.
      num_margins, unroll: of `refine`.
    """
    view, logits_fn, unit, scale = task
    images, labels, goal = problem.images, problem.labels, problem.goal
    in_units = problem
    if unit is not None:
        in_units = Problem(*((a / unit).astype(a.dtype) for a in problem[:3]), labels, goal)
    model = views.model_of(view, logits_fn, unit)
    judge = views.model_of(view, logits_fn, None)

    def in_pixels(z):
        """The user's pixels, as their dtype can hold them; those that did not move bit for bit."""
        moved = z if unit is None else z * unit
        moved = jnp.clip(moved, problem.lower, problem.upper)
        return jnp.where(z == in_units.images, images, view.rounded(moved))

    outputs = judge(images)
    there = goal.is_reached(outputs, labels)
    z = found.best_image.reshape(images.shape)
    adv_images = in_pixels(z)
    num_evals = found.num_evals
    if refine_steps:
        refined, margins = refine(
            model, in_units, z, num_steps=refine_steps, num_margins=num_margins, unroll=unroll
        )
        # Of the two, the one that the network calls adversarial; the refined one is smaller.
        refined = in_pixels(refined)
        worked = (margins > 0) & goal.is_reached(judge(refined), labels)
        adv_images = jnp.where(rows_of(worked, images), refined, adv_images)
        num_evals = num_evals + num_passes(goal, refine_steps, num_margins)
    adv_images, reached = _confirm(
        lambda adv_images: goal.is_reached(judge(adv_images), labels),
        lambda share: in_pixels(in_units.images + (1 + share) * (z - in_units.images)),
        adv_images, jnp.isfinite(found.best_norm),
    )  # fmt: skip
    norm = l2_norm((adv_images - images) if scale is None else (adv_images - images) / scale)
    reached &= norm <= max_norm
    non_finite = found.non_finite | ~is_valid(outputs)
    status = jnp.where(non_finite, AttackStatus.NON_FINITE, AttackStatus.NOT_REACHED)
    status = jnp.where(reached, AttackStatus.REACHED, status)
    status = jnp.where(there, AttackStatus.ALREADY_THERE, status)
    trace = found.trace * views.users_norm(1.0, unit, scale)
    rows = AttackResult(
        adv_images, reached, norm, norm, found.best_penalty, num_evals, status, trace
    )
    return _told(rows, images, there, found.num_evals)


def _told(rows: AttackResult, images, there, num_searched) -> AttackResult:
    """The rows as they are told: clean images where nothing is needed or was reached."""
    success = there | rows.success
    kept = there | ~rows.success  # rows that hold the clean image
    adv_images = jnp.where(rows_of(kept, images), images, rows.adv_images)
    norm = jnp.where(success, jnp.where(kept, 0.0, rows.l2_norm), jnp.inf)
    # While it is refined the search's best stands; in the end, what is told.
    after = jnp.arange(1, rows.trace.shape[1] + 1)[None]
    best = rows.trace.min(axis=1, initial=jnp.inf, keepdims=True)
    trace = jnp.where(after > num_searched[:, None], best, rows.trace)
    trace = jnp.where(after >= rows.num_evals[:, None], norm[:, None], trace)
    return rows._replace(
        adv_images=adv_images,
        success=success,
        distortion=jnp.where(success, distortion(images, adv_images), jnp.inf),
        l2_norm=norm,
        trace=trace,
        penalty_weight=jnp.where(kept, 0.0, rows.penalty_weight),
        status=rows.status.astype(jnp.int32),
    )


def _confirm(is_reached, lengthened, adv_images, claimed):
    """(adversarial images, whether they are): those that only the search saw so made longer."""

    def body(carry):
        tried, adv_images, reached = carry
        longer = lengthened(jnp.asarray(LENGTHENED, adv_images.dtype)[tried])
        now = claimed & ~reached & is_reached(longer)
        adv_images = jnp.where(rows_of(now, adv_images), longer, adv_images)
        return tried + 1, adv_images, reached | now

    def is_open(carry):
        tried, _, reached = carry
        return (tried < len(LENGTHENED)) & (claimed & ~reached).any()

    start = jnp.zeros((), jnp.int32), adv_images, is_reached(adv_images)
    return jax.lax.while_loop(is_open, body, start)[1:]


def rows_of(mask, images):
    """A mask (batch,) that broadcasts against images (batch, ...)."""
    return mask.reshape(-1, *[1] * (images.ndim - 1))


def smaller(first: AttackResult, second: AttackResult) -> AttackResult:
    """Of two attacks on the same images the smaller perturbation, row by row.

    Attacks with other options end in other local minima: that with `squared_norm=True`, say, and
    that without. `num_evals` counts both.
    """
    better = second.l2_norm < first.l2_norm
    rows = (
        np.where(rows_of(better, new), new, old) for new, old in zip(second, first, strict=True)
    )
    return AttackResult(*rows)._replace(num_evals=first.num_evals + second.num_evals)
