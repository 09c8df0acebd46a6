"""The attack at ImageNet size: how much of its time the network itself takes, and its memory.

    INTRIGUING_DATA=... python -m benchmarks.imagenet [--net=squeezenet] [--num_images=8]

The floor is what the network costs alone: as many evaluations (forward and backward) of the same
batch as the attack's steps. Memory is the compiler's plan for
a device; `--memory_only` leaves out the rest. `--net=alexnet` has random weights and random
targets; squeezenet and googlenet turn photographs into ostriches.
"""

import functools
import os
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from benchmarks import common
from intriguing import attack, compiling, models, predict, sharding
from intriguing.attack import engine, feed, minimal, refine
from intriguing.attack.explore import ExploreOptions
from intriguing.attack.goals import NAMED
from intriguing.attack.lanes import Queue, empty_lanes
from intriguing.attack.problem import Problem
from intriguing.data import stream
from intriguing.models import import_weights

_NET = flags.DEFINE_enum("net", "squeezenet", list(models.PRETRAINED), "which network")
_NUM_IMAGES = flags.DEFINE_integer("num_images", 8, "images attacked")
_NUM_LANES = flags.DEFINE_integer("num_lanes", None, "images at work on each device")
_MEMORY_ONLY = flags.DEFINE_bool("memory_only", False, "ask the compiler, and run nothing")
FILES = {"squeezenet": "squeezenet_v1.1", "googlenet": "bvlc_googlenet"}
OSTRICH, REFINE_STEPS, NUM_MARGINS = 9, 3, 9
SEARCH = ExploreOptions(100)


def problem(net: str, num_images: int):
    """(logits_fn, images that it has right, targets); AlexNet: random weights and noise."""
    build, (size, *_) = models.PRETRAINED[net][:2]
    if net not in FILES:
        model, rng = build(), np.random.default_rng(0)
        images = rng.uniform(size=(num_images, size, size, 3)).astype(np.float32)
        variables = jax.jit(model.init)(jax.random.key(0), images[:1])
        return models.logits_fn(model, variables), images, rng.integers(0, 1000, num_images)
    root = Path(os.environ["INTRIGUING_DATA"])
    weights = import_weights.load(root / "weights" / FILES[net] / f"{FILES[net]}.npz", net)
    logits_fn = models.logits_fn(weights.model, {"params": weights.params})
    folder = str(root / "imagenet_sample")
    source = stream.open_source("image_folder", "test", image_size=size, data_dir=folder)
    images, _ = source.read(range(min(len(source.labels), 2 * num_images)))
    right = predict.predict(logits_fn, images) == source.labels[: len(images)]
    images = np.resize(images[right], (num_images, size, size, 3))  # repeated where too few
    return logits_fn, images, np.full(num_images, OSTRICH)


@compiling.jit(static_argnames="mesh")
def _evaluate(logits_fn, images, labels, mesh):
    return sharding.map_devices(common.evaluate_targeted, mesh)(logits_fn, images, labels)


def planned_memory(logits_fn, images, num_lanes: int, num_rows: int) -> list[int]:
    """What a device with so many lanes holds by the compiler's plan, in bytes.

    Of one evaluation by the network alone, of a step of the attack (with its queue and its finished
    rows), and of the refinement of `num_rows` images.
    """
    shape, n = images.shape[1:], images[0].size

    def array(*sizes, dtype=jnp.float32):
        return jax.ShapeDtypeStruct(sizes, dtype)

    def held(function, *args, donate=()) -> int:
        plan = jax.jit(function, donate_argnums=donate).lower(logits_fn, *args).compile()
        plan = plan.memory_analysis()
        return (plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes
                - plan.alias_size_in_bytes)  # fmt: skip

    def step(logits_fn, work):
        return engine.step(logits_fn, NAMED["targeted"], work, shape, SEARCH)

    refinement = functools.partial(refine.refine, num_steps=REFINE_STEPS, num_margins=NUM_MARGINS,
                                   unroll=True)  # fmt: skip
    length = feed.QUEUE_LENGTH * num_lanes
    indices, bound = array(length, dtype=jnp.int32), array(length, 1)
    queue = Queue(indices, array(length, n), bound, bound, indices)
    lanes = jax.eval_shape(lambda queue: empty_lanes(num_lanes, queue, SEARCH), queue)
    work = jax.eval_shape(
        lambda *args: engine.begin(*args, SEARCH), lanes, array(dtype=jnp.int32), queue
    )
    rows, bound = array(num_rows, *shape), array(num_rows, 1, 1, 1)
    labels = lanes.label
    return [
        held(common.evaluate_targeted, array(num_lanes, *shape), labels),
        held(step, work, donate=1) + 4 * queue.image.size,
        held(refinement, Problem(rows, bound, bound, labels.update(shape=(num_rows,))), rows),
    ]


