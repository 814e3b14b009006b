"""Portfolio dispatch: from a problem to the least-cost plan of a fleet with a proven gap.

A small portfolio is one program. For others ``plan_portfolio`` reads like the method: the fleet becomes an oracle, the
decomposition mixes its answers and proves the bound, and the mixture is replayed for single assets.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import numpy as np

from evflex.engine.budget import Budget
from evflex.engine.dispatch.assets import only_charges
from evflex.engine.dispatch.build import build_oracle
from evflex.engine.dispatch.decomposition import Decomposed, Stop, decompose
from evflex.engine.dispatch.direct import solve_direct
from evflex.engine.dispatch.fleet_oracle import FleetOracle
from evflex.engine.dispatch.minimum_power import has_minimums, keep_minimums
from evflex.engine.dispatch.model import DispatchProblem, PlanMethod, PlanOptions
from evflex.engine.dispatch.nested import decompose_nested, rows_that_hold_together
from evflex.engine.dispatch.plan import FleetPlan, PlanProgress
from evflex.engine.dispatch.prepared import Prepared, prepare
from evflex.engine.dispatch.report import Proof, assemble_plan, emit_powers, report_plan, sizes
from evflex.engine.dispatch.setpoints import KnownSetpoints, MixedSetpoints
from evflex.engine.dispatch.start import known_prices
from evflex.engine.supply_tree import FloatArray
from evflex.engine.termination import Termination
from evflex.engine.validation import Rules
from evflex.engine.workers import Workers

# Minimum powers leave the rest of the asked gap to the choice of steps; prices then move little.
_RELAXED_SHARE, _NEAR = 0.3, 0.1
# Seconds that it takes to replay a step of an asset, and to choose whether it charges in it (measured: 3e-8 and 8e-9).
_REPLAY_S, _CHOOSE_S = 4e-8, 1e-8
# Phases, as progress names them.
_DECOMPOSITION, _RELAXATION, _MINIMUMS = "decomposition", "relaxation", "minimum powers"
# One program is the faster way up to so many steps of assets that only charge, and of others (measured: 600 vehicles a
# day, or 900 that discharge; with 20 groups more than twice as many). Branch and bound proves the usual gap up to so
# many steps with a minimum power (measured: 30 vehicles a day, within 10 s).
_MOST_CHARGING, _MOST_STORED, _MOST_WHOLE = 30_000, 45_000, 1_500


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
        prepared, stop = prepare(problem), Stop(options.relative_gap, options.absolute_gap)
        oracle = build_oracle(prepared, workers)
        if options.method is PlanMethod.DIRECT or (options.method is PlanMethod.CHOOSE and is_small(prepared)):
            most_integers = _MOST_WHOLE if options.method is PlanMethod.CHOOSE else np.inf
            plan = _plan_directly(prepared, oracle, stop, budget, most_integers)
            if plan is not None:
                if on_progress is not None:
                    on_progress(_progress_of(plan.termination))
                return plan
        return _plan_by_prices(prepared, oracle, stop, budget, on_progress)


def _plan_by_prices(
    prepared: Prepared, oracle: FleetOracle, stop: Stop, budget: Budget,
    on_progress: Callable[[PlanProgress], None] | None,
) -> FleetPlan:  # fmt: skip
    """The plan of the decomposition."""
    problem = prepared.problem
    search = Budget(max(budget.remaining_s - _replay_s(oracle), 0.0), budget.cancel)
    start, radius = known_prices(problem, oracle, stop, search)
    outer = rows_that_hold_together(problem, oracle)
    progress = _Progress()

    def solve(phase: str, oracle: FleetOracle, start: FloatArray, radius: float, stop: Stop) -> Decomposed:
        def tell(found: Decomposed) -> None:
            if on_progress is not None:
                on_progress(progress.after(found, phase, budget.elapsed_s))

        if len(outer):
            return decompose_nested(oracle, outer, start, radius, stop, search, tell)
        return decompose(oracle, start, radius, stop, search, tell)

    if any(has_minimums(part) for part in oracle.parts):
        found = solve(_RELAXATION, oracle, start, radius, stop.share(_RELAXED_SHARE))
        again = partial(solve, _MINIMUMS, radius=_NEAR * radius)
        oracle, found = keep_minimums(oracle, found, again, stop, search)
    else:
        found = solve(_DECOMPOSITION, oracle, start, radius, stop)
    setpoints = MixedSetpoints(oracle.parts, found.mixings(oracle), oracle.prices, len(problem.fleet))
    return report_plan(problem, oracle, found, setpoints, stop, budget, _DECOMPOSITION, ran_out=search.spent)


def _replay_s(oracle: FleetOracle) -> float:
    """About how long it takes to choose steps, and to replay what is netted, once the search is over."""
    netted = sum(len(part.rows) for part in oracle.parts if part.nets)
    chosen = sum(len(part.rows) for part in oracle.parts if has_minimums(part))
    seconds = netted * _REPLAY_S + chosen * _CHOOSE_S
    return seconds * len(oracle.prices.draw) / oracle.workers.count


def is_small(prepared: Prepared) -> bool:
    """Whether one program is the faster way, or the one that proves more."""
    steps = (prepared.windows.last - prepared.windows.first).astype(np.int64)
    charges, least = only_charges(prepared.fleet), prepared.fleet.min_charge_kw > 0.0
    share = int(steps[charges].sum()) / _MOST_CHARGING + int(steps[~charges].sum()) / _MOST_STORED
    return share <= 1.0 and int(steps[least].sum()) <= _MOST_WHOLE


def _plan_directly(
    prepared: Prepared, oracle: FleetOracle, stop: Stop, budget: Budget, most_integers: float
) -> FleetPlan | None:
    """The plan of one program, None where time ended before there was one."""
    found = solve_direct(prepared, oracle, stop, budget, most_integers)
    if found is None:
        return None
    method = "direct program with integers" if found.integers else "direct program"
    detail = f"{sizes(oracle)}, {found.columns} columns, {found.integers} integers"
    problem = prepared.problem
    emitted = emit_powers(problem, oracle, found.power_kw)
    proof = Proof(found.bound, found.price, method, detail, found.ran_out)
    setpoints = KnownSetpoints(found.power_kw)
    return assemble_plan(problem, oracle.coupling, emitted, proof, setpoints, stop, budget)


def _progress_of(ended: Termination) -> PlanProgress:
    """A solve that ends in one round."""
    return PlanProgress(
        1, ended.objective, ended.objective_bound, ended.relative_gap, ended.solve_duration_s, ended.method
    )


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
