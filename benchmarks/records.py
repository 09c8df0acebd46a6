"""What benchmarks that take hours have done so far: a line of JSON for each finished part.

The files lie beside the benchmarks and are kept with them, so that any machine goes on where the
last one stopped. A line that was cut off is left out, and done again.
"""

import json
from pathlib import Path

FOLDER = Path(__file__).parent / "records"


def read(path: Path) -> list[dict]:
    """The rows of a file; none where there is none."""
    rows = []
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def append(path: Path, row: dict) -> None:
    """Adds a row, on a line of its own whatever the last one looks like."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cut = path.is_file() and not path.read_bytes().endswith(b"\n")
    with open(path, "a") as file:
        file.write("\n" * cut + json.dumps(row) + "\n")


def short(numbers) -> list[float | None]:
    """Numbers with six digits, to be written; None for infinity."""
    return [float(f"{x:.6g}") if x < float("inf") else None for x in map(float, numbers)]


def full(numbers) -> list[float]:
    """The inverse of `short`."""
    return [float("inf") if x is None else x for x in numbers]
