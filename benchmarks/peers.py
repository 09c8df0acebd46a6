"""Our attack beside the targeted minimal-L2 attacks of foolbox, adv-lib and ART, on a CPU.

    pip install -r benchmarks/requirements.txt   # its first lines say in which order
    python benchmarks/peers.py --data_dir=FOLDER_WITH_MNIST

All sides attack one network, FC100-100-10, on the same MNIST training images, with the same random
targets, in one process, on the same cores; peers get all images as one batch. We judge every
result: it must lie in the box (to 1e-6) and our forward pass, in JAX, must answer the target; the
distance is taken from it. A mean is over the images where a side succeeded; the mean in the column
"common" is over the images where all sides succeeded, so that nobody gains by failing on the hard
ones. A side that fails on over a tenth of the images is left out of that set, and has no such mean.

Seconds are those of one run after a warm-up. For us that is a second, equal call, and what the
first one took longer is the compilation; peers warm up on four images. Forward and backward passes
are counted, per image. Writes peers.json, peers.md and peers.png into the workdir.
"""

import functools
import importlib.metadata
import importlib.util
import io
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from absl import app, flags
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from intriguing import attack, data, models, sharding, training
from intriguing.atomic import write_atomic
from intriguing.attack.targets import choose_targets
from intriguing.predict import predict

# Options of `attack.minimal_perturbation`, from the cheapest to the dearest; of several the smaller
# perturbation is kept.
FINE = {"num_penalties": 12, "maxiter": 200, "rtol": 1e-6, "refine_steps": 8}
OURS = [
    ("2 x 10", {"num_penalties": 2, "maxiter": 10, "rtol": 1e-2, "refine_steps": 1}),
    ("3 x 15", {"num_penalties": 3, "maxiter": 15, "refine_steps": 2, "num_margins": 4}),
    ("4 x 30", {"maxiter": 30, "rtol": 1e-3, "refine_steps": 2, "num_margins": 4}),
    ("4 x 60, 4 margins", {"refine_steps": 2, "num_margins": 4}),
    ("4 x 60 (default)", {}),
    ("4 x 60, both norms", {}, {"squared_norm": True}),
    ("12 x 200, both norms", FINE, {**FINE, "squared_norm": True}),
]
HIDDEN_SIZES = (100, 100)
TRAIN = {
    "num_epochs": 60,
    "batch_size": 100,
    "learning_rate": 3e-3,
    "weight_decay": {"fc1": 1e-5, "fc2": 1e-5, "fc3": 1e-6},
}
BOX_TOLERANCE = 1e-6
NEAR_MARGIN = 1e-4  # a failure whose target logit lacks less than this is called a near miss
MIN_SUCCESS = 0.9  # a side below it is left out of the common images
MAX_EXCESS = 0.05  # the plot ends this far above the best mean; what lies higher is at its edge
COLORS = {"ours": "#c0392b", "foolbox": "#1f6f8b", "adv-lib": "#5b7f2b", "ART": "#7d5a9e"}
INSTALL = "pip install -r benchmarks/requirements.txt"

_NUM_IMAGES = flags.DEFINE_integer("num_images", 1000, "MNIST training images to attack", 1)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "folder of MNIST (default: INTRIGUING_DATA)")
_WORKDIR = flags.DEFINE_string("workdir", "runs/benchmarks", "for the network and the results")
_ONLY = flags.DEFINE_list("only", [], "run the peers whose name has one of these, as foolbox,alma")
_SEED = flags.DEFINE_integer("seed", 0, "of the network, the targets, and what peers draw")
_NUM_THREADS = flags.DEFINE_integer("num_threads", 2, "cores that every side may use", 1)
_SLOW = flags.DEFINE_bool("slow", False, "also the budgets that take over a quarter of an hour")


class Task(NamedTuple):
    """What all sides are given: a network, images (num, 28, 28, 1), and their targets (num,)."""

    logits_fn: jax.tree_util.Partial
    params: dict
    images: np.ndarray
    targets: np.ndarray
    starts: np.ndarray


class Outcome(NamedTuple):
    """What one side did: arrays have one entry per image, passes are means per image."""

    side: str
    budget: str
    seconds: float
    compile_seconds: float
    num_forward: float
    num_backward: float
    success: np.ndarray
    near_miss: np.ndarray
    l2_norm: np.ndarray


