"""PyTorch's files of tensors, read without PyTorch and without running what they hold.

A state dict is a pickle that names, for each tensor, a storage, a shape and strides; the numbers
lie beside it. Of the pickle only that much is understood: any other name in it is refused. Both
forms are read: the zip archive of today, and the one before PyTorch 1.6, in which torchvision's
older files still are.
"""

import collections
import io
import math
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
MAX_HEADER = 2**26  # bytes of a pickle without its numbers
STORAGES = {
    "DoubleStorage": np.float64, "FloatStorage": np.float32, "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16, "LongStorage": np.int64, "IntStorage": np.int32,
    "ShortStorage": np.int16, "CharStorage": np.int8, "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}  # fmt: skip


class Storage(NamedTuple):
    """Numbers that tensors share: their key in the file, dtype, and how many they are."""

    key: str
    dtype: type
    size: int


class _Tensor(NamedTuple):
    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _tensor(storage, offset, shape, strides, *_) -> _Tensor:
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


KNOWN = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
}


class _Unpickler(pickle.Unpickler):
    """Understands a state dict, and nothing else; `storages` are those it named, by key."""

    def __init__(self, file: BinaryIO):
        super().__init__(file)
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in KNOWN:
            return KNOWN[module, name]
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        raise pickle.UnpicklingError(f"it names {module}.{name}: no state dict of tensors")

    def persistent_load(self, saved_id: tuple) -> Storage:
        if saved_id[0] != "storage" or saved_id[1] not in STORAGES.values():
            raise pickle.UnpicklingError(f"it names storage {saved_id!r:.80}")
        storage = Storage(str(saved_id[2]), saved_id[1], int(saved_id[4]))
        return self.storages.setdefault(storage.key, storage)


def read(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict, by name; one below "state_dict" is found, too.

    Raises:
      ValueError, OSError, pickle.UnpicklingError: the file is damaged, or no state dict.
    """
    try:
        if zipfile.is_zipfile(path):
            return _arrays(*_read_zip(path))
        with path.open("rb") as file:
            return _arrays(*_read_old(file, path.stat().st_size))
    except (OSError, ValueError, pickle.UnpicklingError, zipfile.BadZipFile):
        raise
    except Exception as error:  # damaged pickles and archives end in almost any of them
        raise ValueError(f"no file of PyTorch's tensors ({type(error).__name__})") from error


def _arrays(found: Any, numbers: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict) or not any(isinstance(t, _Tensor) for t in found.values()):
        raise ValueError("no state dict of tensors")
    return {
        str(name): _array(tensor, numbers)
        for name, tensor in found.items()
        if isinstance(tensor, _Tensor)
    }


def _read_zip(path: Path) -> tuple[Any, dict[str, np.ndarray]]:
    num_bytes = path.stat().st_size  # PyTorch stores, and compresses nothing
    with zipfile.ZipFile(path) as archive:
        (member,) = (name for name in archive.namelist() if name.split("/", 1)[-1] == "data.pkl")
        if archive.getinfo(member).file_size > MAX_HEADER:
            raise ValueError("its list of tensors is larger than any network's")
        root = member.removesuffix("data.pkl")
        there, order = set(archive.namelist()), f"{root}byteorder"
        if order in there and archive.open(order).read(8) != b"little":
            raise ValueError("its numbers are big-endian: save them on another machine")
        unpickler = _Unpickler(io.BytesIO(archive.read(member)))
        found, numbers = unpickler.load(), {}
        for key, storage in unpickler.storages.items():
            name = f"{root}data/{key}"
            wanted = storage.size * np.dtype(storage.dtype).itemsize
            if name not in there or not archive.getinfo(name).file_size == wanted <= num_bytes:
                raise ValueError(f"{name} is missing or cut off")
            numbers[key] = np.frombuffer(archive.read(name), storage.dtype)
    return found, numbers


def _read_old(file: BinaryIO, num_bytes: int) -> tuple[Any, dict[str, np.ndarray]]:
    """Three pickles of headers, one of the tensors, one of the storages' keys, then each one."""
    magic, _, system = (_Unpickler(file).load() for _ in range(3))
    if magic != MAGIC or not system.get("little_endian", True):
        raise ValueError("no file of PyTorch's tensors")
    unpickler = _Unpickler(file)
    found, numbers = unpickler.load(), {}
    for key in _Unpickler(file).load():
        storage = unpickler.storages[key]
        (size,) = struct.unpack("<q", file.read(8))
        length = size * np.dtype(storage.dtype).itemsize
        if size != storage.size or not 0 <= length <= num_bytes:
            raise ValueError(f"storage {key} has another size than was promised")
        numbers[key] = np.frombuffer(file.read(length), storage.dtype)
        if len(numbers[key]) != size:
            raise ValueError("it is cut off")
    return found, numbers


def _array(tensor: _Tensor, numbers: dict[str, np.ndarray]) -> np.ndarray:
    flat, (_, offset, shape, strides) = numbers[tensor.storage.key], tensor
    if len(shape) != len(strides) or min((offset, *shape, *strides), default=0) < 0:
        raise ValueError("a tensor has a shape that cannot be")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if math.prod(shape) and (last >= len(flat) or math.prod(shape) > len(flat)):
        raise ValueError("a tensor lies outside its numbers")
    if not math.prod(shape):
        return np.zeros(shape, flat.dtype)
    steps = tuple(stride * flat.itemsize for stride in strides)
    return np.lib.stride_tricks.as_strided(flat[offset:], shape, steps, writeable=False).copy()
