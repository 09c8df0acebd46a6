"""What an attack works on, and how hard it tries."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import NamedTuple

import jax
import numpy as np

from intriguing.attack.goals import NAMED, Goal

Array = np.ndarray | jax.Array


class Problem(NamedTuple):
    """Images, the box they stay in, and what each is to become; one row per image.

    Fields:
      images: (batch, ...) floating.
      lower, upper: (batch, ...), or (batch, 1, ...) where one number is the bound of all pixels:
        the solver, which is bound by memory, then does not read it pixel by pixel.
      labels: (batch, ...) that the goal reads: int32 classes, or what a goal of your own takes.
      goal: what counts as adversarial; the same for all rows.
    """

    images: Array
    lower: Array
    upper: Array
    labels: Array
    goal: Goal = NAMED["targeted"]

    def rows(self, index) -> "Problem":
        """Some rows of it."""
        return Problem(*(array[index] for array in self[:-1]), self.goal)


@dataclass(frozen=True, kw_only=True)
class AttackOptions:
    """How hard an attack tries; see `attack.minimal_perturbation`.

    `budget` is the one dial: what else is None follows from it, and from whether the network is
    smooth (`attack.budget.choose`).

    Fields:
      budget: evaluations per image, at most; an image that has not reached its goal by then gets
        more. None: 100; a search on c takes what it needs, about 65 on smooth networks.
      max_norm: of the perturbation, in `l2_norm`'s units: a longer one is none (NOT_REACHED), and
        an image that has nothing near it after exploring is given up. None: any length.
      search: "penalty", the search on c; "explore", project and explore, for networks with kinks;
        "auto": what suits the network, or "penalty" where one of its own options is given.
      refine: after the search on c, shrink r to a local minimum of `|r|`; False is the paper's
        protocol, a search on c and nothing else.
      solver: of the search on c: "batched", the engine with in-flight batching, or "jaxopt", the
        stock LBFGSB.
      num_penalties: values of c that are tried for each image, at most; an image that has not
        been made adversarial by then gets `penalty_lanes.MORE_PENALTIES` more.
      maxiter: evaluations (jaxopt: iterations) per value of c, at most.
      tol: a solve ends when its projected gradient, of `|r| + loss / c`, is at most this.
      rtol: a solve ends when three steps in a row lower the objective by less than this fraction.
      history_size: pairs that L-BFGS remembers.
      squared_norm: penalise `|r|^2` in place of the paper's `|r|`.
      refine_steps: linearisations of the class boundary.
      num_margins: classes beside the target that each of them takes into account.
      num_lanes: images that each device works on at a time; None: `feed.choose_num_lanes`. It
        changes no number. Memory: about 2 history_size + 14 images per lane, plus the network's
        activations.
      trace: whether `AttackResult.trace` is filled, for as many evaluations as the search is to
        take, and its refinement; not with "jaxopt".
      utilisation: called once with the engine's lane steps, a `feed.Utilisation`.
    """

    budget: int | None = None
    max_norm: float | None = None
    search: str = "auto"
    refine: bool = True
    solver: str = "batched"
    num_penalties: int | None = None
    maxiter: int | None = None
    tol: float = 1e-3
    rtol: float | None = None
    history_size: int = 5
    squared_norm: bool = False
    refine_steps: int | None = None
    num_margins: int | None = None
    num_lanes: int | None = None
    trace: bool = False
    utilisation: Callable | None = None

    def counts(self) -> dict[str, int]:
        """Those that must be at least 1."""
        names = ("num_penalties", "maxiter", "history_size", "refine_steps", "num_margins",
                 "num_lanes", "budget")  # fmt: skip
        found = asdict(self)
        return {name: found[name] for name in names if found[name] is not None}


def most_norm(options: AttackOptions) -> float:
    """The longest perturbation that counts, in the user's units."""
    return float("inf") if options.max_norm is None else options.max_norm
