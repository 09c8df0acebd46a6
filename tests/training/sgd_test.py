"""Tests for intriguing/training/sgd.py"""

import itertools

import devices
import jax
import numpy as np
import pytest

from intriguing import models
from intriguing.data import Dataset, stream
from intriguing.errors import InputError
from intriguing.models.layer_graph import LayerGraph, chain, conv_relu
from intriguing.models.layers import Conv, Dense, Dropout
from intriguing.predict import predict
from intriguing.training import checkpoint, sgd

SIZE, CROP, NUM = 8, 6, 34
KEY = jax.random.key(3)
OPTIONS = {"crop_size": CROP, "num_epochs": 6, "batch_size": 8, "learning_rate": 0.05}


def tiny():
    nodes = []
    conv_relu(nodes, "conv1", Conv(4, 3))
    chain(nodes, ("drop", Dropout(0.2)), ("fc", Dense(2)))
    return LayerGraph(tuple(nodes))


def dark_and_bright():
    """Dark images and bright ones; number 5 cannot be read and is labelled wrong."""
    rng = np.random.default_rng(0)
    labels = (np.arange(NUM) % 2).astype(np.int32)
    images = rng.uniform(size=(NUM, SIZE, SIZE, 3)) * 0.4 + 0.6 * labels[:, None, None, None]
    whole = stream.of_dataset(Dataset(images.astype(np.float32), labels, ("dark", "bright")))

    def read(indices):
        found, readable = whole.read(indices)
        bad = np.asarray(indices) == 5
        found = np.where(bad[:, None, None, None], np.float32(0), found)
        return found, readable & ~bad

    return whole._replace(read=read)


@pytest.fixture(scope="module")
def source():
    return dark_and_bright()


@pytest.fixture(scope="module")
def fitted(source):
    return sgd.fit(tiny(), source, KEY, **OPTIONS)


