"""What every fault test shares: how much of it is done, and what was tried and survived.

`make faults` sets INTRIGUING_FAULTS=all; the other tests do a share of it.
"""

import collections
import fcntl
import json
from pathlib import Path

import programs
import pytest
from amount import ALL

TALLY = Path(__file__).parents[2] / "build" / "faults.jsonl"


@pytest.fixture
def tally(request):
    """`tally(survived)` counts a case of this test's kind: the first line of its docstring."""
    kind, counts = request.function.__doc__.split("\n")[0].rstrip("."), collections.Counter()

    def count(survived: bool, num: int = 1) -> None:
        counts["tried"] += num
        counts["survived"] += num * bool(survived)

    yield count
    TALLY.parent.mkdir(exist_ok=True)
    with open(TALLY, "a") as file:  # tests run in several processes
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(json.dumps({"kind": kind, **counts}) + "\n")


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory) -> dict:
    """What the small run finds when nobody disturbs it."""
    workdir = tmp_path_factory.mktemp("undisturbed") / "run"
    status, output = programs.run(workdir)
    assert status == 0, output
    return programs.numbers(workdir)


def pytest_sessionstart(session):
    if not hasattr(session.config, "workerinput"):
        TALLY.unlink(missing_ok=True)


def pytest_terminal_summary(terminalreporter):
    """Prints the table that RELIABILITY.md holds."""
    if not ALL or not TALLY.exists():
        return
    tried, survived = collections.Counter(), collections.Counter()
    for line in map(json.loads, TALLY.read_text().splitlines()):
        tried[line["kind"]] += line.get("tried", 0)
        survived[line["kind"]] += line.get("survived", 0)
    lines = ["| what was done | tried | survived |", "|---|---:|---:|"]
    lines += [f"| {kind} | {num:,} | {survived[kind]:,} |" for kind, num in sorted(tried.items())]
    lines.append(f"| all | {sum(tried.values()):,} | {sum(survived.values()):,} |")
    terminalreporter.write_line("\n" + "\n".join(lines))
