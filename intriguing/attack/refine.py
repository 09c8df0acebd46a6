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

import jax
import jax.numpy as jnp

from intriguing.attack.problem import Problem

SWEEPS = 12  # of coordinate ascent on the multipliers, for one set of free pixels
ROUNDS = 5  # changes of that set
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
        u = mu @ rows
        r = jnp.clip(u, lower, upper)
        q = jnp.dot(mu, offsets) - jnp.dot(u, r) + 0.5 * jnp.dot(r, r)
        # A pixel just at its bound counts as free: at mu = 0 most are, and will move.
        free_rows = jnp.where((u >= lower) & (u <= upper), rows, 0.0)
        gram = free_rows @ rows.T
        rest = offsets - rows @ r + gram @ mu
        scale = jnp.diagonal(gram)
        inverse = jnp.where(scale > 0, 1 / jnp.where(scale > 0, scale, 1.0), 0.0)

        def sweep(_, mu):
            for k in range(len(offsets)):
                gain = (rest[k] - gram[k] @ mu) * inverse[k]
                mu = mu.at[k].set(jnp.maximum(0.0, mu[k] + gain))
            return mu

        new_mu = jax.lax.fori_loop(0, SWEEPS, sweep, mu)
        better = q >= best_q
        next_mu = jnp.where(better, new_mu, 0.5 * (mu + best_mu))
        return next_mu, jnp.where(better, mu, best_mu), jnp.maximum(q, best_q)

    zero, nothing = jnp.zeros_like(offsets), jnp.full((), -jnp.inf, offsets.dtype)
    mu, _, _ = jax.lax.fori_loop(0, ROUNDS, newton, (zero, zero, nothing))
    return jnp.clip(mu @ rows, lower, upper)


def linearise(logits_fn, images, target_labels, num_margins):
    """Margins of the target over the `num_margins` nearest classes, and their gradients.

    Returns (margins (batch, k), gradients (batch, k, ...)).
    """
    logits, vjp = jax.vjp(logits_fn, images)
    num_classes = logits.shape[-1]
    target = jax.nn.one_hot(target_labels, num_classes, dtype=bool)
    nearest, classes = jax.lax.top_k(jnp.where(target, -jnp.inf, logits), num_margins)
    margins = jnp.where(target, logits, 0).sum(axis=-1, keepdims=True) - nearest

    def gradient(k):
        return vjp(target - jax.nn.one_hot(classes[:, k], num_classes, dtype=logits.dtype))[0]

    return margins, jnp.moveaxis(jax.vmap(gradient)(jnp.arange(num_margins)), 0, 1)


def refine(logits_fn, problem: Problem, adv_images, *, num_steps, num_margins, unroll=False):
    """Moves each adversarial image towards a local minimum of |r|; never to a larger |r|.

    Args:
      logits_fn: images (batch, ...) -> logits (batch, classes).
      problem: what the images are, and are to become.
      adv_images: (batch, ...); those that are not classified as their target are returned as they
        are, unless a step happens to make them so.
      num_steps: linearisations, each a forward pass and `num_margins` backward passes.
      num_margins: classes beside the target that a step takes into account, the nearest ones.
      unroll: write the steps out in place of a loop, for models that are slow inside one.

    Returns:
      (refined images, their margins (batch,)): the closest seen whose margin is positive.
    """
    images, lower, upper, target_labels = problem
    batch, shape = len(images), images.shape
    flat = functools.partial(jnp.reshape, shape=(batch, -1))
    x, low, high = flat(images), flat(lower - images), flat(upper - images)

    def margin_and_keep(best, r, margins):
        best_r, best_norm, best_margin = best
        norm, margin = jnp.linalg.norm(r, axis=-1), margins.min(axis=-1)
        better = (margin > 0) & (norm < best_norm)
        return (
            jnp.where(better[:, None], r, best_r),
            jnp.where(better, norm, best_norm),
            jnp.where(better, margin, best_margin),
        )

    def step(i, carry):
        r, best = carry
        z = jnp.clip(x + r, flat(lower), flat(upper)).reshape(shape)
        margins, gradients = linearise(logits_fn, z, target_labels, num_margins)
        best = margin_and_keep(best, r, margins)
        rows = gradients.reshape(batch, num_margins, -1)
        slack = jnp.maximum(SLACK[0] * SLACK[1] ** i, SLACK[2])
        slack = slack * jnp.linalg.norm(rows, axis=-1) * jnp.linalg.norm(r, axis=-1)[:, None]
        offsets = jnp.einsum("bkn,bn->bk", rows, r) - margins + slack
        new_r = jax.vmap(project_linear)(rows, offsets, low, high)
        return jnp.where(jnp.isfinite(new_r).all(axis=-1, keepdims=True), new_r, best[0]), best

    r = flat(adv_images) - x
    start = (r, jnp.full(batch, jnp.inf, x.dtype), jnp.zeros(batch, x.dtype))
    r, best = jax.lax.fori_loop(0, num_steps, step, (r, start), unroll=unroll)
    logits = logits_fn((x + r).reshape(shape))
    target = jax.nn.one_hot(target_labels, logits.shape[-1], dtype=bool)
    last = jnp.where(target, logits, 0).sum(axis=-1) - jnp.where(target, -jnp.inf, logits).max(-1)
    best_r, _, margin = margin_and_keep(best, r, last[:, None])
    return jnp.clip(x + best_r, flat(lower), flat(upper)).reshape(shape), margin
