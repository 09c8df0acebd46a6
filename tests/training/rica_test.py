"""Tests for intriguing/training/rica.py: objective, what is learned, resuming; 8 devices."""

import devices
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from intriguing import data, sharding
from intriguing.data import stream
from intriguing.errors import InputError
from intriguing.models import quocnet
from intriguing.models.quocnet import QuocNet, Stage
from intriguing.training import rica

KEY = jax.random.key(0)
NET = QuocNet((Stage(3, 3, 1, 2, pool=3, norm=3), Stage(3, 2, 1, 2, pool=3, norm=3)), input_norm=3)
OPTIONS = {
    "crop_size": 8, "num_epochs": 6, "batch_size": 8, "learning_rate": 1e-2,
    "sparsity_weights": (0.1, 0.1),
}  # fmt: skip


def source_of(num: int = 24, size: int = 8) -> stream.Source:
    images = np.random.default_rng(0).uniform(size=(num, size, size, 3)).astype(np.float32)
    return stream.of_dataset(data.Dataset(images, np.zeros(num, np.int32), ("none",)))


def test_costs_are_those_of_the_dense_matrix():
    stage, x = Stage(3, 2, 2, 1, pool=3), np.random.default_rng(0).normal(size=(4, 6, 6, 2))
    x = x.astype(np.float32)
    kernel = quocnet.init_kernel(KEY, quocnet.kernel_shape(stage, x.shape[1:]))
    identity = jnp.eye(6 * 6 * 2).reshape(-1, 6, 6, 2)
    matrix = np.asarray(quocnet.untied_filters(identity, kernel, stage).reshape(72, -1))  # W^T
    error, sparsity = jax.jit(rica.costs, static_argnums=2)(kernel, x, stage)
    flat = x.reshape(4, -1)
    rebuilt = flat @ matrix @ matrix.T
    np.testing.assert_allclose(error, ((rebuilt - flat) ** 2).sum(axis=1), rtol=1e-4)
    responses = (flat @ matrix).reshape(4, *kernel.shape[:3])
    pooled = np.asarray(quocnet.l2_pool(responses, 3, 1)) ** 2
    wanted = np.sqrt(rica.EPSILON + pooled).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(sparsity, wanted, rtol=1e-4)


def test_orthogonal_filters_reconstruct():
    stage = Stage(2, 12, 2, 0)  # fields side by side, as many filters as pixels
    x = np.random.default_rng(0).normal(size=(3, 4, 4, 3)).astype(np.float32)
    square = np.linalg.qr(np.random.default_rng(1).normal(size=(2, 2, 12, 12)))[0]
    error, _ = jax.jit(rica.costs, static_argnums=2)(square.astype(np.float32), x, stage)
    np.testing.assert_allclose(error, 0, atol=1e-8)


def test_every_stage_learns_and_keeps_those_below(tmp_path):
    costs = {}
    params = rica.fit(
        NET, source_of(), KEY, **OPTIONS,
        log=lambda step, **found: [costs.setdefault(k, []).append(v) for k, v in found.items()],
    )  # fmt: skip
    assert list(params) == list(costs) == ["stage1", "stage2"]
    assert all(found[-1] < 0.9 * found[0] for found in costs.values())
    fresh = rica.init(NET, (8, 8, 3), KEY, sharding.make_mesh(1))
    assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(jnp.shape, params)
    assert not np.allclose(fresh["stage1"]["kernel"], params["stage1"]["kernel"], atol=1e-3)


class StopError(Exception):
    """Stands for the user's interrupt."""


