"""Training of QuocNet without labels: reconstruction and sparsity (Le et al. 2011, 2012).

A stage's filters W, untied and overlapping, minimise over the images x that it is given

    |W^T W x - x|^2 + sparsity_weight * sum_j sqrt(EPSILON + pooled squares_j(W x))

which needs no decoder and no orthogonal filters. Stages are trained one after the other, each on
what those below it give.
"""

import functools
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from intriguing import identity, sharding
from intriguing.data.stream import Source
from intriguing.errors import InputError
from intriguing.models import quocnet
from intriguing.models.quocnet import QuocNet, Stage
from intriguing.training import checkpoint, loop, streams
from intriguing.training.loop import TrainState

EPSILON = 1e-3  # makes the root smooth at 0
START = 0.1  # length of filters before training: what the data never move stays faint


def costs(kernel: jax.Array, x: jax.Array, stage: Stage) -> tuple[jax.Array, jax.Array]:
    """(reconstruction error, sparsity cost) of each image x: (batch,) both; see the module.

    Args:
      kernel: filters of the stage.
      x: (batch, h, w, c), what they are applied to.
      stage: its sizes.
    """
    responses, transpose = jax.vjp(lambda x: quocnet.untied_filters(x, kernel, stage), x)
    (reconstruction,) = transpose(responses)
    pooled = quocnet.pool_squares(responses, stage.pool, stage.pool_stride)
    error = ((reconstruction - x) ** 2).sum(axis=(1, 2, 3))
    return error, jnp.sqrt(EPSILON + pooled).sum(axis=(1, 2, 3))


class Rica(NamedTuple):
    """How the stages are trained.

    Fields:
      crop_size: pixels of the network's input.
      num_epochs, batch_size, learning_rate: of Adam, whose rate falls to 0 along a cosine.
      sparsity_weights: one per stage; see the module.
    """

    crop_size: int
    num_epochs: int
    batch_size: int
    learning_rate: float
    sparsity_weights: Sequence[float]


class Trained(NamedTuple):
    """The stage that a step trains.

    Fields: `model`, and the `index` of its stage; `tx`; `sparsity_weight`; `key`, of all steps;
    `crop_size`.
    """

    model: QuocNet
    index: int
    tx: optax.GradientTransformation
    sparsity_weight: float
    key: jax.Array
    crop_size: int


def fit(
    model: QuocNet, source: Source, key: jax.Array, *, mesh: Mesh | None = None, **options
) -> dict[str, dict[str, jax.Array]]:
    """Trains the stages bottom to top, each for some epochs, on random crops and mirror images.

    Args:
      model: whose stages are trained; its classifier is not.
      source: images; their labels are not looked at.
      key: PRNG key.
      mesh: batches are divided along its data axis, weights by rows along its model axis.
      **options: fields of `Rica` and of `loop.Run`; a stage has a folder of its own in
        `checkpoint_dir`, and `log` is called as `log(step, stage1=cost of an image)`.

    Returns:
      {"stage1": {"kernel": ...}, ...}, laid out on the mesh.

    Raises:
      InputError: as `loop.run`; rows of weights that the model axis cannot share.
    """
    recipe, run = loop.split_options(Rica, options)
    mesh = sharding.make_mesh(1) if mesh is None else mesh
    run = loop.Run(**{"unit": "step", "checkpoint_seconds": 600.0, **run})
    num_steps = streams.check_sizes(source, recipe, mesh)
    tx = optax.adam(optax.cosine_decay_schedule(recipe.learning_rate, num_steps))
    if run.checkpoint_dir:
        about = recipe._asdict() | {"sparsity_weights": list(recipe.sparsity_weights)}
        made_from = {"network": repr(model), "settings": identity.of_settings(**about)}
        claimed = {**streams.made_from(source, key), **made_from}
        checkpoint.claim(run.checkpoint_dir, claimed, run.name)
    params: dict[str, dict[str, jax.Array]] = {}
    size, sizes = recipe.crop_size, (num_steps, recipe.batch_size)
    shapes = kernel_shapes(model, (size, size, source.read(range(1))[0].shape[-1]))
    for i, (shape, weight) in enumerate(zip(shapes, recipe.sparsity_weights, strict=True)):
        layer = quocnet.stage_name(i)
        finished = run.checkpoint_dir and _load_layer(run.checkpoint_dir, layer, shape, mesh)
        if finished:
            params[layer] = finished
            continue
        init_key, order_key, step_key = _stage_keys(key, i)
        stage = Trained(model, i, tx, weight, step_key, size)
        of_stage = _of_stage(run, layer)
        folder = of_stage.checkpoint_dir
        step = jax.jit(functools.partial(train_step, stage), donate_argnums=1)
        state = streams.run_steps(
            functools.partial(step, params),
            _restore_or_create(init_key, shape, tx, folder, mesh), source, order_key,
            sizes=sizes, mesh=mesh, run=of_stage,
        )  # fmt: skip
        params[layer] = state.params
        if folder:
            _save_layer(run.checkpoint_dir, layer, num_steps, state.params)
            shutil.rmtree(folder, ignore_errors=True)  # another process may be the first
    return params


