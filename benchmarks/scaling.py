"""How the attack scales: with the number of images up to a million, with devices, with lanes.

    python -m benchmarks.scaling [--nums=10000,100000,1000000] [--models=FC10,FC100-100-10]

Digits of 8x8 pixels with noise, made as they are needed; targeted, 20 evaluations each, a shard of
10,000 images at a time, kept on disk as a run keeps them. Each row is a process of its own, so that
its peak of memory is its own, too. Linear time and flat memory are what is looked for.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from absl import app, flags

from benchmarks import common
from intriguing import attack, data, models, sharding, training
from intriguing.runs import shards

_NUMS = flags.DEFINE_list("nums", ["10000", "100000", "1000000"], "numbers of images")
_MODELS = flags.DEFINE_list("models", ["FC10", "FC100-100-10"], "networks")
_DEVICES = flags.DEFINE_list("devices", ["1", "2"], "numbers of devices, with 100,000 images")
_LANES = flags.DEFINE_list("lanes", ["64", "256", "1024"], "lanes, with 100,000 images")
_ROW = flags.DEFINE_string("row", None, "one row, as JSON: what the processes are told")
SHARD, BUDGET, SOME = 10_000, 20, 100_000
COLUMNS = ["model", "images", "devices", "lanes of each", "seconds", "images/s", "success",
           "mean L2", "peak memory, GB", "of which before the attack"]  # fmt: skip


def images_from(digits: data.Dataset, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """(images, targets) of these numbers, the same whatever is asked for with them."""
    rows = np.arange(start, stop) % len(digits.images)
    rng = np.random.default_rng(start)
    noise = rng.uniform(-0.05, 0.05, (stop - start, *digits.images.shape[1:]))
    images = np.clip(digits.images[rows] + noise, 0, 1).astype(np.float32)
    return images, (digits.labels[rows] + rng.integers(1, 10, stop - start)) % 10


def measure(name: str, num: int, devices: int, lanes: int | None) -> dict:
    """One row: a network trained, one shard to compile, then all images."""
    sharding.use_cores(devices)
    mesh, digits = sharding.make_mesh(devices), data.load("digits", "train")
    model = models.fully_connected(tuple(map(int, name.removeprefix("FC").split("-")[:-1])))
    state = training.fit(
        model, digits, jax.random.key(0), num_epochs=30, batch_size=100, learning_rate=3e-3
    )
    logits_fn = models.logits_fn(model, {"params": state.params})

    def compute(start: int, stop: int) -> dict[str, np.ndarray]:
        images, wanted = images_from(digits, start, stop)
        found = attack.minimal_perturbation(
            logits_fn, images, wanted, budget=BUDGET, mesh=mesh, num_lanes=lanes
        )
        return found.to_dict()

    compute(0, SHARD)
    before = common.peak_gigabytes()
    with tempfile.TemporaryDirectory() as folder:
        where = shards.Shards(Path(folder), num, SHARD)
        begin = time.perf_counter()
        found = shards.map_shards(
            where, compute, made_from=lambda *_: {"model": name}, on_disk=("adv_images",)
        )
        seconds = time.perf_counter() - begin
    norms = found["l2_norm"][found["success"]]
    return {
        "row": [
            name, f"{num:,}", devices, lanes or "default", f"{seconds:.1f}",
            f"{num / seconds:,.0f}", f"{found['success'].mean():.2%}", f"{norms.mean():.4f}",
            f"{common.peak_gigabytes():.2f}", f"{before:.2f}",
        ]
    }  # fmt: skip


def in_process(**options) -> list:
    """The row of a process of its own."""
    command = [sys.executable, "-m", "benchmarks.scaling", f"--row={json.dumps(options)}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    row = json.loads(done.stdout.splitlines()[-1])["row"]
    print(row, file=sys.stderr, flush=True)
    return row


def main(argv) -> None:
    """Prints a table by number of images, one by devices, one by lanes."""
    del argv
    if _ROW.value:
        print(json.dumps(measure(**json.loads(_ROW.value))))
        return
    most = int(_DEVICES.value[-1])
    base = {"num": SOME, "devices": most, "lanes": None}
    rows = [in_process(**base | {"name": name, "num": int(num)})
            for name in _MODELS.value for num in _NUMS.value]  # fmt: skip
    common.print_table("Images", COLUMNS, rows)
    base["name"] = _MODELS.value[-1]
    rows = [in_process(**base | {"devices": int(each)}) for each in _DEVICES.value]
    common.print_table("Devices", COLUMNS, rows)
    rows = [in_process(**base | {"lanes": int(each)}) for each in _LANES.value]
    common.print_table("Lanes", COLUMNS, rows)


if __name__ == "__main__":
    app.run(main)
