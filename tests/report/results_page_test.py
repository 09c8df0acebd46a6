"""Tests for intriguing/report/results_page.py, and for the page that is committed."""

import json
from pathlib import Path

import pytest

from intriguing import report, sealed
from intriguing.errors import InputError
from intriguing.experiments import EXPERIMENTS
from intriguing.report import results_page

ROOT = Path(__file__).resolve().parents[2]
TABLE = report.Table(
    "table1", "Table 1", ("test_error",), {"FC10(1)": [0.125]}, ("percent",),
    paper={"FC10(1)": [0.2]}, paper_columns=("test_error",), spread={"FC10(1)": [0.01]},
)  # fmt: skip


def finished_run(folder: Path, name: str, data: str = "mnist", **differences) -> Path:
    summary = {
        "experiment": "cross_model", "title": f"Title of {name}",
        "command": f"python launch.py --config=configs/{name}.py",
        "quick": False, "versions": {"jax": "1.2.3"}, "seconds": {"training": 61.0},
        "figures": [["figures/a.png", "A caption."]],
        "claims": [{"text": "So it is.", "measured": "1 of 2", "holds": False}],
        "tables": {"table1": TABLE.to_dict()}, **differences,
    }  # fmt: skip
    (folder / name / "figures").mkdir(parents=True)
    (folder / name / "figures" / "a.png").write_bytes(b"png")
    sealed.write(folder / name / "summary.json", summary)
    sealed.write(folder / name / "config.json", {"data": {"name": data}})
    return folder / name


def test_the_page_holds_what_the_runs_found(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runs = [finished_run(tmp_path / "runs", name) for name in ("first", "second")]
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "second.md").write_text("Because.")
    results_page.main([str(run) for run in runs])
    text = (tmp_path / "RESULTS.md").read_text()
    assert text.count("## Title of") == 2 and text.count("Because.") == 1
    assert "12.5% ± 1.00 / 20%" in text
    assert "| So it is. | 1 of 2 | **no** |" in text
    assert "| all | 2 min 02 s | |" in text
    assert "[Title of first](#title-of-first)" in text and "QUICK" not in text
    for name in ("first", "second"):
        assert (tmp_path / "docs" / "results" / name / "a.png").read_bytes() == b"png"
        assert f"(docs/results/{name}/a.png)" in text
    # From the committed summaries alone the page is the same.
    results_page.main([])
    assert (tmp_path / "RESULTS.md").read_text() == text


def test_a_quick_run_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results_page.main([str(finished_run(tmp_path / "runs", "first", quick=True))])
    text = (tmp_path / "RESULTS.md").read_text()
    assert text.count("QUICK") >= 2 and "These are not results" in text


def test_photographs_of_the_user_stay_where_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results_page.main([str(finished_run(tmp_path / "runs", "first", data="image_folder"))])
    text = (tmp_path / "RESULTS.md").read_text()
    assert (
        "12.5%" in text
        and "`figures/a.png` of the run, which shows the data, is not kept here.) A caption."
        in text
    )
    assert "![" not in text and not list(tmp_path.glob("docs/**/*.png"))


def test_no_finished_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no finished run"):
        results_page.collect([tmp_path / "nothing"], tmp_path)
    with pytest.raises(SystemExit) as caught:
        results_page.main(["nothing"])
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("error: nothing: no finished run")
    assert not (tmp_path / "RESULTS.md").exists()


def test_the_committed_page_is_made_from_the_committed_summaries():
    assert (ROOT / "RESULTS.md").read_text() == results_page.page(ROOT)


def test_the_committed_summaries_are_of_full_runs():
    paths = list((ROOT / "results").glob("*.json"))
    assert paths
    for path in paths:
        assert json.loads(path.read_text())["quick"] is False, path
        config = path.stem.split("-")[0]  # what follows is its argument
        assert (ROOT / "configs" / f"{config}.py").is_file()


def test_every_experiment_has_a_place():
    assert set(results_page.ORDER) == set(EXPERIMENTS)
