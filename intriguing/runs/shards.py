"""Arrays over many examples, computed shard by shard into files: readable by all, and resumable.

A run may be interrupted at any moment: the same command again finds what is finished, recomputes
what is missing or damaged, and goes on.
"""

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import numpy as np

from intriguing.atomic import io_error, write_atomic
from intriguing.errors import InputError
from intriguing.progress import logger

Arrays = dict[str, np.ndarray]

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
    directory: str | os.PathLike,
    num_examples: int,
    shard_size: int,
    compute: Callable[[int, int], Arrays],
    *,
    progress: Callable[[int], None] | None = None,
    on_disk: Collection[str] = (),
) -> Arrays:
    """Compute arrays over `num_examples` examples shard by shard, each kept in a file of its own.

    Args:
      directory: folder of the shards, `<start:06d>-<stop:06d>.npz`; created when needed.
      num_examples: length of the leading axis of every array returned.
      shard_size: examples per file (the last one may hold fewer).
      compute: `compute(start, stop)` returns arrays whose leading axis is stop - start.
      progress: called after every shard, loaded or computed, with the number of examples done.
      on_disk: names of arrays that are too large to return: `read_rows` reads some of them.

    Returns:
      The shards' arrays, concatenated in the order of the examples.

    Raises:
      InputError: a size below 1, shards holding different arrays, or an unreadable folder.
      ValueError: `compute` returned an array of another length.
    """
    if shard_size < 1:
        raise InputError(f"shard_size is {shard_size}: it must be at least 1")
    if num_examples < 1:
        raise InputError(f"no examples to compute for {directory}: num_examples is {num_examples}")
    shards = []
    for start in range(0, num_examples, shard_size):
        stop = min(start + shard_size, num_examples)
        arrays = _load_or_compute(Path(directory), start, stop, compute)
        shards.append({name: array for name, array in arrays.items() if name not in on_disk})
        if shards[-1].keys() != shards[0].keys():
            raise InputError(
                f"the shards in {directory} hold different arrays ({', '.join(shards[0])} and then "
                f"{', '.join(shards[-1])}): another version wrote some of them; delete the folder"
            )
        if progress is not None:
            progress(stop)
    return {name: np.concatenate([shard[name] for shard in shards]) for name in shards[0]}


def read_rows(directory: str | os.PathLike, indices: Iterable[int], names: Iterable[str]) -> Arrays:
    """Rows of arrays that `map_shards` has written to `directory`, in the order of `indices`.

    Raises:
      InputError: a shard is missing or damaged.
    """
    rows: dict[str, list[np.ndarray]] = {name: [] for name in names}
    spans = {
        tuple(map(int, path.stem.split("-"))): path for path in Path(directory).glob("*-*.npz")
    }
    loaded: tuple[Path | None, Arrays | None] = (None, None)
    for index in indices:
        span = next((span for span in spans if span[0] <= index < span[1]), None)
        if span is not None and spans[span] != loaded[0]:
            loaded = spans[span], load_arrays(spans[span])
        if span is None or loaded[1] is None:
            raise InputError(f"{directory} has no row {index}: the same command computes it again")
        for name, found in rows.items():
            found.append(loaded[1][name][index - span[0]])
    return {name: np.stack(found) for name, found in rows.items()}


def _load_or_compute(
    directory: Path, start: int, stop: int, compute: Callable[[int, int], Arrays]
) -> Arrays:
    path = directory / f"{start:06d}-{stop:06d}.npz"
    arrays = load_arrays(path)
    if arrays is not None:
        misfit = _misfit(arrays, stop - start)
        if misfit is None:
            return arrays
        _warn_damaged(path, misfit)
    arrays = {name: np.asarray(array) for name, array in compute(start, stop).items()}
    misfit = _misfit(arrays, stop - start)
    if misfit is not None:
        raise ValueError(f"compute({start}, {stop}) must return a row per example, but {misfit}")
    save_arrays(path, arrays)
    return arrays


def _misfit(arrays: Arrays, length: int) -> str | None:
    for name, array in arrays.items():
        if array.shape[:1] != (length,):
            return f"{name} has shape {array.shape} for {length} examples"
    return None
