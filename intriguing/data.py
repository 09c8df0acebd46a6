"""Labelled images as NumPy arrays: embedded digits, idx, npz, image folders, any TFDS name.

Every loader ends in `check`, so whatever `load` returns is float32 NHWC in [0, 1] with labels that
fit its class names. Nothing here needs TensorFlow or a network, except a download that was asked
for. A user's mistake is one `InputError` line: what is wrong, where, and how to mend it.
"""

import csv
import difflib
import gzip
import io
import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import jax
import numpy as np
from absl import logging
from PIL import Image, ImageOps

from intriguing.errors import InputError

SPLITS = ("train", "test")
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
_TFDS_NAME = re.compile(r"\w+(/[\w.+=-]+)?(:[\d.]+)?")  # name/config:version
_TFDS_READ_SIZE = 1024  # encoded examples held in memory at once
# Pillow reports a broken file as any of these, depending on the format and on where it breaks.
_DECODE_ERRORS = (
    *(OSError, ValueError, SyntaxError, IndexError, EOFError, struct.error, zlib.error),
    Image.DecompressionBombError,
)
_ARCHIVE_ERRORS = (OSError, ValueError, TypeError, EOFError, zlib.error, zipfile.BadZipFile)


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


class _Request(NamedTuple):
    """What `load` was asked for, as every loader gets it."""

    name: str
    split: str
    data_dir: Path | None
    download: bool
    image_size: int | None
    num_examples: int | None


