"""Small runs of launch.py, as processes that can be killed and starved, and their results."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np

from intriguing import sealed
from intriguing.runs import load_results

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # configs import configs.default
MODELS = ("FC10(1e-4)", "FC10(1)")
SETTINGS = {
    "data.num_train": 300, "train.num_epochs": 30, "train.batch_size": 100,
    "attack.num_images": 24, "shard_size": 3, "model_names": MODELS,
}  # fmt: skip
RUN = """
import runpy, sys
sys.argv[:1] = ["launch.py"]
runpy.run_path("launch.py", run_name="__main__")
"""
BEGUN = "print('begun', flush=True)" + RUN  # Python itself is up: what comes now is ours
# Checkpoints at every look, as long trainings write one a minute.
OFTEN = (
    """
from intriguing.training import loop
loop.Run.__new__.__defaults__ = tuple(
    0.0 if value == 60.0 else value for value in loop.Run.__new__.__defaults__
)
"""
    + RUN
)


def config(**changes):
    """The config of the small run, for `run_experiment`."""
    found = runpy.run_path(str(ROOT / "configs" / "digits.py"))["get_config"]("quick")
    for key, value in {**SETTINGS, **changes}.items():
        *path, last = key.split(".")
        record = found
        for name in path:
            record = record[name]
        record[last] = value
    return found


def start(workdir: Path, *flags: str, script: str | None = None, **options) -> subprocess.Popen:
    """launch.py on the small run, begun; its output is piped as text."""
    given = {flag.partition("=")[0] for flag in flags}
    settings = [f"--config.{key}={value}" for key, value in SETTINGS.items()
                if f"--config.{key}" not in given]  # fmt: skip
    program = ["-c", script] if script else ["launch.py"]
    command = [
        sys.executable, *program, "--config=configs/digits.py:quick", *settings,
        f"--workdir={workdir}", *flags,
    ]  # fmt: skip
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    env = {**os.environ, "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        command, cwd=ROOT, text=True, errors="replace", **{"env": env, **pipes, **options}
    )


def finish(process: subprocess.Popen) -> tuple[int, str]:
    """(status, all that it wrote)."""
    out, err = process.communicate(timeout=300)
    return process.returncode, (out or "") + (err or "")


def run(workdir: Path, *flags: str, **options) -> tuple[int, str]:
    """`start` and `finish`."""
    return finish(start(workdir, *flags, **options))


def numbers(workdir: Path) -> dict:
    """All that a finished run found: tables, claims, and every array."""
    results = load_results(workdir)
    arrays = {
        f"{folder}/{name}": rows[name] for folder, rows in results.arrays.items() for name in rows
    }
    return {key: results.summary[key] for key in ("tables", "claims", "measurements")} | arrays


def same(found: dict, expected: dict) -> bool:
    """Whether two runs found the same, bit by bit."""
    if found.keys() != expected.keys():
        return False
    for key, value in expected.items():
        if isinstance(value, np.ndarray):
            if not np.array_equal(found[key], value, equal_nan=value.dtype.kind == "f"):
                return False
        elif found[key] != value:
            return False
    return True


def is_one_line(output: str) -> bool:
    """Whether a failed run's output has one line of error, and no traceback."""
    lines = [line for line in output.splitlines() if line.startswith("error: ")]
    return len(lines) == 1 and "Traceback" not in output


def config_of(workdir: Path) -> dict:
    """What config.json holds."""
    return sealed.read(workdir / "config.json")
