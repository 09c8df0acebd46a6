"""Labelled images in [0, 1], read whole or streamed; nothing here needs TensorFlow to read."""

from intriguing.data.dataset import LOADERS, Dataset, check, load, make_request, take
from intriguing.data.stream import Source, open_source

__all__ = [
    "LOADERS",
    "Dataset",
    "Source",
    "check",
    "load",
    "make_request",
    "open_source",
    "take",
]
