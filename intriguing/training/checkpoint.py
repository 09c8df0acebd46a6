"""Saves and restores pytrees with orbax, one folder per step, for one way of making them.

Orbax's files carry no checksums that find a flipped bit: each step has a seal beside it.
"""

import contextlib
import hashlib
import json
import logging
import re
import shutil
import threading
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from intriguing import archive, identity, sealed, sharding
from intriguing.atomic import io_error, write_atomic
from intriguing.errors import InputError, first_line
from intriguing.identity import MadeFrom
from intriguing.interrupts import unbroken
from intriguing.progress import logger

KEPT = 2  # steps: should the newest be lost, the one before is there
# Two threads that save at once (trainings side by side) can get one operation id of orbax's, which
# then makes the temporary folder of one of them twice: FileExistsError.
_ONE_AT_A_TIME = threading.Lock()
_OTHERS = "made_from_others"
ALONE = "tree.npz"  # of a checkpoint that one of several processes has written


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
    """Steps in `directory` that were written to the end, oldest first: those that have a seal."""
    found = (path.stem for path in directory.glob("*.json") if path.stem.isdigit())
    return sorted(map(int, found))


def _seal_of(directory: Path, step: int) -> Path:
    return directory / f"{step}.json"


def _sums(folder: Path) -> dict[str, str]:
    """Checksum of every file of a checkpoint, by its path in it."""
    sums = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16))
        sums[path.relative_to(folder).as_posix()] = digest.hexdigest()
    return sums


def save(directory: str | Path, step: int, tree) -> None:
    """Writes a pytree of arrays as `directory/<step>`, atomically; keeps the step before it too.

    Its seal, `directory/<step>.json`, comes last: the checksums of all its files.

    Raises:
      InputError: it cannot be written (full disk, permission); what was there before still is.
    """
    directory = Path(directory).resolve()  # of all processes the same
    folder, seal = directory / str(step), _seal_of(directory, step)
    older = [other for other in _steps(directory) if other != step]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with unbroken():
            seal.unlink(missing_ok=True)
            if _is_alone(tree):
                _save_alone(folder, tree)
            else:
                with _ONE_AT_A_TIME, _quiet(), _checkpointer() as checkpointer:
                    checkpointer.save(folder, args=ocp.args.StandardSave(tree), force=True)
            if jax.process_index() == 0 or _is_alone(tree):
                sealed.write(seal, {"files": _sums(folder)})
        for old in older[: 1 - KEPT]:
            _seal_of(directory, old).unlink(missing_ok=True)
        kept = {str(other) for other in (*older[1 - KEPT :], step)}
        for path in directory.glob("[0-9]*"):
            if path.is_dir() and path.name not in kept:  # old, or of a save that did not end
                shutil.rmtree(path, ignore_errors=True)  # another process may be the first
    except InputError:
        raise
    except OSError as error:
        raise io_error("write", folder, error) from error
    except Exception as error:  # orbax and tensorstore have their own for a full disk
        raise InputError(
            f"cannot write {folder} ({_reason(error)}); check the folder and its free space, or "
            "choose another: the same command goes on"
        ) from error


def _reason(error: Exception) -> str:
    """The system's part of tensorstore's long message, if there is one."""
    system = re.search(r"[^:]+ \[os_error_code='\d+'", str(error))
    return system[0].split(" [")[0].strip() if system else first_line(error)


def _checkpointer() -> ocp.Checkpointer:
    return ocp.Checkpointer(ocp.StandardCheckpointHandler())


def _is_alone(tree) -> bool:
    """Whether it is of one of several processes: orbax only knows what all of them have."""
    leaves = jax.tree.leaves(tree)
    is_own = all(leaf.sharding.is_fully_addressable for leaf in leaves)
    return jax.process_count() > 1 and is_own


def _save_alone(folder: Path, tree) -> None:
    leaves, _ = jax.tree_util.tree_flatten_with_path(jax.device_get(tree))
    if folder.exists():
        shutil.rmtree(folder)
    archive.write(folder / ALONE, {jax.tree_util.keystr(path): leaf for path, leaf in leaves})


def _restore_alone(folder: Path, abstract):
    """What `_save_alone` has written, laid out. Raises ValueError for another tree."""
    arrays = archive.read(folder / ALONE).arrays

    def take(path, wanted):
        array = arrays[jax.tree_util.keystr(path)]
        if (array.shape, array.dtype) != (wanted.shape, wanted.dtype):
            raise ValueError(f"{jax.tree_util.keystr(path)} is {array.shape}, not {wanted.shape}")
        return sharding.put(np.array(array), wanted.sharding)

    if len(jax.tree.leaves(abstract)) != len(arrays):
        raise ValueError(f"it holds {len(arrays)} arrays")
    return jax.tree_util.tree_map_with_path(take, abstract)


@contextlib.contextmanager
def _quiet():
    """Without what orbax's threads log of an error: it is raised, too."""
    logger, level = logging.getLogger("absl"), logging.getLogger("absl").level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def restore_latest(directory: str | Path, like, layout=None) -> tuple[int, object] | None:
    """Reads the newest whole step in `directory` into the shapes and dtypes of `like`.

    `like` is a pytree of arrays, or of `jax.ShapeDtypeStruct` for which `layout` is used. Every
    file is checked before anything is made of it: a step that is damaged is named in a warning, and
    the one before it is read instead.

    Returns (step, tree), or None if there is no checkpoint.

    Raises:
      InputError: the checkpoint holds another tree or other shapes than `like`.
    """
    directory = Path(directory).resolve()  # of all processes the same
    step = next((step for step in reversed(_steps(directory)) if _is_whole(directory, step)), None)
    if step is None:
        return None
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=layout or x.sharding), like
    )
    folder = directory / str(step)
    try:
        if (folder / ALONE).exists():
            return step, _restore_alone(folder, abstract)
        with _ONE_AT_A_TIME, _quiet(), _checkpointer() as checkpointer:
            return step, checkpointer.restore(folder, args=ocp.args.StandardRestore(abstract))
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise InputError(
            f"checkpoint {folder} does not fit this model ({first_line(error)}); "
            "delete it, or use another --workdir"
        ) from error


def _is_whole(directory: Path, step: int) -> bool:
    """Whether a checkpoint is what was written; if not, says what is not."""
    folder = directory / str(step)
    try:
        written, there = sealed.read(_seal_of(directory, step))["files"], _sums(folder)
    except (InputError, OSError) as error:
        logger.warning("%s: not used, an older one or none is", error)
        return False
    differ = sorted(name for name in written | there if written.get(name) != there.get(name))
    if differ:
        logger.warning(
            "checkpoint %s is damaged (%s is not what was written): not used, an older one or none "
            "is", folder, differ[0],
        )  # fmt: skip
    return not differ
