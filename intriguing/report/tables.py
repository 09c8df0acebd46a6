"""Tables, ours beside the paper's figures: as text, Markdown, CSV, JSON. Claims put to the test."""

import csv
import importlib.resources
import io
import json
import math
import os
import re
import textwrap
from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any, NamedTuple

from intriguing import atomic

_HEADINGS = {
    "train_error": "train error",
    "test_error": "test error",
    "error_P1": "error on P1",
    "error_P2": "error on P2",
    "av_min_distortion": "av. min. distortion",
    "av_distortion": "av. distortion",
    "upper_bound": "upper bound",
    "num_images": "images",
    "rounded_success": "success, 8 bits",
    "png_success": "success, PNG",
    "png_distortion": "av. distortion, PNG",
    "printed_formula": "paper's formula",
    "lipschitz_bound": "bound L",
    "certified": "certified distortion",
    "certified_by_pairs": "certified, by pairs",
    "median_ratio": "median ratio",
    "least_ratio": "least ratio",
}
_TEXT_WIDTH = 80


class Table(NamedTuple):
    """Named rows of numbers, and the paper's for the same cells where it has them."""

    name: str  # also the name of its files: "table1"
    title: str
    columns: tuple[str, ...]
    rows: dict[str, list[float | None]]  # row name -> a number per column; None: not measured
    kinds: tuple[str, ...]  # per column: percent (of 1) | distortion | count | number | seconds
    note: str = ""
    paper: dict[str, list[float | None]] | None = None  # row name -> a number per paper column
    paper_columns: tuple[str, ...] = ()
    paper_data: str = "MNIST, 28x28"  # what the paper measured its figures on
    spread: dict[str, list[float | None]] | None = (
        None  # shaped as rows: +- of each mean over seeds
    )

    @property
    def headings(self) -> tuple[str, ...]:
        """The columns' names for a reader."""
        parts = (column.partition(", ") for column in self.columns)
        return tuple(_HEADINGS.get(name, name) + comma + rest for name, comma, rest in parts)

    @property
    def legend(self) -> str:
        """What the two figures of a cell are; "" if none of them is the paper's."""
        cells = (paper for row in self.rows for _, paper in self.cells(row))
        return f"ours / paper ({self.paper_data})" if any(cells) else ""

    def paper_value(self, row: str, column: str) -> float | None:
        """The paper's figure for a cell; None where it has none."""
        if not self.paper or row not in self.paper or column not in self.paper_columns:
            return None
        return self.paper[row][self.paper_columns.index(column)]

    def cells(self, row: str) -> list[tuple[str, str]]:
        """Per column: our figure as text, and the paper's ("" where it has none)."""
        values, spreads = self.rows[row], (self.spread or {}).get(row) or [None] * len(self.columns)
        texts = []
        for column, kind, value, spread in zip(
            self.columns, self.kinds, values, spreads, strict=True
        ):
            paper = self.paper_value(row, column)
            ours = format_cell(value, kind) + format_spread(spread, kind)
            texts.append((ours, "" if paper is None else _printed(paper, kind)))
        return texts

    def to_dict(self) -> dict[str, Any]:
        """All fields, as JSON can hold them; `Table.from_dict` undoes it."""
        return {**self._asdict(), "columns": list(self.columns)}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Table":
        """What `to_dict` gave, before or after JSON."""
        tuples = {key: tuple(fields[key]) for key in ("columns", "kinds", "paper_columns")}
        return cls(**{**fields, **tuples})


class Claim(NamedTuple):
    """A statement of the paper (or of ours), and what was measured about it."""

    text: str
    measured: str  # the numbers that decide it
    holds: bool | None  # None: there was nothing to decide it by

    @property
    def verdict(self) -> str:
        """In words."""
        return {True: "holds", False: "does NOT hold", None: "not tested"}[self.holds]

    def __str__(self) -> str:
        return f"{self.verdict}: {self.text} Measured: {self.measured}"


