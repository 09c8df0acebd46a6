"""Pretrained weights: python -m intriguing.models.import_weights ARCHITECTURE FILE OUT.safetensors

Reads a torchvision state dict (.pth, which needs PyTorch, or .safetensors) or a Caffe-style .npz
with arrays `<layer>/weight` and `<layer>/bias`, checks every name and shape, and writes one file in
our names and layout. Configs name either by its path in `model.weights`.
"""

import math
import pickle
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from intriguing import atomic, models
from intriguing.errors import InputError, first_line
from intriguing.models.layer_graph import LayerGraph
from intriguing.models.layers import CAFFE, TORCH, WITH_WEIGHTS

USAGE = (
    f"python -m intriguing.models.import_weights {'|'.join(models.IMAGENET)} FILE OUT.safetensors"
)
MAX_NAMED = 3  # tensors that an error message names
CAFFE_LRN = {"alpha": 2e-5, "k": 1.0}  # of bvlc_alexnet; the paper of 2012 has others
# torchvision's names of our layers, less "features." in front
_FIRES = dict(zip((3, 4, 6, 7, 9, 10, 11, 12), range(2, 10), strict=True))
TORCHVISION = {
    "alexnet_single_tower": {
        **{f"features.{i}": f"conv{n}" for n, i in enumerate((0, 3, 6, 8, 10), start=1)},
        **{f"classifier.{i}": f"fc{n}" for n, i in enumerate((1, 4, 6), start=6)},
    },
    "squeezenet": {
        "features.0": "conv1",
        **{f"features.{i}.{part}": f"fire{n}_{ours}" for i, n in _FIRES.items() for part, ours in
           (("squeeze", "squeeze1x1"), ("expand1x1",) * 2, ("expand3x3",) * 2)},
        "classifier.1": "conv10",
    },
}  # fmt: skip


class Weights(NamedTuple):
    """A network with its parameters.

    Fields: `model`; `params`, {layer: {"kernel", "bias"}} of numpy arrays; `image_size`, the side
    of the images it is for; `origin`, "caffe" or "torchvision".
    """

    model: LayerGraph
    params: dict[str, dict[str, np.ndarray]]
    image_size: int
    origin: str


def load(path: str | Path, architecture: str) -> Weights:
    """Reads weights in any of the formats, for one of `models.IMAGENET`.

    The number of classes is that of the file.

    Raises:
      InputError: no such file, an unknown format, or tensors that are missing, left over or of
        another shape: says which.
    """
    if architecture not in models.IMAGENET:
        known = ", ".join(models.IMAGENET)
        raise InputError(f'"{architecture}" is no architecture: it must be one of {known}')
    path = Path(path).expanduser()
    if not path.is_file():
        raise InputError(f"{path}: no such file of weights")
    tensors, metadata = _read(path)
    if metadata.get("architecture", architecture) != architecture:
        raise InputError(f"{path}: weights of {metadata['architecture']}, not of {architecture}")
    origin = metadata.get("origin", "caffe" if path.suffix == ".npz" else "torchvision")
    if "architecture" not in metadata:
        tensors = {_our_name(name, architecture): array for name, array in tensors.items()}
    build, image_size = models.IMAGENET[architecture]
    options = {"normalise": CAFFE if origin == "caffe" else TORCH}
    if (architecture, origin) == ("alexnet", "caffe"):
        options |= CAFFE_LRN
    top = [name for name, layer, _ in build().nodes if isinstance(layer, WITH_WEIGHTS)][-1]
    if f"{top}/bias" in tensors:
        options["num_classes"] = tensors[f"{top}/bias"].size
    model = build(**options)
    params = _check(tensors, model, image_size, path, transpose="architecture" not in metadata)
    return Weights(model, params, image_size, origin)


