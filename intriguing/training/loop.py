"""The loop of all training: epochs over data that live on the device, logged and resumable."""

import functools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from intriguing import sharding
from intriguing.data import Dataset
from intriguing.errors import InputError
from intriguing.progress import Progress
from intriguing.training import checkpoint

Pools = dict[str, Dataset]
# (params, a batch of the data, one of each pool, key) -> scalar
LossFn = Callable[[dict, Dataset, Pools, jax.Array], jax.Array]


class TrainState(NamedTuple):
    """What training carries from epoch to epoch.

    Fields: `params`; `opt_state`; `epoch`, those done so far; `pools`, further examples by name,
    which change from epoch to epoch (none in plain training).
    """

    params: dict
    opt_state: optax.OptState
    epoch: jax.Array
    pools: Pools


def create_train_state(init_params, tx: optax.GradientTransformation, key: jax.Array) -> TrainState:
    """Fresh parameters, `init_params(key)`, and their optimiser state; without pools."""
    params = init_params(key)
    return TrainState(params, tx.init(params), jnp.zeros((), jnp.int32), {})


def train_step(loss_fn: LossFn, tx, state: TrainState, batch: Dataset, pools: Pools, key):
    """One optimiser step on one batch; returns (state, loss). `state.epoch` is left alone."""
    loss, grads = jax.value_and_grad(loss_fn)(state.params, batch, pools, key)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return state._replace(params=params, opt_state=opt_state), loss


def check_options(
    *, num_epochs: int, batch_size: int, learning_rate: float, weight_decay: Mapping[str, float]
) -> None:
    """Raises InputError for numbers that make no sense; needs neither data nor model."""
    for name, size in {"num_epochs": num_epochs, "batch_size": batch_size}.items():
        if size < 1:
            raise InputError(f"train.{name} is {size}: it must be at least 1")
    if not (np.isfinite(learning_rate) and learning_rate > 0):
        raise InputError(f"train.learning_rate is {learning_rate}: it must be positive")
    for layer, decay in weight_decay.items():
        if not (np.isfinite(decay) and decay >= 0):
            raise InputError(f"weight_decay.{layer} is {decay}: it must be 0 or more")


