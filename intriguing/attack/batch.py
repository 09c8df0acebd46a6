"""Attacks whose targets a rule chooses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from intriguing import predict
from intriguing.attack.inputs import check_labelled
from intriguing.attack.minimal import minimal_perturbation
from intriguing.attack.result import AttackResult, smaller
from intriguing.attack.targets import choose_targets

if TYPE_CHECKING:
    from jax.typing import ArrayLike
    from jaxtyping import Array, Float, Int, Key


def attack_batch(
    logits_fn: Callable[[Any], Float[Array, " batch classes"]],
    images: Float[ArrayLike, " batch *pixels"],
    labels: Int[ArrayLike, " batch"] | Sequence[int],
    *,
    targets: str = "random",
    key: Key[Array, ""] | None = None,
    indices: Int[ArrayLike, " batch"] | Sequence[int] | None = None,
    target_class: int | None = None,
    **options: Any,
) -> tuple[AttackResult, Int[np.ndarray, " batch"]]:
    """Chooses targets by a rule and attacks; returns (result, target labels (batch,) int32).

    Args:
      logits_fn, images, options: as in `minimal_perturbation`.
      labels: (batch,) true classes.
      targets: a rule of `choose_targets`; "untargeted": any wrong class, and the target labels are
        what the network answers in the end; or "best": every wrong class is tried, and the smallest
        success is kept (classes - 1 times the work).
      key, indices, target_class: as in `choose_targets`; the default key is that of seed 0.

    Raises:
      InputError: as `minimal_perturbation`; labels of another shape or dtype, or of no class.
    """
    images, labels = check_labelled(logits_fn, images, labels)
    logits = predict.logits(logits_fn, images)
    if targets == "untargeted":
        result = minimal_perturbation(logits_fn, images, labels, goal="untargeted", **options)
        # What the network answers; where it was not moved, what it would have answered next.
        outputs = predict.logits(logits_fn, result.adv_images)
        outputs[np.arange(len(labels)), labels] = -np.inf
        return result, outputs.argmax(axis=1).astype(np.int32)
    key = jax.random.key(0) if key is None else key
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
