"""Images that are decoded when they are asked for: a million need not fit in memory."""

import hashlib
import io
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from intriguing import identity
from intriguing.data.dataset import LOADERS, Dataset, load, make_request
from intriguing.data.files import DECODE_ERRORS, Request, decode_image
from intriguing.data.folders import list_image_folder, located
from intriguing.data.tfds import open_tfds, read_labels
from intriguing.errors import InputError
from intriguing.progress import logger

NUM_THREADS = min(16, os.cpu_count() or 1)  # that decode
Read = Callable[[Sequence[int]], tuple[np.ndarray, np.ndarray]]


class Source(NamedTuple):
    """Labelled images, read by index.

    Fields:
      read: indices -> (images float32 (num, height, width, channels) in [0, 1], readable (num,)
        bool); what cannot be read is all 0, and named once in a warning.
      labels: int32 (num,); class_names; names: what each image is called, a file below the folder
        or a number.
      digest: indices -> a hash of what these images are (of the bytes of their files, which are not
        decoded for it) and of what they are made into.
      listing: a hash of all names, labels and sizes of files: cheap, for sets that are too large to
        be read once more only to see that they are the same.
      is_indexed: labels are class numbers that the user gave, not a count of folders.
    """

    read: Read
    labels: np.ndarray
    class_names: tuple[str, ...]
    names: tuple[str, ...]
    digest: Callable[[Sequence[int]], str]
    listing: str
    is_indexed: bool = False


def open_source(name: str, split: str, *, image_size: int | None, data_dir: str | None = None,
                download: bool = False) -> Source:  # fmt: skip
    """Opens a data set of `data.load`: folders and TFDS are streamed, others held in memory.

    Nothing is decoded before it is asked for. TFDS has no list of labels: opening it reads all its
    files once.

    Raises:
      InputError: as `data.load`; images that are streamed and have no common size.
    """
    request = make_request(name, split, data_dir, download, image_size)
    if name == "image_folder":
        return _of_folder(request)
    if name not in LOADERS:
        return _of_tfds(request)
    return of_dataset(
        load(name, split, image_size=image_size, data_dir=data_dir, download=download)
    )


