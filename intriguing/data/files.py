"""Image files on disk: idx, npz, folders of images; and what all of the loaders have in common."""

import gzip
import math
import struct
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from intriguing import archive
from intriguing.errors import InputError, first_line

SPLITS = ("train", "test")
# Pillow reports a broken file as any of these, depending on the format and on where it breaks.
DECODE_ERRORS = (
    *(OSError, ValueError, SyntaxError, IndexError, EOFError, struct.error, zlib.error),
    Image.DecompressionBombError,
)
_ARCHIVE_ERRORS = (OSError, ValueError, EOFError, zlib.error)
MAX_CLASSES = 100_000  # a larger class number is a mistake
# What may be opened: others would start a decoder that nobody meant (an EPS starts Ghostscript).
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF")


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
    start, most = 4 + 4 * ndim, archive.most_bytes(path.stat().st_size)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(most)
            is_all = not file.read(1)
    except _ARCHIVE_ERRORS as error:
        raise InputError(f"{path}: unreadable ({first_line(error)}): fetch it again") from error
    if not is_all:
        raise InputError(f"{path}: unpacks to more than {most:,} bytes: fetch it again")
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
        arrays = archive.read_npz(path, (*required, "class_names"))
        keys = list(arrays) if arrays.keys() >= {*required} else list(archive.read_npz(path))
    except (FileNotFoundError, archive.Damaged) as error:
        raise InputError(f"{path}: unreadable as npz ({first_line(error)})") from error
    missing = [key for key in required if key not in keys]
    if missing:
        raise InputError(f"{path}: has no {', '.join(missing)}; its arrays are {', '.join(keys)}")
    return arrays


def _numbered_names(labels: Iterable[np.ndarray]) -> list[str]:
    # Over both splits: a class that only the other one has must not change the number of classes.
    # Labels that are no numbers are left to `_to_dataset`, which says so.
    highest = max((int(part.max(initial=0)) for part in labels if part.dtype.kind in "biu"),
                  default=0)  # fmt: skip
    if highest >= MAX_CLASSES:  # their names would fill the memory
        raise InputError(f"label {highest} is above {MAX_CLASSES - 1}: mend the labels")
    return [str(i) for i in range(1 + highest)]


def decode_image(
    file: Path | BinaryIO, image_size: int | None = None, channels: int = 3
) -> np.ndarray:
    """Decodes one JPEG, PNG, BMP, WebP, GIF (its first frame) or TIFF file, turned upright.

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
    with Image.open(file, formats=FORMATS) as opened:
        upright = ImageOps.exif_transpose(opened)
        image = _to_8bit(upright).convert("L" if channels == 1 else "RGB")
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
