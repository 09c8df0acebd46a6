"""Tests for intriguing/report/tables.py"""

import csv
import io
import itertools
import json

import numpy as np
import pytest

from intriguing import report

_TINY = report.Table(
    name="tiny",
    title="Tiny",
    columns=("test_error", "av_min_distortion", "num_images"),
    rows={"FC10(1)": [0.0164, 0.0619, 1797], "a|b": [None, float("nan"), 5]},
    kinds=("percent", "distortion", "count"),
    note="A note.",
    paper={"FC10(1)": [0.5, 0.2, 0.14]},
    paper_columns=("train_error", "test_error", "av_min_distortion"),
)


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (0.067, "percent", "6.7%"),
        (np.float32(0.067), "percent", "6.7%"),
        (0, "percent", "0%"),
        (1.0, "percent", "100%"),
        (0.00125, "percent", "0.13%"),
        (0.0164, "percent", "1.64%"),
        (0.4812, "percent", "48.1%"),
        (0.9998, "percent", "99.98%"),
        (0.00001, "percent", "0.001%"),
        (-0.05, "percent", "-5%"),
        (0.062, "distortion", "0.0620"),
        (0.006508, "distortion", "0.00651"),
        (0.0, "distortion", "0"),
        (60000, "count", "60,000"),
        (512.0, "count", "512"),
        (3.12, "number", "3.12"),
        (12345.6, "number", "12,346"),
        (3.62e7, "number", "3.62e+07"),
        (0.4567, "seconds", "0.457 s"),
        (125, "seconds", "2 min 05 s"),
        (9000, "seconds", "2.5 h"),
        (None, "percent", "–"),  # noqa: RUF001
        (float("nan"), "count", "–"),  # noqa: RUF001
        (float("inf"), "number", "∞"),
    ],
)
def test_format_cell(value, kind, text):
    assert report.format_cell(value, kind) == text


def test_unknown_kind_and_short_row_are_errors():
    with pytest.raises(KeyError):
        report.format_cell(0.5, "percentage")
    with pytest.raises(ValueError, match="shorter"):
        report.to_text(_TINY._replace(rows={"FC10(1)": [1]}))


def test_to_text():
    assert report.to_text(_TINY) == (
        "Tiny\n"
        "                         av. min.\n"
        "           test error  distortion  images\n"
        "-----------------------------------------\n"
        "FC10(1)        1.64%      0.0619   1,797\n"
        "  (paper)       (20%)      (0.14)\n"
        "a|b                –           –       5\n"  # noqa: RUF001
        "In brackets: the paper's figures (MNIST, 28x28).\n"
        "A note.\n"
    )


def test_to_text_of_table2_fits_a_terminal():
    paper = report.paper_table("table2")
    table = report.Table(
        "table2",
        "Table 2",
        (*paper["columns"], "num_images", "success"),
        {name: [*row, 60000, 0.9998] for name, row in paper["rows"].items()},
        ("percent",) * 6 + ("distortion", "count", "percent"),
        "Word " * 50,
        paper["rows"],
        tuple(paper["columns"]),
    )
    text = report.to_text(table)
    assert max(map(len, text.splitlines())) <= 80
    # Two blocks of columns, and the paper has figures for both.
    assert text.count("FC10(1e-4)  ") == 2 + 1 and text.count("99.98%") == len(table.rows)
    assert text.count("(paper)") == 2 * len(table.rows)


def test_columns_that_find_no_room_stand_beneath():
    columns = tuple(f"a column, {i}" for i in range(12))
    table = report.Table(
        "t", "Word " * 30, columns, {"a row": list(range(12)), "b": [None] * 12}, ("count",) * 12
    )
    lines = report.to_text(table).splitlines()
    assert max(map(len, lines)) <= 80
    numbers = [line.split()[2:] for line in lines if line.startswith("a row")]
    assert len(numbers) > 1 and [*itertools.chain(*numbers)] == [str(i) for i in range(12)]
    alone = table._replace(columns=("x" * 100,), rows={"r": [1]}, kinds=("count",))
    assert "x" * 100 in report.to_text(alone)  # nothing is cut off where nothing can be done


