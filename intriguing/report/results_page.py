"""RESULTS.md from the summaries of finished runs: python -m intriguing.report.results_page runs/*

Each run's summary.json becomes results/<run>.json, its figures go to docs/results/<run>/, and the
page is made from those, or without arguments from all that is in results/. Figures of a run on
somebody's photographs (`PRIVATE` data) stay in the run. Numbers are never typed: results/<run>.md,
if there is one, says in words why ours and the paper's differ.
"""

import json
import shutil
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from intriguing import atomic, sealed
from intriguing.errors import InputError
from intriguing.report import tables

ORDER = ("cross_model", "cross_training_set", "unit_analysis", "adversarial_training",
         "targeted_attack", "streamed_units", "quocnet_attack", "spectral_analysis")  # fmt: skip
PRIVATE = ("image_folder", "npz")  # data sets of the user's own
INTRO = """# Results

The tables and figures of the paper, the paper's number beside ours in each cell. Each section names
the command that made it (those on MNIST: `make paper`); the page is made from `results/` by
`python -m intriguing.report.results_page`, and no number in a table is typed by hand. Times are
summed over all runs in a workdir: a run that was interrupted, or whose report was made again,
counts each of them.
"""


def collect(runs: Sequence[Path], root: Path) -> None:
    """Copies summary and figures of finished runs into `root`/results and `root`/docs/results.

    Raises:
      InputError: a folder holds no finished run.
    """
    for run in runs:
        try:
            summary, config = (sealed.read(run / f"{name}.json") for name in ("summary", "config"))
        except FileNotFoundError as error:
            raise InputError(f"{run}: no finished run: run its config first") from error
        private, text = config["data"]["name"] in PRIVATE, json.dumps(summary, indent=1) + "\n"
        atomic.write_atomic(root / "results" / f"{run.name}.json", text)
        folder = root / "docs" / "results" / run.name
        shutil.rmtree(folder, ignore_errors=True)
        for path, _ in [] if private else summary["figures"]:
            atomic.write_atomic(folder / Path(path).name, (run / path).read_bytes())


def page(root: Path, names: Sequence[str] = ()) -> str:
    """The page for these summaries (default: all) in `root`/results, as Markdown."""
    names = names or sorted(path.stem for path in (root / "results").glob("*.json"))
    found = {name: json.loads((root / "results" / f"{name}.json").read_text()) for name in names}
    in_order = sorted(found, key=lambda name: (ORDER.index(found[name]["experiment"]), name))
    summaries = {name: found[name] for name in in_order}
    parts = [INTRO, overview(summaries.values())]
    for name, summary in summaries.items():
        words = root / "results" / f"{name}.md"
        shown = {path.name for path in (root / "docs" / "results" / name).glob("*.png")}
        parts.append(section(name, summary, words.read_text() if words.is_file() else "", shown))
    return "\n".join(parts)


def overview(summaries: Collection[dict]) -> str:
    """One row per run: what it makes, how long it took, how many claims hold."""
    lines = ["| run | time | claims that hold |", "| --- | ---: | ---: |"]
    for summary in summaries:
        seconds = tables.format_cell(sum(summary["seconds"].values()), "seconds")
        held = [claim["holds"] for claim in summary["claims"] if claim["holds"] is not None]
        link = f"[{title_of(summary)}](#{anchor(title_of(summary))})"
        lines.append(f"| {link} | {seconds} | {sum(held)} of {len(held)} |")
    total = sum(sum(summary["seconds"].values()) for summary in summaries)
    lines.append(f"| all | {tables.format_cell(total, 'seconds')} | |")
    return "\n".join(lines) + "\n"


def title_of(summary: dict) -> str:
    """The run's title; that of a small version says so."""
    return summary["title"] + (" (QUICK: a small subset)" if summary["quick"] else "")


def anchor(title: str) -> str:
    """What GitHub makes of a heading."""
    kept = "".join(char for char in title.lower() if char.isalnum() or char in " -")
    return kept.replace(" ", "-")


def section(name: str, summary: dict, words: str, shown: Collection[str]) -> str:
    """Everything about one run; of its figures those that are `shown`, and what the others are."""
    versions = ", ".join(f"{key} {value}" for key, value in summary["versions"].items())
    phases = ", ".join(
        f"{phase} {tables.format_cell(seconds, 'seconds')}"
        for phase, seconds in summary["seconds"].items()
    )
    parts = [f"## {title_of(summary)}\n"]
    if summary["quick"]:
        parts.append("**These are not results: the run was `:quick`, a small subset.**\n")
    parts += [f"```\n{summary['command']}\n```\n", f"{versions}. Time: {phases}.\n"]
    if summary["claims"]:
        parts.append(tables.claims_to_markdown([tables.Claim(**c) for c in summary["claims"]]))
    if words:
        parts.append(words.strip() + "\n")
    parts += [
        tables.to_markdown(tables.Table.from_dict(table)) for table in summary["tables"].values()
    ]
    for path, caption in summary["figures"]:
        file = Path(path).name
        if file in shown:
            parts.append(f"![{caption}](docs/results/{name}/{file})\n\n{caption}\n")
        else:
            parts.append(
                f"(`{path}` of the run, which shows the data, is not kept here.) {caption}\n"
            )
    return "\n".join(parts)


def main(arguments: Sequence[str]) -> None:
    """Collects the runs named by their folders, and writes RESULTS.md in the current folder."""
    root = Path()
    try:
        runs = [Path(argument) for argument in arguments]
        collect(runs, root)
        atomic.write_atomic(root / "RESULTS.md", page(root, [run.name for run in runs]))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print("RESULTS.md")


if __name__ == "__main__":
    main(sys.argv[1:])
