"""Data sets that TFDS has prepared, read without TensorFlow and without touching a network."""

import difflib
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from intriguing.data.files import (
    DECODE_ERRORS,
    Request,
    Stored,
    decode_image,
    require_path,
)
from intriguing.errors import InputError, first_line
from intriguing.progress import Progress

_NAME = re.compile(r"\w+(/[\w.+=-]+)?(:[\d.]+)?")  # name/config:version
_SPLITS = {"train": ("train",), "test": ("test", "validation")}  # the first that there is
_FEATURE = re.compile(r"(tensorflow_datasets\.core\.features\.\w+\.)?\w+")
_MOST_FEATURES = 2**24  # bytes of their description
_READ_SIZE = 128  # encoded examples held in memory at once


class Prepared(NamedTuple):
    """A data set as TFDS has prepared it; its images are encoded, and may be of several sizes.

    Fields: `folder`; `examples`, by index: {"image": bytes, "label": int}; `class_names`;
      `image_shape` (h, w, c), h and w None where the set does not promise one size.
    """

    folder: Path
    examples: Sequence[dict]
    class_names: tuple[str, ...]
    image_shape: tuple[int | None, int | None, int]

    def read(self, indices: Sequence[int]) -> Iterator[dict]:
        """The examples at `indices`. Raises InputError where the files are damaged."""
        try:
            for start in range(0, len(indices), _READ_SIZE):
                chunk = [int(index) for index in indices[start : start + _READ_SIZE]]
                yield from self.examples.__getitems__(chunk)
        except (OSError, RuntimeError) as error:  # array_record's, for a damaged file: RuntimeError
            reason = first_line(error)
            raise InputError(f"{self.folder}: unreadable ({reason}): prepare it again") from error


def load_tfds(request: Request, other_names: Iterable[str] = ()) -> Stored:
    """Reads a prepared data set; `other_names` are no TFDS names, but may be what was meant."""
    prepared = open_tfds(request, other_names)
    folder, channels = prepared.folder, prepared.image_shape[-1]
    num = min(len(prepared.examples), request.num_examples or len(prepared.examples))
    images, labels = [], []
    for index, example in enumerate(prepared.read(range(num))):
        try:
            pixels = decode_image(io.BytesIO(example["image"]), request.image_size, channels)
        except DECODE_ERRORS as error:
            raise InputError(f"{folder}: image {index}: {first_line(error)}") from error
        if images and pixels.shape != images[0].shape:
            sizes = f"image 0 is {images[0].shape}, image {index} is {pixels.shape}"
            raise InputError(
                f"{folder}: {sizes}: give one image_size (--config.data.image_size) to all"
            )
        images.append(pixels)
        labels.append(example["label"])
    return Stored(np.array(images), np.array(labels), prepared.class_names, str(folder))


def open_tfds(request: Request, other_names: Iterable[str] = ()) -> Prepared:
    """Finds (or prepares) a data set and makes sure that we can read it; reads no image.

    Raises:
      InputError: it is not there, damaged, or has no labelled images of 1 or 3 channels.
    """
    folder = find_prepared(request) or _prepare(request, tuple(other_names))
    import tensorflow_datasets as tfds  # takes seconds to import

    builder, examples = _open(folder, request, _SPLITS[request.split])
    features = dict(builder.info.features.items())
    image, label = features.get("image"), features.get("label")
    if not (isinstance(image, tfds.features.Image) and isinstance(label, tfds.features.ClassLabel)):
        raise InputError(
            f"{folder}: needs an image and a class label, its features are {', '.join(features)}"
        )
    channels = image.shape[-1]
    if image.np_dtype != np.uint8 or channels not in (1, 3):
        raise InputError(f"{folder}: images of {channels} x {image.np_dtype}, not 1 or 3 x uint8")
    prepared = Prepared(folder, examples, tuple(label.names), tuple(image.shape))
    has_both = request.split == "test" and {"test", "validation"} <= set(builder.info.splits)
    if has_both and next(prepared.read([0]))["label"] < 0:
        # Contests hide the labels of their test sets: those of ImageNet's are all -1.
        return prepared._replace(examples=_open(folder, request, ("validation",))[1])
    return prepared


def read_labels(prepared: Prepared) -> np.ndarray:
    """All labels (num,) int64. Every record is read, for labels lie beside the encoded images."""
    num = len(prepared.examples)
    labels = np.empty(num, np.int64)
    with Progress(num, f"labels of {prepared.folder}", "label") as progress:
        for index, example in enumerate(prepared.read(range(num))):
            labels[index] = example["label"]
            progress.update(index + 1)
    return labels


def _open(folder: Path, request: Request, splits: Sequence[str]):
    """Opens the first of `splits` that there is as (builder, examples), without TensorFlow."""
    import tensorflow_datasets as tfds
    from google.protobuf import json_format

    check_features(folder)
    try:
        builder = tfds.builder_from_directory(folder)
        split = next((name for name in splits if name in builder.info.splits), request.split)
        # Images stay encoded: our decoder is faster, and the same with and without OpenCV.
        decoders = {"image": tfds.decode.SkipDecoding()}
        return builder, builder.as_data_source(split=split, decoders=decoders)
    except (OSError, ValueError, RuntimeError, json_format.Error) as error:
        raise InputError(
            f"{folder}: {first_line(error)} If it is damaged or not array_record, move it away"
            f" and prepare it again: {_prepare_command(request)}"
        ) from error


def check_features(folder: Path) -> None:
    """TFDS imports whatever module features.json names: only its own features are let through.

    Raises:
      InputError: another is named, or the file cannot be read.
    """
    path = folder / "features.json"
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_FEATURES + 1)
        pending = [json.loads(content)]
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: unreadable ({first_line(error)}): prepare it again") from error
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            for name in (value.get("pythonClassName"), value.get("python_class_name"),
                         value.get("type")):  # fmt: skip
                if name is not None and not _FEATURE.fullmatch(str(name)):
                    raise InputError(
                        f"{path}: names {str(name)[:80]}, which is no feature of TFDS: prepare the"
                        " data set again"
                    )
        if isinstance(value, dict | list):
            pending += value.values() if isinstance(value, dict) else value


def find_prepared(request: Request) -> Path | None:
    """Looks on disk only: TFDS itself would ask the network, for minutes if there is none."""
    if request.data_dir is None or not _NAME.fullmatch(request.name):
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


def _prepare(request: Request, other_names: tuple[str, ...]) -> Path:
    """Downloads and prepares if that was asked for; otherwise raises at once."""
    import tensorflow_datasets as tfds

    known = tfds.list_builders(with_community_datasets=False)  # from the package, no network
    if not _NAME.fullmatch(request.name) or re.split("[/:]", request.name)[0] not in known:
        nearest = difflib.get_close_matches(request.name, {*other_names, *known})
        names = ", ".join(nearest) or f"{', '.join(other_names)} or a TFDS name"
        raise InputError(f"no data set {request.name!r}: did you mean {names}?")
    if request.data_dir is not None and request.download:
        request.data_dir.mkdir(parents=True, exist_ok=True)  # made for what is fetched
    root = require_path(request)
    if not request.download:
        raise InputError(
            f"{request.name} is not prepared in {root}: run {_prepare_command(request)}, or let"
            " --config.data.download=True do the second (it needs a network)"
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


def _prepare_command(request: Request) -> str:
    arguments = f"{request.name!r}, data_dir='{request.data_dir}/tfds', file_format='array_record'"
    script = f"import tensorflow_datasets as tfds; tfds.builder({arguments}).download_and_prepare()"
    return f'`pip install tensorflow` and `python -c "{script}"`'
