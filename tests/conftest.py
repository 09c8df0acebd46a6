"""For all tests: where something must be there, a test that was skipped for want of it fails.

`.ci/run` sets INTRIGUING_DATA_REQUIRED=1; such a skip says "INTRIGUING_DATA" in its reason, and the
same of INTRIGUING_BROWSER. And arrays of different ranks do not add up unless somebody wrote the
axes.

Most of the time of small problems is XLA's: it compiles quickly here, and keeps what it compiled
for the next run, for the processes that tests start, and for other functions that are the same
program. `optimised_test.py` runs what is claimed bit by bit as users compile it.
"""

import io
import logging
import os
from importlib import metadata
from pathlib import Path

import pytest
from chromium import browser

__all__ = ["browser"]  # a fixture
SETTINGS = {
    "JAX_NUMPY_RANK_PROMOTION": "raise",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "JAX_COMPILATION_CACHE_DIR": str(Path(__file__).parents[1] / ".pytest_cache" / "xla"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
}
if metadata.version("jaxlib").startswith("0.10."):  # another XLA may not know it, and would stop
    # Small programs compile in half the time: measured with tests/solver, 30 s to 17 s.
    SETTINGS["XLA_FLAGS"] = "--xla_cpu_use_fusion_emitters=false"
for name, value in SETTINGS.items():  # before anybody imports jax
    os.environ.setdefault(name, value)
SLOW_FILES = (
    *("optimised_test.py", "experiments_test.py", "batched_lbfgsb_test.py", "explore_test.py"),
    *("typed_test.py", "rica_test.py", "targeted_test.py", "adversarial_test.py", "cars_test.py"),
)
REQUIRED = [
    name
    for name in ("INTRIGUING_DATA", "INTRIGUING_BROWSER")
    if os.environ.get(f"{name}_REQUIRED") == "1"
]


def _missed(terminal) -> list[str]:
    return [
        f"{report.nodeid}: {report.longrepr[2]}"
        for report in terminal.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple)
        and any(name in report.longrepr[2] for name in REQUIRED)
    ]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    # Under pytest-xdist the workers have no terminal: only the controller judges, with all reports.
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    passed = session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    if passed and terminal is not None and _missed(terminal):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    if missed := _missed(terminalreporter):
        terminalreporter.section(
            f"{', '.join(REQUIRED)} required, but these were skipped", red=True
        )
        for line in missed:
            terminalreporter.line(f"FAILED {line}", red=True)


def pytest_collection_modifyitems(items):
    """Files that take minutes come first: with two workers the last one would run alone.

    What is marked `slow` runs where INTRIGUING_SLOW=1, as `.ci/run` has it.
    """
    items.sort(key=lambda item: item.path.name not in SLOW_FILES)
    if os.environ.get("INTRIGUING_SLOW") != "1":
        why = pytest.mark.skip(reason="slow: INTRIGUING_SLOW=1 runs it, as .ci/run does")
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(why)


@pytest.fixture
def said():
    """What the package logs, as a file that grows."""
    heard, logger = io.StringIO(), logging.getLogger("intriguing")
    handler, level = logging.StreamHandler(heard), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield heard
    logger.removeHandler(handler)
    logger.setLevel(level)
