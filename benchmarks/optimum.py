"""How far from the true minimum: ours and peers' perturbations of small ReLU nets.

    pip install pyscipopt && pip install --no-deps adv-lib==0.2.8
    python -m benchmarks.optimum [--small_nets=digits:16,digits:16-16] [--num_images=20]

The nearest image of the target class is a mixed-integer quadratic program: a binary number for each
ReLU that may be on or off within the distance that ours found. SCIP solves it to a gap of 1e-4 of
the squared norm, or says how far its lower bound came in the time. Each image is kept in
`benchmarks/records/optimum` as it is solved: the same command goes on.
"""

import os
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from absl import app, flags

from benchmarks import common, frontier, nets, records
from intriguing import data, models, predict, training
from intriguing.attack import targets
from intriguing.models.layer_graph import LayerGraph, chain
from intriguing.models.layers import Dense, Relu

_NETS = flags.DEFINE_list(
    "small_nets", ["digits:16", "digits:50", "digits:16-16", "mnist:16", "mnist:16-16"],
    "data set:units of each hidden layer",
)  # fmt: skip
_NUM = flags.DEFINE_integer("num_images", 20, "test images that the net has right")
_SECONDS = flags.DEFINE_float("seconds", 300, "for one image, at most")
_WORKDIR = flags.DEFINE_string("workdir", "runs/benchmarks/optimum", "where nets and answers stay")
GAP = 1e-4  # of the squared norm
BUDGETS = (100, 1000)
PEERS = ("DDN", "FMN", "ALMA", "PDGD")
SIDES = [f"{side}, {budget}" for side in ("ours", *PEERS) for budget in BUDGETS]


class Optimum(NamedTuple):
    """`norm` of the best point known, `bound` below which there is none, both L2; `seconds`."""

    norm: float
    bound: float
    seconds: float


def train(name: str, folder: Path):
    """(model, params, test set) of a small net."""
    dataset, _, sizes = name.partition(":")
    nodes = []
    for i, size in enumerate(map(int, sizes.split("-")), start=1):
        chain(nodes, (f"fc{i}", Dense(size)), (f"fc{i}_relu", Relu()))
    chain(nodes, ("top", Dense(10)))
    model = LayerGraph(tuple(nodes))
    where = None if dataset == "digits" else os.environ.get("INTRIGUING_DATA")
    train_set, test_set = (data.load(dataset, part, data_dir=where) for part in ("train", "test"))
    state = training.fit(
        model, train_set, jax.random.key(0), num_epochs=40 if where is None else 20,
        batch_size=100, learning_rate=3e-3, checkpoint_dir=folder / "checkpoints",
        name=f"training {name}",
    )  # fmt: skip
    return model, jax.device_get(state.params), test_set


def solve(layers, image, target: int, radius: float, seconds: float) -> Optimum:
    """The nearest image of the class `target`; an attack has found one at the distance `radius`."""
    from pyscipopt import Model, quicksum

    start, scip = time.perf_counter(), Model()
    radius = 1.01 * radius  # so that what was found is inside, and nothing fits only by rounding
    scip.hideOutput()
    scip.setParam("limits/time", seconds)
    scip.setParam("limits/gap", GAP)
    scip.setParam("numerics/feastol", 1e-7)
    pixels = values = [
        scip.addVar(lb=max(0.0, p - radius), ub=min(1.0, p + radius)) for p in map(float, image)
    ]
    lower = np.maximum(0.0, image - radius)
    upper = np.minimum(1.0, image + radius)
    for number, (kernel, bias) in enumerate(layers[:-1]):
        low = np.maximum(kernel, 0).T @ lower + np.minimum(kernel, 0).T @ upper + bias
        high = np.maximum(kernel, 0).T @ upper + np.minimum(kernel, 0).T @ lower + bias
        if number == 0:  # within a ball, too: |w . r| <= |w| |r|
            middle, reach = image @ kernel + bias, radius * np.linalg.norm(kernel, axis=0)
            low, high = np.maximum(low, middle - reach), np.minimum(high, middle + reach)
        values = [
            _relu(scip, quicksum(float(w) * v for w, v in zip(column, values, strict=True)) + b,
                  float(least), float(most))
            for column, b, least, most in zip(kernel.T, map(float, bias), low, high, strict=True)
        ]  # fmt: skip
        lower, upper = np.maximum(low, 0), np.maximum(high, 0)
    kernel, bias = layers[-1]
    for other in range(kernel.shape[1]):
        if other != target:
            row, gap = kernel[:, target] - kernel[:, other], bias[target] - bias[other]
            margin = quicksum(float(w) * v for w, v in zip(row, values, strict=True)) + float(gap)
            scip.addCons(margin >= 0)
    squared = scip.addVar(lb=0.0, ub=radius**2)
    moved = quicksum((v - float(p)) * (v - float(p)) for v, p in zip(pixels, image, strict=True))
    scip.addCons(moved <= squared)
    scip.setObjective(squared, "minimize")
    scip.optimize()
    taken = time.perf_counter() - start
    if scip.getStatus() == "infeasible":
        raise RuntimeError("the program excludes an image that was found: it is not the network's")
    bound = float(np.sqrt(max(scip.getDualbound(), 0.0)))
    if not scip.getNSols():
        return Optimum(np.inf, bound, taken)
    point = np.array([scip.getVal(pixel) for pixel in pixels])
    _check(layers, point, target)
    best = float(np.linalg.norm(point - image))
    return Optimum(best, min(bound, best), taken)