def run_epochs(
    loss_fn: LossFn,
    init_params: Callable[[jax.Array], dict],
    dataset: Dataset,
    key: jax.Array,
    *,
    num_epochs: int,
    batch_size: int,
    learning_rate: float,
    mesh: Mesh | None = None,
    checkpoint_dir: str | Path | None = None,
    checkpoint_seconds: float = 60.0,
    name: str = "training",
    log: Callable[..., None] | None = None,
    pools: Pools | None = None,
    pool_batch_size: int | None = None,
    refresh: Callable[[TrainState], Pools] | None = None,
) -> TrainState:
    """Minimises `loss_fn` with Adam and a cosine schedule that ends at 0.

    Args:
      loss_fn: (params, batch, a batch of each pool, key) -> scalar.
      init_params: key -> params.
      dataset, key, num_epochs, ..., log: as in `train.fit`.
      pools: further examples by name, shaped as those that `refresh` returns; every step sees a
        batch of each, in an order drawn anew in every epoch.
      pool_batch_size: examples per step of each pool; default: `batch_size`.
      refresh: gives the pools of the next epoch, from the state before it.

    Returns:
      The state after `num_epochs` epochs.

    Raises:
      InputError: batch size too large, an unfitting checkpoint, or a loss that is not finite.
    """
    if batch_size > len(dataset.images):
        raise InputError(
            f"train.batch_size is {batch_size}, more than the {len(dataset.images)} training "
            "images: make it smaller"
        )
    mesh = sharding.make_mesh(1) if mesh is None else mesh
    on_all = sharding.replicated(mesh)
    num_batches = len(dataset.images) // batch_size
    tx = optax.adam(optax.cosine_decay_schedule(learning_rate, num_epochs * num_batches))
    init_key, data_key = jax.random.split(key)
    create = functools.partial(create_train_state, init_params, tx)
    state = _restore_or_create(create, init_key, pools or {}, checkpoint_dir, on_all)
    if (epoch := int(state.epoch)) >= num_epochs:
        return state

    arrays = jax.device_put((dataset.images, dataset.labels), on_all)
    step = functools.partial(train_step, loss_fn, tx)
    sizes = (num_batches, batch_size, pool_batch_size or batch_size)
    run_epoch = _epoch_runner(step, sizes, mesh, _has_slow_loops(state.params, mesh))
    log_every, saved = max(1, num_epochs // 100), time.monotonic()
    with Progress(num_epochs, name, "epoch") as progress:
        while epoch < num_epochs:
            if refresh is not None:
                state = state._replace(pools=jax.device_put(refresh(state), on_all))
            state, loss = run_epoch(state, arrays, data_key)
            epoch += 1
            progress.update(epoch)
            if epoch % log_every and epoch < num_epochs:
                continue
            if not np.isfinite(loss):
                raise InputError(f"{name}: the loss is {loss} at epoch {epoch}; train.learning_rate"
                                 f" ({learning_rate}) may be too large")  # fmt: skip
            if log is not None:
                log(epoch, loss=float(loss))
            due = epoch == num_epochs or time.monotonic() - saved >= checkpoint_seconds
            if checkpoint_dir is not None and due:
                checkpoint.save(checkpoint_dir, epoch, state)
                saved = time.monotonic()
    return state


def _restore_or_create(create, key, pools: Pools, checkpoint_dir, layout) -> TrainState:
    """The latest state in `checkpoint_dir`, if there is one; else `create(key)` and the pools."""
    abstract = jax.eval_shape(create, key)._replace(pools=jax.eval_shape(lambda: pools))
    latest = checkpoint_dir and checkpoint.restore_latest(checkpoint_dir, abstract, layout)
    if latest:
        return latest[1]
    state = jax.jit(create, out_shardings=layout)(key)
    return state._replace(pools=jax.device_put(pools, layout))


def _has_slow_loops(params, mesh: Mesh) -> bool:
    """Whether a loop inside a program is slow: on a CPU, XLA has no fast convolutions in one."""
    has_kernels = any(leaf.ndim > 2 for leaf in jax.tree.leaves(params))
    return has_kernels and mesh.devices.flat[0].platform == "cpu"


def _epoch_runner(step, sizes: tuple[int, int, int], mesh: Mesh, slow_loops: bool):
    """A function (state, arrays, key) -> (state, mean loss): one pass over a fresh permutation."""
    num_batches, batch_size, pool_batch_size = sizes

    def batch_indices(key, num_examples, batch_size):
        # A pool smaller than what an epoch takes of it is gone through again.
        order = jax.random.permutation(key, num_examples)
        return jnp.resize(order, (num_batches, batch_size))

    def plan(state: TrainState, arrays, key):
        """What each step takes: indices into the data, into each pool, and a key."""
        key = jax.random.fold_in(key, state.epoch)
        pool_key, step_key = jax.random.split(jax.random.fold_in(key, 0))
        pool_indices = {
            name: batch_indices(jax.random.fold_in(pool_key, i), len(pool.labels), pool_batch_size)
            for i, (name, pool) in enumerate(sorted(state.pools.items()))
        }
        step_keys = jax.random.split(step_key, num_batches)
        return batch_indices(key, len(arrays[0]), batch_size), pool_indices, step_keys

    def take(arrays, indices):
        images, labels = jax.lax.with_sharding_constraint(
            [array[indices] for array in arrays[:2]], sharding.split(mesh)
        )
        return Dataset(images, labels, ())

    def body(arrays, pools, carry, chosen):
        indices, pool_indices, step_key = chosen
        batches = {name: take(pool, pool_indices[name]) for name, pool in pools.items()}
        before = TrainState(*carry, jnp.zeros((), jnp.int32), pools)
        after, loss = step(before, take(arrays, indices), batches, step_key)
        return (after.params, after.opt_state), loss

    def run_epoch(state: TrainState, arrays, key):
        start = (state.params, state.opt_state)
        steps = plan_of(state, arrays, key)
        (params, opt_state), losses = scan(
            functools.partial(one_step, arrays, state.pools), start, steps
        )
        after = state._replace(params=params, opt_state=opt_state, epoch=state.epoch + 1)
        return after, losses.mean()

    if not slow_loops:
        plan_of, one_step, scan = plan, body, jax.lax.scan
        return jax.jit(run_epoch)
    plan_of, one_step, scan = jax.jit(plan), jax.jit(body), _scan_in_python
    return run_epoch


def _scan_in_python(body, carry, steps):
    """What `jax.lax.scan` does, one call per step."""
    losses = []
    for i in range(len(jax.tree.leaves(steps)[0])):
        carry, loss = body(carry, jax.tree.map(lambda array, i=i: array[i], steps))
        losses.append(loss)
    return carry, jnp.stack(losses)
