"""Tests for intriguing/runs/results.py, on shards that map_shards writes."""

import resource
from pathlib import Path

import numpy as np
import pytest

from intriguing import sealed
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
    sealed.write(tmp_path / "config.json", {"seed": 3})
    summary = {"measurements": [{"metric": "error"}], "results": ["FC10(1)/refined"]}
    sealed.write(tmp_path / "summary.json", summary)
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
        np.testing.assert_array_equal(np.concatenate([*rows.parts(name)]), array)


def test_parts_are_mapped_and_cannot_be_written(workdir):
    part = load_results(workdir[0]).arrays["FC10(1)/refined"].parts("adv_images")
    part = next(part)
    assert not part.flags.owndata
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


def test_flipped_bits_change_no_number(workdir):
    path, arrays = workdir
    rng = np.random.default_rng(0)
    files = [p for p in sorted(path.rglob("*")) if p.is_file()]
    num_refused = 0
    for file in files:
        content = file.read_bytes()
        for place in rng.integers(0, len(content), 60):
            flipped = bytearray(content)
            flipped[place] ^= 1 << int(rng.integers(8))
            file.write_bytes(bytes(flipped))
            try:
                found = load_results(path)
            except InputError as error:
                num_refused += 1
                assert str(file) in str(error)
                continue
            assert found.config == {"seed": 3}
            assert found.summary["measurements"] == [{"metric": "error"}]
            assert found.arrays["FC10(1)/refined"].keys() == arrays.keys()
            for name, array in arrays.items():
                np.testing.assert_array_equal(found.arrays["FC10(1)/refined"][name], array)
        file.write_bytes(content)
    assert num_refused > 40 * len(files)


def test_a_file_that_is_gone_is_named(workdir):
    path, _ = workdir
    for file in [p for p in sorted(path.rglob("*")) if p.is_file()]:
        content = file.read_bytes()
        file.unlink()
        with pytest.raises(InputError) as caught:
            load_results(path)
        assert str(file) in str(caught.value) or str(file.parent) in str(caught.value)
        file.write_bytes(content)


def test_shards_of_another_size_are_no_results(workdir):
    """The size may be changed from run to run: what the last one did not write does not count."""
    path, arrays = workdir
    where = shards.Shards(path / "results" / "FC10(1)" / "refined", NUM, 7)
    shards.map_shards(
        where, lambda start, stop: {name: array[start:stop] for name, array in arrays.items()},
        made_from=lambda *_: {"weights": "abc"},
    )  # fmt: skip
    found = load_results(path).arrays["FC10(1)/refined"]
    np.testing.assert_array_equal(found["l2_norm"], arrays["l2_norm"])


def test_more_files_than_may_be_open(tmp_path):
    num, (soft, hard) = 300, resource.getrlimit(resource.RLIMIT_NOFILE)
    where = shards.Shards(tmp_path / "results" / "net", num, 1)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
    try:
        for _ in range(2):
            shards.map_shards(
                where, lambda start, stop: {"x": np.arange(start, stop)},
                made_from=lambda *_: {"weights": "abc"},
            )  # fmt: skip
        for name in ("config", "summary"):
            sealed.write(tmp_path / f"{name}.json", {})
        rows = load_results(tmp_path).arrays["net"]
        np.testing.assert_array_equal(rows["x"], np.arange(num))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_run_that_is_not_finished(tmp_path):
    with pytest.raises(InputError, match=r"config\.json: no such file: is the run finished"):
        load_results(Path(tmp_path))
