"""The layers of the house, read from the import lines: imports go down only."""

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "intriguing"
LAYERS = (
    {  # 0: may import others of layer 0, without a cycle
        *("errors", "progress", "data", "data_files", "data_tfds", "models", "lbfgs_step"),
        *("box_lbfgs", "metrics", "sharding", "checkpoint", "results", "report", "report_html"),
        *("figures", "predict", "penalty_search", "targets", "train_loop"),
        *("results_page", "charts", "operator_norms", "data_stream", "shards", "stream_loop"),
        *(
            "objective",
            "engine",
            "lanes",
            "stock_search",
            "search",
            "refine",
            "attack_inputs",
        ),  # parts of the attack
    },
    {
        *("train", "attack", "transfer", "units", "lipschitz", "import_weights", "eight_bit"),
        *("train_stream", "rica", "logistic"),
    },
    {"adversarial_training"},
    {"experiments", ""},  # "" is intriguing/__init__.py, should there be one
)
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}
ONLY_IN = {  # library -> the one place that knows it
    "jaxopt": {"box_lbfgs"},
    "tensorflow_datasets": {"data_tfds"},
    "orbax": {"checkpoint"},
    "matplotlib": {"figures", "charts"},
    "safetensors": {"import_weights"},
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


def test_every_module_has_a_layer():
    missing = {room(module) for module in MODULES} - set(LAYER)
    assert not missing, f"place {sorted(missing)} in LAYERS of tests/imports_test.py (DESIGN.md)"


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down_only(module):
    here = LAYER.get(room(module))
    for imported in own_imports(MODULES[module]):
        there = LAYER.get(room(imported))
        if None in (here, there) or room(module) == room(imported):
            continue  # the first is for the test above
        assert there < here or here == there == 0, (
            f"intriguing/{module} (layer {here}) imports {imported} (layer {there}): move what "
            "they share further down, or pass it in as an argument"
        )


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
    assert own_imports(ROOT / "launch.py") <= {"errors", "experiments", "progress"}
    for path in (ROOT / "configs").glob("*.py"):
        names = imports(path)
        assert not own_imports(path), f"{path}: a config is plain data"
        assert not names & {"absl.flags", "absl.app", "jax", "numpy"}, path


def test_files_stay_short():
    for path in (*MODULES.values(), *(ROOT / "configs").glob("*.py")):
        num_lines = len(path.read_text(encoding="utf-8").splitlines())
        assert num_lines <= 320, f"{path} has {num_lines} lines: split it (about 300 at most)"
    assert len((ROOT / "launch.py").read_text(encoding="utf-8").splitlines()) <= 80
