"""What a run measured, as records; tables, claims and summary.json are views of them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from intriguing.report.tables import Table


class Measurement(NamedTuple):
    """One number, and what it is a measurement of.

    Fields:
      metric: what was measured: "error", "distortion", "success", ...
      value: the number; NaN where there was nothing to measure.
      model: the network; of transfer: the victim.
      protocol: of the attack.
      on: which images, or what else distinguishes it: "train", "made for FC10(1)", "units".
      layer: of the network.
      at: where on a curve, or in a distribution: "0.1", "median".
      num: how many images, directions or pairs it is the mean of.
      spread: standard deviation over seeds; None of one.
    """

    metric: str
    value: float
    model: str = ""
    protocol: str = ""
    on: str = ""
    layer: str = ""
    at: str = ""
    num: int | None = None
    spread: float | None = None


class Column(NamedTuple):
    """A column of a view. Fields: `name`; `kind`, as in `Table`; `where`, of its measurements."""

    name: str
    kind: str
    where: Mapping[str, str]


Records = Sequence[Measurement]


def select(records: Iterable[Measurement], **where: str) -> list[Measurement]:
    """Those whose fields are as given, in their order."""
    wanted = where.items()
    return [each for each in records if all(getattr(each, key) == value for key, value in wanted)]


def find(records: Iterable[Measurement], **where: str) -> Measurement:
    """The one whose fields are as given. Raises KeyError if there is none, or more than one."""
    found = select(records, **where)
    if len(found) != 1:
        raise KeyError(f"{len(found)} measurements are {where}")
    return found[0]


def value(records: Iterable[Measurement], **where: str) -> float:
    """The number of the one whose fields are as given."""
    return find(records, **where).value


def over_seeds(found: Sequence[Records]) -> list[Measurement]:
    """Mean and standard deviation over seeds, each of which measured the same; no spread of one."""
    records = []
    for same in zip(*found, strict=True):
        values = np.array([each.value for each in same], float)
        spread = float(values.std(ddof=1)) if len(found) > 1 else None
        records.append(same[0]._replace(value=float(values.mean()), spread=spread))
    return records


def view(
    records: Records,
    rows: Mapping[str, Mapping[str, str]],
    columns: Sequence[Column],
    **fields: Any,
) -> Table:
    """A table of measurements; where there is none, the cell is empty.

    Args:
      records: where the numbers are.
      rows: name -> what the fields of its measurements are.
      columns: what else they are.
      **fields: other fields of `Table`.
    """
    values, spreads = {}, {}
    for name, where in rows.items():
        found = [select(records, **where, **column.where) for column in columns]
        values[name] = [each[0].value if each else None for each in found]
        spreads[name] = [each[0].spread if each else None for each in found]
    has_spread = any(spread is not None for row in spreads.values() for spread in row)
    return Table(
        columns=tuple(column.name for column in columns), rows=values,
        kinds=tuple(column.kind for column in columns), spread=spreads if has_spread else None,
        **fields,
    )  # fmt: skip


def with_counts(table: Table, counts: Mapping[str, int], name: str = "num_images") -> Table:
    """The table with a last column of counts, by row."""
    return table._replace(
        columns=(*table.columns, name), kinds=(*table.kinds, "count"),
        rows={row: [*values, counts[row]] for row, values in table.rows.items()},
        spread=table.spread and {row: [*values, None] for row, values in table.spread.items()},
    )  # fmt: skip


def to_dicts(records: Records) -> list[dict[str, Any]]:
    """As JSON can hold them, without what does not apply."""
    return [
        {key: value for key, value in each._asdict().items() if key == "value" or value or
         value == 0}
        for each in records
    ]  # fmt: skip
