"""The search on c, for one image: bracket geometrically, then bisect in log c (section 4.1).

c weighs the distortion in `c |r| + loss`, so that a larger c gives a smaller r. The smallest r that
still succeeds is at the largest c that does: the paper's "minimum c > 0", read literally, would
give the largest.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

MIN_STEP = 0.1  # smallest step while there is no bracket, as a fraction of the largest
LIMIT = 30.0  # of |log c|: beyond it float32 cannot add the two terms
EDGE = 0.1  # fraction of the bracket, in log c, from either end that a guess stays away
EXPAND = 2.0  # first largest factor between values of c without a bracket; squared every time
SHRINK_LIMIT = 1e-2  # a bracket narrower than this (in log c) is not bisected any more


class PenaltySearch(NamedTuple):
    """State of the search, all scalars.

    Fields:
      penalty_weight: the c to try now.
      succeeded: the largest c that was seen to succeed, 0 if none.
      failed: the smallest c that was seen to fail, infinity if none.
      log_step: log of the factor to the next c while there is no bracket.
    """

    penalty_weight: jax.Array
    succeeded: jax.Array
    failed: jax.Array
    log_step: jax.Array


def start(penalty_weight: jax.Array) -> PenaltySearch:
    """A search whose first c is `penalty_weight`, a positive scalar."""
    c = jnp.asarray(penalty_weight)
    return PenaltySearch(c, jnp.zeros_like(c), jnp.full_like(c, jnp.inf),
                         jnp.full_like(c, jnp.log(EXPAND)))  # fmt: skip


def advance(search: PenaltySearch, margin: jax.Array) -> PenaltySearch:
    """Takes in the minimiser at the current c, and chooses the next c.

    Args:
      search: the state, whose `penalty_weight` was just solved for.
      margin: logit of the target minus the highest other logit, at the minimiser.

    Between two classes c = |grad loss| = sigmoid(-margin) |grad margin| at a minimiser, so that the
    minimiser at c / (2 sigmoid(-margin)) lies near the boundary, where margin = 0. The guess is
    kept within one `log_step` of c while there is no bracket, and well inside the bracket later.
    """
    c, success = search.penalty_weight, margin > 0
    succeeded = jnp.where(success, jnp.maximum(c, search.succeeded), search.succeeded)
    failed = jnp.where(success, search.failed, jnp.minimum(c, search.failed))
    bracketed = (succeeded > 0) & jnp.isfinite(failed)
    log_c = jnp.log(c)
    guess = log_c - jnp.log(2.0) - jax.nn.log_sigmoid(-margin)
    guess = jnp.where(jnp.isfinite(guess), guess, log_c)
    sign = jnp.where(success, 1.0, -1.0)
    away = jnp.clip(sign * (guess - log_c), MIN_STEP * search.log_step, search.log_step)
    low = jnp.log(jnp.where(bracketed, succeeded, 1.0))
    width = jnp.log(jnp.where(bracketed, failed, 1.0)) - low
    inside = jnp.clip(guess, low + EDGE * width, low + (1 - EDGE) * width)
    log_step = jnp.where(bracketed, search.log_step, jnp.minimum(2 * search.log_step, 10.0))
    log_c = jnp.clip(jnp.where(bracketed, inside, log_c + sign * away), -LIMIT, LIMIT)
    return PenaltySearch(
        jnp.exp(log_c).astype(c.dtype),
        succeeded, failed, log_step,
    )  # fmt: skip


def is_narrow(search: PenaltySearch) -> jax.Array:
    """Whether another bisection could not change the answer noticeably."""
    return search.failed <= search.succeeded * jnp.exp(SHRINK_LIMIT)
