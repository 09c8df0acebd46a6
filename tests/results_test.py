"""Tests for ../intriguing/results.py"""

import json
import os

import numpy as np
import pytest

from intriguing import results
from intriguing.errors import InputError


def _damage(path, how):
    data = path.read_bytes()
    if how == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif how == "flipped":
        middle = data.index(b"NUMPY") + 130  # within the first array's numbers
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    elif how == "shape":  # one bit: np.load alone stops before the checksum and returns 1,000
        path.write_bytes(data.replace(b"(10000,)", b"(1000 ,)"))
    elif how == "not a zip":
        path.write_bytes(b"hello")
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "npy":
        with open(path, "wb") as file:
            np.save(file, np.arange(3))


def test_write_atomic_writes_text_and_bytes_and_creates_folders(tmp_path):
    path = tmp_path / "a" / "b.txt"
    results.write_atomic(path, "é")
    assert path.read_bytes() == "é".encode()
    results.write_atomic(path, b"\0")
    assert path.read_bytes() == b"\0"
    assert os.listdir(path.parent) == ["b.txt"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_write_atomic_failing_midway_keeps_the_old_file(tmp_path, monkeypatch, step, error):
    path = tmp_path / "file"
    results.write_atomic(path, "old")

    def fail(*_):
        raise error

    monkeypatch.setattr(os, step, fail)
    with pytest.raises((InputError, KeyboardInterrupt)) as caught:
        results.write_atomic(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]
    if isinstance(error, OSError):
        assert isinstance(caught.value, InputError)
        assert "No space left on device" in str(caught.value)


def test_write_atomic_where_a_folder_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*file/x") as caught:
        results.write_atomic(tmp_path / "file" / "x", "")
    assert "\n" not in str(caught.value)


def test_arrays_round_trip(tmp_path):
    arrays = {"x": np.arange(6, dtype=np.int8).reshape(3, 2), "y": np.float32([np.nan, 1])}
    results.save_arrays(tmp_path / "a.npz", arrays)
    loaded = results.load_arrays(tmp_path / "a.npz")
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)


def test_load_arrays_missing(tmp_path, caplog):
    assert results.load_arrays(tmp_path / "none.npz") is None
    assert not caplog.records


