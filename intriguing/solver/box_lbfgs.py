"""Box-constrained L-BFGS for any function: jaxopt's LBFGSB, hardened, and one made for batches.

The only module that imports jaxopt; it knows nothing of images.
"""

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from intriguing.solver import lbfgs_step
from intriguing.solver.lbfgs_step import Status

with warnings.catch_warnings():  # that it is no longer maintained: we know, and say so elsewhere
    warnings.simplefilter("ignore", DeprecationWarning)
    import jaxopt

INTERIOR = 1e-4  # where jaxopt starts: this fraction of the box away from its faces
MAX_LINE_SEARCH = 8  # jaxopt's evaluations per line search; near the optimum float32 cannot meet it


class Solution(NamedTuple):
    """Result of `minimize_box`.

    Fields:
      x: the best point seen, inside the box.
      value: the function there.
      error: max norm of the projected gradient step there, |clip(x - grad) - x|.
      num_iters: iterations done.
      num_evals: evaluations of the value and gradient.
      status: a `Status`, as int32.
    """

    x: jax.Array
    value: jax.Array
    error: jax.Array
    num_iters: jax.Array
    num_evals: jax.Array
    status: jax.Array


class BatchedState(NamedTuple):
    """State of `BatchedLBFGSB`; the fields that jaxopt's LBFGSB has too mean the same here.

    `step` is the solver's own state, on the flattened problem; `next_slot` the place in its history
    that is replaced next; `aux` belongs to the last evaluation.
    """

    iter_num: jax.Array
    value: jax.Array
    grad: Any
    stepsize: jax.Array
    error: jax.Array
    step: lbfgs_step.StepState
    next_slot: jax.Array
    aux: Any = None
    failed_linesearch: jax.Array = False
    num_fun_eval: jax.Array = 0
    num_grad_eval: jax.Array = 0
    num_linesearch_iter: jax.Array = 0


