"""Tests for intriguing/sealed.py"""

import json

import numpy as np
import pytest

from intriguing import sealed
from intriguing.errors import InputError


def test_order_is_kept_and_nan_is_null(tmp_path):
    path = tmp_path / "deep" / "summary.json"
    content = {
        "z": np.float64("nan"), "a": {"y": [1, float("inf")], "b": np.arange(2)}, "n": (True,),
    }  # fmt: skip
    sealed.write(path, content)
    text = path.read_text()
    assert text.startswith('{\n "z": null,\n "a": {')
    json.loads(text, parse_constant=pytest.fail)
    assert sealed.read(path) == {"z": None, "a": {"y": [1, None], "b": [0, 1]}, "n": [True]}


def test_no_flipped_bit_changes_what_is_read(tmp_path):
    path, content = tmp_path / "config.json", {"seed": 10, "é": [0.5, "x"], "deep": {"a": None}}
    sealed.write(path, content)
    data, num_refused = path.read_bytes(), 0
    for i in range(len(data)):
        for bit in range(8):
            path.write_bytes(data[:i] + bytes([data[i] ^ 1 << bit]) + data[i + 1 :])
            try:
                assert sealed.read(path) == content  # of white space
            except InputError as error:
                num_refused += 1
                assert str(error).startswith(f"{path} is damaged") and "\n" not in str(error)
    assert num_refused > 6 * len(data)


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff", b"[" * 100_000, b'{"a": 1}'])
def test_what_is_not_sealed_is_refused(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is damaged") as caught:
        sealed.read(path)
    assert "\n" not in str(caught.value)
    assert sealed.read_line(content.decode(errors="replace")) is None


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        sealed.read(tmp_path / "gone.json")
    with pytest.raises(InputError, match="cannot read"):
        sealed.read(tmp_path)
