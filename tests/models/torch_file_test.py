"""Tests for intriguing/models/torch_file.py, against PyTorch's own reader where there is one."""

import collections
import io
import pickle
import zipfile

import numpy as np
import pytest

from intriguing.models import torch_file

torch = pytest.importorskip("torch")
FORMS = [True, False]  # the zip archive, and the form before PyTorch 1.6


def state_dict():
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(6, 8, generator=generator)
    return collections.OrderedDict(
        weight=base, transposed=base.T, part=base[2:4, 1::2], bias=torch.arange(5.0).half(),
        b=torch.ones(3, dtype=torch.bfloat16) / 3, count=torch.tensor(7), empty=torch.zeros(0, 3),
        parameter=torch.nn.Parameter(torch.ones(2)),
    )  # fmt: skip


@pytest.fixture(scope="module", params=FORMS)
def path(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("torch") / "net.pth"
    torch.save(state_dict(), path, _use_new_zipfile_serialization=request.param)
    return path


def test_reads_what_pytorch_reads(path):
    found, expected = torch_file.read(path), torch.load(path, weights_only=True)
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].shape == tuple(tensor.shape)
        np.testing.assert_array_equal(found[name].astype(np.float64), tensor.double().detach())


def test_a_state_dict_below_its_name(tmp_path):
    torch.save({"state_dict": state_dict(), "epoch": 3}, tmp_path / "net.pth")
    assert "weight" in torch_file.read(tmp_path / "net.pth")


class Evil:
    """What a pickle may run when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("zipped", FORMS)
def test_nothing_is_run(tmp_path, zipped):
    path, mark = tmp_path / "net.pth", tmp_path / "ran"
    torch.save({"weight": Evil(mark)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(pickle.UnpicklingError, match="no state dict"):
        torch_file.read(path)
    assert not mark.exists()


def test_every_cut_and_many_flips_are_a_value_or_an_error(path, tmp_path):
    content, rng = path.read_bytes(), np.random.default_rng(0)
    damaged = [content[:stop] for stop in range(0, len(content), max(1, len(content) // 60))]
    for place in rng.integers(0, len(content), 150):
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(rng.integers(8))
        damaged.append(bytes(flipped))
    for each in damaged:
        (tmp_path / "damaged.pth").write_bytes(each)
        try:
            found = torch_file.read(tmp_path / "damaged.pth")
        except (ValueError, OSError, pickle.UnpicklingError, zipfile.BadZipFile):
            continue
        assert sum(array.nbytes for array in found.values()) < 10_000


def test_a_shape_that_asks_for_more_than_is_there(tmp_path):
    """Strides of 0 would make a terabyte of one number."""
    huge = torch.ones(1).expand(10**6, 10**6)
    buffer = io.BytesIO()
    torch.save({"weight": huge}, buffer)
    (tmp_path / "net.pth").write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match="outside its numbers"):
        torch_file.read(tmp_path / "net.pth")
