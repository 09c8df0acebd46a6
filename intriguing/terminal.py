"""What the user of a program sees: our log lines, one line for a mistake, and never a traceback
because something cannot be printed.
"""

import contextlib
import errno
import logging
import os
import sys
from collections.abc import Iterator
from typing import NoReturn

CANNOT_PRINT = (errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EBADF)


def fail(reason: object) -> NoReturn:
    """Ends the program for a mistake of the user's: one line, status 2."""
    print(f"error: {' '.join(str(reason).split())}", file=sys.stderr)
    sys.exit(2)


def start_logging() -> None:
    """Our own lines at INFO, one format; other libraries' (orbax logs every file) at WARNING."""
    from absl import logging as absl_logging

    absl_logging.set_verbosity(absl_logging.WARNING)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("intriguing")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


@contextlib.contextmanager
def printing() -> Iterator[None]:
    """Around a program: whatever standard output is, it ends with status 0 or one line."""
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None: closed by the shell
        stream.reconfigure(errors="backslashreplace")  # names of files may be of any bytes
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        if error.filename is not None or error.errno not in CANNOT_PRINT:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno != errno.EPIPE:  # of `launch.py | head`: the reader has what it wanted
            fail(f"cannot print: {error.strerror}; what was computed is in the workdir")
