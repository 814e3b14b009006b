"""Portfolio dispatch: from a problem to the least-cost plan of a fleet with a proven gap.

``plan_portfolio`` reads like the method: the fleet becomes an oracle, the decomposition mixes its answers and proves the
bound, and the mixture is replayed for single assets.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import numpy as np

from evflex.engine.budget import Budget
from evflex.engine.dispatch.build import blocks_for, build_oracle
from evflex.engine.dispatch.decomposition import Decomposed, Stop, decompose
from evflex.engine.dispatch.fleet_oracle import FleetOracle
from evflex.engine.dispatch.minimum_power import has_minimums, keep_minimums
from evflex.engine.dispatch.model import DispatchProblem, PlanOptions
from evflex.engine.dispatch.nested import decompose_nested, rows_that_hold_together
from evflex.engine.dispatch.plan import FleetPlan, PlanProgress
from evflex.engine.dispatch.report import report_plan
from evflex.engine.dispatch.setpoints import MixedSetpoints
from evflex.engine.dispatch.start import known_prices
from evflex.engine.dispatch.workers import Workers
from evflex.engine.supply_tree import FloatArray
from evflex.engine.validation import Rules

# Minimum powers leave the rest of the asked gap to the choice of steps; prices then move little.
_RELAXED_SHARE, _NEAR = 0.3, 0.1
# Phases, as progress names them.
_DECOMPOSITION, _RELAXATION, _MINIMUMS = "decomposition", "relaxation", "minimum powers"


def plan_portfolio(
    problem: DispatchProblem,
    options: PlanOptions | None = None,
    cancel: threading.Event | None = None,
    on_progress: Callable[[PlanProgress], None] | None = None,
) -> FleetPlan:
    """Plan a fleet at least cost.

    Args:
        problem: Fleet, limits, reserves and prices; the fleet must keep its own rules (:meth:`Fleet.validate`).
        options: Gap and time.
        cancel: Set it to stop the solve; the best plan so far is returned.
        on_progress: Called after each round.

    Returns:
        The plan with its figures, the prices of the limits and the proven gap.

    Raises:
        InvalidProblemError: The input breaks a rule; every fault is named.
    """
    options = options or PlanOptions()
    rules = Rules()
    problem.validate(rules)
    options.validate(rules)
    rules.raise_if_any()
    budget = Budget(options.time_limit_s, cancel or threading.Event())

    with Workers() as workers:
        stop = Stop(options.relative_gap, options.absolute_gap)
        start, radius = known_prices(problem, stop, budget, workers)
        progress = _Progress()
        oracle = build_oracle(problem, workers, blocks_for(problem))
        outer = rows_that_hold_together(problem, oracle)

        def solve(phase: str, oracle: FleetOracle, start: FloatArray, radius: float, stop: Stop) -> Decomposed:
            def tell(found: Decomposed) -> None:
                if on_progress is not None:
                    on_progress(progress.after(found, phase, budget.elapsed_s))

            if len(outer):
                return decompose_nested(oracle, outer, start, radius, stop, budget, tell)
            return decompose(oracle, start, radius, stop, budget, tell)

        if any(has_minimums(part) for part in oracle.parts):
            found = solve(_RELAXATION, oracle, start, radius, stop.share(_RELAXED_SHARE))
            again = partial(solve, _MINIMUMS, radius=_NEAR * radius)
            oracle, found = keep_minimums(oracle, found, again, stop, budget)
        else:
            found = solve(_DECOMPOSITION, oracle, start, radius, stop)
        setpoints = MixedSetpoints(oracle.parts, found.mixings(oracle), oracle.prices, len(problem.fleet))
        return report_plan(problem, oracle, found, setpoints, stop, budget, _DECOMPOSITION)


class _Progress:
    """Counts rounds over the phases of a solve, and keeps what is proven."""

    def __init__(self) -> None:
        self._rounds, self._bound = 0, -np.inf

    def after(self, found: Decomposed, phase: str, elapsed_s: float) -> PlanProgress:
        """How far the solve is after another round."""
        self._rounds += 1
        if phase == _MINIMUMS:
            # within chosen steps only the bound from before holds for all plans
            found = found.under(self._bound, Stop(0.0, 0.0))
        self._bound = max(self._bound, found.bound)
        return PlanProgress(self._rounds, found.objective, self._bound, found.gap, elapsed_s, phase)
