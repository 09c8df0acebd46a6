"""Training on arrays that live on the device: a round of `loop.run` is an epoch."""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from intriguing import identity, sharding
from intriguing.data import Dataset
from intriguing.errors import InputError
from intriguing.training import checkpoint, loop
from intriguing.training.loop import Pools, TrainState

# (params, a batch of the data, one of each pool, key) -> scalar
LossFn = Callable[[dict, Dataset, Pools, jax.Array], jax.Array]


class Refreshed(NamedTuple):
    """Further examples that training sees, beside the data.

    Fields:
      pools: by name, shaped as those that `refresh` returns; every step sees a batch of each, in an
        order drawn anew in every epoch.
      batch_size: examples per step of each pool.
      refresh: gives the pools of the next epoch, from the state before it.
      settings: of `refresh`, `identity.of_settings`.
    """

    pools: Pools
    batch_size: int
    refresh: Callable[[TrainState], Pools]
    settings: str


def check_training(
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


class Adam(NamedTuple):
    """Passes over the data, images per step over all devices, and the rate at the start."""

    num_epochs: int
    batch_size: int
    learning_rate: float


def run_epochs(
    loss_fn: LossFn,
    init_params: Callable[[jax.Array], dict],
    dataset: Dataset,
    key: jax.Array,
    *,
    mesh: Mesh | None = None,
    refreshed: Refreshed | None = None,
    **options,
) -> TrainState:
    """Minimises `loss_fn` with Adam and a cosine schedule that ends at 0.

    Args:
      loss_fn: (params, batch, a batch of each pool, key) -> scalar.
      init_params: key -> params.
      dataset, key, mesh: as in `classifiers.fit`; or several keys (seeds,), trained as one program,
        with one data set for all, or one for each: images (seeds, num, ...), labels (seeds, num).
      refreshed: further examples.
      **options: fields of `Adam` and of `loop.Run`.

    Returns:
      The state after the last epoch.

    Raises:
      InputError: batch size too large, an unfitting checkpoint, or a loss that is not finite.
    """
    adam, run = loop.split_options(Adam, options)
    num_epochs, batch_size, learning_rate = adam
    seeds = _Seeds(key.ndim > 0, dataset.labels.ndim > 1)
    num_batches, run = _count_batches(dataset.labels.shape[-1], batch_size), loop.Run(**run)
    mesh = sharding.make_mesh(1) if mesh is None else mesh
    on_all = sharding.replicated(mesh)
    tx = optax.adam(optax.cosine_decay_schedule(learning_rate, num_epochs * num_batches))
    init_key, data_key = seeds.map(jax.random.split, 0, out_axes=1)(key)
    pools = refreshed.pools if refreshed else {}

    def create(key, pools):
        return loop.create_train_state(init_params(key), tx)._replace(pools=pools)

    create = seeds.map(create, 0, None)
    if run.checkpoint_dir:
        images = (dataset.images[0] if seeds.own_data else dataset.images)[:batch_size]
        network = _network_of(loss_fn, init_params, images, pools)
        _claim(run, network, dataset, key, adam, refreshed)
    state = loop.restore_or_create(
        create, init_key, pools, checkpoint_dir=run.checkpoint_dir, layout=on_all
    )
    if loop.num_done(state) >= num_epochs:
        return state
    arrays = jax.device_put((dataset.images, dataset.labels), on_all)
    sizes = (num_batches, batch_size, refreshed.batch_size if refreshed else batch_size)
    step = functools.partial(train_step, loss_fn, tx)
    run_epoch = _epoch_runner(step, sizes, mesh, _has_slow_loops(init_params, mesh), seeds)

    def advance(state):
        if refreshed:
            state = state._replace(pools=jax.device_put(refreshed.refresh(state), on_all))
        return run_epoch(state, arrays, data_key)

    return loop.run(advance, state, num_epochs, run=run)


def _count_batches(num_images: int, batch_size: int) -> int:
    """Of an epoch. Raises InputError if there is none."""
    if batch_size > num_images:
        raise InputError(
            f"train.batch_size is {batch_size}, more than the {num_images} training "
            "images: make it smaller"
        )
    return num_images // batch_size


def _claim(run: loop.Run, network: str, dataset: Dataset, key, adam: Adam, refreshed) -> None:
    """Makes the checkpoint's folder that of this training."""
    of_pools = [refreshed.batch_size, refreshed.settings] if refreshed else None
    made_from = {
        "data": identity.of_arrays(dataset.images, dataset.labels), "network or loss": network,
        "seed": identity.of_arrays(key), "jax": jax.__version__,
        "settings": identity.of_settings(**adam._asdict(), pools=of_pools),
    }  # fmt: skip
    checkpoint.claim(run.checkpoint_dir, made_from, run.name)


class _Seeds(NamedTuple):
    """Whether there are several, and whether each has data of its own."""

    several: bool
    own_data: bool

    def map(self, function, *in_axes, out_axes=0):
        """The function, or that of all seeds at once."""
        return jax.vmap(function, in_axes, out_axes) if self.several else function

    @property
    def data_axis(self) -> int | None:
        """Of the arrays of the data."""
        return 0 if self.own_data else None


def _network_of(loss_fn: LossFn, init_params, images, pools: Pools) -> str:
    """Hash of what is trained: of the function from a key to parameters and their loss."""
    batch = Dataset(images, np.zeros(len(images), np.int32), ())
    shapes = jax.eval_shape(lambda: (batch, pools))

    def network(key, batch, pools):
        params = init_params(key)
        return params, loss_fn(params, batch, pools, key)

    return identity.of_function(network, jax.random.key(0), *shapes)


def train_step(loss_fn: LossFn, tx, state: TrainState, batch: Dataset, pools: Pools, key):
    """One optimiser step on one batch; returns (state, loss). `state.step` is left alone."""
    return loop.train_step(lambda params: loss_fn(params, batch, pools, key), tx, state)


def _has_slow_loops(init_params, mesh: Mesh) -> bool:
    """Whether a loop inside a program is slow: on a CPU, XLA has no fast convolutions in one."""
    params = jax.eval_shape(init_params, jax.random.key(0))
    has_kernels = any(leaf.ndim > 2 for leaf in jax.tree.leaves(params))
    return has_kernels and mesh.devices.flat[0].platform == "cpu"


def _epoch_runner(step, sizes: tuple[int, int, int], mesh: Mesh, slow_loops: bool, seeds: _Seeds):
    """A function (state, arrays, key) -> (state, mean loss): one pass over a fresh permutation."""
    num_batches, batch_size, pool_batch_size = sizes

    def batch_indices(key, num_examples, batch_size):
        # A pool smaller than what an epoch takes of it is gone through again.
        order = jax.random.permutation(key, num_examples)
        return jnp.resize(order, (num_batches, batch_size))

    def plan(state: TrainState, arrays, key):
        """What each step takes: indices into the data, into each pool, and a key."""
        key = jax.random.fold_in(key, state.step)
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
        after = state._replace(params=params, opt_state=opt_state, step=state.step + 1)
        return after, losses.mean(axis=0)

    if not slow_loops:
        plan_of, one_step, scan = plan, body, jax.lax.scan
        return jax.jit(seeds.map(run_epoch, 0, seeds.data_axis, 0))
    # A step's index is the first axis, that of the seeds the second.
    plan_of = jax.jit(seeds.map(plan, 0, seeds.data_axis, 0, out_axes=1))
    one_step = jax.jit(seeds.map(body, seeds.data_axis, 0, 0, 0))
    scan = _scan_in_python
    return run_epoch


def _scan_in_python(body, carry, steps):
    """What `jax.lax.scan` does, one call per step."""
    losses = []
    for i in range(len(jax.tree.leaves(steps)[0])):
        carry, loss = body(carry, jax.tree.map(lambda array, i=i: array[i], steps))
        losses.append(loss)
    return carry, jnp.stack(losses)
