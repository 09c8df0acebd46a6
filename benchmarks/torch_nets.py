"""Our networks in PyTorch's own layers: what peers are given, and what times are compared with."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from intriguing.models import LayerGraph, layers


def module(model: LayerGraph, params) -> nn.Module:
    """The network for NCHW images (batch, c, h, w) in [0, 1], with frozen weights."""
    return _Graph(model, params).requires_grad_(False).eval()


class _Graph(nn.Module):
    def __init__(self, model: LayerGraph, params):
        super().__init__()
        self.nodes = model.nodes
        for name, weights in params.items():
            kernel = np.array(weights["kernel"])
            kernel = kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T
            self.register_buffer(f"{name}_kernel", torch.from_numpy(kernel.copy()))
            self.register_buffer(f"{name}_bias", torch.from_numpy(np.array(weights["bias"])))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        values = {"images": images}
        for name, layer, inputs in self.nodes:
            xs = [values[below] for below in inputs]
            if isinstance(layer, layers.WITH_WEIGHTS):
                xs += [getattr(self, f"{name}_kernel"), getattr(self, f"{name}_bias")]
            values[name] = _COMPUTE[type(layer)](layer, *xs)
        return values[name]


def _conv(layer, x, kernel, bias):
    return F.conv2d(x, kernel, bias, layer.stride, layer.pad, groups=layer.groups)


def _dense(layer, x, kernel, bias):
    x = x.permute(0, 2, 3, 1) if x.ndim == 4 else x  # our weights are for (h, w, c)
    return F.linear(x.flatten(1), kernel, bias)


def _max_pool(layer, x):
    return F.max_pool2d(x, layer.window, layer.stride, layer.pad, ceil_mode=layer.ceil)


def _local_response_norm(layer, x):
    alpha = layer.alpha * layer.size  # PyTorch divides it again
    return F.local_response_norm(x, layer.size, alpha, layer.beta, layer.k)


def _pad_shortcut(layer, x):
    x = x[:, :, :: layer.stride, :: layer.stride]
    more = layer.features - x.shape[1]
    return F.pad(x, (0, 0, 0, 0, more // 2, more - more // 2))


def _normalise(layer, x):
    x = x.flip(1) if layer.reverse else x
    mean, std = (x.new_tensor(each)[None, :, None, None] for each in (layer.mean, layer.std))
    return (layer.scale * x - mean) / std


_COMPUTE = {
    layers.Conv: _conv,
    layers.Dense: _dense,
    layers.MaxPool: _max_pool,
    layers.MeanPool: lambda layer, x: x.mean(dim=(2, 3)),
    layers.LocalResponseNorm: _local_response_norm,
    layers.Relu: lambda layer, x: F.relu(x),
    layers.Sigmoid: lambda layer, x: torch.sigmoid(x),
    layers.Concat: lambda layer, *xs: torch.cat(xs, dim=1),
    layers.Add: lambda layer, *xs: sum(xs[1:], xs[0]),
    layers.PadShortcut: _pad_shortcut,
    layers.Dropout: lambda layer, x: x,
    layers.Normalise: _normalise,
}