def test_to_markdown():
    assert report.to_markdown(_TINY) == (
        "### Tiny\n\n"
        "|  | test error | av. min. distortion | images |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| FC10(1) | 1.64% / 20% | 0.0619 / 0.14 | 1,797 |\n"
        "| a\\|b | – | – | 5 |\n\n"  # noqa: RUF001
        "Cells: ours / paper (MNIST, 28x28).\n\n"
        "A note.\n"
    )


def test_no_figure_of_the_paper_no_legend():
    for table in (_TINY._replace(paper=None), _TINY._replace(paper={"another": [0, 0, 0]})):
        assert "paper" not in report.to_markdown(table)
        assert "paper" not in report.to_text(table)


def test_to_csv():
    assert report.to_csv(_TINY) == (
        "name,test_error,av_min_distortion,num_images,test_error_paper,av_min_distortion_paper\n"
        "FC10(1),0.0164,0.0619,1797,0.2,0.14\n"
        "a|b,,,5,,\n"
    )


def test_csv_reads_back_exactly():
    numbers = np.random.default_rng(0).random((3, 2))
    rows = {f'{i}, "x"': [float(a), np.float64(b)] for i, (a, b) in enumerate(numbers)}
    table = report.Table("t", "", ("a", "b"), rows, ("number", "number"))
    read = list(csv.reader(io.StringIO(report.to_csv(table))))
    assert read[0] == ["name", "a", "b"]
    assert {row[0]: [float(cell) for cell in row[1:]] for row in read[1:]} == rows


def test_paper_table():
    table1 = report.paper_table("table1")
    assert table1["columns"] == ["train_error", "test_error", "av_min_distortion"]
    assert table1["rows"]["FC10(1e-4)"] == [0.067, 0.074, 0.062]
    with pytest.raises(KeyError):
        report.paper_table("table9")


def test_merge_summary_has_the_shape_of_the_papers_tables():
    existing = {"seconds": 3, "tables": {"table1": {"columns": [], "rows": {}}, "kept": 1}}
    merged = report.merge_summary(existing, [_TINY._replace(name="table1")])
    assert merged["tables"]["table1"]["columns"] == list(_TINY.columns)
    assert merged["tables"]["table1"]["rows"]["FC10(1)"] == [0.0164, 0.0619, 1797]
    assert merged["tables"]["table1"].keys() >= report.paper_table("table1").keys()
    assert (merged["seconds"], merged["tables"]["kept"]) == (3, 1)
    assert existing["tables"]["table1"] == {"columns": [], "rows": {}}
    json.dumps(merged)


def test_a_table_survives_json():
    table = _TINY._replace(spread={"FC10(1)": [0.001, 0.01, None]})
    table = table._replace(rows={"FC10(1)": [0.0164, 0.0619, 1797]})
    assert report.Table.from_dict(json.loads(json.dumps(table.to_dict()))) == table


def test_spread_stands_beside_the_mean():
    table = _TINY._replace(spread={"FC10(1)": [0.00123, 0.0044, None]})
    assert "| 1.64% ± 0.12 / 20% | 0.0619 ± 0.004 / 0.14 | 1,797 |" in report.to_markdown(table)
    header, first, _ = csv.reader(io.StringIO(report.to_csv(table)))
    assert dict(zip(header, first, strict=True))["test_error_spread"] == "0.00123"
    assert dict(zip(header, first, strict=True))["num_images_spread"] == ""


def test_claims():
    claims = [report.Claim("A.", "1 | 2", True), report.Claim("B.", "3", False),
              report.Claim("C.", "0 of 0", None)]  # fmt: skip
    assert report.claims_to_markdown(claims).splitlines()[2:] == [
        "| A. | 1 \\| 2 | yes |",
        "| B. | 3 | **no** |",
        "| C. | 0 of 0 | not tested |",
    ]
    assert str(claims[1]) == "does NOT hold: B. Measured: 3"
    assert str(claims[2]) == "not tested: C. Measured: 0 of 0"


def test_write_tables(tmp_path):
    report.write_tables(tmp_path, [_TINY])
    assert (tmp_path / "tables" / "tiny.csv").read_text() == report.to_csv(_TINY)
    assert (tmp_path / "tables" / "tiny.md").read_text() == report.to_markdown(_TINY)
