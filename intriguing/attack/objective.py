"""What the attack minimises: the distance, the loss, and where the search on c begins."""

import jax
import jax.numpy as jnp
import optax


def norm_and_unit(r):
    """|r| and its gradient r / |r|; both 0 at r = 0."""
    squared = jnp.dot(r, r)
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


def evaluate(logits_fn, images, target_labels):
    """Cross-entropy, its gradient, and the margin of the target, for each row: one pass."""
    logits, vjp = jax.vjp(logits_fn, images)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, target_labels)
    target = jax.nn.one_hot(target_labels, logits.shape[-1], dtype=bool)
    (grad,) = vjp(jax.nn.softmax(logits) - target)
    others = jnp.where(target, -jnp.inf, logits).max(axis=-1)
    return loss, grad, jnp.where(target, logits, 0).sum(axis=-1) - others


def penalty_objective(logits_fn, image, target_label, penalty_weight, squared_norm=False):
    """The function that is minimised for one image: z -> (|z - image| + loss / c, its gradient).

    The paper's `c |r| + loss` divided by c: the same minimiser, on a scale that float32 can resolve
    for every c, so that one tolerance serves for all. Finite at z = image.
    """

    def value_and_grad(z):
        label = jnp.asarray(target_label).reshape(1)
        loss, loss_grad, _ = evaluate(logits_fn, z[None], label)
        distance, grad, _ = distance_term((z - image).ravel(), squared_norm)
        return distance + loss[0] / penalty_weight, (
            grad.reshape(z.shape) + loss_grad[0] / penalty_weight
        )

    return value_and_grad
