"""What type checkers and editors see: the public names, their arguments, and what comes back."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import intriguing

ROOT = Path(__file__).resolve().parent.parent
STRICT = ("--strict", "--follow-imports=silent", "--no-error-summary", "--no-incremental")
MISTAKES = {
    "result.l2_nrom": "has no attribute",
    "intriguing.minimal_perturbation(logits_fn)": "Missing positional",
    "intriguing.minimal_perturbation(logits_fn, images, labels, goal=3)": "incompatible type",
    "intriguing.minimal_perturbation(images, logits_fn, labels)": "incompatible type",
    "intriguing.minimal_perturbatoin(logits_fn, images)": "has no attribute",
    "intriguing.AttackOptions(budget='many')": "incompatible type",
    "intriguing.robustness_curve(images, [1.0])": "incompatible type",
}


def check(path: Path) -> list[str]:
    pytest.importorskip("mypy")
    pytest.importorskip("jaxtyping")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *STRICT, str(path)], cwd=ROOT, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if ": error:" in line]


@pytest.mark.slow
def test_a_users_program_passes_and_each_mistake_is_found(tmp_path):
    program = (ROOT / "tests" / "typed_program.py").read_text(encoding="utf-8")
    wrong, first = tmp_path / "wrong.py", len(program.splitlines()) + 1
    wrong.write_text(program + "\n".join(MISTAKES) + "\n")
    lines = check(wrong)
    of_program = [line for line in lines if int(line.split(":")[1]) < first]
    assert not of_program
    for number, (mistake, what) in enumerate(MISTAKES.items(), start=first):
        assert any(f":{number}: error:" in line and what in line for line in lines), mistake


def test_the_stub_has_the_public_names():
    tree = ast.parse((ROOT / "intriguing" / "__init__.pyi").read_text(encoding="utf-8"))
    modules = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                assert alias.asname == alias.name
                modules[alias.name] = node.module
    assert sorted(modules) == intriguing.__all__
    for name, module in modules.items():
        there = __import__(module, fromlist=[name])
        assert getattr(intriguing, name) is getattr(there, name)
