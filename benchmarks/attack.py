"""The whole attack: images per second, L2, evaluations, lane utilisation, share of the network.

    INTRIGUING_DATA=... python -m benchmarks.attack [--num_images=10000] [--lanes=64,167,512]

The share of the network is the number of loop steps times the time of one batched evaluation of
all lanes, over the wall time of the search.
"""

from pathlib import Path

import jax
import numpy as np
from absl import app, flags

from benchmarks import common
from intriguing import attack
from intriguing.objective import evaluate

_NUM_IMAGES = flags.DEFINE_integer("num_images", 10_000, "MNIST training images to attack")
_LANES = flags.DEFINE_list("lanes", ["64", "167", "512"], "lanes to try")
_WORKDIR = flags.DEFINE_string("workdir", "runs/benchmarks", "where the trained net is kept")


@jax.jit
def evaluate_all(logits_fn, images, labels):
    return evaluate(logits_fn, images, labels)


def measure(logits_fn, images, labels, lanes: int, **options) -> list:
    """One row of the table."""
    used = []

    def run():
        return attack.minimal_perturbation(
            logits_fn, images, labels, num_lanes=lanes, utilisation=used.append, **options
        )

    compiling, seconds, result = common.seconds_of(run, repeats=1)
    some = images[:lanes], labels[:lanes]
    _, evaluation, _ = common.seconds_of(lambda: evaluate_all(logits_fn, *some), repeats=20)
    steps = used[-1].total / lanes
    found = result.l2_norm[result.success]
    return [
        lanes, len(images), "on" if options.get("refine", True) else "off",
        f"{len(images) / seconds:.0f}", f"{seconds:.1f}", f"{compiling:.1f}",
        f"{found.mean():.4f}", f"{np.median(found):.4f}", f"{result.success.mean():.2%}",
        f"{result.num_evals.mean():.1f}", f"{used[-1].busy / used[-1].total:.1%}",
        f"{steps * evaluation / seconds:.0%}",
    ]  # fmt: skip


def main(argv) -> None:
    del argv
    logits_fn, images, labels = common.mnist_problem(_NUM_IMAGES.value, Path(_WORKDIR.value))
    rows = [
        measure(logits_fn, images, labels, int(lanes), refine=refine)
        for lanes in _LANES.value
        for refine in (False, True)
    ]
    tenth = len(images) // 10
    rows.append(measure(logits_fn, images[:tenth], labels[:tenth], int(_LANES.value[0])))
    columns = ["lanes", "images", "refine", "images/s", "seconds", "compilation", "mean L2",
               "median L2", "success", "evals/image", "lane utilisation", "network"]  # fmt: skip
    common.print_table("Whole attack, MNIST FC100-100-10", columns, rows)


if __name__ == "__main__":
    app.run(main)
