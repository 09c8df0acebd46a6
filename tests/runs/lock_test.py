"""Tests for intriguing/runs/lock.py; what holds a lock is another process."""

import os
import subprocess
import sys

import pytest

from intriguing import runs
from intriguing.errors import InputError

HOLD = """
import sys, pathlib
from intriguing import runs
with runs.held(pathlib.Path(sys.argv[1]), "python launch.py --config=a.py"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_the_second_one_is_told_of_the_first(tmp_path, holder):
    with pytest.raises(InputError) as caught, runs.held(tmp_path, "another"):
        pass
    message = str(caught.value)
    assert f"in use by process {holder.pid} on " in message and "\n" not in message
    assert "(python launch.py --config=a.py)" in message


def test_a_killed_process_holds_nothing(tmp_path, holder):
    holder.kill()
    holder.wait()
    with runs.held(tmp_path, "another"):
        pass
    with runs.held(tmp_path, "and again"):
        pass


KILLED = """
import os, sys
from intriguing import atomic
os.replace = lambda *_: os._exit(0)
atomic.write_atomic(sys.argv[1], b"half")
"""


def test_leftovers_of_killed_writes_go_and_nothing_else(tmp_path):
    file = tmp_path / "results" / "a.npz"
    subprocess.run([sys.executable, "-c", KILLED, str(file)], check=True)
    unfinished = tmp_path / "checkpoints" / "net" / "5.orbax-checkpoint-tmp"
    unfinished.mkdir(parents=True)
    (unfinished / "file").write_text("")
    kept = [tmp_path / "results" / name for name in ("b.npz", ".hidden", "my.tmp")]
    for path in kept:
        path.write_text("")
    assert len(os.listdir(tmp_path / "results")) == 4
    with runs.held(tmp_path, "command"):
        assert sorted(path.name for path in (tmp_path / "results").iterdir()) == sorted(
            path.name for path in kept
        )
        assert not unfinished.exists()
