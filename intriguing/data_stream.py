"""Images that are decoded when they are asked for: ten thousand need not fit in memory."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from intriguing import data
from intriguing.data_files import (
    DECODE_ERRORS,
    Request,
    decode_image,
    list_image_folder,
)
from intriguing.errors import InputError
from intriguing.progress import logger


class Source(NamedTuple):
    """Labelled images, read by index.

    Fields:
      read: indices -> (images float32 (num, size, size, channels) in [0, 1], readable (num,) bool);
        what cannot be read is all 0, and named once in a warning.
      labels: int32 (num,); class_names; names: what each image is called, a file or a number.
    """

    read: Callable[[Sequence[int]], tuple[np.ndarray, np.ndarray]]
    labels: np.ndarray
    class_names: tuple[str, ...]
    names: tuple[str, ...]


def open_source(name: str, split: str, *, image_size: int | None, data_dir: str | None = None,
                download: bool = False) -> Source:  # fmt: skip
    """Opens a data set of `data.load`: a folder of images is streamed, others are held in memory.

    Raises:
      InputError: as `data.load`.
    """
    if name != "image_folder":
        dataset = data.load(
            name, split, image_size=image_size, data_dir=data_dir, download=download
        )
        return of_dataset(dataset)
    folder = data_dir or os.environ.get("INTRIGUING_DATA")
    root = Path(folder).expanduser() if folder else None
    examples, class_names = list_image_folder(Request(name, split, root, False, image_size, None))
    paths, labels = zip(*examples, strict=True)
    labels = np.array(labels, np.int32)
    if labels.max() >= len(class_names):
        raise InputError(
            f"{root}: label {labels.max()} of {paths[labels.argmax()].name} has no class name:"
            f" there are {len(class_names)}"
        )
    warned = set()

    def read(indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        images = np.zeros((len(indices), image_size, image_size, 3), np.float32)
        readable = np.ones(len(indices), bool)
        for row, index in enumerate(indices):
            try:
                pixels = decode_image(paths[index], image_size)
                images[row] = np.divide(pixels, 255, dtype=np.float32)
            except DECODE_ERRORS:
                readable[row] = False
        broken = {paths[i].name for i, good in zip(indices, readable, strict=True) if not good}
        if broken - warned:
            logger.warning("%s: %d unreadable images are left out: %s", root, len(broken - warned),
                           ", ".join(sorted(broken - warned)))  # fmt: skip
            warned.update(broken)
        return images, readable

    return Source(read, labels, tuple(class_names), tuple(path.name for path in paths))


def of_dataset(dataset: data.Dataset) -> Source:
    """A data set in memory as a `Source`."""

    def read(indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        return dataset.images[np.asarray(indices)], np.ones(len(indices), bool)

    names = tuple(str(i) for i in range(len(dataset.labels)))
    return Source(read, dataset.labels, dataset.class_names, names)
