"""Pretrained weights: python -m intriguing.models.import_weights ARCHITECTURE FILE OUT.safetensors

Reads a PyTorch state dict (.pth, .safetensors or .npz; PyTorch is not needed) or Caffe's arrays
`<layer>/weight` and `<layer>/bias`, checks every name, shape and value, folds batch normalisation
into the convolutions, and writes one file in our names and layout. Configs name either by its path
in `model.weights`.
"""

import math
import pickle
import sys
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import ml_dtypes
import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from intriguing import archive, atomic, fetch
from intriguing.errors import InputError, first_line
from intriguing.models import torch_file
from intriguing.models.layer_graph import LayerGraph
from intriguing.models.layers import WITH_WEIGHTS
from intriguing.models.pretrained import CAFFE_NAMES, PRETRAINED, TORCHVISION, Architecture

USAGE = f"python -m intriguing.models.import_weights {'|'.join(PRETRAINED)} FILE OUT.safetensors"
PARALLEL = "module."  # what PyTorch's DataParallel puts before every name
MAX_NAMED = 3  # tensors that an error message names
Tensors = dict[str, np.ndarray]


class Pretrained(NamedTuple):
    """A network with its parameters.

    Fields: `model`; `params`, {layer: {"kernel", "bias"}} of numpy arrays; `image_shape` of the
    images it is for; `origin`, "caffe" or "torchvision".
    """

    model: LayerGraph
    params: dict[str, Tensors]
    image_shape: tuple[int, int, int]
    origin: str


def load(path: str | Path, architecture: str) -> Pretrained:
    """Reads weights in any of the formats, for one of `models.PRETRAINED`.

    The number of classes is that of the file. How pixels are prepared follows from whose names the
    tensors have, not from the kind of file.

    Raises:
      InputError: no such file, an unknown format, tensors that are missing, left over, of another
        shape, or not finite: says which.
    """
    if architecture not in PRETRAINED:
        raise InputError(
            f'"{architecture}" is no architecture: it must be one of {", ".join(PRETRAINED)}'
        )
    path, about = Path(path).expanduser(), PRETRAINED[architecture]
    if not path.is_file():
        raise InputError(f"{path}: no such file of weights")
    (tensors, metadata), parallel = _read(path), False
    try:
        if "architecture" in metadata:  # our own file
            if metadata["architecture"] != architecture:
                raise InputError(f"weights of {metadata['architecture']}, not of {architecture}")
            origin = metadata["origin"]
        else:
            parallel = any(name.startswith(PARALLEL) for name in tensors)
            tensors = {name.removeprefix(PARALLEL): array for name, array in tensors.items()}
            for name in [name for name in tensors if name.split(".")[0] in about.unused]:
                del tensors[name]
            origin = _origin(tensors, about)
            tensors = {_our_name(name, about): array for name, array in tensors.items()}
            _fold_batch_norm(tensors, about.folded, about.epsilon)
        options = dict(about.origins[origin])
        nodes = about.build().nodes
        top = [node.name for node in nodes if isinstance(node.layer, WITH_WEIGHTS)][-1]
        if f"{top}/bias" in tensors:
            options["num_classes"] = tensors[f"{top}/bias"].size
        model = about.build(**options)
        params = _fit(tensors, model, about.image_shape, transpose="architecture" not in metadata)
    except InputError as error:
        also = f' (without the "{PARALLEL}" before its names)' if parallel else ""
        raise InputError(f"{path}{also}: {error}") from error
    return Pretrained(model, params, about.image_shape, origin)


def published(architecture: str, download: bool = True) -> Path:
    """The file of weights that others publish, in the cache folder; fetched if it is not there.

    Raises:
      InputError: there is none, or it cannot be fetched.
    """
    remote = PRETRAINED[architecture].published
    if remote is None:
        raise InputError(f"{architecture}: nobody publishes weights that we know: name a file")
    return fetch.fetch([remote], f"{architecture}, its weights", "weights", download)[0]


def save(path: str | Path, architecture: str, weights: Pretrained) -> None:
    """Writes one .safetensors file that `load` reads. Raises InputError if it cannot be written."""
    tensors = {
        f"{layer}/{name}": np.ascontiguousarray(array)
        for layer, arrays in weights.params.items()
        for name, array in arrays.items()
    }
    metadata = {"architecture": architecture, "origin": weights.origin}
    atomic.write_atomic(path, safetensors.numpy.save(tensors, metadata))