class _Stored(NamedTuple):
    """What every loader returns: arrays as they were stored, and where, for error messages."""

    images: np.ndarray
    labels: np.ndarray
    class_names: Iterable[str]
    where: str


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
        "digits": the 1,797 8x8 digits inside scikit-learn; needs no folder. Every fifth image
          (index % 5 == 4) is test, the rest train: a fixed rule needs no seed, and takes test
          images from the whole file. Test has 21 to 52 images per class (the file's order repeats).
        "mnist": idx files in `<data_dir>/mnist` or `<data_dir>`, else TFDS's `mnist`.
        "idx": the four files of MNIST, Fashion-MNIST or KMNIST in `<data_dir>`, gzipped or not.
        "npz": `data_dir` is a .npz file or a folder that holds one; arrays x_train, y_train,
          x_test, y_test and perhaps class_names; pixels uint8, or floats in [0, 1].
        "image_folder": `<data_dir>/{train,test|val}/<class>/*`, or `<data_dir>/<class>/*`, or
          `<data_dir>/images/*` with a labels.csv (columns file, class_index, perhaps name) and
          perhaps ImageNet's synset_words.txt. Without train and test folders both splits return
          everything. Classes take turns, so that `num_examples` cuts all of them alike. Unreadable
          files are skipped, counted and named in one warning.
        Any other name: a TFDS data set ("name", "name/config", "name:version") with features image
          and label, prepared as array_record in `<data_dir>` or `<data_dir>/tfds`; where it has no
          "test", its "validation" is the test split. TFDS shuffles when it prepares: the same
          images as in the idx files of MNIST, in another order, so indices do not carry over.
      split: "train" or "test".
      data_dir: folder of the data; None reads the environment variable INTRIGUING_DATA.
      download: let TFDS download and prepare (needs TensorFlow and a network) what is missing.
      image_size: pixels; every image is cut to its central square and resized, antialiased, to
        image_size x image_size. None keeps images as stored; an image folder needs it.
      num_examples: keep the first `num_examples` in stored order; None keeps all.

    Raises:
      InputError: the data are missing, damaged, not of this form, or fail `check`.
    """
    if split not in SPLITS:
        raise InputError(f"split {split!r}: must be one of {', '.join(SPLITS)}")
    for field, value in {"image_size": image_size, "num_examples": num_examples}.items():
        if value is not None and value < 1:
            raise InputError(f"{field} is {value}: must be at least 1, or None")
    folder = data_dir or os.environ.get("INTRIGUING_DATA")
    root = Path(folder).expanduser() if folder else None
    loader = LOADERS.get(name, _load_tfds)
    stored = loader(_Request(name, split, root, download, image_size, num_examples))
    dataset = check(_to_dataset(stored), stored.where)
    if num_examples is not None:
        if num_examples > len(dataset.labels):
            has = len(dataset.labels)
            raise InputError(f"{name} {split}: has {has} examples, {num_examples} were asked for")
        dataset = take(dataset, slice(num_examples))
    if image_size is not None and dataset.images.shape[1:3] != (image_size, image_size):
        dataset = dataset._replace(images=_fit_arrays(dataset.images, image_size))
    return dataset


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


def batches(dataset: Dataset, batch_size: int, key: jax.Array | None = None) -> Iterator[Dataset]:
    """Yields the examples once, `batch_size` at a time; the last batch may be smaller.

    Args:
      dataset: what to cut into batches.
      batch_size: examples per batch, at least 1.
      key: a `jax.random.key` that fixes one permutation of all examples; None keeps their order.

    Raises:
      InputError: batch_size < 1 (raised by the call, before the first batch is asked for).
    """
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}: must be at least 1")
    num = len(dataset.labels)
    order = np.arange(num) if key is None else np.asarray(jax.random.permutation(key, num))
    starts = range(0, num, batch_size)
    return (take(dataset, order[start : start + batch_size]) for start in starts)


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
        f"{where}: pixels run from {low:g} to {high:g}, image {bad.argmax()} is the first outside"
        " [0, 1]: scale them (0..255 as uint8 is scaled for you)"
    )


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
        image = _fit(image, image_size)
    return np.array(image).reshape(image.height, image.width, channels)


def _to_8bit(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # Pillow's own conversion of 16 bits clips at 255
        return Image.fromarray(np.rint(np.asarray(image) / 257).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:  # below it lies whatever the editor left there
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA"))
    return image


def _fit(image: Image.Image, size: int) -> Image.Image:
    # Short side to `size`, then centre crop, in one resampling. Bilinear never overshoots [0, 1].
    return ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)


def _fit_arrays(images: np.ndarray, size: int) -> np.ndarray:
    resized = np.empty((len(images), size, size, images.shape[3]), np.float32)
    for index, channel in np.ndindex(len(images), images.shape[3]):
        plane = Image.fromarray(np.ascontiguousarray(images[index, ..., channel]))
        resized[index, ..., channel] = _fit(plane, size)
    return resized.clip(0, 1)  # the resampling weights add up to 1 only within rounding


def _to_dataset(stored: _Stored) -> Dataset:
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


def _numbered_names(labels: Iterable[np.ndarray]) -> list[str]:
    # Over both splits: a class that only the other one has must not change the number of classes.
    # Labels that are no numbers are left to `_to_dataset`, which says so.
    highest = (int(part.max(initial=0)) for part in labels if part.dtype.kind in "biu")
    return [str(i) for i in range(1 + max(highest, default=0))]


def _require_path(request: _Request) -> Path:
    if request.data_dir is None:
        raise InputError(
            f"{request.name}: needs a data folder: pass data_dir (--config.data.dir) or set the"
            " environment variable INTRIGUING_DATA"
        )
    if not request.data_dir.exists():
        raise InputError(f"{request.data_dir}: no such folder: mend data_dir or INTRIGUING_DATA")
    return request.data_dir


def _load_digits(request: _Request) -> _Stored:
    from sklearn.datasets import load_digits  # takes a second to import

    digits = load_digits()
    is_test = np.arange(len(digits.target)) % 5 == 4
    chosen = is_test if request.split == "test" else ~is_test
    return _Stored(digits.images[chosen] / 16, digits.target[chosen], "0123456789", "digits")


def _load_mnist(request: _Request) -> _Stored:
    root = _require_path(request)
    for folder in (root / "mnist", root):
        if _find_idx(folder, request.split, "images"):
            return _load_idx(request._replace(data_dir=folder))
    return _load_tfds(request)


def _load_idx(request: _Request) -> _Stored:
    root = _require_path(request)
    path = _require_idx(root, request.split, "images")
    labels = {half: _read_idx(_require_idx(root, half, "labels"), ndim=1) for half in SPLITS}
    names = _numbered_names(labels.values())
    return _Stored(_read_idx(path, ndim=3), labels[request.split], names, str(path))


def _idx_names(split: str, kind: str) -> list[str]:
    starts = {"train": ("train",), "test": ("t10k", "test")}[split]
    end = {"images": "idx3-ubyte", "labels": "idx1-ubyte"}[kind]
    stems = [f"{start}-{kind}{separator}{end}" for start in starts for separator in "-."]
    return [stem + packed for stem in stems for packed in ("", ".gz")]


def _find_idx(folder: Path, split: str, kind: str) -> Path | None:
    paths = (folder / name for name in _idx_names(split, kind))
    return next((path for path in paths if path.is_file()), None)


def _require_idx(folder: Path, split: str, kind: str) -> Path:
    path = _find_idx(folder, split, kind)
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
        raise InputError(f"{path}: unreadable ({_first_line(error)}): fetch it again") from error
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


def _load_npz(request: _Request) -> _Stored:
    path = _require_path(request)
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
    return _Stored(arrays[f"x_{request.split}"], labels, names, str(path))


def _read_npz(path: Path, required: Sequence[str]) -> dict[str, np.ndarray]:
    try:
        with np.load(path) as archive:  # an .npy file has no `with`: TypeError
            keys = archive.files
            wanted = [key for key in (*required, "class_names") if key in keys]
            arrays = {key: archive[key] for key in wanted}
    except _ARCHIVE_ERRORS as error:
        raise InputError(f"{path}: unreadable as npz ({_first_line(error)})") from error
    missing = [key for key in required if key not in keys]
    if missing:
        raise InputError(f"{path}: has no {', '.join(missing)}; its arrays are {', '.join(keys)}")
    return arrays


def _load_image_folder(request: _Request) -> _Stored:
    root = _require_path(request)
    if request.image_size is None:
        raise InputError(f"{root}: an image folder needs image_size (--config.data.image_size)")
    if (root / "labels.csv").is_file():
        examples, names = _list_csv(root)
    else:
        examples, names = _list_classes(root, request.split)
    images, labels, skipped = [], [], []
    for path, label in examples:
        if len(images) == request.num_examples:
            break
        try:
            images.append(decode_image(path, request.image_size))
            labels.append(label)
        except _DECODE_ERRORS:
            skipped.append(os.path.relpath(path, root))
    if skipped:
        logging.warning(
            "%s: skipped %d unreadable images: %s", root, len(skipped), ", ".join(skipped)
        )
    if not images:
        raise InputError(
            f"{root}: no readable image: expected <class>/*.jpg (or .png, ...) in it or in its"
            " train and test folders, or images/ with a labels.csv"
        )
    return _Stored(np.stack(images), np.array(labels), names, str(root))


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


def _load_tfds(request: _Request) -> _Stored:
    folder = _find_prepared(request) or _prepare_tfds(request)
    import tensorflow_datasets as tfds  # takes seconds to import

    builder, source = _open_tfds(folder, request)
    features = dict(builder.info.features.items())
    image, label = features.get("image"), features.get("label")
    if not (isinstance(image, tfds.features.Image) and isinstance(label, tfds.features.ClassLabel)):
        raise InputError(
            f"{folder}: needs an image and a class label, its features are {', '.join(features)}"
        )
    channels = image.shape[-1]
    if image.np_dtype != np.uint8 or channels not in (1, 3):
        raise InputError(f"{folder}: images of {channels} x {image.np_dtype}, not 1 or 3 x uint8")
    num = min(len(source), request.num_examples or len(source))
    images, labels = [], []
    for index, example in enumerate(_read_tfds(source, num, folder)):
        try:
            pixels = decode_image(io.BytesIO(example["image"]), request.image_size, channels)
        except _DECODE_ERRORS as error:
            raise InputError(f"{folder}: image {index}: {_first_line(error)}") from error
        if images and pixels.shape != images[0].shape:
            sizes = f"image 0 is {images[0].shape}, image {index} is {pixels.shape}"
            raise InputError(
                f"{folder}: {sizes}: give one image_size (--config.data.image_size) to all"
            )
        images.append(pixels)
        labels.append(example["label"])
    return _Stored(np.array(images), np.array(labels), label.names, str(folder))


def _open_tfds(folder: Path, request: _Request):
    """Opens a prepared folder as (builder, random-access source), without TensorFlow."""
    import tensorflow_datasets as tfds
    from google.protobuf import json_format

    try:
        builder = tfds.builder_from_directory(folder)
        splits = {"train": ("train",), "test": ("test", "validation")}[request.split]
        split = next((name for name in splits if name in builder.info.splits), request.split)
        # Images stay encoded: our decoder is faster, and the same with and without OpenCV.
        decoders = {"image": tfds.decode.SkipDecoding()}
        return builder, builder.as_data_source(split=split, decoders=decoders)
    except (OSError, ValueError, RuntimeError, json_format.Error) as error:
        raise InputError(
            f"{folder}: {_first_line(error)} If it is damaged or not array_record, move it away"
            f" and prepare it again: {_prepare_command(request)}"
        ) from error


def _read_tfds(source, num: int, folder: Path) -> Iterator[dict]:
    try:
        for start in range(0, num, _TFDS_READ_SIZE):
            yield from source.__getitems__(range(start, min(start + _TFDS_READ_SIZE, num)))
    except (OSError, RuntimeError) as error:  # array_record raises RuntimeError for a damaged file
        raise InputError(
            f"{folder}: unreadable ({_first_line(error)}): prepare it again"
        ) from error


def _find_prepared(request: _Request) -> Path | None:
    """Looks on disk only: TFDS itself would ask the network, for minutes if there is none."""
    if request.data_dir is None or not _TFDS_NAME.fullmatch(request.name):
        return None
    for base in (request.data_dir, request.data_dir / "tfds"):
        folder = base / request.name.replace(":", "/")
        depths = ("", "*/", "*/*/")  # of the version below name/config:version, name/config, name
        infos = [path for depth in depths for path in folder.glob(f"{depth}dataset_info.json")]
        found = sorted(path.parent.relative_to(base) for path in infos)
        if len(found) > 1:
            names = ", ".join(f"{path.parent.as_posix()}:{path.name}" for path in found)
            raise InputError(f"{base}: has {names}: write one of these for {request.name!r}")
        if found:
            return base / found[0]
    return None


def _prepare_tfds(request: _Request) -> Path:
    """Downloads and prepares if that was asked for; otherwise raises at once."""
    import tensorflow_datasets as tfds

    known = tfds.list_builders(with_community_datasets=False)  # from the package, no network
    if not _TFDS_NAME.fullmatch(request.name) or re.split("[/:]", request.name)[0] not in known:
        nearest = difflib.get_close_matches(request.name, {*LOADERS, *known})
        names = ", ".join(nearest) or f"{', '.join(LOADERS)} or a TFDS name"
        raise InputError(f"no data set {request.name!r}: did you mean {names}?")
    root = _require_path(request)
    if not request.download:
        idx_hint = f", or put the four idx files in {root / 'mnist'}"
        raise InputError(
            f"{request.name} is not prepared in {root}: run {_prepare_command(request)}, or let"
            " --config.data.download=True do the second (it needs a network)"
            + (idx_hint if request.name == "mnist" else "")
        )
    try:
        import tensorflow  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"{request.name}: download needs TensorFlow (only this once): `pip install tensorflow`"
        ) from error
    builder = tfds.builder(request.name, data_dir=root / "tfds", file_format="array_record")
    builder.download_and_prepare()
    return Path(builder.data_dir)


def _prepare_command(request: _Request) -> str:
    arguments = f"{request.name!r}, data_dir='{request.data_dir}/tfds', file_format='array_record'"
    script = f"import tensorflow_datasets as tfds; tfds.builder({arguments}).download_and_prepare()"
    return f'`pip install tensorflow` and `python -c "{script}"`'


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


LOADERS = {
    "digits": _load_digits,
    "mnist": _load_mnist,
    "idx": _load_idx,
    "npz": _load_npz,
    "image_folder": _load_image_folder,
}
