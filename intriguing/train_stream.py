"""Training of large networks on streamed images, as Krizhevsky et al. 2012 trained AlexNet."""

import functools
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from intriguing import checkpoint, sharding
from intriguing.data_stream import Source
from intriguing.errors import InputError
from intriguing.progress import Progress

DROPS = (1 / 3, 2 / 3, 8 / 9)  # of the training: there the learning rate is divided by 10


class StreamState(NamedTuple):
    """Fields: `params`; `opt_state`, of optax; `step`, how many are done."""

    params: dict
    opt_state: optax.OptState
    step: jax.Array


def fit(
    model: nn.Module,
    source: Source,
    key: jax.Array,
    *,
    crop_size: int,
    num_epochs: int,
    batch_size: int,
    learning_rate: float,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    mesh: Mesh | None = None,
    checkpoint_dir: str | Path | None = None,
    checkpoint_seconds: float = 600.0,
    name: str = "training",
    log: Callable[..., None] | None = None,
) -> StreamState:
    """Momentum SGD with weight decay on random crops and mirror images.

    An epoch's order comes from `fold_in(key, epoch)`, a step's crops and dropout from its number: a
    resumed run gives what an uninterrupted one does. The learning rate falls tenfold at `DROPS`.

    Args:
      model: maps images (batch, crop_size, crop_size, 3) to (logits, activations).
      source: images larger than `crop_size`; those that cannot be read count for nothing.
      key: PRNG key.
      crop_size: pixels.
      num_epochs: passes over the source; the last, smaller batch of each is left out.
      batch_size: images per step, over all devices: a multiple of their number.
      learning_rate, momentum, weight_decay: of SGD; the decay is of all parameters.
      mesh: devices that share a batch; default: one.
      checkpoint_dir: where to save and resume; default: nowhere.
      checkpoint_seconds: time between saves; the end is always saved.
      name: what the progress bar says.
      log: called as `log(step, loss=...)` a hundred times, evenly.

    Returns:
      The state after the last step.

    Raises:
      InputError: sizes that do not fit, an unfitting checkpoint, or a loss that is not finite.
    """
    mesh = sharding.make_mesh(1) if mesh is None else mesh
    num_batches = len(source.labels) // max(batch_size, 1)
    _check(source, crop_size, num_epochs, batch_size, num_batches, learning_rate, mesh)
    total = num_epochs * num_batches
    tx = _optimiser(learning_rate, momentum, weight_decay, total)
    init_key, order_key, step_key = jax.random.split(key, 3)
    create = functools.partial(create_state, model, tx, init_key, crop_size)
    state = _restore_or_create(create, checkpoint_dir, mesh)
    step = jax.jit(functools.partial(train_step, model, tx, step_key, crop_size))
    batches = _batches(source, order_key, int(state.step), total, num_batches, batch_size)
    report = functools.partial(_report, name, learning_rate, log)
    return _run_steps(step, state, batches, total, mesh=mesh, name=name, report=report,
                      checkpoint_dir=checkpoint_dir,
                      checkpoint_seconds=checkpoint_seconds)  # fmt: skip


def _optimiser(
    learning_rate: float, momentum: float, weight_decay: float, total: int
) -> optax.GradientTransformation:
    """SGD for `total` steps; see `DROPS`."""
    drops = {max(1, round(part * total)): 0.1 for part in DROPS}
    schedule = optax.piecewise_constant_schedule(learning_rate, drops)
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.sgd(schedule, momentum))


def create_state(
    model: nn.Module, tx: optax.GradientTransformation, key: jax.Array, crop_size: int
) -> StreamState:
    """Fresh parameters and their optimiser state."""
    params = model.init(key, jnp.zeros((1, crop_size, crop_size, 3)))["params"]
    return StreamState(params, tx.init(params), jnp.zeros((), jnp.int32))


def _restore_or_create(create: Callable[[], StreamState], checkpoint_dir, mesh: Mesh
                       ) -> StreamState:  # fmt: skip
    everywhere = sharding.replicated(mesh)
    abstract = jax.eval_shape(create)
    saved = checkpoint_dir and checkpoint.restore_latest(checkpoint_dir, abstract, everywhere)
    return saved[1] if saved else jax.device_put(jax.jit(create)(), everywhere)


