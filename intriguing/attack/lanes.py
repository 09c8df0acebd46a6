"""What the engine works on: lanes, the queue that feeds them, and the rows that they give."""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from intriguing.attack.objective import Asks, Evaluation

NOISE_RUNS = 1000  # later ones than `start_of` counts
STEP_OFF = 1e-3  # of the way to another start, where there is no gradient; doubled every time


class Lane(NamedTuple):
    """One image under way; pixels are flat, (n,).

    Fields:
      index: row of the image in the caller's arrays, -1 for an empty lane.
      image, lower, upper, label: the problem.
      state: what the search knows of this image.
      best_image, best_norm, best_penalty: the smallest success so far; norm infinity if none.
      num_evals: evaluations of the network.
      non_finite: whether NaN or infinity was met.
      trace: (search.num_traced,) `best_norm` after each evaluation.
      done: the search is over (or the lane is empty).
    """

    index: jax.Array
    image: jax.Array
    lower: jax.Array
    upper: jax.Array
    label: jax.Array
    state: Any
    best_image: jax.Array
    best_norm: jax.Array
    best_penalty: jax.Array
    num_evals: jax.Array
    non_finite: jax.Array
    trace: jax.Array
    done: jax.Array


class Search(Protocol):
    """How a lane looks for its perturbation: a pytree of budgets, hashable where they are code.

    All functions but `enter` are for one lane.
    """

    num_traced: int  # evaluations after which the best norm is kept

    def init(self, image: jax.Array) -> Any:
        """State of a lane that begins with this image (n,)."""

    def enter(self, state: Any, image: jax.Array, put) -> Any:
        """`state` of all lanes, begun anew where `put(new, old)` chooses the new."""

    def trial(self, state: Any) -> jax.Array:
        """Where the network is to be evaluated next."""

    def asks(self, state: Any) -> Asks | None:
        """What is asked there; None: the gradient of the loss."""

    def update(self, lane: Lane, seen: Evaluation, clock) -> Lane:
        """Takes in what was seen at the trial point, its gradient flat; proposes the next."""


class Queue(NamedTuple):
    """Images to attack: `index` (q,), -1 for padding at the end; image (q, n); bounds (q, n) or
    (q, 1); label (q, ...)."""

    index: jax.Array
    image: jax.Array
    lower: jax.Array
    upper: jax.Array
    label: jax.Array


class Finished(NamedTuple):
    """Rows of finished images, in the order of finishing; `index` is -1 where there is none."""

    index: jax.Array
    best_image: jax.Array
    best_norm: jax.Array
    best_penalty: jax.Array
    num_evals: jax.Array
    non_finite: jax.Array
    trace: jax.Array


class Work(NamedTuple):
    """What is under way between two steps.

    Fields: `lanes`; `clock`, loop steps since the lanes were made: it says which pair of the
    histories is replaced next; `busy`, lane steps that worked on an image; `taken` images of the
    queue; `finished` rows, `num_finished` of them.
    """

    lanes: Lane
    clock: jax.Array
    busy: jax.Array
    taken: jax.Array
    finished: Finished
    num_finished: jax.Array


def empty_lanes(num_lanes: int, like: Queue, search: Search) -> Lane:
    """Lanes that wait for an image; `like` the rows of a queue in size and dtype."""
    dtype = like.image.dtype

    def lane(_):
        pixels, bound = (jnp.zeros(array.shape[1:], dtype) for array in (like.image, like.lower))
        zero, number, no = jnp.zeros((), jnp.int32), jnp.zeros((), dtype), jnp.asarray(False)
        return Lane(
            index=zero - 1, image=pixels, lower=bound, upper=bound,
            label=jnp.zeros(like.label.shape[1:], like.label.dtype), state=search.init(pixels),
            best_image=pixels, best_norm=number + jnp.inf, best_penalty=number, num_evals=zero,
            non_finite=no, trace=jnp.full(search.num_traced, jnp.inf, dtype), done=~no,
        )  # fmt: skip

    return jax.vmap(lane)(jnp.arange(num_lanes))


def traced(lanes: Lane) -> Lane:
    """With the best norm so far at the place of the last evaluation; later ones are infinite."""
    if not lanes.trace.shape[1]:
        return lanes
    rows, last = jnp.arange(len(lanes.index)), lanes.num_evals - 1
    return lanes._replace(trace=lanes.trace.at[rows, last].set(lanes.best_norm, mode="drop"))


def _noise(n: int, run) -> jax.Array:
    """Numbers (n,) in [0, 1), other ones for each run: a hash of the place.

    In place of jax.random, whose numbers cost more than all else that a lane does in a step.
    """
    place = jnp.arange(1, n + 1, dtype=jnp.uint32) + jnp.uint32(n) * run.astype(jnp.uint32)
    place = place * jnp.uint32(0x9E3779B1)
    place = (place ^ (place >> 15)) * jnp.uint32(0x2C1B3C6D)
    place = (place ^ (place >> 12)) * jnp.uint32(0x297A2D39)
    return (place >> 8).astype(jnp.float32) / 2**24


def start_of(lane: Lane, run):
    """Another start in the box: its middle for run 1, else noise, the same for every image.

    Where the box has no end, as far from the image as 1 in each pixel.
    """
    share = _noise(len(lane.image), run).astype(lane.image.dtype)
    share = jnp.where(run >= 3, jnp.round(share), share)
    share = jnp.where(run == 1, 0.5, share)
    lower = jnp.where(jnp.isfinite(lane.lower), lane.lower, lane.image - 1)
    upper = jnp.where(jnp.isfinite(lane.upper), lane.upper, lane.image + 1)
    return lower + share * (upper - lower)


def noise_of(lane: Lane, run):
    """A direction (n,) of length 1, another one for each run."""
    noise = _noise(len(lane.image), run + NOISE_RUNS) - 0.5
    return (noise / jnp.sqrt((noise * noise).sum())).astype(lane.image.dtype)


def step_off(lane: Lane, trial, num_before):
    """Beside `trial`, where the network has no usable gradient (|x| at 0): towards noise.

    The `num_before` steps of this kind that were taken before double it.
    """
    share = jnp.minimum(STEP_OFF * 2.0**num_before, 1.0).astype(trial.dtype)
    return jnp.clip(trial + share * (start_of(lane, jnp.int32(0)) - trial), lane.lower, lane.upper)