def make_task(num_images: int, data_dir: str | None, workdir: Path, seed: int) -> Task:
    """Trains the network, or restores it, and draws the targets."""
    dataset = data.load("mnist", "train", data_dir=data_dir)
    model = models.fully_connected(HIDDEN_SIZES, len(dataset.class_names))
    key = jax.random.key(seed)
    checkpoint_dir = workdir / "checkpoints" / f"seed{seed}"
    state = training.fit(model, dataset, key, checkpoint_dir=checkpoint_dir,
                         name="training FC100-100-10", **TRAIN)  # fmt: skip
    logits_fn = models.logits_fn(model, {"params": state.params})
    predictions = predict(logits_fn, dataset.images)
    print(f"training error {(predictions != dataset.labels).mean():.4%}", flush=True)
    images, labels = dataset.images[:num_images], dataset.labels[:num_images]
    targets = np.asarray(choose_targets("random", np.asarray(logits_fn(images)), labels, key=key))
    starts = nearest_of_class(images, targets, dataset.images, predictions)
    return Task(logits_fn, state.params, images, targets, starts)


def nearest_of_class(images, targets, candidates, predictions) -> np.ndarray:
    """For each image the nearest candidate that the network calls its target."""
    flat, nearest = candidates.reshape(len(candidates), -1), np.empty_like(images)
    for target in np.unique(targets):
        rows = np.flatnonzero(targets == target)
        among = np.flatnonzero(predictions == target)
        x, z = images[rows].reshape(len(rows), -1), flat[among]
        squared = (z**2).sum(axis=1) - 2 * x @ z.T  # + |x|^2, the same for all candidates
        nearest[rows] = candidates[among[squared.argmin(axis=1)]]
    return nearest


def judge(task: Task, adv_images) -> dict[str, np.ndarray]:
    """Success, near misses and L2 norms by our own forward pass, whatever the side itself says."""
    adv_images = np.asarray(adv_images, np.float32).reshape(task.images.shape)
    clipped = np.clip(np.nan_to_num(adv_images), 0, 1)
    off = np.abs(adv_images - clipped).reshape(len(clipped), -1).max(axis=1)
    inside = off <= BOX_TOLERANCE  # False for NaN too
    logits = np.asarray(task.logits_fn(clipped))
    rows = np.arange(len(logits))
    margin = logits[rows, task.targets] - logits.max(axis=1)
    success = inside & (logits.argmax(axis=1) == task.targets)
    perturbation = (clipped.astype(np.float64) - task.images).reshape(len(clipped), -1)
    return {
        "success": success,
        "near_miss": ~success & inside & (margin > -NEAR_MARGIN),
        "l2_norm": np.linalg.norm(perturbation, axis=1),
    }


def run_ours(task: Task, budget: str, *all_options: dict) -> Outcome:
    """Attacks twice, on every core that may be used: the first call compiles."""
    seconds, mesh = [], sharding.make_mesh()
    for _ in range(2):
        start = time.perf_counter()
        result = functools.reduce(attack.smaller, [
            attack.minimal_perturbation(
                task.logits_fn, task.images, task.targets, mesh=mesh, **options
            )
            for options in all_options
        ])  # fmt: skip
        seconds.append(time.perf_counter() - start)
    num_evals = float(result.num_evals.mean())
    return Outcome("ours", budget, seconds[1], max(0.0, seconds[0] - seconds[1]),
                   num_evals, num_evals, **judge(task, result.adv_images))  # fmt: skip


def run_peers(task: Task, num_threads: int, only: list[str], slow: bool, seed: int):
    """Yields one outcome per peer and budget; says which are skipped, and why."""
    if importlib.util.find_spec("torch") is None:
        print(f"all peers skipped: torch is not installed ({INSTALL})", flush=True)
        return
    import peer_attacks

    targets = task.targets.astype(np.int64)
    problem = peer_attacks.make_problem(task.params, task.images, targets, task.starts, num_threads)
    logits = problem.model(problem.images).numpy()
    np.testing.assert_allclose(
        logits, task.logits_fn(task.images), rtol=0, atol=1e-4, err_msg="the two networks disagree"
    )
    for peer in peer_attacks.PEERS:
        side = f"{peer.origin} {peer.name}"
        for budget in peer.budgets:
            name = f"{side} {budget.name}"
            if only and not any(part.lower() in name.lower() for part in only):
                continue
            if budget.slow and not slow:
                print(f"{name} skipped: it is slow (--slow runs it)", flush=True)
                continue
            try:
                run = peer_attacks.run(problem, peer, budget, seed)
            except ImportError as error:
                print(f"{name} skipped: {error} ({INSTALL})", flush=True)
                continue
            verdict = judge(task, run.adv_images)
            yield Outcome(side, budget.name, run.seconds, 0.0, *run.passes, **verdict)


