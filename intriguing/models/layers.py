"""The layers of which `LayerGraph` makes networks: descriptions, and what each computes.

A layer is a frozen description, so that whatever reads a network (its forward pass, the import of
weights, the spectral bounds) reads the same one. Activations are NHWC. Windows are placed as in
Caffe and PyTorch: `pad` on every side and, where `ceil` is set, one more window where the last one
would leave a rest.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from intriguing.models.windows import convolve, max_pool


@dataclasses.dataclass(frozen=True)
class Conv:
    """Convolution with a bias: square `window`, `groups` of channels that do not see each other."""

    features: int
    window: int
    stride: int = 1
    pad: int = 0
    groups: int = 1

    def __call__(self, x, kernel, bias):
        """x (batch, h, w, c), kernel (window, window, c / groups, features) -> NHWC."""
        # XLA's own groups are several times as slow as one convolution each, on a CPU.
        xs, kernels = (jnp.split(each, self.groups, axis=-1) for each in (x, kernel))
        parts = [convolve(self.stride, self.pad, *each) for each in zip(xs, kernels, strict=True)]
        return jnp.concatenate(parts, axis=-1) + bias[None, None, None, :]

    def kernel_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Of an input (h, w, c)."""
        return (self.window, self.window, input_shape[-1] // self.groups, self.features)


@dataclasses.dataclass(frozen=True)
class Dense:
    """All inputs to all `features`, with a bias; an input (h, w, c) is flattened in that order."""

    features: int

    def __call__(self, x, kernel, bias):
        """x (batch, ...), kernel (inputs, features) -> (batch, features)."""
        return x.reshape(len(x), -1) @ kernel + bias[None, :]

    def kernel_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Of an input (...)."""
        return (math.prod(input_shape), self.features)


@dataclasses.dataclass(frozen=True)
class MaxPool:
    """Maximum over windows; what lies outside the image never is the maximum."""

    window: int
    stride: int
    pad: int = 0
    ceil: bool = False

    def __call__(self, x):
        """NHWC -> NHWC."""
        return max_pool(self.window, self.stride, tuple(map(self.padding, x.shape[1:3])), x)

    def padding(self, size: int) -> tuple[int, int]:
        """Before and after a side of `size` pixels; less than nothing cuts the rest off."""
        rest = size + 2 * self.pad - self.window
        num = 1 + (-(-rest // self.stride) if self.ceil else rest // self.stride)
        if self.ceil and (num - 1) * self.stride >= size + self.pad:
            num -= 1  # the last window must start inside the image
        return self.pad, max(0, (num - 1) * self.stride + self.window - size - self.pad)


@dataclasses.dataclass(frozen=True)
class MeanPool:
    """Mean over the whole image: (batch, h, w, c) -> (batch, c)."""

    def __call__(self, x):
        """NHWC -> (batch, c)."""
        return x.mean(axis=(1, 2))


@dataclasses.dataclass(frozen=True)
class LocalResponseNorm:
    """x / (k + alpha * (sum of squares over `size` neighbouring channels)) ** beta.

    Krizhevsky et al. 2012, section 3.3. Caffe divides the alpha of its files by `size`.
    """

    size: int
    alpha: float
    beta: float
    k: float

    def __call__(self, x):
        """(..., c) -> (..., c)."""
        half = self.size // 2
        padding = [(0, 0)] * (x.ndim - 1) + [(half, self.size - 1 - half)]
        window = (1,) * (x.ndim - 1) + (self.size,)
        sums = jax.lax.reduce_window(x * x, 0.0, jax.lax.add, window, (1,) * x.ndim, padding)
        return x * (self.k + self.alpha * sums) ** -self.beta


@dataclasses.dataclass(frozen=True)
class Relu:
    """max(x, 0)."""

    def __call__(self, x):
        """Any shape."""
        return jax.nn.relu(x)


@dataclasses.dataclass(frozen=True)
class Sigmoid:
    """1 / (1 + exp(-x))."""

    def __call__(self, x):
        """Any shape."""
        return jax.nn.sigmoid(x)


@dataclasses.dataclass(frozen=True)
class Concat:
    """Joins its inputs along the channels."""

    def __call__(self, *inputs):
        """NHWC each -> NHWC."""
        return jnp.concatenate(inputs, axis=-1)


@dataclasses.dataclass(frozen=True)
class Add:
    """The sum of its inputs."""

    def __call__(self, *inputs):
        """One shape -> the same."""
        return sum(inputs[1:], inputs[0])


@dataclasses.dataclass(frozen=True)
class PadShortcut:
    """Every `stride`-th row and column, and channels of zeros on both sides up to `features`.

    He et al. 2015, section 3.3, option A.
    """

    features: int
    stride: int

    def __call__(self, x):
        """(batch, h, w, c) -> (batch, h / stride, w / stride, features)."""
        x = x[:, :: self.stride, :: self.stride]
        more = self.features - x.shape[-1]
        return jnp.pad(x, [(0, 0)] * 3 + [(more // 2, more - more // 2)])


@dataclasses.dataclass(frozen=True)
class Dropout:
    """In training, inputs are set to 0 at `rate` and the others scaled up; `LayerGraph` does it."""

    rate: float

    def __call__(self, x):
        """Outside training: any shape, as it is."""
        return x


@dataclasses.dataclass(frozen=True)
class Normalise:
    """Pixels in [0, 1] as the weights expect them: (scale * x - mean) / std.

    Caffe's way is `scale` 255, channels in `reverse`, and the mean of blue, green and red;
    torchvision's is `scale` 1 with mean and std.
    """

    scale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    reverse: bool = False

    def __call__(self, x):
        """RGB (batch, h, w, 3) -> NHWC."""
        x = x[..., ::-1] if self.reverse else x
        mean, std = (np.array(each, x.dtype)[None, None, None, :] for each in (self.mean, self.std))
        return (self.scale * x - mean) / std


CAFFE = Normalise(255.0, (104.0, 117.0, 123.0), reverse=True)
TORCH = Normalise(1.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

Layer = (
    Conv
    | Dense
    | MaxPool
    | MeanPool
    | LocalResponseNorm
    | Relu
    | Sigmoid
    | Concat
    | Add
    | PadShortcut
    | Dropout
    | Normalise
)
WITH_WEIGHTS = (Conv, Dense)
