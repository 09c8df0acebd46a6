"""Tests for intriguing/training/checkpoint.py"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from intriguing.errors import InputError
from intriguing.training import checkpoint


def make_tree(value=0.0, shape=(3, 4)):
    params = {"fc1": {"kernel": jnp.full(shape, value), "bias": jnp.arange(4.0) + value}}
    return {
        "params": params,
        "opt_state": optax.adam(1e-3).init(params),
        "epoch": jnp.asarray(7, jnp.int32),
    }


def steps(folder):
    found = sorted(path.name for path in folder.iterdir() if path.name.isdigit())
    assert sorted(path.stem for path in folder.glob("*.json")) == found
    return found


def test_round_trip(tmp_path):
    tree = make_tree(0.1)
    checkpoint.save(tmp_path / "run" / "model", 12, tree)
    step, restored = checkpoint.restore_latest(tmp_path / "run" / "model", make_tree())
    assert step == 12
    assert jax.tree.structure(restored) == jax.tree.structure(tree)
    for saved, found in zip(jax.tree.leaves(tree), jax.tree.leaves(restored), strict=True):
        assert found.dtype == saved.dtype
        np.testing.assert_array_equal(found, saved)


def test_the_two_newest_steps_are_kept(tmp_path):
    for step, kept in ((2, ["2"]), (9, ["2", "9"]), (10, ["10", "9"])):  # "10" < "9" as text
        checkpoint.save(tmp_path, step, make_tree(float(step)))
        assert steps(tmp_path) == kept
    step, tree = checkpoint.restore_latest(tmp_path, make_tree())
    assert step == 10 and tree["params"]["fc1"]["kernel"][0, 0] == 10


def test_saving_a_step_again_replaces_it(tmp_path):
    checkpoint.save(tmp_path, 3, make_tree(1.0))
    checkpoint.save(tmp_path, 3, make_tree(2.0))
    assert steps(tmp_path) == ["3"]
    _, tree = checkpoint.restore_latest(tmp_path, make_tree())
    assert tree["params"]["fc1"]["kernel"][0, 0] == 2


def test_of_two_steps_the_newest_is_restored(tmp_path):
    """An interruption between writing one step and deleting the one before."""
    checkpoint.save(tmp_path / "a", 9, make_tree(9.0))
    checkpoint.save(tmp_path / "b", 10, make_tree(10.0))
    for name in ("10", "10.json"):
        (tmp_path / "b" / name).rename(tmp_path / "a" / name)
    assert checkpoint.restore_latest(tmp_path / "a", make_tree())[0] == 10


@pytest.mark.parametrize("folder", ["missing", "empty", "unfinished", "unsealed"])
def test_no_checkpoint(tmp_path, folder):
    directory = tmp_path / folder
    if folder != "missing":
        directory.mkdir()
    if folder == "unfinished":
        (directory / "5.orbax-checkpoint-tmp-0").mkdir()
    if folder == "unsealed":  # killed before the seal was written
        checkpoint.save(directory, 5, make_tree())
        (directory / "5.json").unlink()
    assert checkpoint.restore_latest(directory, make_tree()) is None


def other_names(tree):
    return {**tree, "params": {"fc2": tree["params"]["fc1"]}}


def check_message(caught):
    message = str(caught.value)
    assert "\n" not in message
    assert "delete it, or use another --workdir" in message


@pytest.mark.parametrize(
    "like", [make_tree(shape=(5, 4)), other_names(make_tree()), {"params": jnp.zeros(3)}],
    ids=["shape", "names", "tree"],
)  # fmt: skip
def test_another_model(tmp_path, like):
    checkpoint.save(tmp_path, 1, make_tree())
    with pytest.raises(InputError, match="does not fit this model") as caught:
        checkpoint.restore_latest(tmp_path, like)
    check_message(caught)


def damages(data: bytes):
    """A file's content emptied, cut in half, with one bit flipped in its middle, and gone."""
    middle = len(data) // 2
    flipped = data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :]
    return b"", data[:middle], flipped, None


def test_a_damaged_step_is_named_and_the_one_before_it_is_read(tmp_path, caplog):
    for step in (1, 2):
        checkpoint.save(tmp_path, step, make_tree(float(step)))
    files = [path for path in tmp_path.glob("2/**/*") if path.is_file()] + [tmp_path / "2.json"]
    assert len(files) > 3
    for path in files:
        content = path.read_bytes()
        for damaged in damages(content):
            caplog.clear()
            path.unlink() if damaged is None else path.write_bytes(damaged)
            step, tree = checkpoint.restore_latest(tmp_path, make_tree())
            assert (step, tree["params"]["fc1"]["kernel"][0, 0]) == (1, 1)
            if damaged is not None or path.name != "2.json":  # else it was never there
                (message,) = caplog.messages
                assert str(tmp_path / "2") in message and "not used" in message
        path.write_bytes(content)
    assert checkpoint.restore_latest(tmp_path, make_tree())[0] == 2


def test_where_all_are_damaged_there_is_none(tmp_path, caplog):
    checkpoint.save(tmp_path, 1, make_tree())
    (tmp_path / "1" / "_METADATA").write_text("{")
    assert checkpoint.restore_latest(tmp_path, make_tree()) is None
    assert "_METADATA is not what was written" in caplog.text


def test_what_cannot_be_written_is_one_line_and_nothing_is_lost(tmp_path, caplog):
    checkpoint.save(tmp_path, 1, make_tree(1.0))
    (tmp_path / "3.json").mkdir()  # its seal cannot be written
    with pytest.raises(InputError, match="cannot write") as caught:
        checkpoint.save(tmp_path, 3, make_tree(3.0))
    assert "\n" not in str(caught.value)
    (tmp_path / "3.json").rmdir()
    assert checkpoint.restore_latest(tmp_path, make_tree())[0] == 1
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        checkpoint.save(tmp_path / "file" / "below", 3, make_tree(3.0))
