"""The configs, one short file per table or figure. Here: their list, and what a typo meant."""

import ast
import difflib
import re
import runpy
import textwrap
from pathlib import Path

from ml_collections import ConfigDict
from ml_collections.config_flags import config_path


def describe() -> str:
    """How to run, and one line per config: its path and the first line of its docstring."""
    lines = ["usage: python launch.py --config=configs/NAME.py[:quick] [--workdir=DIR]", ""]
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        if path.stem == "default":  # what the others start from
            continue
        summary = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")[0]
        start = f"  configs/{path.name:27} "
        lines.append(textwrap.fill(start + summary, 100, subsequent_indent=" " * len(start)))
    return "\n".join([
        *lines, "", "Override any field: --config.attack.budget=50 --config.seed=3",
        "Flags: --workdir=DIR (runs/NAME), --num_devices=N (all), --nocompilation_cache",
        "Data and weights that are missing are fetched; --config.data.download=False forbids it.",
        "The same command again resumes. Results: DIR/report.html",
        "Several hosts: --distributed, or --coordinator=HOST:PORT --num_processes=N --process_id=I",
    ])  # fmt: skip


def locate(argv: list[str]) -> list[str]:
    """The command line with the config's path as a file that is there, if it is one of these.

    `--config=configs/digits.py` is meant wherever the command is typed; a file in the folder where
    it is typed comes first.
    """
    found = []
    for arg in argv:
        given = re.fullmatch(r"(--?config=)(configs/[^:]*)(:.*)?", arg)
        if given and not Path(given[2]).is_file():
            path = Path(__file__).parent.parent / given[2]
            arg = f"{given[1]}{path}{given[3] or ''}" if path.is_file() else arg
        found.append(arg)
    return found


def check(argv: list[str]) -> None:
    """Checks what the command line says of the config, before the flags are parsed.

    The parser of ml_collections would answer a missing file when a field is first read, an unknown
    argument with a traceback inside its message, and a misspelt field without the flag.

    Raises:
      ValueError: the file of --config=FILE:ARGUMENT is missing or does not take ARGUMENT, or there
        is no field of the name of a --config.FIELD.
    """
    given = re.search(r"^--?config[=\n](.*)", "\n".join(argv), re.MULTILINE)
    if given is None:
        return
    path, *argument = given[1].split(":", 1)
    if not Path(path).is_file():
        raise ValueError(f"--config={path}: no such file; python launch.py alone lists the configs")
    try:
        config = runpy.run_path(path)["get_config"](*argument)
    except (KeyError, SyntaxError, ValueError) as error:
        raise ValueError(f"--config={given[1]}: {error}") from error
    for arg in argv:
        if re.match(r"--?(no)?config\.", arg):
            _check_field(arg.split("=")[0], config)


def _check_field(flag: str, config: ConfigDict) -> None:
    try:
        path = config_path.split(flag.partition(".")[2])
    except ValueError as error:
        example = "--config.models['AE400-10'].num_units=300"
        raise ValueError(f"{flag}: put names that hold - or ( in brackets: {example}") from error
    node = config
    for key in path:
        if isinstance(node, tuple | list):
            return  # an index: left to the parser
        fields = list(node) if isinstance(node, ConfigDict) else []
        if key not in fields:
            nearest = difflib.get_close_matches(str(key), fields, n=1)
            hint = f"did you mean {nearest[0]}?" if nearest else f"no field is called {key}"
            raise ValueError(f"{flag}: {hint} (intriguing/experiments/settings.py has every field)")
        node = node[key]
