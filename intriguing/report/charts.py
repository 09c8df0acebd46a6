"""Charts as PNG files: histograms of distortion, curves. Drawn as `figures` draws."""

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from intriguing.report.figures import ACCENT, DPI, HEADING_SIZE, INK, MARGIN, QUIET, save_png

_COLORS = ("#2f5d8a", "#c2622d", "#3f8f5b", "#8a4f9e", "#a8893a", "#5b6b7a")


class Line(NamedTuple):
    """A curve: its label ("" for none in the legend), a y per x, and perhaps a spread around it."""

    label: str
    y: Sequence[float]
    spread: Sequence[float] | None = None
    dashed: bool = False  # drawn grey, for a control


def curves(
    path: str | os.PathLike,
    x: Sequence[float],
    panels: Mapping[str, Sequence[Line]],
    title: str,
    x_label: str,
    y_label: str,
) -> None:
    """Draw panels of curves beside each other, on one scale; fractions on the y axis, 0 to 1.

    Args:
      path: the PNG file.
      x: shared by all curves.
      panels: heading -> curves; those of the same position have the same colour in each panel.
      title, x_label, y_label: of the figure and its axes.

    Raises:
      InputError: the file cannot be written.
    """
    figure = Figure(figsize=(420 * len(panels) / DPI, 420 / DPI), dpi=DPI)
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for panel, (heading, lines) in zip(axes, panels.items(), strict=True):
        for line, color in zip(lines, _COLORS * len(lines), strict=False):
            y = np.asarray(line.y)
            style = {"color": QUIET, "linestyle": "--"} if line.dashed else {"color": color}
            panel.plot(x, y, linewidth=2, label=line.label or None, **style)
            if line.spread is not None:
                band = np.asarray(line.spread)
                panel.fill_between(x, y - band, y + band, color=color, alpha=0.18, linewidth=0)
        panel.set_title(heading, size=15, loc="left", color=INK)
        panel.set_xlabel(x_label, size=14)
        panel.set_ylim(0, 1.02)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=13, color=QUIET)
        if any(line.label for line in lines):
            panel.legend(fontsize=13, frameon=False)
    axes[0].set_ylabel(y_label, size=14)
    figure.suptitle(title, x=0.01, ha="left", size=HEADING_SIZE, weight="bold", color=INK)
    figure.tight_layout()
    save_png(figure, path)


def distortion_histogram(
    path: str | os.PathLike,
    distortions: Mapping[str, np.ndarray],
    title: str,
    *,
    paper_means: Mapping[str, float] | None = None,
) -> None:
    """Draw one histogram per model, beneath each other on one scale, with the means marked.

    Args:
      path: the PNG file.
      distortions: model name -> (n,) distortions; those that are not finite (nothing was found) are
        left out of the bars and of the mean, and counted.
      title: stands above the panels.
      paper_means: model name -> the paper's av. min. distortion, a dashed grey line.

    Raises:
      InputError: the file cannot be written.
    """
    found = {name: np.asarray(d)[np.isfinite(d)] for name, d in distortions.items()}
    paper_means = paper_means or {}
    right_end = max(
        [d.max() for d in found.values() if d.size] + list(paper_means.values()) + [1e-3]
    )
    figure = Figure(figsize=(960 / DPI, (110 + 110 * len(found)) / DPI), dpi=DPI)
    panels = figure.subplots(len(found), 1, sharex=True, squeeze=False)[:, 0]
    for panel, (name, values) in zip(panels, found.items(), strict=True):
        _draw_histogram(panel, values, np.linspace(0, 1.02 * right_end, 61))
        num_all = np.size(distortions[name])
        panel.set_ylabel(name, rotation=0, ha="right", va="bottom", size=16, color=INK)
        count = f"n = {num_all}" if values.size == num_all else f"{values.size} of {num_all} found"
        panel.text(-0.008, 0.24, count, transform=panel.transAxes, ha="right", size=13, color=QUIET)
        _mark_means(panel, values, paper_means.get(name))
    panels[-1].set_xlabel("distortion: RMS change of a pixel, pixels in [0, 1]", size=15)
    figure.suptitle(title, x=MARGIN / 960, ha="left", size=HEADING_SIZE, weight="bold", color=INK)
    figure.tight_layout(h_pad=0.4)
    save_png(figure, path)


def intervals(
    path: str | os.PathLike, spans: Mapping[str, tuple[np.ndarray, np.ndarray]], title: str
) -> None:
    """Draw, per model, one line per image from a lower to an upper bound of its distance.

    Args:
      path: the PNG file.
      spans: model name -> (lower (n,), upper (n,)), positive; images are sorted by their upper end.
      title: stands above the panels.

    Raises:
      InputError: the file cannot be written.
    """
    figure = Figure(figsize=(960 / DPI, (110 + 100 * len(spans)) / DPI), dpi=DPI)
    panels = figure.subplots(len(spans), 1, sharex=True, squeeze=False)[:, 0]
    for panel, (name, (lower, upper)) in zip(panels, spans.items(), strict=True):
        order = np.argsort(upper)
        rows = np.arange(len(order))
        room = 60 / max(len(order), 1)  # points of a panel's height for each image: no overlap
        panel.hlines(rows, lower[order], upper[order], color=ACCENT, alpha=0.35,
                     linewidth=min(1.5, room))  # fmt: skip
        marks = {"marker": "|", "linestyle": "", "markersize": np.clip(room, 1, 4)}
        panel.plot(lower[order], rows, color=INK, **marks)
        panel.plot(upper[order], rows, color=ACCENT, **marks)
        panel.set_ylabel(name, rotation=0, ha="right", size=16, color=INK)
        panel.set_xscale("log")
        panel.set_yticks([])
        panel.spines[["left", "top", "right"]].set_visible(False)
        panel.tick_params(labelsize=14, color=QUIET)
    panels[-1].set_xlabel("distortion: RMS change of a pixel, pixels in [0, 1]", size=15)
    figure.suptitle(title, x=MARGIN / 960, ha="left", size=HEADING_SIZE, weight="bold", color=INK)
    figure.tight_layout(h_pad=0.4)
    save_png(figure, path)


def _draw_histogram(panel, values: np.ndarray, edges: np.ndarray) -> None:
    panel.hist(values, edges, color=ACCENT, alpha=0.55)
    panel.set_xlim(edges[0], edges[-1])
    panel.set_yticks([])
    panel.spines[["left", "top", "right"]].set_visible(False)
    panel.tick_params(labelsize=14, color=QUIET)


def _mark_means(panel, values: np.ndarray, paper_mean: float | None) -> None:
    means = []
    if values.size:
        means.append((values.mean(), f"mean {values.mean():#.3g}", INK, "-"))
    if paper_mean is not None:
        means.append((paper_mean, f"paper {paper_mean:g}", QUIET, "--"))
    means.sort()
    for i, (mean, text, color, linestyle) in enumerate(means):
        panel.axvline(mean, color=color, linestyle=linestyle, linewidth=1.8)
        # The smaller one's text goes to its left: the two never meet, however near they are.
        to_left = len(means) == 2 and i == 0
        panel.annotate(
            text,
            (mean, 1),
            xycoords=panel.get_xaxis_transform(),
            xytext=(-4 if to_left else 4, 0),
            textcoords="offset points",
            ha="right" if to_left else "left",
            va="bottom",
            size=14,
            color=color,
        )
