"""Training on pools of adversarial examples, of the input and of hidden layers (section 4.2)."""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from types import MappingProxyType
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from intriguing import attack, compiling, identity, models, predict, sharding
from intriguing.attack import baselines, feed
from intriguing.data import Dataset
from intriguing.errors import InputError
from intriguing.models import LayerGraph
from intriguing.models.layer_graph import nodes_above
from intriguing.models.layers import Dropout, MaxPool, Relu, Sigmoid
from intriguing.training.classifiers import (
    check_fit,
    classification_loss,
    init_fn,
    weight_decay_penalty,
)
from intriguing.training.epochs import Refreshed, run_epochs
from intriguing.training.loop import Pools, TrainState


class PoolOptions(NamedTuple):
    """What the pools hold, and how they are trained on.

    Fields:
      weights: of each pool's cross-entropy beside that of the data, by layer; "images" is the
        input.
      size: examples per pool.
      replaced: fraction of a pool that is replaced before every epoch.
      batch_size: examples of each pool per step.
      stddevs: root mean square that perturbations are scaled to, by layer; those of a layer that is
        not named stay minimal, as in the paper: they just cross the class boundary.
      first_epoch: epochs of training on the data before the pools are made.
      targets: a rule of `targets.choose_targets` that needs no class.
      attack_options: of `attack.minimal_perturbation`.
    """

    weights: Mapping[str, float]
    size: int
    replaced: float
    batch_size: int
    stddevs: Mapping[str, float] = MappingProxyType({})
    first_epoch: int = 1
    targets: str = "random"
    attack_options: Mapping = MappingProxyType({})


def check_pools(pools: PoolOptions) -> None:
    """Raises InputError for settings of the pools that make no sense."""
    for layer, weight in pools.weights.items():
        if not (np.isfinite(weight) and weight >= 0):
            raise InputError(f"pools.weights.{layer} is {weight}: it must be 0 or more")
    if pools.first_epoch < 0:
        raise InputError(f"pools.first_epoch is {pools.first_epoch}: it must be 0 or more")
    for name in ("size", "batch_size"):
        if getattr(pools, name) < 1:
            raise InputError(f"pools.{name} is {getattr(pools, name)}: it must be at least 1")
    if not 0 < pools.replaced <= 1:
        raise InputError(f"pools.replaced is {pools.replaced}: above 0 and at most 1 is needed")
    for layer, stddev in pools.stddevs.items():
        if layer not in pools.weights:
            raise InputError(f"pools.stddevs.{layer}: pools.weights has no {layer}")
        if not (np.isfinite(stddev) and stddev > 0):
            raise InputError(f"pools.stddevs.{layer} is {stddev}: it must be positive")
    if pools.targets not in ("random", "runner_up", "least_likely"):
        known = "random, runner_up, least_likely"
        raise InputError(f'pools.targets is "{pools.targets}": it must be one of {known}')


def fit(
    model: LayerGraph,
    dataset: Dataset,
    key: jax.Array,
    *,
    pools: PoolOptions,
    weight_decay: Mapping[str, float] | None = None,
    mesh: Mesh | None = None,
    **options,
) -> TrainState:
    """Trains on the data and, in every step, on a batch of each pool.

    A pool holds adversarial examples of one layer: activations of training images, changed as
    little as makes the network above that layer answer a wrong class, with their true labels. They
    train the layers above it. A random part of every pool is replaced before each epoch by examples
    made for the network as it is then. The paper alternates between the pools and the data; here
    each step takes a batch of all of them and adds up the losses.

    Args:
      model: any list of layers.
      dataset, key, weight_decay, mesh, **options: as in `train.fit`.
      pools: see `PoolOptions`.

    Returns:
      The state after the last epoch; `state.pools` are the pools it ended with.

    Raises:
      InputError: as in `train.fit`, or settings of the pools that make no sense.
    """
    check_pools(pools)
    weight_decay = dict(weight_decay or {})
    init_params = init_fn(model, dataset)
    check_fit(init_params, weight_decay, **options)
    mesh = sharding.make_mesh(1) if mesh is None else mesh
    pool_key, key = jax.random.split(key)

    def total_loss(params, batch, pool_batches, key):
        def loss_of(examples, layer):
            outputs = model.apply({"params": params}, examples.images, above=layer, train=True,
                                  rngs={"dropout": key})  # fmt: skip
            return classification_loss(outputs, examples)

        loss = loss_of(batch, "images") + weight_decay_penalty(params, weight_decay)
        parts = (
            pools.weights[layer] * loss_of(pool, layer) for layer, pool in pool_batches.items()
        )
        return loss + sum(parts)

    empty = {
        layer: _empty_pool(model, init_params, dataset, layer, pools.size)
        for layer in pools.weights
    }
    settings = identity.of_settings(**pools._asdict(), numerics=identity.NUMERICS)
    return run_epochs(
        total_loss, init_params, dataset, key, mesh=mesh,
        refreshed=Refreshed(
            empty, pools.batch_size, _refresher(model, dataset, pool_key, pools, mesh), settings
        ), **options,
    )  # fmt: skip


def _refresher(model, dataset, pool_key, pools: PoolOptions, mesh) -> Callable[[TrainState], Pools]:
    """A function from the state before an epoch to that epoch's pools."""

    def refresh(state: TrainState) -> Pools:
        epoch_key = jax.random.fold_in(pool_key, int(state.step))
        return {
            layer: _refresh_pool(
                model, dataset, state, layer, jax.random.fold_in(epoch_key, i), pools, mesh
            )
            for i, layer in enumerate(sorted(pools.weights))
        }

    return refresh


