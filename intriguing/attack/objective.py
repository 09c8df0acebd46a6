"""What the attack minimises: the distance, the loss, and where the search on c begins."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from intriguing.attack.goals import NAMED, Goal, Pull
from intriguing.solver.products import dot

ROUNDING = 16  # units in the last place of the largest logit
# Of the clean image, in the units of a loss that does not know the logits' own; where one of
# several margins is enough, a smoother loss looks at more of them.
FIRST_MARGIN, FIRST_MARGIN_OF_UNION = 20.0, 10.0


def norm_and_unit(r):
    """|r| and its gradient r / |r|; both 0 at r = 0."""
    squared = dot(r, r)
    norm = jnp.sqrt(squared)
    return norm, r / jnp.where(squared > 0, norm, 1.0)


def distance_term(r, squared_norm: bool):
    """The first term of the objective, |r| or |r|^2, its gradient, and |r|."""
    norm, unit = norm_and_unit(r)
    return (norm**2, 2 * r, norm) if squared_norm else (norm, unit, norm)


def first_penalty(loss_grad):
    """Half the norm of the loss gradient at x: about the c at which two classes draw level.

    Between two classes the loss is log(1 + exp(-margin)): its gradient is half that of the margin
    where they meet, and about all of it at x. Stationarity of c |r| + loss says c = |grad loss|.
    """
    norm, _ = norm_and_unit(loss_grad)
    return jnp.where(jnp.isfinite(norm) & (norm > 1e-6), 0.5 * norm, 1.0).astype(norm.dtype)


class Asks(NamedTuple):
    """What a search asks of an evaluation, one entry per row.

    Fields:
      scale: of the outputs in the loss; where it is 0 it is chosen so that this margin becomes
        `FIRST_MARGIN`.
      margin: whether the margin's gradient is asked for, in place of the loss's.
      towards: of a union's margins that of this class, or for -1 - k the k-th nearest.
    """

    scale: jax.Array
    margin: jax.Array
    towards: jax.Array


class Evaluation(NamedTuple):
    """Loss, margin and a gradient (batch, ...) of rows, and the scale (batch,) of the loss.

    `rounding`: a smaller margin might not be confirmed by another pass; `pulled`: the margin whose
    gradient it is, if it is one's; `towards` which class.
    """

    loss: jax.Array
    grad: jax.Array
    margin: jax.Array
    scale: jax.Array | None = None
    rounding: jax.Array | None = None
    pulled: jax.Array | None = None
    towards: jax.Array | None = None


def evaluate(logits_fn, goal: Goal, images, labels, asks=None) -> Evaluation:
    """The goal's loss, its gradient, and the margin, for each row: one pass.

    Args:
      asks: what a search asks for; None: the loss's gradient.
    """
    outputs, vjp = jax.vjp(logits_fn, images)
    if asks is None:
        seen = goal.read(outputs, labels)
        return Evaluation(seen.loss, vjp(seen.loss_grad)[0], seen.margin)
    margin = jnp.abs(goal.read(outputs, labels).margin)
    usable = jnp.isfinite(margin) & (margin > 0)
    wanted = FIRST_MARGIN_OF_UNION if goal.is_union else FIRST_MARGIN
    first = jnp.where(usable, wanted / jnp.where(usable, margin, 1.0), 1.0)
    scale = jnp.where(asks.scale > 0, asks.scale, first.astype(asks.scale.dtype))
    seen = goal.read(outputs, labels, scale)
    pull = Pull(seen.margin, seen.margin_grad, asks.towards)
    if goal.is_union:
        pull = goal.pull(outputs, labels, asks.towards)
    choose = asks.margin.reshape(-1, *[1] * (outputs.ndim - 1))
    (grad,) = vjp(jnp.where(choose, pull.margin_grad, seen.loss_grad))
    rounding = rounding_of(outputs, goal).astype(scale.dtype)
    return Evaluation(seen.loss, grad, seen.margin, scale, rounding, pull.margin, pull.towards)


def rounding_of(outputs, goal: Goal):
    """Per row, by how much logits of this size may differ when the same image is seen again."""
    if not goal.needs_classes:
        return jnp.zeros(len(outputs), outputs.dtype)
    size = jnp.where(jnp.isfinite(outputs), jnp.abs(outputs), 0).max(axis=-1)
    return ROUNDING * jnp.finfo(outputs.dtype).eps * size


def penalty_objective(
    logits_fn, image, label, penalty_weight, squared_norm=False, goal=NAMED["targeted"]
):
    """The function that is minimised for one image: z -> (|z - image| + loss / c, its gradient).

    The paper's `c |r| + loss` divided by c: the same minimiser, on a scale that float32 can resolve
    for every c, so that one tolerance serves for all. Finite at z = image.
    """

    def value_and_grad(z):
        loss, loss_grad, *_ = evaluate(logits_fn, goal, z[None], jnp.asarray(label)[None])
        distance, grad, _ = distance_term((z - image).ravel(), squared_norm)
        return distance + loss[0] / penalty_weight, (
            grad.reshape(z.shape) + loss_grad[0] / penalty_weight
        )

    return value_and_grad
