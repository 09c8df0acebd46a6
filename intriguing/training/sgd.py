"""Training of large networks on streamed images, as Krizhevsky et al. 2012 trained AlexNet."""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from intriguing import identity, sharding
from intriguing.data.stream import Source
from intriguing.training import checkpoint, loop, streams
from intriguing.training.loop import TrainState
from intriguing.training.streams import random_crops

DROPS = (1 / 3, 2 / 3, 8 / 9)  # of the training: there the learning rate is divided by 10


class Sgd(NamedTuple):
    """How a network is trained.

    Fields:
      crop_size: pixels of the network's input.
      num_epochs: passes over the source; the last, smaller batch of each is left out.
      batch_size: images per step, over all devices: a multiple of their number.
      learning_rate, momentum, weight_decay: of SGD; the decay is of all parameters.
    """

    crop_size: int
    num_epochs: int
    batch_size: int
    learning_rate: float
    momentum: float = 0.9
    weight_decay: float = 5e-4


def fit(
    model: nn.Module, source: Source, key: jax.Array, *, mesh: Mesh | None = None, **options
) -> TrainState:
    """Momentum SGD with weight decay on random crops and mirror images.

    An epoch's order comes from `fold_in(key, epoch)`, a step's crops and dropout from its number: a
    resumed run gives what an uninterrupted one does. The learning rate falls tenfold at `DROPS`.

    Args:
      model: maps images (batch, crop_size, crop_size, 3) to (logits, activations).
      source: images larger than `crop_size`; those that cannot be read count for nothing.
      key: PRNG key.
      mesh: devices that share a batch; default: one.
      **options: fields of `Sgd` and of `loop.Run`.

    Returns:
      The state after the last step.

    Raises:
      InputError: sizes that do not fit, an unfitting checkpoint, or a loss that is not finite.
    """
    recipe, run = loop.split_options(Sgd, options)
    mesh = sharding.make_mesh(1) if mesh is None else mesh
    run = loop.Run(**{"unit": "step", "checkpoint_seconds": 600.0, **run})
    num_steps, size = streams.check_sizes(source, recipe, mesh), recipe.crop_size
    tx = _optimiser(recipe, num_steps)
    init_key, order_key, step_key = jax.random.split(key, 3)

    def create(key):
        params = model.init(key, jnp.zeros((1, size, size, 3)))["params"]
        return loop.create_train_state(params, tx)

    step = functools.partial(train_step, model, tx, step_key, size)
    if run.checkpoint_dir:
        made_from = {
            **streams.made_from(source, key),
            "network or loss": streams.identity_of(step, create, init_key, source),
            "settings": identity.of_settings(**recipe._asdict()),
        }
        checkpoint.claim(run.checkpoint_dir, made_from, run.name)
    state = loop.restore_or_create(
        create, init_key, checkpoint_dir=run.checkpoint_dir, layout=sharding.replicated(mesh)
    )
    sizes = (num_steps, recipe.batch_size)
    return streams.run_steps(
        jax.jit(step), state, source, order_key, sizes=sizes, mesh=mesh, run=run
    )


def _optimiser(recipe: Sgd, num_steps: int) -> optax.GradientTransformation:
    """SGD for so many steps; see `DROPS`."""
    drops = {max(1, round(part * num_steps)): 0.1 for part in DROPS}
    schedule = optax.piecewise_constant_schedule(recipe.learning_rate, drops)
    decay = optax.add_decayed_weights(recipe.weight_decay)
    return optax.chain(decay, optax.sgd(schedule, recipe.momentum))


def train_step(
    model: nn.Module, tx: optax.GradientTransformation, key: jax.Array, crop_size: int,
    state: TrainState, images: jax.Array, labels: jax.Array, readable: jax.Array,
) -> tuple[TrainState, jax.Array]:  # fmt: skip
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

    state, loss = loop.train_step(loss_fn, tx, state)
    return state._replace(step=state.step + 1), loss
