"""Training on arrays that fit on the device: `fit`, and the two phases of AE400-10."""

import functools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from intriguing import checkpoint, sharding
from intriguing.data import Dataset
from intriguing.errors import InputError
from intriguing.models import Autoencoder, AutoencoderClassifier, FullyConnected
from intriguing.models.autoencoder import sparsity_penalty
from intriguing.progress import Progress

LossFn = Callable[[tuple[jax.Array, dict[str, jax.Array]], Dataset], jax.Array]


class TrainState(NamedTuple):
    """What training carries from epoch to epoch: `params`, `opt_state`, `epoch` (done so far)."""

    params: dict
    opt_state: optax.OptState
    epoch: jax.Array


def classification_loss(outputs, batch: Dataset) -> jax.Array:
    """Mean cross-entropy of (logits, activations) on a batch."""
    logits, _ = outputs
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
    return losses.mean()


def reconstruction_loss(sparsity: float, sparsity_weight: float) -> LossFn:
    """Loss of the sparse autoencoder: pixel cross-entropy, summed over pixels, plus sparsity."""

    def loss_fn(outputs, batch: Dataset) -> jax.Array:
        logits, activations = outputs
        pixels = batch.images.reshape(logits.shape)
        losses = optax.sigmoid_binary_cross_entropy(logits, pixels).sum(axis=-1)
        return losses.mean() + sparsity_weight * sparsity_penalty(activations["encoder"], sparsity)

    return loss_fn


def weight_decay_penalty(params: dict, weight_decay: Mapping[str, float]) -> jax.Array:
    """sum over layers of lambda * sum(w^2) / k, k = units of the layer (section 4.2)."""
    kernels = [(decay, params[layer]["kernel"]) for layer, decay in weight_decay.items()]
    return sum((decay * jnp.sum(w**2) / w.shape[-1] for decay, w in kernels), jnp.zeros(()))


def create_train_state(
    model: nn.Module, image_shape: tuple[int, ...], tx: optax.GradientTransformation, key: jax.Array
) -> TrainState:
    """Fresh parameters for images of `image_shape` (without batch), and their optimiser state."""
    params = model.init(key, jnp.zeros((1, *image_shape)))["params"]
    return TrainState(params, tx.init(params), jnp.zeros((), jnp.int32))


def train_step(model, tx, loss_fn, weight_decay, state: TrainState, batch: Dataset):
    """One optimiser step on one batch; returns (state, loss). `state.epoch` is left alone."""

    def total_loss(params):
        loss = loss_fn(model.apply({"params": params}, batch.images), batch)
        return loss + weight_decay_penalty(params, weight_decay)

    loss, grads = jax.value_and_grad(total_loss)(state.params)
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


def _check_fit(dataset: Dataset, batch_size: int, weight_decay: Mapping, params: dict) -> None:
    if batch_size > len(dataset.images):
        raise InputError(
            f"train.batch_size is {batch_size}, more than the {len(dataset.images)} training "
            "images: make it smaller"
        )
    for layer in weight_decay:
        if layer not in params:
            raise InputError(f"weight_decay.{layer}: the layers are {', '.join(params)}")


