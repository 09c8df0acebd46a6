"""Tests for intriguing/runs/workdir.py"""

import json
import os

import numpy as np
import pytest

from intriguing import atomic, runs
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
    assert json.loads((tmp_path / "config.json").read_text()).keys() == {"seed", "attack"}


def test_check_workdir_where_nothing_was_computed_takes_the_new_config(tmp_path):
    runs.check_workdir(tmp_path, {"seed": 0})
    runs.check_workdir(tmp_path, {"seed": 1})
    assert json.loads((tmp_path / "config.json").read_text()) == {"seed": 1}


def test_check_workdir_damaged_config(tmp_path):
    (tmp_path / "config.json").write_text('{"seed"')
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(InputError, match=r"config\.json is not JSON"):
        runs.check_workdir(tmp_path, {"seed": 0})


def test_check_workdir_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*/file"):
        runs.check_workdir(tmp_path / "file", {})


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_check_workdir_without_permission(tmp_path):
    runs.check_workdir(tmp_path, {})
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="Permission denied"):
        runs.check_workdir(tmp_path, {})


def test_metrics_survive_a_torn_line(tmp_path):
    path = tmp_path / "logs" / "metrics.jsonl"
    assert runs.read_metrics(path) == []
    runs.append_metrics(path, 1, loss=np.float32(0.5), count=np.int64(3))
    runs.append_metrics(path, 2, loss=0.25)
    path.write_bytes(path.read_bytes()[:-9])
    runs.append_metrics(path, 3, loss=float("nan"), name="a")
    assert path.read_text().splitlines()[0] == '{"step": 1, "loss": 0.5, "count": 3}'
    assert runs.read_metrics(path) == [
        {"step": 1, "loss": 0.5, "count": 3},
        {"step": 3, "loss": None, "name": "a"},
    ]


def test_append_metrics_to_a_folder(tmp_path):
    with pytest.raises(InputError, match="cannot write"):
        runs.append_metrics(tmp_path, 1, loss=0)


def test_write_summary_keeps_order_and_has_no_nan(tmp_path):
    path = tmp_path / "summary.json"
    summary = {
        "z": np.float64("nan"),
        "a": {"y": [1, float("inf")], "b": np.arange(2)},
        "n": (True,),
    }
    runs.write_summary(path, summary)
    text = path.read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {
        "z": None,
        "a": {"y": [1, None], "b": [0, 1]},
        "n": [True],
    }
    assert text.startswith('{\n "z": null,\n "a": {')
