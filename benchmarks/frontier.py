"""The frontier: the smallest perturbations at each number of evaluations, ours beside DDN's.

    pip install --no-deps adv-lib==0.2.8     # and torch, of requirements-dev.txt
    INTRIGUING_DATA=... python -m benchmarks.frontier [--nets=resnet20,squeezenet] [--budgets=...]

Both sides attack the same network, in JAX: DDN (adv-lib) sees it as a PyTorch function whose
gradient is ours, so that images, targets and evaluations are the same, and counted. An evaluation
is a forward and a backward pass of one image. DDN runs from two first norms, its own 1.0 and 0.3
(3.0 on the robust network, whose distances are larger), and the better mean is kept. We judge both:
inside the box, and the goal reached by our forward pass. Means are over the images where both
sides of a row's goal succeed at every budget.
"""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from benchmarks import common
from intriguing import attack, models, predict, sharding
from intriguing.data import stream
from intriguing.models import import_weights

_NETS = flags.DEFINE_list("nets", ["resnet20", "squeezenet"], "which networks")
_BUDGETS = flags.DEFINE_list("budgets", ["20", "30", "50", "100", "300"], "evaluations, of ours")
_STEPS = flags.DEFINE_list("steps", ["50", "100", "300"], "evaluations, of DDN")
_GOALS = flags.DEFINE_list("goals", ["targeted", "untargeted"], "of the attacks")
_SKIP = flags.DEFINE_integer("skip", 0, "images that the network has right, left out in front")
CIFAR = {"resnet20": "resnet20", "robust_small_cifar": "robust_small_l2"}
OSTRICH = 9
FIRST_NORMS = {"resnet20": (1.0, 0.3), "squeezenet": (1.0, 0.3), "robust_small_cifar": (1.0, 3.0)}


def problem(net: str, skip: int):
    """(logits_fn, images, labels, targets) of those that the network has right."""
    root = Path(os.environ["INTRIGUING_DATA"])
    if net in CIFAR:
        path, num = root / "weights" / "cifar10" / f"{CIFAR[net]}.npz", 32
        with np.load(root / "cifar10" / "cifar10_sample.npz") as arrays:
            images, labels = arrays["x_test"][:1000].astype(np.float32) / 255, arrays["y_test"]
    else:
        path, num = root / "weights" / "squeezenet_v1.1" / "squeezenet_v1.1.npz", 8
        folder = str(root / "imagenet_sample")
        source = stream.open_source("image_folder", "test", image_size=227, data_dir=folder)
        images, _ = source.read(range(2 * (num + skip)))
        labels = source.labels
    weights = import_weights.load(path, net)
    logits_fn = models.logits_fn(weights.model, {"params": weights.params})
    labels = np.asarray(labels[: len(images)], np.int32)
    right = predict.predict(logits_fn, images) == labels
    rows = np.flatnonzero(right)[skip : skip + num]
    images, labels = images[rows], labels[rows]
    targets = np.full(num, OSTRICH, np.int32)
    if net in CIFAR:
        targets = ((labels + np.random.default_rng(0).integers(1, 10, num)) % 10).astype(np.int32)
    return logits_fn, images, labels, targets


@jax.jit
def _forward(logits_fn, images):
    return logits_fn(images)


@jax.jit
def _backward(logits_fn, images, grad):
    return jax.vjp(logits_fn, images)[1](grad)[0]


def as_torch(logits_fn):
    """(the network as a PyTorch function of NCHW images, a list that counts its evaluations)."""
    import torch

    count = [0]

    class Network(torch.autograd.Function):
        @staticmethod
        def forward(ctx, images):
            count[0] += 1
            ctx.images = jnp.asarray(images.detach().permute(0, 2, 3, 1).numpy())
            return torch.from_numpy(np.array(_forward(logits_fn, ctx.images)))

        @staticmethod
        def backward(ctx, grad):
            images = np.array(_backward(logits_fn, ctx.images, jnp.asarray(grad.numpy())))
            return torch.from_numpy(images).permute(0, 3, 1, 2)

    return Network.apply, count


def judge(logits_fn, images, adv_images, wanted, goal: str) -> np.ndarray:
    """L2 norms, infinite where the goal is not reached or the box was left."""
    answers = predict.predict(logits_fn, adv_images)
    reached = answers == wanted if goal == "targeted" else answers != wanted
    inside = ((adv_images >= 0) & (adv_images <= 1)).reshape(len(images), -1).all(axis=1)
    norms = np.linalg.norm((adv_images - images).reshape(len(images), -1), axis=1)
    return np.where(reached & inside, norms, np.inf)


def run_ddn(logits_fn, images, wanted, goal: str, steps: int, first_norm: float):
    """(norms, evaluations per image) of adv-lib's DDN, without its rounding to 256 levels."""
    import torch

    from benchmarks import peer_attacks

    model, count = as_torch(logits_fn)
    nchw = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    found = peer_attacks.adv_lib().ddn(
        model, nchw, torch.from_numpy(wanted).long(),
        targeted=goal == "targeted", steps=steps, init_norm=first_norm, levels=None,
    )  # fmt: skip
    adv_images = found.detach().numpy().transpose(0, 2, 3, 1).clip(0, 1)
    return judge(logits_fn, images, adv_images, wanted, goal), count[0]


# What the default is beside: the search on c and its refinement; a refinement after exploring.
OTHERS = (
    ("ours, search on c, refined", {"search": "penalty", "budget": 300}),
    ("ours, explored, refined", {"refine_steps": 2, "budget": 100}),
)


def run_ours(logits_fn, images, wanted, goal: str, options):
    """(norms, most evaluations of an image)."""
    result = attack.minimal_perturbation(logits_fn, images, wanted, goal=goal, **options,
                                         mesh=sharding.make_mesh(1))  # fmt: skip
    norms = judge(logits_fn, images, result.adv_images, wanted, goal)
    return norms, int(result.num_evals.max())


def main(argv) -> None:
    del argv
    for net in _NETS.value:
        logits_fn, images, labels, targets = problem(net, _SKIP.value)
        rows = []
        for goal in _GOALS.value:
            wanted, found = targets if goal == "targeted" else labels, []
            for name, options in [("ours", {"budget": int(b)}) for b in _BUDGETS.value] + [*OTHERS]:
                found.append((name, *run_ours(logits_fn, images, wanted, goal, options)))
                print(net, goal, name, options, found[-1][1].mean(), flush=True)
            for steps in map(int, _STEPS.value):
                runs = [
                    (f"DDN, first norm {norm}",
                     *run_ddn(logits_fn, images, wanted, goal, steps, norm))
                    for norm in FIRST_NORMS[net]
                ]  # fmt: skip
                found.append(min(runs, key=lambda run: (np.isinf(run[1]).sum(), run[1].mean())))
                print(net, goal, "DDN", steps, found[-1][1].mean(), flush=True)
            common_rows = np.all([np.isfinite(norms) for _, norms, _ in found], axis=0)
            rows += [
                [goal, side, evals, f"{np.isfinite(norms).mean():.0%}",
                 f"{norms[common_rows].mean():.4f}", f"{int(common_rows.sum())}"]
                for side, norms, evals in found
            ]  # fmt: skip
        columns = ["goal", "attack", "evaluations, most", "success", "mean L2", "images"]
        common.print_table(f"{net}, {len(images)} images from {_SKIP.value} on", columns, rows)


if __name__ == "__main__":
    app.run(main)
