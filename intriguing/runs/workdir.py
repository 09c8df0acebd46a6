"""The files of a workdir: made by one config, with metrics and a summary."""

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from intriguing import sealed
from intriguing.atomic import io_error
from intriguing.errors import InputError
from intriguing.progress import logger

_COMPUTED = ("checkpoints", "results")  # what a run leaves that depends on its config
_MAX_DIFFERENCES = 5
# What changes speed, memory or the size of files, and no number (but for rounding).
SPEED_ONLY = (
    "attack.num_lanes",
    "attack_shard_size",
    "data.download",
    "model_devices",
    "shard_size",
    "title",
)


def create_workdir(workdir: str | os.PathLike) -> None:
    """Create the folder, and find out now whether it can be written, not after an hour of training.

    Raises:
      InputError: it cannot.
    """
    workdir = Path(workdir)
    try:
        str(workdir.absolute()).encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"workdir {workdir}: its name is not UTF-8, and checkpoints cannot be written there; "
            "use another --workdir"
        ) from error
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=workdir) as file:
            file.write(b"0")
    except OSError as error:
        raise io_error("write", workdir, error) from error


def check_workdir(workdir: str | os.PathLike, config: dict[str, Any]) -> None:
    """Make sure that what is in `workdir` was made by this very config.

    The config (a nested dict that JSON can hold) is kept in `workdir/config.json`; it may differ
    in `SPEED_ONLY`, and lack whole groups of settings that are there. If the file is gone or
    damaged the folder is taken over: checkpoints and shards say what they were made from.

    Raises:
      InputError: the folder holds the results of another config, or cannot be written.
    """
    workdir = Path(workdir)
    path = workdir / "config.json"
    was_computed = any((workdir / part).exists() for part in _COMPUTED)
    there = _stored_config(path, was_computed)
    if there is None or not was_computed:  # nothing there can be mixed up
        sealed.write(path, config)
        return
    there = _flatten(there)
    here = _flatten(config)
    # A group of settings that nobody reads any more was of an older version, and changes nothing.
    read = [key for key in there | here if key.partition(".")[0] in config]
    differences = [
        f"{key} is {there.get(key, 'absent')} there and {here.get(key, 'absent')} here"
        for key in read
        if there.get(key) != here.get(key) and key not in SPEED_ONLY
    ]
    if not differences:
        sealed.write(path, config)
    else:
        shown = ", ".join(differences[:_MAX_DIFFERENCES])
        if (num_more := len(differences) - _MAX_DIFFERENCES) > 0:
            shown += f" and {num_more} more"
        raise InputError(
            f"workdir {workdir} was made by another config: {shown}; "
            "use another --workdir or delete it"
        )


def _stored_config(path: Path, was_computed: bool) -> dict[str, Any] | None:
    """The config that a workdir says it is of; None, with a warning, if it cannot say."""
    try:
        return sealed.read(path)
    except FileNotFoundError:
        reason = f"{path} is gone"
    except InputError as error:
        reason = str(error)
    if was_computed:
        logger.warning(
            "%s: what is in the folder is used where it says that it was made from the same, and "
            "made anew where not", reason,
        )  # fmt: skip
    return None


def _flatten(config: dict[str, Any]) -> dict[str, str]:
    """Dotted key -> value as JSON text (so that a tuple equals the list it was saved as)."""

    def leaves(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
        if isinstance(value, dict) and value:
            for key, child in value.items():
                yield from leaves(f"{prefix}.{key}" if prefix else str(key), child)
        else:
            yield prefix, json.dumps(value)

    return dict(leaves("", config))


def append_metrics(path: str | os.PathLike, step: int, **metrics: Any) -> None:
    """Append one line `{"step": step, ...}` to a JSON-lines file; NaN and infinity become null.

    Raises:
      InputError: the file cannot be written.
    """
    path = Path(path)
    line = sealed.add_line({"step": step, **metrics})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab+") as file:
            if file.tell() > 0:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # an interrupted run left half a line: close it
                    line = "\n" + line
            file.write(line.encode())
    except OSError as error:
        raise io_error("write", path, error) from error


def read_metrics(path: str | os.PathLike) -> list[dict[str, Any]]:
    """Read the lines of `append_metrics`, leaving out torn ones, and damaged ones with a warning.

    No file, no lines. Raises InputError if it cannot be read.
    """
    path = Path(path)
    try:
        text = path.read_text(errors="replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise io_error("read", path, error) from error
    lines = [line for line in text.split("\n") if line]
    rows = [row for row in map(sealed.read_line, lines) if row is not None]
    if num_bad := len(lines) - len(rows):
        logger.warning("%s: %d of %d lines are torn or damaged: left out", path, num_bad,
                       len(lines))  # fmt: skip
    return rows
