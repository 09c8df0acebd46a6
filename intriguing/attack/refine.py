"""Shrinks adversarial perturbations to a local minimum of |r|: sequential quadratic steps.

The penalty method is exact only where the loss is flat across the class boundary; cross-entropy is
not: it goes on pulling once the target class has won, and on classes that no longer matter. So
after the search on c:

    minimise |z - x|^2  subject to  logit_target(z) - logit_k(z) >= 0 for all k,  z in the box

is solved by linearising the constraints at the present z and projecting x onto what results, again
and again (sequential quadratic programming with the Hessian of the objective; Nocedal and Wright
2006, chapter 18). For a linear model one step is exact.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from intriguing.attack.explore_steps import smallest_step
from intriguing.attack.goals import Goal
from intriguing.attack.objective import rounding_of
from intriguing.attack.problem import Problem
from intriguing.solver.products import dot, einsum, matmul

SWEEPS = 12  # of coordinate ascent on the multipliers, for one set of free pixels
ROUNDS = 5  # changes of that set
FAR = 1e15  # in place of an infinite margin, over a class that the network masks
SLACK = (1e-3, 0.25, 2e-5)  # first, factor per step, and last relative slack of the constraints


def project_linear(rows, offsets, lower, upper):
    """The smallest r in the box with rows @ r >= offsets, through its dual: one multiplier per row.

    r = clip(rows.T @ mu) for the mu >= 0 that maximise the concave dual

        q(mu) = mu . offsets - (u . r - |r|^2 / 2),  u = rows.T @ mu,  grad q = offsets - rows @ r.

    Semi-smooth Newton: with the set of pixels that are not clipped held fixed, q is a quadratic in
    mu, maximised by coordinate ascent (Hildreth 1957); then the set is renewed. Where q falls, the
    set has changed too much, and the step is halved.

    Args:
      rows: (k, n), gradients of the constraints.
      offsets: (k,).
      lower, upper: (n,), with lower <= 0 <= upper.

    Returns:
      r (n,).
    """

    def newton(_, carry):
        mu, best_mu, best_q = carry
        u = matmul(mu, rows)
        r = jnp.clip(u, lower, upper)
        q = dot(mu, offsets) - dot(u, r) + 0.5 * dot(r, r)
        # A pixel just at its bound counts as free: at mu = 0 most are, and will move.
        free_rows = jnp.where((u >= lower) & (u <= upper), rows, 0.0)
        gram = matmul(free_rows, rows.T)
        rest = offsets - matmul(rows, r) + matmul(gram, mu)
        scale = jnp.diagonal(gram)
        inverse = jnp.where(scale > 0, 1 / jnp.where(scale > 0, scale, 1.0), 0.0)

        def sweep(_, mu):
            for k in range(len(offsets)):
                gain = (rest[k] - dot(gram[k], mu)) * inverse[k]
                mu = mu.at[k].set(jnp.maximum(0.0, mu[k] + gain))
            return mu

        new_mu = jax.lax.fori_loop(0, SWEEPS, sweep, mu)
        better = q >= best_q
        next_mu = jnp.where(better, new_mu, 0.5 * (mu + best_mu))
        return next_mu, jnp.where(better, mu, best_mu), jnp.maximum(q, best_q)

    zero, nothing = jnp.zeros_like(offsets), jnp.full((), -jnp.inf, offsets.dtype)
    mu, _, _ = jax.lax.fori_loop(0, ROUNDS, newton, (zero, zero, nothing))
    return jnp.clip(matmul(mu, rows), lower, upper)


def linearise(logits_fn, goal: Goal, images, labels, num_margins):
    """The goal's nearest margins (batch, k), less what rounding may undo, and their gradients."""
    outputs, vjp = jax.vjp(logits_fn, images)
    margins, rows = goal.constraints(outputs, labels, num_margins)
    gradients = jax.vmap(lambda row: vjp(row)[0], in_axes=1, out_axes=1)(rows)
    return jnp.minimum(margins, FAR) - rounding_of(outputs, goal)[:, None], gradients


