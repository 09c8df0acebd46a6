"""Tests for ../README.md and ../BUILD.md: the example runs, and nothing there is left out."""

import re
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent


def test_the_example_runs():
    names = run_example(0)
    result, images, labels = names["result"], names["images"], names["labels"]
    assert result.success.all()
    assert (names["logits_fn"](result.adv_images).argmax(axis=-1) == (labels + 1) % 10).all()
    assert result.adv_images.min() >= 0 and result.adv_images.max() <= 1
    change = (result.adv_images - images).reshape(len(images), -1)
    np.testing.assert_allclose(result.distortion, np.sqrt((change**2).mean(axis=1)), rtol=1e-5)


def examples_of_readme() -> list[str]:
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(examples) == 3
    return examples


def run_example(number: int) -> dict:
    names = {}
    exec(compile(examples_of_readme()[number], "README.md", "exec"), names)
    return names


def test_what_follows_from_a_result_runs(tmp_path):
    text = examples_of_readme()[1].replace("/tmp/", f"{tmp_path}/")
    names = run_example(0)
    exec(compile(text, "README.md", "exec"), names)
    assert {path.name for path in tmp_path.iterdir()} == {"nearest.npz", "curve.png", "nearest.png"}
    # No targeted perturbation of the first example is smaller than the nearest of any class.
    assert (names["nearest"].l2_norm <= names["result"].l2_norm * 1.001).all()
    right = names["logits_fn"](names["images"]).argmax(axis=-1) == names["labels"]
    curve = names["curve"].attacked
    assert curve[0] == right.mean() and curve[-1] < curve[0]


def test_the_solver_s_example_runs():
    names = run_example(2)
    # The first problem ends on the upper bound; the others at the minimum, which is flat: x^4.
    np.testing.assert_allclose(names["params"][:, 0], [1, 2, 2], atol=0.05)
    assert (np.asarray(names["state"].error) <= 1e-3).all()


def test_readme_names_every_config():
    text = (ROOT / "README.md").read_text()
    paths = [f"configs/{path.name}" for path in (ROOT / "configs").glob("[!_]*.py")]
    missing = [path for path in paths if f"`{path}`" not in text]
    assert not missing, f"add {missing} to the table of configs in README.md"


def paths_in_tree(text: str) -> set[str]:
    """Files below `intriguing/` in BUILD.md's tree; a folder's line speaks for its __init__.py."""
    tree = text.partition("\nintriguing/ ")[2].partition("\ntests/ ")[0]
    paths, folder = {"__init__.py"}, ""
    for indent, name in re.findall(r"^(  |    )(\S+)", tree, re.MULTILINE):
        if name.endswith("/"):
            folder = name
            paths.add(f"{folder}__init__.py")
        else:
            paths.add(name if indent == "  " else folder + name)
    return paths


def test_build_names_every_module():
    there = {
        path.relative_to(ROOT / "intriguing").as_posix()
        for path in (ROOT / "intriguing").rglob("*.py")
    }
    wrong = sorted(there ^ paths_in_tree((ROOT / "BUILD.md").read_text()))
    assert not wrong, f"in the tree of BUILD.md, or in intriguing/, but not in both: {wrong}"


def test_the_result_fields_are_explained():
    from intriguing.attack import AttackResult

    text = (ROOT / "README.md").read_text()
    assert all(f"| `{field}` |" in text for field in AttackResult._fields)
