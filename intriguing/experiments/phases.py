"""What the phases of an experiment share: keys by purpose, the time they took, their metrics."""

import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import jax

from intriguing import runs
from intriguing.progress import logger

# What keys are for: folded into that of the seed, beside the models' own (0, 1, ...).
TARGETS, NOISE, SPLIT, DIRECTIONS, VIEWS = 1000, 1001, 1002, 1003, 1004


def key_for(settings, purpose: int, seed: int = 0) -> jax.Array:
    """The key of one purpose, `NOISE` for instance."""
    return jax.random.fold_in(jax.random.key(settings.seed + seed), purpose)


@contextmanager
def timed(workdir: Path, phase: str):
    """Adds the seconds that the block took to the metrics file; see `seconds_per_phase`."""
    logger.info("%s", phase)
    start = time.monotonic()
    try:
        yield
    finally:
        seconds = time.monotonic() - start
        runs.append_metrics(workdir / "metrics.jsonl", 0, phase=phase, seconds=seconds)


def seconds_per_phase(workdir: Path) -> dict[str, float]:
    """Seconds spent in each phase, over all runs in this workdir."""
    seconds = {}
    for line in runs.read_metrics(workdir / "metrics.jsonl"):
        if "phase" in line:
            seconds[line["phase"]] = seconds.get(line["phase"], 0.0) + line["seconds"]
    return seconds


def metrics_logger(workdir: Path, name: str) -> Callable[..., None]:
    """A function (epoch, **metrics) that appends to the metrics file of the run."""

    def log(epoch: int, **metrics: float) -> None:
        named = {f"train/{name}/{metric}": value for metric, value in metrics.items()}
        runs.append_metrics(workdir / "metrics.jsonl", epoch, **named)

    return log
