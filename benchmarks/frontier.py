"""The frontier: the smallest perturbations at each number of evaluations, ours beside all peers'.

    pip install --no-deps adv-lib==0.2.8 foolbox==3.3.4   # and torch, of requirements-dev.txt
    INTRIGUING_DATA=... python -m benchmarks.frontier [--nets=resnet20,...] [--peers=DDN,...]

Peers attack the network in PyTorch, ours the same one in JAX: images, targets and weights are
equal. An evaluation is a forward and a backward pass of one image. A peer is credited with the
smallest success that it ever tried within its evaluations (`benchmarks.tracked`), in the better of
two tunings and at whatever number of steps does best by then; ours with what it returns. What one
framework calls adversarial the other one is asked about, too.

Each finished part is kept in `benchmarks/records/frontier`: the same command goes on, and with
`--only_tables` says what there is. `python -m benchmarks.draw` makes the pictures.
"""

import functools
import os
import time

import numpy as np
import torch
from absl import app, flags

from benchmarks import common, minimal_peers, nets, records, torch_nets, tracked
from intriguing import attack, identity, predict

OURS = {  # the default, and what it was measured against
    "ours": {},
    "ours, search on c": {"search": "penalty"},
    "ours, refined after exploring": {"refine_steps": 2},
}
_NETS = flags.DEFINE_list("nets", [*nets.TRAINED, *nets.PRETRAINED], "which networks")
_GOALS = flags.DEFINE_list("goals", ["targeted", "untargeted"], "of the attacks")
_PEERS = flags.DEFINE_list("peers", [*OURS, *minimal_peers.peers(False)], "beside ours")
_BUDGETS = flags.DEFINE_list("budgets", ["50", "100", "300", "1000"], "numbers of evaluations")
_NUM = flags.DEFINE_integer("num_images", 0, "0: 100 of the small nets, 32 of ResNets, 8 of large")
_THREADS = flags.DEFINE_integer("num_threads", 2, "of either side", 1)
_ONLY_TABLES = flags.DEFINE_bool("only_tables", False, "run nothing")
MARKS = (20, 30, 50, 100, 200, 300, 500, 1000, 2000)
FAR = (*nets.TRAINED, "robust_mnist", "robust_cifar")
SEED = 0
RESAMPLES = 2000
# The numerics (`identity`) since which ours' numbers of a goal are what they are.
SINCE = {"targeted": 9, "untargeted": 10}


def num_images(net: str) -> int:
    """How many images of a network are attacked."""
    if _NUM.value:
        return _NUM.value
    return 8 if net in nets.LARGE else 32 if net.startswith("resnet") else 100


