"""QuocNet at its full size: seconds per evaluation, and its memory, against reading the weights.

    python -m benchmarks.quocnet [--batch_sizes=1,4] [--image_size=200]
    XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m benchmarks.quocnet --memory_only

Random filters, made in place on all devices, which share them by rows. An evaluation is a forward
pass and the gradient of the loss with respect to the images, which reads every weight twice; the
floor is the time of summing all weights twice. `--memory_only` computes nothing: the compiler says
what each device has to hold. No data are needed.
"""

import time

import jax
import jax.numpy as jnp
from absl import app, flags

from benchmarks import common
from benchmarks.common import peak_gigabytes
from intriguing import models, sharding
from intriguing.models.quocnet import QuocNet
from intriguing.training import rica

_BATCH_SIZES = flags.DEFINE_list("batch_sizes", ["1", "4"], "images per evaluation")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 200, "pixels; 200 is the size of 2012")


_MEMORY_ONLY = flags.DEFINE_bool("memory_only", False, "ask the compiler, and run nothing")


def with_classifier(filters, make_leaf):
    """Parameters of the whole network; `make_leaf(shape)` makes the classifier's."""
    rows, _, maps, _ = filters["stage3"]["kernel"].shape
    classifier = {"kernel": make_leaf((maps * rows**2, 2)), "bias": make_leaf((2,))}
    return {**filters, "classifier": classifier}


def print_memory(model, shape, batch_sizes, mesh) -> None:
    """Of one evaluation: what a device holds while it runs."""

    def leaf(shape, sharding, dtype=jnp.float32):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

    shapes, on_all = rica.kernel_shapes(model, shape), sharding.replicated(mesh)
    filters = {
        f"stage{i}": {"kernel": leaf(kernel, sharding.by_rows(mesh))}
        for i, kernel in enumerate(shapes, start=1)
    }
    params = with_classifier(filters, lambda size: leaf(size, on_all))
    rows = []
    for size in batch_sizes:
        args = leaf((size, *shape), on_all), leaf((size,), on_all, jnp.int32)
        compiled = jax.jit(common.evaluate_targeted).lower(
            models.logits_fn(model, {"params": params}), *args
        )
        memory = compiled.compile().memory_analysis()
        held = memory.argument_size_in_bytes, memory.temp_size_in_bytes
        rows.append([size, mesh.size, *(f"{part / 1e9:.2f}" for part in (*held, sum(held)))])
    columns = ["images", "devices", "weights and images, GB", "activations, GB", "together, GB"]
    common.print_table("QuocNet: what each device holds for an evaluation", columns, rows)


def main(argv) -> None:
    del argv
    sharding.use_cores()
    mesh, model = sharding.make_mesh(model_devices=None), QuocNet()
    shape, batch_sizes = (_IMAGE_SIZE.value, _IMAGE_SIZE.value, 3), [*map(int, _BATCH_SIZES.value)]
    if _MEMORY_ONLY.value:
        print_memory(model, shape, batch_sizes, mesh)
    else:
        print_seconds(model, shape, batch_sizes, mesh)


def print_seconds(model, shape, batch_sizes, mesh) -> None:
    """Of one evaluation, beside the time of reading the weights."""
    before, start = peak_gigabytes(), time.perf_counter()
    filters = jax.block_until_ready(rica.init(model, shape, jax.random.key(0), mesh))
    seconds, num = time.perf_counter() - start, sum(leaf.size for leaf in jax.tree.leaves(filters))
    gigabytes = 4 * num / 1e9
    print(f"{num:,} weights, {gigabytes:.2f} GB, on {mesh.size} devices in {seconds:.0f} s; "
          f"peak memory {before:.1f} GB before, {peak_gigabytes():.1f} GB after")  # fmt: skip
    key = jax.random.key(1)
    params = with_classifier(filters, lambda size: jax.random.normal(key, size) / size[0] ** 0.5)
    params = sharding.place(params, mesh)
    logits_fn = models.logits_fn(model, {"params": params})
    total = jax.jit(lambda tree: sum(leaf.sum() for leaf in jax.tree.leaves(tree)))
    _, read, _ = common.seconds_of(lambda: total(params))
    run, rows = jax.jit(common.evaluate_targeted), []
    for batch_size in batch_sizes:
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
