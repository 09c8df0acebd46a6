"""Claims about float32, bit by bit, once more as users compile: with all of XLA's optimisations.

The other tests turn most of them off (conftest.py): compiled so, sums are ordered otherwise.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parent.parent
CLAIMS = (
    "tests/attack/minimal_test.py::test_success_means_that_a_fresh_pass_says_target",
    "tests/attack/minimal_test.py::test_result_lies_in_the_box",
    "tests/attack/minimal_test.py::test_same_arguments_same_results_bitwise",
    "tests/attack/minimal_test.py::test_results_do_not_depend_on_the_batch",
    "tests/attack/minimal_test.py::test_refined_it_is_the_exact_minimum",
    "tests/attack/engine_test.py::test_lanes_do_not_matter",
    "tests/attack/engine_test.py::test_stepping_in_python_changes_nothing",
    "tests/training/classifiers_test.py::test_resumed_is_uninterrupted_bitwise",
)


def test_float32_claims_as_users_compile(tmp_path):
    env = {**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "0", "XLA_FLAGS": "",
           "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "xla")}  # fmt: skip
    env = {name: value for name, value in env.items() if not name.startswith("PYTEST_")}
    # The stock solver, which is slow to compile, is not ours.
    options = ("-p", "no:xdist", "-p", "no:cacheprovider", "-k", "not jaxopt")
    command = [sys.executable, "-m", "pytest", *options, *CLAIMS]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "skipped" not in done.stdout
