"""Folders of images: which files, which classes; what is left out is counted, and said."""

import collections
import csv
import os
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from intriguing.data import published
from intriguing.data.files import (
    DECODE_ERRORS,
    MAX_CLASSES,
    SPLITS,
    Request,
    Stored,
    decode_image,
    require_path,
)
from intriguing.errors import InputError, first_line
from intriguing.progress import logger

WANTED = (
    "expected <class>/*.jpg (or .png, ...) in it or in its train and test folders, or images/ with"
    " a labels.csv (columns file, class_index)"
)
SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff",
)  # fmt: skip
# Folders that people call so hold splits or everything, never a class.
NO_CLASS = re.compile(r"(train|test|val|valid|validation|training|testing|images?|imgs?|data)\d*")
FOLDERS = {"train": ("train",), "test": ("test", "val")}  # of a split


class Listing(NamedTuple):
    """Fields:
    examples: (path, label), nothing decoded.
    class_names: of all classes.
    is_indexed: labels are numbers that the user gave, a network's classes perhaps; else they count
      the folders, in the order of their names.
    """

    examples: list[tuple[Path, int]]
    class_names: list[str]
    is_indexed: bool


def located(request: Request) -> Request:
    """With the folder that was asked for or, without one, that of Imagenette's photographs."""
    if request.data_dir is not None:
        require_path(request)
        return request
    try:
        return request._replace(data_dir=published.imagenette(request.download))
    except InputError as error:
        raise InputError(
            "image_folder: no folder of images (data_dir, --config.data.dir, or the environment"
            f" variable INTRIGUING_DATA); {error}"
        ) from error


def load_image_folder(request: Request) -> Stored:
    """Decodes a folder of images; unreadable ones are skipped, and named in one warning."""
    request = located(request)
    root = request.data_dir
    examples, names, _ = list_image_folder(request)
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
        raise InputError(f"{root}: no readable image: {WANTED}")
    return Stored(np.stack(images), np.array(labels), names, str(root))


def list_image_folder(request: Request) -> Listing:
    """Lists a folder of images, nothing decoded; says what was found, and what was left out.

    Raises:
      InputError: no image size, no image, a layout that is not one of ours, or a labels.csv that
        is not one.
    """
    root = require_path(request)
    if request.image_size is None:
        raise InputError(f"{root}: an image folder needs image_size (--config.data.image_size)")
    if (root / "labels.csv").is_file():
        listing = _list_csv(root)
    else:
        listing = _list_classes(root, request.split)
    if not listing.examples:
        raise InputError(f"{root}: no readable image: {WANTED}")
    seen = sorted({label for _, label in listing.examples})
    known = dict(enumerate(listing.class_names))
    names = [known.get(label, str(label)) for label in (seen[0], seen[-1])]
    logger.info("%s: %d images of %d classes, from %s to %s", root, len(listing.examples),
                len(seen), *names)  # fmt: skip
    return listing


def _list_classes(root: Path, split: str) -> Listing:
    """Lists a folder per class, classes taking turns; the classes are those of both splits."""
    halves = {
        half: next(filter(None, (_class_files(root / name) for name in FOLDERS[half])), {})
        for half in SPLITS
    }
    if not any(halves.values()):
        halves = dict.fromkeys(SPLITS, _class_files(root))
    elif not any(halves[split].values()):
        wanted = " or ".join(f"{name}/<class>/" for name in FOLDERS[split])
        raise InputError(f"{root}: has no images in {wanted}: the {split} split needs them")
    numbers, names = _numbered(set().union(*halves.values()), root)
    turns = sorted(
        (turn, numbers[name], path)
        for name, paths in halves[split].items()
        for turn, path in enumerate(paths)
    )
    is_indexed = all(name.isdecimal() for name in numbers)
    return Listing([(path, label) for _, label, path in turns], names, is_indexed)


