"""What an experiment returns, and how it is written: tables, figures, report.html, summary.json."""

import platform
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from intriguing import report, runs, sealed
from intriguing.experiments.phases import seconds_per_phase
from intriguing.report import html

QUICK = "These are not results: the run was :quick, on a small subset."


class Outcome(NamedTuple):
    """What an experiment found.

    Fields: `records`, all that was measured; `tables`, views of them; `figures`; `claims`, put to
    the test.
    """

    records: list[report.Measurement]
    tables: list[report.Table]
    figures: list[report.Picture]
    claims: list[report.Claim]


def versions() -> dict[str, str]:
    """What the numbers were made with: library versions and the device."""
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        "jax": jax.__version__,
        "numpy": np.__version__,
        "device": f"{len(jax.devices())} x {device.device_kind}",
    }


def write_outcome(settings, workdir: Path, outcome: Outcome, command: str) -> dict:
    """Writes tables, report.html and summary.json; returns the summary, and prints the tables."""
    seconds = seconds_per_phase(workdir)
    facts = {
        "command": command,
        "seed": settings.seed,
        **versions(),
        "seconds": f"{sum(seconds.values()):.0f} in all",
        **{f"seconds: {phase}": f"{value:.1f}" for phase, value in seconds.items()},
    }
    records, tables, figures, claims = outcome
    report.write_tables(workdir, tables)
    title = settings.title or tables[0].title
    notice = QUICK if settings.quick else ""
    shown = [[each.path.relative_to(workdir).as_posix(), each.caption] for each in figures]
    about = {
        "experiment": settings.experiment, "title": title, "command": command,
        "quick": settings.quick, "versions": versions(), "seconds": seconds, "figures": shown,
        "claims": [claim._asdict() for claim in claims],
        "measurements": report.to_dicts(records),
    }  # fmt: skip
    summary = report.merge_summary(about, tables)
    summary["results"] = runs.result_folders(workdir)
    sealed.write(workdir / "summary.json", summary)
    html.write_report(workdir, title, tables, figures, facts, claims, notice)
    for table in tables:
        print(report.to_text(table), flush=True)
    for claim in claims:
        print(report.fill(f"- {claim}", "  "))
    if notice:
        print(notice)
    print(f"Report: {workdir / 'report.html'}")
    return summary
