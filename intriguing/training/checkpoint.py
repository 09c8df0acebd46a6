"""Saves and restores pytrees with orbax, one folder per step, for one way of making them."""

import json
import shutil
import threading
from pathlib import Path

import jax
import orbax.checkpoint as ocp

from intriguing import identity
from intriguing.atomic import io_error, write_atomic
from intriguing.errors import InputError, first_line
from intriguing.identity import MadeFrom
from intriguing.progress import logger

KEPT = 2  # steps: should the newest be lost, the one before is there
# Two threads that save at once (trainings side by side) can get one operation id of orbax's, which
# then makes the temporary folder of one of them twice: FileExistsError.
_ONE_AT_A_TIME = threading.Lock()
_OTHERS = "made_from_others"


def claim(directory: str | Path, made_from: MadeFrom, name: str) -> None:
    """Makes `directory` that of what is made from these: data, network, settings, seed.

    What is there and was made from something else is moved to a folder below, not deleted; what
    had been moved there before and fits comes back.

    Args:
      directory: of `save`; need not exist.
      made_from: kept in it as made_from.json.
      name: of what is trained, for the log.

    Raises:
      InputError: the folder cannot be written.
    """
    directory = Path(directory)
    path = directory / "made_from.json"
    try:
        there = json.loads(path.read_text()) if path.exists() else {}
    except (OSError, ValueError):
        there = {}
    if there == made_from:
        return
    try:
        if _move_all(directory, directory / _OTHERS / identity.name(there)):
            differ = identity.differences(there, made_from)
            logger.warning("%s: %s was made from other %s: set aside, and trained anew", name,
                           directory, differ)  # fmt: skip
        _move_all(directory / _OTHERS / identity.name(made_from), directory)
    except OSError as error:
        raise io_error("write", directory, error) from error
    write_atomic(path, json.dumps(made_from, indent=1) + "\n")


def _move_all(source: Path, target: Path) -> bool:
    """Moves what is in one folder to another; whether there was anything but its label."""
    moved = [path for path in source.glob("*") if path.name != _OTHERS]
    for path in sorted(moved, key=lambda path: path.name == "made_from.json"):  # the label last
        target.mkdir(parents=True, exist_ok=True)
        if (target / path.name).is_dir():
            shutil.rmtree(target / path.name)
        path.replace(target / path.name)
    return any(path.name != "made_from.json" for path in moved)


def _steps(directory: Path) -> list[int]:
    """Steps in `directory`, oldest first; orbax renames a folder once it is complete."""
    return sorted(int(path.name) for path in directory.glob("*") if path.name.isdigit())


def save(directory: str | Path, step: int, tree) -> None:
    """Writes a pytree of arrays as `directory/<step>`, atomically; keeps the step before it too."""
    directory = Path(directory).absolute()
    older = [other for other in _steps(directory) if other != step]
    with _ONE_AT_A_TIME, ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(directory / str(step), tree, force=True)
    for old in older[: 1 - KEPT]:
        shutil.rmtree(directory / str(old))


def restore_latest(directory: str | Path, like, sharding=None) -> tuple[int, object] | None:
    """Reads the newest step in `directory` into the shapes and dtypes of `like`.

    `like` is a pytree of arrays, or of `jax.ShapeDtypeStruct` for which `sharding` is used.

    Returns (step, tree), or None if there is no checkpoint.

    Raises:
      InputError: the checkpoint is damaged, or holds another tree or other shapes than `like`.
    """
    directory = Path(directory).absolute()
    steps = _steps(directory)
    if not steps:
        return None
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding or x.sharding), like
    )
    try:
        with _ONE_AT_A_TIME, ocp.StandardCheckpointer() as checkpointer:
            return steps[-1], checkpointer.restore(directory / str(steps[-1]), abstract)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise InputError(
            f"checkpoint {directory / str(steps[-1])} does not fit this model or is damaged "
            f"({first_line(error)}); delete it, or use another --workdir"
        ) from error
