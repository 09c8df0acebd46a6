"""Runs one experiment: python launch.py --config=configs/digits.py --workdir=runs/digits

A door, not a room: flags, one line of log, one call. Without flags it lists the configs.
"""

import ast
import logging
import sys
from pathlib import Path

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))  # configs import configs.default, from wherever this is run

_CONFIG = config_flags.DEFINE_config_file("config", None, "which experiment, FILE or FILE:quick")
_WORKDIR = flags.DEFINE_string("workdir", None, "where results go (default: runs/NAME)")
_NUM_DEVICES = flags.DEFINE_integer("num_devices", None, "devices to use (default: all)")


def list_configs() -> str:
    """One line per config: its path and the first line of its docstring."""
    lines = ["usage: python launch.py --config=configs/NAME.py[:quick] [--workdir=DIR]", ""]
    for path in sorted((ROOT / "configs").glob("*.py")):
        summary = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")[0]
        lines.append(f"  configs/{path.name:24} {summary}")
    return "\n".join([*lines, "", "Override any field: --config.attack.maxiter=50 --config.seed=3"])


def parse_flags(argv: list[str]) -> list[str]:
    """Parses the flags; a misspelt or ill-typed one ends the program with one line."""
    try:
        arguments = flags.FLAGS(argv)[1:]
        if arguments:
            raise flags.Error(f"{arguments[0]}: flags begin with --")
        if _CONFIG.value is None:
            raise flags.Error("--config is missing; python launch.py alone lists the configs")
    except (flags.Error, LookupError, AttributeError, TypeError, ValueError, OSError) as error:
        reason = error.args[0] if isinstance(error, LookupError) else error
        sys.exit(f"error: {' '.join(str(reason).split())} (configs/default.py has every field)")
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
    del argv
    start_logging()
    from intriguing.errors import InputError  # jax is slow to import: wrong flags fail before it
    from intriguing.experiments import run_experiment

    name = Path(config_flags.get_config_filename(flags.FLAGS["config"]).split(":")[0]).stem
    try:
        run_experiment(_CONFIG.value, Path(_WORKDIR.value or f"runs/{name}"), _NUM_DEVICES.value)
    except InputError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted: the same command goes on from here")


if __name__ == "__main__":
    if len(sys.argv) == 1:
        print(list_configs())
    else:
        app.run(main, flags_parser=parse_flags)