class Sides:
    """One network and goal, and what either side does with it."""

    def __init__(self, problem: nets.Problem, goal: str):
        self.problem, self.goal = problem, goal
        self.wanted = self.problem.targets if goal == "targeted" else self.problem.labels
        self.module = torch_nets.module(self.problem.model, self.problem.params)
        self.images = torch.from_numpy(self.problem.images.transpose(0, 3, 1, 2).copy())

    def run(self, side: str, far: bool, tuning: str, budget: int) -> dict:
        """Runs ours or a peer; a row."""
        is_ours = side in OURS
        found = self.ours(side, budget) if is_ours else self.peer(side, far, tuning, budget)
        return {"side": side, "tuning": tuning, "budget": budget, **found}

    def peer(self, name: str, far: bool, tuning: str, budget: int) -> dict:
        """Runs a peer; {"marks", "norms" of each mark, "seconds"}."""
        peer = minimal_peers.peers(far)[name]
        options = {**peer.tunings[tuning], **(peer.length(budget) if peer.length else {})}
        marks = [budget] if peer.length else [mark for mark in MARKS if mark <= budget]
        wanted, targeted = torch.from_numpy(self.wanted).long(), self.goal == "targeted"
        model = tracked.Tracked(self.module, self.images, wanted, targeted, marks)
        start = time.perf_counter()
        minimal_peers.run(peer, model, self.images, wanted, targeted, SEED, **options)
        return {
            "seconds": round(time.perf_counter() - start, 2), "marks": marks,
            "norms": [records.short(norms) for norms in model.norms],
        }  # fmt: skip

    def ours(self, side: str, budget: int) -> dict:
        """Runs ours; the seconds are those of a second run, which compiles nothing."""
        images = self.problem.images
        for _ in range(2):
            start = time.perf_counter()
            found = attack.minimal_perturbation(
                self.problem.logits_fn, images, self.wanted, goal=self.goal, budget=budget,
                **OURS[side],
            )  # fmt: skip
            seconds = time.perf_counter() - start
            if seconds > 60:  # what compiling takes is not seen beside that
                break
        assert found.num_evals.max() <= budget
        with torch.no_grad():
            theirs = self.module(torch.from_numpy(found.adv_images.transpose(0, 3, 1, 2).copy()))
        answers = [predict.predict(self.problem.logits_fn, found.adv_images), theirs.argmax(1)]
        reached = [np.asarray(each) == self.wanted for each in answers]
        reached = reached if self.goal == "targeted" else [~each for each in reached]
        assert ((found.adv_images >= 0) & (found.adv_images <= 1)).all()
        norms = np.linalg.norm((found.adv_images - images).reshape(len(images), -1), axis=1)
        return {
            "seconds": round(seconds, 2), "marks": [budget],
            "norms": [records.short(np.where(reached[0], norms, np.inf))],
            "confirmed": round(float(reached[1][reached[0]].mean()), 4),
        }  # fmt: skip


def tasks(goal: str, far: bool, budgets: list[int], names: list[str]):
    """(side, tuning, budget) of all runs, ours first."""
    for side in OURS:
        for budget in budgets if side == "ours" else (100,):
            if side == "ours" or side in names:
                yield side, "", budget
    for name, peer in minimal_peers.peers(far).items():
        if name not in names or (goal == "targeted" and not peer.targets):
            continue
        for budget in budgets if peer.length else budgets[-1:]:
            for tuning in peer.tunings:
                yield name, tuning, budget


def path_of(net: str, goal: str):
    """Where the rows of a network and goal are kept."""
    return records.FOLDER / "frontier" / f"{net}-{goal}.jsonl"


@functools.cache
def weights_of(net: str) -> str:
    """Hash of a network that is trained here: another machine may train another one."""
    if net not in nets.TRAINED:
        return ""
    problem = nets.problem(net, num_images(net))
    return identity.of_arrays(problem.params, problem.images, problem.targets)


def known(net: str, goal: str) -> list[dict]:
    """Rows that stand: of these images, this network and, of ours, of the present attack."""
    return [
        row for row in records.read(path_of(net, goal))
        if row["num"] == num_images(net) and row.get("weights", "") == weights_of(net)
        and (row["side"] not in OURS or row["numerics"] >= SINCE[goal])
    ]  # fmt: skip


def run(net: str, goal: str) -> None:
    """Does what is not yet done for a network and goal."""
    far = net in FAR
    done = {(row["side"], row["tuning"], row["budget"]) for row in known(net, goal)}
    budgets = sorted(map(int, _BUDGETS.value))
    missing = [task for task in tasks(goal, far, budgets, _PEERS.value) if task not in done]
    if not missing:
        return
    sides = Sides(nets.problem(net, num_images(net)), goal)
    for side, tuning, budget in missing:
        row = sides.run(side, far, tuning, budget) | {"num": num_images(net)}
        row |= {"load": round(os.getloadavg()[0], 1), "date": time.strftime("%Y-%m-%d")}
        row |= {"numerics": identity.NUMERICS} if side in OURS else {}
        row |= {"weights": weights_of(net)} if net in nets.TRAINED else {}
        records.append(path_of(net, goal), row)
        norms = np.array(records.full(row["norms"][-1]))
        reached = np.isfinite(norms)
        print(net, goal, side, tuning, budget, f"{reached.mean():.0%}",
              f"{norms[reached].mean():.4f}", f"{row['seconds']:.0f} s", flush=True)  # fmt: skip