def summarize(outcomes: list[Outcome]) -> list[dict]:
    """One row per outcome; "mean_l2_common" is None for a side that failed too often."""
    sides = [outcome for outcome in outcomes if outcome.success.mean() >= MIN_SUCCESS]
    common = np.all([outcome.success for outcome in sides], axis=0) if sides else np.zeros(0, bool)
    rows = []
    for outcome in outcomes:
        success, l2_norm = outcome.success, outcome.l2_norm
        compared = success.mean() >= MIN_SUCCESS and common.any()
        rows.append({
            "side": outcome.side,
            "budget": outcome.budget,
            "seconds": outcome.seconds,
            "compile_seconds": outcome.compile_seconds,
            "images_per_second": len(success) / outcome.seconds,
            "num_forward": outcome.num_forward,
            "num_backward": outcome.num_backward,
            "success_rate": float(success.mean()),
            "num_failures": int((~success).sum()),
            "num_near_misses": int(outcome.near_miss.sum()),
            "mean_l2": float(l2_norm[success].mean()) if success.any() else None,
            "mean_l2_common": float(l2_norm[common].mean()) if compared else None,
            "num_common": int(common.sum()),
        })  # fmt: skip
    return rows


COLUMNS = {
    "attack": lambda row: f"{row['side']}, {row['budget']}",
    "success": lambda row: f"{row['success_rate']:.1%}",
    "failures": lambda row: f"{row['num_failures']}",
    "near misses": lambda row: f"{row['num_near_misses']}",
    "mean L2": lambda row: _number(row["mean_l2"]),
    "common": lambda row: _number(row["mean_l2_common"]),
    "seconds": lambda row: f"{row['seconds']:.2f}",
    "compilation": lambda row: f"{row['compile_seconds']:.1f}" if row["side"] == "ours" else "",
    "images/s": lambda row: f"{row['images_per_second']:.3g}",
    "forward": lambda row: f"{row['num_forward']:.0f}",
    "backward": lambda row: f"{row['num_backward']:.0f}",
}


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def to_markdown(rows: list[dict], about: dict) -> str:
    """The table, with what it was measured on below it."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" + "|---:" * (len(COLUMNS) - 1) + "|"]
    lines += ["| " + " | ".join(show(row) for show in COLUMNS.values()) + " |" for row in rows]
    note = (
        f"{about['num_images']} images, {rows[0]['num_common']} of them common to all sides that "
        f"succeed on {MIN_SUCCESS:.0%}. Near misses: failures that lack less than {NEAR_MARGIN:g} "
        "in the logit. Forward, backward: passes per image. "
    )
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return "\n".join([*lines, "", f"{note}{about['num_threads']} cores. {versions}.", ""])


def draw(rows: list[dict], path: Path) -> None:
    """Mean L2 over the common images against seconds; what lies far above is drawn at the edge."""
    rows = [row for row in rows if row["mean_l2_common"] is not None]
    if not rows:
        return
    heights = np.array([row["mean_l2_common"] for row in rows])
    top = heights.min() * (1 + MAX_EXCESS)
    figure = Figure(figsize=(11, 7.5), dpi=120)
    axes = figure.subplots()
    for row, height in zip(rows, heights, strict=True):
        marker = "^" if height > top else "o"
        color = COLORS[row["side"].split()[0]]
        axes.plot(row["seconds"], min(height, top), color=color, marker=marker, markersize=7)
    ours = [(row["seconds"], min(row["mean_l2_common"], top)) for row in rows
            if row["side"] == "ours"]  # fmt: skip
    axes.plot(*np.reshape(ours, (-1, 2)).T, color=COLORS["ours"], linewidth=2)
    axes.set_xscale("log")
    axes.margins(0.12)
    low = heights.min()
    axes.set_ylim(low - 0.08 * (min(top, heights.max()) - low + 1e-3), None)
    axes.set_xlabel(f"seconds for all images, without compilation ({rows[0]['num_common']} common)")
    axes.set_ylabel("mean L2 norm over the common images (lower is better)")
    axes.grid(alpha=0.25, which="both")
    axes.spines[["top", "right"]].set_visible(False)
    label_points(figure, axes, rows, np.minimum(heights, top), heights > top)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    write_atomic(path, buffer.getvalue())


def label_points(figure, axes, rows, heights, above) -> None:
    """Writes a name beside each point, at the nearest place that covers no name and no point."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.tight_layout()
    spots = axes.transData.transform(
        [(row["seconds"], y) for row, y in zip(rows, heights, strict=True)]
    )
    taken = [Bbox.from_bounds(x - 7, y - 7, 14, 14) for x, y in spots]
    frame = axes.get_window_extent(renderer)
    places = [(radius * np.cos(angle), radius * np.sin(angle))
              for radius in range(10, 400, 12)
              for angle in np.linspace(0, 2 * np.pi, 16, endpoint=False)]  # fmt: skip
    for row, spot, is_above in zip(rows, spots, above, strict=True):
        text = f"{row['side']}, {row['budget']}"
        text += f": {row['mean_l2_common']:.3f}" if is_above else ""
        label = axes.annotate(
            text, axes.transData.inverted().transform(spot), (0, 0), textcoords="offset pixels",
            size=8, va="center", color=COLORS[row["side"].split()[0]],
            bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.5},
            arrowprops={"arrowstyle": "-", "color": "0.6", "linewidth": 0.6},
        )  # fmt: skip
        for dx, dy in places:
            label.set_position((dx, dy))
            label.set_horizontalalignment("right" if dx < -1 else "left" if dx > 1 else "center")
            label.update_positions(renderer)
            box = Text.get_window_extent(label, renderer)  # of the text, without the arrow
            inside = (
                frame.x0 <= box.x0
                and box.x1 <= frame.x1
                and frame.y0 <= box.y0 <= box.y1 <= frame.y1
            )
            if inside and not any(box.overlaps(other) for other in taken):
                break
        taken.append(box)


