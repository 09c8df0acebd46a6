"""Several processes that do one run: what comes out is what one does, also if one of them dies."""

import socket
import time

import numpy as np
import pytest
from amount import share
from programs import is_one_line, numbers, run, start


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def begin(workdir, num: int, *flags: str, **options) -> list:
    """That many processes of one run."""
    port = free_port()
    return [
        start(
            workdir, f"--coordinator=localhost:{port}", f"--num_processes={num}",
            f"--process_id={index}", *flags, **options,
        )
        for index in range(num)
    ]  # fmt: skip


def ends(team: list) -> list[tuple[int, str]]:
    """(status, output) of each."""
    outputs = [process.communicate(timeout=300) for process in team]
    return [(p.returncode, "".join(out)) for p, out in zip(team, outputs, strict=True)]


def alike(found: dict, expected: dict) -> bool:
    """Whether they are the same up to rounding: trained on other devices, for one."""
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            np.testing.assert_allclose(found[key], value, rtol=1e-3, atol=1e-4, err_msg=key)
        elif isinstance(value, np.ndarray):
            np.testing.assert_array_equal(found[key], value, err_msg=key)
    return True


@pytest.mark.parametrize("num", [2, 3][: share(2, 1)])
def test_processes_together(undisturbed, tmp_path, tally, num):
    """2 and 3 processes do one run: the numbers of one process."""
    found = ends(begin(tmp_path / "run", num))
    assert all(status == 0 for status, _ in found), found
    survived = alike(numbers(tmp_path / "run"), undisturbed)
    printed = ["Table 1" in output for _, output in found]
    assert printed == [True] + [False] * (num - 1)  # tables are the first one's
    assert not [*(tmp_path / "run").rglob(".claims")]
    tally(survived)
    assert survived


@pytest.mark.skipif(not share(1, 0), reason="make faults runs it")
@pytest.mark.parametrize("killed", [0, 1])
def test_one_of_two_processes_dies(undisturbed, tmp_path, tally, killed):
    """One of two processes is killed in its attacks: three then go on with its shards."""
    team = begin(tmp_path / "run", 2)
    while len([*(tmp_path / "run").glob("results/*/*/*.npz")]) < 3:
        time.sleep(0.02)
    for process in (team[killed], team[1 - killed]):  # the other one could only wait
        process.kill()
        process.communicate()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.npz")}
    found = ends(begin(tmp_path / "run", 3))
    survived = all(status == 0 for status, _ in found)
    survived &= alike(numbers(tmp_path / "run"), undisturbed)
    survived &= all(path.stat().st_mtime_ns == then for path, then in kept.items())
    tally(survived)
    assert survived, found


def test_a_mistake_ends_all_of_them(tmp_path, tally):
    """A mistake that only the first process can see: one line from each, and nobody waits."""
    (tmp_path / "run").mkdir()
    assert run(tmp_path / "run", "--config.model_names=('FC10(1)',)")[0] == 0
    begun = time.monotonic()
    found = ends(begin(tmp_path / "run", 2))
    survived = all(status == 2 and is_one_line(output) for status, output in found)
    survived &= "another config" in found[0][1] and "it says why" in found[1][1]
    tally(survived and time.monotonic() - begun < 60)
    assert survived, found


def test_flags_that_make_no_sense(tmp_path, tally):
    """Half of the flags that several processes need: one line."""
    cases = {
        ("--num_processes=2",): "--coordinator is missing",
        ("--coordinator=localhost:1", "--num_processes=2", "--process_id=2"): "0 to 1",
        ("--distributed",): "cannot be joined",
    }
    for flags, words in cases.items():
        status, output = run(tmp_path / "run", *flags)
        survived = status == 2 and is_one_line(output) and words in output
        tally(survived)
        assert survived, output
