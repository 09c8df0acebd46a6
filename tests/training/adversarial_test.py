"""Tests for intriguing/training/adversarial.py"""

import shutil

import devices
import jax
import numpy as np
import pytest
import scipy.special
from jax.experimental.compilation_cache import compilation_cache

from intriguing import attack, data, models
from intriguing.errors import InputError
from intriguing.predict import predict
from intriguing.training import adversarial, checkpoint
from intriguing.training.adversarial import PoolOptions, perturb

MODEL = models.fully_connected((12, 10))
LAYERS = ("images", "fc1_sigmoid", "fc2_sigmoid")
ATTACKED = LAYERS[:2]  # the engine is compiled once for each
SIZE, NUM_NEW = 60, 15
# As many lanes whether a whole pool is made or NUM_NEW examples: again one compilation.
ATTACK = {"refine": False, "num_penalties": 1, "maxiter": 20, "num_lanes": NUM_NEW}
OPTIONS = {"num_epochs": 12, "batch_size": 20, "learning_rate": 3e-2, "weight_decay": {"fc1": 1e-4}}
FIRST = 9  # epochs without pools
POOLS = PoolOptions(
    weights=dict.fromkeys(ATTACKED, 0.5), size=SIZE, replaced=NUM_NEW / SIZE, batch_size=20,
    first_epoch=FIRST, attack_options=ATTACK,
)  # fmt: skip
KEY = jax.random.key(5)


@pytest.fixture(scope="module", autouse=True)
def compile_once(tmp_path_factory):
    """Every `fit` compiles functions of its own: what is the same program is looked up here."""
    options = {"jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
               "jax_persistent_cache_min_compile_time_secs": 0.1}  # fmt: skip
    before = {name: getattr(jax.config, name) for name in options}
    for name, value in options.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()  # whether it is used was settled by the first compilation
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(scope="module")
def digits():
    return data.take(data.load("digits", "train"), slice(300))


def equal(first, second):
    return all(map(np.array_equal, jax.tree.leaves(first), jax.tree.leaves(second)))


def answers(params, pool, layer):
    return predict(models.logits_fn(MODEL, {"params": params}, above=layer), pool.images)


@pytest.fixture(scope="module")
def fitted(digits, tmp_path_factory):
    """{epochs done: state} of the last epochs of a whole run."""
    folder = tmp_path_factory.mktemp("whole")

    def copy(epoch, **_):  # `log` is called before an epoch is saved
        if epoch >= FIRST:
            shutil.copytree(folder / "saved", folder / str(epoch - 1))

    end = adversarial.fit(
        MODEL, digits, KEY, checkpoint_dir=folder / "saved", checkpoint_seconds=0, log=copy,
        pools=POOLS, **OPTIONS,
    )  # fmt: skip
    num_epochs = OPTIONS["num_epochs"]
    states = {
        epoch: checkpoint.restore_latest(folder / str(epoch), end)[1]
        for epoch in range(FIRST - 1, num_epochs)
    }
    return {**states, num_epochs: end}


# ---- perturb


@pytest.fixture(scope="module")
def logits_fn(fitted):
    params = jax.device_get(fitted[FIRST].params)
    return models.logits_fn(MODEL, {"params": params}, above="images")


@pytest.fixture(scope="module")
def examples(digits):
    return data.take(digits, slice(SIZE))


def perturbed(logits_fn, examples, stddev):
    return perturb(logits_fn, examples, jax.random.key(1), stddev=stddev, targets="random",
                   **ATTACK)  # fmt: skip


def rms(changed, examples):
    return np.sqrt(np.mean((changed.images - examples.images) ** 2, axis=(1, 2, 3)))


@pytest.fixture(scope="module")
def minimal(logits_fn, examples):
    return perturbed(logits_fn, examples, None)


def test_perturbed_crosses_the_boundary(logits_fn, examples, minimal):
    right = predict(logits_fn, examples.images) == examples.labels
    assert right.mean() > 0.6
    assert (predict(logits_fn, minimal.images) != examples.labels)[right].all()
    assert (rms(minimal, examples)[right] > 0).all()


def test_perturbed_is_the_attack_of_the_host(logits_fn, examples, minimal):
    """`attack.solve`, in one compiled program, finds what the host's feeder finds."""
    result, _ = attack.attack_batch(logits_fn, examples.images, examples.labels, **ATTACK,
                                    targets="random", key=jax.random.key(1))  # fmt: skip
    np.testing.assert_allclose(minimal.images, result.adv_images, atol=2e-3)


