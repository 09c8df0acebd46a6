"""What counts as adversarial: rows of a network's output -> a loss, and a margin.

The margin is positive exactly where the goal is reached; the loss falls as the margin grows, and
has a lower bound, so that `c |r| + loss` has a minimum.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial, register_dataclass, register_static

from intriguing import predict


class Reading(NamedTuple):
    """Loss and margin (batch,) of rows of outputs, and their gradients by these outputs."""

    loss: jax.Array
    margin: jax.Array
    loss_grad: jax.Array
    margin_grad: jax.Array


class Pull(NamedTuple):
    """One of several margins of which one is enough: towards a class, (batch,) int32."""

    margin: jax.Array
    margin_grad: jax.Array
    towards: jax.Array


class Constraints(NamedTuple):
    """Margins (batch, k) towards the k nearest classes, gradients (batch, k, outputs)."""

    margins: jax.Array
    gradients: jax.Array


def _split(outputs, labels):
    """(one-hot labels, output of the label, outputs of the others; -inf at the label)."""
    hot = jax.nn.one_hot(labels, outputs.shape[-1], dtype=bool)
    return hot, jnp.where(hot, outputs, 0).sum(axis=-1), jnp.where(hot, -jnp.inf, outputs)


def _margin(outputs, labels):
    """(output of the label minus the highest other one, its gradient by the outputs)."""
    hot, own, others = _split(outputs, labels)
    best = jax.nn.one_hot(others.argmax(axis=-1), outputs.shape[-1], dtype=outputs.dtype)
    return own - others.max(axis=-1), hot - best


def _scaled(outputs, scale):
    return outputs if scale is None else outputs * scale[:, None]


def _cross_entropy(outputs, labels):
    """-log softmax(outputs)[label], (batch,)."""
    label = jnp.take_along_axis(outputs, labels[:, None], axis=-1)[:, 0]
    return jax.nn.logsumexp(outputs, axis=-1) - label


def is_valid(outputs) -> jax.Array:
    """Whether each row has neither NaN nor +inf: -inf is a class that the network masks."""
    return (outputs < jnp.inf).reshape(len(outputs), -1).all(axis=-1)


@register_static
@dataclass(frozen=True)
class Targeted:
    """The network answers the label. Loss: cross-entropy (the paper's section 4.1)."""

    needs_classes = True
    is_union = False

    def read(self, outputs, labels, scale=None) -> Reading:
        """Loss and margin of outputs (batch, classes); the loss is that of `scale * outputs`."""
        scaled = _scaled(outputs, scale)
        hot = jax.nn.one_hot(labels, outputs.shape[-1], dtype=bool)
        loss = _cross_entropy(scaled, labels)
        margin, margin_grad = _margin(outputs, labels)
        return Reading(loss, margin, _scaled(jax.nn.softmax(scaled) - hot, scale), margin_grad)

    def constraints(self, outputs, labels, num: int) -> Constraints:
        """All of them hold where the goal is reached."""
        hot, wanted, others = _split(outputs, labels)
        nearest, classes = jax.lax.top_k(others, num)
        rows = jax.nn.one_hot(classes, outputs.shape[-1], dtype=outputs.dtype)
        return Constraints(wanted[:, None] - nearest, hot[:, None] - rows)

    def is_reached(self, outputs, labels) -> jax.Array:
        """Whether `outputs`, of a fresh pass, say the label: (batch,) bool."""
        return is_valid(outputs) & (outputs.argmax(axis=-1) == labels)


@register_static
@dataclass(frozen=True)
class Untargeted:
    """The network answers another class than the label. Loss: -log(1 - p_label)."""

    needs_classes = True
    is_union = True

    def read(self, outputs, labels, scale=None) -> Reading:
        """Loss and margin of outputs (batch, classes); the loss is that of `scale * outputs`."""
        hot, right, rest = _split(_scaled(outputs, scale), labels)
        gap = right - jax.nn.logsumexp(rest, axis=-1)
        loss_grad = jax.nn.sigmoid(gap)[:, None] * (hot - jax.nn.softmax(rest))
        margin, margin_grad = _margin(outputs, labels)
        return Reading(jax.nn.softplus(gap), -margin, _scaled(loss_grad, scale), -margin_grad)

    def pull(self, outputs, labels, towards) -> Pull:
        """The margin towards a class; where `towards` is -1 - k, towards the k-th nearest."""
        hot, wrong, others = _split(outputs, labels)
        order = jnp.argsort(-others, axis=-1)
        rank = jnp.clip(-1 - towards, 0, outputs.shape[-1] - 2)[:, None]
        nearest = jnp.take_along_axis(order, rank, axis=-1)[:, 0]
        towards = jnp.where(towards >= 0, towards, nearest).astype(jnp.int32)
        chosen = jax.nn.one_hot(towards, outputs.shape[-1], dtype=bool)
        margin = jnp.where(chosen, outputs, 0).sum(axis=-1) - wrong
        return Pull(margin, chosen.astype(outputs.dtype) - hot, towards)

    def constraints(self, outputs, labels, num: int) -> Constraints:
        """One of them holds where the goal is reached."""
        found = Targeted().constraints(outputs, labels, num)
        return Constraints(-found.margins, -found.gradients)

    def is_reached(self, outputs, labels) -> jax.Array:
        """Whether `outputs`, of a fresh pass, say another class: (batch,) bool."""
        return is_valid(outputs) & (outputs.argmax(axis=-1) != labels)


@register_dataclass
@dataclass(frozen=True)
class FromMargin:
    """A margin of the user's own; see `from_margin`. Loss: log(1 + exp(-margin))."""

    margin_fn: Partial
    takes_labels: bool = field(default=False, metadata={"static": True})

    needs_classes = False
    is_union = False

    def _margin(self, outputs, labels):
        return self.margin_fn((outputs, labels) if self.takes_labels else outputs)

    def as_now(self, outputs, labels) -> "FromMargin":
        """This goal with its function as it is now; outputs, labels: shapes of rows."""
        args = (outputs, labels) if self.takes_labels else outputs
        margin_fn = predict.as_partial(lambda args: self.margin_fn(args), args)
        return FromMargin(margin_fn, self.takes_labels)

    def read(self, outputs, labels, scale=None) -> Reading:
        """Loss and margin of outputs (batch, ...); the loss is that of `scale * margin`."""
        margin, vjp = jax.vjp(lambda outputs: self._margin(outputs, labels), outputs)
        (margin_grad,) = vjp(jnp.ones_like(margin))
        scale = jnp.ones_like(margin) if scale is None else scale
        slope = -scale * jax.nn.sigmoid(-scale * margin)
        loss_grad = slope.reshape(-1, *[1] * (outputs.ndim - 1)) * margin_grad
        return Reading(jax.nn.softplus(-scale * margin), margin, loss_grad, margin_grad)

    def constraints(self, outputs, labels, num: int) -> Constraints:
        """The margin itself."""
        del num
        found = self.read(outputs, labels)
        return Constraints(found.margin[:, None], found.margin_grad[:, None])

    def is_reached(self, outputs, labels) -> jax.Array:
        """Whether the margin of `outputs`, of a fresh pass, is positive: (batch,) bool."""
        return is_valid(outputs) & (self._margin(outputs, labels) > 0)


Goal = Targeted | Untargeted | FromMargin
NAMED = {"targeted": Targeted(), "untargeted": Untargeted()}


def from_margin(margin_fn: Callable, *, takes_labels: bool = False) -> FromMargin:
    """A goal of your own: `margin_fn` is positive exactly where it is reached.

    For instance `lambda outputs: outputs[:, 0] - 0.8` (a regression beyond a threshold), or
    `lambda outputs: jnp.minimum(outputs[:, 0], -outputs[:, 1])` (two labels of many that flip).

    Args:
      margin_fn: outputs (batch, ...) -> margins (batch,), differentiable, row by row. A
        `jax.tree_util.Partial`'s arrays are inputs of the compiled attack, and so are those that
        any other callable closes over.
      takes_labels: `margin_fn` is called as (outputs, labels) -> margins with the attack's labels,
        one row per image, of any shape and dtype.
    """
    margin_fn = margin_fn if isinstance(margin_fn, Partial) else Partial(margin_fn)
    return FromMargin(Partial(_call_pair, margin_fn) if takes_labels else margin_fn, takes_labels)


def _call_pair(margin_fn, pair):
    return margin_fn(*pair)