class Smallest(NamedTuple):
    """Per row: the smallest r (batch, n) that reached the goal, its norm, and its margin."""

    r: jax.Array
    norm: jax.Array
    margin: jax.Array

    def keep(self, r, margin) -> "Smallest":
        """This, or a smaller r whose margin is positive."""
        norm = jnp.linalg.norm(r, axis=-1)
        better = (margin > 0) & (norm < self.norm)
        return Smallest(
            jnp.where(better[:, None], r, self.r),
            jnp.where(better, norm, self.norm),
            jnp.where(better, margin, self.margin),
        )


def num_passes(goal: Goal, num_steps: int, num_margins: int) -> int:
    """Backward passes per image."""
    return num_steps * num_margins * (2 if goal.is_union else 1)


def refine(logits_fn, problem: Problem, adv_images, *, num_steps, num_margins, unroll=False):
    """Moves each adversarial image towards a local minimum of |r|; never to a larger |r|.

    Where one margin of several is enough (untargeted), the boundary that is nearest by its
    linearisation is followed, and then once more the second nearest.

    Args:
      logits_fn: images (batch, ...) -> outputs.
      problem: what the images are, and are to become.
      adv_images: (batch, ...); those that have not reached the goal are returned as they are,
        unless a step happens to make them so.
      num_steps: linearisations, each a forward pass and `num_margins` backward passes.
      num_margins: margins that a step takes into account, the nearest ones.
      unroll: write the steps out in place of a loop, for models that are slow inside one.

    Returns:
      (refined images, their margins (batch,)): the closest seen whose margin is positive.
    """
    images, lower, upper, labels, goal = problem
    batch, shape = len(images), images.shape
    flat = functools.partial(jnp.reshape, shape=(batch, -1))
    x, low, high = flat(images), flat(lower - images), flat(upper - images)

    def step(i, carry, rank: int):
        r, best = carry
        z = jnp.clip(x + r, flat(lower), flat(upper)).reshape(shape)
        margins, gradients = linearise(logits_fn, goal, z, labels, num_margins)
        best = best.keep(r, margins.max(axis=-1) if goal.is_union else margins.min(axis=-1))
        rows = gradients.reshape(batch, margins.shape[1], -1)
        slack = jnp.maximum(SLACK[0] * SLACK[1] ** i, SLACK[2])
        slack = jnp.where(i == num_steps - 1, SLACK[2], slack)  # the last one is to be exact
        slack = slack * jnp.linalg.norm(rows, axis=-1) * jnp.linalg.norm(r, axis=-1)[:, None]
        offsets = einsum("bkn,bn->bk", rows, r) - margins + slack
        if goal.is_union:
            rank_now = jnp.where(i == 0, rank, 0)
            nearest = functools.partial(_nearest_of, rank=rank_now)
            new_r = jax.vmap(nearest)(rows, offsets, low, high)
        else:
            new_r = jax.vmap(project_linear)(rows, offsets, low, high)
        return jnp.where(jnp.isfinite(new_r).all(axis=-1, keepdims=True), new_r, best.r), best

    start = flat(adv_images) - x
    best = Smallest(start, jnp.full(batch, jnp.inf, x.dtype), jnp.zeros(batch, x.dtype))
    for rank in (0, 1) if goal.is_union else (0,):
        follow = functools.partial(step, rank=rank)
        r, best = jax.lax.fori_loop(0, num_steps, follow, (start, best), unroll=unroll)
        outputs = logits_fn((x + r).reshape(shape))
        last = goal.read(outputs, labels).margin - rounding_of(outputs, goal)
        best = best.keep(r, last)
    return jnp.clip(x + best.r, flat(lower), flat(upper)).reshape(shape), best.margin


def _nearest_of(rows, offsets, lower, upper, rank):
    """The smallest r that fulfils one of the constraints; or the next smallest, of `rank` 1."""
    each = jax.vmap(smallest_step, (0, 0, None, None))(rows, offsets, lower, upper)
    missing = offsets - einsum("kn,kn->k", rows, each)
    tolerance = 1e-3 * jnp.abs(offsets)
    length = jnp.where(missing <= tolerance, jnp.linalg.norm(each, axis=-1), jnp.inf)
    return each[jnp.argsort(length)[jnp.minimum(rank, len(offsets) - 1)]]