EIGHT = """
import json
import jax, numpy as np
from intriguing import models, sharding
from intriguing.data import Dataset
from intriguing.training.adversarial import perturb

model = models.fully_connected()
images = np.random.default_rng(0).uniform(size=(13, 4, 4, 1)).astype(np.float32)
params = model.init(jax.random.key(0), images)["params"]
logits_fn = models.logits_fn(model, {"params": params})
examples = Dataset(images, np.asarray(logits_fn(images)).argmax(axis=1), ())
found = [
    perturb(logits_fn, examples, jax.random.key(1), stddev=None, targets="random",
            mesh=sharding.make_mesh(num)).images.ravel().tolist()
    for num in (1, 8)
]
print(json.dumps(found))
"""


@pytest.mark.slow
def test_perturbed_on_eight_devices():
    one, eight = devices.run(EIGHT)
    assert len(one) == 13 * 16  # which eight devices cannot share evenly
    np.testing.assert_allclose(eight, one, atol=1e-4)


@pytest.mark.parametrize("stddev", [0.06, None])
def test_perturbed_keeps_labels_box_and_shape(logits_fn, examples, stddev):
    found = perturbed(logits_fn, examples, stddev)
    np.testing.assert_array_equal(found.labels, examples.labels)
    assert found.images.shape == examples.images.shape and found.images.dtype == np.float32
    assert found.images.min() >= 0 and found.images.max() <= 1


@pytest.mark.parametrize("stddev", [0.06, 0.12])
def test_perturbations_are_scaled(logits_fn, examples, minimal, stddev):
    found = perturbed(logits_fn, examples, stddev)
    whole = rms(minimal, examples)
    moved = whole > 0  # wrong from the start: stays as it is
    np.testing.assert_array_equal(found.images[~moved], examples.images[~moved])
    # The box is convex: a shortened perturbation is not clipped, and so has that size.
    shortened = whole > stddev
    assert (shortened & moved).any() and (~shortened & moved).any()
    np.testing.assert_allclose(rms(found, examples)[shortened], stddev, rtol=1e-4)
    scale = np.divide(stddev, whole, where=moved, out=np.zeros_like(whole))[:, None, None, None]
    change = np.clip(examples.images + scale * (minimal.images - examples.images), 0, 1)
    np.testing.assert_allclose(found.images, change, atol=1e-6)


@pytest.mark.parametrize("stddev", [0.02, None])
def test_failures_stay_as_they_are(logits_fn, digits, stddev):
    params = jax.tree.map(np.zeros_like, logits_fn.args[0]["params"])
    params["fc3"]["bias"][3] = 1  # answers 3 whatever it sees
    stubborn = models.logits_fn(MODEL, {"params": params}, above="images")
    threes = data.take(digits, np.flatnonzero(digits.labels == 3)[:NUM_NEW])
    found = perturbed(stubborn, threes, stddev)
    np.testing.assert_array_equal(found.images, threes.images)


# ---- fit


def test_pools_have_the_size_and_kind_of_their_layers(fitted):
    shapes = {"images": (8, 8, 1), "fc1_sigmoid": (12,)}
    for epoch, state in fitted.items():
        assert state.step == epoch and state.pools.keys() == shapes.keys()
        for layer, (images, labels, _) in state.pools.items():
            assert images.shape == (SIZE, *shapes[layer]) and images.dtype == np.float32
            assert labels.shape == (SIZE,) and labels.dtype == np.int32
            assert images.min() >= 0 and images.max() <= 1


@pytest.mark.parametrize("layer", ATTACKED)
def test_pools_deceive_the_net_that_they_were_made_for(fitted, layer):
    params, made = fitted[FIRST].params, fitted[FIRST + 1]
    clean = fitted[FIRST].pools[layer]
    assert (answers(params, clean, layer) == clean.labels).mean() > 0.6
    pool = made.pools[layer]
    assert (answers(params, pool, layer) != pool.labels).all()


