"""AttackBench's judgement (Cina et al. 2025): ours through the PyTorch door, beside its attacks.

    pip install --no-deps attackbenchlib==2.0.2 adv-lib==0.2.8   # and torch
    INTRIGUING_DATA=... python -m benchmarks.attackbench [--nets=resnet20] [--num_images=500]

Its rules, version 2: untargeted, L2, 2,000 propagations per image (a forward and a backward pass
are two) that its own wrapper of the network counts and enforces, distances the smallest that this
wrapper saw. Its attacks have the settings of its adapters; of those, the ones that need no other
library than adv-lib. Optimality is its local one, against the smallest distance of any side that
was run here, by its own function. Images are the first ones of the test set, right or wrong.

A batch is kept in `benchmarks/records/attackbench` when it is done: the same command goes on.
"""

import functools
import importlib
import sys
import time
import warnings
from unittest import mock

import numpy as np
import torch
from absl import app, flags

import intriguing.torch
from benchmarks import common, nets, records, torch_nets
from intriguing import attack, identity

_NETS = flags.DEFINE_list("nets", ["robust_cifar", "resnet20", "resnet32"], "which networks")
_NUM = flags.DEFINE_integer("num_images", 500, "test images", 1)
_SIDES = flags.DEFINE_list("sides", [], "which attacks; all of them, if none is named")
_THREADS = flags.DEFINE_integer("num_threads", 2, "of PyTorch", 1)
_ONLY_TABLES = flags.DEFINE_bool("only_tables", False, "run nothing")
BATCH = 50
BUDGET = 990  # evaluations: with what is asked before and after, within 2,000 propagations
OURS = "ours"
PEERS = {  # library and name of the adapter, and its configuration
    "DDN": ("adv_lib", "ddn_NQ", "ddn_NQ"),
    "FMN": ("adv_lib", "fmn", "fmn"),
    "ALMA": ("adv_lib", "alma", "alma_l2"),
    "PDGD": ("adv_lib", "pdgd", "pdgd"),
    "APGD_t": ("adv_lib", "apgd_t_minimal", "apgd_t_minimal"),
    "FAB": ("adv_lib", "fab", "fab"),
    "trust region": ("adv_lib", "tr", "tr_adaptive"),
    "SuperDeepFool": ("original", "superdeepfool", "superdeepfool"),
}
# Imported at the top by AttackBench and adv-lib, for models, plots and uploads that none here uses.
UNUSED = ("torchvision", "torchvision.transforms", "torchvision.datasets", "visdom", "wandb")


def library():
    """The package `attackbench`, whether or not those that it does not need are there."""
    for name in UNUSED:
        try:
            importlib.import_module(name)
        except ImportError:
            sys.modules[name] = mock.MagicMock()
    return importlib.import_module("attackbench")


def ours(model, inputs, labels):
    """Ours, as a custom attack: `model` is AttackBench's wrapper, and counts."""
    found = attack.minimal_perturbation(
        intriguing.torch.logits_fn(model.eval()), inputs.numpy(), labels.numpy(),
        goal="untargeted", budget=BUDGET, num_lanes=len(inputs),
    )  # fmt: skip
    return torch.from_numpy(found.adv_images)


def peer(name: str):
    """One of AttackBench's attacks, as its registry makes it for L2."""
    library, attack_name, config = PEERS[name]
    configs = importlib.import_module(f"attackbench.attacks.{library}.configs")
    options = getattr(configs, f"{library}_{config}")() | {"threat_model": "l2"}
    getter = getattr(configs, f"get_{library}_{attack_name}")
    known = getter.__code__.co_varnames[: getter.__code__.co_argcount]
    made = getter(**{key: value for key, value in options.items() if key in known})
    return functools.partial(configs._wrapper, attack=made)


