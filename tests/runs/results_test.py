"""Tests for intriguing/runs/results.py, on shards that map_shards writes."""

import json
from pathlib import Path

import numpy as np
import pytest

from intriguing.errors import InputError
from intriguing.runs import load_results, shards

NUM = 10


@pytest.fixture(params=[4, 100])  # three shards, one
def workdir(request, tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "adv_images": rng.uniform(size=(NUM, 3, 2)).astype(np.float32),
        "success": rng.uniform(size=NUM) > 0.5, "l2_norm": rng.uniform(size=NUM),
        "empty": np.zeros((NUM, 0)), "columns": np.asfortranarray(rng.uniform(size=(NUM, 3))),
    }  # fmt: skip
    where = shards.Shards(tmp_path / "results" / "FC10(1)" / "refined", NUM, request.param)
    shards.map_shards(
        where, lambda start, stop: {name: array[start:stop] for name, array in arrays.items()},
        made_from=lambda *_: {"weights": "abc"},
    )  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps({"seed": 3}))
    (tmp_path / "summary.json").write_text(json.dumps({"measurements": [{"metric": "error"}]}))
    return tmp_path, arrays


def test_arrays_are_those_that_were_written(workdir):
    path, arrays = workdir
    found = load_results(path)
    assert found.config == {"seed": 3} and found.summary["measurements"][0]["metric"] == "error"
    rows = found.arrays["FC10(1)/refined"]
    assert set(rows) == set(arrays)  # what they were made from is none of them
    for name, array in arrays.items():
        np.testing.assert_array_equal(rows[name], array)
        assert rows[name].dtype == array.dtype
        np.testing.assert_array_equal(np.concatenate(rows.parts(name)), array)


def test_parts_are_mapped_and_cannot_be_written(workdir):
    part = load_results(workdir[0]).arrays["FC10(1)/refined"].parts("adv_images")[0]
    assert isinstance(part, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        part[0] = 0


def test_an_array_that_there_is_not(workdir):
    with pytest.raises(KeyError, match=r"norms: there are .*l2_norm"):
        load_results(workdir[0]).arrays["FC10(1)/refined"]["norms"]


def test_every_damaged_file_is_named(workdir):
    path, _ = workdir
    files = [p for p in sorted(path.rglob("*")) if p.is_file()]
    assert len(files) >= 3
    for file in files:
        content = file.read_bytes()
        for damaged in (b"", content[: len(content) // 2], b"?" + content[1:],
                        content[:-40] + bytes(40)):  # fmt: skip
            file.write_bytes(damaged)
            with pytest.raises(InputError) as caught:
                load_results(path)
            assert str(file) in str(caught.value) and "\n" not in str(caught.value)
        file.write_bytes(content)
    load_results(path)


def test_flipped_bits_are_seen(workdir):
    """Every bit of the numbers is under a checksum; a flip elsewhere changes no number."""
    path, arrays = workdir
    (file, *_), rng = sorted(path.rglob("*.npz")), np.random.default_rng(0)
    content = file.read_bytes()
    for place in rng.integers(0, len(content), 100):
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(bytes(flipped))
        try:
            rows = load_results(path).arrays["FC10(1)/refined"]
        except InputError as error:
            assert str(file) in str(error)
            continue
        for name, array in arrays.items():
            if name in rows:
                np.testing.assert_array_equal(rows[name], array)
    file.write_bytes(content)


def test_a_run_that_is_not_finished(tmp_path):
    with pytest.raises(InputError, match=r"config\.json: no such file: is the run finished"):
        load_results(Path(tmp_path))
