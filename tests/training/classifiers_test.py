"""Tests for intriguing/training/classifiers.py"""

import functools
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from intriguing import data, sharding, training
from intriguing.errors import InputError
from intriguing.models import autoencoder, autoencoder_classifier, conv_net, fully_connected
from intriguing.training import checkpoint, epochs, loop

MODEL = fully_connected((6,))
OPTIONS = {"num_epochs": 6, "batch_size": 50, "learning_rate": 1e-2, "weight_decay": {"fc1": 0.1}}


@pytest.fixture(scope="module")
def digits():
    return data.take(data.load("digits", "train"), slice(230))  # the last batch of 50 is left out


@pytest.fixture(scope="module")
def uninterrupted(digits, tmp_path_factory):
    """(state, folder) of a whole run with key 3."""
    folder = tmp_path_factory.mktemp("whole")
    return training.fit(MODEL, digits, jax.random.key(3), checkpoint_dir=folder, **OPTIONS), folder


def equal(first, second):
    return all(map(np.array_equal, jax.tree.leaves(first), jax.tree.leaves(second)))


def run_steps(model, batch, num_steps, weight_decay, learning_rate=1e-2):
    tx = optax.adam(learning_rate)
    init = training.init_fn(model, batch)
    state = loop.create_train_state(init(jax.random.key(0)), tx)

    def loss_fn(params, batch, pools, key):
        loss = training.classification_loss(model.apply({"params": params}, batch.images), batch)
        return loss + training.weight_decay_penalty(params, weight_decay)

    step = jax.jit(functools.partial(epochs.train_step, loss_fn, tx))
    losses = []
    for _ in range(num_steps):
        state, loss = step(state, batch, {}, jax.random.key(0))
        losses.append(float(loss))
    return state, losses


def test_train_step_golden(digits):
    # Measured with jax 0.10.2 on a CPU, float32.
    reference = {
        "loss before": 2.6777167,
        "loss after": 2.6316254,
        "fc1 norm": 2.3352718,
        "fc2 norm": 3.0458188,
    }
    batch = data.Dataset(digits.images[:50], digits.labels[:50], ())
    state, losses = run_steps(MODEL, batch, 2, {"fc1": 0.1, "fc2": 0.2})
    found = {
        "loss before": losses[0],
        "loss after": losses[1],
        "fc1 norm": float(jnp.linalg.norm(state.params["fc1"]["kernel"])),
        "fc2 norm": float(jnp.linalg.norm(state.params["fc2"]["kernel"])),
    }
    assert found == pytest.approx(reference, rel=1e-4), (
        "A training step gives other numbers than it used to. If that was intended (initialisation,"
        f" loss, optimiser), put these in `reference` and say so in the commit: {found}"
    )


def test_loss_before_the_first_step_by_hand(digits):
    batch = data.Dataset(digits.images[:50], digits.labels[:50], ())
    tx = optax.adam(1e-2)
    state = loop.create_train_state(training.init_fn(MODEL, batch)(jax.random.key(0)), tx)
    params = jax.tree.map(lambda a: np.asarray(a, np.float64), state.params)
    hidden = 1 / (1 + np.exp(-(batch.images.reshape(50, 64) @ params["fc1"]["kernel"])))
    logits = hidden @ params["fc2"]["kernel"]
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(50), batch.labels]
    decay = 0.1 * np.sum(params["fc1"]["kernel"] ** 2) / 6
    decay += 0.2 * np.sum(params["fc2"]["kernel"] ** 2) / 10
    _, found = run_steps(MODEL, batch, 1, {"fc1": 0.1, "fc2": 0.2})
    assert found[0] == pytest.approx(losses.mean() + decay, rel=1e-5)
    assert state.step == 0


def test_weight_decay_penalty_is_the_paper_s():
    rng = np.random.default_rng(0)
    params = {
        "fc1": {"kernel": rng.normal(size=(5, 4)), "bias": np.full(4, 1e3)},
        "fc2": {"kernel": rng.normal(size=(4, 3)), "bias": np.full(3, 1e3)},
    }
    expected = 0.5 * np.sum(params["fc1"]["kernel"] ** 2) / 4
    assert training.weight_decay_penalty(params, {"fc1": 0.5}) == pytest.approx(expected, rel=1e-5)
    expected += 2 * np.sum(params["fc2"]["kernel"] ** 2) / 3
    both = training.weight_decay_penalty(params, {"fc1": 0.5, "fc2": 2.0})
    assert both == pytest.approx(expected, rel=1e-5)
    assert training.weight_decay_penalty(params, {}) == 0


