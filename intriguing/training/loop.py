"""The loop of all training: rounds that are counted, reported, checked, saved and gone on with.

A round is what `advance` does: an epoch over data that live on the device, a batch of a stream.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from intriguing import processes, sharding
from intriguing.data import Dataset
from intriguing.errors import InputError
from intriguing.progress import Progress
from intriguing.training import checkpoint

Pools = dict[str, Dataset]


class TrainState(NamedTuple):
    """What training carries from round to round.

    Fields: `params`; `opt_state`; `step`, the rounds done so far; `pools`, further examples by
    name, which change from round to round (none in plain training). Of several seeds trained as one
    program every array has them as its first axis.
    """

    params: dict
    opt_state: optax.OptState
    step: jax.Array
    pools: Pools


class Run(NamedTuple):
    """How a training is watched and kept: nothing here changes what comes out.

    Fields:
      name: what the progress bar says.
      unit: what a round is called.
      checkpoint_dir: where to save and resume; None: nowhere.
      checkpoint_seconds: time between saves; the end, and an interruption, are always saved.
      log: called as `log(step, loss=...)` a hundred times, evenly, and at the end; of several seeds
        with an array of their losses.
    """

    name: str = "training"
    unit: str = "epoch"
    checkpoint_dir: str | Path | None = None
    checkpoint_seconds: float = 60.0
    log: Callable[..., None] | None = None


def split_options(record: type, options: dict) -> tuple[NamedTuple, dict]:
    """(a record of those options that are its fields, the others).

    Raises:
      TypeError: a field that has no default is not given.
    """
    names = record._fields
    own = {name: value for name, value in options.items() if name in names}
    return record(**own), {name: value for name, value in options.items() if name not in names}


def create_train_state(params: dict, tx: optax.GradientTransformation) -> TrainState:
    """The state before the first round; without pools."""
    return TrainState(params, tx.init(params), jnp.zeros((), jnp.int32), {})


def num_done(state: TrainState) -> int:
    """The rounds that are done, by every seed if there are several."""
    return int(np.max(state.step))


def train_step(
    loss_fn: Callable[[dict], jax.Array], tx: optax.GradientTransformation, state: TrainState
) -> tuple[TrainState, jax.Array]:
    """One step of the optimiser down `loss_fn(params)`: (state, loss). `state.step` stays."""
    loss, grads = jax.value_and_grad(loss_fn)(state.params)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    return state._replace(
        params=optax.apply_updates(state.params, updates), opt_state=opt_state
    ), loss


def restore_or_create(
    create: Callable[..., TrainState], *args, checkpoint_dir: str | Path | None, layout
) -> TrainState:
    """The latest state in `checkpoint_dir`; else `create(*args)`, jitted and laid out.

    Args:
      create: pure.
      *args: of `create`.
      checkpoint_dir: None: there is none.
      layout: one sharding for all, or a pytree of them, shaped like the state.
    """
    if checkpoint_dir:
        abstract = jax.eval_shape(create, *args)
        if isinstance(layout, jax.sharding.Sharding):
            layouts = jax.tree.map(lambda _: layout, abstract)
        else:
            layouts = layout
        like = jax.tree.map(
            lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
            abstract, layouts,
        )  # fmt: skip
        if latest := checkpoint.restore_latest(checkpoint_dir, like):
            return latest[1]
    if isinstance(layout, jax.sharding.Sharding):
        args = sharding.put(args, layout)
    return jax.jit(create, out_shardings=layout)(*args)


def run(
    advance: Callable[[TrainState], tuple[TrainState, jax.Array]],
    state: TrainState,
    num_steps: int,
    *,
    run: Run,
) -> TrainState:
    """Takes the rounds that are left of `num_steps`.

    What is not finite is never saved: it would take the place of a state that is good.

    Args:
      advance: one round: state -> (state, loss).
      state: to start from; `state.step` rounds are done.
      num_steps: rounds of the whole training.
      run: how it is reported and kept.

    Raises:
      InputError: a loss or weights that are not finite.
      KeyboardInterrupt: after the state has been saved.
    """
    first = saved = good = num_done(state)
    log_every, saved_at = max(1, num_steps // 100), time.monotonic()
    with Progress(num_steps, run.name, run.unit, num_done=first) as progress:
        try:
            for step in range(first + 1, num_steps + 1):
                state, loss = advance(state)
                progress.update(step)
                is_logged = step % log_every == 0 or step == num_steps
                is_due = step == num_steps or time.monotonic() - saved_at >= run.checkpoint_seconds
                if _is_shared(state):  # all must save, or none
                    is_due = is_logged and processes.first_says(is_due)
                if not is_logged and not is_due:
                    continue
                if is_bad := _what_is_bad(loss, state if is_due else None):
                    raise InputError(_stopped(run, is_bad, step, good, saved))
                good = step
                if is_logged and run.log is not None:
                    run.log(step, loss=float(loss) if np.ndim(loss) == 0 else np.asarray(loss))
                if is_due and run.checkpoint_dir is not None:
                    checkpoint.save(run.checkpoint_dir, step, state)
                    saved, saved_at = step, time.monotonic()
        except KeyboardInterrupt:
            _save_interrupted(state, saved, run)
            raise
    return state


@jax.jit
def _is_finite(tree) -> jax.Array:
    floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.all(jnp.array([jnp.isfinite(leaf).all() for leaf in floats]))


def _what_is_bad(loss: jax.Array, state: TrainState | None) -> str:
    """What is not finite, in words; nothing if all is well. Weights are looked at if given."""
    if not np.isfinite(loss).all():
        return f"the loss is {loss}"
    return "" if state is None or _is_finite(state) else "some weights are no longer finite"


def _stopped(run: Run, what: str, step: int, good: int, saved: int) -> str:
    kept = f"kept in {run.checkpoint_dir}" if run.checkpoint_dir and saved else "not kept"
    last = saved if run.checkpoint_dir and saved else good
    return (
        f"{run.name}: {what} at {run.unit} {step}; train.learning_rate may be too large; the last "
        f"good {run.unit} is {last}, {kept}"
    )


def _is_shared(state: TrainState) -> bool:
    """Whether its arrays lie on devices of several processes."""
    return not jax.tree.leaves(state.params)[0].is_fully_addressable


def _save_interrupted(state: TrainState, saved: int, run: Run) -> None:
    """Keeps what an interruption would lose, unless it is bad or was given away in mid-step."""
    if run.checkpoint_dir is None or any(leaf.is_deleted() for leaf in jax.tree.leaves(state)):
        return
    if _is_shared(state):  # the others may be at another step
        return
    if (step := num_done(state)) > saved and _is_finite(state):
        checkpoint.save(run.checkpoint_dir, step, state)
