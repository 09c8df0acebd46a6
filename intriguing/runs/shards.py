"""Arrays over many examples, computed shard by shard into files: readable by all, and resumable.

A run may be interrupted at any moment: the same command again finds what is finished, recomputes
what is missing, damaged, or made from something else, and goes on.
"""

import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from intriguing.atomic import io_error, write_atomic
from intriguing.errors import InputError
from intriguing.identity import NUMERICS, MadeFrom, differences
from intriguing.progress import Progress, logger

Arrays = dict[str, np.ndarray]


class Shards(NamedTuple):
    """Where arrays over many examples are kept.

    Fields:
      directory: folder of the files, `<start:06d>-<stop:06d>.npz`; created when needed.
      num_examples: length of the leading axis of every array.
      shard_size: examples per file (the last one may hold fewer).
    """

    directory: Path
    num_examples: int
    shard_size: int

    def spans(self) -> list[tuple[int, int]]:
        """(start, stop) of every file."""
        starts = range(0, self.num_examples, self.shard_size)
        return [(start, min(start + self.shard_size, self.num_examples)) for start in starts]

    def path(self, start: int, stop: int) -> Path:
        """The file of these examples."""
        return Path(self.directory) / f"{start:06d}-{stop:06d}.npz"


MADE_FROM = "made_from"  # what a shard was made from, as JSON in a string without axes

# What NumPy and zipfile raise on bytes that are no longer what was written.
_DAMAGE = (
    ValueError,
    EOFError,
    KeyError,
    RuntimeError,
    SyntaxError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


class Found(dict):
    """Arrays that `map_shards` has computed, by name; those that stayed on disk are read from there
    each time that they are asked for.
    """

    def __init__(self, arrays: Arrays, where: Shards):
        super().__init__(arrays)
        self.where = where

    def __missing__(self, name: str) -> np.ndarray:
        return np.concatenate([part[name] for part in read_shards(self.where, [name])])


def save_arrays(path: str | os.PathLike, arrays: Arrays) -> None:
    """Write named arrays to an npz file, atomically. Raises InputError as `write_atomic` does."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    write_atomic(path, buffer.getvalue())


def load_arrays(path: str | os.PathLike) -> Arrays | None:
    """Read all arrays of an npz file; None if it is missing or damaged (then with a warning).

    Raises:
      InputError: the file is there and whole for all we know, but cannot be read (permissions).
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise io_error("read", path, error) from error
    try:
        # The checksums first: np.load believes a damaged header, and may stop short of them.
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if (bad_member := archive.testzip()) is not None:
                raise zipfile.BadZipFile(f"bad checksum of {bad_member}")
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return dict(archive)
    except _DAMAGE as error:
        _warn_damaged(path, " ".join(str(error).split()) or type(error).__name__)
        return None


def _warn_damaged(path: Path, why: str) -> None:
    logger.warning("%s is damaged (%s): recomputing it", path, why)


def map_shards(
    shards: Shards,
    compute: Callable[[int, int], Arrays],
    *,
    made_from: Callable[[int, int], MadeFrom],
    progress: Progress | None = None,
    on_disk: Collection[str] = (),
) -> Found:
    """Compute arrays over examples shard by shard, each kept in a file of its own.

    Args:
      shards: how many examples, and where.
      compute: `compute(start, stop)` returns arrays whose leading axis is stop - start.
      made_from: `made_from(start, stop)` says what a shard depends on, and is kept in it. A shard
        that was made from anything else, or by code of other numerics, is computed again.
      progress: told after every shard, loaded or computed.
      on_disk: names of arrays that are too large to keep in memory.

    Returns:
      The shards' arrays, concatenated in the order of the examples.

    Raises:
      InputError: a size below 1, shards holding different arrays, or an unreadable folder.
      ValueError: `compute` returned an array of another length.
    """
    if shards.shard_size < 1:
        raise InputError(f"shard_size is {shards.shard_size}: it must be at least 1")
    if shards.num_examples < 1:
        raise InputError(
            f"no examples to compute for {shards.directory}: num_examples is {shards.num_examples}"
        )
    parts: list[Arrays] = []
    for start, stop in shards.spans():
        here = {"numerics": str(NUMERICS), **made_from(start, stop)}
        arrays = _load_fitting(shards.path(start, stop), stop - start, here)
        is_old = arrays is not None
        if not is_old:
            arrays = _compute(compute, start, stop)
            labelled = {**arrays, MADE_FROM: np.array(json.dumps(here))}
            save_arrays(shards.path(start, stop), labelled)
        parts.append({name: array for name, array in arrays.items() if name not in on_disk})
        if parts[-1].keys() != parts[0].keys():
            raise InputError(
                f"the shards in {shards.directory} hold different arrays ({', '.join(parts[0])} "
                f"and then {', '.join(parts[-1])}): another version wrote some of them; delete the "
                "folder"
            )
        if progress is not None:
            (progress.restore if is_old else progress.update)(stop)
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Found(whole, shards)


def read_rows(shards: Shards, indices: Iterable[int], names: Iterable[str]) -> Arrays:
    """Rows of arrays that `map_shards` has written, in the order of `indices`.

    Raises:
      InputError: a shard is missing or damaged.
    """
    rows: dict[str, list[np.ndarray]] = {name: [] for name in names}
    loaded, arrays = (0, 0), None
    for index in indices:
        if arrays is None or not loaded[0] <= index < loaded[1]:
            start = index // shards.shard_size * shards.shard_size
            loaded = start, min(start + shards.shard_size, shards.num_examples)
            arrays = _load_written(shards, *loaded) if index < shards.num_examples else None
        if arrays is None:
            raise InputError(f"{shards.directory} has no row {index}")
        for name, found in rows.items():
            found.append(arrays[name][index - loaded[0]])
    return {name: np.stack(found) for name, found in rows.items()}


def read_shards(shards: Shards, names: Iterable[str]) -> Iterator[Arrays]:
    """Arrays that `map_shards` has written, shard by shard: what all hold need not fit in memory.

    Raises:
      InputError: a shard is missing or damaged.
    """
    names = tuple(names)
    for span in shards.spans():
        arrays = _load_written(shards, *span)
        yield {name: arrays[name] for name in names}


def _load_written(shards: Shards, start: int, stop: int) -> Arrays:
    arrays = load_arrays(shards.path(start, stop))
    if arrays is None:
        raise InputError(
            f"{shards.path(start, stop)} is gone or damaged: the same command computes it again"
        )
    return arrays


def _load_fitting(path: Path, length: int, here: MadeFrom) -> Arrays | None:
    """The arrays of a shard, if it is there, whole, and made from the same."""
    arrays = load_arrays(path)
    if arrays is None:
        return None
    there = json.loads(str(arrays.pop(MADE_FROM, "{}")))
    if differ := differences(there, here):
        logger.warning("%s was made from other %s: recomputing it", path, differ)
        return None
    if misfit := _misfit(arrays, length):
        _warn_damaged(path, misfit)
        return None
    return arrays


def _compute(compute: Callable[[int, int], Arrays], start: int, stop: int) -> Arrays:
    arrays = {name: np.asarray(array) for name, array in compute(start, stop).items()}
    if misfit := _misfit(arrays, stop - start):
        raise ValueError(f"compute({start}, {stop}) must return a row per example, but {misfit}")
    return arrays


def _misfit(arrays: Arrays, length: int) -> str | None:
    for name, array in arrays.items():
        if array.shape[:1] != (length,):
            return f"{name} has shape {array.shape} for {length} examples"
    return None