@pytest.mark.parametrize(
    "stop_at", [("stage1", 7), pytest.param(("stage2", 9), marks=pytest.mark.slow)]
)
def test_it_resumes_to_the_same_filters(tmp_path, stop_at):
    whole = rica.fit(NET, source_of(), KEY, **OPTIONS)
    layer, last = stop_at

    def stop(step, **found):
        if layer in found and step >= last:
            raise StopError

    options = {**OPTIONS, "checkpoint_dir": tmp_path, "checkpoint_seconds": 0}
    with pytest.raises(StopError):
        rica.fit(NET, source_of(), KEY, **options, log=stop)
    first = {}
    resumed = rica.fit(
        NET, source_of(), KEY, **options,
        log=lambda step, **found: [first.setdefault(k, step) for k in found],
    )  # fmt: skip
    assert first[layer] > 1  # went on, rather than began again
    assert ("stage1" in first) == (layer == "stage1")
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    loaded = rica.load(NET, (8, 8, 3), tmp_path, sharding.make_mesh(1))
    for one, other in zip(jax.tree.leaves(loaded), jax.tree.leaves(resumed), strict=True):
        np.testing.assert_array_equal(one, other)


def test_unfinished_or_other_filters_are_refused(tmp_path):
    mesh = sharding.make_mesh(1)
    with pytest.raises(InputError, match="no filters of stage1"):
        rica.load(NET, (8, 8, 3), tmp_path, mesh)
    rica.fit(NET, source_of(), KEY, **OPTIONS, checkpoint_dir=tmp_path)
    with pytest.raises(InputError, match="does not fit"):
        rica.load(NET, (10, 10, 3), tmp_path, mesh)


SCRIPT = """
import json
import jax, numpy as np
from intriguing import attack, models, sharding
from intriguing.errors import InputError
from intriguing.training import rica
from rica_test import KEY, NET, OPTIONS, source_of

found = {}
images = source_of().read(range(5))[0]
for num, model_devices in ((1, 1), (8, 8), (8, 4)):
    mesh = sharding.make_mesh(num, model_devices)
    params = rica.fit(NET, source_of(), KEY, **OPTIONS, mesh=mesh)
    kernel = params["stage1"]["kernel"]
    head = {"kernel": np.random.default_rng(1).normal(size=(128, 2)).astype(np.float32),
            "bias": np.zeros(2, np.float32)}
    logits_fn = models.logits_fn(NET, {"params": {**params, "classifier": head}})
    here = {"kernel": np.asarray(kernel).ravel()[:500].tolist(),
            "spread": len({str(shard.index) for shard in kernel.addressable_shards})}
    targets = 1 - np.asarray(logits_fn(images)).argmax(axis=1)
    try:
        result = attack.minimal_perturbation(logits_fn, images, targets, mesh=mesh)
        here["distortion"] = result.distortion.tolist()
    except InputError as error:
        here["error"] = str(error)
    found[f"{num} {model_devices}"] = here
try:
    rica.fit(NET, source_of(size=9), KEY, **{**OPTIONS, "crop_size": 9}, mesh=mesh)
except InputError as error:
    found["rows"] = str(error)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found():
    return devices.run(SCRIPT)


@pytest.mark.slow
@pytest.mark.parametrize("devices", ["8 8", "8 4"])
def test_devices_share_weights_and_learn_the_same(found, devices):
    assert found["1 1"]["spread"] == 1 and found[devices]["spread"] == int(devices[-1])
    np.testing.assert_allclose(found[devices]["kernel"], found["1 1"]["kernel"], atol=1e-4)


@pytest.mark.slow
def test_an_attack_through_shared_weights_finds_the_same(found):
    one, eight = (np.array(found[devices]["distortion"]) for devices in ("1 1", "8 8"))
    assert np.isfinite(one).all() and (one > 0).all()
    np.testing.assert_allclose(eight, one, rtol=1e-3)


@pytest.mark.slow
def test_an_attack_through_some_devices_is_refused(found):
    assert "model_devices is 4: an attack needs 1 or all 8 devices" in found["8 4"]["error"]


@pytest.mark.slow
def test_rows_that_cannot_be_shared(found):
    assert found["rows"] == "model_devices is 4: it must divide 9 rows of weights"


def test_devices_that_cannot_be_grouped():
    with pytest.raises(InputError, match="must divide"):
        sharding.make_mesh(1, 2)