def _check(layers, point, target: int) -> None:
    """Raises AssertionError if the network calls the point another class by more than rounding."""
    for kernel, bias in layers[:-1]:
        point = np.maximum(point @ kernel + bias, 0)
    logits = point @ layers[-1][0] + layers[-1][1]
    assert logits[target] >= logits.max() - 1e-4


def _relu(scip, value, low: float, high: float):
    """max(value, 0) of a value between two bounds."""
    if high <= 0:
        return scip.addVar(lb=0.0, ub=0.0)
    found = scip.addVar(lb=max(low, 0.0), ub=high)
    if low >= 0:
        scip.addCons(found == value)
        return found
    is_on = scip.addVar(vtype="B")
    scip.addCons(found >= value)
    scip.addCons(found <= value - low * (1 - is_on))
    scip.addCons(found <= high * is_on)
    return found


def attack_all(problem: nets.Problem) -> dict[str, dict[int, np.ndarray]]:
    """{side: {evaluations: norms}}; of each peer the run that did best by then."""
    sides, rows = frontier.Sides(problem, "targeted"), []
    for task in frontier.tasks("targeted", True, list(BUDGETS), list(PEERS)):
        side, tuning, budget = task
        rows.append(sides.run(side, True, tuning, budget))
    found: dict[str, dict[int, np.ndarray]] = {side: {} for side in ("ours", *PEERS)}
    for budget in BUDGETS:
        for side, row in frontier.best_at(rows, budget).items():
            found[side][budget] = row["norms"]
    return found


def measure(name: str, folder: Path) -> list[dict]:
    """A row per image: its optimum, and the norms of all sides."""
    model, params, test_set = train(name, folder)
    logits_fn = models.logits_fn(model, {"params": jax.device_put(params)})
    layers = [
        tuple(np.asarray(params[node.name][part], float) for part in ("kernel", "bias"))
        for node in model.nodes
        if node.name in params
    ]
    right = predict.predict(logits_fn, test_set.images) == test_set.labels
    print(f"{name}: {right.mean():.1%} of the test images right", flush=True)
    rows = np.flatnonzero(right)[: _NUM.value]
    images, labels = test_set.images[rows], test_set.labels[rows]
    wanted = np.asarray(targets.random_targets(jax.random.key(1), labels, rows, 10))
    norms = attack_all(nets.Problem(logits_fn, model, params, images, labels, wanted))
    path, found = records.FOLDER / "optimum" / f"{name.replace(':', '-')}.jsonl", []
    known = {row["image"]: row for row in records.read(path)}
    for i, row in enumerate(map(int, rows)):
        sides = {
            f"{side}, {budget}": float(values[i])
            for side, each in norms.items()
            for budget, values in each.items()
        }
        radius = min(sides.values())
        answer = known.get(row)
        if answer is None or answer["radius"] < radius * (1 - 1e-6):
            optimum = solve(layers, images[i].ravel().astype(float), int(wanted[i]),
                            radius, _SECONDS.value)  # fmt: skip
            answer = {"image": row, "radius": radius, **optimum._asdict()}
            records.append(path, answer)
        print(name, row, answer, flush=True)
        found.append({**answer, **sides})
    return found


def main(argv) -> None:
    """One table: the ratio of each side to the optimum, where that was proved."""
    del argv
    lines = []
    for name in _NETS.value:
        folder = Path(_WORKDIR.value) / name.replace(":", "-")
        folder.mkdir(parents=True, exist_ok=True)
        found = measure(name, folder)
        proved = [row for row in found if row["bound"] >= row["norm"] * (1 - GAP)]
        seconds = f"{np.median([row['seconds'] for row in found]):.1f}"
        for side in SIDES:
            ratios = np.array([row[side] / row["norm"] for row in proved])
            if len(ratios):
                numbers = [np.median(ratios), ratios.mean(), ratios.max()]
                within = f"{np.mean(ratios < 1.0005):.0%}"
                proof = f"{len(proved)} of {len(found)}"
                lines.append([name, proof, seconds, side, *(f"{n:.4f}" for n in numbers), within])
    columns = ["net", "proved", "seconds, median", "attack", "median ratio", "mean", "largest",
               "within 0.05%"]  # fmt: skip
    common.print_table("Norm over the exact minimum", columns, lines)


if __name__ == "__main__":
    app.run(main)
