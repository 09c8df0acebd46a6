"""The search on c as a lane's search: the paper's penalty form, by projected L-BFGS.

A lane minimises |r| + loss / c for one c, and moves on to the next c the moment that solve ends.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from intriguing.attack import penalty_search
from intriguing.attack.lanes import Lane, step_off
from intriguing.attack.objective import Evaluation, distance_term, first_penalty
from intriguing.solver import lbfgs_step
from intriguing.solver.lbfgs_step import Status
from intriguing.solver.products import dot

MORE_PENALTIES = 12  # values of c that an image without any success gets on top
MAX_STEPS_OFF = 4  # from an image at which the network has no gradient


class PenaltyState(NamedTuple):
    """Fields:
    step: the solver's state at the present c.
    loss, margin: at `step.x`.
    search: the search on c.
    num_solves, solve_evals: values of c done; evaluations at this c.
    scale: of the outputs in the loss, 0 before the first evaluation.
    """

    step: lbfgs_step.StepState
    loss: jax.Array
    margin: jax.Array
    search: penalty_search.PenaltySearch
    num_solves: jax.Array
    solve_evals: jax.Array


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("num_penalties", "maxiter", "tol", "rtol", "max_evals"),
    meta_fields=("history_size", "squared_norm", "num_traced"),
)
@dataclasses.dataclass(frozen=True)
class PenaltyOptions:
    """Settings of the search on c; see `AttackOptions`.

    A pytree: budgets and tolerances are inputs of the compiled engine, so that one compilation
    serves for all of them; the others are part of its code. `max_evals` ends an image's search,
    whatever it is at.
    """

    num_penalties: int
    maxiter: int
    tol: float
    rtol: float
    history_size: int
    squared_norm: bool
    max_evals: int = 2**30
    num_traced: int = 0

    def init(self, image) -> PenaltyState:
        """A state whose first evaluation is at the image (n,)."""
        zero, number = jnp.zeros((), jnp.int32), jnp.zeros((), image.dtype)
        return PenaltyState(
            step=lbfgs_step.init(image, self.history_size), loss=number, margin=number,
            search=penalty_search.start(number + 1), num_solves=zero, solve_evals=zero,
        )  # fmt: skip

    def enter(self, state: PenaltyState, image, put) -> PenaltyState:
        """Begun anew where `put` says; of a history only `rho` need be cleared."""
        step, history = state.step, state.step.history
        return state._replace(
            step=step._replace(
                x=put(image, step.x), trial=put(image, step.trial), grad=put(0.0, step.grad),
                value=put(jnp.inf, step.value), num_iters=put(-1, step.num_iters),
                num_flat=put(0, step.num_flat), num_backtracks=put(0, step.num_backtracks),
                status=put(Status.RUNNING, step.status), stepsize=put(1.0, step.stepsize),
                history=history._replace(rho=put(0.0, history.rho)),
            ),
            num_solves=put(0, state.num_solves),
            solve_evals=put(0, state.solve_evals),
        )  # fmt: skip

    def trial(self, state: PenaltyState):
        """The solver's trial point."""
        return state.step.trial

    def asks(self, state: PenaltyState) -> None:
        """The gradient of the loss."""
        del state

    def update(self, lane: Lane, seen: Evaluation, clock) -> Lane:
        """Judges the solver's trial point; if the solve is over, the next c; the next trial."""
        state, slot = lane.state, clock % self.history_size
        loss, loss_grad, margin = seen.loss, seen.grad, seen.margin
        fresh = state.step.num_iters < 0
        start = penalty_search.start(first_penalty(loss_grad))
        search = jax.tree.map(functools.partial(jnp.where, fresh), start, state.search)
        c, trial = search.penalty_weight, state.step.trial

        distance, distance_grad, norm = distance_term(trial - lane.image, self.squared_norm)
        better = (margin > 0) & (norm < lane.best_norm) & ~lane.done
        step, accept = lbfgs_step.accept_or_shrink(
            state.step, distance + loss / c, distance_grad + loss_grad / c,
            lane.lower, lane.upper, slot, rtol=self.rtol,
        )  # fmt: skip
        step = lbfgs_step.update_status(step, lane.lower, lane.upper, tol=self.tol)
        smooth = jnp.isfinite(dot(loss_grad, loss_grad)) | ~fresh
        told = jnp.isfinite(loss) | (margin == -jnp.inf)  # a class that the network masks
        off = jnp.isfinite(loss) & ~smooth & (lane.num_evals < MAX_STEPS_OFF) & ~better
        lane = lane._replace(
            state=state._replace(
                loss=jnp.where(accept, loss, state.loss),
                margin=jnp.where(accept, margin, state.margin),
                solve_evals=state.solve_evals + 1,
            ),
            best_image=jnp.where(better, trial, lane.best_image),
            best_norm=jnp.where(better, norm, lane.best_norm),
            best_penalty=jnp.where(better, c, lane.best_penalty),
            num_evals=lane.num_evals + ~lane.done,
            non_finite=lane.non_finite | (~(told & smooth) & ~lane.done),
        )
        step = step._replace(status=jnp.where(off, Status.RUNNING, step.status))
        lane, step, over = self._next_penalty(lane, step, search)
        step = lbfgs_step.propose(step, accept | over, lane.lower, lane.upper, slot)
        beside = step_off(lane, trial, lane.num_evals)
        step = step._replace(trial=jnp.where(off, beside, step.trial))
        return lane._replace(state=lane.state._replace(step=step))

    def _next_penalty(self, lane: Lane, step, search):
        """If the solve is over, moves the solver to the next c; returns (lane, step, over).

        f and its gradient at x for the new c follow from those for the old one: no evaluation is
        spent.
        """
        state = lane.state
        over = (step.status != Status.RUNNING) | (state.solve_evals >= self.maxiter)
        advanced = penalty_search.advance(search, state.margin)
        distance, distance_grad, _ = distance_term(step.x - lane.image, self.squared_norm)
        ratio = search.penalty_weight / advanced.penalty_weight
        loss_grad = ratio * (step.grad - distance_grad)
        num_solves = state.num_solves + over
        found = jnp.isfinite(lane.best_norm)
        most = jnp.where(found, self.num_penalties, self.num_penalties + MORE_PENALTIES)
        finished = (num_solves >= most) | penalty_search.is_narrow(advanced)
        finished |= (step.status == Status.NON_FINITE) | (lane.best_norm == 0)
        spent = found & (lane.num_evals >= self.max_evals)

        select = functools.partial(jnp.where, over)
        step = step._replace(
            value=select(distance + state.loss / advanced.penalty_weight, step.value),
            grad=select(distance_grad + loss_grad, step.grad),
            stepsize=select(1.0, step.stepsize),
            num_backtracks=select(0, step.num_backtracks),
            num_flat=select(0, step.num_flat),
            status=select(Status.RUNNING, step.status),
        )
        state = state._replace(
            search=jax.tree.map(select, advanced, search),
            num_solves=num_solves,
            solve_evals=select(0, state.solve_evals),
        )
        return lane._replace(state=state, done=lane.done | (over & finished) | spent), step, over
