"""One run at a time on a workdir, and the leftovers of runs that were killed in it."""

import contextlib
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from intriguing.atomic import io_error
from intriguing.errors import InputError
from intriguing.progress import logger

LOCK = ".lock"
# Of `write_atomic`, of orbax, and of `processes.share`.
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp|.+\.orbax-checkpoint-tmp.*|\.claims")


@contextlib.contextmanager
def held(workdir: Path, command: str) -> Iterator[None]:
    """Within it the workdir, which must exist, is this process's; what killed ones left is gone.

    The system itself holds the lock: it ends with the process, however that ends.

    Raises:
      InputError: another process has it; says which.
    """
    path = workdir / LOCK
    try:
        file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise io_error("write", path, error) from error
    with file:
        try:
            import fcntl  # not on Windows

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"workdir {workdir} is in use by {_holder(file)}: wait for it, or use another "
                "--workdir"
            ) from error
        except (OSError, ImportError) as error:  # a system without locks
            logger.warning("%s cannot be locked (%s): run one command at a time", path, error)
        with contextlib.suppress(OSError):  # a full disk: the lock holds without a name on it
            file.truncate(0)
            about = {"process": os.getpid(), "host": socket.gethostname(), "command": command}
            file.write(json.dumps(about))
            file.flush()
        _sweep(workdir)
        yield


def _holder(file) -> str:
    try:
        file.seek(0)
        about = json.loads(file.read())
        return f"process {about['process']} on {about['host']} ({about['command']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _sweep(workdir: Path) -> None:
    """Removes the temporary files of writes that did not end."""
    for folder, folders, files in os.walk(workdir):
        for name in filter(_TEMPORARY.fullmatch, [*folders, *files]):
            path = Path(folder) / name
            if name in folders:
                folders.remove(name)
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
