"""Pictures of a report: an image file, or changed images beside what they were made from."""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

VIEWS = ("original", "difference", "adversarial")
_LEAST_WIDTH = 128  # pixels on the screen of an image that is smaller


class Tile(NamedTuple):
    """An image as it was, what was changed in it, and as it is: one thing to look at, three views.

    Fields: `views`, three arrays (height, width, 1 or 3) in [0, 1]; `captions`, one of each.
    """

    views: tuple[np.ndarray, np.ndarray, np.ndarray]
    captions: tuple[str, str, str]


class Picture(NamedTuple):
    """A PNG file with its caption, and what a page can show in its place.

    Fields: `path`; `caption`; `tiles`: shown, if there are any, where a reader can switch between
    the views of each.
    """

    path: Path
    caption: str
    tiles: Sequence[Tile] = ()


def compare(images, adv_images, labels: Sequence[str], adv_labels: Sequence[str]) -> list[Tile]:
    """A tile of each image; its difference on mid-grey, magnified until its largest is 1/2.

    Args:
      images, adv_images: (n, height, width, 1 or 3) in [0, 1].
      labels, adv_labels: n captions each.
    """
    tiles = []
    for image, adv, label, adv_label in zip(images, adv_images, labels, adv_labels, strict=True):
        difference = np.asarray(adv, np.float64) - image
        factor = 0.5 / (np.abs(difference).max() or 0.5)
        views = (np.asarray(image), 0.5 + factor * difference, np.asarray(adv))
        tiles.append(Tile(views, (label, f"difference × {factor:.3g}", adv_label)))  # noqa: RUF001
    return tiles


def to_html(picture: Picture, number: int, link: str) -> str:
    """The tiles of a picture: views are chosen for all of them, and by pointer or keys for one.

    Args:
      picture: with tiles.
      number: of the figure on its page; names its group of buttons.
      link: to its PNG file.
    """
    choices = "".join(
        f'<label><input type="radio" name="view{number}" value="{i}"{" checked" * (not i)}>'
        f"{view}</label>"
        for i, view in enumerate(VIEWS)
    )
    tiles = "\n".join(map(_tile, picture.tiles))
    return (
        f'<figure class="gallery"><fieldset><legend>All images:</legend>{choices}</fieldset>'
        f'<div class="tiles">\n{tiles}\n</div><figcaption>{escape(picture.caption)} '
        "On this page each difference is magnified as is written beneath it. "
        "Point at an image to see the adversarial one; press it, or ← and →, to go through its "
        f"views. {link}</figcaption></figure>"
    )


def _tile(tile: Tile) -> str:
    width = tile.views[0].shape[1]
    shown = width * max(1, round(_LEAST_WIDTH / width))  # whole factors: pixels stay square
    parts = []
    for view, pixels, caption in zip(VIEWS, tile.views, tile.captions, strict=True):
        data = base64.b64encode(_png(pixels)).decode()
        parts.append(
            f'<span class="view"><img alt="{view}" '
            f'src="data:image/png;base64,{data}"><span>{escape(caption)}</span></span>'
        )
    return (
        f'<button type="button" class="tile" data-view="0" style="width: {shown}px">'
        f"{''.join(parts)}</button>"
    )


def _png(pixels: np.ndarray) -> bytes:
    buffer, levels = io.BytesIO(), np.rint(255 * np.clip(pixels, 0, 1)).astype(np.uint8)
    Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels).save(buffer, "PNG")
    return buffer.getvalue()