def print_memory(logits_fn, images, num_lanes: int, num_rows: int) -> None:
    """By the compiler's plan, on a device with `num_lanes` lanes that refines `num_rows` images."""
    plan = planned_memory(logits_fn, images, num_lanes, num_rows)
    per_lane = (plan[1] - plan[0]) / num_lanes / images[0].nbytes
    row = [_NET.value, num_lanes, *(f"{size / 1e9:.2f}" for size in plan), f"{per_lane:.0f}"]
    columns = ["net", "lanes on a device", "network alone, GB", "search, GB", "refinement, GB",
               "search less network, images per lane"]  # fmt: skip
    common.print_table("What a device holds", columns, [row])


def main(_) -> None:
    mesh = sharding.make_mesh()
    logits_fn, images, targets = problem(_NET.value, _NUM_IMAGES.value)
    num_lanes = feed.choose_num_lanes(images, _NUM_LANES.value, mesh)
    num_rows = minimal.num_finished_at_once(num_lanes, NUM_MARGINS, mesh)
    if not _MEMORY_ONLY.value:
        print_seconds(logits_fn, images, targets, num_lanes, mesh)
    num_shards = sharding.num_shards(mesh)
    print_memory(logits_fn, images, num_lanes // num_shards, num_rows // num_shards)


def print_seconds(logits_fn, images, targets, num_lanes: int, mesh) -> None:
    """Of the whole attack, beside what the network costs alone."""
    logits_fn = jax.device_put(logits_fn, sharding.replicated(mesh))
    used = []

    def run(**options):
        start = time.perf_counter()
        result = attack.minimal_perturbation(
            logits_fn, images, targets, mesh=mesh, num_lanes=_NUM_LANES.value,
            utilisation=used.append, **options,
        )  # fmt: skip
        return time.perf_counter() - start, result

    def batch_of(num):
        rows = images[np.arange(num) % len(images)], np.resize(targets, num)
        return jax.device_put(rows, sharding.split(mesh))

    batch = batch_of(num_lanes)
    _, per_step, _ = common.seconds_of(lambda: _evaluate(logits_fn, *batch, mesh=mesh))
    first, _ = run(budget=10)  # compiles; budgets are inputs
    seconds, result = run()
    floor = used[-1].total / num_lanes * per_step
    rows = [[
        _NET.value, len(images), num_lanes, f"{seconds:.1f}", f"{floor:.1f}",
        f"{floor / seconds:.0%}", f"{per_step:.3f}", f"{result.num_evals.mean():.0f}",
        f"{result.success.mean():.0%}", f"{result.distortion[result.success].mean():.6f}",
        f"{first:.0f}",
    ]]  # fmt: skip
    columns = ["net", "images", "lanes", "seconds", "floor", "share of the network",
               "seconds per evaluation", "evaluations per image", "success", "av. distortion",
               "compilation, seconds"]  # fmt: skip
    common.print_table("The attack at ImageNet size", columns, rows)


if __name__ == "__main__":
    sharding.use_cores()
    app.run(main)
