"""Tests for intriguing/training/loop.py: what is saved, when, and what never is."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from failing import interrupted_at

from intriguing.errors import InputError
from intriguing.training import checkpoint, loop

TX = optax.sgd(0.1)


def start():
    return loop.create_train_state({"w": jnp.ones(3)}, TX)


def halve(state):
    """A round: the gradient of |w|^2 / 2 is w."""
    state, loss = loop.train_step(lambda params: (params["w"] ** 2).sum() / 2, TX, state)
    return state._replace(step=state.step + 1), loss


def restored(folder):
    return loop.restore_or_create(
        start, checkpoint_dir=folder, layout=jax.sharding.SingleDeviceSharding(jax.devices()[0])
    )


def kept(folder):
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def spoilt_at(step, what):
    """Rounds of which one gives NaN, for its loss or among its weights."""

    def advance(state):
        state, loss = halve(state)
        if int(state.step) == step and what == "weights":
            state = state._replace(params={"w": state.params["w"].at[1].set(jnp.nan)})
        return state, jnp.nan if int(state.step) == step and what == "loss" else loss

    return advance


@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_resumed_is_uninterrupted_bitwise(tmp_path, seconds):
    whole = loop.run(halve, start(), 9, run=loop.Run())
    run = loop.Run(checkpoint_dir=tmp_path, checkpoint_seconds=seconds)
    loop.run(halve, start(), 5, run=run)
    assert kept(tmp_path) == ([4, 5] if seconds == 0 else [5])
    found = loop.run(halve, restored(tmp_path), 9, run=run)
    assert found.step == whole.step == 9
    np.testing.assert_array_equal(found.params["w"], whole.params["w"])
    np.testing.assert_allclose(found.params["w"], 0.9**9, rtol=1e-6)


@pytest.mark.parametrize("what", ["loss", "weights"])
def test_what_is_not_finite_is_never_saved(tmp_path, what):
    """Steps between logs, 500 rounds have a log every 5: each that is saved is checked."""
    run = loop.Run("the net", "step", tmp_path, checkpoint_seconds=0.0)
    words = {"loss": "the loss is nan", "weights": "some weights are no longer finite"}[what]
    message = rf"the net: {words} at step 8; .*learning_rate.* the last good step is 7, kept in "
    with pytest.raises(InputError, match=message) as caught:
        loop.run(spoilt_at(8, what), start(), 500, run=run)
    assert "\n" not in str(caught.value)
    assert kept(tmp_path) == [6, 7]
    assert restored(tmp_path).step == 7 and np.isfinite(restored(tmp_path).params["w"]).all()


@pytest.mark.parametrize("what", ["loss", "weights"])
def test_without_a_folder_the_end_is_checked(what):
    with pytest.raises(InputError, match=r"at epoch 4; .* the last good epoch is 3, not kept"):
        loop.run(spoilt_at(4, what), start(), 4, run=loop.Run())


@pytest.mark.parametrize("spoilt", [False, True])
def test_an_interruption_saves(tmp_path, spoilt):
    advance = spoilt_at(6, "weights") if spoilt else halve
    run = loop.Run(checkpoint_dir=tmp_path, checkpoint_seconds=1e9)
    with pytest.raises(KeyboardInterrupt):
        loop.run(interrupted_at(7, advance), start(), 9, run=run)
    if spoilt:
        assert not tmp_path.exists() or kept(tmp_path) == []
        return
    assert kept(tmp_path) == [6]
    whole = loop.run(halve, start(), 9, run=loop.Run())
    found = loop.run(halve, restored(tmp_path), 9, run=run)
    np.testing.assert_array_equal(found.params["w"], whole.params["w"])


def test_an_interruption_amid_a_step_that_donates_its_state(tmp_path):
    donating = jax.jit(halve, donate_argnums=0)

    def interrupt(state):
        after = donating(state)
        if int(after[0].step) == 3:
            raise KeyboardInterrupt  # the state before is gone, the one after not yet ours
        return after

    run = loop.Run(checkpoint_dir=tmp_path, checkpoint_seconds=1e9)
    with pytest.raises(KeyboardInterrupt):
        loop.run(interrupt, start(), 9, run=run)
    assert checkpoint.restore_latest(tmp_path, start()) is None


def test_a_finished_run_takes_no_step(tmp_path):
    run = loop.Run(checkpoint_dir=tmp_path)
    state = loop.run(halve, start(), 3, run=run)
    assert loop.run(None, state, 3, run=run) is state


def test_a_log_a_hundred_times():
    steps = []
    run = loop.Run(log=lambda step, loss: steps.append((step, loss)))
    loop.run(halve, start(), 250, run=run)
    assert [step for step, _ in steps] == list(range(2, 251, 2))
    assert all(isinstance(loss, float) for _, loss in steps)
