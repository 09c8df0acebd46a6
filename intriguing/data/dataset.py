"""Labelled images as NumPy arrays: embedded digits, idx, npz, image folders, any TFDS name.

Every loader ends in `check`, so whatever `load` returns is float32 NHWC in [0, 1] with labels that
fit its class names. Nothing here needs TensorFlow or a network, except a download that was asked
for. A user's mistake is one `InputError` line: what is wrong, where, and how to mend it.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from intriguing.data import published
from intriguing.data.files import (
    SPLITS,
    Request,
    Stored,
    find_idx,
    fit_image,
    load_idx,
    load_npz,
    require_path,
)
from intriguing.data.folders import load_image_folder
from intriguing.data.tfds import find_prepared, load_tfds
from intriguing.errors import InputError


class Dataset(NamedTuple):
    """Images with their labels, all of it in host memory.

    Attributes:
      images: float32 (num, height, width, channels), pixels in [0, 1], 1 or 3 channels.
      labels: int32 (num,), each an index into `class_names`.
      class_names: one name per class; its length is the number of classes.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]


def load(
    name: str,
    split: str,
    *,
    data_dir: str | None = None,
    download: bool = False,
    image_size: int | None = None,
    num_examples: int | None = None,
) -> Dataset:
    """Returns one split of a data set.

    Args:
      name: where the images come from.
        "digits": the 1,797 8x8 digits inside scikit-learn; needs no folder. Every fifth image of
          each class, in the file's order, is test (355 in all, 34 to 36 per class), the rest train
          (1,442, 140 to 147 per class): a rule needs no seed, and both splits have even classes.
        "mnist", "fashion_mnist": idx files in `<data_dir>/<name>` or `<data_dir>`, else what TFDS
          has prepared there, else the published files, which are fetched (11 and 30 MB).
        "idx": the four files of MNIST, Fashion-MNIST or KMNIST in `<data_dir>`, gzipped or not.
        "npz": `data_dir` is a .npz file or a folder that holds one; arrays x_train, y_train,
          x_test, y_test and perhaps class_names; pixels uint8, or floats in [0, 1].
        "image_folder": `<data_dir>/{train,test|val}/<class>/*`, or `<data_dir>/<class>/*`, or
          `<data_dir>/images/*` with a labels.csv (columns file, class_index, perhaps name) and
          perhaps ImageNet's synset_words.txt. Without train and test folders both splits return
          everything. Without `data_dir`, Imagenette's validation photographs are fetched (99 MB).
          Folders that are whole numbers are classes by these numbers. Classes take
          turns, so that `num_examples` cuts all of them alike. Unreadable files are skipped,
          counted and named in one warning.
        Any other name: a TFDS data set ("name", "name/config", "name:version") with features image
          and label, prepared as array_record in `<data_dir>` or `<data_dir>/tfds`; where it has no
          "test", or one without labels, its "validation" is the test split. TFDS shuffles when it
          prepares: the same images as in the idx files of MNIST, in another order, so indices do
          not carry over.
      split: "train" or "test".
      data_dir: folder of the data; None reads the environment variable INTRIGUING_DATA.
      download: fetch what is missing and published, into the user's cache folder
        (INTRIGUING_CACHE); of other TFDS names, let TFDS download and prepare it, which needs
        TensorFlow.
      image_size: pixels; every image is cut to its central square and resized, antialiased, to
        image_size x image_size. None keeps images as stored; an image folder needs it.
      num_examples: keep the first `num_examples` in stored order; None keeps all.

    Raises:
      InputError: the data are missing, damaged, not of this form, or fail `check`.
    """
    request = make_request(name, split, data_dir, download, image_size, num_examples)
    stored = LOADERS[name](request) if name in LOADERS else load_tfds(request, LOADERS)
    dataset = check(_to_dataset(stored), stored.where)
    if num_examples is not None:
        if num_examples > len(dataset.labels):
            has = len(dataset.labels)
            raise InputError(f"{name} {split}: has {has} examples, {num_examples} were asked for")
        dataset = take(dataset, slice(num_examples))
    if image_size is not None and dataset.images.shape[1:3] != (image_size, image_size):
        dataset = dataset._replace(images=_fit_arrays(dataset.images, image_size))
    return dataset


def make_request(
    name: str,
    split: str,
    data_dir: str | None,
    download: bool,
    image_size: int | None,
    num_examples: int | None = None,
) -> Request:
    """The arguments of `load` as loaders get them, without a default that is left open.

    Raises:
      InputError: a split or a number that cannot be.
    """
    if split not in SPLITS:
        raise InputError(f"split {split!r}: must be one of {', '.join(SPLITS)}")
    for field, value in {"image_size": image_size, "num_examples": num_examples}.items():
        if value is not None and value < 1:
            raise InputError(f"{field} is {value}: must be at least 1, or None")
    folder = data_dir or os.environ.get("INTRIGUING_DATA")
    root = Path(folder).expanduser() if folder else None
    return Request(name, split, root, download, image_size, num_examples)


