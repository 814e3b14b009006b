"""The answer: sums, figures and prices of a mixture, as its assets emit it."""

from __future__ import annotations

import numpy as np

from evflex.engine.budget import Budget
from evflex.engine.dispatch.columns import (
    DISCHARGE_COST,
    ENERGY_VALUE,
    EXPORT_REVENUE,
    IMPORT_COST,
    SHORTFALL_COST,
    SHORTFALL_KWH,
)
from evflex.engine.dispatch.decomposition import Decomposed, Stop
from evflex.engine.dispatch.fleet_oracle import FleetOracle
from evflex.engine.dispatch.model import DispatchProblem, LimitScope
from evflex.engine.dispatch.plan import FleetPlan, PlanFigures
from evflex.engine.dispatch.reserves import call_steps, missing_by_reserve
from evflex.engine.dispatch.setpoints import MixedSetpoints
from evflex.engine.supply_tree import FloatArray
from evflex.engine.termination import StoppedBy, Termination, TerminationReason, relative_gap

# Assets that are replayed at once.
_CHUNK = 4096
# A shortfall below this is none.
_SHORT_KWH = 1e-6


def report_plan(
    problem: DispatchProblem, oracle: FleetOracle, found: Decomposed, setpoints: MixedSetpoints, stop: Stop, budget: Budget,
    method: str,
) -> FleetPlan:  # fmt: skip
    """The plan of a mixture.

    Args:
        problem: What was asked.
        oracle: The fleet.
        found: The mixture and its bound.
        setpoints: Powers of its assets.
        stop: When it is good enough.
        budget: Time and cancellation.
        method: How it was found.
    """
    emitted = _Emitted(problem, oracle, found, setpoints)
    coupling, step_h = oracle.coupling, problem.grid.step_h
    limits = len(problem.limits)
    rows = oracle.rows_kw(emitted.power_kw)
    above, below = coupling.outside(rows)
    terms = emitted.figures
    figures = PlanFigures(
        import_cost=float(terms[IMPORT_COST]),
        export_revenue=float(terms[EXPORT_REVENUE]),
        discharge_cost=float(terms[DISCHARGE_COST]),
        shortfall_cost=float(terms[SHORTFALL_COST]),
        violation_cost=coupling.violation_cost(above, below),
        energy_value=float(terms[ENERGY_VALUE]),
    )
    up, down = _missing_reserves(problem, limits, above, below)
    return FleetPlan(
        fleet_power_kw=emitted.power_kw.sum(axis=0),
        group_power_kw=emitted.group_power_kw,
        limit_power_kw=rows[:limits],
        limit_price_per_kw_step=found.price[:limits],
        limit_above_kw=above[:limits],
        limit_below_kw=below[:limits],
        reserve_missing_up_kw=up,
        reserve_missing_down_kw=down,
        figures=figures,
        shortfall_kwh=float(terms[SHORTFALL_KWH]),
        assets_short=emitted.assets_short,
        violation_kwh=float((above[:limits] + below[:limits]).sum()) * step_h,
        termination=_termination(figures, found, stop, budget, method, oracle),
        setpoints=setpoints,
    )


