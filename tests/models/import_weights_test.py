"""Tests for intriguing/models/import_weights.py"""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

from intriguing import models
from intriguing.errors import InputError
from intriguing.models import import_weights
from intriguing.models.layers import CAFFE, TORCH

NUM_CLASSES = 3


@pytest.fixture(scope="module")
def squeezenet():
    """(model, params) of a small-headed SqueezeNet with random weights."""
    model = models.squeezenet(NUM_CLASSES, TORCH)
    images = np.zeros((1, 227, 227, 3), np.float32)
    params = jax.device_get(model.init(jax.random.key(0), images)["params"])
    rng = np.random.default_rng(0)
    return model, jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), params)


def torchvision_names(params, names):
    """{their name: array in their layout}."""
    theirs = {ours: name for name, ours in names.items()}
    tensors = {}
    for layer, arrays in params.items():
        kernel = arrays["kernel"]
        weight = kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T
        tensors[f"{theirs[layer]}.weight"] = np.ascontiguousarray(weight)
        tensors[f"{theirs[layer]}.bias"] = arrays["bias"]
    return tensors


@pytest.fixture
def theirs(squeezenet):
    return torchvision_names(squeezenet[1], import_weights.TORCHVISION["squeezenet"])


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for layer, arrays in wanted.items():
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[layer][name], array)
            assert found[layer][name].dtype == np.float32


def test_torchvision_safetensors(squeezenet, theirs, tmp_path):
    safetensors.numpy.save_file(theirs, tmp_path / "net.safetensors")
    found = import_weights.load(tmp_path / "net.safetensors", "squeezenet")
    assert found.model == squeezenet[0]
    assert (found.image_size, found.origin) == (227, "torchvision")
    assert_same(found.params, squeezenet[1])


def test_torchvision_pth(squeezenet, theirs, tmp_path):
    torch = pytest.importorskip("torch")
    state = {name: torch.tensor(array) for name, array in theirs.items()}
    torch.save(state, tmp_path / "net.pth")
    assert_same(import_weights.load(tmp_path / "net.pth", "squeezenet").params, squeezenet[1])


def test_caffe_npz(squeezenet, tmp_path):
    model, params = squeezenet
    names = {layer.replace("_", "/", 1) if "fire" in layer else layer: layer for layer in params}
    tensors = torchvision_names(params, names)
    np.savez(tmp_path / "net.npz", **{k.replace(".", "/"): v for k, v in tensors.items()})
    found = import_weights.load(tmp_path / "net.npz", "squeezenet")
    assert_same(found.params, params)
    assert found.origin == "caffe"
    assert found.model == models.squeezenet(NUM_CLASSES, CAFFE) != model


def test_dense_layers_see_height_width_and_channels_in_another_order():
    # Theirs flatten (c, h, w): unit 0 looks at channel 1, row 2, column 3 of 5 x 4 x 6.
    weight = np.zeros((2, 5, 4, 6), np.float32)
    weight[0, 1, 2, 3] = 1
    kernel = import_weights._transpose(weight.reshape(2, -1), (4, 6, 5))
    assert kernel.shape == (4 * 6 * 5, 2)
    np.testing.assert_array_equal(np.argwhere(kernel.reshape(4, 6, 5, 2)), [[2, 3, 1, 0]])


@pytest.mark.parametrize("normalise", [CAFFE, TORCH])
def test_our_own_file_says_what_it_is(squeezenet, normalise, tmp_path):
    origin = "caffe" if normalise == CAFFE else "torchvision"
    model = models.squeezenet(NUM_CLASSES, normalise)
    weights = import_weights.Weights(model, squeezenet[1], 227, origin)
    path = tmp_path / "net.safetensors"
    import_weights.save(path, "squeezenet", weights)
    found = import_weights.load(path, "squeezenet")
    assert (found.model, found.origin) == (model, origin)
    assert_same(found.params, squeezenet[1])
    with pytest.raises(InputError, match="weights of squeezenet, not of alexnet"):
        import_weights.load(path, "alexnet")


def test_shapes_of_alexnet():
    # The arrays are views of one zero.
    model = models.alexnet(NUM_CLASSES)
    images = jax.ShapeDtypeStruct((1, 227, 227, 3), np.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    params = jax.tree.map(lambda x: np.broadcast_to(np.float32(0), x.shape), shapes)
    tensors = {f"{layer}/{kind}": array for layer, arrays in params.items()
               for kind, array in arrays.items()}  # fmt: skip
    found = import_weights._check(tensors, model, 227, Path("net"), transpose=False)
    assert found.keys() == params.keys()
    with pytest.raises(InputError, match=r"fc6/kernel has shape \(9216, 5\), not \(9216, 4096\)"):
        tensors["fc6/kernel"] = np.zeros((9216, 5))
        import_weights._check(tensors, model, 227, Path("net"), transpose=False)


def broken(theirs, change):
    tensors = dict(theirs)
    change(tensors)
    return tensors


CHANGES = {
    "missing": (lambda t: t.pop("features.0.bias"), "conv1/bias is missing"),
    "left over": (lambda t: t.update({"extra.weight": np.zeros(3)}), "extra/kernel is left over"),
    "misshapen": (
        lambda t: t.update({"features.0.weight": np.zeros((64, 3, 5, 5), np.float32)}),
        r"conv1/kernel has shape \(5, 5, 3, 64\), not \(3, 3, 3, 64\)",
    ),
    "empty": (lambda t: t.clear(), "conv1/bias is missing"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_unfitting_tensors_are_named(theirs, case, tmp_path):
    change, message = CHANGES[case]
    safetensors.numpy.save_file(broken(theirs, change), tmp_path / "net.safetensors")
    with pytest.raises(InputError, match=message) as caught:
        import_weights.load(tmp_path / "net.safetensors", "squeezenet")
    assert "net.safetensors" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["cut.safetensors", "text.npz", "text.pth", "text.txt", "none.npz"]
)
def test_unreadable_files(theirs, name, tmp_path):
    if name.startswith("cut"):
        (tmp_path / name).write_bytes(safetensors.numpy.save(theirs)[:5000])
    elif name.startswith("text"):
        (tmp_path / name).write_text("no weights\n")
    if name.endswith("pth"):
        pytest.importorskip("torch")
    with pytest.raises(InputError, match=name) as caught:
        import_weights.load(tmp_path / name, "squeezenet")
    assert "\n" not in str(caught.value)


def test_unknown_architecture(tmp_path):
    with pytest.raises(InputError, match=r'"resnet" is no architecture: .*googlenet'):
        import_weights.load(tmp_path, "resnet")


def test_command_line(squeezenet, theirs, tmp_path):
    safetensors.numpy.save_file(theirs, tmp_path / "net.safetensors")

    def run(*arguments):
        command = [sys.executable, "-m", "intriguing.models.import_weights", *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "JAX_PLATFORMS": "cpu"},
            cwd=Path(__file__).parents[2], check=False,
        )  # fmt: skip

    target = str(tmp_path / "out" / "ours.safetensors")
    done = run("squeezenet", str(tmp_path / "net.safetensors"), target)
    assert done.returncode == 0 and "squeezenet, 724,035 parameters" in done.stdout, done
    assert_same(import_weights.load(target, "squeezenet").params, squeezenet[1])
    done = run("googlenet", str(tmp_path / "net.safetensors"), target)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and not done.stdout
    assert "Traceback" not in done.stderr
    assert run("squeezenet").returncode == 1
