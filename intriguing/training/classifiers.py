"""Training on arrays that fit on the device: `fit`, and the two phases of AE400-10."""

from collections.abc import Callable, Mapping
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from intriguing.data import Dataset
from intriguing.errors import InputError
from intriguing.models import LayerGraph, autoencoder, fully_connected
from intriguing.models.autoencoder import sparsity_penalty
from intriguing.training.epochs import check_training, run_epochs
from intriguing.training.loop import TrainState

LossFn = Callable[[tuple[jax.Array, dict[str, jax.Array]], Dataset], jax.Array]


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
        return losses.mean() + sparsity_weight * sparsity_penalty(activations["code"], sparsity)

    return loss_fn


def weight_decay_penalty(params: dict, weight_decay: Mapping[str, float]) -> jax.Array:
    """sum over layers of lambda * sum(w^2) / k, k = units of the layer (section 4.2)."""
    kernels = [(decay, params[layer]["kernel"]) for layer, decay in weight_decay.items()]
    return sum((decay * jnp.sum(w**2) / w.shape[-1] for decay, w in kernels), jnp.zeros(()))


def fit(
    model: nn.Module,
    dataset: Dataset,
    key: jax.Array,
    *,
    weight_decay: Mapping[str, float] | None = None,
    loss_fn: LossFn = classification_loss,
    penalty_fn: Callable[[dict], jax.Array] | None = None,
    **options,
) -> TrainState:
    """Trains with Adam and a cosine schedule that ends at 0; the data live on the device.

    Every epoch sees a new permutation, drawn from `fold_in(key, epoch)`: a resumed run gives the
    same parameters as an uninterrupted one. The last, smaller batch of an epoch is left out.

    Args:
      model: maps images to (logits, activations).
      dataset: images (num, ...) float32, labels (num,) int32.
      key: PRNG key. Several of them, (seeds,), are trained as one program, which is compiled
        once. The data are one set for all, or images (seeds, num, ...)
        and labels (seeds, num); the state's arrays have a first axis of seeds.
      weight_decay: lambda of each layer, by the layer's name; layers not named have none.
      loss_fn: (model outputs, batch) -> scalar, without weight decay.
      penalty_fn: params -> scalar, added to the loss (`lipschitz.lipschitz_penalty`, for one).
      **options: of `epochs.run_epochs`:
        num_epochs: passes over the data.
        batch_size: images per step, over all devices.
        learning_rate: Adam's, at the start.
        mesh: devices that share a batch; default: one.
        checkpoint_dir: where to save and resume; default: nowhere.
        checkpoint_seconds: time between saves; the end, and an interruption, are always saved.
        name: what the progress bar says.
        log: called as `log(epoch, loss=...)` a hundred times, evenly, and at the end.

    Returns:
      The state after `num_epochs` epochs.

    Raises:
      InputError: batch size, epochs or weight decay out of range, an unfitting checkpoint, or a
        loss that is no longer finite.
    """
    weight_decay = dict(weight_decay or {})
    init_params = init_fn(model, dataset)
    check_fit(init_params, weight_decay, **options)

    def total_loss(params, batch, pools, key):
        del pools
        outputs = model.apply({"params": params}, batch.images, train=True, rngs={"dropout": key})
        loss = loss_fn(outputs, batch) + weight_decay_penalty(params, weight_decay)
        return loss if penalty_fn is None else loss + penalty_fn(params)

    return run_epochs(total_loss, init_params, dataset, key, **options)


def init_fn(model: nn.Module, dataset: Dataset) -> Callable[[jax.Array], dict]:
    """A function from a key to fresh parameters for images of this shape."""
    one = (1, *dataset.images.shape[dataset.labels.ndim :])
    return lambda key: model.init(key, jnp.zeros(one))["params"]


def check_fit(
    init_params, weight_decay: Mapping[str, float], *, num_epochs, batch_size, learning_rate, **_
) -> None:
    """Raises InputError for options of `fit` that make no sense, or a layer that does not exist."""
    check_training(num_epochs=num_epochs, batch_size=batch_size, learning_rate=learning_rate,
                  weight_decay=weight_decay)  # fmt: skip
    layers = jax.eval_shape(init_params, jax.random.key(0))
    for layer in weight_decay:
        if layer not in layers:
            raise InputError(f"weight_decay.{layer}: the layers are {', '.join(layers)}")


def fit_autoencoder_classifier(
    model: LayerGraph,
    dataset: Dataset,
    key: jax.Array,
    *,
    phases: Mapping[str, Mapping],
    checkpoint_dir: str | Path | None = None,
    name: str = "training",
    **options,
) -> dict:
    """Trains AE400-10: the sparse autoencoder first, then a softmax on its frozen code.

    Args:
      model: `models.autoencoder_classifier`.
      dataset, key, checkpoint_dir, name, **options: as in `fit`.
      phases: "autoencoder": `sparsity`, `sparsity_weight`, and arguments of `fit`; "classifier":
        arguments of `fit`; its layer is called fc1.

    Returns:
      The parameters of `model`.
    """
    first, second = dict(phases["autoencoder"]), phases["classifier"]
    loss_fn = reconstruction_loss(first.pop("sparsity"), first.pop("sparsity_weight"))
    first_key, second_key = jax.random.split(key)
    directories = [checkpoint_dir and Path(checkpoint_dir) / part for part in ("code", "top")]
    num_units = model.nodes[0].layer.features
    encoder = autoencoder(num_units, dataset.images[0].size)
    state = fit(encoder, dataset, first_key, loss_fn=loss_fn, name=f"{name} autoencoder",
                checkpoint_dir=directories[0], **{**options, **first})  # fmt: skip
    _, activations = jax.jit(encoder.apply)({"params": state.params}, dataset.images)
    codes = dataset._replace(images=np.asarray(activations["code"]))
    top = fit(fully_connected((), len(dataset.class_names)), codes, second_key, name=f"{name} top",
              checkpoint_dir=directories[1], **{**options, **second})  # fmt: skip
    return {"encoder": state.params["encoder"], "classifier": top.params["fc1"]}
