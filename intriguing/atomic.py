"""Files that are whole or not there at all, and what the user reads when they cannot be."""

import os
import secrets
from pathlib import Path

from intriguing.errors import InputError
from intriguing.interrupts import unbroken


def write_atomic(path: str | os.PathLike, data: bytes | str) -> None:
    """Write `data` (a str as UTF-8) to `path`, which holds the old content or all of the new.

    Parent folders are created.

    Raises:
      InputError: the file cannot be written (permission, full disk, a file in a folder's place).
    """
    path = Path(path)
    if isinstance(data, str):
        data = data.encode(errors="backslashreplace")  # a file's name need not be UTF-8
    # In the same folder, because os.replace is atomic only within one file system.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unbroken():
            try:
                with open(temporary, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
    except OSError as error:
        raise io_error("write", path, error) from error


def io_error(verb: str, path: Path, error: OSError) -> InputError:
    """What the user reads of an error of the file system, when we wanted to `verb` a path."""
    reason = error.strerror or error
    return InputError(
        f"cannot {verb} {path}: {reason}; check the folder and its free space, or choose another"
    )