def describe(num_threads: int, num_images: int, seed: int) -> dict:
    """What the numbers were made with."""
    versions = {"python": platform.python_version()}
    packages = ("jax", "numpy", "torch", "foolbox", "adv-lib", "adversarial-robustness-toolbox")
    for package in (*packages, "numba"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"num_images": num_images, "num_threads": num_threads, "seed": seed,
            "load": os.getloadavg()[0], "versions": versions}  # fmt: skip


def limit_cores(num_threads: int) -> None:
    """Keeps this process, and so every side, on `num_threads` cores; before jax or torch start."""
    jax.config.update("jax_platforms", "cpu")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:num_threads])
    sharding.use_cores(num_threads)


def write(rows: list[dict], about: dict, workdir: Path) -> None:
    """The three files of results."""
    write_atomic(workdir / "peers.md", to_markdown(rows, about))
    write_atomic(workdir / "peers.json", json.dumps({**about, "rows": rows}, indent=2))
    draw(rows, workdir / "peers.png")


def main(_) -> None:
    limit_cores(_NUM_THREADS.value)
    if (load := os.getloadavg()[0]) > 0.5:
        print(f"load average {load:.1f}: others use this machine, seconds will mislead", flush=True)
    about = describe(_NUM_THREADS.value, _NUM_IMAGES.value, _SEED.value)
    workdir = Path(_WORKDIR.value)
    task = make_task(_NUM_IMAGES.value, _DATA_DIR.value, workdir, _SEED.value)
    outcomes = []

    def add(outcome: Outcome) -> None:
        outcomes.append(outcome)
        found = f"{outcome.success.mean():.1%} in {outcome.seconds:.2f} s"
        print(f"{outcome.side} {outcome.budget}: {found}", flush=True)
        write(summarize(outcomes), about, workdir)  # now: some budgets take minutes

    for budget, *options in OURS:
        add(run_ours(task, budget, *options))
    for outcome in run_peers(task, _NUM_THREADS.value, _ONLY.value, _SLOW.value, _SEED.value):
        add(outcome)
    print(f"\n{to_markdown(summarize(outcomes), about)}")


if __name__ == "__main__":
    app.run(main)
