"""Our distances over the exact ones: softmax regression, where the nearest point solves a QP.

    INTRIGUING_DATA=... python -m benchmarks.exact [--num_images=1000]

FC10 with the paper's three weight decays, trained on MNIST; random targets; the penalty method
alone (the paper's protocol) and refined. The oracle is that of the tests, float64 without JAX.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from benchmarks import common
from intriguing import attack, models, sharding, training
from intriguing.attack import targets

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import oracle

_NUM_IMAGES = flags.DEFINE_integer("num_images", 1000, "MNIST training images to attack")
_WORKDIR = flags.DEFINE_string("workdir", "runs/benchmarks", "where the trained nets are kept")


def main(argv) -> None:
    del argv
    sharding.use_cores()
    dataset, rows = common.mnist(), []
    images, labels = dataset.images[: _NUM_IMAGES.value], dataset.labels[: _NUM_IMAGES.value]
    wanted = targets.random_targets(jax.random.key(1), labels, jnp.arange(len(images)), 10)
    wanted = np.asarray(wanted)
    for weight_decay in (1e-4, 1e-2, 1.0):
        name = f"FC10({weight_decay:g})"
        state = training.fit(
            models.fully_connected(), dataset, jax.random.key(0), num_epochs=30, batch_size=100,
            learning_rate=1e-3, weight_decay={"fc1": weight_decay}, name=f"training {name}",
            checkpoint_dir=Path(_WORKDIR.value) / "checkpoints" / name,
        )  # fmt: skip
        layer = jax.tree.map(np.asarray, state.params["fc1"])
        flat = images.reshape(len(images), -1)
        exact = np.array([
            np.linalg.norm(oracle.exact_minimum(layer["kernel"], layer["bias"], x, t) - x)
            for x, t in zip(flat, wanted, strict=True)
        ])  # fmt: skip
        for refine in (False, True):
            result = attack.minimal_perturbation(
                models.logits_fn(models.fully_connected(), {"params": state.params}), images,
                wanted,
                refine=refine, mesh=sharding.make_mesh(),
            )  # fmt: skip
            ratios = result.l2_norm[exact > 0] / exact[exact > 0]
            rows.append([
                name, "on" if refine else "off", f"{exact.mean():.4f}",
                f"{result.l2_norm.mean():.4f}", f"{result.l2_norm.mean() / exact.mean():.4f}",
                f"{ratios.max():.3f}", f"{ratios.min():.5f}", f"{result.success.mean():.2%}",
            ])  # fmt: skip
    columns = ["model", "refine", "exact mean L2", "mean L2", "ratio of means", "largest ratio",
               "smallest ratio", "success"]  # fmt: skip
    common.print_table(f"Softmax regression, {len(images)} MNIST images", columns, rows)


if __name__ == "__main__":
    app.run(main)
