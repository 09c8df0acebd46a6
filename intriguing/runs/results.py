"""A finished run's results, for whoever goes on with them: checked, and read from disk as asked."""

import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from intriguing.atomic import io_error
from intriguing.errors import InputError, first_line

_LOCAL_HEADER = 30  # bytes of a zip member's header before its name


class Rows(Mapping[str, np.ndarray]):
    """Arrays with a row per image, by name; of one file they are mapped, of several joined.

    `parts(name)` gives them file by file, mapped: what all hold need not fit in memory.
    """

    def __init__(self, paths: list[Path]):
        self.paths = paths
        self._places = [_members(path) for path in paths]

    def parts(self, name: str) -> list[np.ndarray]:
        """The array of each file, read-only, mapped into memory."""
        if name not in self._places[0]:
            raise KeyError(f"{name}: there are {', '.join(self)}")
        pairs = zip(self.paths, self._places, strict=True)
        return [_map(path, places[name]) for path, places in pairs]

    def __getitem__(self, name: str) -> np.ndarray:
        parts = self.parts(name)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places[0])

    def __len__(self) -> int:
        return len(self._places[0])


class Results(NamedTuple):
    """Fields:
    config: the settings, as config.json has them.
    summary: what summary.json has: "measurements", "tables", "claims", "figures".
    arrays: by folder below results/, "FC10(1)/refined" say, arrays with a row per image; BUILD.md
      ("What a shard holds") is their schema.
    """

    config: dict[str, Any]
    summary: dict[str, Any]
    arrays: dict[str, Rows]


def load_results(workdir: str | Path) -> Results:
    """Opens the results of a finished run; every file is checked, arrays are read when asked for.

    Raises:
      InputError: no finished run, or a file that is damaged: names it.
    """
    workdir = Path(workdir).expanduser()
    config, summary = (_read_json(workdir / name) for name in ("config.json", "summary.json"))
    folders: dict[str, list[Path]] = {}
    for path in sorted((workdir / "results").rglob("*.npz")):
        name = path.parent.relative_to(workdir / "results").as_posix()
        folders.setdefault(name, []).append(path)
    return Results(config, summary, {name: Rows(paths) for name, paths in folders.items()})


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file: is the run finished?") from error
    except OSError as error:
        raise io_error("read", path, error) from error
    except ValueError as error:
        raise InputError(f"{path} is damaged ({first_line(error)})") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} is damaged: it holds no object")
    return found


class _Place(NamedTuple):
    """Where an array lies in its file."""

    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]
    is_fortran: bool


def _members(path: Path) -> dict[str, _Place]:
    """Where each array lies. Raises InputError for a damaged file, or one of other arrays."""
    try:
        with zipfile.ZipFile(path) as archive:
            if (bad := archive.testzip()) is not None:
                raise ValueError(f"bad checksum of {bad}")
            return {
                info.filename.removesuffix(".npy"): _place(archive, info)
                for info in archive.infolist()
                if info.filename != "made_from.npy"
            }
    except OSError as error:
        raise io_error("read", path, error) from error
    except Exception as error:  # damaged archives end in almost any of them
        reason = first_line(error)
        raise InputError(f"{path} is damaged ({reason}): run the config again") from error


def _place(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Place:
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{info.filename} is compressed")
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        read = getattr(np.lib.format, f"read_array_header_{version[0]}_{version[1]}")
        shape, is_fortran, dtype = read(file)
        length = file.tell()
    if dtype.hasobject:
        raise ValueError(f"{info.filename} holds objects")
    raw = archive.fp
    raw.seek(info.header_offset)
    header = raw.read(_LOCAL_HEADER)
    before = _LOCAL_HEADER + int.from_bytes(header[26:28], "little")
    before += int.from_bytes(header[28:30], "little")
    return _Place(info.header_offset + before + length, dtype, shape, is_fortran)


def _map(path: Path, place: _Place) -> np.ndarray:
    if not np.prod(place.shape):
        return np.zeros(place.shape, place.dtype)
    order = "F" if place.is_fortran else "C"
    return np.memmap(path, place.dtype, "r", place.offset, place.shape, order)
