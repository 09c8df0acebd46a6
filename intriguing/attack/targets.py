"""Which class an attack aims at: the rules that `attack.targets` chooses among."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from intriguing import keys
from intriguing.errors import InputError

if TYPE_CHECKING:
    from jax.typing import ArrayLike
    from jaxtyping import Array, Float, Int, Key

RULES = ("random", "runner_up", "least_likely", "fixed", "untargeted", "best")


@functools.partial(jax.jit, static_argnames="num_classes")
def random_targets(key: jax.Array, labels: jax.Array, indices: jax.Array, num_classes: int):
    """A wrong class for each image, uniform: (batch,) int32.

    Image i draws from `fold_in(key, indices[i])`, so its target does not depend on the batch.
    """

    base = keys.independent(key)

    def draw(index, label):
        offset = jax.random.randint(jax.random.fold_in(base, index), (), 1, num_classes)
        return (label + offset) % num_classes

    return jax.vmap(draw)(indices, labels).astype(jnp.int32)


def choose_targets(
    rule: str,
    logits: Float[ArrayLike, " batch classes"],
    labels: Int[ArrayLike, " batch"] | Sequence[int],
    *,
    key: Key[Array, ""] | None = None,
    indices: Int[ArrayLike, " batch"] | Sequence[int] | None = None,
    target_class: int | None = None,
) -> Int[Array, " batch"]:
    """Target class of each image under `rule`; "untargeted" and "best" have no single one.

    Args:
      rule: "random" (a wrong class, uniform), "runner_up" (the highest-logit wrong class),
        "least_likely" (the lowest-logit wrong class) or "fixed" (`target_class`).
      logits: (batch, classes) of the attacked model.
      labels: (batch,) true classes.
      key: PRNG key, for "random".
      indices: (batch,) index of each image in its data set; default 0, 1, ...
      target_class: int, for "fixed".

    Returns:
      (batch,) int32.

    Raises:
      InputError: unknown rule, or `target_class` missing or out of range.
    """
    num_images, num_classes = logits.shape
    labels = jnp.asarray(labels)
    if num_classes < 2:
        raise InputError(f"the model has {num_classes} class: an attack needs at least 2")
    right = jax.nn.one_hot(labels, num_classes, dtype=bool)
    if rule == "random":
        if key is None:
            raise InputError('targets="random" needs a key')
        indices = jnp.arange(num_images) if indices is None else jnp.asarray(indices)
        return random_targets(key, labels, indices, num_classes)
    if rule == "runner_up":
        return jnp.where(right, -jnp.inf, logits).argmax(axis=-1).astype(jnp.int32)
    if rule == "least_likely":
        return jnp.where(right, jnp.inf, logits).argmin(axis=-1).astype(jnp.int32)
    if rule == "fixed":
        if target_class is None or not 0 <= target_class < num_classes:
            raise InputError(f"attack.target_class is {target_class}: 0 to {num_classes - 1}")
        return jnp.full(num_images, target_class, jnp.int32)
    raise InputError(f'attack.targets is "{rule}": it must be one of {", ".join(RULES)}')
