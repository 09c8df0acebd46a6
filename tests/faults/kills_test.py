"""Runs that are killed or stopped at random moments, and gone on with."""

import os
import signal
import time

import numpy as np
import pytest
from amount import share
from programs import BEGUN, OFTEN, is_one_line, numbers, run, same, start

STOPPED = "interrupted: the same command goes on from here"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(numbers, seconds) of a run that nobody disturbs; what it compiles serves the others."""
    run(tmp_path_factory.mktemp("first") / "run")
    workdir, begin = tmp_path_factory.mktemp("whole") / "run", time.monotonic()
    status, output = run(workdir)
    assert status == 0, output
    return numbers(workdir), time.monotonic() - begin


def moments(num: int, seconds: float, seed: int) -> list[float]:
    """Random ones, from the end of the imports to the end of the run."""
    rng = np.random.default_rng(seed)
    return list(rng.uniform(0.15, 1.0, num) * seconds)


@pytest.mark.parametrize("moment", range(share(20, 1)))
def test_kill_9_in_an_attack(whole, tmp_path, tally, moment):
    """kill -9 in a run, anywhere; resumed, equal bit for bit."""
    expected, seconds = whole
    process = start(tmp_path / "run")
    time.sleep(moments(20, seconds, seed=0)[moment])
    process.kill()
    process.communicate()
    status, output = run(tmp_path / "run")
    survived = status == 0 and same(numbers(tmp_path / "run"), expected)
    tally(survived)
    assert survived, output
    assert not [*(tmp_path / "run").rglob("*tmp*")]


LONG = ("--config.train.num_epochs=40", "--config.model_names=('FC100-100-10',)",
        "--config.attack.num_images=1")  # fmt: skip


@pytest.mark.skipif(not share(1, 0), reason="make faults runs it")
def test_kill_9_in_a_training(tmp_path, tally):
    """kill -9 in a training that saves all the time; resumed, equal bit for bit."""
    status, output = run(tmp_path / "whole", *LONG)
    assert status == 0, output
    begin = time.monotonic()
    run(tmp_path / "timed", *LONG, script=OFTEN)
    seconds, expected = time.monotonic() - begin, numbers(tmp_path / "whole")
    for i, moment in enumerate(moments(20, seconds, seed=1)):
        workdir = tmp_path / f"killed{i}"
        process = start(workdir, *LONG, script=OFTEN)
        time.sleep(moment)
        process.kill()
        process.communicate()
        status, output = run(workdir, *LONG, script=OFTEN)
        survived = status == 0 and same(numbers(workdir), expected)
        tally(survived)
        assert survived, output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
@pytest.mark.parametrize("moment", range(share(8, 1)))
def test_stopped_once(whole, tmp_path, tally, number, moment):
    """Ctrl-C and SIGTERM, once: one line; resumed, equal bit for bit."""
    expected, seconds = whole
    process = start(tmp_path / "run", script=BEGUN)
    assert process.stdout.readline() == "begun\n"
    time.sleep(moments(8, seconds, seed=number)[moment] if moment else 0.25)  # also in its imports
    process.send_signal(number)
    _, errors = process.communicate()
    status, in_time = process.returncode, process.returncode != 0
    ended = status in (128 + number, -number, 0) and "Traceback" not in errors
    if in_time and (tmp_path / "run").exists() and status > 0:
        ended &= STOPPED in errors or errors.strip().endswith("interrupted")
    status, output = run(tmp_path / "run")
    survived = ended and status == 0 and same(numbers(tmp_path / "run"), expected)
    tally(survived)
    assert survived, errors + output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_stopped_twice(tmp_path, tally, number):
    """Ctrl-C and SIGTERM, twice: at once, whatever it does; the next run goes on."""
    process = start(tmp_path / "run", *LONG, script=OFTEN)
    while not (tmp_path / "run" / ".lock").exists():
        time.sleep(0.05)
    time.sleep(1)
    for _ in range(2):
        process.send_signal(number)
        time.sleep(0.01)
    begin = time.monotonic()
    process.communicate()
    survived = process.returncode == 128 + number and time.monotonic() - begin < 2
    tally(survived)
    assert survived, process.returncode


@pytest.mark.parametrize("flags", [(), ("--config.seed=5",)], ids=["same", "another"])
def test_two_at_once(whole, tmp_path, tally, flags):
    """Two commands at once on a workdir: the second is refused, the first is not disturbed."""
    expected, _ = whole
    first = start(tmp_path / "run")
    while not (tmp_path / "run" / "config.json").exists():
        time.sleep(0.02)
    status, output = run(tmp_path / "run", *flags)
    refused = status == 2 and is_one_line(output) and f"in use by process {first.pid}" in output
    _, errors = first.communicate()
    survived = refused and first.returncode == 0 and same(numbers(tmp_path / "run"), expected)
    tally(survived)
    assert survived, output + errors


def test_what_cannot_be_printed(whole, tmp_path, tally):
    """Standard output closed, full, or without the characters: no traceback, results are there."""
    expected, _ = whole
    ascii_only = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONIOENCODING": "ascii"}
    run(tmp_path / "run")
    with open("/dev/full", "w") as full:
        cases = {
            "full": {"stdout": full},
            "closed": {"stdout": None, "preexec_fn": lambda: os.close(1)},
            "ascii": {"env": ascii_only},
        }
        for name, options in cases.items():
            status, output = run(tmp_path / "run", **options)
            ended = is_one_line(output) if name == "full" else status == 0
            survived = ended and "Traceback" not in output
            survived &= same(numbers(tmp_path / "run"), expected)
            tally(survived)
            assert survived, f"{name}: {status} {output}"


def test_a_workdir_whose_name_is_not_utf_8(tmp_path, tally):
    """A workdir whose name is not UTF-8: one line."""
    status, output = run(tmp_path / os.fsdecode(b"\xff\xfe"))
    tally(status == 2 and is_one_line(output))
    assert status == 2 and is_one_line(output), output
