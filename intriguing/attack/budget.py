"""From the budget to everything that follows from it: which search, and how it shares the budget.

Exploring and projecting is the best default on every network that was measured; where nothing has a
kink a refinement goes on from there; elsewhere exploring makes more of what it costs
(benchmarks/README.md, "The frontier"). The search on c, alone, is the paper's protocol.
"""

from dataclasses import fields, replace
from typing import NamedTuple

from intriguing.attack.explore import ExploreOptions
from intriguing.attack.goals import NAMED, Goal
from intriguing.attack.lanes import Search
from intriguing.attack.penalty_lanes import PenaltyOptions
from intriguing.attack.problem import AttackOptions, most_norm
from intriguing.attack.refine import num_passes
from intriguing.attack.view import solver_norm

FIELDS = {field.name for field in fields(AttackOptions)}
SEARCHES = ("auto", "explore", "penalty")
BUDGET = 100  # evaluations per image
MIN_BUDGET = 10


class Plan(NamedTuple):
    """A search, and the refinement after it; no `refine_steps`, no refinement."""

    search: Search
    refine_steps: int
    num_margins: int

    def refinement(self) -> dict[str, int]:
        """What the refinement takes."""
        return {"refine_steps": self.refine_steps, "num_margins": self.num_margins}

    def limited(self, unit, scale) -> "Plan":
        """With the longest norm as the solver counts, of the user's."""
        if not isinstance(self.search, ExploreOptions):
            return self
        max_norm = solver_norm(self.search.max_norm, unit, scale)
        return self._replace(search=replace(self.search, max_norm=max_norm))

    def within(self, outputs_shape: tuple[int, ...], goal: Goal) -> "Plan":
        """No more margins than outputs (batch, classes) have."""
        if not goal.needs_classes:
            return self
        return self._replace(num_margins=min(self.num_margins, outputs_shape[1] - 1))


# Linearisations, and margins of each, after exploring: (of a smooth network, of one with kinks).
AFTER_EXPLORING = ((1, 9), (0, 9))
# Where a search on c is asked for: values of c, evaluations per c, rtol, linearisations, margins.
ON_C = (4, 60, 1e-4, 3, 9)


def choose(options: AttackOptions, is_smooth: bool, goal: Goal) -> Plan:
    """The plan of an attack on a network that is smooth, or has kinks."""
    of_c = (options.num_penalties, options.maxiter, options.rtol)
    asked = (
        any(value is not None for value in of_c) or options.squared_norm
        or options.solver != "batched" or not options.refine
    )  # fmt: skip
    if options.search == "explore" or (options.search == "auto" and not asked):
        return _explore(options, is_smooth, goal)
    return _penalty(options, goal)


def describe(options: dict) -> str:
    """In words, for a table's note: what an attack with these options does."""
    options = AttackOptions(**{name: options[name] for name in options if name in FIELDS})
    plan = choose(options, True, NAMED["targeted"])
    plural = "s" if plan.refine_steps > 1 else ""
    refined = f"{plan.refine_steps} linearisation{plural}" if plan.refine_steps else "no refinement"
    if isinstance(plan.search, ExploreOptions):
        budget = options.budget or BUDGET
        kinks = "" if options.refine_steps else " where the network is smooth"
        return f"explored and projected, then {refined}{kinks}, {budget} evaluations in all"
    tried = f"up to {plan.search.num_penalties} values of c"
    return f"{tried}, {plan.search.maxiter} evaluations each, {refined}"


def _explore(options: AttackOptions, is_smooth: bool, goal: Goal) -> Plan:
    budget = options.budget or BUDGET
    steps, num_margins = AFTER_EXPLORING[0 if is_smooth else 1]
    steps = steps if options.refine_steps is None else options.refine_steps
    num_margins = options.num_margins or _margins(num_margins, goal)
    cost = num_passes(goal, 1, num_margins)
    steps = min(steps, (budget - MIN_BUDGET) // (2 * cost))  # the search gets over half
    search = ExploreOptions(
        budget - steps * cost, goal.is_union, most_norm(options), budget if options.trace else 0
    )
    return Plan(search, steps, num_margins)


def _penalty(options: AttackOptions, goal: Goal) -> Plan:
    own = (options.num_penalties, options.maxiter, options.rtol, options.refine_steps)
    chosen = (new if value is None else value for value, new in zip(own, ON_C, strict=False))
    num_penalties, maxiter, rtol, steps = chosen
    num_margins = options.num_margins or _margins(ON_C[-1], goal)
    steps = steps if options.refine else 0
    most, refined = {}, num_passes(goal, steps, num_margins)
    if options.budget:
        most["max_evals"] = max(1, options.budget - refined)
    if options.trace:
        most["num_traced"] = options.budget or num_penalties * maxiter + refined
    search = PenaltyOptions(
        num_penalties, maxiter, options.tol, rtol, options.history_size, options.squared_norm,
        **most,
    )  # fmt: skip
    return Plan(search, steps, num_margins)


def _margins(num: int, goal: Goal) -> int:
    """Margins per linearisation: half as many of a union, which follows two boundaries."""
    return max(1, num // 2) if goal.is_union else num