def take(dataset: Dataset, indices: slice | Sequence[int] | np.ndarray) -> Dataset:
    """Returns the examples at `indices`: a slice, integers, or a boolean mask.

    Raises:
      InputError: an index is not in the data set.
    """
    where = indices if isinstance(indices, slice) else np.atleast_1d(np.asarray(indices))
    try:
        return dataset._replace(images=dataset.images[where], labels=dataset.labels[where])
    except IndexError as error:
        raise InputError(f"take: {error}; the data set has {len(dataset.labels)}") from error


def check(dataset: Dataset, where: str) -> Dataset:
    """Returns `dataset` unchanged if it is as `Dataset` describes.

    Args:
      dataset: what to look at.
      where: file or name that the error message starts with.

    Raises:
      InputError: wrong dtype or shape, no examples, counts that differ, pixels that are not finite
        or outside [0, 1], or a label without a class name; says which image is the first.
    """
    images, labels, class_names = dataset
    if images.dtype != np.float32 or labels.dtype != np.int32:
        raise InputError(
            f"{where}: images are {images.dtype} and labels {labels.dtype}, not float32 and int32"
        )
    if images.ndim != 4 or images.shape[3] not in (1, 3):
        raise InputError(
            f"{where}: images have shape {images.shape}, not (num, height, width, 1 or 3 channels)"
        )
    if labels.ndim != 1:
        raise InputError(f"{where}: labels have shape {labels.shape}, not (num,): one per image")
    if len(images) != len(labels):
        raise InputError(f"{where}: {len(images)} images but {len(labels)} labels: must be equal")
    if not images.size:
        raise InputError(f"{where}: no pixels, images have shape {images.shape}")
    _check_pixels(images, where)
    bad = (labels < 0) | (labels >= len(class_names))
    if bad.any():
        first = int(bad.argmax())
        raise InputError(
            f"{where}: image {first} has label {labels[first]}, outside 0..{len(class_names) - 1}:"
            " relabel or drop it, or name its class"
        )
    return dataset


def _check_pixels(images: np.ndarray, where: str) -> None:
    low, high = images.min(), images.max()  # NaN if any pixel is
    if low >= 0 and high <= 1:
        return
    bad = ~np.isfinite(images).all(axis=(1, 2, 3))
    if bad.any():
        raise InputError(f"{where}: image {bad.argmax()} has NaN or infinite pixels: drop it")
    bad = ((images < 0) | (images > 1)).any(axis=(1, 2, 3))
    raise InputError(
        f"{where}: pixels run from {low:.9g} to {high:.9g}, image {bad.argmax()} is the first"
        " outside [0, 1]: "
        + (
            "clip them"
            if max(-low, high - 1) < 1e-3
            else "scale them (0..255 as uint8 is scaled for you)"
        )
    )


def _to_dataset(stored: Stored) -> Dataset:
    images, labels, class_names, where = stored
    if images.dtype == np.uint8:
        images = np.divide(images, 255, dtype=np.float32)
    elif images.dtype.kind != "f":
        raise InputError(f"{where}: pixels are {images.dtype}: store uint8, or floats in [0, 1]")
    if labels.dtype.kind not in "biu" or (labels.astype(np.int32) != labels).any():
        raise InputError(f"{where}: labels are {labels.dtype}: store class numbers as integers")
    images = images[..., None] if images.ndim == 3 else images
    labels = labels[:, 0] if labels.shape[1:] == (1,) else labels
    return Dataset(
        images.astype(np.float32, copy=False), labels.astype(np.int32), tuple(class_names)
    )


def _fit_arrays(images: np.ndarray, size: int) -> np.ndarray:
    resized = np.empty((len(images), size, size, images.shape[3]), np.float32)
    for index, channel in np.ndindex(len(images), images.shape[3]):
        plane = Image.fromarray(np.ascontiguousarray(images[index, ..., channel]))
        resized[index, ..., channel] = fit_image(plane, size)
    return resized.clip(0, 1)  # the resampling weights add up to 1 only within rounding


def _load_digits(request: Request) -> Stored:
    from sklearn.datasets import load_digits  # takes a second to import

    digits = load_digits()
    is_test = np.zeros(len(digits.target), bool)
    for label in range(10):  # of the class, not of all: the file has rounds of ten
        is_test[np.flatnonzero(digits.target == label)[4::5]] = True
    chosen = is_test if request.split == "test" else ~is_test
    return Stored(digits.images[chosen] / 16, digits.target[chosen], "0123456789", "digits")


def _load_published(request: Request) -> Stored:
    """idx files in the data folder, what TFDS has prepared there, or the published files."""
    root = request.data_dir
    if root is not None and not root.exists():
        require_path(request)
    for folder in () if root is None else (root / request.name, root):
        if find_idx(folder, request.split, "images"):
            return load_idx(request._replace(data_dir=folder))
    if find_prepared(request):
        return load_tfds(request)
    try:
        folder = published.idx(request.name, request.download)
    except InputError as error:
        where = "no data folder" if root is None else f"no idx files in {root}"
        raise InputError(
            f"{request.name}: {where} (data_dir, --config.data.dir, or the environment variable"
            f" INTRIGUING_DATA); {error}"
        ) from error
    return load_idx(request._replace(data_dir=folder))


LOADERS = {
    "digits": _load_digits,
    "mnist": _load_published,
    "fashion_mnist": _load_published,
    "idx": load_idx,
    "npz": load_npz,
    "image_folder": load_image_folder,
}
