"""The whole attack: images per second, L2, evaluations, lane utilisation, share of the network.

    INTRIGUING_DATA=... python -m benchmarks.attack [--num_images=10000] [--lanes=64,512,4096]

The share of the network is the number of loop steps times the time of one batched evaluation of
all lanes, over the wall time of the whole attack. Every core (or accelerator) is a device.
"""

from pathlib import Path

import jax
import numpy as np
from absl import app, flags

from benchmarks import common
from intriguing import attack, sharding
from intriguing.attack import feed

_NUM_IMAGES = flags.DEFINE_integer("num_images", 10_000, "MNIST training images to attack")
_LANES = flags.DEFINE_list("lanes", ["64", "512", "4096"], "lanes of each device to try")
_SCALES = flags.DEFINE_list("scales", ["1", "2", "4"], "factors by which images are enlarged")
_WORKDIR = flags.DEFINE_string("workdir", "runs/benchmarks", "where the trained net is kept")
COLUMNS = ["n", "images", "lanes", "refine", "images/s", "seconds", "compilation", "mean L2",
           "median L2", "success", "evals/image", "lane utilisation", "network"]  # fmt: skip


def measure(logits_fn, images, labels, lanes: int | None = None, refine=True) -> list:
    """One row of the table."""
    used, mesh = [], sharding.make_mesh()

    def run():
        return attack.minimal_perturbation(
            logits_fn, images, labels, num_lanes=lanes, refine=refine, mesh=mesh,
            utilisation=used.append,
        )  # fmt: skip

    compiling, seconds, result = common.seconds_of(run, repeats=1)
    total_lanes = feed.choose_num_lanes(images, lanes, mesh)
    rows = np.arange(total_lanes) % len(images)
    some = jax.device_put((images[rows], labels[rows]), sharding.split(mesh))
    _, evaluation, _ = common.seconds_of(
        lambda: common.evaluate_all(logits_fn, *some, mesh=mesh), repeats=20
    )
    steps = used[-1].total / total_lanes
    found = result.l2_norm[result.success]
    return [
        images[0].size, len(images), f"{mesh.size} x {total_lanes // mesh.size}",
        "on" if refine else "off", f"{len(images) / seconds:.0f}", f"{seconds:.1f}",
        f"{compiling:.1f}", f"{found.mean():.4f}", f"{np.median(found):.4f}",
        f"{result.success.mean():.2%}", f"{result.num_evals.mean():.1f}",
        f"{used[-1].busy / used[-1].total:.1%}", f"{steps * evaluation / seconds:.0%}",
    ]  # fmt: skip


def enlarge(logits_fn, images, scale: int):
    """The same problem at scale^2 times the pixels: the network sees the mean of each block."""

    def on_means(logits_fn, large):
        batch, height, width, channels = large.shape
        blocks = (batch, height // scale, scale, width // scale, scale, channels)
        return logits_fn(large.reshape(blocks).mean(axis=(2, 4)))

    large = images.repeat(scale, axis=1).repeat(scale, axis=2)
    return jax.tree_util.Partial(on_means, logits_fn), large


def main(argv) -> None:
    del argv
    sharding.use_cores()
    num = _NUM_IMAGES.value
    logits_fn, images, labels = common.mnist_problem(num, Path(_WORKDIR.value))
    logits_fn = jax.device_put(logits_fn, sharding.replicated(sharding.make_mesh()))
    rows = [
        measure(logits_fn, images, labels, int(lanes), refine)
        for lanes in _LANES.value
        for refine in (False, True)
    ]
    common.print_table("Lanes", COLUMNS, rows)
    counts = sorted({max(num // 100, 1), max(num // 10, 1), num})
    rows = [measure(logits_fn, images[:count], labels[:count]) for count in counts]
    common.print_table("Number of images, default lanes", COLUMNS, rows)
    count, rows = max(num // 20, 1), []
    for scale in map(int, _SCALES.value):
        large_fn, large = enlarge(logits_fn, images[:count], scale)
        rows.append(measure(large_fn, large, labels[:count]))
    common.print_table("Pixels, default lanes", COLUMNS, rows)


if __name__ == "__main__":
    app.run(main)