def _read(path: Path) -> tuple[Tensors, dict[str, str]]:
    """(tensors by their names in the file, as float32; metadata)."""
    if path.suffix in (".pth", ".pt"):
        tensors, metadata = _read_torch(path), {}
    elif path.suffix not in (".safetensors", ".npz"):
        raise InputError(f"{path}: weights are .safetensors, .pth or .npz files")
    else:
        try:
            tensors, metadata = _read_arrays(path)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, SafetensorError) as error:
            raise InputError(f"{path}: unreadable ({first_line(error)}): fetch it again") from error
        except (AttributeError, TypeError) as error:  # a dtype that NumPy does not have
            raise InputError(
                f"{path}: its numbers are of a type that NumPy lacks ({first_line(error)}): save "
                "them as float32"
            ) from error
    for name, array in tensors.items():
        if array.dtype.kind not in "fiu" and array.dtype != ml_dtypes.bfloat16:
            raise InputError(f"{path}: {name} has dtype {array.dtype}: save it as float32")
    return {name: np.asarray(array, np.float32) for name, array in tensors.items()}, metadata


def _read_arrays(path: Path) -> tuple[Tensors, dict[str, str]]:
    if path.suffix == ".npz":
        return archive.read_npz(path), {}
    with safe_open(path, "np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


def _read_torch(path: Path) -> Tensors:
    try:
        return torch_file.read(path)
    except (OSError, ValueError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path}: not a state dict of PyTorch ({first_line(error)}): save one with"
            " torch.save(net.state_dict(), FILE)"
        ) from error


def _origin(tensors: Iterable[str], about: Architecture) -> str:
    """Whose weights these are, by the names of the tensors.

    Raises:
      InputError: by nobody's that we know, or by those of somebody whose pixels we do not know.
    """
    kinds = {CAFFE_NAMES if "/" in name else TORCHVISION for name in tensors if name != ""}
    if len(kinds) != 1:
        found = _some(sorted(tensors)) or "none"
        raise InputError(
            f"these names of tensors are neither torchvision's (features.0.weight) nor Caffe's "
            f"(conv1/weight) alone: {found}"
        )
    (origin,) = kinds
    if origin not in about.origins:
        raise InputError(
            f"names of tensors as {origin} has them ({_some(sorted(tensors))}), of which there is "
            f"none: {' or '.join(about.origins)} is needed"
        )
    return origin


def _our_name(name: str, about: Architecture) -> str:
    """ "features.0.weight" or "conv1/weight" -> "conv1/kernel"; others stay, to be named."""
    layer, separator, kind = name.rpartition("/" if "/" in name else ".")
    layer = about.names.get(layer, layer.replace("/", "_").replace(".", "_"))
    return f"{layer}/{kind.replace('weight', 'kernel')}" if separator else name


def _fold_batch_norm(tensors: Tensors, folded, epsilon: float) -> None:
    """Takes batch normalisations into the convolutions below them: what they do when not trained.

    gamma (w * x - mean) / sqrt(variance + epsilon) + beta is a convolution, too.
    """
    for conv, norm in folded.items():
        parts = [f"{norm}/{part}" for part in ("kernel", "bias", "running_mean", "running_var")]
        tensors.pop(f"{norm}/num_batches_tracked", None)
        if f"{conv}/kernel" not in tensors or any(part not in tensors for part in parts):
            continue  # what is missing is named later
        gamma, beta, mean, variance = (np.asarray(tensors.pop(part), np.float64) for part in parts)
        scale = gamma / np.sqrt(variance + epsilon)
        kernel = tensors[f"{conv}/kernel"]
        bias = tensors.get(f"{conv}/bias", np.zeros(1))
        tensors[f"{conv}/kernel"] = (kernel * scale[:, None, None, None]).astype(np.float32)
        tensors[f"{conv}/bias"] = (beta + scale * (bias - mean)).astype(np.float32)


def _fit(
    tensors: Tensors, model: LayerGraph, image_shape: tuple[int, int, int], transpose: bool
) -> dict[str, Tensors]:
    """The tensors as parameters of `model`; those of others are `transpose`d into our layout."""
    images = jax.ShapeDtypeStruct((1, *image_shape), np.float32)
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
            elif not np.isfinite(array).all():
                raise InputError(f"{name}/{kind} holds NaN or infinity: fetch or save it again")
            params.setdefault(name, {})[kind] = array.astype(np.float32)
    if wrong or left:
        also = f"; left over: {_some(sorted(left))}" if left else ""
        raise InputError(
            f"not these weights: {_some(wrong) or 'nothing is missing'}{also}; is it another"
            f" architecture? There are {', '.join(PRETRAINED)}"
        )
    return params


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more


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
