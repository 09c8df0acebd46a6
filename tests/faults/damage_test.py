"""Every file of a workdir damaged, one at a time: never another number, and never a word less."""

import shutil

import numpy as np
import pytest
from amount import share
from programs import config, numbers, same

from intriguing import data
from intriguing.errors import InputError
from intriguing.experiments import run_experiment
from intriguing.runs import load_results

DAMAGES = ("truncated", "emptied", "flipped", "deleted")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished small run, and what it found."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    run_experiment(config(), workdir)
    return workdir, numbers(workdir)


def damage(path, how: str, rng) -> None:
    """Does it to a file."""
    content = path.read_bytes()
    if how == "deleted":
        path.unlink()
    elif how == "flipped":
        place = int(rng.integers(len(content)))
        bit = 1 << int(rng.integers(8))
        path.write_bytes(content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :])
    else:
        path.write_bytes(content[: len(content) // 2] if how == "truncated" else b"")


def cases(workdir, num: int) -> list:
    """(file, damage), `num` of all of them, evenly; of the larger files several flipped bits."""
    files = sorted(path.relative_to(workdir) for path in workdir.rglob("*") if path.is_file())
    found = [(path, how) for path in files for how in DAMAGES]
    found += [(path, "flipped") for path in files if "checkpoints" in path.parts for _ in range(9)]
    return found[:: max(1, len(found) // num)]


def run_again(whole, path, how: str, workdir, seed: int) -> dict:
    """What a run finds that goes on from `whole` with one file damaged."""
    shutil.copytree(whole, workdir)
    damage(workdir / path, how, np.random.default_rng(seed))
    run_experiment(config(), workdir)
    found = numbers(workdir)
    shutil.rmtree(workdir)
    return found


def test_a_damaged_finished_run(finished, tmp_path, tally, caplog):
    """A file of a finished run truncated, emptied, deleted, or a bit of it flipped."""
    whole, expected = finished
    for i, (path, how) in enumerate(cases(whole, share(10_000, 12))):
        workdir = tmp_path / f"run{i}"
        caplog.clear()
        survived = same(run_again(whole, path, how, workdir, seed=i), expected)
        if path.suffix == ".npz" and how in ("truncated", "emptied"):
            survived &= str(workdir / path) in caplog.text
        tally(survived)
        assert survived, f"{path} {how}: {caplog.text}"


def test_a_damaged_half_finished_run(finished, tmp_path, tally):
    """The same of a run that was interrupted before its last attacks."""
    whole, expected = finished
    half = tmp_path / "half"
    shutil.copytree(whole, half)
    for path in (half / "results" / "FC10(1)").glob("*/0000[12]*.npz"):
        path.unlink()
    for name in ("summary.json", "report.html"):
        (half / name).unlink()
    for i, (path, how) in enumerate(cases(half, share(200, 6))):
        survived = same(run_again(half, path, how, tmp_path / "run", seed=1000 + i), expected)
        tally(survived)
        assert survived, f"{path} {how}"


def test_who_reads_a_damaged_run_is_told(finished, tmp_path, tally):
    """A file of a finished run damaged, and its results opened: the same numbers or one line."""
    whole, expected = finished
    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir)
    for i, (path, how) in enumerate(cases(whole, share(10_000, 40))):
        content = (whole / path).read_bytes()
        damage(workdir / path, how, np.random.default_rng(2000 + i))
        try:
            survived = same(numbers(workdir), expected)
        except InputError as error:
            survived = str(path.name) in str(error) and "\n" not in str(error)
        (workdir / path).write_bytes(content)
        tally(survived)
        assert survived, f"{path} {how}"


def test_another_seed_where_the_config_is_gone(finished, tmp_path, tally, caplog):
    """config.json deleted, and another seed run there: nothing of the old seed is published."""
    whole, _ = finished
    run_experiment(config(seed=5), tmp_path / "fresh")
    shutil.copytree(whole, tmp_path / "old")
    (tmp_path / "old" / "config.json").unlink()
    run_experiment(config(seed=5), tmp_path / "old")
    survived = same(numbers(tmp_path / "old"), numbers(tmp_path / "fresh"))
    survived &= "config.json is gone" in caplog.text
    tally(survived)
    assert survived


def test_another_data_file(tmp_path, tally, caplog):
    """The data file replaced between two runs: model and attacks are made anew, and it says so."""
    digits = data.load("digits", "train")
    for name in ("first", "second"):
        arrays = {}
        for split, rows in (("train", slice(0, 300)), ("test", slice(300, 400))):
            labels = digits.labels[rows]
            arrays |= {f"x_{split}": digits.images[rows], f"y_{split}": labels}
        arrays["x_train"] = arrays["x_train"] if name == "first" else 1 - arrays["x_train"]
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "data.npz", **arrays)
    settings = {"data.name": "npz", "data.dir": str(tmp_path / "first")}
    run_experiment(config(**settings), tmp_path / "run")
    shutil.copy(tmp_path / "second" / "data.npz", tmp_path / "first" / "data.npz")
    caplog.clear()
    run_experiment(config(**settings), tmp_path / "run")
    run_experiment(config(**settings), tmp_path / "fresh")
    survived = same(numbers(tmp_path / "run"), numbers(tmp_path / "fresh"))
    survived &= "made from other data" in caplog.text
    tally(survived)
    assert survived, caplog.text


def test_results_of_a_folder_that_was_swapped(finished, tmp_path, tally):
    """A shard of another network in a shard's place: not read as this one's."""
    whole, _ = finished
    shutil.copytree(whole, tmp_path / "run")
    folder = tmp_path / "run" / "results"
    name = "refined/000000-000003.npz"
    shutil.copy(folder / "FC10(1)" / name, folder / "FC10(1e-4)" / name)
    with pytest.raises(InputError, match="not of this run"):
        load_results(tmp_path / "run")
    run_experiment(config(), tmp_path / "run")
    survived = same(numbers(tmp_path / "run"), numbers(whole))
    tally(survived)
    assert survived