def test_fit_learns_and_logs(digits):
    logged = []
    state = training.fit(
        MODEL, digits, jax.random.key(0), num_epochs=30, batch_size=50, learning_rate=0.1,
        log=lambda epoch, loss: logged.append((epoch, loss)),
    )  # fmt: skip
    assert [epoch for epoch, _ in logged] == list(range(1, 31))
    losses = [loss for _, loss in logged]
    assert losses[-1] < 0.5 * losses[0]
    assert state.step == 30
    logits, _ = MODEL.apply({"params": state.params}, digits.images)
    assert (logits.argmax(axis=-1) == digits.labels).mean() > 0.6  # six units


def test_another_key_another_net(digits, uninterrupted):
    other = training.fit(MODEL, digits, jax.random.key(4), **OPTIONS)
    assert not equal(other.params, uninterrupted[0].params)


def test_weight_decay_shrinks_its_layer_only(digits, uninterrupted):
    decayed = training.fit(
        MODEL, digits, jax.random.key(3), **{**OPTIONS, "weight_decay": {"fc1": 20.0}}
    )
    for layer, shrunk in (("fc1", True), ("fc2", False)):
        norms = [
            np.linalg.norm(state.params[layer]["kernel"]) for state in (decayed, uninterrupted[0])
        ]
        assert (norms[0] < 0.8 * norms[1]) == shrunk


class Stop(Exception):
    pass


@pytest.mark.parametrize("last_epoch", [1, 4])
def test_resumed_is_uninterrupted_bitwise(digits, uninterrupted, tmp_path, last_epoch):
    """`log` is called before an epoch is saved: stopped in epoch k, the run resumes from k - 1."""
    epochs = []

    def stop(epoch, **_):
        epochs.append(epoch)
        if epoch == last_epoch:
            raise Stop

    options = {**OPTIONS, "checkpoint_dir": tmp_path / "saved"}
    with pytest.raises(Stop):
        training.fit(MODEL, digits, jax.random.key(3), checkpoint_seconds=0, log=stop, **options)
    latest = checkpoint.restore_latest(tmp_path / "saved", uninterrupted[0])
    assert (latest is None) if last_epoch == 1 else latest[0] == last_epoch - 1
    resumed = training.fit(
        MODEL, digits, jax.random.key(3), log=lambda epoch, **_: epochs.append(epoch), **options
    )
    assert epochs == [*range(1, last_epoch + 1), *range(last_epoch, 7)]
    assert equal(resumed, uninterrupted[0])


def fail(*_, **__):
    raise AssertionError("trained again what was finished")


def test_what_is_finished_is_not_trained_again(digits, uninterrupted, monkeypatch):
    state, folder = uninterrupted
    monkeypatch.setattr(epochs, "_epoch_runner", fail)
    options = {**OPTIONS, "checkpoint_dir": folder, "log": fail}
    assert equal(training.fit(MODEL, digits, jax.random.key(3), **options), state)


def brighter(dataset):
    return dataset._replace(images=np.minimum(dataset.images * 1.01, 1))


OTHER = {  # what else a checkpoint may have been made from: (model, data, seed, options)
    "network or loss": (fully_connected((7,)), None, 3, {}),
    "loss": (MODEL, None, 3, {"weight_decay": {"fc1": 0.123}}),
    "penalty": (MODEL, None, 3, {"penalty_fn": lambda params: (params["fc1"]["bias"] ** 2).sum()}),
    "data": (MODEL, brighter, 3, {}),
    "seed": (MODEL, None, 4, {}),
    "settings": (MODEL, None, 3, {"learning_rate": 2e-2}),
}


@pytest.mark.parametrize("changed", OTHER)
def test_a_checkpoint_of_another_training(
    digits, uninterrupted, tmp_path, caplog, monkeypatch, changed
):
    """It is not taken for this one, nor lost: the training that made it finds it again."""
    state, folder = uninterrupted
    shutil.copytree(folder, tmp_path / "kept")
    model, change, seed, options = OTHER[changed]
    options = {**OPTIONS, **options}
    dataset = change(digits) if change else digits

    def fit(**kept):
        return training.fit(model, dataset, jax.random.key(seed), name="the net", **options, **kept)

    found = fit(checkpoint_dir=tmp_path / "kept")
    (message,) = caplog.messages
    named = "network or loss" if changed in ("loss", "penalty") else changed
    assert message.endswith(f"was made from other {named}: set aside, and trained anew")
    assert message.startswith("the net: ")
    assert equal(found, fit())
    monkeypatch.setattr(epochs, "_epoch_runner", fail)
    options_of_first = {**OPTIONS, "checkpoint_dir": tmp_path / "kept", "log": fail}
    assert equal(training.fit(MODEL, digits, jax.random.key(3), **options_of_first), state)
    assert equal(fit(checkpoint_dir=tmp_path / "kept"), found)