@pytest.mark.parametrize("layer", ATTACKED)
def test_a_fraction_of_a_pool_is_replaced_in_each_epoch(fitted, layer):
    for epoch in range(FIRST + 2, OPTIONS["num_epochs"] + 1):
        before, after = (fitted[e].pools[layer] for e in (epoch - 1, epoch))
        differs = (before.images != after.images).reshape(SIZE, -1).any(axis=1)
        assert differs.sum() == NUM_NEW
        np.testing.assert_array_equal(before.labels[~differs], after.labels[~differs])
        new = data.Dataset(after.images[differs], after.labels[differs], ())
        assert (answers(fitted[epoch - 1].params, new, layer) != new.labels).all()
    whole = fitted[FIRST].pools[layer].images != fitted[FIRST + 1].pools[layer].images
    assert whole.reshape(SIZE, -1).any(axis=1).all()  # the clean ones have gone


class Stop(Exception):
    pass


def test_resumed_is_uninterrupted_bitwise(digits, fitted, tmp_path):
    last_epoch = FIRST + 3  # resumed from FIRST + 2, with a pool of which a part is kept

    def stop(epoch, **_):
        if epoch == last_epoch:
            raise Stop

    options = {**OPTIONS, "pools": POOLS, "checkpoint_dir": tmp_path}
    with pytest.raises(Stop):
        adversarial.fit(MODEL, digits, KEY, checkpoint_seconds=0, log=stop, **options)
    epochs = []
    resumed = adversarial.fit(
        MODEL, digits, KEY, log=lambda epoch, **_: epochs.append(epoch), **options
    )
    assert epochs == [*range(last_epoch, OPTIONS["num_epochs"] + 1)]
    end = fitted[OPTIONS["num_epochs"]]
    assert equal(resumed.params, end.params) and equal(resumed.pools, end.pools)
    assert equal(resumed.opt_state, end.opt_state)


# ---- before `first_epoch`, without attacks


def rows_in(rows, table):
    """For each row the index of that of the table it equals, up to rounding."""
    rows, table = (np.asarray(a, float).reshape(len(a), -1) for a in (rows, table))
    distances = np.abs(rows[:, None] - table).max(axis=-1)
    assert (distances.min(axis=1) < 1e-5).all()
    return distances.argmin(axis=1)


def test_clean_pools_are_activations_of_the_net_as_it_is(digits, fitted):
    variables, chosen = {"params": fitted[FIRST - 1].params}, []
    for layer, pool in fitted[FIRST].pools.items():
        table = models.activations(MODEL, variables, digits.images, layer)
        rows = rows_in(pool.images, table)
        np.testing.assert_array_equal(pool.labels, digits.labels[rows])
        assert len(set(rows)) == SIZE  # each at most once
        chosen.append(rows.tolist())
    assert chosen[0] != chosen[1]


CLEAN = POOLS._replace(first_epoch=99)


def test_loss_by_hand(digits):
    """One step on all of the data and of the pools, too small to change the net."""
    whole, losses = data.take(digits, slice(SIZE)), []
    weights = {"images": 0.5, "fc1_sigmoid": 0.0, "fc2_sigmoid": 3.0}
    state = adversarial.fit(
        MODEL, whole, KEY, pools=CLEAN._replace(weights=weights, batch_size=SIZE), num_epochs=1,
        batch_size=SIZE, learning_rate=1e-30, weight_decay={"fc1": 0.1},
        log=lambda epoch, loss: losses.append(loss),
    )  # fmt: skip
    params = jax.tree.map(lambda a: np.asarray(a, np.float64), state.params)

    def cross_entropy(examples, layer):
        x = np.asarray(examples.images, np.float64).reshape(SIZE, -1)
        for i in range(LAYERS.index(layer), 3):
            x = x if i == LAYERS.index(layer) else scipy.special.expit(x)
            x = x @ params[f"fc{i + 1}"]["kernel"] + params[f"fc{i + 1}"]["bias"]
        return -scipy.special.log_softmax(x, axis=1)[np.arange(SIZE), examples.labels].mean()

    expected = cross_entropy(whole, "images") + 0.1 * np.sum(params["fc1"]["kernel"] ** 2) / 12
    for layer, weight in weights.items():
        expected += weight * cross_entropy(state.pools[layer], layer)
    assert losses == [pytest.approx(expected, rel=1e-5)]


