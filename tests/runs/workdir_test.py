"""Tests for intriguing/runs/workdir.py"""

import json
import os

import numpy as np
import pytest

from intriguing import atomic, runs, sealed
from intriguing.errors import InputError


def test_write_atomic_writes_text_and_bytes_and_creates_folders(tmp_path):
    path = tmp_path / "a" / "b.txt"
    atomic.write_atomic(path, "é")
    assert path.read_bytes() == "é".encode()
    atomic.write_atomic(path, b"\0")
    assert path.read_bytes() == b"\0"
    assert os.listdir(path.parent) == ["b.txt"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_write_atomic_failing_midway_keeps_the_old_file(tmp_path, monkeypatch, step, error):
    path = tmp_path / "file"
    atomic.write_atomic(path, "old")

    def fail(*_):
        raise error

    monkeypatch.setattr(os, step, fail)
    with pytest.raises((InputError, KeyboardInterrupt)) as caught:
        atomic.write_atomic(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]
    if isinstance(error, OSError):
        assert isinstance(caught.value, InputError)
        assert "No space left on device" in str(caught.value)


def test_write_atomic_where_a_folder_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*file/x") as caught:
        atomic.write_atomic(tmp_path / "file" / "x", "")
    assert "\n" not in str(caught.value)


def test_check_workdir_accepts_the_same_config(tmp_path):
    config = {"seed": 0, "attack": {"maxiter": 50, "bounds": (0.0, 1.0)}, "empty": {}}
    runs.create_workdir(tmp_path / "run")
    runs.check_workdir(tmp_path / "run", config)
    before = (tmp_path / "run" / "config.json").read_bytes()
    assert json.loads(before)["attack"]["maxiter"] == 50
    runs.check_workdir(tmp_path / "run", config)
    assert os.listdir(tmp_path / "run") == ["config.json"]
    assert (tmp_path / "run" / "config.json").read_bytes() == before


def test_check_workdir_names_what_differs(tmp_path):
    (tmp_path / "results").mkdir()
    runs.check_workdir(tmp_path, {"seed": 0, "attack": {"maxiter": 50, "tol": 0.1}})
    with pytest.raises(InputError) as caught:
        runs.check_workdir(tmp_path, {"seed": 0, "attack": {"maxiter": 100}, "name": "a"})
    assert str(caught.value) == (
        f"workdir {tmp_path} was made by another config: attack.maxiter is 50 there and 100 here, "
        'attack.tol is 0.1 there and absent here, name is absent there and "a" here; '
        "use another --workdir or delete it"
    )
    with pytest.raises(InputError, match="and 2 more; use"):
        runs.check_workdir(tmp_path, {f"k{i}": i for i in range(7)})


def test_settings_that_nobody_reads_any_more_do_not_keep_a_run_from_going_on(tmp_path):
    (tmp_path / "results").mkdir()
    runs.check_workdir(tmp_path, {"seed": 0, "units": {"num_top": 10}, "attack": {"tol": 0.1}})
    runs.check_workdir(tmp_path, {"seed": 0, "attack": {"tol": 0.1}})
    assert sealed.read(tmp_path / "config.json").keys() == {"seed", "attack"}


def test_check_workdir_where_nothing_was_computed_takes_the_new_config(tmp_path):
    runs.check_workdir(tmp_path, {"seed": 0})
    runs.check_workdir(tmp_path, {"seed": 1})
    assert sealed.read(tmp_path / "config.json") == {"seed": 1}


@pytest.mark.parametrize("content", ['{"seed"', "", "[1]", '{"seed": 1}', None, b"\xff"])
def test_check_workdir_with_a_damaged_config_says_so_and_goes_on(tmp_path, caplog, content):
    path = tmp_path / "config.json"
    (tmp_path / "checkpoints").mkdir()
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    runs.check_workdir(tmp_path, {"seed": 0})
    (message,) = caplog.messages
    assert message.startswith(str(path)) and "made anew where not" in message
    assert sealed.read(path) == {"seed": 0}


def test_create_workdir_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*/file"):
        runs.create_workdir(tmp_path / "file")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_create_workdir_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="Permission denied"):
        runs.create_workdir(tmp_path)


def test_metrics_survive_a_torn_line(tmp_path):
    path = tmp_path / "logs" / "metrics.jsonl"
    assert runs.read_metrics(path) == []
    runs.append_metrics(path, 1, loss=np.float32(0.5), count=np.int64(3))
    runs.append_metrics(path, 2, loss=0.25)
    path.write_bytes(path.read_bytes()[:-9])
    runs.append_metrics(path, 3, loss=float("nan"), name="a")
    assert path.read_text().startswith('{"step": 1, "loss": 0.5, "count": 3, "checksum": "')
    assert runs.read_metrics(path) == [
        {"step": 1, "loss": 0.5, "count": 3},
        {"step": 3, "loss": None, "name": "a"},
    ]


def test_append_metrics_to_a_folder(tmp_path):
    with pytest.raises(InputError, match="cannot write"):
        runs.append_metrics(tmp_path, 1, loss=0)


def test_damaged_lines_are_left_out_and_said(tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    for step in range(3):
        runs.append_metrics(path, step, loss=0.25)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1].replace("0.25", "0.35"), lines[2]]) + "\n")
    assert [row["step"] for row in runs.read_metrics(path)] == [0, 2]
    assert caplog.messages == [f"{path}: 1 of 3 lines are torn or damaged: left out"]