def loader_of(net: str, start: int, stop: int) -> torch.utils.data.DataLoader:
    """Test images start to stop, as one batch, NCHW."""
    with np.load(nets.data_folder() / "cifar10" / "cifar10_sample.npz") as arrays:
        images, labels = arrays["x_test"][start:stop], arrays["y_test"][start:stop]
    images = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    dataset = torch.utils.data.TensorDataset(images, torch.from_numpy(labels.astype(np.int64)))
    return torch.utils.data.DataLoader(dataset, batch_size=stop - start)


def path_of(net: str):
    """Where the rows of a network are kept."""
    return records.FOLDER / "attackbench" / f"{net}.jsonl"


def known(net: str) -> dict[tuple[str, int], dict]:
    """{(side, start): row} of batches that stand; ours of the present attack only."""
    return {
        (row["side"], row["start"]): row for row in records.read(path_of(net))
        if row["side"] != OURS or row["numerics"] == identity.NUMERICS
    }  # fmt: skip


def run(net: str, side: str, start: int) -> None:
    """Attacks one batch, and keeps what came of it."""
    bench = library()
    model, params, _ = nets.with_weights(net)
    loader = loader_of(net, start, min(start + BATCH, _NUM.value))
    begin = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = bench.run_attack(
            torch_nets.module(model, params), loader, ours if side == OURS else peer(side), "l2",
            device=torch.device("cpu"), debug=True,
        )  # fmt: skip
    distances = np.array(found["distances"]["l2"])
    row = {
        "side": side, "start": start, "distances": records.short(distances),
        "correct": int(sum(found["correct"])), "forward": int(np.max(found["num_forwards"])),
        "backward": int(np.max(found["num_backwards"])),
        "seconds": round(time.perf_counter() - begin, 1), "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip
    row |= {"numerics": identity.NUMERICS} if side == OURS else {}
    records.append(path_of(net), row)
    print(net, start, side, f"{np.isfinite(distances).mean():.0%}", f"{distances.mean():.5f}",
          row["forward"], row["backward"], f"{row['seconds']} s", flush=True)  # fmt: skip


def table(net: str) -> tuple[list[list], int]:
    """(a row for each side that has done all batches that ours has, number of images)."""
    rows = known(net)
    starts = sorted(start for side, start in rows if side == OURS)
    sides = [s for s in [OURS, *PEERS] if starts and all((s, start) in rows for start in starts)]
    if not sides:
        return [], 0
    distances = {
        side: np.concatenate([records.full(rows[side, start]["distances"]) for start in starts])
        for side in sides
    }
    envelope = np.min(list(distances.values()), axis=0)
    correct = sum(rows[OURS, start]["correct"] for start in starts)
    library()
    optimality = importlib.import_module("attackbench.metrics.distances").eval_optimality
    lines = []
    for side, found in distances.items():
        finite, wrong = np.isfinite(found), envelope == 0
        score = optimality(found, envelope, correct / len(found))
        best = (found <= envelope * (1 + 1e-6))[~wrong].mean()
        own = [rows[side, start] for start in starts]
        lines.append([
            side, f"{score:.4f}", f"{finite.mean():.1%}", f"{found[finite & ~wrong].mean():.5f}",
            f"{np.median(found[~wrong]):.5f}", f"{best:.0%}",
            max(row["forward"] for row in own), max(row["backward"] for row in own),
            f"{sum(row['seconds'] for row in own):.0f}",
        ])  # fmt: skip
    return sorted(lines, key=lambda line: -float(line[1])), len(envelope)


COLUMNS = ["attack", "optimality", "success", "mean L2", "median L2", "smallest of all", "forward",
           "backward", "seconds"]  # fmt: skip


def main(argv) -> None:
    """Runs what is missing, ours first, then prints a table for each network."""
    del argv
    torch.set_num_threads(_THREADS.value)
    for net in _NETS.value:
        done = known(net)
        for start in range(0, _NUM.value, BATCH):
            for side in _SIDES.value or [OURS, *PEERS]:
                if (side, start) not in done and not _ONLY_TABLES.value:
                    run(net, side, start)
        lines, num = table(net)
        if lines:
            common.print_table(f"{net}, the first {num} test images", COLUMNS, lines)


if __name__ == "__main__":
    app.run(main)