def test_a_pool_trains_the_layers_above_it_by_its_weight(digits):
    """In one step on few images, of which the pool's batch holds some more often than others."""
    few, weights = data.take(digits, slice(25)), {"images": 0.0, "fc2_sigmoid": 5.0}
    none, some = (
        adversarial.fit(
            MODEL, few, KEY, pools=CLEAN._replace(weights=each), num_epochs=1, batch_size=25,
            learning_rate=1e-2,
        )
        for each in ({}, weights)
    )  # fmt: skip
    for layer in ("fc1", "fc2", "fc3"):
        kernels = [state.params[layer]["kernel"] for state in (none, some)]
        assert np.allclose(*kernels, atol=1e-6) == (layer != "fc3")
    assert none.pools == {}
    # A pool larger than the data holds each image about as often.
    chosen = rows_in(some.pools["images"].images, few.images)
    np.testing.assert_array_equal(some.pools["images"].labels, few.labels[chosen])
    assert set(np.bincount(chosen, minlength=25).tolist()) == {2, 3}


BAD_POOLS = {
    "negative weight": ({"weights": {"fc1": -0.5}}, r"pools\.weights\.fc1 is -0\.5"),
    "NaN weight": ({"weights": {"fc1": float("nan")}}, r"pools\.weights\.fc1 is nan"),
    "unknown layer": ({"weights": {"fc9": 0.5}}, r"pools\.weights\.fc9"),
    "the top layer": ({"weights": {"fc3": 0.5}}, r"pools\.weights\.fc3"),
    "size 0": ({"size": 0}, r"pools\.size is 0"),
    "batch size 0": ({"batch_size": 0}, r"pools\.batch_size is 0"),
    "first_epoch -1": ({"first_epoch": -1}, r"pools\.first_epoch"),
    "nothing replaced": ({"replaced": 0.0}, r"pools\.replaced is 0\.0"),
    "more replaced than there is": ({"replaced": 1.5}, r"pools\.replaced is 1\.5"),
    "NaN replaced": ({"replaced": float("nan")}, r"pools\.replaced is nan"),
    "stddev 0": ({"stddevs": {"images": 0.0}}, r"pools\.stddevs\.images is 0\.0"),
    "NaN stddev": ({"stddevs": {"images": float("nan")}}, r"pools\.stddevs\.images is nan"),
    "stddev without a pool": ({"stddevs": {"fc2": 0.1}}, r"pools\.stddevs\.fc2"),
    "targets that need a class": ({"targets": "fixed"}, r'pools\.targets is "fixed"'),
}
BAD_OPTIONS = {
    "negative decay": ({"weight_decay": {"fc1": -0.1}}, r"weight_decay\.fc1 is -0\.1"),
    "decay of an unknown layer": ({"weight_decay": {"fc9": 0.1}}, r"weight_decay\.fc9"),
    "no epochs": ({"num_epochs": 0}, "num_epochs is 0"),
}


@pytest.mark.parametrize("case", [*BAD_POOLS, *BAD_OPTIONS])
def test_bad_settings(digits, case):
    pools, options = CLEAN, OPTIONS
    if case in BAD_POOLS:
        changed, message = BAD_POOLS[case]
        pools = CLEAN._replace(**changed)
    else:
        changed, message = BAD_OPTIONS[case]
        options = {**OPTIONS, **changed}
    with pytest.raises(InputError, match=message) as caught:
        adversarial.fit(MODEL, digits, KEY, pools=pools, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_pools_of_a_convolutional_net(digits):
    """ReLUs and what is pooled of them have no upper bound, and stay above 0."""
    model, few = models.conv_net((3,), 8), data.take(digits, slice(40))
    assert adversarial.activation_bounds(model, "images") == (0, 1)
    assert adversarial.activation_bounds(model, "pool1") == (0, np.inf)
    assert adversarial.activation_bounds(model, "conv1") == (-np.inf, np.inf)
    layers = ("conv1", "pool1", "fc1_relu")
    pools = adversarial.PoolOptions(
        dict.fromkeys(layers, 1.0), size=20, replaced=1.0, batch_size=20,
        attack_options={"num_penalties": 2, "maxiter": 10, "refine": False},
    )  # fmt: skip
    state = adversarial.fit(
        model, few, KEY, pools=pools, num_epochs=2, batch_size=20, learning_rate=1e-2
    )
    assert {layer: pool.images.shape[1:] for layer, pool in state.pools.items()} == {
        "conv1": (8, 8, 3), "pool1": (4, 4, 3), "fc1_relu": (8,)
    }  # fmt: skip
    for layer in ("pool1", "fc1_relu"):
        images = np.asarray(state.pools[layer].images)
        assert np.isfinite(images).all() and images.min() >= 0, layer
    assert (np.asarray(state.pools["conv1"].images) < 0).any()