def _of_stage(run: loop.Run, layer: str) -> loop.Run:
    """How one stage is watched and kept."""
    log = run.log
    return run._replace(
        name=f"{run.name}, {layer}",
        checkpoint_dir=Path(run.checkpoint_dir) / layer if run.checkpoint_dir else None,
        log=log and (lambda step, loss: log(step, **{layer: loss})),
    )


def _stage_keys(key: jax.Array, index: int) -> jax.Array:
    """Of a stage's first filters, of the order of the images, and of its steps."""
    return jax.random.split(jax.random.fold_in(key, index), 3)


def load(
    model: QuocNet, input_shape: tuple[int, int, int], checkpoint_dir: str | Path, mesh: Mesh
) -> dict[str, dict[str, jax.Array]]:
    """The filters that a `fit` with this `checkpoint_dir` has left there, laid out on the mesh.

    Raises:
      InputError: some are missing, damaged, or those of other stages.
    """
    params = {}
    for i, shape in enumerate(kernel_shapes(model, input_shape)):
        layer = quocnet.stage_name(i)
        params[layer] = _load_layer(checkpoint_dir, layer, shape, mesh)
        if params[layer] is None:
            raise InputError(f"{checkpoint_dir}: no filters of {layer}: was its training finished?")
    return params


def _save_layer(folder: str | Path, layer: str, num_steps: int, params: dict) -> None:
    checkpoint.save(Path(folder) / "filters" / layer, num_steps, params)


def _load_layer(folder: str | Path, layer: str, shape, mesh: Mesh) -> dict[str, jax.Array] | None:
    abstract = {"kernel": jax.ShapeDtypeStruct(shape, jnp.float32)}
    saved = checkpoint.restore_latest(
        Path(folder) / "filters" / layer, abstract, sharding.by_rows(mesh)
    )
    return saved and saved[1]


def init(
    model: QuocNet, input_shape: tuple[int, int, int], key: jax.Array, mesh: Mesh
) -> dict[str, dict[str, jax.Array]]:
    """Random filters of all stages, of length 1, each device making its rows."""
    shapes, params = kernel_shapes(model, input_shape), {}
    for i, shape in enumerate(shapes):
        init_key, _, _ = _stage_keys(key, i)
        params[quocnet.stage_name(i)] = {"kernel": init_kernel(init_key, shape, mesh)}
    return params


def init_kernel(key: jax.Array, shape: tuple[int, ...], mesh: Mesh) -> jax.Array:
    """Filters drawn row by row, so that they do not depend on the devices that share them."""

    def row(i):
        return quocnet.init_kernel(jax.random.fold_in(key, i), shape[1:])

    return sharding.build_rows(row, shape, jnp.float32, mesh)


def kernel_shapes(model: QuocNet, input_shape: tuple[int, int, int]) -> list[tuple[int, ...]]:
    """Shapes of the filters of all stages for images of `input_shape`; nothing is computed."""
    images = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    return [params[quocnet.stage_name(i)]["kernel"].shape for i in range(len(model.stages))]


def _restore_or_create(key, shape, tx, folder: Path | None, mesh: Mesh) -> TrainState:
    def laid_out(leaf):
        has_rows = leaf.ndim == len(shape)  # the filters, and the optimiser's two means of them
        layout = sharding.by_rows(mesh) if has_rows else sharding.replicated(mesh)
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=layout)

    def state_of(kernel):
        params = {"kernel": START * kernel}
        return loop.create_train_state(params, tx)

    abstract = jax.eval_shape(state_of, jax.ShapeDtypeStruct(shape, jnp.float32))
    abstract = jax.tree.map(laid_out, abstract)
    saved = folder and checkpoint.restore_latest(folder, abstract)
    if saved:
        return saved[1]
    layouts = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    create = jax.jit(state_of, donate_argnums=0, out_shardings=layouts)
    return create(init_kernel(key, shape, mesh))


def train_step(
    stage: Trained, below: dict, state: TrainState, images: jax.Array, labels: jax.Array,
    readable: jax.Array,
) -> tuple[TrainState, jax.Array]:  # fmt: skip
    """One step for a stage; those below it, with the filters `below`, stay.

    Returns:
      (the state after it, the mean cost of the images that count).
    """
    del labels
    model, index = stage.model, stage.index
    crop_key = jax.random.fold_in(stage.key, state.step)
    crops = streams.random_crops(crop_key, images, stage.crop_size)
    x = quocnet.run_stages(model, below, crops, index)

    def loss_fn(params):
        error, sparsity = costs(params["kernel"], x, model.stages[index])
        cost = error + stage.sparsity_weight * sparsity
        return (cost * readable).sum() / jnp.maximum(readable.sum(), 1)

    state, loss = loop.train_step(loss_fn, stage.tx, state)
    return state._replace(step=state.step + 1), loss