def save(path: str | Path, architecture: str, weights: Weights) -> None:
    """Writes one .safetensors file that `load` reads. Raises InputError if it cannot be written."""
    tensors = {
        f"{layer}/{name}": np.ascontiguousarray(array)
        for layer, arrays in weights.params.items()
        for name, array in arrays.items()
    }
    metadata = {"architecture": architecture, "origin": weights.origin}
    atomic.write_atomic(path, safetensors.numpy.save(tensors, metadata))


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """(tensors by their names in the file, metadata)."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "np") as file:
                return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
        if path.suffix == ".npz":
            with np.load(path) as archive:
                return dict(archive), {}
        if path.suffix in (".pth", ".pt"):
            return _read_torch(path), {}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, SafetensorError) as error:
        raise InputError(f"{path}: unreadable ({first_line(error)}): fetch it again") from error
    raise InputError(f"{path}: weights are .safetensors, .pth or .npz files")


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError as error:
        raise InputError(
            f"{path}: reading .pth needs PyTorch: pip install torch, or save the state dict as"
            " .safetensors"
        ) from error
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise InputError(f"{path}: not a state dict ({first_line(error)})") from error
    if not isinstance(tensors, dict) or not all(hasattr(t, "numpy") for t in tensors.values()):
        raise InputError(f"{path}: not a state dict of tensors")
    return {name: tensor.float().numpy() for name, tensor in tensors.items()}


def _our_name(name: str, architecture: str) -> str:
    """ "features.0.weight" or "conv1/weight" -> "conv1/kernel"; others stay, to be named."""
    layer, separator, kind = name.rpartition("/" if "/" in name else ".")
    layer = TORCHVISION.get(architecture, {}).get(layer, layer.replace("/", "_"))
    return f"{layer}/{kind.replace('weight', 'kernel')}" if separator else name


def _check(tensors: dict, model: LayerGraph, image_size: int, path: Path, transpose: bool) -> dict:
    """The tensors as parameters of `model`; those of others are `transpose`d into our layout."""
    images = jax.ShapeDtypeStruct((1, image_size, image_size, 3), np.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    _, activations = jax.eval_shape(model.apply, variables, images)
    params, left, wrong = {}, dict(tensors), []
    for name, _, (below, *_) in model.nodes:
        for kind, wanted in variables["params"].get(name, {}).items():
            array = left.pop(f"{name}/{kind}", None)
            if array is None:
                wrong.append(f"{name}/{kind} is missing")
                continue
            if transpose and kind == "kernel":
                array = _transpose(array, activations[below].shape[1:])
            if array.shape != wanted.shape:
                wrong.append(f"{name}/{kind} has shape {array.shape}, not {wanted.shape}")
            params.setdefault(name, {})[kind] = array.astype(np.float32)
    wrong += [f"{name} is left over" for name in left]
    if wrong:
        more = f" and {len(wrong) - MAX_NAMED} more" if len(wrong) > MAX_NAMED else ""
        raise InputError(
            f"{path}: not these weights: {', '.join(wrong[:MAX_NAMED])}{more}; is it another"
            f" architecture? There are {', '.join(models.IMAGENET)}"
        )
    return params


def _transpose(kernel: np.ndarray, input_shape: tuple[int, ...]) -> np.ndarray:
    """(out, in, y, x) -> (y, x, in, out), and (out, c * h * w) -> (h * w * c, out)."""
    if kernel.ndim == 4:
        return kernel.transpose(2, 3, 1, 0)
    if len(input_shape) == 3 and kernel.shape[1:] == (math.prod(input_shape),):
        height, width, channels = input_shape
        kernel = kernel.reshape(-1, channels, height, width).transpose(0, 2, 3, 1)
        kernel = kernel.reshape(len(kernel), -1)
    return kernel.T


def main(arguments: Sequence[str]) -> None:
    """Imports one file; a user's mistake is one line."""
    if len(arguments) != 3:
        sys.exit(f"usage: {USAGE}")
    architecture, source, target = arguments
    try:
        if Path(target).suffix != ".safetensors":
            raise InputError(f"{target}: the file to write must end in .safetensors")
        weights = load(source, architecture)
        save(target, architecture, weights)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    num = sum(array.size for arrays in weights.params.values() for array in arrays.values())
    print(f"{target}: {architecture}, {num:,} parameters, pixels as {weights.origin} has them")


if __name__ == "__main__":
    main(sys.argv[1:])