def _numbered(found: Iterable[str], root: Path) -> tuple[dict[str, int], list[str]]:
    """(the number of each class folder, the names of all classes).

    Folders that are all whole numbers are classes by these numbers, or counted from 1.
    """
    found = sorted(found)
    strange = [name for name in found if NO_CLASS.fullmatch(name.lower())]
    if strange:
        raise InputError(f"{root}: {strange[0]} is no class but a part of a data set: {WANTED}")
    if len(found) == 1:
        raise InputError(f"{root}: {found[0]} is its only class, two are needed: {WANTED}")
    if not found or not all(name.isdecimal() for name in found):
        return {name: number for number, name in enumerate(found)}, found
    numbers = {name: int(name) for name in found}
    most = max(numbers.values())
    _check_number(most, f"{root}: folder {most}")
    if len(set(numbers.values())) < len(found):
        raise InputError(f"{root}: two folders have the same number: {', '.join(found[:5])}")
    if min(numbers.values()) == 1 and most == len(found):
        in_order = sorted(found, key=numbers.get)
        logger.info("%s: folders 1 to %d are classes 0 to %d", root, most, most - 1)
        return {name: number - 1 for name, number in numbers.items()}, in_order
    return numbers, [str(number) for number in range(most + 1)]


def _check_number(label: int, where: str) -> None:
    if label >= MAX_CLASSES:
        raise InputError(f"{where}: class {label} is above {MAX_CLASSES - 1}: mend the number")


def _class_files(folder: Path) -> dict[str, list[Path]]:
    """Maps each subfolder that holds files to its images' sorted paths; counts other files."""
    found: dict[str, list[Path]] = {}
    others = collections.Counter()
    for path in sorted(folder.glob("*/*")):
        if path.name.startswith(".") or path.parent.name.startswith(".") or path.is_dir():
            continue
        paths = found.setdefault(path.parent.name, [])
        if path.suffix.lower() in SUFFIXES:
            paths.append(path)
        else:
            others[path.suffix.lower() or "no ending"] += 1
    if not any(found.values()):
        return {}
    if others:
        kinds = ", ".join(f"{num} of {suffix}" for suffix, num in others.most_common())
        logger.warning("%s: %d files are left out (%s): not of %s", folder, others.total(), kinds,
                       " ".join(SUFFIXES))  # fmt: skip
    if empty := [name for name, paths in found.items() if not paths]:
        logger.warning("%s: no image in %s: the other classes keep their numbers", folder,
                       ", ".join(empty))  # fmt: skip
    return found


def _list_csv(root: Path) -> Listing:
    path = root / "labels.csv"
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            reader = csv.DictReader(file, strict=True)
            rows, columns = list(reader), reader.fieldnames or ()
    except csv.Error as error:
        raise InputError(
            f"{path}: rows before line {reader.reader.line_num + 1}: {first_line(error)}: a"
            " quotation mark that is not closed?"
        ) from error
    if not {"file", "class_index"} <= set(columns):
        raise InputError(f"{path}: needs columns file, class_index; it has {', '.join(columns)}")
    examples, named = [], {}
    for number, row in enumerate(rows, start=1):
        if not row["file"] or not (row["class_index"] or "").isdecimal():
            found = f"file {row['file']!r}, class_index {row['class_index']!r}"
            raise InputError(f"{path}: row {number} has {found}: needs a name and a number")
        if any(isinstance(value, str) and "\n" in value for value in row.values()):
            raise InputError(f"{path}: row {number} goes over several lines: close its quotes")
        below = PurePosixPath(row["file"])
        if below.is_absolute() or ".." in below.parts or "\0" in row["file"]:
            raise InputError(f"{path}: row {number} has {row['file']!r}: no file below images/")
        label = int(row["class_index"])
        _check_number(label, f"{path}: row {number}")
        examples.append((root / "images" / row["file"], label))
        named[label] = row.get("name") or str(label)
    synset_words = root / "synset_words.txt"  # one "wnid name" line per class
    if synset_words.is_file():
        lines = synset_words.read_text(encoding="utf-8", errors="replace").splitlines()
        return Listing(examples, [line.partition(" ")[2] for line in lines], True)
    names = [named.get(i, str(i)) for i in range(1 + max(named, default=-1))]
    return Listing(examples, names, True)