BAD_INPUTS = {
    "negative decay": ({"weight_decay": {"fc1": -0.1}}, r"weight_decay\.fc1 is -0\.1"),
    "NaN decay": ({"weight_decay": {"fc1": float("nan")}}, r"weight_decay\.fc1 is nan"),
    "unknown layer": ({"weight_decay": {"fc9": 0.1}}, r"weight_decay\.fc9: .* fc1, fc2"),
    "batch size 0": ({"batch_size": 0}, "batch_size is 0"),
    "batch too large": ({"batch_size": 231}, "batch_size is 231, more than the 230"),
    "no epochs": ({"num_epochs": 0}, "num_epochs is 0"),
    "negative learning rate": ({"learning_rate": -1e-3}, "learning_rate is -0.001"),
}


@pytest.mark.parametrize("case", BAD_INPUTS)
def test_bad_input(digits, case):
    options, message = BAD_INPUTS[case]
    with pytest.raises(InputError, match=message) as caught:
        training.fit(MODEL, digits, jax.random.key(0), **{**OPTIONS, **options})
    assert "\n" not in str(caught.value)


def nan_loss(outputs, batch):
    return training.classification_loss(outputs, batch) * jnp.nan


def test_a_loss_that_is_not_finite_ends_training(digits, tmp_path):
    options = {**OPTIONS, "checkpoint_dir": tmp_path}
    with pytest.raises(InputError, match=r"the net: the loss is nan at epoch 1; .*learning_rate"):
        training.fit(MODEL, digits, jax.random.key(0), loss_fn=nan_loss, name="the net", **options)
    assert [path.name for path in tmp_path.iterdir()] == [
        "made_from.json"
    ]  # nothing broken is left to resume from


