"""Results of attacks on disk, and the curve that summarises them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np

from intriguing import archive
from intriguing.atomic import io_error
from intriguing.attack.result import AttackResult, AttackStatus
from intriguing.errors import InputError

if TYPE_CHECKING:
    from jax.typing import ArrayLike
    from jaxtyping import Bool, Float


WHAT = "result of an attack"


def save(path: str | Path, result: AttackResult) -> None:
    """Writes a result to one .npz file, whole or not at all.

    Raises:
      InputError: the file cannot be written; a pytree of images, which the file has no form for.
    """
    if not jax.tree_util.treedef_is_leaf(jax.tree.structure(result.adv_images)):
        raise InputError("save: adv_images is a pytree: save its arrays, and the other fields")
    archive.write(path, result._asdict(), {"what": WHAT})


def load(path: str | Path) -> AttackResult:
    """Reads what `save` has written.

    Raises:
      InputError: no such file, a damaged one, or none of an attack's result.
    """
    path = Path(path).expanduser()
    try:
        found = archive.read(path)
    except FileNotFoundError as error:
        raise io_error("read", path, error) from error
    except archive.Damaged as error:
        raise InputError(f"{path}: no result of an attack, or damaged ({error})") from error
    if found.about.get("what") != WHAT or found.arrays.keys() != set(AttackResult._fields):
        raise InputError(f"{path}: no result of an attack, or one of another version")
    return AttackResult(**{name: np.array(array) for name, array in found.arrays.items()})


class RobustnessCurve(NamedTuple):
    """Per radius, shares of the images, (radii,) float64.

    Fields:
      radii: of L2 balls around the images.
      attacked: right, and no adversarial image found within the radius: an upper bound of the
        accuracy under attack.
      certified: right, and certified to stay so: a lower bound; None without bounds.
    """

    radii: Float[np.ndarray, " radii"]
    attacked: Float[np.ndarray, " radii"]
    certified: Float[np.ndarray, " radii"] | None


def robustness_curve(
    result: AttackResult,
    radii: Float[ArrayLike, " radii"] | Sequence[float],
    *,
    certified_radius: Float[ArrayLike, " batch"] | Sequence[float] | None = None,
    is_right: Bool[ArrayLike, " batch"] | Sequence[bool] | None = None,
) -> RobustnessCurve:
    """Robust accuracy against radius: what is left of the accuracy within each L2 ball.

    Args:
      result: of an untargeted attack on labelled images (or of targets="best"): an image that is
        wrong from the start counts as attacked at radius 0. An image whose attack failed counts as
        robust at every radius, which only an upper bound may.
      radii: (num,) not negative, in `l2_norm`'s units.
      certified_radius: (batch,) of `lipschitz.certified_radius`, for the curve beside it.
      is_right: (batch,) bool, which images the network has right; default: all whose attack did
        not find them ALREADY_THERE.

    Raises:
      InputError: radii below 0 or NaN, arrays of another length; a certificate that is longer than
        an adversarial perturbation.
    """
    radii = np.atleast_1d(np.asarray(radii, np.float64))
    if radii.ndim != 1 or not (radii >= 0).all():
        raise InputError("robustness_curve: radii must be numbers of 0 or more")
    norms = np.where(result.success, result.l2_norm, np.inf).astype(np.float64)
    right = result.status != AttackStatus.ALREADY_THERE
    if is_right is not None:
        right = _per_image(is_right, "is_right", len(norms)).astype(bool)
    attacked = (right & (norms > radii[:, None])).mean(axis=1)
    if certified_radius is None:
        return RobustnessCurve(radii, attacked, None)
    certified = _per_image(certified_radius, "certified_radius", len(norms)).astype(np.float64)
    if (broken := right & (certified > norms)).any():
        i = int(broken.argmax())
        raise InputError(
            f"robustness_curve: image {i} has certificate {certified[i]:g} and an adversarial"
            f" perturbation of {norms[i]:g}: they are not of the same network, images, or goal"
        )
    held = (right & (certified >= radii[:, None])).mean(axis=1)
    return RobustnessCurve(radii, attacked, held)


def _per_image(array, name: str, num: int) -> np.ndarray:
    array = np.asarray(array)
    if array.shape != (num,) or (array.dtype.kind == "f" and np.isnan(array).any()):
        raise InputError(f"robustness_curve: {name} needs one number per image, ({num},)")
    return array
