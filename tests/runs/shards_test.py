"""Tests for intriguing/runs/shards.py"""

import os

import numpy as np
import pytest
from failing import interrupted_at

from intriguing import archive
from intriguing.errors import InputError
from intriguing.runs import shards


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


class Recorder:
    """What a `Progress` was told."""

    def __init__(self):
        self.told = []

    def restore(self, num):
        self.told.append(("restored", num))

    def update(self, num):
        self.told.append(("done", num))


def test_arrays_round_trip(tmp_path):
    arrays = {"x": np.arange(6, dtype=np.int8).reshape(3, 2), "y": np.float32([np.nan, 1])}
    archive.write(tmp_path / "a.npz", arrays)
    loaded = shards.load_arrays(tmp_path / "a.npz").arrays
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)


def test_load_arrays_missing(tmp_path, caplog):
    assert shards.load_arrays(tmp_path / "none.npz") is None
    assert not caplog.records


def test_load_arrays_unreadable_is_not_damage(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        shards.load_arrays(tmp_path)


@pytest.mark.parametrize("how", ["truncated", "flipped", "shape", "not a zip", "empty", "npy"])
def test_load_arrays_damaged(tmp_path, caplog, how):
    path = tmp_path / "a.npz"
    archive.write(path, {"x": np.arange(10_000.0)})
    _damage(path, how)
    assert shards.load_arrays(path) is None
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    message = record.getMessage()
    assert message.startswith(f"{path} is damaged (") and message.endswith("): recomputing it")
    assert "()" not in message and "\n" not in message


def test_load_arrays_never_returns_wrong_numbers_nor_raises(tmp_path):
    path = tmp_path / "a.npz"
    x = np.arange(4.0)
    archive.write(path, {"x": x})
    data = path.read_bytes()
    num_damaged = 0
    for i in range(len(data)):
        for bit in range(8):
            path.write_bytes(data[:i] + bytes([data[i] ^ 1 << bit]) + data[i + 1 :])
            loaded = shards.load_arrays(path)
            num_damaged += loaded is None
            if loaded is not None:  # a date or another byte that carries nothing
                assert list(loaded.arrays) == ["x"]
                np.testing.assert_array_equal(loaded.arrays["x"], x)
    assert num_damaged > 4 * len(data)


class _Compute:
    """Squares; remembers what it was asked for."""

    def __init__(self):
        self.calls = []

    def __call__(self, start, stop):
        self.calls.append((start, stop))
        return {"square": np.arange(start, stop) ** 2, "pair": np.ones((stop - start, 2)) * start}


def made_from(start, stop):
    return {"weights": "w", "images": f"{start} to {stop}"}


def map_shards(directory, num, size, compute, *, made_from=made_from, **options):
    where = shards.Shards(directory, num, size)
    return shards.map_shards(where, compute, made_from=made_from, **options)


def test_map_shards_concatenates_in_order_and_resumes(tmp_path):
    directory, progress = tmp_path / "shards", Recorder()
    interrupted = interrupted_at(3, _Compute())
    with pytest.raises(KeyboardInterrupt):
        map_shards(directory, 10, 4, interrupted)
    assert sorted(os.listdir(directory)) == ["000000-000004.npz", "000004-000008.npz"]

    (directory / "000000-000004.npz").unlink()
    resumed = _Compute()
    arrays = map_shards(directory, 10, 4, resumed, progress=progress)
    assert resumed.calls == [(0, 4), (8, 10)]
    assert progress.told == [("done", 4), ("restored", 8), ("done", 10)]
    np.testing.assert_array_equal(arrays["square"], np.arange(10) ** 2)
    np.testing.assert_array_equal(arrays["pair"][:, 1], [0] * 4 + [4] * 4 + [8] * 2)

    again = _Compute()
    map_shards(directory, 10, 4, again)
    assert again.calls == []


def test_map_shards_recomputes_damaged_and_misfit_shards(tmp_path, caplog):
    map_shards(tmp_path, 9, 3, _Compute())
    _damage(tmp_path / "000000-000003.npz", "truncated")
    whole = archive.read(tmp_path / "000003-000006.npz")
    arrays = {**whole.arrays, "square": np.ones(2)}
    archive.write(tmp_path / "000003-000006.npz", arrays, whole.about)
    compute = _Compute()
    arrays = map_shards(tmp_path, 9, 3, compute)
    assert compute.calls == [(0, 3), (3, 6)]
    assert [record.getMessage().endswith("recomputing it") for record in caplog.records] == [
        True
    ] * 2
    np.testing.assert_array_equal(arrays["square"], np.arange(9) ** 2)
    assert shards.load_arrays(tmp_path / "000000-000003.npz") is not None


def test_map_shards_bad_input(tmp_path):
    with pytest.raises(InputError, match="shard_size is 0"):
        map_shards(tmp_path, 5, 0, _Compute())
    with pytest.raises(InputError, match="num_examples is 0"):
        map_shards(tmp_path, 0, 5, _Compute())
    with pytest.raises(ValueError, match=r"x has shape \(2,\) for 5 examples"):
        map_shards(tmp_path, 5, 5, lambda *_: {"x": np.ones(2)})
    with pytest.raises(InputError, match="a and then b"):
        map_shards(
            tmp_path, 5, 3, lambda start, stop: {"b" if start else "a": np.ones(stop - start)}
        )


def test_rows_that_stay_on_disk(tmp_path):
    def compute(start, stop):
        rows = np.arange(start, stop)
        return {"small": rows, "large": 10 * rows[:, None] + np.arange(3)}

    arrays = map_shards(tmp_path, 7, 3, compute, on_disk=("large",))
    assert list(arrays) == ["small"] and arrays["small"].tolist() == list(range(7))
    found = shards.read_rows(shards.Shards(tmp_path, 7, 3), [6, 0, 1], ["large"])["large"]
    assert found[:, 0].tolist() == [60, 0, 10]
    with pytest.raises(InputError, match="has no row 7"):
        shards.read_rows(shards.Shards(tmp_path, 7, 3), [7], ["large"])


@pytest.mark.parametrize("changed", ["weights", "images", "goal"])
def test_what_was_made_from_something_else_is_made_anew(tmp_path, caplog, changed):
    map_shards(tmp_path, 9, 3, _Compute())

    def other(start, stop):  # the second shard depends on something else now
        return {**made_from(start, stop), **({changed: "another"} if start == 3 else {})}

    compute = _Compute()
    map_shards(tmp_path, 9, 3, compute, made_from=other)
    assert compute.calls == [(3, 6)]
    (message,) = caplog.messages
    assert message == f"{tmp_path}/000003-000006.npz was made from other {changed}: recomputing it"
    map_shards(tmp_path, 9, 3, interrupted_at(1, _Compute()), made_from=other)  # computes nothing


def test_a_shard_that_does_not_say_what_it_was_made_from_is_made_anew(tmp_path):
    archive.write(tmp_path / "000000-000003.npz", {"square": np.zeros(3), "pair": np.ones((3, 2))})
    compute = _Compute()
    assert map_shards(tmp_path, 3, 3, compute)["square"].tolist() == [0, 1, 4]
    assert compute.calls == [(0, 3)]


def test_a_change_of_the_code_s_numerics_makes_shards_anew(tmp_path, monkeypatch, caplog):
    map_shards(tmp_path, 3, 3, _Compute())
    monkeypatch.setattr(shards, "NUMERICS", shards.NUMERICS + 1)
    compute = _Compute()
    map_shards(tmp_path, 3, 3, compute)
    assert compute.calls == [(0, 3)] and "other numerics" in caplog.text


def test_arrays_are_read_shard_by_shard(tmp_path):
    where = shards.Shards(tmp_path, 7, 3)
    map_shards(
        tmp_path,
        7,
        3,
        lambda start, stop: {"x": np.arange(start, stop), "y": np.ones(stop - start)},
    )
    assert [part["x"].tolist() for part in shards.read_shards(where, ["x"])] == [
        [0, 1, 2], [3, 4, 5], [6],
    ]  # fmt: skip
    _damage(tmp_path / "000003-000006.npz", "truncated")
    reading = shards.read_shards(where, ["x"])
    next(reading)
    with pytest.raises(InputError, match=r"000003-000006\.npz is gone or damaged"):
        next(reading)


def test_rows_of_another_shard_size_are_not_read(tmp_path):
    map_shards(tmp_path, 6, 2, lambda start, stop: {"x": np.full(stop - start, 2)})
    map_shards(tmp_path, 6, 3, lambda start, stop: {"x": np.full(stop - start, 3)})
    found = shards.read_rows(shards.Shards(tmp_path, 6, 3), range(6), ["x"])
    assert found["x"].tolist() == [3] * 6