def test_it_learns(source, fitted):
    images, _ = source.read(range(NUM))
    crops = images[:, 1:7, 1:7]

    def answers(images):
        return tiny().apply({"params": fitted.params}, images)[0]

    right = predict(answers, crops) == source.labels
    assert right[np.arange(NUM) != 5].all()
    assert int(fitted.step) == 6 * (NUM // 8)


def test_a_resumed_run_is_the_whole_run(source, fitted, tmp_path):
    class Stop(Exception):
        pass

    def stop(step, **_):
        if step == 10:
            raise Stop

    with pytest.raises(Stop):
        sgd.fit(tiny(), source, KEY, checkpoint_dir=tmp_path, checkpoint_seconds=0,
                         log=stop, **OPTIONS)  # fmt: skip
    steps = []
    again = sgd.fit(tiny(), source, KEY, checkpoint_dir=tmp_path,
                             log=lambda step, loss: steps.append(step), **OPTIONS)  # fmt: skip
    assert steps[0] == 10  # the ninth was the last that was saved
    jax.tree.map(np.testing.assert_array_equal, again.params, fitted.params)
    assert checkpoint.restore_latest(tmp_path, again)[0] == 24
    sgd.fit(tiny(), source._replace(read=source.read), KEY, checkpoint_dir=tmp_path,
                     log=pytest.fail, **OPTIONS)  # fmt: skip


EIGHT = """
import json, sys
import jax
import sgd_test as shared
from intriguing import sharding
from intriguing.training import sgd

class Stop(Exception):
    pass

def stop(step, **_):
    if step == 10:
        raise Stop

def fit(**options):
    options = {**shared.OPTIONS, **options}
    mesh = sharding.make_mesh(8)
    return sgd.fit(shared.tiny(), source, shared.KEY, mesh=mesh, **options)

source, steps = shared.dark_and_bright(), []
whole = fit()
try:
    fit(checkpoint_dir=sys.argv[1], checkpoint_seconds=0, log=stop)
except Stop:
    resumed = fit(checkpoint_dir=sys.argv[1], log=lambda step, loss: steps.append(step))
leaves = [jax.tree.leaves(state.params) for state in (whole, resumed)]
print(json.dumps({
    "whole": [leaf.ravel().tolist() for leaf in leaves[0]],
    "resumed": [leaf.ravel().tolist() for leaf in leaves[1]],
    "spread": [len(each[0].sharding.device_set) for each in leaves],
    "first step": steps[0],
}))
"""


def test_devices_train_what_one_does_and_resume(fitted, tmp_path):
    found = devices.run(EIGHT, str(tmp_path))
    assert found["spread"] == [8, 8] and found["first step"] == 10
    assert found["resumed"] == found["whole"]
    for one, eight in zip(jax.tree.leaves(fitted.params), found["whole"], strict=True):
        # Sums of a batch in another order, through 24 steps.
        np.testing.assert_allclose(eight, np.ravel(one), rtol=1e-5, atol=1e-6)


def test_what_cannot_be_read_counts_for_nothing(source, fitted):
    def read(indices):  # other pixels there: the same result
        found, readable = source.read(indices)
        return np.where(readable[:, None, None, None], found, np.float32(0.9)), readable

    other = sgd.fit(tiny(), source._replace(read=read), KEY, **OPTIONS)
    jax.tree.map(np.testing.assert_array_equal, other.params, fitted.params)


def test_one_step_by_hand(source):
    options = {**OPTIONS, "num_epochs": 1, "batch_size": NUM, "learning_rate": 1.0,
               "weight_decay": 0.25}  # fmt: skip
    nodes = []
    chain(nodes, ("fc", Dense(2)))
    model = LayerGraph(tuple(nodes))
    grey = source._replace(read=lambda indices: (
        np.full((len(indices), SIZE, SIZE, 3), 0.5, np.float32), np.ones(len(indices), bool)
    ))  # fmt: skip
    before = model.init(jax.random.split(KEY, 3)[0], np.zeros((1, CROP, CROP, 3), np.float32))
    kernel, bias = (np.asarray(before["params"]["fc"][name], float) for name in ("kernel", "bias"))
    found = sgd.fit(model, grey, KEY, **options)
    x = np.full((NUM, kernel.shape[0]), 0.5)
    logits = x @ kernel + bias
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    error = (probabilities - np.eye(2)[source.labels]) / NUM
    np.testing.assert_allclose(
        found.params["fc"]["kernel"], kernel - (x.T @ error + 0.25 * kernel), atol=1e-5
    )
    np.testing.assert_allclose(found.params["fc"]["bias"], -error.sum(axis=0), atol=1e-5)


def test_crops_are_parts_of_their_images_and_half_are_mirrored():
    images = np.random.default_rng(0).uniform(size=(40, 9, 9, 3)).astype(np.float32)
    crops = np.asarray(sgd.random_crops(KEY, images, 7))
    places, mirrored = set(), 0
    for image, crop in zip(images, crops, strict=True):
        matches = [
            (row, column, flip)
            for row, column, flip in itertools.product(range(3), range(3), (1, -1))
            if np.array_equal(crop[:, ::flip], image[row : row + 7, column : column + 7])
        ]
        (match,) = matches
        places.add(match[:2])
        mirrored += match[2] == -1
    assert len(places) == 9 and 8 < mirrored < 32


BAD = {
    "crop": ({"crop_size": 9}, "crop_size is 9: images have 8 pixels"),
    "batch": ({"batch_size": 35}, "batch_size is 35: the training set has 34 images"),
    "no batch": ({"batch_size": 0}, "batch_size is 0"),
    "epochs": ({"num_epochs": 0}, "num_epochs must be at least 1"),
    "rate": ({"learning_rate": float("nan")}, "learning_rate positive"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_options(source, case):
    changes, message = BAD[case]
    with pytest.raises(InputError, match=message):
        sgd.fit(tiny(), source, KEY, **{**OPTIONS, **changes})


def test_a_loss_that_is_not_finite(source):
    with pytest.raises(InputError, match=r"the loss is \w+ at step .* may be too large"):
        sgd.fit(tiny(), source, KEY, **{**OPTIONS, "learning_rate": 1e30})


@pytest.mark.slow
@pytest.mark.parametrize("name", ["alexnet_single_tower", "squeezenet"])
def test_start_values_suit_the_recipe(name):
    """With those of He et al. the first steps of AlexNet's recipe blow these networks up."""
    rng = np.random.default_rng(0)
    images = rng.uniform(size=(16, 68, 68, 3)).astype(np.float32)
    whole = stream.of_dataset(Dataset(images, np.arange(16, dtype=np.int32) % 2, ("a", "b")))
    losses = []
    sgd.fit(
        models.PRETRAINED[name].build(2), whole, KEY, crop_size=67, num_epochs=3, batch_size=16,
        learning_rate=0.01, log=lambda step, loss: losses.append(loss),
    )  # fmt: skip
    assert len(losses) == 3 and max(losses) < losses[0] + 1
