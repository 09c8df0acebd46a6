"""Runs one experiment: python launch.py --config=configs/digits.py --workdir=runs/digits

A door, not a room: flags, one line of log, one call. Without flags it lists the configs.
"""

import errno
import logging
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import NoReturn


def leave_at_once(number: int, frame) -> NoReturn:
    """For Ctrl-C before anything has begun: no traceback of some import."""
    del frame
    os.write(2, b"\ninterrupted\n")
    os._exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, leave_at_once)

from absl import app, flags  # noqa: E402
from absl import logging as absl_logging  # noqa: E402
from ml_collections import config_flags  # noqa: E402

import configs  # noqa: E402

CANNOT_PRINT = (errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EBADF)
_CONFIG = config_flags.DEFINE_config_file("config", None, "which experiment, FILE or FILE:quick")
_WORKDIR = flags.DEFINE_string("workdir", None, "where results go (default: runs/NAME)")
_NUM_DEVICES = flags.DEFINE_integer("num_devices", None, "devices to use (default: all)")
_CACHE = flags.DEFINE_bool("compilation_cache", True, "keep compiled programs between runs")


def fail(reason: object) -> NoReturn:
    """Ends the program for a mistake of the user's: one line, status 2."""
    print(f"error: {' '.join(str(reason).split())}", file=sys.stderr)
    sys.exit(2)


def parse_flags(argv: list[str]) -> list[str]:
    """Parses the flags; a misspelt or ill-typed one ends the program with one line."""
    try:
        argv = configs.locate(argv)
        configs.check(argv)
        if arguments := flags.FLAGS(argv)[1:]:
            raise flags.Error(f"{arguments[0]}: flags begin with --")
        if _CONFIG.value is None:
            raise flags.Error("--config=FILE is missing; python launch.py alone lists the configs")
    except (flags.Error, LookupError, AttributeError, TypeError, ValueError, OSError) as error:
        fail(error)
    return argv[:1]


def start_logging() -> None:
    """Our own lines at INFO, one format; other libraries' (orbax logs every file) at WARNING."""
    absl_logging.set_verbosity(absl_logging.WARNING)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("intriguing")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def main(argv: list[str]) -> None:
    command = shlex.join(["python", Path(argv[0]).name, *sys.argv[1:]])
    start_logging()
    from intriguing import interrupts  # jax is slow to import: wrong flags fail before it
    from intriguing.errors import InputError
    from intriguing.experiments import keep_compilations, run_experiment

    if _CACHE.value:
        keep_compilations()
    name = Path(config_flags.get_config_filename(flags.FLAGS["config"]).split(":")[0]).stem
    interrupts.install()
    try:
        workdir = Path(_WORKDIR.value or f"runs/{name}").expanduser()
        run_experiment(_CONFIG.value, workdir, _NUM_DEVICES.value, command)
    except InputError as error:
        fail(error)
    except KeyboardInterrupt as interrupt:
        print("\ninterrupted: the same command goes on from here", file=sys.stderr)
        sys.exit(128 + (interrupt.args[0] if interrupt.args else signal.SIGINT))


def run() -> None:
    """Lists the configs, or runs one; what cannot be printed is no reason for a traceback."""
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None: closed by the shell
        stream.reconfigure(errors="backslashreplace")  # names of files may be of any bytes
    try:
        if len(sys.argv) == 1 or {"-h", "--help", "-help"} & set(sys.argv[1:]):
            print(configs.describe(), flush=True)
        else:
            app.run(main, flags_parser=parse_flags)
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        if error.filename is not None or error.errno not in CANNOT_PRINT:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno != errno.EPIPE:  # of `launch.py | head`: the reader has what it wanted
            fail(f"cannot print: {error.strerror}; what was computed is in the workdir")


if __name__ == "__main__":
    run()
