"""One step of a projected L-BFGS for one box-constrained problem, as a pure function.

    minimise f(x)  subject to  lower <= x <= upper

The caller evaluates f and its gradient at `state.trial` and hands them to `step`, which accepts or
shrinks the trial step and proposes the next trial point: one evaluation per step, no inner loop.
Under vmap every lane is at its own stage, and none waits for another's line search.

Method: Bertsekas 1982 (projected Newton methods, SIAM J. Control Optim. 20): variables at a bound
that the gradient pushes outwards are held; the others move along -P H P g, where P keeps the free
variables and H is the L-BFGS matrix (Nocedal and Wright 2006, section 7.2) of pairs whose y was
masked by P when they were stored; the trial point is the projection of x + t d onto the box. Unlike
L-BFGS-B (Byrd, Lu, Nocedal, Zhu 1995) there is no search for the Cauchy point along the breakpoints
of the projected path, which costs a sort and up to n sequential steps.

H g is formed in coefficient space: five products with the whole history, in place of the 4 m
dependent vector operations of the textbook recursion.
"""

import enum
from typing import NamedTuple

import jax
import jax.numpy as jnp

from intriguing.solver.products import dot, matmul

SUFFICIENT_DECREASE = 1e-4  # Armijo's constant
MAX_BACKTRACKS = 20  # shrinkings of one step before the direction is given up


class Status(enum.IntEnum):
    """Why a solve ended."""

    CONVERGED = 0  # error <= tol
    MAXITER = 1  # out of iterations
    NON_FINITE = 2  # value or gradient is NaN or infinite at the start (or, in jaxopt, later)
    STALLED = 3  # no step lowers the value by more than `rtol`, or by more than rounding
    RUNNING = 4


class History(NamedTuple):
    """The m newest pairs, in a ring: `slot` of `step` says which is replaced next.

    Fields: `s`, `y` (m, n); `sy` (m, m), their inner products s_i . y_j, of which only those with
    s older than y, or of one pair, are kept up; `rho` (m,), 1 / s_i . y_i, and 0 for a slot that
    holds no pair; `gamma`, scale of the initial matrix.
    """

    s: jax.Array
    y: jax.Array
    sy: jax.Array
    rho: jax.Array
    gamma: jax.Array


class StepState(NamedTuple):
    """One problem under way.

    Fields:
      x, value, grad: best point so far (n,), f and its gradient there.
      trial: (n,), where the caller evaluates f next.
      direction, stepsize: trial = clip(x + stepsize * direction).
      history: a `History`.
      error: max norm of clip(x - grad) - x.
      num_iters: steps accepted, int32.
      num_backtracks: since the last accepted step, int32.
      num_flat: accepted steps in a row that lowered the value by less than rtol, int32.
      status: a `Status`, int32.
    """

    x: jax.Array
    value: jax.Array
    grad: jax.Array
    trial: jax.Array
    direction: jax.Array
    stepsize: jax.Array
    history: History
    error: jax.Array
    num_iters: jax.Array
    num_backtracks: jax.Array
    num_flat: jax.Array
    status: jax.Array


def empty_history(n: int, size: int, dtype) -> History:
    """A history without pairs."""
    pairs, gram = jnp.zeros((size, n), dtype), jnp.zeros((size, size), dtype)
    return History(pairs, pairs, gram, jnp.zeros(size, dtype), jnp.ones((), dtype))


def init(x: jax.Array, history_size: int) -> StepState:
    """State whose first evaluation is at x (n,), a point inside the box."""
    zero, infinity = jnp.zeros((), jnp.int32), jnp.full((), jnp.inf, x.dtype)
    return StepState(
        x=x, value=infinity, grad=jnp.zeros_like(x), trial=x, direction=jnp.zeros_like(x),
        stepsize=jnp.ones((), x.dtype), history=empty_history(len(x), history_size, x.dtype),
        error=infinity, num_iters=zero - 1, num_backtracks=zero, num_flat=zero,
        status=zero + Status.RUNNING,
    )  # fmt: skip


def projected_gradient(x, grad, lower, upper) -> jax.Array:
    """clip(x - grad, lower, upper) - x: zero exactly at a stationary point in the box."""
    return jnp.clip(x - grad, lower, upper) - x


def free_variables(x, grad, lower, upper) -> jax.Array:
    """1 where a variable may move, 0 where it is at a bound and -grad points out of the box."""
    held = ((x <= lower) & (grad > 0)) | ((x >= upper) & (grad < 0))
    return 1 - held.astype(x.dtype)