def fit(
    model: nn.Module,
    dataset: Dataset,
    key: jax.Array,
    *,
    num_epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: Mapping[str, float] | None = None,
    loss_fn: LossFn = classification_loss,
    mesh: Mesh | None = None,
    checkpoint_dir: str | Path | None = None,
    checkpoint_seconds: float = 60.0,
    name: str = "training",
    log: Callable[..., None] | None = None,
) -> TrainState:
    """Trains with Adam and a cosine schedule that ends at 0; the data live on the device.

    Every epoch sees a new permutation, drawn from `fold_in(key, epoch)`: a resumed run gives the
    same parameters as an uninterrupted one. The last, smaller batch of an epoch is left out.

    Args:
      model: maps images to (logits, activations).
      dataset: images (num, ...) float32, labels (num,) int32.
      key: PRNG key.
      num_epochs: passes over the data.
      batch_size: images per step, over all devices.
      learning_rate: Adam's, at the start.
      weight_decay: lambda of each layer, by the layer's name; layers not named have none.
      loss_fn: (model outputs, batch) -> scalar, without weight decay.
      mesh: devices that share a batch; default: one.
      checkpoint_dir: where to save and resume; None: nowhere.
      checkpoint_seconds: time between saves; the end is always saved.
      name: what the progress bar says.
      log: called as `log(epoch, loss=...)` a hundred times, evenly, and at the end.

    Returns:
      The state after `num_epochs` epochs.

    Raises:
      InputError: batch size, epochs or weight decay out of range, an unfitting checkpoint, or a
        loss that is no longer finite.
    """
    mesh = sharding.make_mesh(1) if mesh is None else mesh
    weight_decay = dict(weight_decay or {})
    check_options(num_epochs=num_epochs, batch_size=batch_size, learning_rate=learning_rate,
                  weight_decay=weight_decay)  # fmt: skip
    num_batches = max(1, len(dataset.images) // batch_size)
    tx = optax.adam(optax.cosine_decay_schedule(learning_rate, num_epochs * num_batches))
    init_key, data_key = jax.random.split(key)
    create = functools.partial(create_train_state, model, dataset.images.shape[1:], tx)
    abstract = jax.eval_shape(create, init_key)
    _check_fit(dataset, batch_size, weight_decay, abstract.params)
    create = jax.jit(create, out_shardings=sharding.replicated(mesh))
    latest = checkpoint_dir and checkpoint.restore_latest(
        checkpoint_dir, abstract, sharding.replicated(mesh)
    )
    state = latest[1] if latest else create(init_key)
    if (epoch := int(state.epoch)) >= num_epochs:
        return state

    arrays = jax.device_put((dataset.images, dataset.labels), sharding.replicated(mesh))
    step = functools.partial(train_step, model, tx, loss_fn, weight_decay)
    run_epoch = jax.jit(functools.partial(_train_epoch, step, num_batches, batch_size, mesh))
    log_every, saved = max(1, num_epochs // 100), time.monotonic()
    with Progress(num_epochs, name, "epoch") as progress:
        while epoch < num_epochs:
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


def _train_epoch(step, num_batches, batch_size, mesh, state: TrainState, arrays, data_key):
    """One pass over a fresh permutation of the data; returns (state, mean loss)."""
    key = jax.random.fold_in(data_key, state.epoch)
    order = jax.random.permutation(key, len(arrays[0]))[: num_batches * batch_size]

    def body(state, indices):
        images, labels = jax.lax.with_sharding_constraint(
            [array[indices] for array in arrays], sharding.split(mesh)
        )
        return step(state, Dataset(images, labels, ()))

    state, losses = jax.lax.scan(body, state, order.reshape(num_batches, batch_size))
    return state._replace(epoch=state.epoch + 1), losses.mean()


def fit_autoencoder_classifier(
    model: AutoencoderClassifier,
    dataset: Dataset,
    key: jax.Array,
    *,
    autoencoder: Mapping,
    classifier: Mapping,
    checkpoint_dir: str | Path | None = None,
    name: str = "training",
    **options,
) -> dict:
    """Trains AE400-10: the sparse autoencoder first, then a softmax on its frozen code.

    Args:
      model, dataset, key, checkpoint_dir, name, **options: as in `fit`.
      autoencoder: `sparsity`, `sparsity_weight`, and arguments of `fit` for the first phase.
      classifier: arguments of `fit` for the second phase; its layer is called fc1.

    Returns:
      The parameters of `model`.
    """
    autoencoder = dict(autoencoder)
    loss_fn = reconstruction_loss(autoencoder.pop("sparsity"), autoencoder.pop("sparsity_weight"))
    autoencoder_key, classifier_key = jax.random.split(key)
    directories = [checkpoint_dir and Path(checkpoint_dir) / part for part in ("code", "top")]
    encoder = Autoencoder(model.num_units)
    state = fit(encoder, dataset, autoencoder_key, loss_fn=loss_fn, name=f"{name} autoencoder",
                checkpoint_dir=directories[0], **{**options, **autoencoder})  # fmt: skip
    _, activations = jax.jit(encoder.apply)({"params": state.params}, dataset.images)
    codes = dataset._replace(images=np.asarray(activations["encoder"]))
    top = fit(FullyConnected((), model.num_classes), codes, classifier_key, name=f"{name} top",
              checkpoint_dir=directories[1], **{**options, **classifier})  # fmt: skip
    return {"encoder": state.params["encoder"], "classifier": top.params["fc1"]}
