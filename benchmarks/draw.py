"""docs/frontier.png from the tables under "The frontier" in README.md: python -m benchmarks.draw"""

import re
from pathlib import Path

from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parent
NETS = ("ResNet-20", "SqueezeNet", "a network trained to be provably robust")
ROW = re.compile(r"\| (\w+) \| ([^|]+) \| (\d+) \| 100% \| ([\d.]+) \|")
COLORS = {"ours": "#2f5d8a", "DDN": "#b5651d"}


def tables(text: str) -> list[dict[str, dict[str, list[tuple[int, float]]]]]:
    """Of each network: goal -> attack -> (evaluations, mean L2), of those where all succeeded."""
    text = text.partition("### The frontier")[2].partition("\n### ")[0]
    found = []
    for part in re.split(r"\n\n(?=\| goal )", text)[1:]:
        goals = {}
        for goal, attack, num, norm in ROW.findall(part):
            name = attack if attack == "ours" else attack.partition(",")[0]
            if name in COLORS and (name == attack or name == "DDN"):
                goals.setdefault(goal, {}).setdefault(name, []).append((int(num), float(norm)))
        found.append(goals)
    return found


def main() -> None:
    """One panel per network and goal."""
    found = tables((ROOT / "README.md").read_text())
    figure = Figure(figsize=(9.5, 5.2), layout="constrained")
    panels = figure.subplots(2, len(found))
    for column, (net, goals) in enumerate(zip(NETS, found, strict=True)):
        for panel, (goal, attacks) in zip(panels[:, column], goals.items(), strict=True):
            for name, points in attacks.items():
                panel.plot(*zip(*points, strict=True), "o-", label=name, color=COLORS[name])
            panel.set_xscale("log")
            first, last = panel.get_xlim()
            ticks = [tick for tick in (20, 50, 100, 300, 1000) if first < tick < last]
            panel.set_xticks(ticks, map(str, ticks))
            panel.set_xticks([], minor=True)
            panel.set_title(f"{net}, {goal}" if len(net) < 20 else f"provably robust, {goal}",
                            fontsize=10)  # fmt: skip
            panel.set_xlabel("evaluations per image")
            panel.spines[["top", "right"]].set_visible(False)
        panels[0, column].legend(frameon=False)
    for panel in panels[:, 0]:
        panel.set_ylabel("mean L2 norm")
    figure.savefig(ROOT.parent / "docs" / "frontier.png", dpi=110)


if __name__ == "__main__":
    main()
