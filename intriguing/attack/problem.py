"""What an attack works on, and how hard it tries."""

from dataclasses import asdict, dataclass
from typing import NamedTuple

import jax
import numpy as np

Array = np.ndarray | jax.Array


class Problem(NamedTuple):
    """Images, the box they stay in, and what each is to become; one row per image.

    Fields:
      images: (batch, ...) floating.
      lower, upper: (batch, ...), or (batch, 1, ...) where one number is the bound of all pixels:
        the solver, which is bound by memory, then does not read it pixel by pixel.
      target_labels: (batch,) int32.
    """

    images: Array
    lower: Array
    upper: Array
    target_labels: Array

    def rows(self, index) -> "Problem":
        """Some rows of it."""
        return Problem(*(array[index] for array in self))


@dataclass(frozen=True, kw_only=True)
class AttackOptions:
    """How hard an attack tries; see `attack.minimal_perturbation`.

    Fields:
      refine: after the search on c, shrink r to a local minimum of |r|; False is the paper's
        protocol.
      solver: "batched", the engine with in-flight batching, or "jaxopt", the stock LBFGSB.
      num_penalties: values of c that are tried for each image, at most; an image that has not
        been made adversarial by then gets `engine.MORE_PENALTIES` more.
      maxiter: evaluations (jaxopt: iterations) per value of c, at most.
      tol: a solve ends when its projected gradient, of |r| + loss / c, is at most this.
      rtol: a solve ends when three steps in a row lower the objective by less than this fraction.
      history_size: pairs that L-BFGS remembers.
      squared_norm: penalise |r|^2 in place of the paper's |r|.
      refine_steps: linearisations of the class boundary.
      num_margins: classes beside the target that each of them takes into account.
      num_lanes: images that each device works on at a time; None: `feed.choose_num_lanes`. It
        changes no number. Memory: about 2 history_size + 14 images per lane, plus the network's
        activations.
    """

    refine: bool = True
    solver: str = "batched"
    num_penalties: int = 4
    maxiter: int = 60
    tol: float = 1e-3
    rtol: float = 1e-4
    history_size: int = 5
    squared_norm: bool = False
    refine_steps: int = 3
    num_margins: int = 9
    num_lanes: int | None = None

    def counts(self) -> dict[str, int]:
        """Those that must be at least 1."""
        names = ("num_penalties", "maxiter", "history_size", "refine_steps", "num_margins")
        return {name: value for name, value in asdict(self).items() if name in names}
