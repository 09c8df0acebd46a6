"""The rooms of the house and the doors between them, read from the import lines."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "intriguing"
EDGES = {  # room -> the rooms it imports; BUILD.md shows this table as a drawing
    "errors": "",
    "progress": "",
    "processes": "errors progress",
    "identity": "processes",
    "keys": "",
    "metrics": "",
    "interrupts": "",
    "terminal": "",
    "atomic": "errors interrupts",
    "sealed": "errors atomic",
    "archive": "errors atomic",
    "fetch": "errors progress atomic",
    "sharding": "errors progress",
    "compiling": "sharding",
    "predict": "errors progress processes sharding compiling",
    "torch": "errors",
    "solver": "",
    "models": "errors atomic archive fetch",
    "data": "archive fetch errors progress identity",
    "attack": "errors progress keys metrics predict atomic archive sharding compiling solver",
    "training": (
        "errors progress identity keys predict interrupts processes atomic sealed archive sharding "
        "compiling models data attack"
    ),
    "runs": "errors progress identity processes atomic sealed archive",
    "analysis": "errors metrics predict models",
    "plots": "errors attack",
    "report": "errors atomic sealed",
    "experiments": (
        "errors progress identity metrics predict processes atomic sealed fetch sharding models "
        "data attack training runs analysis report"
    ),
    "__main__": "",  # the command `intriguing`: it runs launch.py
}
ONLY_IN = {  # library -> the one place that knows it
    "jaxopt": {"solver.box_lbfgs"},
    "tensorflow_datasets": {"data.tfds"},
    "orbax": {"training.checkpoint"},
    "matplotlib": {"plots", "report.figures", "report.charts"},
    "safetensors": {"models.import_weights"},
    "torch": {"torch"},
}


def module_name(path: Path) -> str:
    """intriguing/models/__init__.py -> "models"."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(path: Path) -> set[str]:
    """Full names of all that a file imports, wherever in the file: "jax.numpy", "intriguing.data".

    Of `from x import y` it is both x and x.y; only the latter if we know that to be a module.
    """
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write `from intriguing...` in full"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                ours = full.removeprefix("intriguing.") in MODULES
                names |= {full} if ours else {node.module, full}
    return names


def own_imports(path: Path) -> set[str]:
    """Modules of the package that a file imports: "data", "models.autoencoder"."""
    names = {name for name in imports(path) if name.split(".")[0] == "intriguing"}
    return {name.partition(".")[2] for name in names} & set(MODULES)


def room(module: str) -> str:
    """The module, or the folder that holds it: "models.autoencoder" -> "models"."""
    return module.split(".")[0]


def edges() -> dict[str, set[str]]:
    """The rooms that each room imports. `intriguing/__init__.py` names them all, lazily."""
    found = {room(module): set() for module in MODULES if module}
    for module, path in MODULES.items():
        for imported in own_imports(path):
            if module:
                found[room(module)] |= {room(imported)} - {room(module)}
    return found


@pytest.mark.parametrize("name", sorted({room(module) for module in MODULES if module} | {*EDGES}))
def test_a_room_imports_what_the_table_says(name):
    found = edges()
    assert name in EDGES and name in found, f"tests/imports_test.py: EDGES has no true row {name!r}"
    assert found[name] == set(EDGES[name].split()), (
        f"intriguing/{name}: either move what it shares with another room further down, pass it in "
        "as an argument, or say in EDGES why the house needs this door"
    )


def test_the_table_has_floors():
    order = list(EDGES)
    for name, below in EDGES.items():
        assert all(order.index(other) < order.index(name) for other in below.split()), name


def test_the_package_imports_lazily():
    heavy = ("flax", "jax", "matplotlib", "numpy", "optax", "orbax", "tensorflow_datasets")
    script = (
        "import sys, intriguing\n"
        f"print([name for name in {heavy} if name in sys.modules])\n"
        "from intriguing import analysis, attack, data, models, report, runs, solver, training\n"
        "print([name for name in ('matplotlib', 'tensorflow_datasets') if name in sys.modules])\n"
        "from jax._src import xla_bridge\n"
        "print(xla_bridge.backends_are_initialized())\n"
        "assert all(getattr(intriguing, name) for name in intriguing.__all__)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], cwd=ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[]", "[]", "False"], done.stdout + done.stderr


def test_no_cycles():
    graph = {module: own_imports(path) - {module} for module, path in MODULES.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"these import each other: {' <- '.join(error.args[1])}")


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_that_one_module_knows(library):
    users = {
        module
        for module, path in MODULES.items()
        if any(name.split(".")[0] == library for name in imports(path))
    }
    assert users == ONLY_IN[library]


def test_only_sharding_speaks_of_shard_map():
    def speaks(path: Path) -> bool:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            words = {getattr(node, field, None) for field in ("id", "attr", "name", "module")}
            if any(isinstance(word, str) and "shard_map" in word for word in words):
                return True
        return False

    assert {module for module, path in MODULES.items() if speaks(path)} == {"sharding"}


def test_no_config_below_experiments_and_no_flags_below_launch():
    for module, path in MODULES.items():
        names = imports(path)
        if room(module) != "experiments":
            assert not any(name.startswith("ml_collections") for name in names), module
        assert not names & {"absl.flags", "absl.app"}, module
        assert not any(name.startswith(("configs", "launch")) for name in names), module


def test_the_doors_import_what_they_may():
    assert own_imports(ROOT / "launch.py") <= {
        "errors",
        "experiments",
        "interrupts",
        "processes",
        "terminal",
    }
    for path in (ROOT / "configs").glob("*.py"):
        names = imports(path)
        found = own_imports(path) - {"experiments.settings", "experiments.specs"}
        assert not found, f"{path}: a config is plain data"
        assert not names & {"absl.flags", "absl.app", "jax", "numpy"}, path


def test_functions_stay_short_and_take_few_arguments():
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef):
                continue
            given = node.args
            num = len(given.posonlyargs) + len(given.args) + len(given.kwonlyargs)
            assert num <= 8, f"{module}.{node.name} has {num} arguments: a record is missing"
            num_lines = node.end_lineno - node.lineno + 1
            assert num_lines <= 60, f"{module}.{node.name} has {num_lines} lines: split it"


def test_files_stay_short():
    for path in (*MODULES.values(), *(ROOT / "configs").glob("*.py")):
        num_lines = len(path.read_text(encoding="utf-8").splitlines())
        assert num_lines <= 300, f"{path} has {num_lines} lines: split it"
    assert len((ROOT / "launch.py").read_text(encoding="utf-8").splitlines()) <= 85
