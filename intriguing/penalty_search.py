"""The search on c, for one image: bracket geometrically, then bisect in log c (section 4.1).

c weighs the distortion in `c |r| + loss`, so that a larger c gives a smaller r. The smallest r that
still succeeds is at the largest c that does: the paper's "minimum c > 0", read literally, would
give the largest.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

EXPAND = 2.0  # first factor between values of c while there is no bracket; squared at every step
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


def advance(search: PenaltySearch, success: jax.Array) -> PenaltySearch:
    """Takes in whether the minimiser at the current c succeeded, and chooses the next c."""
    c = search.penalty_weight
    succeeded = jnp.where(success, jnp.maximum(c, search.succeeded), search.succeeded)
    failed = jnp.where(success, search.failed, jnp.minimum(c, search.failed))
    bracketed = (succeeded > 0) & jnp.isfinite(failed)
    outward = jnp.where(success, c * jnp.exp(search.log_step), c * jnp.exp(-search.log_step))
    middle = jnp.sqrt(succeeded) * jnp.sqrt(failed)
    penalty_weight = jnp.where(bracketed, middle, outward)
    log_step = jnp.where(bracketed, search.log_step, jnp.minimum(2 * search.log_step, 10.0))
    return PenaltySearch(penalty_weight, succeeded, failed, log_step)


def is_narrow(search: PenaltySearch) -> jax.Array:
    """Whether another bisection could not change the answer noticeably."""
    return search.failed <= search.succeeded * jnp.exp(SHRINK_LIMIT)
