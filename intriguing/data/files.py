"""Image files on disk: idx, npz, folders of images; and what all of the loaders have in common."""

import csv
import gzip
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from intriguing.errors import InputError, first_line
from intriguing.progress import logger

SPLITS = ("train", "test")
# Pillow reports a broken file as any of these, depending on the format and on where it breaks.
DECODE_ERRORS = (
    *(OSError, ValueError, SyntaxError, IndexError, EOFError, struct.error, zlib.error),
    Image.DecompressionBombError,
)
_ARCHIVE_ERRORS = (OSError, ValueError, TypeError, EOFError, zlib.error, zipfile.BadZipFile)
_WANTED = (
    "expected <class>/*.jpg (or .png, ...) in it or in its train and test folders, or images/ with"
    " a labels.csv"
)
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


class Request(NamedTuple):
    """What `load` was asked for, as every loader gets it."""

    name: str
    split: str
    data_dir: Path | None
    download: bool
    image_size: int | None
    num_examples: int | None


class Stored(NamedTuple):
    """What every loader returns: arrays as they were stored, and where, for error messages."""

    images: np.ndarray
    labels: np.ndarray
    class_names: Iterable[str]
    where: str


def require_path(request: Request) -> Path:
    """The data folder that was asked for. Raises InputError if there is none."""
    if request.data_dir is None:
        raise InputError(
            f"{request.name}: needs a data folder: pass data_dir (--config.data.dir) or set the"
            " environment variable INTRIGUING_DATA"
        )
    if not request.data_dir.exists():
        raise InputError(f"{request.data_dir}: no such folder: mend data_dir or INTRIGUING_DATA")
    return request.data_dir


def load_idx(request: Request) -> Stored:
    """Reads the files of MNIST and its relatives."""
    root = require_path(request)
    path = _require_idx(root, request.split, "images")
    labels = {half: _read_idx(_require_idx(root, half, "labels"), ndim=1) for half in SPLITS}
    names = _numbered_names(labels.values())
    return Stored(_read_idx(path, ndim=3), labels[request.split], names, str(path))


def _idx_names(split: str, kind: str) -> list[str]:
    starts = {"train": ("train",), "test": ("t10k", "test")}[split]
    end = {"images": "idx3-ubyte", "labels": "idx1-ubyte"}[kind]
    stems = [f"{start}-{kind}{separator}{end}" for start in starts for separator in "-."]
    return [stem + packed for stem in stems for packed in ("", ".gz")]


def find_idx(folder: Path, split: str, kind: str) -> Path | None:
    """The idx file of a split's "images" or "labels" under any of its usual names."""
    paths = (folder / name for name in _idx_names(split, kind))
    return next((path for path in paths if path.is_file()), None)


def _require_idx(folder: Path, split: str, kind: str) -> Path:
    path = find_idx(folder, split, kind)
    if path is None:
        name = _idx_names(split, kind)[0]
        raise InputError(f"{folder}: no idx file of the {split} {kind}: put {name}[.gz] there")
    return path