def test_load_arrays_unreadable_is_not_damage(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        results.load_arrays(tmp_path)


@pytest.mark.parametrize("how", ["truncated", "flipped", "shape", "not a zip", "empty", "npy"])
def test_load_arrays_damaged(tmp_path, caplog, how):
    path = tmp_path / "a.npz"
    results.save_arrays(path, {"x": np.arange(10_000.0)})
    _damage(path, how)
    assert results.load_arrays(path) is None
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    message = record.getMessage()
    assert message.startswith(f"{path} is damaged (") and message.endswith("): recomputing it")
    assert "()" not in message and "\n" not in message


def test_load_arrays_never_returns_wrong_numbers_nor_raises(tmp_path):
    path = tmp_path / "a.npz"
    x = np.arange(4.0)
    results.save_arrays(path, {"x": x})
    data = path.read_bytes()
    num_damaged = 0
    for i in range(len(data)):
        for bit in range(8):
            path.write_bytes(data[:i] + bytes([data[i] ^ 1 << bit]) + data[i + 1 :])
            loaded = results.load_arrays(path)
            num_damaged += loaded is None
            if loaded is not None:  # a date or another byte that carries nothing
                np.testing.assert_array_equal(next(iter(loaded.values())), x)
    assert num_damaged > 4 * len(data)


class _Compute:
    """Squares; remembers what it was asked for, and is interrupted at `stop_at`."""

    def __init__(self, stop_at=None):
        self.calls, self.stop_at = [], stop_at

    def __call__(self, start, stop):
        if start == self.stop_at:
            raise KeyboardInterrupt
        self.calls.append((start, stop))
        return {"square": np.arange(start, stop) ** 2, "pair": np.ones((stop - start, 2)) * start}


def test_map_shards_concatenates_in_order_and_resumes(tmp_path):
    directory, progress = tmp_path / "shards", []
    interrupted = _Compute(stop_at=8)
    with pytest.raises(KeyboardInterrupt):
        results.map_shards(directory, 10, 4, interrupted)
    assert sorted(os.listdir(directory)) == ["000000-000004.npz", "000004-000008.npz"]

    (directory / "000000-000004.npz").unlink()
    resumed = _Compute()
    arrays = results.map_shards(directory, 10, 4, resumed, progress=progress.append)
    assert resumed.calls == [(0, 4), (8, 10)]
    assert progress == [4, 8, 10]
    np.testing.assert_array_equal(arrays["square"], np.arange(10) ** 2)
    np.testing.assert_array_equal(arrays["pair"][:, 1], [0] * 4 + [4] * 4 + [8] * 2)

    again = _Compute()
    results.map_shards(directory, 10, 4, again)
    assert again.calls == []


def test_map_shards_recomputes_damaged_and_misfit_shards(tmp_path, caplog):
    results.map_shards(tmp_path, 9, 3, _Compute())
    _damage(tmp_path / "000000-000003.npz", "truncated")
    results.save_arrays(tmp_path / "000003-000006.npz", {"square": np.ones(2), "pair": np.ones(3)})
    compute = _Compute()
    arrays = results.map_shards(tmp_path, 9, 3, compute)
    assert compute.calls == [(0, 3), (3, 6)]
    assert [record.getMessage().endswith("recomputing it") for record in caplog.records] == [
        True
    ] * 2
    np.testing.assert_array_equal(arrays["square"], np.arange(9) ** 2)
    assert results.load_arrays(tmp_path / "000000-000003.npz") is not None


def test_map_shards_bad_input(tmp_path):
    with pytest.raises(InputError, match="shard_size is 0"):
        results.map_shards(tmp_path, 5, 0, _Compute())
    with pytest.raises(InputError, match="num_examples is 0"):
        results.map_shards(tmp_path, 0, 5, _Compute())
    with pytest.raises(ValueError, match=r"x has shape \(2,\) for 5 examples"):
        results.map_shards(tmp_path, 5, 5, lambda *_: {"x": np.ones(2)})
    results.save_arrays(tmp_path / "000003-000005.npz", {"other": np.ones(2)})
    with pytest.raises(InputError, match="square, pair and then other"):
        results.map_shards(tmp_path, 5, 3, _Compute())


def test_check_workdir_accepts_the_same_config(tmp_path):
    config = {"seed": 0, "attack": {"maxiter": 50, "bounds": (0.0, 1.0)}, "empty": {}}
    results.check_workdir(tmp_path / "run", config)
    before = (tmp_path / "run" / "config.json").read_bytes()
    assert json.loads(before)["attack"]["maxiter"] == 50
    results.check_workdir(tmp_path / "run", config)
    assert os.listdir(tmp_path / "run") == ["config.json"]
    assert (tmp_path / "run" / "config.json").read_bytes() == before


def test_check_workdir_names_what_differs(tmp_path):
    (tmp_path / "results").mkdir()
    results.check_workdir(tmp_path, {"seed": 0, "attack": {"maxiter": 50, "tol": 0.1}})
    with pytest.raises(InputError) as caught:
        results.check_workdir(tmp_path, {"seed": 0, "attack": {"maxiter": 100}, "name": "a"})
    assert str(caught.value) == (
        f"workdir {tmp_path} was made by another config: attack.maxiter is 50 there and 100 here, "
        'attack.tol is 0.1 there and absent here, name is absent there and "a" here; '
        "use another --workdir or delete it"
    )
    with pytest.raises(InputError, match="and 5 more; use"):
        results.check_workdir(tmp_path, {f"k{i}": i for i in range(7)})


def test_check_workdir_where_nothing_was_computed_takes_the_new_config(tmp_path):
    results.check_workdir(tmp_path, {"seed": 0})
    results.check_workdir(tmp_path, {"seed": 1})
    assert json.loads((tmp_path / "config.json").read_text()) == {"seed": 1}


def test_check_workdir_damaged_config(tmp_path):
    (tmp_path / "config.json").write_text('{"seed"')
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(InputError, match=r"config\.json is not JSON"):
        results.check_workdir(tmp_path, {"seed": 0})


def test_check_workdir_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*/file"):
        results.check_workdir(tmp_path / "file", {})


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_check_workdir_without_permission(tmp_path):
    results.check_workdir(tmp_path, {})
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="Permission denied"):
        results.check_workdir(tmp_path, {})


def test_metrics_survive_a_torn_line(tmp_path):
    path = tmp_path / "logs" / "metrics.jsonl"
    assert results.read_metrics(path) == []
    results.append_metrics(path, 1, loss=np.float32(0.5), count=np.int64(3))
    results.append_metrics(path, 2, loss=0.25)
    path.write_bytes(path.read_bytes()[:-9])
    results.append_metrics(path, 3, loss=float("nan"), name="a")
    assert path.read_text().splitlines()[0] == '{"step": 1, "loss": 0.5, "count": 3}'
    assert results.read_metrics(path) == [
        {"step": 1, "loss": 0.5, "count": 3},
        {"step": 3, "loss": None, "name": "a"},
    ]


def test_append_metrics_to_a_folder(tmp_path):
    with pytest.raises(InputError, match="cannot write"):
        results.append_metrics(tmp_path, 1, loss=0)


def test_write_summary_keeps_order_and_has_no_nan(tmp_path):
    path = tmp_path / "summary.json"
    summary = {
        "z": np.float64("nan"),
        "a": {"y": [1, float("inf")], "b": np.arange(2)},
        "n": (True,),
    }
    results.write_summary(path, summary)
    text = path.read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {
        "z": None,
        "a": {"y": [1, None], "b": [0, 1]},
        "n": [True],
    }
    assert text.startswith('{\n "z": null,\n "a": {')
