"""Pictures of attacks, for notebooks and papers: each function returns a matplotlib figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from intriguing import attack
from intriguing.errors import InputError

if TYPE_CHECKING:
    from jax.typing import ArrayLike
    from jaxtyping import Array, Float

COLUMNS = ("original", "difference", "adversarial")
MOST_SHOWN = 8  # rows of images


def _closed(figure: Figure) -> Figure:
    plt.close(figure)  # a notebook would show it once more
    return figure


def show(
    images: Float[ArrayLike, " batch *pixels"],
    result: attack.AttackResult,
    *,
    logits_fn: Callable[[Any], Float[Array, " batch classes"]] | None = None,
    class_names: Sequence[str] | None = None,
    rows: Sequence[int] | np.ndarray | None = None,
    magnify: float | None = None,
) -> Figure:
    """Original, difference and adversarial image side by side, a row each, as in figure 5.

    Args:
      images: (batch, height, width), with 1 or 3 channels at the end, or flat squares
        (batch, side * side): the attacked images, in [0, 1] (others are scaled to the widest).
      result: of the attack on them.
      logits_fn: the network that was attacked, for labels and confidence beneath.
      class_names: (classes,) names; default: the numbers.
      rows: which images; default: the first successes.
      magnify: factor of the difference, on mid-grey; default: until its largest pixel is 1/2.

    Raises:
      InputError: images of another shape, or no row to show.
    """
    originals, changed = _pictures(images), _pictures(result.adv_images)
    if originals.shape != changed.shape:
        raise InputError(f"show: images are {originals.shape}, the result's {changed.shape}")
    rows = np.flatnonzero(result.success)[:MOST_SHOWN] if rows is None else np.asarray(rows)
    if not len(rows):
        raise InputError("show: no image was made adversarial: name rows to show all the same")
    low, high = min(0.0, float(originals.min())), max(1.0, float(originals.max()))
    figure, axes = plt.subplots(
        len(rows), 3, figsize=(6.3, 0.2 + 2.5 * len(rows)), squeeze=False, layout="constrained"
    )
    for row, cells in zip(rows, axes, strict=True):
        difference = changed[row] - originals[row]
        factor = magnify or 0.5 / max(float(np.abs(difference).max()), 1e-12)
        pictures = (originals[row], np.clip(0.5 + factor * difference, 0, 1), changed[row])
        beneath = (
            _answer(logits_fn, images, row, class_names),
            f"x {factor:.3g}, L2 {result.l2_norm[row]:.3g}" if difference.any() else "no change",
            _answer(logits_fn, result.adv_images, row, class_names),
        )
        for cell, picture, text, place in zip(cells, pictures, beneath, range(3), strict=True):
            bounds = (0, 1) if place == 1 else (low, high)
            scaled = (picture - bounds[0]) / (bounds[1] - bounds[0])
            cell.imshow(np.clip(scaled, 0, 1), cmap="gray", vmin=0, vmax=1)
            cell.set_xticks([], [])
            cell.set_yticks([], [])
            cell.set_xlabel(text, fontsize=8)
    for cell, title in zip(axes[0], COLUMNS, strict=True):
        cell.set_title(title, fontsize=9)
    return _closed(figure)


def _pictures(images) -> np.ndarray:
    """(batch, height, width) or (batch, height, width, 3), floats."""
    images = np.asarray(images, np.float64)
    if images.ndim == 2:
        side = round(images.shape[1] ** 0.5)
        if side * side == images.shape[1]:
            images = images.reshape(-1, side, side)
    if images.ndim == 4 and images.shape[-1] == 1:
        images = images[..., 0]
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[-1] != 3):
        raise InputError(
            f"show: images have shape {images.shape}: (batch, height, width[, 1 or 3]) is needed"
        )
    return images


def _answer(logits_fn, images, row: int, class_names) -> str:
    if logits_fn is None:
        return ""
    values = np.asarray(logits_fn(np.asarray(images)[row : row + 1]), np.float64)[0]
    shares = np.exp(values - values.max())
    answer = int(values.argmax())
    name = str(answer) if class_names is None else str(class_names[answer])
    return f"{name.split(',')[0]}, {shares[answer] / shares.sum():.0%}"


def robustness_curve(
    curves: attack.RobustnessCurve | Mapping[str, attack.RobustnessCurve],
) -> Figure:
    """Robust accuracy against radius, of one network or of several by name; certified ones dashed.

    Args:
      curves: of `attack.robustness_curve`.
    """
    named = {"": curves} if isinstance(curves, attack.RobustnessCurve) else dict(curves)
    figure, axes = plt.subplots(figsize=(5.0, 3.4), layout="constrained")
    for name, curve in named.items():
        (line,) = axes.plot(curve.radii, curve.attacked, label=f"{name} attacked".strip())
        if curve.certified is not None:
            axes.plot(curve.radii, curve.certified, "--", color=line.get_color(),
                      label=f"{name} certified".strip())  # fmt: skip
    axes.set(xlabel="L2 radius", ylabel="robust accuracy", ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return _closed(figure)


def distortions(results: attack.AttackResult | Mapping[str, attack.AttackResult]) -> Figure:
    """How long the perturbations are: the share of images that one of that L2 norm is enough for.

    Failures never count as reached, so that a curve ends below 1 where there are some.

    Args:
      results: of one attack, or of several by name.
    """
    named = {"": results} if isinstance(results, attack.AttackResult) else dict(results)
    figure, axes = plt.subplots(figsize=(5.0, 3.4), layout="constrained")
    for name, result in named.items():
        norms = np.sort(result.l2_norm[result.success].astype(np.float64))
        shares = np.arange(1, len(norms) + 1) / max(len(result.success), 1)
        mean = f"mean {norms.mean():.4g}" if len(norms) else "none reached"
        label = f"{name}: {mean}" if name else mean
        axes.step(np.r_[0, norms], np.r_[0, shares], where="post", label=label)
    axes.set(xlabel="L2 norm of the perturbation", ylabel="share of images", ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return _closed(figure)