@jax.jit
def step(state: StepState, value, grad, lower, upper, slot, *, tol, rtol) -> StepState:
    """Takes in f(state.trial) and its gradient; returns the state with the next trial point.

    The first call must be given f at the start, `init(x).trial`. A problem that has ended stays as
    it is, so that a loop over many can go on for the others without selecting between states.

    Args:
      state: of one problem.
      value, grad: f and its gradient (n,) at `state.trial`; NaN or infinity shrinks the step.
      lower, upper: the box (n,), may be infinite.
      slot: int32, which pair of the history is replaced; step number modulo history size. It is
        the same for all lanes under vmap, so that writing it is not a scatter; a lane that
        backtracks loses the pair in that slot.
      tol: CONVERGED when error <= tol.
      rtol: STALLED after three steps in a row that lower the value by less than rtol * |value|.
    """
    running, before = state.status == Status.RUNNING, state
    value = jnp.where(running, value, jnp.nan)
    state, accept = accept_or_shrink(state, value, grad, lower, upper, slot, rtol=rtol)
    state = state._replace(
        history=keep_slot(before.history, state.history, slot, ~running),
        num_backtracks=jnp.where(running, state.num_backtracks, before.num_backtracks),
        stepsize=jnp.where(running, state.stepsize, before.stepsize),
    )
    return propose(update_status(state, lower, upper, tol=tol), accept, lower, upper, slot)


def accept_or_shrink(state, value, grad, lower, upper, slot, *, rtol):
    """Judges the trial point by Armijo's rule along the projected path; returns (state, accept)."""
    first = state.num_iters < 0
    s = state.trial - state.x
    slope = dot(state.grad, s)
    finite = jnp.isfinite(value) & jnp.isfinite(dot(grad, grad))
    rounding = jnp.finfo(s.dtype).eps * jnp.abs(state.value)
    # Clipping can turn a downhill direction uphill: then any decrease must do.
    enough = value <= state.value + SUFFICIENT_DECREASE * jnp.minimum(slope, 0.0) + rounding
    accept = finite & (first | enough)

    flat = accept & ~first & (state.value - value <= jnp.maximum(rtol * jnp.abs(value), rounding))
    num_flat = jnp.where(flat, state.num_flat + 1, jnp.where(accept, 0, state.num_flat))
    # Safeguarded minimiser of the parabola through f, its slope, and f at the trial point.
    parabola = jnp.where(slope < 0, 0.5 * slope / (slope - (value - state.value)), 0.5)
    shrink = jnp.where(jnp.isfinite(parabola) & finite, jnp.clip(parabola, 0.1, 0.5), 0.1)

    free = free_variables(state.trial, grad, lower, upper)
    history = store_pair(state.history, s, (grad - state.grad) * free, accept & ~first, slot)
    lost = first & ~finite
    return state._replace(
        x=jnp.where(accept, state.trial, state.x),
        value=jnp.where(accept, value, state.value),
        grad=jnp.where(accept, grad, state.grad),
        stepsize=jnp.where(accept, 1.0, shrink * state.stepsize).astype(s.dtype),
        history=history,
        num_iters=state.num_iters + accept,
        num_backtracks=jnp.where(accept, 0, state.num_backtracks + 1),
        num_flat=num_flat,
        status=jnp.where(lost, Status.NON_FINITE, state.status),
    ), accept


def store_pair(history: History, s, y, keep, slot) -> History:
    """Writes a pair into `slot`; empties it if not `keep`, or if its curvature is not > 0."""
    sy, yy = dot(s, y), dot(y, y)
    keep &= sy > jnp.finfo(s.dtype).eps * yy
    s, y = jnp.where(keep, s, 0.0), jnp.where(keep, y, 0.0)
    all_s = history.s.at[slot].set(s)
    return History(
        s=all_s,
        y=history.y.at[slot].set(y),
        sy=history.sy.at[:, slot].set(matmul(all_s, y)),
        rho=history.rho.at[slot].set(jnp.where(keep, 1 / jnp.where(keep, sy, 1.0), 0.0)),
        gamma=jnp.where(keep, sy / jnp.where(keep, yy, 1.0), history.gamma),
    )


def keep_slot(old: History, new: History, slot, kept) -> History:
    """`new`, with `slot` as it was in `old` where `kept`: only that slot is read and written."""

    def pick(new, old):
        return jnp.where(kept, old, new)

    return History(
        s=new.s.at[slot].set(pick(new.s[slot], old.s[slot])),
        y=new.y.at[slot].set(pick(new.y[slot], old.y[slot])),
        sy=new.sy.at[:, slot].set(pick(new.sy[:, slot], old.sy[:, slot])),
        rho=pick(new.rho, old.rho),
        gamma=pick(new.gamma, old.gamma),
    )