def train_step(
    model: nn.Module, tx: optax.GradientTransformation, key: jax.Array, crop_size: int,
    state: StreamState, images: jax.Array, labels: jax.Array, readable: jax.Array,
) -> tuple[StreamState, jax.Array]:  # fmt: skip
    """One step of the optimiser.

    Args:
      model, tx, crop_size: what is trained, and how.
      key: of all steps; this one's is made from it and `state.step`.
      state: before the step.
      images: (batch, h, w, 3).
      labels: (batch,) int.
      readable: (batch,) float, 0 for an image that counts for nothing.

    Returns:
      (the state after it, the mean loss of the images that count).
    """
    crop_key, dropout_key = jax.random.split(jax.random.fold_in(key, state.step))

    def loss_fn(params):
        crops = random_crops(crop_key, images, crop_size)
        rngs = {"dropout": dropout_key}
        logits, _ = model.apply({"params": params}, crops, train=True, rngs=rngs)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return (losses * readable).sum() / jnp.maximum(readable.sum(), 1)

    loss, grads = jax.value_and_grad(loss_fn)(state.params)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return StreamState(params, opt_state, state.step + 1), loss


def _run_steps(run_step, state: StreamState, batches: Iterable, total: int, *, mesh: Mesh,
               name: str, report: Callable[[int, jax.Array], None], checkpoint_dir,
               checkpoint_seconds: float) -> StreamState:  # fmt: skip
    """Takes the steps that are left of `total`, one per batch; reports and saves on the way."""
    first, last_saved = int(state.step), time.monotonic()
    with Progress(total, name, "step") as progress:
        progress.update(first)
        for step, batch in enumerate(batches, start=first + 1):
            state, loss = run_step(state, *jax.device_put(batch, sharding.split(mesh)))
            progress.update(step)
            if step % max(1, total // 100) == 0 or step == total:
                report(step, loss)
            due = step == total or time.monotonic() - last_saved > checkpoint_seconds
            if checkpoint_dir and due:
                checkpoint.save(checkpoint_dir, step, state)
                last_saved = time.monotonic()
    return state


def _report(name: str, learning_rate: float, log, step: int, loss: jax.Array) -> None:
    if not np.isfinite(loss):
        raise InputError(f"{name}: the loss is {loss} at step {step}; the learning rate"
                         f" ({learning_rate}) may be too large")  # fmt: skip
    if log is not None:
        log(step, loss=float(loss))


def _check(source, crop_size, num_epochs, batch_size, num_batches, learning_rate, mesh) -> None:
    size = source.read(range(1))[0].shape[1]
    if crop_size > size:
        raise InputError(f"crop_size is {crop_size}: images have {size} pixels")
    if batch_size < 1 or batch_size % mesh.size:
        raise InputError(f"batch_size is {batch_size}: a multiple of {mesh.size} devices is needed")
    if not num_batches:
        num = len(source.labels)
        raise InputError(f"batch_size is {batch_size}: the training set has {num} images")
    if num_epochs < 1 or not learning_rate > 0:
        raise InputError("num_epochs must be at least 1, and learning_rate positive")


def random_crops(key: jax.Array, images: jax.Array, size: int) -> jax.Array:
    """A random square of each image (batch, h, w, c), every other one mirrored."""
    height, width = images.shape[1:3]

    def crop(i, image):
        row_key, column_key, flip_key = jax.random.split(jax.random.fold_in(key, i), 3)
        row = jax.random.randint(row_key, (), 0, height - size + 1)
        column = jax.random.randint(column_key, (), 0, width - size + 1)
        part = jax.lax.dynamic_slice(image, (row, column, 0), (size, size, image.shape[-1]))
        return jnp.where(jax.random.bernoulli(flip_key), part[:, ::-1], part)

    return jax.vmap(crop)(jnp.arange(len(images)), images)


def _batches(source: Source, key, first: int, total: int, num_batches: int, batch_size: int
             ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:  # fmt: skip
    """(images, labels, readable) of the steps from `first` on; the next is read meanwhile."""

    @functools.lru_cache(1)
    def order_of(epoch: int) -> np.ndarray:
        epoch_key = jax.random.fold_in(key, epoch)
        return np.asarray(jax.random.permutation(epoch_key, len(source.labels)))

    def read(step: int):
        epoch, batch = divmod(step, num_batches)
        indices = order_of(epoch)[batch * batch_size : (batch + 1) * batch_size]
        images, readable = source.read(indices)
        return images, source.labels[indices], readable.astype(np.float32)

    with ThreadPoolExecutor(1) as reader:
        pending = reader.submit(read, first) if first < total else None
        for step in range(first, total):
            batch = pending.result()
            pending = reader.submit(read, step + 1) if step + 1 < total else None
            yield batch
