"""The attack at ImageNet size: how much of its time the network itself takes, and its memory.

    INTRIGUING_DATA=... python -m benchmarks.imagenet [--net=squeezenet] [--num_images=8]

The floor is what the network costs alone: as many evaluations (forward and backward) of the same
batch as the attack's steps, and the refinement's linearisations. `--net=alexnet` has random weights
and random targets; squeezenet and googlenet turn photographs into ostriches.
"""

import os
import time
from pathlib import Path

import jax
import numpy as np
from absl import app, flags

from benchmarks import common
from intriguing import (
    attack,
    data_stream,
    import_weights,
    models,
    predict,
    search,
    sharding,
)
from intriguing.lanes import empty_lanes
from intriguing.objective import evaluate
from intriguing.refine import linearise

_NET = flags.DEFINE_enum("net", "squeezenet", list(models.IMAGENET), "which network")
_NUM_IMAGES = flags.DEFINE_integer("num_images", 8, "images attacked")
_NUM_LANES = flags.DEFINE_integer("num_lanes", None, "images at work on each device")
FILES = {"squeezenet": "squeezenet_v1.1", "googlenet": "bvlc_googlenet"}
OSTRICH, REFINE_STEPS, NUM_MARGINS = 9, 3, 9


def problem(net: str, num_images: int):
    """(logits_fn, images that it has right, targets); AlexNet: random weights and noise."""
    build, size = models.IMAGENET[net]
    if net not in FILES:
        model, rng = build(), np.random.default_rng(0)
        images = rng.uniform(size=(num_images, size, size, 3)).astype(np.float32)
        variables = jax.jit(model.init)(jax.random.key(0), images[:1])
        return models.logits_fn(model, variables), images, rng.integers(0, 1000, num_images)
    root = Path(os.environ["INTRIGUING_DATA"])
    weights = import_weights.load(root / "weights" / FILES[net] / f"{FILES[net]}.npz", net)
    logits_fn = models.logits_fn(weights.model, {"params": weights.params})
    folder = str(root / "imagenet_sample")
    source = data_stream.open_source("image_folder", "test", image_size=size, data_dir=folder)
    images, _ = source.read(range(min(len(source.labels), 2 * num_images)))
    right = predict.predict(logits_fn, images) == source.labels[: len(images)]
    images = np.resize(images[right], (num_images, size, size, 3))  # repeated where too few
    return logits_fn, images, np.full(num_images, OSTRICH)


@sharding.jit(static_argnames="mesh")
def _evaluate(logits_fn, images, labels, mesh):
    run = sharding.map_devices(lambda fn, *args: evaluate(fn, *args), mesh)
    return run(logits_fn, images, labels)


@sharding.jit(static_argnames="mesh")
def _linearise(logits_fn, images, labels, mesh):
    run = sharding.map_devices(lambda fn, *args: linearise(fn, *args, NUM_MARGINS), mesh)
    return run(logits_fn, images, labels)


def main(_) -> None:
    mesh = sharding.make_mesh()
    logits_fn, images, targets = problem(_NET.value, _NUM_IMAGES.value)
    num_lanes = search.choose_num_lanes(images, _NUM_LANES.value, mesh)
    logits_fn = jax.device_put(logits_fn, sharding.replicated(mesh))
    used = []

    def run(**options):
        start = time.perf_counter()
        result = attack.minimal_perturbation(
            logits_fn, images, targets, mesh=mesh, num_lanes=_NUM_LANES.value,
            utilisation=used.append, refine_steps=REFINE_STEPS, num_margins=NUM_MARGINS, **options,
        )  # fmt: skip
        return time.perf_counter() - start, result

    first, _ = run(num_penalties=1, maxiter=1)  # compiles; budgets are inputs
    seconds, result = run()
    num_steps = used[-1].total / num_lanes
    batch = jax.device_put((images[np.arange(num_lanes) % len(images)],
                            np.resize(targets, num_lanes)), sharding.split(mesh))  # fmt: skip
    _, per_step, _ = common.seconds_of(lambda: _evaluate(logits_fn, *batch, mesh=mesh))
    _, per_line, _ = common.seconds_of(lambda: _linearise(logits_fn, *batch, mesh=mesh))
    num_batches = -(-len(images) // num_lanes)
    floor = num_steps * per_step + num_batches * REFINE_STEPS * per_line
    lanes = empty_lanes(1, images[0].size, 1, np.float32, 5)
    state = sum(leaf.nbytes for leaf in jax.tree.leaves(lanes)) / images[0].nbytes
    rows = [[
        _NET.value, len(images), num_lanes, f"{seconds:.1f}", f"{floor:.1f}",
        f"{floor / seconds:.0%}", f"{per_step:.3f}", f"{result.num_evals.mean():.0f}",
        f"{result.success.mean():.0%}", f"{result.distortion[result.success].mean():.6f}",
        f"{state + search.QUEUE_LENGTH:.0f}", f"{first:.0f}",
    ]]  # fmt: skip
    columns = ["net", "images", "lanes", "seconds", "floor", "share of the network",
               "seconds per evaluation", "evaluations per image", "success", "av. distortion",
               "memory per lane, images", "compilation, seconds"]  # fmt: skip
    common.print_table("The attack at ImageNet size", columns, rows)


if __name__ == "__main__":
    sharding.use_cores()
    app.run(main)
