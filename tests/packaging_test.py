"""The wheel: what it holds, and that the attack runs from it with jax, numpy and jaxopt alone."""

import itertools
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def requirements(lines) -> dict[str, str]:
    """{package: version specifiers} of requirement lines."""
    found = {}
    for line in lines:
        line = line.split("#")[0].split(";")[0].strip()
        if line and not line.startswith(("-", "intriguing")):
            name, limits = re.fullmatch(r"([\w.-]+)(.*)", line).groups()
            found[name] = limits.strip()
    return found


def test_extras_and_requirements_say_the_same():
    extras = dict(PROJECT["optional-dependencies"])
    del extras["torch"]  # of PyTorch's users, who have it; requirements.txt is what all else needs
    named = requirements(itertools.chain(PROJECT["dependencies"], *extras.values()))
    assert named == requirements((ROOT / "requirements.txt").read_text().splitlines())
    assert set(extras) == {"train", "data", "plots", "all"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "source"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(copy)], check=True)
    # What is not committed yet is tested, too.
    changed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True,
                             capture_output=True, text=True).stdout.splitlines()  # fmt: skip
    for name in changed:
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation",
               "-w", str(folder), str(copy)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_what_is_needed(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "intriguing").rglob("*.py")}
    configs = {f"intriguing/bundled/configs/{path.name}" for path in
               (ROOT / "configs").glob("*.py")}  # fmt: skip
    needed = {"intriguing/py.typed", "intriguing/bundled/launch.py",
              "intriguing/report/paper_tables.json",
              "intriguing/report/report_page.html"}  # fmt: skip
    assert modules | configs | needed <= names
    assert not [name for name in names if name.split("/")[0] in ("tests", "configs", "benchmarks")]


CORE = """
import sys, warnings
warnings.simplefilter("error")  # as `pytest -W error` has it

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
sys.path.insert(0, sys.argv[1])
import numpy as np
import jax
import intriguing
assert intriguing.__file__.startswith(sys.argv[1]), intriguing.__file__

rng = np.random.default_rng(0)
weights = rng.normal(size=(16, 4)).astype(np.float32)

def logits_fn(images):
    return images.reshape(len(images), -1) @ weights

images = rng.uniform(size=(6, 4, 4)).astype(np.float32)
labels = np.asarray(logits_fn(images)).argmax(axis=1)
for goal in ("untargeted", "targeted"):
    wanted = labels if goal == "untargeted" else (labels + 1) % 4
    result = intriguing.minimal_perturbation(logits_fn, images, wanted, goal=goal)
    assert result.success.all()
table = intriguing.transfer_table({"a": logits_fn}, {"a": result.adv_images}, images, labels)
solver = intriguing.BatchedLBFGSB(lambda x: ((x - 2.0) ** 2).sum(), maxiter=50)
zeros, ones = np.zeros(3, np.float32), np.ones(3, np.float32)
found = solver.run(zeros, bounds=(zeros, ones))
np.testing.assert_allclose(found.params, 1.0)
try:
    intriguing.models
except ModuleNotFoundError as error:
    assert 'pip install "intriguing[train]"' in str(error), error
else:
    raise SystemExit("models were there")
print("done")
"""


def test_the_attack_needs_jax_numpy_and_jaxopt_alone(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    core = {*requirements(PROJECT["dependencies"])}
    modules = {"flax", "optax", "orbax", "pooch", "requests", "safetensors", "PIL", "sklearn",
               "tensorflow_datasets", "matplotlib", "absl", "ml_collections",
               "pydantic"}  # fmt: skip
    assert not core & modules
    script = CORE.replace("{missing}", repr(modules))
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=tmp_path,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0 and done.stdout == "done\n", done.stderr


def test_the_command_runs_from_the_wheel(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    script = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); import intriguing.__main__ as m; m.main()"
    )
    base = [sys.executable, "-c", script, str(tmp_path / "installed")]
    done = subprocess.run(base, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "configs/digits.py" in done.stdout, done.stderr
    done = subprocess.run([*base, "--config=configs/digits.py", "--config.sed=3"], cwd=tmp_path,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 2 and "did you mean seed?" in done.stderr