def paper_table(name: str) -> dict[str, Any]:
    """One entry of paper_tables.json: `columns`, and `rows` by name. KeyError if it has none."""
    return json.loads(packaged("paper_tables.json"))[name]


def packaged(name: str) -> str:
    """Text of a file that comes with the package."""
    return (importlib.resources.files("intriguing.report") / name).read_text(encoding="utf-8")


def format_cell(value: float | None, kind: str) -> str:
    """A number as a reader wants it: "6.7%", "0.0620", "1,797"; None and NaN are a dash."""
    if value is None or math.isnan(value):
        return "–"  # noqa: RUF001
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return _FORMATS[kind](value)


def format_spread(spread: float | None, kind: str) -> str:
    """What follows a mean: " ± 0.12" in the unit of the mean; "" where there is none."""
    if not spread or not math.isfinite(spread):
        return ""
    return f" ± {100 * spread:.2f}" if kind == "percent" else f" ± {spread:.1g}"


def _percent(value: float) -> str:
    percent = 100 * Decimal(repr(float(value)))  # decimal, so that 0.125 becomes 0.13
    for decimals in range(1 if abs(percent) >= 10 else 2, 5):
        rounded = percent.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP)
        # 0% and 100% are claims: only what is so (to four decimals) may say so.
        if rounded not in (0, 100) or rounded == percent:
            break
    return f"{rounded.normalize():f}%"


def _number(value: float) -> str:
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e6 else f"{value:.4g}"


def _seconds(value: float) -> str:
    if value < 60:
        return f"{value:.3g} s"
    minutes, seconds = divmod(round(value), 60)
    return f"{minutes} min {seconds:02d} s" if minutes < 60 else f"{minutes / 60:.1f} h"


_FORMATS = {
    "percent": _percent,
    "distortion": lambda value: f"{value:#.3g}" if value else "0",
    "count": lambda value: f"{value:,.0f}",
    "number": _number,
    "seconds": _seconds,
}


def _printed(value: float, kind: str) -> str:
    """The paper's figure with its own digits: 0.1 as 0.100 would claim more than it says."""
    return format_cell(value, kind) if kind == "percent" else f"{value:g}"


def to_text(table: Table) -> str:
    """The table for a terminal of 80 columns, the paper's figures in brackets on a line beneath
    ours; columns that find no room stand beneath, with the rows' names again.
    """
    headings = [two_lines(heading) for heading in table.headings]
    above = [("", *upper_or_lower) for upper_or_lower in zip(*headings, strict=True)]
    pad = " " if table.paper else ""  # our digits stand above those within the brackets
    lines = []
    for row in table.rows:
        ours, paper = zip(*table.cells(row), strict=True)
        lines.append((row, *(text + pad for text in ours)))
        if any(paper):
            lines.append(("  (paper)", *(text and f"({text})" for text in paper)))
    widths = [max(len(line[i]) for line in above + lines) for i in range(len(above[0]))]
    blocks = []
    for block in _blocks(widths):
        cut = [[line[i] for i in block] for line in above + lines]
        cut = [line for line in cut if line[0].strip() != "(paper)" or any(line[1:])]
        text = [_align(line, [widths[i] for i in block]) for line in cut]
        text.insert(2, "-" * (sum(widths[i] for i in block) + 2 * len(block) - 2))
        # Between blocks is an empty line already; a heading of one line brings another.
        blocks.append("\n".join(text[1:] if blocks and not text[0] else text))
    below = [table.legend and f"In brackets: the paper's figures ({table.paper_data}).", table.note]
    title, *below = (fill(sentence) for sentence in (table.title, *below) if sentence)
    return "\n".join([title, "\n\n".join(blocks), *below]) + "\n"


