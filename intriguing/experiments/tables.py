"""What the tables of several experiments share: names of rows, means, notes."""

from collections.abc import Sequence

import numpy as np

from intriguing import metrics, report
from intriguing.experiments import build


def describe_seeds(config) -> str:
    """A sentence on what a cell is, for the notes of tables."""
    if config.num_seeds == 1:
        return "One seed."
    return f"Cells: mean ± standard deviation over {config.num_seeds} seeds."


def mean_distortion(arrays) -> float:
    """Mean distortion over the attacks that succeeded."""
    return metrics.mean(arrays["distortion"], where=arrays["success"])


def describe_protocols(config) -> str:
    """A sentence per protocol for the notes of tables."""
    sentences = []
    for protocol in config.protocols:
        options = build.attack_options(config, protocol)
        refined = "then refined" if options["refine"] else "no refinement"
        tried = f"up to {options['num_penalties']} values of c"
        steps = f"{options['maxiter']} evaluations each"
        sentences.append(f"Protocol {protocol}: {tried}, {steps}, {refined}.")
    return " ".join(sentences)


def noise_row(stddev: float) -> str:
    """The paper's name for a row of Gaussian noise."""
    return f"Gaussian noise, stddev {stddev:g}"


def paper_rows(rows: dict) -> dict:
    """The paper's rows under the names that ours have."""
    names = {name: name.replace("gaussian ", "Gaussian noise, stddev ") for name in rows}
    return {
        new.replace(" amplified ", ", amplified to stddev "): rows[old]
        for old, new in names.items()
    }


def noise_error(table: report.Table, row: str, column: str) -> float:
    """Error that the weakest noise with at least the row's distortion induces in a column."""
    distortion, index = table.columns.index("av_distortion"), table.columns.index(column)
    noise = {values[distortion]: values[index] for name, values in table.rows.items()
             if name.startswith("Gaussian")}  # fmt: skip
    enough = [stddev for stddev in noise if stddev >= table.rows[row][distortion]]
    return noise[min(enough, default=max(noise))]


def over_seeds(found: Sequence[dict[str, list[float]]]) -> tuple[dict, dict | None]:
    """Mean and standard deviation of each cell over tables of equal shape; no spread of one."""
    rows, spread = {}, {}
    for name in found[0]:
        values = np.array([table[name] for table in found], float)
        rows[name] = values.mean(axis=0).tolist()
        spread[name] = values.std(axis=0, ddof=min(1, len(found) - 1)).tolist()
    return rows, spread if len(found) > 1 else None


def amplified_row(name: str, stddev: float) -> str:
    """The paper's name for a row of amplified examples."""
    return f"{name}, amplified to stddev {stddev:g}"


def label_of(name: str, seed: int) -> str:
    """What the files of one model of one seed are called."""
    return f"{name}, seed {seed}"