def of_dataset(dataset: Dataset) -> Source:
    """A data set in memory as a `Source`."""

    def read(indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        return dataset.images[np.asarray(indices)], np.ones(len(indices), bool)

    def digest(indices: Sequence[int]) -> str:
        rows = np.asarray(indices)
        return identity.of_arrays(dataset.images[rows], dataset.labels[rows])

    labels, names = dataset.labels, _numbers(dataset.labels)
    whole = identity.of_arrays(dataset.images, labels, dataset.class_names)
    return Source(read, labels, dataset.class_names, names, digest, whole)


def _of_folder(request: Request) -> Source:
    request = located(request)
    examples, class_names, is_indexed = list_image_folder(request)
    paths, labels = zip(*examples, strict=True)
    names = tuple(_name_of(path, request.data_dir) for path in paths)
    shape = (request.image_size, request.image_size, 3)

    def files(indices: Sequence[int]) -> Iterable[Path]:
        return (paths[index] for index in indices)

    def digest(indices: Sequence[int]) -> str:
        contents = (_bytes_of(path) for path in files(indices))
        return _digest(contents, [labels[i] for i in indices], request.image_size)

    read = _decoder(files, request.image_size, shape, names, request.data_dir)
    sizes = [path.stat().st_size if path.exists() else 0 for path in paths]
    listing = identity.of_arrays(names, labels, sizes, class_names, request.image_size or 0)
    source = Source(read, np.array(labels), tuple(class_names), names, digest, listing, is_indexed)
    return _checked(source, request.data_dir)


def _bytes_of(path: Path) -> bytes:
    """What a file holds; nothing if it cannot be read (`read` will say so)."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _digest(contents: Iterable[bytes], labels: Sequence[int], image_size: int | None) -> str:
    """Hash of encoded images, their labels, and the size that they are cut to."""
    found = hashlib.blake2b(digest_size=16)
    for content, label in zip(contents, labels, strict=True):
        found.update(hashlib.blake2b(content, digest_size=16).digest() + b"%d" % label)
    found.update(b"%d" % (image_size or 0))
    return found.hexdigest()


def _name_of(path: Path, root: Path) -> str:
    """The path below the folder: file names alone are often the same in every class."""
    below = (base for base in (root / "images", root) if path.is_relative_to(base))
    return path.relative_to(next(below, "/")).as_posix()


def _of_tfds(request: Request) -> Source:
    prepared = open_tfds(request, LOADERS)
    shape, size = prepared.image_shape, request.image_size
    if size is not None:
        shape = (size, size, shape[-1])
    if None in shape:
        raise InputError(
            f"{prepared.folder}: images differ in size: give one image_size"
            " (--config.data.image_size) to all"
        )

    def files(indices: Sequence[int]) -> Iterable[BinaryIO]:
        return (io.BytesIO(example["image"]) for example in prepared.read(indices))

    labels = read_labels(prepared)

    def digest(indices: Sequence[int]) -> str:
        contents = (example["image"] for example in prepared.read(indices))
        return _digest(contents, labels[np.asarray(indices)], size)

    names = _numbers(labels)
    read = _decoder(files, size, shape, names, prepared.folder)
    sizes = sorted((path.name, path.stat().st_size) for path in prepared.folder.iterdir())
    listing = identity.of_arrays(sizes, labels, prepared.class_names, size or 0)
    source = Source(read, labels, prepared.class_names, names, digest, listing)
    return _checked(source, prepared.folder)


def _numbers(labels: np.ndarray) -> tuple[str, ...]:
    return tuple(map(str, range(len(labels))))


def _checked(source: Source, where: Path) -> Source:
    """The source with labels of int32. Raises InputError for one without a class name."""
    labels, num = source.labels, len(source.class_names)
    bad = (labels < 0) | (labels >= num)
    if bad.any():
        first = bad.argmax()
        raise InputError(
            f"{where}: label {labels[first]} of {source.names[first]} has no class name: there are"
            f" {num}"
        )
    return source._replace(labels=labels.astype(np.int32))


def _decoder(files: Callable[[Sequence[int]], Iterable[Path | BinaryIO]], image_size: int | None,
             shape: tuple[int, int, int], names: Sequence[str], where: Path) -> Read:  # fmt: skip
    """The `read` of a source whose images are files: `files(indices)` gives one for each index.

    Images are cut and resized to `image_size`, if there is one, and must have `shape` then.
    """
    warned: set[str] = set()

    def decode(file: Path | BinaryIO) -> np.ndarray | None:
        try:
            return decode_image(file, image_size, shape[-1])
        except DECODE_ERRORS:
            return None

    def read(indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        images = np.zeros((len(indices), *shape), np.float32)
        readable = np.ones(len(indices), bool)
        with ThreadPoolExecutor(NUM_THREADS) as threads:  # the decoders work outside Python's lock
            decoded = enumerate(threads.map(decode, files(indices)))
            for row, pixels in decoded:
                if pixels is None:
                    readable[row] = False
                elif pixels.shape != shape:
                    found = (
                        f"image {names[indices[row]]} is {pixels.shape}, not {shape} as promised"
                    )
                    raise InputError(
                        f"{where}: {found}: give one image_size (--config.data.image_size) to all"
                    )
                else:
                    images[row] = np.divide(pixels, 255, dtype=np.float32)
        broken = {names[i] for i, good in zip(indices, readable, strict=True) if not good} - warned
        if broken:
            logger.warning("%s: %d unreadable images are left out: %s", where, len(broken),
                           ", ".join(sorted(broken)))  # fmt: skip
            warned.update(broken)
        return images, readable

    return read


def thin(source: Source, num: int) -> Source:
    """`num` images of a source, spread evenly (folders list class after class); 0: all of them."""
    if not num or num >= len(source.labels):
        return source
    kept = np.linspace(0, len(source.labels) - 1, num).round().astype(int)
    return source._replace(
        read=lambda indices: source.read(kept[np.asarray(indices)]), labels=source.labels[kept],
        names=tuple(source.names[index] for index in kept),
        digest=lambda indices: source.digest(kept[np.asarray(indices)]),
        listing=f"{source.listing}, {num} of them",
    )  # fmt: skip
