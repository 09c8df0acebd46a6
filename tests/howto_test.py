"""docs/howto.md: every block runs, in its order, and what it asserts holds."""

import re
from pathlib import Path

import jax

TEXT = (Path(__file__).resolve().parent.parent / "docs" / "howto.md").read_text(encoding="utf-8")


def test_every_block_runs():
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) == TEXT.count("```") // 2  # there are no others
    names = {}
    with jax.numpy_rank_promotion("allow"):  # as it is for users
        for number, block in enumerate(blocks):
            exec(compile(block, f"docs/howto.md, block {number}", "exec"), names)
    assert {"nearest", "inside", "raised", "curve", "moved"} <= names.keys()
    assert (names["inside"].l2_norm >= names["nearest"].l2_norm * 0.999).all()
