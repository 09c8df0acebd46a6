"""Tests for ../launch.py: what a user types wrongly is answered with one line and status 2."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from intriguing import sealed

ROOT = Path(__file__).resolve().parent.parent
DIGITS = "--config=configs/digits.py:quick"
# One model only: the mistakes that are found in training come quickly.
ONE_MODEL = (DIGITS, "--config.model_names=('FC10(1)',)")


def launch(*arguments):
    """Runs launch.py as a user would; returns its finished process, output as text."""
    return subprocess.run(
        [sys.executable, "launch.py", *arguments],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def error_of(*arguments) -> str:
    """The error line of a run that must fail for a mistake of the user's."""
    process = launch(*arguments)
    assert process.returncode == 2, process.stderr
    assert "Traceback" not in process.stderr + process.stdout
    (line,) = (line for line in process.stderr.splitlines() if line.startswith("error: "))
    assert process.stderr.endswith(line + "\n")  # and nothing after it
    return line.removeprefix("error: ")


def test_no_arguments_lists_every_config():
    process = launch()
    assert process.returncode == 0 and process.stderr == ""
    paths = {path.name for path in (ROOT / "configs").glob("[!_]*.py")} - {"default.py"}
    assert "digits.py" in paths
    lines = process.stdout.splitlines()
    for name in sorted(paths):
        (line,) = (line for line in lines if line.startswith(f"  configs/{name} "))
        assert line.split(maxsplit=1)[1]  # says what it is


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_names_configs_and_flags(flag):
    process = launch(flag)
    for words in ("configs/digits.py", "--config=", "--workdir", "--num_devices", "fetched"):
        assert words in process.stdout
    assert process.returncode == 0 and process.stderr == ""
    assert max(map(len, process.stdout.splitlines())) <= 100


def test_a_reader_that_leaves_is_no_error():
    command = f"{sys.executable} launch.py | head -n 1"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True,
                          timeout=60, check=True)  # fmt: skip
    assert done.stdout.startswith("usage") and done.stderr == ""


NO_NETWORK = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}


@pytest.mark.parametrize("config", ["alexnet_attack", "imagenet_attack", "mnist_cross_model"])
def test_without_a_network_one_line_says_what_to_fetch(tmp_path, config):
    """Typed in another folder, with the workdir in the home that a shell does not expand."""
    environment = {name: value for name, value in os.environ.items() if name != "INTRIGUING_DATA"}
    cache = str(tmp_path / "cache")
    environment |= NO_NETWORK | {"INTRIGUING_CACHE": cache, "HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "intriguing", f"--config=configs/{config}.py",
               "--workdir=~/run"]  # fmt: skip
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True,
                          timeout=120, check=False)  # fmt: skip
    assert done.returncode == 2 and "Traceback" not in done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    for words in ("MB)", cache, "INTRIGUING_CACHE", "no network"):
        assert words in line
    assert not (tmp_path / "~").exists() and (tmp_path / "home" / "run").is_dir()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([DIGITS, "--config.atack.maxiter=3"], "--config.atack.maxiter: did you mean attack?"),
        (
            [DIGITS, "--config.models['AE400-10'].num_unit=3"],
            "--config.models['AE400-10'].num_unit: did you mean num_units?",
        ),
        ([DIGITS, "--noconfig.data.downlod"], "--noconfig.data.downlod: did you mean download?"),
        ([DIGITS, "--config.xyz=3"], "--config.xyz: no field is called xyz"),
        ([DIGITS, "--config.models.AE400-10.num_units=3"], "in brackets: --config.models['AE400-"),
        ([DIGITS, "--config.attack.maxiter=many"], "--config.attack.maxiter=many: invalid literal"),
        ([DIGITS, "--config.attack=3"], "--config.attack=3: Failed to parse"),
        ([DIGITS, "--num_devices=two"], "--num_devices=two: invalid literal"),
        (["--config=configs/digits.py:fast"], "unknown argument :fast; there is :quick"),
        (["--config=configs/none.py", "--config.seed=1"], "configs/none.py: no such file"),
        (["--config", "configs/none.py"], "configs/none.py: no such file"),
        (["--config="], "--config=: no such file"),
        (["--config=BUILD.md"], "--config=BUILD.md: "),
        (["--workdir=/tmp"], "--config=FILE is missing"),
        ([DIGITS, "stray"], "stray: flags begin with --"),
        ([DIGITS, "--workdri=x"], "'workdri'. Did you mean: workdir"),
    ],
)
def test_wrong_flags(arguments, message):
    assert message in error_of(*arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([DIGITS, "--config.experiment=cross_modle"], ["cross_modle", "one of", "cross_model"]),
        ([DIGITS, "--config.data.name=digit"], ["'digit'", "did you mean digits"]),
        ([DIGITS, "--config.model_names=('FC11',)"], ['"FC11"', "FC10(1)", "AE400-10"]),
        (
            [*ONE_MODEL, "--config.models['FC10(1)'].family=fuly_connected"],
            ['"fuly_connected"', "one of", "fully_connected"],
        ),
        ([*ONE_MODEL, "--config.train.batch_size=0"], ["train.batch_size is 0", "at least 1"]),
        ([*ONE_MODEL, "--config.models['FC10(1)'].weight_decay.fc1=-1.0"], ["fc1 is -1.0"]),
    ],
)
def test_wrong_values(tmp_path, arguments, words):
    message = error_of(*arguments, f"--workdir={tmp_path / 'run'}")
    assert all(word in message for word in words), message


def test_workdir_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    message = error_of(DIGITS, f"--workdir={tmp_path / 'file'}")
    assert "cannot write" in message and str(tmp_path / "file") in message


def test_workdir_of_another_config(tmp_path):
    sealed.write(tmp_path / "config.json", {"seed": 7})
    (tmp_path / "results").mkdir()
    message = error_of(DIGITS, f"--workdir={tmp_path}")
    assert str(tmp_path) in message and "seed is 7 there and 0 here" in message
