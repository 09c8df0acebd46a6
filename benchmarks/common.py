"""What the benchmarks share: the trained MNIST net, timing, and a Markdown table."""

import os
import platform
import resource
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import nets
from intriguing import compiling, data, models, sharding
from intriguing.attack import targets
from intriguing.attack.goals import NAMED
from intriguing.attack.objective import evaluate


def mnist() -> data.Dataset:
    """MNIST's training set, from the folder that INTRIGUING_DATA names."""
    return data.load("mnist", "train", data_dir=os.environ.get("INTRIGUING_DATA"))


def mnist_problem(num_images: int, workdir: Path):
    """FC100-100-10 on MNIST (trained once, kept in workdir): (logits_fn, images, targets)."""
    train_set = mnist()
    model, params = nets.trained("FC100-100-10", workdir)
    images, labels = train_set.images[:num_images], train_set.labels[:num_images]
    wanted = targets.random_targets(jax.random.key(1), labels, jnp.arange(len(images)), 10)
    return models.logits_fn(model, {"params": params}), images, np.asarray(wanted)


def evaluate_targeted(logits_fn, images, labels):
    """(loss, its gradient, margin) of targeted images."""
    return evaluate(logits_fn, NAMED["targeted"], images, labels)[:3]


@compiling.jit(static_argnames="mesh")
def evaluate_all(logits_fn, images, labels, mesh):
    """Loss, gradient and margin of all images, as the attack evaluates them."""
    run = sharding.map_devices(evaluate_targeted, mesh)
    return run(logits_fn, images, labels)


def seconds_of(function, repeats: int = 3) -> tuple[float, float, object]:
    """(seconds of the compilation, best seconds of `repeats` further calls, last result)."""
    start = time.perf_counter()
    result = jax.block_until_ready(function())
    first, best = time.perf_counter() - start, np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        result = jax.block_until_ready(function())
        best = min(best, time.perf_counter() - start)
    return max(first - best, 0.0), best, result


def peak_gigabytes() -> float:
    """Most memory that this process has held so far; on a CPU that of all devices."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def print_table(title: str, columns: list[str], rows: list[list]) -> None:
    """Prints a Markdown table with the machine and the versions beneath it."""
    print(f"\n{title}\n")
    for row in [columns, ["---"] * len(columns), *rows]:
        print("| " + " | ".join(str(cell) for cell in row) + " |")
    device = jax.devices()[0].device_kind
    print(
        f"\n{device}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"jax {jax.__version__}, Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}"
    )