def _read_idx(path: Path, ndim: int) -> np.ndarray:
    """Reads unsigned bytes: 0, 0, type 8, ndim, then big-endian uint32 sizes, then the values."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read()
    except _ARCHIVE_ERRORS as error:
        raise InputError(f"{path}: unreadable ({first_line(error)}): fetch it again") from error
    start = 4 + 4 * ndim
    if content[:4] != bytes((0, 0, 8, ndim)) or len(content) < start:
        raise InputError(
            f"{path}: starts with {content[:4].hex()}, an idx file of {ndim}-dimensional unsigned"
            f" bytes with 0000080{ndim}: fetch it again"
        )
    shape = struct.unpack(f">{ndim}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise InputError(
            f"{path}: header promises {shape} = {math.prod(shape)} values, file has"
            f" {len(content) - start}: fetch it again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def load_npz(request: Request) -> Stored:
    """Reads x_train, y_train, x_test, y_test and perhaps class_names from one .npz file."""
    path = require_path(request)
    if path.is_dir():
        found = sorted(path.glob("*.npz"))
        if len(found) != 1:
            names = ", ".join(file.name for file in found) or "none"
            raise InputError(f"{path}: must hold exactly one .npz file ({names}): name the file")
        path = found[0]
    arrays = _read_npz(path, (f"x_{request.split}", "y_train", "y_test"))
    labels = arrays[f"y_{request.split}"]
    if "class_names" in arrays:
        names = arrays["class_names"].astype(str).ravel().tolist()
    else:
        names = _numbered_names((arrays["y_train"], arrays["y_test"]))
    return Stored(arrays[f"x_{request.split}"], labels, names, str(path))


def _read_npz(path: Path, required: Sequence[str]) -> dict[str, np.ndarray]:
    try:
        with np.load(path) as archive:  # an .npy file has no `with`: TypeError
            keys = archive.files
            wanted = [key for key in (*required, "class_names") if key in keys]
            arrays = {key: archive[key] for key in wanted}
    except _ARCHIVE_ERRORS as error:
        raise InputError(f"{path}: unreadable as npz ({first_line(error)})") from error
    missing = [key for key in required if key not in keys]
    if missing:
        raise InputError(f"{path}: has no {', '.join(missing)}; its arrays are {', '.join(keys)}")
    return arrays


def _numbered_names(labels: Iterable[np.ndarray]) -> list[str]:
    # Over both splits: a class that only the other one has must not change the number of classes.
    # Labels that are no numbers are left to `_to_dataset`, which says so.
    highest = (int(part.max(initial=0)) for part in labels if part.dtype.kind in "biu")
    return [str(i) for i in range(1 + max(highest, default=0))]


def load_image_folder(request: Request) -> Stored:
    """Decodes a folder of images; unreadable ones are skipped, and named in one warning."""
    root = require_path(request)
    examples, names = list_image_folder(request)
    images, labels, skipped = [], [], []
    for path, label in examples:
        if len(images) == request.num_examples:
            break
        try:
            images.append(decode_image(path, request.image_size))
            labels.append(label)
        except DECODE_ERRORS:
            skipped.append(os.path.relpath(path, root))
    if skipped:
        logger.warning(
            "%s: skipped %d unreadable images: %s", root, len(skipped), ", ".join(skipped)
        )
    if not images:
        raise InputError(f"{root}: no readable image: {_WANTED}")
    return Stored(np.stack(images), np.array(labels), names, str(root))


def list_image_folder(request: Request) -> tuple[list[tuple[Path, int]], list[str]]:
    """Lists (path, label) of a folder of images, nothing decoded, and the class names.

    Raises:
      InputError: no image size, no image, or a labels.csv that is not one.
    """
    root = require_path(request)
    if request.image_size is None:
        raise InputError(f"{root}: an image folder needs image_size (--config.data.image_size)")
    if (root / "labels.csv").is_file():
        examples, names = _list_csv(root)
    else:
        examples, names = _list_classes(root, request.split)
    if not examples:
        raise InputError(f"{root}: no readable image: {_WANTED}")
    return examples, names


def _list_classes(root: Path, split: str) -> tuple[list[tuple[Path, int]], list[str]]:
    """Lists (path, label) with classes taking turns, and the class names of both splits."""
    folders = {"train": ("train",), "test": ("test", "val")}
    halves = {
        half: next(filter(None, (_class_files(root / name) for name in folders[half])), {})
        for half in SPLITS
    }
    if not any(halves.values()):
        halves = dict.fromkeys(SPLITS, _class_files(root))
    elif not halves[split]:
        wanted = " or ".join(f"{name}/<class>/" for name in folders[split])
        raise InputError(f"{root}: has no images in {wanted}: the {split} split needs them")
    names = sorted(set().union(*halves.values()))
    turns = sorted(
        (turn, names.index(name), path)
        for name, paths in halves[split].items()
        for turn, path in enumerate(paths)
    )
    return [(path, label) for _, label, path in turns], names


def _class_files(folder: Path) -> dict[str, list[Path]]:
    """Maps each subfolder that holds images to their sorted paths."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*/*")):
        hidden = path.name.startswith(".") or path.parent.name.startswith(".")
        if path.suffix.lower() in _IMAGE_SUFFIXES and not hidden:
            found.setdefault(path.parent.name, []).append(path)
    return found


def _list_csv(root: Path) -> tuple[list[tuple[Path, int]], list[str]]:
    path = root / "labels.csv"
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        reader = csv.DictReader(file)
        rows, columns = list(reader), reader.fieldnames or ()
    if not {"file", "class_index"} <= set(columns):
        raise InputError(f"{path}: needs columns file, class_index; it has {', '.join(columns)}")
    examples, named = [], {}
    for number, row in enumerate(rows, start=1):
        if not row["file"] or not (row["class_index"] or "").isdecimal():
            found = f"file {row['file']!r}, class_index {row['class_index']!r}"
            raise InputError(f"{path}: row {number} has {found}: needs a name and a number")
        label = int(row["class_index"])
        examples.append((root / "images" / row["file"], label))
        named[label] = row.get("name") or str(label)
    synset_words = root / "synset_words.txt"  # one "wnid name" line per class
    if synset_words.is_file():
        lines = synset_words.read_text(encoding="utf-8", errors="replace").splitlines()
        return examples, [line.partition(" ")[2] for line in lines]
    return examples, [named.get(i, str(i)) for i in range(1 + max(named, default=-1))]


def decode_image(
    file: Path | BinaryIO, image_size: int | None = None, channels: int = 3
) -> np.ndarray:
    """Decodes one JPEG, PNG, BMP or WebP file.

    Args:
      file: path, or open binary file.
      image_size: central square resized (antialiased) to this many pixels; None keeps the size.
      channels: 1 for grey, 3 for RGB. 16-bit grey is scaled to 8 bits, CMYK converted, and
        transparency laid over white.

    Returns:
      uint8 (height, width, channels).

    Raises:
      OSError, ValueError, SyntaxError, ...: what Pillow raises if the file is damaged.
    """
    with Image.open(file) as opened:
        image = _to_8bit(opened).convert("L" if channels == 1 else "RGB")
    if image_size is not None:
        image = fit_image(image, image_size)
    return np.array(image).reshape(image.height, image.width, channels)


def _to_8bit(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # Pillow's own conversion of 16 bits clips at 255
        return Image.fromarray(np.rint(np.asarray(image) / 257).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:  # below it lies whatever the editor left there
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA"))
    return image


def fit_image(image: Image.Image, size: int) -> Image.Image:
    """Cuts the central square and resizes it to `size` x `size`, antialiased, at one go."""
    # Bilinear never overshoots [0, 1].
    return ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