@dataclasses.dataclass(eq=False)
class BatchedLBFGSB(jaxopt.LBFGSB):
    """A drop-in for `jaxopt.LBFGSB` that solves a batch of problems fast under `jax.vmap`.

    Same fields, same problems (pytrees; bounds None, scalars or arrays; aux; implicit
    differentiation), same minimisers. One `update` is one evaluation of `fun`: it accepts the trial
    point or shrinks the step, and no lane waits for another's line search (see `lbfgs_step`).

    It ends when `error <= tol` (the max norm of clip(x - grad) - x, as in jaxopt), after `maxiter`
    accepted steps or `2 * maxiter` evaluations, or when no step lowers the value any more
    (`failed_linesearch`). The fields `linesearch`, `linesearch_init`, `maxls`, `increase_factor`,
    `max_stepsize`, `min_stepsize`, `stepsize`, `theta` and `use_gamma` have no effect.
    """

    def init_state(self, init_params, bounds, *args, **kwargs) -> BatchedState:
        """State after the first evaluation, at `init_params` projected onto the box.

        `init_params` may be the result of an earlier run (`OptStep`): its history is kept.
        """
        history, slot = None, jnp.zeros((), jnp.int32)
        if isinstance(init_params, jaxopt.OptStep):
            history, slot = init_params.state.step.history, init_params.state.next_slot
            init_params = init_params.params
        x, unravel = ravel_pytree(init_params)
        lower, upper = self._flat_bounds(init_params, bounds)
        x = jnp.clip(x, lower, upper)
        step = lbfgs_step.init(x, self.history_size)
        if history is not None:
            step = step._replace(history=history)
        return self._evaluate(step, slot, 0, unravel, (lower, upper), args, kwargs)

    def update(self, params, state: BatchedState, bounds, *args, **kwargs) -> jaxopt.OptStep:
        """Evaluates `fun` once, at the trial point; returns the best point so far and the state.

        Once the solve has ended (`state.step.status`), nothing changes any more.
        """
        if isinstance(params, jaxopt.OptStep):
            params = params.params
        _, unravel = ravel_pytree(params)
        bounds = self._flat_bounds(params, bounds)
        new = self._evaluate(
            state.step, state.next_slot, state.num_fun_eval, unravel, bounds, args, kwargs
        )
        running = state.step.status == Status.RUNNING
        aux = jax.tree.map(lambda new, old: jnp.where(running, new, old), new.aux, state.aux)
        return jaxopt.OptStep(params=unravel(new.step.x), state=new._replace(aux=aux))

    def _evaluate(self, step, slot, num_evals, unravel, bounds, args, kwargs) -> BatchedState:
        trial, running = unravel(step.trial), step.status == Status.RUNNING
        (value, aux), grad = self._value_and_grad_with_aux(trial, *args, **kwargs)
        step = lbfgs_step.step(
            step, value, ravel_pytree(grad)[0], *bounds, slot, tol=self.tol, rtol=0.0
        )
        num_evals = jnp.asarray(num_evals + running, jnp.int32)
        return BatchedState(
            iter_num=step.num_iters,
            value=step.value,
            grad=unravel(step.grad),
            stepsize=step.stepsize,
            error=step.error,
            step=step,
            next_slot=(slot + 1) % self.history_size,
            aux=aux,
            failed_linesearch=step.status == Status.STALLED,
            num_fun_eval=num_evals,
            num_grad_eval=num_evals,
            num_linesearch_iter=num_evals - step.num_iters - 1,
        )

    def _flat_bounds(self, params, bounds):
        if bounds is None:
            bounds = (-jnp.inf, jnp.inf)
        flat, _ = ravel_pytree(params)

        def flatten(bound):
            if jax.tree.structure(bound).num_nodes == 1 and jnp.ndim(bound) == 0:
                return jnp.full_like(flat, bound)
            full = jax.tree.map(lambda b, p: jnp.broadcast_to(b, jnp.shape(p)), bound, params)
            return ravel_pytree(full)[0].astype(flat.dtype)

        return flatten(bounds[0]), flatten(bounds[1])

    def _cond_fun(self, inputs):
        _, state = inputs[0]
        return lbfgs_step.any_lane(state.step.status == Status.RUNNING)

    def _body_fun(self, inputs):
        return (self._limit(super()._body_fun(inputs)[0]), inputs[1])

    def _limit(self, found: jaxopt.OptStep) -> jaxopt.OptStep:
        step = lbfgs_step.end_at(self.maxiter, found.state.step)
        return found._replace(state=found.state._replace(step=step))

    def _run(self, init_params, bounds, *args, **kwargs) -> jaxopt.OptStep:
        state = self.init_state(init_params, bounds, *args, **kwargs)
        if isinstance(init_params, jaxopt.OptStep):
            init_params = init_params.params
        _, unravel = ravel_pytree(init_params)
        start = self._limit(jaxopt.OptStep(unravel(state.step.x), state))
        return jaxopt.loop.while_loop(
            self._cond_fun, self._body_fun, (start, ((bounds, *args), kwargs)),
            maxiter=2 * self.maxiter, jit=self.jit, unroll=self._get_unroll_option(),
        )[0]  # fmt: skip


class BoxOptions(NamedTuple):
    """Options of `minimize_box`.

    Fields:
      maxiter: iterations at most; for "batched" accepted steps, and twice as many evaluations.
      tol: ends when the projected gradient (see `Solution.error`) is at most this.
      rtol: ends when steps lower the value by less than this fraction of it.
      history_size: pairs that L-BFGS remembers.
    """

    maxiter: int = 100
    tol: float = 1e-3
    rtol: float = 0.0
    history_size: int = 10


