"""JSON files that carry a checksum of themselves: a changed digit is seen."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

from intriguing.atomic import io_error, write_atomic
from intriguing.errors import InputError, first_line

SUM = "checksum"


def write(path: Path, content: dict[str, Any]) -> None:
    """Writes a dict as JSON in its own order, atomically; NaN and infinity become null.

    Raises:
      InputError: as `write_atomic`.
    """
    content = plain(content)
    sealed = {**content, SUM: _sum(content)}
    write_atomic(path, json.dumps(sealed, indent=1, allow_nan=False) + "\n")


def read(path: Path) -> dict[str, Any]:
    """What `write` has written.

    Raises:
      FileNotFoundError: there is no such file.
      InputError: it is damaged, or cannot be read.
    """
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise io_error("read", path, error) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({first_line(error)})") from error
    if not isinstance(found, dict) or found.pop(SUM, "") != _sum(found):
        raise InputError(f"{path} is damaged (bad checksum), or was changed by hand")
    return found


def add_line(content: dict[str, Any]) -> str:
    """One line of a file of lines, with its checksum."""
    content = plain(content)
    return json.dumps({**content, SUM: _sum(content)[:8]}, allow_nan=False) + "\n"


def read_line(text: str) -> dict[str, Any] | None:
    """What `add_line` was given; None for a line that is torn or damaged."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or found.pop(SUM, "") != _sum(found)[:8]:
        return None
    return found


def _sum(content: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()


def plain(value: Any) -> Any:
    """What strict JSON can hold: NumPy's and JAX's numbers become Python's, NaN and inf None."""
    if isinstance(value, dict):
        return {str(key): plain(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [plain(child) for child in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
