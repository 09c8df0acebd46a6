"""Saves and restores pytrees with orbax, one folder per step."""

import shutil
from pathlib import Path

import jax
import orbax.checkpoint as ocp

from intriguing.errors import InputError, first_line

KEPT = 2  # steps: should the newest be lost, the one before is there


def _steps(directory: Path) -> list[int]:
    """Steps in `directory`, oldest first; orbax renames a folder once it is complete."""
    return sorted(int(path.name) for path in directory.glob("*") if path.name.isdigit())


def save(directory: str | Path, step: int, tree) -> None:
    """Writes a pytree of arrays as `directory/<step>`, atomically; keeps the step before it too."""
    directory = Path(directory).absolute()
    older = [other for other in _steps(directory) if other != step]
    with ocp.StandardCheckpointer() as checkpointer:
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
        with ocp.StandardCheckpointer() as checkpointer:
            return steps[-1], checkpointer.restore(directory / str(steps[-1]), abstract)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise InputError(
            f"checkpoint {directory / str(steps[-1])} does not fit this model or is damaged "
            f"({first_line(error)}); delete it, or use another --workdir"
        ) from error