def minimize_box(
    value_and_grad_fn: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
    x0: jax.Array,
    lower: jax.Array | float,
    upper: jax.Array | float,
    *,
    solver: str = "batched",
    **options,
) -> Solution:
    """Minimises one function of an array in a box; vmap for many.

    Args:
      value_and_grad_fn: x -> (scalar, array like x).
      x0: start, any shape, a floating dtype; projected onto the box.
      lower, upper: the box, scalars or arrays that broadcast to x0; may be infinite.
      solver: "batched" (`lbfgs_step`, one evaluation per loop step) or "jaxopt", the stock LBFGSB
        (Byrd, Lu, Nocedal, Zhu 1995), hardened: it starts inside the box, keeps the best finite
        point seen, stops at the first non-finite value, and its result is clipped to the box.
      **options: fields of `BoxOptions`: maxiter, tol, rtol, history_size.

    Returns:
      A `Solution`.
    """
    options = BoxOptions(**options)
    maxiter, tol, rtol, history_size = options
    shape, bounds = x0.shape, [jnp.asarray(b, x0.dtype) for b in (lower, upper)]
    full = [jnp.broadcast_to(b, shape) for b in bounds]
    if solver == "jaxopt":
        return _minimize_stock(value_and_grad_fn, x0, *full, options)
    # Scalars stay scalars: the step is bound by memory.
    lower, upper = (
        bound.reshape(1) if bound.size == 1 else array.ravel()
        for bound, array in zip(bounds, full, strict=True)
    )

    def keep_going(carry):
        state, clock, _ = carry
        return lbfgs_step.any_lane(state.status == Status.RUNNING) & (clock < 2 * maxiter + 1)

    def body(carry):
        state, clock, num_evals = carry
        num_evals += state.status == Status.RUNNING
        value, grad = value_and_grad_fn(state.trial.reshape(shape))
        slot = clock % history_size
        state = lbfgs_step.step(state, value, grad.ravel(), lower, upper, slot, tol=tol, rtol=rtol)
        return lbfgs_step.end_at(maxiter, state), clock + 1, num_evals

    start = lbfgs_step.init(jnp.clip(x0.ravel(), lower, upper), history_size)
    zero = jnp.zeros((), jnp.int32)
    state, _, num_evals = jax.lax.while_loop(keep_going, body, (start, zero, zero))
    status = jnp.where(state.status == Status.RUNNING, Status.MAXITER, state.status)
    return Solution(
        x=state.x.reshape(shape), value=state.value, error=state.error,
        num_iters=state.num_iters, num_evals=num_evals, status=status.astype(jnp.int32),
    )  # fmt: skip


def move_inside(x, lower, upper):
    """Moves x away from finite bounds by a small fraction of the box.

    jaxopt's LBFGSB fails silently when it starts with many variables exactly on their bounds.
    """
    width = upper - lower
    margin = INTERIOR * jnp.where(jnp.isfinite(width), width, 1.0)
    return jnp.clip(x, lower + margin, upper - margin)


def _minimize_stock(value_and_grad_fn, x0, lower, upper, options: BoxOptions) -> Solution:
    maxiter, tol, rtol, history_size = options
    solver = jaxopt.LBFGSB(
        value_and_grad_fn, value_and_grad=True, maxiter=maxiter, tol=tol, history_size=history_size,
        maxls=MAX_LINE_SEARCH, implicit_diff=False, unroll=False,
    )  # fmt: skip
    x0 = move_inside(jnp.clip(x0, lower, upper), lower, upper)
    start = solver.init_state(x0, (lower, upper))

    def improve(best: Solution, x, state) -> Solution:
        finite = jnp.isfinite(state.value) & jnp.all(jnp.isfinite(state.grad))
        x = jnp.clip(x, lower, upper)
        step = lbfgs_step.projected_gradient(x, state.grad, lower, upper)
        error = jnp.max(jnp.abs(step), initial=0.0)
        better = finite & (state.value < best.value)
        least = jnp.maximum(rtol, 4 * jnp.finfo(x0.dtype).eps) * jnp.abs(best.value)
        stalled = finite & (state.value >= best.value - least)
        status = jnp.where(stalled, Status.STALLED, Status.RUNNING)
        status = jnp.where(error <= tol, Status.CONVERGED, status)
        return Solution(
            x=jnp.where(better, x, best.x),
            value=jnp.where(better, state.value, best.value),
            error=jnp.where(better, error, best.error),
            num_iters=jnp.asarray(state.iter_num, jnp.int32),
            num_evals=jnp.asarray(state.num_fun_eval, jnp.int32),
            status=jnp.where(finite, status, Status.NON_FINITE).astype(jnp.int32),
        )

    def keep_going(carry):
        _, state, best = carry
        return (best.status == Status.RUNNING) & (state.iter_num < maxiter)

    def body(carry):
        x, state, best = carry
        x, state = solver.update(x, state, (lower, upper))
        return x, state, improve(best, x, state)

    infinity = jnp.full((), jnp.inf, x0.dtype)
    zero = jnp.zeros((), jnp.int32)
    nothing = Solution(x0, infinity, infinity, zero, zero, zero)
    solution = jax.lax.while_loop(keep_going, body, (x0, start, improve(nothing, x0, start)))[2]
    ended = jnp.where(solution.status == Status.RUNNING, Status.MAXITER, solution.status)
    return solution._replace(status=ended.astype(jnp.int32))