class _Emitted:
    """What the assets do: mixed where sums mix, replayed where powers are netted or somebody is short."""

    def __init__(
        self, problem: DispatchProblem, oracle: FleetOracle, found: Decomposed, setpoints: MixedSetpoints
    ) -> None:
        self.power_kw = found.power_kw.copy()
        block_figures = found.figures.copy()
        fleet = problem.fleet
        self.group_power_kw = np.zeros((problem.group_count, problem.grid.step_count))
        of_group = _groups_of_signatures(problem, oracle)
        self.assets_short = int((oracle.absent_need_kwh > _SHORT_KWH).sum())
        offset = 0
        for k, part in enumerate(oracle.parts):
            for block in range(len(part.block_signature)):
                at = offset + block
                short = block_figures[at, SHORTFALL_KWH] > _SHORT_KWH
                if not (part.nets or short or of_group is None):
                    continue
                self.power_kw[at], block_figures[at] = 0.0, 0.0
                for begin in range(int(part.block_begin[block]), int(part.block_begin[block + 1]), _CHUNK):
                    place = np.arange(begin, min(begin + _CHUNK, int(part.block_begin[block + 1])))
                    power = setpoints.part_powers(k, place)
                    figures, missing = part.outcome(place, power, oracle.prices)
                    self.power_kw[at] += power.sum(axis=0)
                    block_figures[at] += figures
                    self.assets_short += int((missing > _SHORT_KWH).sum())
                    if of_group is None:
                        self._add_groups(fleet.group_index[part.rows[place]], power)
            offset += len(part.block_signature)
        if of_group is not None:
            for group, power in zip(of_group[oracle.signature], self.power_kw, strict=True):
                if group >= 0:
                    self.group_power_kw[group] += power
        self.figures: FloatArray = block_figures.sum(axis=0)

    def _add_groups(self, group: np.ndarray[tuple[int], np.dtype[np.int32]], power_kw: FloatArray) -> None:
        order = np.argsort(group, kind="stable")
        begin = np.searchsorted(group[order], np.arange(len(self.group_power_kw)))
        end = np.searchsorted(group[order], np.arange(len(self.group_power_kw)), side="right")
        for g in np.flatnonzero(end > begin):
            self.group_power_kw[g] += power_kw[order[begin[g] : end[g]]].sum(axis=0)


def _groups_of_signatures(
    problem: DispatchProblem, oracle: FleetOracle
) -> np.ndarray[tuple[int], np.dtype[np.int64]] | None:
    """Group of each signature, -1 for none; None where a signature may hold assets of several groups."""
    limited = {limit.index: row for row, limit in enumerate(problem.limits) if limit.scope is LimitScope.GROUP}
    if len(limited) < problem.group_count:
        return None
    group = np.full(len(oracle.coupling.member), -1)
    for index, row in limited.items():
        group[oracle.coupling.member[:, row]] = index
    return group


def _missing_reserves(
    problem: DispatchProblem, limits: int, above: FloatArray, below: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """What each reserve lacks upward and downward, (reserves, T) each; rows of reserves follow those of limits."""
    shape = (len(problem.reserves), problem.grid.step_count)
    call = call_steps(problem)
    missing = []
    row = limits
    for name, outside in (("up_kw", below), ("down_kw", above)):
        sold = np.array([getattr(reserve, name) for reserve in problem.reserves]).reshape(shape)
        if sold.any():
            missing.append(missing_by_reserve(sold, outside[row], call))
            row += 1
        else:
            missing.append(np.zeros(shape))
    return missing[0], missing[1]


def _termination(
    figures: PlanFigures, found: Decomposed, stop: Stop, budget: Budget, method: str, oracle: FleetOracle
) -> Termination:
    objective = figures.total_cost
    # a bound above the plan is rounding
    bound = min(found.bound, objective)
    met = stop.met(objective, bound, figures.scale)
    stopped = StoppedBy.NOTHING
    if not met:
        stopped = StoppedBy.TIME if budget.spent else StoppedBy.ITERATIONS
        if budget.cancel.is_set():
            stopped = StoppedBy.CANCELLED
    assets = sum(len(part.rows) for part in oracle.parts)
    return Termination(
        reason=TerminationReason.OPTIMAL if met else TerminationReason.FEASIBLE,
        stopped_by=stopped,
        objective=objective,
        objective_bound=bound,
        absolute_gap=objective - bound,
        relative_gap=relative_gap(objective, bound, figures.scale),
        solve_duration_s=budget.elapsed_s,
        method=method,
        detail=f"{assets} assets in {len(oracle.signature)} blocks, {len(oracle.coupling.lower_kw)} shared rows, "
        f"{len(found.asked)} rounds",
    )