def fill(text: str, indent: str = "") -> str:
    """A sentence in lines for a terminal, those after the first one indented."""
    return textwrap.fill(text, _TEXT_WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def _blocks(widths: Sequence[int]) -> list[list[int]]:
    """Columns that stand beside each other, the first one in each."""
    room, blocks = _TEXT_WIDTH - widths[0], [[0]]
    for i in range(1, len(widths)):
        if len(blocks[-1]) > 1 and sum(widths[j] + 2 for j in [*blocks[-1][1:], i]) > room:
            blocks.append([0])
        blocks[-1].append(i)
    return blocks


def _align(line: Sequence[str], widths: Sequence[int]) -> str:
    first = line[0].ljust(widths[0])
    rest = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
    return "  ".join([first, *rest]).rstrip()


def two_lines(heading: str) -> tuple[str, str]:
    """A long heading cut after a space or hyphen, where its longer half is shortest."""
    if len(heading) <= 11:
        return "", heading
    cuts = [0, *(match.end() for match in re.finditer("[ -]", heading))]
    cut = min(cuts, key=lambda cut: max(cut, len(heading) - cut))
    return heading[:cut].rstrip(), heading[cut:]


def to_markdown(table: Table) -> str:
    """The table for GitHub, "ours / paper" in each cell for which the paper has a figure."""
    lines = [
        ["", *map(_escape_markdown, table.headings)],
        ["---", *["---:"] * len(table.columns)],
    ]
    for row in table.rows:
        cells = [f"{ours} / {paper}" if paper else ours for ours, paper in table.cells(row)]
        lines.append([_escape_markdown(row), *cells])
    grid = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    below = [table.legend and f"Cells: {table.legend}.", table.note]
    return "\n\n".join([f"### {table.title}", grid, *filter(None, below)]) + "\n"


_IN_TABLES = {True: "yes", False: "**no**", None: "not tested"}


def claims_to_markdown(claims: Sequence[Claim]) -> str:
    """A table with one claim per row."""
    lines = [("claim", "measured", "holds"), ("---",) * 3]
    for claim in claims:
        text, measured = map(_escape_markdown, (claim.text, claim.measured))
        lines.append((text, measured, _IN_TABLES[claim.holds]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _escape_markdown(text: str) -> str:
    return re.sub(r"([\\|*_<])", r"\\\1", text)


def to_csv(table: Table) -> str:
    """The raw numbers at full precision, then `<column>_spread` and `<column>_paper`."""
    spread_columns = list(table.columns) if table.spread else []
    paper_columns = [column for column in table.columns if column in table.paper_columns]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    spread_names = [f"{column}_spread" for column in spread_columns]
    paper_names = [f"{column}_paper" for column in paper_columns]
    writer.writerow(["name", *table.columns, *spread_names, *paper_names])
    for row, values in table.rows.items():
        spreads = (table.spread or {}).get(row) or [None] * len(spread_columns)
        paper_values = [table.paper_value(row, column) for column in paper_columns]
        writer.writerow([row, *map(_raw, [*values, *spreads, *paper_values])])
    return buffer.getvalue()


def _raw(value: float | None) -> str:
    if value is None or math.isnan(value):
        return ""
    return str(value) if isinstance(value, int) else repr(float(value))


def write_tables(workdir: str | os.PathLike, tables: Sequence[Table]) -> None:
    """Write workdir/tables/<name>.csv and .md, atomically. Raises InputError if it cannot."""
    for table in tables:
        path = Path(workdir) / "tables" / table.name
        atomic.write_atomic(f"{path}.csv", to_csv(table))
        atomic.write_atomic(f"{path}.md", to_markdown(table))


def merge_summary(existing: Mapping[str, Any], tables: Sequence[Table]) -> dict[str, Any]:
    """A copy of `existing` with `tables.<name>` = all fields of each `Table`."""
    new = {table.name: table.to_dict() for table in tables}
    return {**existing, "tables": {**existing.get("tables", {}), **new}}
