"""Do images made for one model fool another? (The paper's section 4.2, tables 2 and 4.)"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from intriguing.errors import InputError
from intriguing.metrics import mean
from intriguing.predict import predict

if TYPE_CHECKING:
    from jax.typing import ArrayLike
    from jaxtyping import Array, Bool, Float, Int


def transfer_table(
    logits_fns: Mapping[str, Callable[[Any], Float[Array, " batch classes"]]],
    image_sets: Mapping[str, Float[ArrayLike, " batch *pixels"] | Callable[[], np.ndarray]],
    images: Float[ArrayLike, " batch *pixels"],
    labels: Int[ArrayLike, " batch"],
    *,
    counted: Mapping[str, Bool[ArrayLike, " batch"]] | None = None,
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Error that each set of changed images induces in each victim model.

    Args:
      logits_fns: victims, by name.
      image_sets: changed images by the name of what made them, (batch, ...) each, the changed
        versions of `images`; or functions that return them, called once each, so that only one
        set need be in memory.
      images: (batch, ...) clean.
      labels: (batch,) true classes.
      counted: by the name of a set, which of its images count, (batch,) bool; all, if it has no
        entry. An attack that failed leaves an image as it was: give `result.success`.

    Returns:
      Two tables, {set: [a number per victim]}: the error rate over all images that count, and over
      those of them whose clean version the victim has right (NaN if there are none).

    Raises:
      InputError: images that a network cannot take, or arrays of another length.
    """
    labels = np.asarray(labels)
    right = [predict(logits_fn, images) == labels for logits_fn in logits_fns.values()]
    over_all, over_right = {}, {}
    for name, changed in image_sets.items():
        where = np.asarray((counted or {}).get(name, np.ones(len(labels), bool)), bool)
        if callable(changed):
            changed = changed()
        if where.shape != labels.shape or len(changed) != len(labels):
            raise InputError(
                f"transfer_table: {name} has {len(changed)} images, of which {where.shape} count:"
                f" one for each of {len(labels)} labels is needed"
            )
        wrong = [predict(logits_fn, changed) != labels for logits_fn in logits_fns.values()]
        del changed
        over_all[name] = [mean(each, where) for each in wrong]
        pairs = zip(wrong, right, strict=True)
        over_right[name] = [mean(each, where=good & where) for each, good in pairs]
    return over_all, over_right
