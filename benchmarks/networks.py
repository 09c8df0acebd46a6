"""Seconds per evaluation of whole networks on a CPU, ours beside PyTorch's, in one process.

    python -m benchmarks.networks [--nets=squeezenet,resnet20] [--repeats=9]

An evaluation is what an attack asks for: the loss of a batch and its gradient with respect to the
images. Both sides have the same weights, images and number of threads; they take turns, and the
median of their times is given, and the median of the ratios of neighbours. PyTorch is timed in its
own layout, NCHW, and in the one that it offers beside it, channels last.
"""

import os
import time

import jax
import jax.numpy as jnp
import numpy as np
import torch
from absl import app, flags

from benchmarks import common, nets, torch_nets
from intriguing import compiling, models

_NETS = flags.DEFINE_list(
    "nets", ["squeezenet", "googlenet", "alexnet", "resnet20"], "which networks"
)
_REPEATS = flags.DEFINE_integer("repeats", 9, "evaluations of each side", 1)
BATCH = {"resnet20": 32}


def sides(net: str) -> tuple[dict, int]:
    """({side: a function that evaluates once and returns (loss, gradient NHWC)}, images)."""
    model, params, shape = nets.with_weights(net)
    num = BATCH.get(net, 8)
    images = np.random.default_rng(0).random((num, *shape), np.float32)
    logits_fn = models.logits_fn(model, {"params": jax.device_put(params)})
    labels = np.arange(num) % 10

    def loss(images, logits_fn):
        log_softmax = jax.nn.log_softmax(logits_fn(images))
        return -log_softmax[jnp.arange(num), labels].sum()

    evaluate = jax.jit(jax.value_and_grad(loss), compiler_options=compiling.compiler_options())
    on_device = jax.device_put(images)

    def ours():
        return jax.block_until_ready(evaluate(on_device, logits_fn))

    module = torch_nets.module(model, params)
    nchw, wanted = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()), torch.from_numpy(labels)

    def theirs(memory_format):
        x = nchw.to(memory_format=memory_format, copy=True).requires_grad_()
        value = torch.nn.functional.cross_entropy(module(x), wanted, reduction="sum")
        (grad,) = torch.autograd.grad(value, x)
        return value.detach().numpy(), grad.numpy().transpose(0, 2, 3, 1)

    return {
        "ours": ours,
        "PyTorch": lambda: theirs(torch.contiguous_format),
        "PyTorch, channels last": lambda: theirs(torch.channels_last),
    }, num


def check(found: dict) -> None:
    """Raises AssertionError if the sides compute other things, kinks apart."""
    value, grad = found["ours"]
    for other, its_grad in found.values():
        assert np.isclose(value, other, rtol=1e-4), (value, other)
        assert np.linalg.norm(grad - its_grad) <= 0.02 * np.linalg.norm(grad)


def main(argv) -> None:
    """A table: seconds of each side, and ours over theirs."""
    del argv
    torch.set_num_threads(os.cpu_count())
    rows = []
    for net in _NETS.value:
        runs, num = sides(net)
        check({side: run() for side, run in runs.items()})
        seconds = {side: [] for side in runs}
        for _ in range(_REPEATS.value):
            for side, run in runs.items():
                start = time.perf_counter()
                run()
                seconds[side].append(time.perf_counter() - start)
        ours = np.array(seconds["ours"])
        row = [net, num, *(f"{np.median(each):.3f}" for each in seconds.values())]
        row += [f"{np.median(ours / each):.2f}" for each in list(seconds.values())[1:]]
        rows.append(row)
        print(*row, flush=True)
    columns = ["net", "images", *seconds, "ours / PyTorch", "ours / channels last"]
    common.print_table("Seconds per evaluation (median)", columns, rows)


if __name__ == "__main__":
    app.run(main)
