"""The files of a workdir: made by one config, with metrics and a summary."""

import json
import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from intriguing.atomic import io_error, write_atomic
from intriguing.errors import InputError

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


def check_workdir(workdir: str | os.PathLike, config: dict[str, Any]) -> None:
    """Create `workdir`, or make sure that what is in it was made by this very config.

    The config (a nested dict that JSON can hold) is kept in `workdir/config.json`; it may differ
    in `SPEED_ONLY`, and lack whole groups of settings that are there.

    Raises:
      InputError: the folder cannot be written, or holds the results of another config.
    """
    workdir, text_here = Path(workdir), json.dumps(config, indent=1) + "\n"
    path = workdir / "config.json"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=workdir):  # finds out now, not after an hour of training
            pass
        text = path.read_text() if path.exists() else None
    except OSError as error:
        raise io_error("write", workdir, error) from error
    if text is None or not any((workdir / part).exists() for part in _COMPUTED):
        write_atomic(path, text_here)  # nothing there can be mixed up
        return
    try:
        there = _flatten(json.loads(text))
    except ValueError as error:
        raise InputError(
            f"{path} is not JSON ({error}); use another --workdir or delete it"
        ) from error
    here = _flatten(config)
    # A group of settings that nobody reads any more was of an older version, and changes nothing.
    read = [key for key in there | here if key.partition(".")[0] in config]
    differences = [
        f"{key} is {there.get(key, 'absent')} there and {here.get(key, 'absent')} here"
        for key in read
        if there.get(key) != here.get(key) and key not in SPEED_ONLY
    ]
    if not differences:
        write_atomic(path, text_here)
    else:
        shown = ", ".join(differences[:_MAX_DIFFERENCES])
        if (num_more := len(differences) - _MAX_DIFFERENCES) > 0:
            shown += f" and {num_more} more"
        raise InputError(
            f"workdir {workdir} was made by another config: {shown}; "
            "use another --workdir or delete it"
        )


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
    line = json.dumps(_plain({"step": step, **metrics})) + "\n"
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
    """Read the lines of `append_metrics`, leaving out torn ones; no file, no lines."""
    path = Path(path)
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(errors="replace").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def write_summary(path: str | os.PathLike, summary: dict[str, Any]) -> None:
    """Write `summary` as JSON in its own order, atomically; NaN and infinity become null."""
    write_atomic(path, json.dumps(_plain(summary), indent=1, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    """What strict JSON can hold: NumPy's and JAX's numbers become Python's, NaN and inf None."""
    if isinstance(value, dict):
        return {str(key): _plain(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(child) for child in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
