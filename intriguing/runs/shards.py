"""Arrays over many examples, computed shard by shard into files: readable by all, and resumable.

A run may be interrupted at any moment: the same command again finds what is finished, recomputes
what is missing, damaged, or made from something else, and goes on.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from intriguing import archive, processes, sealed
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


FOLDER_MANIFEST = "manifest.json"  # the files of a folder and their seals, once all are there


class Found(dict):
    """Arrays that `map_shards` has computed, by name; those that stayed on disk are read from there
    each time that they are asked for.
    """

    def __init__(self, arrays: Arrays, where: Shards):
        super().__init__(arrays)
        self.where = where

    def __missing__(self, name: str) -> np.ndarray:
        parts = read_shards(self.where, [name])
        return np.concatenate([np.array(part[name]) for part in parts])


def load_arrays(path: Path, names: Collection[str] | None = None) -> archive.Archive | None:
    """What a shard holds, or these of it; None if it is missing or damaged (then with a warning).

    Raises:
      InputError: the file is there and whole for all we know, but cannot be read (permissions).
    """
    try:
        return archive.read(path, names)
    except FileNotFoundError:
        return None
    except archive.Damaged as error:
        _warn_damaged(path, str(error))
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
    together: bool = False,
) -> Found:
    """Compute arrays over examples shard by shard, each kept in a file of its own.

    Args:
      shards: how many examples, and where.
      compute: `compute(start, stop)` returns arrays whose leading axis is stop - start.
      made_from: `made_from(start, stop)` says what a shard depends on, and is kept in it. A shard
        that was made from anything else, or by code of other numerics, is computed again.
      progress: told after every shard, loaded or computed.
      on_disk: names of arrays that are too large to keep in memory.
      together: all processes compute each shard at the same time, for none has the whole network;
        else each computes some of them.

    Returns:
      The shards' arrays, concatenated in the order of the examples.

    Raises:
      InputError: a size below 1, shards holding different arrays, or an unreadable folder.
      ValueError: `compute` returned an array of another length.
    """
    _check_sizes(shards)
    if processes.count() > 1 and not together:
        _share_out(shards, compute, made_from)
    parts: list[Arrays] = []
    seals: dict[str, str] = {}
    for start, stop in shards.spans():
        path = shards.path(start, stop)
        here = _labelled(made_from(start, stop))
        found = _load_fitting(path, stop - start, here)
        is_old = found is not None
        if is_old:
            arrays, seals[path.name] = found.arrays, found.seal
        else:
            arrays = _compute(compute, start, stop)
            seals[path.name] = archive.write(path, arrays, here)
        kept = arrays.keys() - set(on_disk)
        # Copies: a mapped array keeps its file open, and there may be thousands.
        parts.append({name: np.array(array) for name, array in arrays.items() if name in kept})
        if parts[-1].keys() != parts[0].keys():
            raise InputError(
                f"the shards in {shards.directory} hold different arrays ({', '.join(parts[0])} "
                f"and then {', '.join(parts[-1])}): another version wrote some of them; delete the "
                "folder"
            )
        if progress is not None:
            (progress.restore if is_old else progress.update)(stop)
    sealed.write(
        Path(shards.directory) / FOLDER_MANIFEST,
        {"num_examples": shards.num_examples, "shard_size": shards.shard_size, "files": seals},
    )
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Found(whole, shards)


def _check_sizes(shards: Shards) -> None:
    if shards.shard_size < 1:
        raise InputError(f"shard_size is {shards.shard_size}: it must be at least 1")
    if shards.num_examples < 1:
        raise InputError(
            f"no examples to compute for {shards.directory}: num_examples is {shards.num_examples}"
        )


def _labelled(made_from: MadeFrom) -> MadeFrom:
    return {"numerics": str(NUMERICS), **made_from}


def _share_out(shards: Shards, compute, made_from) -> None:
    """Has each shard that is missing computed by one of the processes."""
    missing = [
        (start, stop) for start, stop in shards.spans()
        if _load_fitting(shards.path(start, stop), stop - start, _labelled(made_from(start, stop)))
        is None
    ]  # fmt: skip

    def do(span: tuple[int, int]) -> None:
        archive.write(shards.path(*span), _compute(compute, *span), _labelled(made_from(*span)))

    names = [shards.path(*span).stem for span in missing]
    processes.share(Path(shards.directory), missing, names, do)


def read_rows(shards: Shards, indices: Iterable[int], names: Iterable[str]) -> Arrays:
    """Rows of arrays that `map_shards` has written, in the order of `indices`.

    Raises:
      InputError: a shard is missing or damaged.
    """
    names = tuple(names)
    rows: dict[str, list[np.ndarray]] = {name: [] for name in names}
    loaded, arrays = (0, 0), None
    for index in indices:
        if arrays is None or not loaded[0] <= index < loaded[1]:
            start = index // shards.shard_size * shards.shard_size
            loaded = start, min(start + shards.shard_size, shards.num_examples)
            there = index < shards.num_examples
            arrays = _load_written(shards, *loaded, names) if there else None
        if arrays is None:
            raise InputError(f"{shards.directory} has no row {index}")
        for name, found in rows.items():
            found.append(np.array(arrays[name][index - loaded[0]]))
    return {name: np.stack(found) for name, found in rows.items()}


def read_shards(shards: Shards, names: Iterable[str]) -> Iterator[Arrays]:
    """Arrays that `map_shards` has written, shard by shard: what all hold need not fit in memory.

    Raises:
      InputError: a shard is missing or damaged.
    """
    names = tuple(names)
    for span in shards.spans():
        yield _load_written(shards, *span, names)


def _load_written(shards: Shards, start: int, stop: int, names: Collection[str]) -> Arrays:
    found = load_arrays(shards.path(start, stop), names)
    if found is None or found.arrays.keys() < set(names):
        raise InputError(
            f"{shards.path(start, stop)} is gone or damaged: the same command computes it again"
        )
    return found.arrays


def _load_fitting(path: Path, length: int, here: MadeFrom) -> archive.Archive | None:
    """A shard, if it is there, whole, and made from the same."""
    found = load_arrays(path)
    if found is None:
        return None
    if differ := differences(found.about, here):
        logger.warning("%s was made from other %s: recomputing it", path, differ)
        return None
    if misfit := _misfit(found.arrays, length):
        _warn_damaged(path, misfit)
        return None
    return found


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
