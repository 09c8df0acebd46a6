"""A door for PyTorch: its modules as networks that the attack takes.

Values and gradients are PyTorch's own, computed where the module is; the search runs in JAX and
calls it once per evaluation. JAX's networks are faster, for nothing then leaves the compiled loop.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import numpy as np
import torch

from intriguing.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Array, Float

LAYOUTS = ("NCHW", "NHWC")
MOST_GRAPHS = 16  # forward passes that wait for their backward pass: one per device at work


def logits_fn(
    module: Callable, *, layout: str = "NCHW"
) -> Callable[[Float[Array, " batch *pixels"]], Float[Array, " batch classes"]]:
    """The module as a function of JAX arrays, with gradients, to attack or to ask.

    Its weights are read at each call. It is called with float tensors on the device and in the
    dtype of its parameters; several threads may call it at once.

    Args:
      module: a `torch.nn.Module` in `eval()` mode, or any function of tensors (batch, ...) to
        logits (batch, classes), row by row.
      layout: of the images that are attacked: "NCHW", as PyTorch has them, or "NHWC", which are
        turned; images of other than four axes are passed as they are.

    Raises:
      InputError: a module in training mode, or no such layout.
    """
    if layout not in LAYOUTS:
        raise InputError(f"torch.logits_fn: layout is {layout!r}: it must be one of {LAYOUTS}")
    if getattr(module, "training", False):
        raise InputError("torch.logits_fn: the module is in training mode: call module.eval()")
    host = _Host(module, layout)

    def call(method, like, *args):
        return jax.pure_callback(method, like, *args, vmap_method="sequential")

    @jax.custom_vjp
    def logits(images):
        return call(host.value, host.shape_of(images), images)

    def forward(images):
        return call(host.keep, host.shape_of(images), images), images

    def pull_back(images, weights):
        like = jax.ShapeDtypeStruct(images.shape, images.dtype)
        return (call(host.pull, like, images, weights),)

    logits.defvjp(forward, pull_back)
    return logits


class _Host:
    """Runs the module; a forward pass keeps its graph for the backward pass of the same images."""

    def __init__(self, module: Callable, layout: str):
        self._module, self._layout = module, layout
        self._lock, self._graphs = threading.Lock(), []
        self._num_outputs = {}

    def shape_of(self, images) -> jax.ShapeDtypeStruct:
        """Of the logits, found by asking for those of one black image."""
        shape = images.shape[1:]
        if shape not in self._num_outputs:
            with torch.no_grad():
                found = self._module(self._tensor(np.zeros((1, *shape), np.float32)))
            self._num_outputs[shape] = tuple(found.shape[1:])
        return jax.ShapeDtypeStruct((len(images), *self._num_outputs[shape]), images.dtype)

    def _tensor(self, images: np.ndarray):
        tensor = torch.tensor(images)  # a copy: what XLA lends is not to be kept
        if images.ndim == 4 and self._layout == "NHWC":
            tensor = tensor.movedim(3, 1)
        like = next(iter(getattr(self._module, "parameters", lambda: ())()), None)
        return tensor if like is None else tensor.to(like.device, like.dtype)

    def _run(self, images: np.ndarray):
        tensor = self._tensor(images).requires_grad_()
        with torch.enable_grad():
            return images.copy(), tensor, self._module(tensor)

    def value(self, images) -> np.ndarray:
        """Logits of images."""
        images = np.asarray(images)
        with torch.no_grad():
            outputs = self._module(self._tensor(images))
        return outputs.cpu().numpy().astype(images.dtype)

    def keep(self, images) -> np.ndarray:
        """Logits of images, for which `pull` will be called."""
        images = np.asarray(images)
        graph = self._run(images)
        with self._lock:
            self._graphs = [*self._graphs[1 - MOST_GRAPHS :], graph]
        return graph[2].detach().cpu().numpy().astype(images.dtype)

    def pull(self, images, weights) -> np.ndarray:
        """Gradient of the weighted logits with respect to the images."""
        images, weights = np.asarray(images), np.asarray(weights)
        _, tensor, outputs = self._graph_of(images)
        weights = torch.tensor(weights).to(outputs.device, outputs.dtype)
        (grad,) = torch.autograd.grad(outputs, tensor, weights)
        if images.ndim == 4 and self._layout == "NHWC":
            grad = grad.movedim(1, 3)
        return grad.cpu().numpy().astype(images.dtype)

    def _graph_of(self, images: np.ndarray):
        with self._lock:
            for number, graph in enumerate(self._graphs):
                if graph[0].shape == images.shape and np.array_equal(graph[0], images):
                    return self._graphs.pop(number)
        return self._run(images)
