"""Runs one experiment: python launch.py --config=configs/digits.py --workdir=runs/digits

A door, not a room: flags, one line of log, one call. Without flags it lists the configs.
"""

import os
import shlex
import signal
import sys
from pathlib import Path


def leave_at_once(number: int, frame) -> None:
    """For Ctrl-C in the imports that follow: a word, and no traceback."""
    del frame
    os.write(2, b"\ninterrupted\n")
    os._exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, leave_at_once)

from absl import app, flags  # noqa: E402
from ml_collections import config_flags  # noqa: E402

import configs  # noqa: E402
from intriguing import interrupts, terminal  # noqa: E402

_CONFIG = config_flags.DEFINE_config_file("config", None, "which experiment, FILE or FILE:quick")
_WORKDIR = flags.DEFINE_string("workdir", None, "where results go (default: runs/NAME)")
_NUM_DEVICES = flags.DEFINE_integer("num_devices", None, "devices to use (default: all)")
_CACHE = flags.DEFINE_bool("compilation_cache", True, "keep compiled programs between runs")
_DISTRIBUTED = flags.DEFINE_bool("distributed", False, "one of several processes; see BUILD.md")
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of the first of them")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "how many they are")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "which one this is, from 0")


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
        terminal.fail(error)
    return argv[:1]


def main(argv: list[str]) -> None:
    command = shlex.join(["python", Path(argv[0]).name, *sys.argv[1:]])
    terminal.start_logging()
    from intriguing.errors import InputError  # jax is slow to import: wrong flags fail before it
    from intriguing.experiments import keep_compilations, run_experiment
    from intriguing.processes import Team

    if _CACHE.value:
        keep_compilations()
    name = Path(config_flags.get_config_filename(flags.FLAGS["config"]).split(":")[0]).stem
    interrupts.install()
    try:
        workdir = Path(_WORKDIR.value or f"runs/{name}").expanduser()
        team = Team(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
        run_experiment(
            _CONFIG.value, workdir, _NUM_DEVICES.value, command,
            team if _DISTRIBUTED.value or any(each is not None for each in team) else None,
        )  # fmt: skip
    except InputError as error:
        terminal.fail(error)
    except KeyboardInterrupt as interrupt:
        print("\ninterrupted: the same command goes on from here", file=sys.stderr)
        sys.exit(128 + (interrupt.args[0] if interrupt.args else signal.SIGINT))


if __name__ == "__main__":
    with terminal.printing():
        if len(sys.argv) == 1 or {"-h", "--help", "-help"} & set(sys.argv[1:]):
            print(configs.describe(), flush=True)
        else:
            app.run(main, flags_parser=parse_flags)
