"""QuocNet (Le et al. 2012): three stages of untied filters, L2 pooling and contrast normalisation.

The weights of a stage differ at each position, so that a billion of them are read once per pass
and divide among devices by position, as the paper's own model parallelism did.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

NORM_FLOOR = 0.01  # c of Le et al.


class Stage(NamedTuple):
    """Sizes of one stage, in pixels of its input.

    Fields: `field`, side of a receptive field; `maps`, filters at each position; `stride` between
    fields; `pad`, rows and columns of zeros added to the input, half of them before it; `pool` and
    `pool_stride`, of the L2 pooling windows; `norm`, side of the contrast normalisation window;
    `norm_floor`, the contrast below which nothing is amplified, in units of what is pooled.
    """

    field: int = 18
    maps: int = 8
    stride: int = 1
    pad: int = 1
    pool: int = 5
    pool_stride: int = 1
    norm: int = 5
    norm_floor: float = NORM_FLOOR

    def num_rows(self, size: int) -> int:
        """Fields along a side of an input with `size` pixels."""
        return (size + self.pad - self.field) // self.stride + 1


FULL = (Stage(), Stage(), Stage())  # of images (200, 200, 3)


class QuocNet(nn.Module):
    """Stages, and a linear classifier on all that the last one gives.

    Attributes:
      stages: bottom to top.
      num_classes: units of the classifier.
      input_norm: side of the contrast normalisation window of the images; 0: as they are.

    Parameters: `stage1`, ...: {"kernel": (rows, columns, maps, field * field * channels)};
    `classifier`: {"kernel", "bias"}.
    """

    stages: tuple[Stage, ...] = FULL
    num_classes: int = 2
    input_norm: int = 9

    @nn.compact
    def __call__(
        self, images: jax.Array, *, train: bool = False
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images (batch, size, size, channels) in [0, 1] to logits and activations.

        The activations hold what each stage gives, (batch, rows, columns, maps).
        """
        del train
        x, activations = normalise_input(images, self.input_norm), {}
        for i, stage in enumerate(self.stages):
            kernel = Filters(kernel_shape(stage, x.shape[1:]), name=stage_name(i))()
            x = activations[stage_name(i)] = run_stage(x, kernel, stage)
        return nn.Dense(self.num_classes, name="classifier")(x.reshape(len(x), -1)), activations


class Filters(nn.Module):
    """The weights of one stage."""

    shape: tuple[int, int, int, int]

    @nn.compact
    def __call__(self) -> jax.Array:
        return self.param("kernel", init_kernel, self.shape)


def stage_name(index: int) -> str:
    """Of the parameters and the activations of a stage, counted from 0."""
    return f"stage{index + 1}"


def normalise_input(images: jax.Array, window: int) -> jax.Array:
    """What the first stage sees: each colour less its own mean around, over the contrast of all."""
    return contrast_normalise(images, window, NORM_FLOOR, per_map=True) if window else images


def run_stage(x: jax.Array, kernel: jax.Array, stage: Stage) -> jax.Array:
    """Filters, L2 pooling, contrast normalisation."""
    pooled = l2_pool(untied_filters(x, kernel, stage), stage.pool, stage.pool_stride)
    return contrast_normalise(pooled, stage.norm, stage.norm_floor)


def run_stages(model: QuocNet, params: dict, images: jax.Array, num_stages: int) -> jax.Array:
    """What the first `num_stages` make of images: (batch, rows, columns, maps)."""
    x = normalise_input(images, model.input_norm)
    for i, stage in enumerate(model.stages[:num_stages]):
        x = run_stage(x, params[stage_name(i)]["kernel"], stage)
    return x


def kernel_shape(stage: Stage, input_shape: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """(rows, columns, maps, field * field * channels) for inputs (height, width, channels)."""
    height, width, channels = input_shape
    fan_in = stage.field**2 * channels
    return stage.num_rows(height), stage.num_rows(width), stage.maps, fan_in


def init_kernel(key: jax.Array, shape, dtype=jnp.float32) -> jax.Array:
    """Gaussian filters of length 1 on average."""
    return jax.random.normal(key, shape, dtype) / shape[-1] ** 0.5


def patches(x: jax.Array, stage: Stage) -> jax.Array:
    """Receptive fields of (batch, h, w, c): (rows, columns, batch, field * field * c).

    Columns of a field are put together, then its rows: both copy contiguous runs.
    """
    before = stage.pad // 2
    padding = (before, stage.pad - before)
    x = jnp.pad(x, [(0, 0), padding, padding, (0, 0)]).transpose(1, 2, 0, 3)
    last_row, last_column = (
        (size - stage.field) // stage.stride * stage.stride + 1 for size in x.shape[:2]
    )
    parts = range(stage.field)
    x = jnp.concatenate([x[:, i : i + last_column : stage.stride] for i in parts], axis=-1)
    return jnp.concatenate([x[i : i + last_row : stage.stride] for i in parts], axis=-1)


def untied_filters(x: jax.Array, kernel: jax.Array, stage: Stage) -> jax.Array:
    """Filters (rows, columns, maps, fan_in) on (batch, h, w, c): (batch, rows, columns, maps)."""
    found = jnp.einsum("rcbp,rcmp->rcmb", patches(x, stage), kernel)
    return found.transpose(3, 0, 1, 2)


def l2_pool(x: jax.Array, size: int, stride: int) -> jax.Array:
    """Root of the sum of squares in windows of `size` pixels, which stop at the edges."""
    sums = pool_squares(x, size, stride)
    positive = sums > 0  # the root's slope at 0 is infinite: there the gradient is 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, sums, 1)), 0)


def pool_squares(x: jax.Array, size: int, stride: int) -> jax.Array:
    """Sums of squares in windows of (batch, h, w, maps), every `stride` pixels."""
    return _window_sums(x * x, jnp.ones(size, x.dtype))[:, ::stride, ::stride]


def contrast_normalise(
    x: jax.Array, size: int, floor: float = NORM_FLOOR, *, per_map: bool = False
) -> jax.Array:
    """Local contrast normalisation: less the mean around, over the standard deviation around.

    Both are over all maps (`per_map`: the mean is each map's own), weighted by a Gaussian window of
    `size` pixels, whose part inside the image weighs 1; a deviation below `floor` counts as that.
    """
    offsets = jnp.arange(size, dtype=x.dtype) - (size - 1) / 2
    window = jnp.exp(-0.5 * (offsets / (size / 4)) ** 2)
    weight = _window_sums(jnp.ones((1, *x.shape[1:3], 1), x.dtype), window)

    def mean(values):
        return _window_sums(values, window) / weight

    x = x - mean(x if per_map else x.mean(axis=-1, keepdims=True))
    variance = mean((x * x).mean(axis=-1, keepdims=True))
    return x / jnp.sqrt(jnp.maximum(variance, floor**2))


def _window_sums(x: jax.Array, line: jax.Array) -> jax.Array:
    """Sums around each pixel of (batch, h, w, maps), weighted by line x line; outside there is 0.

    Sums of slices along one axis, then the other: XLA fuses them.
    """
    size = len(line)
    for axis in (1, 2):
        num, padding = x.shape[axis], [(0, 0)] * x.ndim
        padding[axis] = ((size - 1) // 2, size // 2)
        padded = jnp.pad(x, padding)
        parts = (jax.lax.slice_in_dim(padded, i, i + num, axis=axis) for i in range(size))
        x = sum(weight * part for weight, part in zip(line, parts, strict=True))
    return x
