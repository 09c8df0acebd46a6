"""docs/: every block of every page runs, in its order, and what it asserts holds."""

import re
from pathlib import Path

import jax
import pytest

DOCS = Path(__file__).resolve().parent
PAGES = [
    page
    for page in sorted(DOCS.rglob("*.md"))
    if "_build" not in page.parts and "```python" in page.read_text()
]
NEEDED = {"howto/models.md": ["flax", "equinox", "haiku", "sklearn", "torch"]}


def name_of(page: Path) -> str:
    return page.relative_to(DOCS).as_posix()


def test_all_pages_are_found():
    names = set(map(name_of, PAGES))
    how_to = {f"howto/{name}.md" for name in ("models", "inputs", "goals", "scale", "results")}
    assert names == how_to | {"index.md"}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_runs(page):
    for library in NEEDED.get(name_of(page), []):
        pytest.importorskip(library)
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert len(blocks) == len(re.findall("^```python", text, re.MULTILINE))
    names = {}
    with jax.numpy_rank_promotion("allow"):  # as it is for users
        for number, block in enumerate(blocks):
            exec(compile(block, f"{name_of(page)}, block {number}", "exec"), names)
    assert names["labels"].shape == names["images"].shape[:1]
