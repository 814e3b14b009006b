"""Portfolio dispatch: from a problem to the least-cost plan of a fleet with a proven gap.

``plan_portfolio`` reads like the method: the fleet becomes an oracle, the decomposition mixes its answers and proves the
bound, and the mixture is replayed for single assets.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from evflex.engine.budget import Budget
from evflex.engine.dispatch.build import build_oracle
from evflex.engine.dispatch.decomposition import Decomposed, Stop, decompose, mixing_of
from evflex.engine.dispatch.model import DispatchProblem, PlanOptions
from evflex.engine.dispatch.plan import FleetPlan, PlanProgress
from evflex.engine.dispatch.prepared import prepare
from evflex.engine.dispatch.report import report_plan
from evflex.engine.dispatch.setpoints import MixedSetpoints
from evflex.engine.dispatch.workers import Workers
from evflex.engine.validation import Rules

# How far prices may first move, as a share of the dearest price (measured: half or twice as much need as many rounds).
_RADIUS = 0.1


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

    def tell(rounds: int, found: Decomposed) -> None:
        if on_progress is not None:
            on_progress(
                PlanProgress(rounds, found.objective, found.bound, found.gap, budget.elapsed_s, "decomposition")
            )

    with Workers() as workers:
        oracle = build_oracle(prepare(problem), workers)
        start = np.zeros_like(oracle.coupling.lower_kw)
        radius = _RADIUS * float(np.abs(oracle.prices.draw).max())
        stop = Stop(options.relative_gap, options.absolute_gap)
        found = decompose(oracle, start, radius, stop, budget, tell)
        mixing = mixing_of(found, oracle.coupling, oracle.signature)
        ends = np.cumsum([0, *(len(part.block_signature) for part in oracle.parts)])
        mixings = [mixing.blocks(int(a), int(b)) for a, b in zip(ends[:-1], ends[1:], strict=True)]
        setpoints = MixedSetpoints(oracle.parts, mixings, oracle.prices, len(problem.fleet))
        return report_plan(problem, oracle, found, setpoints, stop, budget, "decomposition")