def test_penalty_fn_is_added(digits, uninterrupted):
    """A penalty written by hand is that of `weight_decay`, which is not given."""

    def penalty(params):
        return 0.1 * jnp.sum(params["fc1"]["kernel"] ** 2) / 6

    options = {**OPTIONS, "weight_decay": {}, "penalty_fn": penalty}
    found = training.fit(MODEL, digits, jax.random.key(3), **options).params
    for layer in ("fc1", "fc2"):
        kernels = [params[layer]["kernel"] for params in (found, uninterrupted[0].params)]
        np.testing.assert_allclose(*kernels, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("own_data", [False, True])
@pytest.mark.parametrize("model", [MODEL, conv_net((2,), 5)], ids=["dense", "convolutional"])
def test_seeds_as_one_program_are_what_each_is_alone(digits, tmp_path, model, own_data):
    keys = jax.random.split(jax.random.key(3), 2)
    parts = [data.take(digits, slice(60)), data.take(digits, slice(60 if own_data else 0, 120))]
    parts = parts if own_data else [digits, digits]
    both = digits
    if own_data:
        images, labels = (np.stack([getattr(part, name) for part in parts])
                          for name in ("images", "labels"))  # fmt: skip
        both = digits._replace(images=images, labels=labels)
    logged, options = [], {"num_epochs": 3, "batch_size": 20, "learning_rate": 1e-2}
    options["weight_decay"] = {"fc1": 1e-3}
    state = training.fit(model, both, keys, checkpoint_dir=tmp_path,
                         log=lambda step, loss: logged.append(loss), **options)  # fmt: skip
    alone = [training.fit(model, part, key, **options)
             for part, key in zip(parts, keys, strict=True)]  # fmt: skip
    for i, each in enumerate(alone):
        for found, wanted in zip(jax.tree.leaves(state.params), jax.tree.leaves(each.params),
                                 strict=True):  # fmt: skip
            np.testing.assert_allclose(found[i], wanted, atol=1e-5)
    assert [loss.shape for loss in logged] == [(2,)] * 3 and logged[0][0] != logged[0][1]
    again = training.fit(model, both, keys, checkpoint_dir=tmp_path, **options)  # restored
    assert equal(again.params, state.params)


def test_dropout_is_drawn_from_the_key(digits):
    def fit(*rates):
        model = fully_connected((), dropout_rates=rates)
        return training.fit(model, digits, jax.random.key(3), **OPTIONS).params

    first, without = fit(0.4), fit()
    assert equal(fit(0.4), first)
    # The same initial parameters and batches as without: only what is dropped differs.
    assert jax.tree.structure(first) == jax.tree.structure(without)
    assert not np.allclose(first["fc1"]["kernel"], without["fc1"]["kernel"], atol=1e-3)


def test_convolutions_train_alike_in_a_loop_of_the_program_and_of_python(digits, monkeypatch):
    model, found, losses = conv_net((2, 3), 5), [], []
    for slow in (False, True):
        monkeypatch.setattr(epochs, "_has_slow_loops", lambda *_, slow=slow: slow)
        found.append(training.fit(
            model, digits, jax.random.key(0), num_epochs=2, batch_size=50, learning_rate=1e-2,
            weight_decay={"conv1": 1e-2}, log=lambda epoch, loss: losses.append(loss),
        ))  # fmt: skip
    assert losses[2:] == pytest.approx(losses[:2], rel=1e-4)
    assert found[0].step == found[1].step == 2
    assert jax.tree.structure(found[0]) == jax.tree.structure(found[1])
    for first, second in zip(*(jax.tree.leaves(state.params) for state in found), strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-5)


def test_which_nets_have_slow_loops(digits):
    mesh = sharding.make_mesh(1)
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    for model, slow in ((MODEL, False), (conv_net((2,), 5), on_cpu)):
        assert epochs._has_slow_loops(training.init_fn(model, digits), mesh) == slow


# ---- the autoencoder


AE_OPTIONS = {"batch_size": 50, "learning_rate": 1e-2}
PHASES = {
    "autoencoder": {"num_epochs": 40, "weight_decay": {"encoder": 1e-3}, "sparsity": 0.2,
                    "sparsity_weight": 0.1},
    "classifier": {"num_epochs": 40, "weight_decay": {"fc1": 1e-6}},
}  # fmt: skip


ENCODER = autoencoder(12, 64)


def reconstruction_error(params, images):
    logits, _ = ENCODER.apply({"params": params}, images)
    return float(jnp.mean((jax.nn.sigmoid(logits) - images.reshape(logits.shape)) ** 2))


@pytest.fixture(scope="module")
def fitted(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ae")
    model = autoencoder_classifier(12, 10)
    params = training.fit_autoencoder_classifier(
        model, digits, jax.random.key(0), checkpoint_dir=folder, phases=PHASES, **AE_OPTIONS
    )
    return model, params, folder


def code_state(folder):
    phase = {k: v for k, v in PHASES["autoencoder"].items() if k != "weight_decay"}
    tx = optax.adam(optax.cosine_decay_schedule(1e-2, phase["num_epochs"] * 4))
    init = training.init_fn(ENCODER, data.load("digits", "train"))
    like = loop.create_train_state(init(jax.random.key(0)), tx)
    return checkpoint.restore_latest(folder / "code", like)[1]


def test_the_encoder_is_the_autoencoder_s_and_stays_frozen(fitted, digits):
    model, params, folder = fitted
    state = code_state(folder)
    assert params.keys() == {"encoder", "classifier"}
    assert equal(params["encoder"], state.params["encoder"])
    logits, _ = model.apply({"params": params}, digits.images)
    assert (logits.argmax(axis=-1) == digits.labels).mean() > 0.7


def test_reconstruction_improves(fitted, digits):
    _, _, folder = fitted
    start = ENCODER.init(jax.random.key(0), digits.images)["params"]
    end = code_state(folder).params
    images = jnp.asarray(digits.images)
    variance = float(np.mean((digits.images - digits.images.mean(axis=0)) ** 2))
    assert reconstruction_error(end, images) < 0.5 * reconstruction_error(start, images)
    assert reconstruction_error(end, images) < 0.8 * variance  # better than the mean image


def test_sparsity_is_obeyed(digits):
    def activity(sparsity_weight):
        loss_fn = training.reconstruction_loss(0.05, sparsity_weight)
        state = training.fit(ENCODER, digits, jax.random.key(0), loss_fn=loss_fn,
                          num_epochs=40, **AE_OPTIONS)  # fmt: skip
        _, activations = ENCODER.apply({"params": state.params}, digits.images)
        return float(activations["code"].mean())

    assert activity(100.0) == pytest.approx(0.05, abs=0.03)
    assert activity(0.0) > 0.15


def test_reconstruction_loss_by_hand():
    rng = np.random.default_rng(0)
    logits, images = rng.normal(size=(3, 4)), rng.uniform(size=(3, 2, 2, 1))
    code = np.full((3, 2), 0.3)
    pixels = images.reshape(3, 4)
    probabilities = 1 / (1 + np.exp(-logits))
    losses = -pixels * np.log(probabilities) - (1 - pixels) * np.log(1 - probabilities)
    kl = 0.1 * np.log(0.1 / 0.3) + 0.9 * np.log(0.9 / 0.7)
    found = training.reconstruction_loss(0.1, 5.0)(
        (jnp.array(logits), {"code": jnp.array(code)}), data.Dataset(jnp.array(images), None, ())
    )
    assert found == pytest.approx(losses.sum(axis=1).mean() + 5 * 2 * kl, rel=1e-5)


def test_autoencoder_classifier_resumes(fitted, digits, monkeypatch):
    model, params, folder = fitted
    monkeypatch.setattr(epochs, "_epoch_runner", fail)
    again = training.fit_autoencoder_classifier(
        model, digits, jax.random.key(0), checkpoint_dir=folder, phases=PHASES, **AE_OPTIONS
    )
    assert equal(again, params)
