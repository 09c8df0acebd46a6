"""Disks that are full, read-only or under a quota, and too few open files."""

import os
import resource
import subprocess

import pytest
from amount import share
from programs import is_one_line, numbers, run, same


@pytest.fixture
def small_disk(tmp_path):
    """A function that mounts a disk of so many kilobytes, or changes its options."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options: str) -> None:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True
        )
        if done.returncode:
            pytest.skip("this user cannot mount a disk")

    yield folder, mount
    subprocess.run(["umount", "-l", str(folder)], capture_output=True)


def sizes(workdir) -> int:
    """Kilobytes of a workdir."""
    return sum(path.stat().st_size for path in workdir.rglob("*") if path.is_file()) // 1024


@pytest.mark.parametrize("size", [4, 60, 120, 200, 300, 400][:: share(1, 3)])
def test_full_disk(undisturbed, small_disk, tally, size):
    """A full disk: one line, no damaged file, and with room again the run goes on."""
    folder, mount = small_disk
    mount(f"size={size}k")
    status, output = run(folder / "run")
    refused = status == 2 and is_one_line(output) and "No space left" in output
    refused &= len(output.splitlines()) < 20
    mount("remount,size=100m")
    status, again = run(folder / "run")
    survived = refused and status == 0 and "damaged" not in again
    survived &= same(numbers(folder / "run"), undisturbed)
    tally(survived)
    assert survived, output + again


@pytest.mark.parametrize("size", [1, 10, 40][:: share(1, 2)])
def test_quota(undisturbed, tmp_path, tally, size):
    """A limit on the size of a file: one line, and without it the run goes on."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size * 1024,) * 2)

    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": "false"}
    status, output = run(tmp_path / "run", preexec_fn=limit, env=environment)
    refused = status == 2 and is_one_line(output)
    status, again = run(tmp_path / "run")
    survived = refused and status == 0 and same(numbers(tmp_path / "run"), undisturbed)
    tally(survived)
    assert survived, output + again


@pytest.mark.parametrize("num", [8, 16, 32, 64][:: share(1, 3)])
def test_too_few_open_files(undisturbed, tmp_path, tally, num):
    """A limit on open files: one line or the right numbers."""

    def limit():
        resource.setrlimit(resource.RLIMIT_NOFILE, (num, num))

    status, output = run(tmp_path / "run", preexec_fn=limit)
    refused = status != 0 and "Segmentation" not in output
    if status == 0:
        refused = same(numbers(tmp_path / "run"), undisturbed)
    status, again = run(tmp_path / "run")
    survived = refused and status == 0 and same(numbers(tmp_path / "run"), undisturbed)
    tally(survived)
    assert survived, output + again


def test_read_only(undisturbed, small_disk, tally):
    """A workdir that cannot be written, before a run and in a finished one: one line."""
    folder, mount = small_disk
    mount("size=100m")
    assert run(folder / "run")[0] == 0
    mount("remount,ro")
    for workdir in (folder / "run", folder / "another"):
        status, output = run(workdir)
        survived = status == 2 and is_one_line(output) and "Read-only file system" in output
        tally(survived)
        assert survived, output
    assert same(numbers(folder / "run"), undisturbed)  # whoever only reads needs no lock


def test_checkpoints_that_cannot_be_written(tmp_path, tally):
    """A file where the checkpoints' folder should be: one line, and the process ends."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").write_text("")
    status, output = run(tmp_path / "run")
    survived = status == 2 and is_one_line(output) and "checkpoints" in output
    tally(survived)
    assert survived, output