def best_at(rows: list[dict], budget: int) -> dict[str, dict]:
    """For each side the run with most successes, then the smallest mean, by so many evaluations.

    {side: {"norms", "tuning", "budget", "seconds"}}; the seconds of a longer run are scaled down.
    """
    found: dict[str, dict] = {}
    for row in rows:
        marks = [i for i, mark in enumerate(row["marks"]) if mark <= budget]
        if not marks:
            continue
        norms = np.array(records.full(row["norms"][marks[-1]]))
        num_failed, mean = int(np.isinf(norms).sum()), norms[np.isfinite(norms)].mean()
        share = min(1.0, budget / row["budget"])
        new = {**row, "norms": norms, "order": (num_failed, mean),
               "seconds": share * row["seconds"]}  # fmt: skip
        if row["side"] not in found or new["order"] < found[row["side"]]["order"]:
            found[row["side"]] = new
    return found


def interval(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95% of the medians of resampled images lie in it."""
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, len(values), (RESAMPLES, len(values)))
    return tuple(np.quantile(np.median(values[picks], axis=1), [0.025, 0.975]))


def compare(ours: np.ndarray, theirs: np.ndarray) -> list[str]:
    """Mean of both where both succeed, median ratio with its interval, share that is smaller."""
    both = np.isfinite(ours) & np.isfinite(theirs)
    if not both.any():
        return ["-"] * 4
    ratios = ours[both] / theirs[both]
    low, high = interval(ratios)
    return [
        f"{ours[both].mean():.4f}", f"{theirs[both].mean():.4f}",
        f"{np.median(ratios):.3f} ({low:.3f} to {high:.3f})", f"{(ratios < 1).mean():.0%}",
    ]  # fmt: skip


def table(net: str, goal: str) -> list[list]:
    """A row for each budget and peer, the best one first."""
    rows, lines = known(net, goal), []
    for budget in sorted({row["budget"] for row in rows if row["side"] == "ours"}):
        sides = best_at(rows, budget)
        ours = sides.pop("ours")
        for name, theirs in sorted(sides.items(), key=lambda item: item[1]["order"]):
            success = [f"{np.isfinite(side['norms']).mean():.0%}" for side in (ours, theirs)]
            lines.append([
                budget, name, *success, *compare(ours["norms"], theirs["norms"]),
                f"{ours['seconds']:.1f}", f"{theirs['seconds']:.1f}",
            ])  # fmt: skip
    return lines


def first_of_each(lines: list[list]) -> list[list]:
    """Of each budget the best peer's row."""
    lines = [line for line in lines if line[1] not in OURS]
    return [line for i, line in enumerate(lines) if i == 0 or line[0] != lines[i - 1][0]]


COLUMNS = [
    "evaluations", "peer", "success, ours", "theirs", "mean L2, ours", "theirs",
    "ours / theirs, median (95%)", "ours smaller", "seconds, ours", "theirs",
]  # fmt: skip


def main(argv) -> None:
    """Runs what is missing; prints a table for each network and goal, and the best peer of each."""
    del argv
    torch.set_num_threads(_THREADS.value)
    best = []
    for net in _NETS.value:
        for goal in _GOALS.value:
            if not _ONLY_TABLES.value:
                run(net, goal)
            if lines := table(net, goal):
                title = f"{net}, {goal}, {num_images(net)} images"
                common.print_table(title, COLUMNS, lines)
                best += [[net, goal, *line] for line in first_of_each(lines)]
    common.print_table("The best peer of each", ["net", "goal", *COLUMNS], best)


if __name__ == "__main__":
    app.run(main)
