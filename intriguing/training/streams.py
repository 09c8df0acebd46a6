"""Training on streamed images: a round of `loop.run` is a step on one batch."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from intriguing import identity, keys, sharding
from intriguing.data.stream import Source
from intriguing.errors import InputError
from intriguing.identity import MadeFrom
from intriguing.training import loop
from intriguing.training.loop import TrainState


def check_sizes(source: Source, recipe, mesh: Mesh) -> int:
    """The number of steps of the whole training. Raises InputError for sizes that do not fit.

    `recipe` has `crop_size`, `num_epochs`, `batch_size` and `learning_rate`.
    """
    crop_size, batch_size = recipe.crop_size, recipe.batch_size
    size, num = source.read(range(1))[0].shape[1], len(source.labels)
    if crop_size > size:
        raise InputError(f"crop_size is {crop_size}: images have {size} pixels")
    num_shards = sharding.num_shards(mesh)
    if batch_size < 1 or batch_size % num_shards:
        raise InputError(
            f"batch_size is {batch_size}: a multiple of {num_shards} devices is needed"
        )
    if batch_size > num:
        raise InputError(f"batch_size is {batch_size}: the training set has {num} images")
    if recipe.num_epochs < 1 or not recipe.learning_rate > 0:
        raise InputError("num_epochs must be at least 1, and learning_rate positive")
    return recipe.num_epochs * (num // batch_size)


def made_from(source: Source, key: jax.Array) -> MadeFrom:
    """What any training on a stream depends on."""
    return {"data": source.listing, "seed": identity.of_arrays(key), "jax": jax.__version__}


def identity_of(step: Callable, create: Callable, key: jax.Array, source: Source) -> str:
    """Hash of the network and the loss: of how its state is made, and of a step on one image."""
    image = source.read(range(1))[0]

    def first_step(key, images):
        return step(create(key), images, jnp.zeros(1, jnp.int32), jnp.ones(1))

    return identity.of_function(first_step, key, jax.ShapeDtypeStruct(image.shape, image.dtype))


def run_steps(
    run_step: Callable[..., tuple[TrainState, jax.Array]],
    state: TrainState,
    source: Source,
    key: jax.Array,
    *,
    sizes: tuple[int, int],
    mesh: Mesh,
    run: loop.Run,
) -> TrainState:
    """Takes the steps that are left, one per batch of images.

    Args:
      run_step: (state, images, labels, readable) -> (state, loss), jitted; `readable` (batch,) is 0
        for an image that counts for nothing.
      state: to start from.
      source: what batches are read from; the last, smaller one of each epoch is left out.
      key: an epoch's order comes from `fold_in(key, epoch)`.
      sizes: steps of the whole training; images per step, over all devices.
      mesh: of the batches.
      run: how it is reported and kept.

    Raises:
      InputError: as `loop.run`.
    """
    num_steps, batch_size = sizes
    batches = _batches(source, key, int(state.step), num_steps, batch_size)

    def advance(state):
        return run_step(state, *sharding.put(next(batches), sharding.split(mesh)))

    with contextlib.closing(batches):
        return loop.run(advance, state, num_steps, run=run)


def _batches(source: Source, key, first: int, num_steps: int, batch_size: int
             ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:  # fmt: skip
    """(images, labels, readable) of the steps from `first` on; the next is read meanwhile."""
    num_batches = len(source.labels) // batch_size

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
        pending = reader.submit(read, first) if first < num_steps else None
        for step in range(first, num_steps):
            batch = pending.result()
            pending = reader.submit(read, step + 1) if step + 1 < num_steps else None
            yield batch


def random_crops(key: jax.Array, images: jax.Array, size: int) -> jax.Array:
    """A random square of each image (batch, h, w, c), every other one mirrored."""
    height, width = images.shape[1:3]
    base = keys.independent(key)

    def crop(i, image):
        row_key, column_key, flip_key = jax.random.split(jax.random.fold_in(base, i), 3)
        row = jax.random.randint(row_key, (), 0, height - size + 1)
        column = jax.random.randint(column_key, (), 0, width - size + 1)
        part = jax.lax.dynamic_slice(image, (row, column, 0), (size, size, image.shape[-1]))
        return jnp.where(jax.random.bernoulli(flip_key), part[:, ::-1], part)

    return jax.vmap(crop)(jnp.arange(len(images)), images)
