"""Several processes that do one run together, on one machine or many with a common file system.

JAX's own runtime joins them. Each does its share of the work on its own devices, and writes it
where all can read it; the first one alone makes what a run ends with.
"""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from intriguing.errors import InputError, first_line
from intriguing.progress import logger

CLAIMS = ".claims"  # below a folder of shared work: who does what, and what is done
POLL_SECONDS = 0.2
_OPTIONS = {
    "jax_cpu_collectives_implementation": "gloo",
    "jax_enable_preemption_service": False,  # it would keep SIGTERM for itself
}


class Team(NamedTuple):
    """How this process finds the others; nothing is given where JAX finds it: TPU pods, SLURM and
    Open MPI.

    Fields: `coordinator`, HOST:PORT of the first process; `num_processes`; `process_id`, from 0.
    """

    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None


def join(team: Team) -> None:
    """Joins the processes of a run; must come before the first use of a device.

    Raises:
      InputError: they cannot be found, or do not answer.
    """
    missing = [name for name, value in team._asdict().items() if value is None]
    if 0 < len(missing) < len(team):
        raise InputError(
            f"--{missing[0]} is missing: give all of --{', --'.join(Team._fields)}, or none"
        )
    if not missing and not 0 <= team.process_id < team.num_processes:
        raise InputError(
            f"--process_id is {team.process_id}: processes are numbered 0 to "
            f"{team.num_processes - 1}"
        )
    for name, value in _OPTIONS.items():
        with contextlib.suppress(AttributeError):  # of another version
            jax.config.update(name, value)
    try:
        jax.distributed.initialize(*team)
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"--distributed: the processes cannot be joined ({first_line(error)}): give "
            "--coordinator=HOST:PORT, --num_processes and --process_id"
        ) from error


def count() -> int:
    """Processes of the run."""
    return jax.process_count()


def index() -> int:
    """Of this process."""
    return jax.process_index()


def wait(what: str) -> None:
    """Returns when all processes have come here."""
    if count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(what)


def first_says(value: bool) -> bool:
    """What the first process thinks; all must ask."""
    from jax.experimental import multihost_utils

    return bool(multihost_utils.broadcast_one_to_all(np.int32(value)))


def agree(error: Exception | None) -> None:
    """Raises the first process's error there, and says so in the others: nobody waits for it."""
    if count() > 1 and first_says(error is not None) and index():
        raise InputError("process 0 has stopped: it says why")
    if error is not None:
        raise error


def fetch(array) -> np.ndarray:
    """The whole array, also of one that lies in parts on devices of several processes; all ask."""
    is_here = not isinstance(array, jax.Array) or array.is_fully_addressable
    if is_here or array.is_fully_replicated:
        return np.asarray(array)
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(array, tiled=True)


@contextlib.contextmanager
def own_workdir(workdir: Path) -> Iterator[Path]:
    """Where this process works: the first in `workdir`, the others in folders that come and go.

    Those have `results` and `checkpoints` in common with the first: shards and weights are
    everybody's, tables, figures and logs only the first one's.
    """
    if index() == 0:
        yield workdir
        return
    if not (workdir / "config.json").is_file():
        raise InputError(f"process {index()} does not see {workdir}: a common folder is needed")
    own = Path(tempfile.mkdtemp(prefix="intriguing-"))
    try:
        for name in ("results", "checkpoints"):
            (workdir / name).mkdir(exist_ok=True)
            (own / name).symlink_to((workdir / name).absolute())
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)


def one_by_one(do: Callable, items: Iterable) -> None:
    """Calls `do` with each."""
    for item in items:
        do(item)


def share(folder: Path, items: Sequence, names: Sequence[str], do: Callable,
          each: Callable[[Callable, Iterable], Any] = one_by_one) -> None:  # fmt: skip
    """Does each item in one of the processes, and returns when all are done.

    Whoever is free takes the next: a slow process, or one with fewer devices, holds up nobody. An
    item is claimed by a file that only one can make.

    Args:
      folder: common to all.
      items: what is to be done, the same in each process, though maybe not in all any more.
      names: of the items, fit for files.
      do: called with an item, and with what else `each` gives.
      each: calls a function with each of some items, several at a time perhaps.

    Raises:
      InputError: another process has stopped.
    """
    claims = folder / CLAIMS
    claims.mkdir(parents=True, exist_ok=True)

    def do_if_mine(pair, *more) -> None:
        item, name = pair
        if not _is_mine(claims / name):
            return
        try:
            do(item, *more)
        except BaseException:
            (claims / f"{name}.failed").touch()
            raise
        (claims / f"{name}.done").touch()

    first = index() * len(items) // count()  # so that they seldom want the same
    pairs = list(zip(items, names, strict=True))
    each(do_if_mine, pairs[first:] + pairs[:first])
    waited = time.monotonic()
    while missing := [name for name in names if not (claims / f"{name}.done").exists()]:
        if any(claims.glob("*.failed")):
            raise InputError(f"{folder}: another process has stopped: it says why")
        if time.monotonic() - waited > 60:
            waited = time.monotonic()
            logger.info("waiting for %d of %d parts of %s", len(missing), len(names), folder)
        time.sleep(POLL_SECONDS)
    wait(f"{folder.name} is done")
    if index() == 0:
        shutil.rmtree(claims, ignore_errors=True)


def _is_mine(claim: Path) -> bool:
    """Whether this process is the first to ask for it."""
    try:
        claim.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
