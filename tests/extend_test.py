"""Tests for BUILD.md, "Add": what it says is done in a copy of the project, and works."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def snippets() -> list[tuple[str, str]]:
    """(path, code) of every block of "Add" that begins with the path of a file."""
    text = (ROOT / "BUILD.md").read_text().partition("\n## Add\n")[2].partition("\n## ")[0]
    return re.findall(r"```python\n# (\S+\.py)\n(.*?)```", text, re.DOTALL)


def test_a_model_a_data_set_an_experiment_and_a_config_are_added(tmp_path):
    for folder in ("intriguing", "configs"):
        shutil.copytree(ROOT / folder, tmp_path / folder,
                        ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
    shutil.copy(ROOT / "launch.py", tmp_path)
    added = snippets()
    assert {Path(path).parts[:2][-1] for path, _ in added} == {
        "models", "data", "experiments", "stripes.py"
    }  # fmt: skip
    for path, code in added:
        file = tmp_path / path
        before = file.read_text() + "\n\n" if file.exists() else ""
        file.write_text(before + code)
    command = [sys.executable, "launch.py", "--config=configs/stripes.py", "--workdir=run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["tables"]["errors"]["rows"]["shallow"][0] < 0.1
    assert summary["claims"][0]["holds"] and "Test errors" in done.stdout
    assert summary["measurements"][0] == {
        "metric": "error", "model": "shallow", "on": "test", "num": 200,
        "value": summary["tables"]["errors"]["rows"]["shallow"][0],
    }  # fmt: skip
