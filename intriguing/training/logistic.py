"""A linear classifier on features that stay as they are: softmax regression to its minimum."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax


def fit(
    features,
    labels,
    num_classes: int,
    *,
    weight_decay: float,
    max_iters: int = 500,
    tol: float = 1e-4,
) -> dict[str, np.ndarray]:
    """Minimises mean cross-entropy + weight_decay / 2 * sum of squared weights by L-BFGS.

    The penalty is on the weights of standardised features: less their means, over the root of their
    mean variance. What is returned is for the features as they came.

    Args:
      features: (num, ...) floating, flattened here.
      labels: (num,) int.
      num_classes: units of the classifier.
      weight_decay: positive: the weights at the minimum are then unique.
      max_iters: steps, at most.
      tol: ends when the gradient is this short.

    Returns:
      {"kernel": (size, num_classes), "bias": (num_classes,)}.
    """
    features = jnp.asarray(features).reshape(len(features), -1)
    mean = features.mean(axis=0)
    features = features - mean[None]
    scale = jnp.maximum(jnp.sqrt((features**2).mean()), jnp.finfo(features.dtype).tiny)
    weights, bias = _minimise(
        features / scale, jnp.asarray(labels), num_classes, weight_decay, max_iters, tol
    )
    kernel = weights / scale
    return {"kernel": np.asarray(kernel), "bias": np.asarray(bias - mean @ kernel)}


@functools.partial(jax.jit, static_argnums=2)
def _minimise(features, labels, num_classes, weight_decay, max_iters, tol):
    def loss_fn(params):
        weights, bias = params
        logits = features @ weights + bias[None]
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean() + weight_decay / 2 * (weights**2).sum()

    solver = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(loss_fn)

    def step(carry):
        params, state, i, _ = carry
        value, grad = value_and_grad(params, state=state)
        updates, state = solver.update(
            grad, state, params, value=value, grad=grad, value_fn=loss_fn
        )
        return optax.apply_updates(params, updates), state, i + 1, optax.tree.norm(grad)

    def going(carry):
        return (carry[2] < max_iters) & (carry[3] > tol)

    dtype = features.dtype
    start = (jnp.zeros((features.shape[1], num_classes), dtype), jnp.zeros(num_classes, dtype))
    first = (start, solver.init(start), 0, jnp.asarray(jnp.inf, dtype))
    return jax.lax.while_loop(going, step, first)[0]
