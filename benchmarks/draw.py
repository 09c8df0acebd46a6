"""docs/frontier/NETWORK.png from the records of `benchmarks.frontier`: python -m benchmarks.draw"""

from pathlib import Path

import numpy as np
from absl import app
from matplotlib.figure import Figure

from benchmarks import frontier, minimal_peers, nets

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "frontier"
GOALS = ("targeted", "untargeted")
STYLES = ["-", "--", ":", "-."]
OURS = {"color": "#111111", "linewidth": 2.2, "marker": "o", "markersize": 5, "zorder": 5}
MOST = 1.3  # times the smallest mean: what lies higher is not in the picture


def curves(net: str, goal: str) -> dict[str, list[tuple[int, float]]]:
    """{side: [(evaluations, mean L2)]} where it succeeds on every image."""
    rows, found = frontier.known(net, goal), {}
    for budget in sorted({row["budget"] for row in rows if row["side"] == "ours"}):
        for name, side in frontier.best_at(rows, budget).items():
            is_drawn = name == "ours" or name not in frontier.OURS
            if is_drawn and np.isfinite(side["norms"]).all():
                found.setdefault(name, []).append((budget, side["norms"].mean()))
    return found


def draw(net: str) -> bool:
    """A panel for each goal that was run; False if none was."""
    panels = {goal: found for goal in GOALS if (found := curves(net, goal))}
    if not panels:
        return False
    figure = Figure(figsize=(4.9 * len(panels), 3.7), layout="constrained")
    names = list(minimal_peers.peers(False))
    for axes, (goal, found) in zip(figure.subplots(1, len(panels), squeeze=False)[0],
                                   panels.items(), strict=True):  # fmt: skip
        for name, points in found.items():
            number = 0 if name == "ours" else names.index(name)
            style = OURS if name == "ours" else {
                "color": f"C{number % 10}", "linestyle": STYLES[number % len(STYLES)],
                "marker": ".", "linewidth": 1.2,
            }  # fmt: skip
            axes.plot(*zip(*points, strict=True), label=name, **style)
        least = min(norm for points in found.values() for _, norm in points)
        highest = max(norm for points in found.values() for _, norm in points)
        axes.set_ylim(least - 0.02 * least, min(highest * 1.03, MOST * least))
        axes.set_xscale("log")
        ticks = sorted({budget for points in found.values() for budget, _ in points})
        axes.set_xticks(ticks, map(str, ticks))
        axes.set_xticks([], minor=True)
        axes.set_title(f"{net}, {goal}", fontsize=10)
        axes.set_xlabel("evaluations per image")
        axes.set_ylabel("mean L2 norm")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=7, ncols=2)
    FOLDER.mkdir(exist_ok=True)
    figure.savefig(FOLDER / f"{net}.png", dpi=110)
    return True


def main(argv) -> None:
    """A picture of each network that was run."""
    del argv
    print(*(net for net in (*nets.TRAINED, *nets.PRETRAINED) if draw(net)))


if __name__ == "__main__":
    app.run(main)
