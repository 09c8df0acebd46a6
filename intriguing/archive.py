"""Arrays in a file that says what is in it: each array's checksum is verified when it is read.

An npz file, as `numpy.load` reads it, with one more member: the manifest, which lists the arrays
with their types, shapes and checksums, and what the writer says about them. Nothing is unpickled,
and no memory is taken that the file itself has no bytes for.
"""

import hashlib
import io
import json
import math
import mmap
import os
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from intriguing.atomic import io_error, write_atomic
from intriguing.errors import first_line

MANIFEST = "manifest"
_LOCAL_HEADER = 30  # bytes of a zip member's header before its name
_MOST_MANIFEST = 2**26  # bytes of it: a name, type and sum for each array


class Damaged(ValueError):
    """The file is not what was written: the message says in what."""


class Archive(NamedTuple):
    """Fields:
    arrays: by name, read-only, mapped into memory.
    about: what the writer said of them.
    seal: hash of the manifest, and so of all that the file holds.
    """

    arrays: dict[str, np.ndarray]
    about: dict[str, Any]
    seal: str


def write(path: str | os.PathLike, arrays: Mapping[str, Any], about: Mapping = {}) -> str:
    """Writes named arrays, whole or not at all; returns the file's seal.

    Args:
      path: by custom it ends in .npz.
      arrays: of numbers, booleans or strings; none is called "manifest".
      about: what JSON can hold.

    Raises:
      InputError: as `write_atomic`.
      ValueError: an array of Python objects.
    """
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    if MANIFEST in arrays:
        raise ValueError(f"an array cannot be called {MANIFEST}")
    listed = {
        name: {"dtype": array.dtype.str, "shape": list(array.shape), "sum": _sum(array)}
        for name, array in arrays.items()
    }
    text = json.dumps({"arrays": listed, "about": dict(about)})
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays, **{MANIFEST: np.array(text)})
    write_atomic(path, buffer.getbuffer())
    return _hash(text.encode())


def read(path: str | os.PathLike, names: Collection[str] | None = None) -> Archive:
    """Reads what `write` has written, and verifies it.

    The file stays open as long as an array of it is in use.

    Args:
      path: of the file.
      names: of the arrays that are wanted; default: all of them; what there is not is not given.

    Raises:
      FileNotFoundError: there is no such file.
      Damaged: not what was written, or written by something else.
      InputError: it cannot be read (permission).
    """
    path = Path(path)
    try:
        file = open(path, "rb")  # noqa: SIM115 (below, where other errors are caught)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise io_error("read", path, error) from error
    with file:
        try:
            return _read(file, names)
        except Exception as error:  # a damaged archive ends in almost any of them
            raise error if isinstance(error, Damaged) else Damaged(first_line(error)) from error


def read_npz(path: str | os.PathLike, names: Collection[str] | None = None) -> dict:
    """Arrays of an npz file that anybody may have written, copied; compressed ones, too.

    Sizes are what the file can hold: a header that promises more is refused before memory is taken.

    Args:
      path: of the file.
      names: of the arrays that are wanted; default: all of them; what there is not is not given.

    Raises:
      FileNotFoundError: there is no such file.
      Damaged: no npz file, or one whose sizes, types or checksums are not what they should be.
      InputError: it cannot be read (permission).
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            content = file.read(4)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise io_error("read", path, error) from error
    if content[:2] != b"PK":
        raise Damaged("it is no npz file")
    try:
        with zipfile.ZipFile(path) as archive:
            infos = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            wanted = [name for name in infos if names is None or name in names]
            if sum(infos[name].file_size for name in wanted) > most_bytes(size):
                raise Damaged(f"its arrays are said to have more than {most_bytes(size):,} bytes")
            return {name: _foreign_array(archive, infos[name], name) for name in wanted}
    except Exception as error:  # a damaged archive ends in almost any of them
        raise error if isinstance(error, Damaged) else Damaged(first_line(error)) from error


def most_bytes(num_packed: int) -> int:
    """The bytes that a compressed file of so many is unpacked to at most: images take fewer."""
    return max(2**28, 100 * num_packed)


def _foreign_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> np.ndarray:
    with archive.open(info) as member:
        shape, is_fortran, dtype = _header(member)
        num = math.prod(shape)
        if dtype.hasobject or min(shape, default=0) < 0:
            raise Damaged(f"{name} holds Python objects")
        if num * dtype.itemsize != info.file_size - member.tell():
            raise Damaged(f"{name} is {shape}, which is not what follows")
        flat = np.frombuffer(member.read(), dtype, num)
    return flat.reshape(shape, order="F" if is_fortran else "C").copy()


def _header(member: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """(shape, whether columns come first, type) of an array's file."""
    version = np.lib.format.read_magic(member)
    read = {(1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0}[version]  # fmt: skip
    return read(member)


def _read(file: BinaryIO, names: Collection[str] | None) -> Archive:
    whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # ValueError if it is empty
    with zipfile.ZipFile(file) as archive:
        infos = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        if MANIFEST not in infos:
            raise Damaged("it does not say what it holds")
        if infos[MANIFEST].file_size > min(len(whole), _MOST_MANIFEST):
            raise Damaged("its manifest is larger than a manifest can be")
        text = str(np.lib.format.read_array(io.BytesIO(archive.read(infos[MANIFEST]))))
        manifest = json.loads(text)
        arrays = {
            name: _array(whole, archive, infos.get(name), name, told)
            for name, told in manifest["arrays"].items()
            if names is None or name in names
        }
    return Archive(arrays, manifest["about"], _hash(text.encode()))


def _array(whole, archive, info, name: str, told: dict) -> np.ndarray:
    """One array, mapped, if it is the one that the manifest tells of."""
    if info is None:
        raise Damaged(f"{name} is missing")
    with archive.open(info) as member:
        shape, is_fortran, dtype = _header(member)
        start = member.tell()
    if dtype.hasobject or [dtype.str, list(shape)] != [told["dtype"], told["shape"]]:
        raise Damaged(f"{name} has another type or shape than it was written with")
    at = info.header_offset + _LOCAL_HEADER + start
    for place in (info.header_offset + 26, info.header_offset + 28):  # of its name, and extras
        at += int.from_bytes(whole[place : place + 2], "little")
    num = math.prod(shape)
    if num * dtype.itemsize == 0:
        array = np.zeros(shape, dtype)
    else:
        flat = np.frombuffer(whole, dtype, num, at)  # ValueError beyond the end of the file
        array = flat.reshape(shape, order="F" if is_fortran else "C")
    if _sum(array) != told["sum"]:
        raise Damaged(f"bad checksum of {name}")
    return array


def _sum(array: np.ndarray) -> str:
    """Of the numbers, in the order in which they are stored."""
    is_fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    stored = np.ascontiguousarray(array.T if is_fortran else array)
    return _hash(stored.reshape(-1).view(np.uint8) if stored.nbytes else b"")


def _hash(data) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
