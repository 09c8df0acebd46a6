"""Figures as PNG files: grids of images, first-layer filters; `charts` has curves and histograms.

Drawn through Figure objects (no pyplot, no display, no global state); the same data gives the same
bytes, and a file is whole or absent.
"""

import io
import math
import os
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from intriguing import atomic

DPI = 72  # one point is one pixel, so that sizes below are pixels throughout
INK, QUIET, ACCENT = "#1b1f24", "#6a737d", "#2f5d8a"
_TITLE_SIZE, HEADING_SIZE, _LABEL_SIZE, _CAPTION_SIZE = 26, 21, 19, 15
MARGIN, _GAP, _LINE_HEIGHT = 24, 4, 1.3
_CHAR_WIDTH = 0.6  # of the font size: a little more than the mean letter of DejaVu Sans


class ImageRow(NamedTuple):
    """A row of images: its label (at the left; may hold line breaks) and captions beneath each."""

    label: str
    images: np.ndarray  # (n, height, width, 1 or 3), in [0, 1]; shown clipped to it
    captions: Sequence[str] | None = None


class ImageGroup(NamedTuple):
    """Rows that belong together, example above example, under one heading ("" for none)."""

    heading: str
    rows: Sequence[ImageRow]


def image_grid(
    path: str | os.PathLike, groups: Sequence[ImageGroup], title: str, *, cell_pixels: int = 112
) -> None:
    """Draw groups of image rows beneath each other: originals above adversarial ones, for instance.

    Image pixels are enlarged by a whole factor, to about `cell_pixels` wide, and never resampled.

    Raises:
      InputError: the file cannot be written.
      ValueError: a row's images are not (n, height, width, 1 or 3), or its captions are not n.
    """
    canvas = _PixelCanvas()
    rows = [row for group in groups for row in group.rows]
    left = MARGIN + max(
        (canvas.text_width(row.label, _LABEL_SIZE) + 16 for row in rows if row.label), default=0
    )
    canvas.write(MARGIN, title, _TITLE_SIZE, weight="bold")
    for group in groups:
        canvas.y += 14
        canvas.write(MARGIN, group.heading, HEADING_SIZE)
        for row in group.rows:
            _draw_row(canvas, left, row, cell_pixels)
    canvas.save(path)


def _draw_row(canvas: "_PixelCanvas", left: int, row: ImageRow, cell_pixels: int) -> None:
    strip, cell_width = _strip(row.images, cell_pixels)
    canvas.write_beside(left - 16, strip.shape[0], row.label, _LABEL_SIZE)
    canvas.paste(left, strip)
    if row.captions is not None:
        max_chars = max(1, int(cell_width / (_CHAR_WIDTH * _CAPTION_SIZE)))
        captions = [textwrap.fill(str(caption), max_chars) for caption in row.captions]
        centres = [left + (cell_width + _GAP) * i + cell_width / 2 for i in range(len(row.images))]
        canvas.y += 2
        canvas.write_centred(centres, captions, _CAPTION_SIZE)
    canvas.y += _GAP


def _strip(images: np.ndarray, cell_pixels: int) -> tuple[np.ndarray, int]:
    """Images beside each other on white: uint8 (height, width, 3), and the width of one."""
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(f"images must be (n, height, width, 1 or 3), not {images.shape}")
    scale = max(1, round(cell_pixels / images.shape[2]))
    pixels = np.rint(255 * np.clip(images, 0, 1)).astype(np.uint8)
    pixels = np.broadcast_to(pixels, (*images.shape[:3], 3))
    pixels = pixels.repeat(scale, axis=1).repeat(scale, axis=2)
    pixels = np.pad(pixels, ((0, 0), (0, 0), (0, _GAP), (0, 0)), constant_values=255)
    return np.concatenate(list(pixels), axis=1)[:, :-_GAP], scale * images.shape[2]


class _PixelCanvas:
    """A white page written from the top down; its size is known when all is on it.

    Pixels are counted from the top left corner; `y` is where the next thing goes.
    """

    def __init__(self) -> None:
        self.y = MARGIN
        self._right = 0
        self._figure = Figure(dpi=DPI)
        self._renderer = FigureCanvasAgg(self._figure).get_renderer()
        self._texts = []
        self._pastes = []

    def text_width(self, text: str, size: int, **style) -> int:
        probe = self._figure.text(0, 0, text, size=size, **style)
        width = probe.get_window_extent(self._renderer).width
        probe.remove()
        return math.ceil(width)

    def write(self, x: float, text: str, size: int, **style) -> None:
        if text:
            self._put(x, self.y, text, size, ha="left", **style)
            self.y += round(_text_height(text, size)) + 8
            self._right = max(self._right, x + self.text_width(text, size, **style))

    def write_beside(self, right: float, height: int, text: str, size: int) -> None:
        top = self.y + (height - _text_height(text, size)) / 2
        self._put(right, top, text, size, ha="right", color=QUIET)

    def write_centred(self, centres: Sequence[float], texts: Sequence[str], size: int) -> None:
        for centre, text in zip(centres, texts, strict=True):
            self._put(centre, self.y, text, size, ha="center")
        self.y += round(max(_text_height(text, size) for text in texts)) + 6

    def _put(self, x: float, y: float, text: str, size: int, **style) -> None:
        style = {"color": INK, "linespacing": _LINE_HEIGHT - 0.1, **style}
        self._texts.append((x, y, text, {"size": size, "va": "top", **style}))

    def paste(self, x: int, pixels: np.ndarray) -> None:
        self._pastes.append((x, self.y, pixels))
        self.y += pixels.shape[0]
        self._right = max(self._right, x + pixels.shape[1])

    def save(self, path: str | os.PathLike) -> None:
        width, height = self._right + MARGIN, self.y + MARGIN
        self._figure.set_size_inches(width / DPI, height / DPI)
        for x, y, pixels in self._pastes:
            self._figure.figimage(pixels[::-1], x, height - y - pixels.shape[0], origin="lower")
        for x, y, text, style in self._texts:
            self._figure.text(x / width, 1 - y / height, text, **style)
        save_png(self._figure, path)


def _text_height(text: str, size: int) -> float:
    return _LINE_HEIGHT * size * (text.count("\n") + 1)


def save_png(figure: Figure, path: str | os.PathLike) -> None:
    """Draw to a PNG file: the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    atomic.write_atomic(path, buffer.getvalue())


def filters(
    path: str | os.PathLike, weights: np.ndarray, image_shape: tuple[int, ...], title: str
) -> None:
    """Draw what each unit of a first layer looks for: zero is mid-grey, each unit on its own scale.

    Args:
      path: the PNG file.
      weights: (n_inputs, n_units).
      image_shape: (height, width) or (height, width, channels), n_inputs values in all.
      title: stands above the grid, which is about square.

    Raises:
      InputError: the file cannot be written.
    """
    height, width, channels = (*image_shape, 1)[:3]
    images = np.asarray(weights, np.float64).T.reshape(-1, height, width, channels)
    largest = np.abs(images).max(axis=(1, 2, 3), keepdims=True)
    images = 0.5 + 0.5 * images / np.where(largest > 0, largest, 1)
    num_columns = math.ceil(math.sqrt(len(images)))
    rows = [
        ImageRow("", images[start : start + num_columns])
        for start in range(0, len(images), num_columns)
    ]
    image_grid(path, [ImageGroup("", rows)], title, cell_pixels=56)