def _refresh_pool(model, dataset, state: TrainState, layer: str, key, options: PoolOptions, mesh):
    """The pool of one layer for the next epoch; all of it is new in the first epoch of attacks."""
    is_old = state.step > options.first_epoch
    num_new = max(1, round(options.replaced * options.size)) if is_old else options.size
    image_key, slot_key, target_key = jax.random.split(key, 3)
    variables = jax.device_get({"params": state.params})
    chosen = _choose(image_key, len(dataset.images), num_new)
    images = models.activations(model, variables, dataset.images[chosen], layer)
    new = Dataset(images, dataset.labels[chosen], ())
    if state.step >= options.first_epoch:
        new = perturb(
            models.logits_fn(model, variables, above=layer), new, target_key,
            stddev=options.stddevs.get(layer), targets=options.targets, mesh=mesh,
            bounds=activation_bounds(model, layer), **options.attack_options,
        )  # fmt: skip
    if not is_old:
        return new
    slots = _choose(slot_key, options.size, num_new)
    pool = state.pools[layer]  # on the device, and stays there
    images, labels = pool.images.at[slots].set(new.images), pool.labels.at[slots].set(new.labels)
    return Dataset(images, labels, ())


def _empty_pool(model, init_params, dataset: Dataset, layer: str, size: int) -> Dataset:
    """A pool of zeros, shaped like that layer's activations."""
    images = dataset.images[:1]

    def activations(key):
        return model.apply({"params": init_params(key)}, images)[1]

    try:
        nodes_above(model.nodes, layer)
    except InputError as error:
        raise InputError(f"pools.weights.{layer}: {error}") from error
    shape = jax.eval_shape(activations, jax.random.key(0))[layer].shape
    return Dataset(np.zeros((size, *shape[1:]), np.float32), np.zeros(size, np.int32), ())


def activation_bounds(model: LayerGraph, layer: str) -> tuple[float, float]:
    """What the activations of a layer, or "images", can be: perturbed ones stay that."""
    layers = {node.name: node for node in model.nodes}
    while layer in layers and isinstance(layers[layer].layer, MaxPool | Dropout):
        (layer,) = layers[layer].inputs
    kind = layers[layer].layer if layer in layers else None
    if kind is None or isinstance(kind, Sigmoid):
        return 0.0, 1.0
    return (0.0 if isinstance(kind, Relu) else -np.inf), np.inf


def perturb(
    logits_fn, examples: Dataset, key, *, stddev: float | None, targets: str,
    bounds: tuple[float, float] = (0.0, 1.0), mesh: Mesh | None = None, **options,
):  # fmt: skip
    """The examples, each moved towards a wrong class; labels stay.

    Args:
      logits_fn: of the network above the layer that the examples are activations of.
      examples: activations (num, ...), and true labels.
      key, targets: of the target rule.
      stddev: root mean square that the perturbations are scaled to; None leaves them minimal.
      bounds: of the activations.
      mesh: devices that share the examples; default: one.
      **options: fields of `attack.AttackOptions`.
    """
    mesh = sharding.make_mesh(1) if mesh is None else mesh
    logits = predict.logits(logits_fn, examples.images)
    target_labels = np.asarray(attack.choose_targets(targets, logits, examples.labels, key=key))
    adv_images = _minimal(logits_fn, examples.images, target_labels, mesh, bounds, options)
    if stddev is None:
        return examples._replace(images=adv_images)
    changed = baselines.amplify(examples.images, adv_images, stddev, bounds)
    return examples._replace(images=changed)


def _minimal(logits_fn, images, target_labels, mesh, bounds, options: dict) -> np.ndarray:
    """Adversarial images: one compiled program, the same before every epoch.

    Convolutions, which are slow inside a loop of XLA on a CPU, go the host's way.
    """
    options = attack.AttackOptions(**options)
    if options.solver != "batched" or predict.has_slow_loops(logits_fn, images, mesh):
        given = {field.name: getattr(options, field.name) for field in fields(options)}
        return attack.minimal_perturbation(
            logits_fn, images, target_labels, mesh=mesh, bounds=bounds, **given
        ).adv_images
    num, num_shards = len(images), sharding.num_shards(mesh)
    num_lanes = feed.choose_num_lanes(images, options.num_lanes, mesh) // num_shards
    rows = np.resize(np.arange(num), -(-num // num_shards) * num_shards)
    is_smooth = predict.is_smooth(logits_fn, images)
    return np.asarray(_solve(
        logits_fn, images[rows], target_labels[rows], mesh=mesh, bounds=bounds,
        options=replace(options, num_lanes=num_lanes), is_smooth=is_smooth,
    ))[:num]  # fmt: skip


@compiling.jit(static_argnames=("mesh", "bounds", "options", "is_smooth"))
def _solve(logits_fn, images, target_labels, mesh, bounds, options, is_smooth):
    def on_device(logits_fn, images, target_labels):
        problem = attack.problem_of(images, target_labels, bounds=bounds)
        return attack.solve(logits_fn, problem, options, is_smooth=is_smooth).adv_images

    return sharding.map_devices(on_device, mesh)(logits_fn, images, target_labels)


def _choose(key, num_available: int, num: int) -> np.ndarray:
    """`num` different indices below `num_available`, or as evenly repeated as can be."""
    return np.resize(np.asarray(jax.random.permutation(key, num_available)), num)
