"""A finished run's results, for whoever goes on with them: checked, and read from disk as asked."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from intriguing import archive, sealed
from intriguing.errors import InputError
from intriguing.runs.shards import FOLDER_MANIFEST


class Rows(Mapping[str, np.ndarray]):
    """Arrays with a row per image, by name; of one file they are mapped, of several joined.

    `parts(name)` gives them file by file: what all hold need not fit in memory, nor all files be
    open at once.
    """

    def __init__(self, paths: list[Path], seals: list[str], names: list[str]):
        self.paths = paths
        self._seals, self._names = seals, names

    def parts(self, name: str) -> Iterator[np.ndarray]:
        """The array of each file, read-only, mapped into memory.

        Raises:
          InputError: a file is gone or damaged since.
        """
        if name not in self._names:
            raise KeyError(f"{name}: there are {', '.join(self)}")
        return (
            _read(path, seal, [name]).arrays[name]
            for path, seal in zip(self.paths, self._seals, strict=True)
        )

    def __getitem__(self, name: str) -> np.ndarray:
        parts = self.parts(name)
        return next(parts) if len(self.paths) == 1 else np.concatenate([*map(np.array, parts)])

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


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
    """Opens the results of a finished run; every file is checked, arrays are mapped from disk.

    Raises:
      InputError: no finished run, or a file that is gone or damaged: names it.
    """
    workdir = Path(workdir).expanduser()
    config, summary = (_read_json(workdir / name) for name in ("config.json", "summary.json"))
    names = [*summary.get("results", []), *result_folders(workdir)]
    folders = {name: workdir / "results" / name for name in dict.fromkeys(names)}
    return Results(config, summary, {name: _rows(folder) for name, folder in folders.items()})


def result_folders(workdir: Path) -> list[str]:
    """Names of the folders of shards below results/."""
    root = workdir / "results"
    return sorted({path.parent.relative_to(root).as_posix() for path in root.rglob("*.npz")})


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return sealed.read(path)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file: is the run finished?") from error


def _rows(folder: Path) -> Rows:
    """What a folder of shards holds, as its manifest lists them."""
    files = _read_json(folder / FOLDER_MANIFEST)["files"]
    paths, names = [folder / Path(name).name for name in files], []
    for path, seal in zip(paths, files.values(), strict=True):
        names = list(_read(path, seal).arrays)
    return Rows(paths, list(files.values()), names)


def _read(path: Path, seal: str, names: list[str] | None = None) -> archive.Archive:
    try:
        found = archive.read(path, names)
    except FileNotFoundError as error:
        raise InputError(f"{path} is gone: run the config again") from error
    except archive.Damaged as error:
        raise InputError(f"{path} is damaged ({error}): run the config again") from error
    if found.seal != seal:
        raise InputError(f"{path} is not of this run: run the config again")
    return found
