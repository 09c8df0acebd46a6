"""Tests for intriguing/models/import_weights.py"""

import json
import os
import struct
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
    return torchvision_names(squeezenet[1], models.PRETRAINED["squeezenet"].names)


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
    assert (found.image_shape, found.origin) == ((227, 227, 3), "torchvision")
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
    weights = import_weights.Pretrained(model, squeezenet[1], (227, 227, 3), origin)
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
    found = import_weights._fit(tensors, model, (227, 227, 3), transpose=False)
    assert found.keys() == params.keys()
    with pytest.raises(InputError, match=r"fc6/kernel has shape \(9216, 5\), not \(9216, 4096\)"):
        tensors["fc6/kernel"] = np.zeros((9216, 5))
        import_weights._fit(tensors, model, (227, 227, 3), transpose=False)


def caffe_names(tensors):
    """torchvision's SqueezeNet under Caffe's names."""
    ours = models.PRETRAINED["squeezenet"].names
    named = {}
    for name, array in tensors.items():
        layer, _, kind = name.rpartition(".")
        named[f"{ours[layer].replace('_', '/', 1)}/{kind}"] = array
    return named


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("origin", ["caffe", "torchvision"])
def test_names_and_not_the_kind_of_file_say_how_pixels_are_prepared(
    theirs, origin, suffix, tmp_path
):
    path = tmp_path / f"net{suffix}"
    tensors = caffe_names(theirs) if origin == "caffe" else theirs
    if suffix == ".npz":
        np.savez(path, **tensors)
    else:
        safetensors.numpy.save_file(tensors, path)
    found = import_weights.load(path, "squeezenet")
    assert found.origin == origin
    assert found.model.nodes[0].layer == {"caffe": CAFFE, "torchvision": TORCH}[origin]


def test_names_of_both_or_neither_are_refused(theirs, tmp_path):
    mixed = {**theirs, "conv1/weight": np.zeros(3, np.float32)}
    np.savez(tmp_path / "mixed.npz", **mixed)
    with pytest.raises(InputError, match=r"mixed.npz: these names of tensors are neither"):
        import_weights.load(tmp_path / "mixed.npz", "squeezenet")
    np.savez(tmp_path / "caffe.npz", **{"conv1/weight": np.zeros(3)})
    with pytest.raises(InputError, match=r"names of tensors as caffe has them .*torchvision is"):
        import_weights.load(tmp_path / "caffe.npz", "resnet20")


def test_data_parallel_names_are_those_without_module(squeezenet, theirs, tmp_path):
    wrapped = {f"module.{name}": array for name, array in theirs.items()}
    safetensors.numpy.save_file(wrapped, tmp_path / "net.safetensors")
    assert_same(import_weights.load(tmp_path / "net.safetensors", "squeezenet").params,
                squeezenet[1])  # fmt: skip


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(theirs, value, tmp_path):
    tensors = {**theirs, "features.0.bias": np.full(64, value, np.float32)}
    np.savez(tmp_path / "net.npz", **tensors)
    with pytest.raises(InputError, match="conv1/bias holds NaN or infinity"):
        import_weights.load(tmp_path / "net.npz", "squeezenet")


def test_numbers_of_a_type_that_numpy_lacks_are_refused_in_one_line(tmp_path):
    dtypes = pytest.importorskip("ml_dtypes")
    np.savez(tmp_path / "net.npz", **{"conv1/weight": np.zeros(3, dtypes.bfloat16)})
    with pytest.raises(InputError, match=r"conv1/weight has dtype .*: save it as float32"):
        import_weights.load(tmp_path / "net.npz", "squeezenet")
    tensor = {"dtype": "F8_E4M3", "shape": [3], "data_offsets": [0, 3]}
    head = json.dumps({"conv1/weight": tensor}).encode()
    whole = struct.pack("<Q", len(head)) + head + bytes(3)
    (tmp_path / "net.safetensors").write_bytes(whole)
    with pytest.raises(InputError, match=r"save them as float32|save it as float32"):
        import_weights.load(tmp_path / "net.safetensors", "squeezenet")


@pytest.mark.parametrize("epsilon", [1e-5, 1e-3])
def test_batch_normalisation_is_folded_with_its_own_epsilon(epsilon):
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(2, 3, 1, 1)).astype(np.float32)
    gamma, beta, mean = rng.normal(size=(3, 2))
    variance = np.array([1e-6, 2.0])  # the first is small against epsilon
    tensors = {
        "conv1/kernel": kernel, "bn1/kernel": gamma, "bn1/bias": beta, "bn1/running_mean": mean,
        "bn1/running_var": variance, "bn1/num_batches_tracked": np.array(7),
    }  # fmt: skip
    import_weights._fold_batch_norm(tensors, {"conv1": "bn1"}, epsilon)
    x = rng.normal(size=3)
    expected = gamma * (kernel[:, :, 0, 0] @ x - mean) / np.sqrt(variance + epsilon) + beta
    assert tensors.keys() == {"conv1/kernel", "conv1/bias"}
    found = tensors["conv1/kernel"][:, :, 0, 0] @ x + tensors["conv1/bias"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_pth_that_is_none(tmp_path):
    (tmp_path / "net.pth").write_bytes(b"junk")
    with pytest.raises(InputError, match="not a state dict of PyTorch") as caught:
        import_weights.load(tmp_path / "net.pth", "squeezenet")
    assert "fetch it again" not in str(caught.value)


def broken(theirs, change):
    tensors = dict(theirs)
    change(tensors)
    return tensors


CHANGES = {
    "missing": (lambda t: t.pop("features.0.bias"), "conv1/bias is missing"),
    "left over": (lambda t: t.update({"extra.weight": np.zeros(3)}), "left over: extra/kernel"),
    "misshapen": (
        lambda t: t.update({"features.0.weight": np.zeros((64, 3, 5, 5), np.float32)}),
        r"conv1/kernel has shape \(5, 5, 3, 64\), not \(3, 3, 3, 64\)",
    ),
    "empty": (lambda t: t.clear(), "neither torchvision's .* nor Caffe's"),
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