def update_status(state: StepState, lower, upper, *, tol) -> StepState:
    """Ends a solve that has converged or stalled."""
    room = jnp.where(state.grad > 0, state.x - lower, upper - state.x)
    error = jnp.max(jnp.minimum(jnp.abs(state.grad), room), initial=0.0)
    stalled = (state.num_flat >= 3) | (state.num_backtracks >= 2 * MAX_BACKTRACKS)
    status = jnp.where(stalled, Status.STALLED, Status.RUNNING)
    status = jnp.where(error <= tol, Status.CONVERGED, status)
    status = jnp.where(state.status == Status.RUNNING, status, state.status)
    return state._replace(error=error, status=status.astype(jnp.int32))


def propose(state: StepState, renew, lower, upper, slot) -> StepState:
    """Sets the next trial point; `renew`: from a new direction, else nearer on the old one.

    When a direction has been shrunk `MAX_BACKTRACKS` times in vain the history is forgotten and
    steepest descent takes over.
    """
    give_up = (state.num_backtracks == MAX_BACKTRACKS) & (state.status == Status.RUNNING)
    history = state.history._replace(rho=jnp.where(give_up, 0.0, state.history.rho))
    steepest = -state.grad * free_variables(state.x, state.grad, lower, upper)
    # A free variable whose derivative is exactly 0 rests for a step: cheaper than a second mask.
    free = (steepest != 0).astype(steepest.dtype)
    newton = two_loop(history, steepest, free, slot) * free
    # A direction that is not clearly downhill (rounding) is replaced by steepest descent, whose
    # first step has unit length, as in L-BFGS-B.
    downhill = -dot(state.grad, newton)
    norm = jnp.sqrt(dot(steepest, steepest))
    usable = (downhill > 1e-7 * norm * jnp.sqrt(dot(newton, newton))) & (history.rho > 0).any()
    unit = steepest / jnp.maximum(norm, 1.0)
    renew |= give_up
    direction = jnp.where(renew, jnp.where(usable, newton, unit), state.direction)
    stepsize = jnp.where(give_up, 1.0, state.stepsize)
    trial = jnp.clip(state.x + stepsize * direction, lower, upper)
    return state._replace(direction=direction, stepsize=stepsize, history=history, trial=trial)


def two_loop(history: History, v: jax.Array, free: jax.Array, slot) -> jax.Array:
    """H v by the two-loop recursion (Nocedal and Wright, algorithm 7.4), on coefficients.

    H v = gamma q + sum_i delta_i s_i with q = v - sum_i alpha_i y_i. Alpha and delta follow from
    products with the whole history and the kept s_i . y_j; `free` keeps q on the free variables.
    """
    size = len(history.rho)
    # Chronological order, oldest first: `slot` was written last.
    sy = jnp.roll(history.sy, (-slot - 1, -slot - 1), (0, 1))
    rho = jnp.roll(history.rho, -slot - 1)
    s_v = jnp.roll(matmul(history.s, v), -slot - 1)
    alpha = jnp.zeros_like(rho)
    for i in reversed(range(size)):
        # Only newer pairs have an alpha yet: entries of `sy` that were not kept up meet a 0.
        alpha = alpha.at[i].set(rho[i] * (s_v[i] - dot(sy[i], alpha)))
    q = history.gamma * (v - matmul(jnp.roll(alpha, slot + 1), history.y) * free)
    y_q = jnp.roll(matmul(history.y, q), -slot - 1)
    delta = jnp.zeros_like(rho)
    for i in range(size):
        delta = delta.at[i].set(alpha[i] - rho[i] * (y_q[i] + dot(sy[:, i], delta)))
    return q + matmul(jnp.roll(delta, slot + 1), history.s)


@jax.custom_batching.custom_vmap
def any_lane(running: jax.Array) -> jax.Array:
    """Whether any lane is running: the same bool for all of them under vmap.

    A while loop whose condition differs between lanes selects, in every step and for all that it
    carries, between the old and the new. There is no need: `step` leaves ended lanes alone.
    """
    return running


@any_lane.def_vmap
def _any_lane(axis_size, in_batched, running):
    del axis_size, in_batched
    return any_lane(running.any(axis=0)), False


def end_at(maxiter: int, state: StepState) -> StepState:
    """Ends a solve that has accepted `maxiter` steps."""
    over = (state.status == Status.RUNNING) & (state.num_iters >= maxiter)
    return state._replace(status=jnp.where(over, Status.MAXITER, state.status).astype(jnp.int32))
