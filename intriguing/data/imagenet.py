"""Whether a source's classes are those that a network answers."""

import importlib.util
import re
from pathlib import Path

import numpy as np

from intriguing.data.stream import Source
from intriguing.errors import InputError

NUM_CLASSES = 1000
_WORDNET = re.compile(r"n\d{8}")
NAMES = {  # of Imagenette's classes, and of the one that the paper aims at
    "n01440764": "tench", "n01518878": "ostrich", "n02102040": "English springer",
    "n02979186": "cassette player", "n03000684": "chain saw", "n03028079": "church",
    "n03394916": "French horn", "n03417042": "garbage truck", "n03425413": "gas pump",
    "n03445777": "golf ball", "n03888257": "parachute",
}  # fmt: skip


def wordnet_ids() -> list[str]:
    """ImageNet's 1,000 classes by their number: the list that tensorflow-datasets ships."""
    package = importlib.util.find_spec("tensorflow_datasets")  # itself is slow to import
    if package is None:
        raise InputError("folders named by WordNet ids need: pip install tensorflow-datasets")
    root = Path(package.submodule_search_locations[0])
    return (root / "datasets" / "imagenet2012" / "labels.txt").read_text().split()


def match(source: Source, num_classes: int) -> Source:
    """The source with labels that are the numbers of a network of `num_classes`.

    Folders that are named by WordNet ids are found in ImageNet's list; numbers that the user gave
    (labels.csv, folders that are numbers) are taken as they are; others must be as many.

    Raises:
      InputError: the source has other classes than the network.
    """
    names = source.class_names
    if num_classes == NUM_CLASSES and names and all(map(_WORDNET.fullmatch, names)):
        ids = wordnet_ids()
        unknown = [name for name in names if name not in ids]
        if unknown:
            raise InputError(f"images: class {unknown[0]} is none of ImageNet's 1,000")
        numbers = np.array([ids.index(name) for name in names], np.int32)
        return source._replace(
            labels=numbers[source.labels], class_names=tuple(NAMES.get(each, each) for each in ids)
        )
    if len(names) == num_classes:
        return source
    if source.is_indexed and len(names) < num_classes:
        more = (str(number) for number in range(len(names), num_classes))
        return source._replace(class_names=(*names, *more))
    raise InputError(
        f"images: {len(names)} classes ({names[0]} to {names[-1]}), and the network has"
        f" {num_classes}: say which of its classes each is by folders that are these numbers, or in"
        " a labels.csv"
    )
