"""What the engine works on: lanes, the queue that feeds them, and the rows that they give."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from intriguing.attack import penalty_search
from intriguing.attack.problem import AttackOptions
from intriguing.solver import lbfgs_step


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("num_penalties", "maxiter", "tol", "rtol"),
    meta_fields=("history_size", "squared_norm"),
)
@dataclasses.dataclass(frozen=True)
class Options:
    """Settings of the engine; see `AttackOptions`.

    A pytree: budgets and tolerances are inputs of the compiled engine, so that one compilation
    serves for all of them; the others are part of its code.
    """

    num_penalties: int
    maxiter: int
    tol: float
    rtol: float
    history_size: int
    squared_norm: bool

    @classmethod
    def of(cls, options: AttackOptions) -> "Options":
        """Those of an attack's options that the engine reads."""
        return cls(**{field.name: getattr(options, field.name)
                      for field in dataclasses.fields(cls)})  # fmt: skip


class Lane(NamedTuple):
    """One image under way; pixels are flat, (n,).

    Fields:
      index: row of the image in the caller's arrays, -1 for an empty lane.
      image, lower, upper, target_label: the problem.
      step: the solver's state at the present c.
      loss, margin: cross-entropy at `step.x`, and logit of the target minus the highest other.
      search: the search on c.
      best_image, best_norm, best_penalty: the smallest success so far; norm infinity if none.
      num_solves, solve_evals, num_evals: values of c done; evaluations at this c, and in all.
      non_finite: whether NaN or infinity was met.
      done: the search is over (or the lane is empty).
    """

    index: jax.Array
    image: jax.Array
    lower: jax.Array
    upper: jax.Array
    target_label: jax.Array
    step: lbfgs_step.StepState
    loss: jax.Array
    margin: jax.Array
    search: penalty_search.PenaltySearch
    best_image: jax.Array
    best_norm: jax.Array
    best_penalty: jax.Array
    num_solves: jax.Array
    solve_evals: jax.Array
    num_evals: jax.Array
    non_finite: jax.Array
    done: jax.Array


class Queue(NamedTuple):
    """Images to attack: `index` (q,), -1 for padding at the end; image (q, n); bounds (q, n) or
    (q, 1); target_label (q,)."""

    index: jax.Array
    image: jax.Array
    lower: jax.Array
    upper: jax.Array
    target_label: jax.Array


class Finished(NamedTuple):
    """Rows of finished images, in the order of finishing; `index` is -1 where there is none."""

    index: jax.Array
    best_image: jax.Array
    best_norm: jax.Array
    best_penalty: jax.Array
    num_evals: jax.Array
    non_finite: jax.Array


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


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def empty_lanes(num_lanes: int, n: int, bound_size: int, dtype, history_size: int) -> Lane:
    """Lanes that wait for an image of n pixels; `bound_size` is n, or 1 for scalar bounds."""

    def lane(_):
        pixels, bound = jnp.zeros(n, dtype), jnp.zeros(bound_size, dtype)
        zero = jnp.zeros((), jnp.int32)
        number, no = jnp.zeros((), dtype), jnp.asarray(False)
        return Lane(
            index=zero - 1, image=pixels, lower=bound, upper=bound, target_label=zero,
            step=lbfgs_step.init(pixels, history_size), loss=number, margin=number,
            search=penalty_search.start(number + 1), best_image=pixels, best_norm=number + jnp.inf,
            best_penalty=number, num_solves=zero, solve_evals=zero, num_evals=zero, non_finite=no,
            done=~no,
        )  # fmt: skip

    return jax.vmap(lane)(jnp.arange(num_lanes))
