"""What the tables of several experiments share: names of rows, notes, columns."""

from collections.abc import Mapping, Sequence

from intriguing import attack, metrics, report
from intriguing.experiments.attacks import attack_options
from intriguing.predict import predict
from intriguing.report import Column, Measurement

LEFT_OUT = "An attack that failed changes nothing, and is left out."


def describe_seeds(num_seeds: int) -> str:
    """A sentence on what a cell is, for the notes of tables."""
    if num_seeds == 1:
        return "One seed."
    return f"Cells: mean ± standard deviation over {num_seeds} seeds."


def describe_protocols(settings) -> str:
    """A sentence per protocol for the notes of tables."""
    sentences = []
    for protocol in settings.protocols:
        spec = settings.attack_by(protocol)
        sentences.append(f"Protocol {protocol}: {attack.describe(attack_options(spec))}.")
    return " ".join(sentences)


def attack_columns(protocols: Sequence[str]) -> tuple[list[Column], list[Column]]:
    """Distortion and success, a column each per protocol; the first one's distortion is the
    paper's column.
    """
    distortions = [
        Column("av_min_distortion" + (f", {protocol}" if i else ""), "distortion",
               {"metric": "distortion", "protocol": protocol})
        for i, protocol in enumerate(protocols)
    ]  # fmt: skip
    success = [
        Column(f"success, {protocol}", "percent", {"metric": "success", "protocol": protocol})
        for protocol in protocols
    ]
    return distortions, success


def measure_errors(name: str, logits_fn, parts: Mapping[str, object]) -> list[Measurement]:
    """Error rate of a network on data sets, by what those are called."""
    return [
        Measurement("error", metrics.error_rate(predict(logits_fn, part.images), part.labels), name,
                    on=on, num=len(part.labels))
        for on, part in parts.items()
    ]  # fmt: skip


def noise_row(stddev: float) -> str:
    """The paper's name for a row of Gaussian noise."""
    return f"Gaussian noise, stddev {stddev:g}"


def amplified_row(name: str, stddev: float) -> str:
    """The paper's name for a row of amplified examples."""
    return f"{name}, amplified to stddev {stddev:g}"


def paper_rows(rows: dict) -> dict:
    """The paper's rows under the names that ours have."""
    names = {name: name.replace("gaussian ", "Gaussian noise, stddev ") for name in rows}
    return {
        new.replace(" amplified ", ", amplified to stddev "): rows[old]
        for old, new in names.items()
    }


def label_of(name: str, seed: int) -> str:
    """What the files of one model of one seed are called."""
    return f"{name}, seed {seed}"


def find_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """(made for, tried on) of all different networks."""
    return [(row, column) for row in names for column in names if row != column]


def all_of(num: int, pairs: Sequence) -> bool | None:
    """Whether it held in all of the pairs; None if there are none."""
    return num == len(pairs) if pairs else None


def least_success(records) -> dict[str, float]:
    """The least success rate of any network, by protocol."""
    found = report.select(records, metric="success")
    return {
        protocol: min(each.value for each in found if each.protocol == protocol)
        for protocol in dict.fromkeys(each.protocol for each in found)
    }
