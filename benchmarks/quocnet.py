"""QuocNet at its full size: seconds per evaluation, and its memory, against reading the weights.

    python -m benchmarks.quocnet [--batch_sizes=1,4] [--image_size=200]

Random filters, made in place on all devices, which share them by rows. An evaluation is a forward
pass and the gradient of the loss with respect to the images, which reads every weight twice; the
floor is the time of summing all weights twice. No data are needed.
"""

import resource
import time

import jax
import jax.numpy as jnp
from absl import app, flags

from benchmarks import common
from intriguing import models, rica, sharding
from intriguing.models.quocnet import QuocNet
from intriguing.objective import evaluate

_BATCH_SIZES = flags.DEFINE_list("batch_sizes", ["1", "4"], "images per evaluation")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 200, "pixels; 200 is the size of 2012")


def peak_gigabytes() -> float:
    """Of this process, all devices of a CPU together."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main(argv) -> None:
    del argv
    sharding.use_cores()
    mesh, model = sharding.make_mesh(model_devices=None), QuocNet()
    shape = (_IMAGE_SIZE.value, _IMAGE_SIZE.value, 3)
    before, start = peak_gigabytes(), time.perf_counter()
    filters = jax.block_until_ready(rica.init(model, shape, jax.random.key(0), mesh))
    seconds, num = time.perf_counter() - start, sum(leaf.size for leaf in jax.tree.leaves(filters))
    gigabytes = 4 * num / 1e9
    print(f"{num:,} weights, {gigabytes:.2f} GB, on {mesh.size} devices in {seconds:.0f} s; "
          f"peak memory {before:.1f} GB before, {peak_gigabytes():.1f} GB after")  # fmt: skip
    features = model.stages[-1].maps * filters["stage3"]["kernel"].shape[0] ** 2
    head = {"kernel": jax.random.normal(jax.random.key(1), (features, 2)) / features**0.5,
            "bias": jnp.zeros(2)}  # fmt: skip
    params = sharding.place({**filters, "classifier": head}, mesh)
    logits_fn = models.logits_fn(model, {"params": params})
    total = jax.jit(lambda tree: sum(leaf.sum() for leaf in jax.tree.leaves(tree)))
    _, read, _ = common.seconds_of(lambda: total(params))
    run, rows = jax.jit(evaluate), []
    for batch_size in map(int, _BATCH_SIZES.value):
        images = jax.random.uniform(jax.random.key(2), (batch_size, *shape))
        images, labels = sharding.place((images, jnp.zeros(batch_size, jnp.int32)), mesh)
        compilation, seconds, _ = common.seconds_of(lambda x=(images, labels): run(logits_fn, *x))
        rows.append([
            batch_size, f"{seconds:.2f}", f"{2 * read:.2f}", f"{seconds / (2 * read):.1f}",
            f"{2 * gigabytes / seconds:.2f}", f"{compilation:.0f}", f"{peak_gigabytes():.1f}",
        ])  # fmt: skip
    columns = ["images", "seconds", "floor", "seconds / floor", "GB of weights per second",
               "compilation, seconds", "peak memory, GB"]  # fmt: skip
    common.print_table(f"QuocNet, {num:,} weights, {mesh.size} devices", columns, rows)


if __name__ == "__main__":
    app.run(main)
