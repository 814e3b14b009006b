"""The answer: sums, figures and prices of a plan, as its assets emit it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evflex.engine.budget import Budget
from evflex.engine.dispatch.columns import (
    DISCHARGE_COST,
    ENERGY_VALUE,
    EXPORT_REVENUE,
    IMPORT_COST,
    SHORTFALL_COST,
    SHORTFALL_KWH,
)
from evflex.engine.dispatch.coupling import Coupling
from evflex.engine.dispatch.decomposition import Decomposed, Stop
from evflex.engine.dispatch.fleet_oracle import FleetOracle
from evflex.engine.dispatch.model import DispatchProblem, LimitScope
from evflex.engine.dispatch.plan import FleetPlan, PlanFigures, Setpoints
from evflex.engine.dispatch.reserves import call_steps, missing_by_reserve
from evflex.engine.dispatch.setpoints import MixedSetpoints
from evflex.engine.supply_tree import FloatArray, IntArray
from evflex.engine.termination import StoppedBy, Termination, TerminationReason, relative_gap

# Assets that are replayed at once.
_CHUNK = 4096
# A shortfall below this is none.
_SHORT_KWH = 1e-6


@dataclass(frozen=True, slots=True)
class Proof:
    """What is known of a plan beside its powers.

    Attributes:
        bound: Proven lower bound of the cost.
        price: Prices of the limits, (L, T).
        method: How the plan was found.
        detail: How large the problem was, for a person.
        ran_out: Whether time ended the search, although there is some left for the report.
    """

    bound: float
    price: FloatArray
    method: str
    detail: str
    ran_out: bool = False


@dataclass(frozen=True, slots=True)
class Emitted:
    """What the assets of a plan do, in sums.

    Attributes:
        fleet_power_kw: Of all assets, (T,).
        group_power_kw: Of each group, (groups, T).
        rows_kw: Of each shared row, (L, T).
        terms: Figures of all assets, (6,).
        assets_short: Assets that lack energy.
    """

    fleet_power_kw: FloatArray
    group_power_kw: FloatArray
    rows_kw: FloatArray
    terms: FloatArray
    assets_short: int


def report_plan(
    problem: DispatchProblem, oracle: FleetOracle, found: Decomposed, setpoints: MixedSetpoints, stop: Stop,
    budget: Budget, method: str, *, ran_out: bool,
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
        ran_out: Whether time ended the search.
    """
    detail = f"{sizes(oracle)}, {len(oracle.signature)} blocks, {found.rounds} rounds"
    proof = Proof(found.bound, found.price, method, detail, ran_out)
    emitted = _Mixed(problem, oracle, found, setpoints).emitted(oracle)
    return assemble_plan(problem, oracle.coupling, emitted, proof, setpoints, stop, budget)


def emit_powers(problem: DispatchProblem, oracle: FleetOracle, power_kw: FloatArray) -> Emitted:
    """What assets with given powers do.

    Args:
        problem: What was asked.
        oracle: The fleet.
        power_kw: Powers of all assets, (n, T).
    """
    coupling, terms = oracle.coupling, oracle.fixed.copy()
    short = _absent_short(oracle)
    for part in oracle.parts:
        figures, missing = part.outcome(np.arange(len(part.rows)), power_kw[part.rows], oracle.prices)
        terms += figures
        short += int((missing > _SHORT_KWH).sum())
    groups = np.zeros((problem.group_count, problem.grid.step_count))
    _add_groups(groups, problem.fleet.group_index, power_kw)
    rows = coupling.member[coupling.signature].astype(np.float64).T @ power_kw
    return Emitted(power_kw.sum(axis=0), groups, rows, terms, short)


def figures_of(coupling: Coupling, emitted: Emitted) -> PlanFigures:
    """What it costs."""
    terms = emitted.terms
    return PlanFigures(
        import_cost=float(terms[IMPORT_COST]),
        export_revenue=float(terms[EXPORT_REVENUE]),
        discharge_cost=float(terms[DISCHARGE_COST]),
        shortfall_cost=float(terms[SHORTFALL_COST]),
        violation_cost=coupling.violation_cost(*coupling.outside(emitted.rows_kw)),
        energy_value=float(terms[ENERGY_VALUE]),
    )


def assemble_plan(
    problem: DispatchProblem, coupling: Coupling, emitted: Emitted, proof: Proof, setpoints: Setpoints, stop: Stop,
    budget: Budget,
) -> FleetPlan:  # fmt: skip
    """A plan from what its assets do and what is proven of it."""
    limits = len(problem.limits)
    above, below = coupling.outside(emitted.rows_kw)
    figures = figures_of(coupling, emitted)
    up, down = _missing_reserves(problem, limits, above, below)
    return FleetPlan(
        fleet_power_kw=emitted.fleet_power_kw,
        group_power_kw=emitted.group_power_kw,
        limit_power_kw=emitted.rows_kw[:limits],
        limit_price_per_kw_step=proof.price[:limits],
        limit_above_kw=above[:limits],
        limit_below_kw=below[:limits],
        reserve_missing_up_kw=up,
        reserve_missing_down_kw=down,
        figures=figures,
        shortfall_kwh=float(emitted.terms[SHORTFALL_KWH]),
        assets_short=emitted.assets_short,
        violation_kwh=float((above[:limits] + below[:limits]).sum()) * problem.grid.step_h,
        termination=_termination(figures, proof, stop, budget),
        setpoints=setpoints,
    )


def sizes(oracle: FleetOracle) -> str:
    """How large a problem is, for a person."""
    assets = sum(len(part.rows) for part in oracle.parts)
    return f"{assets} assets, {len(oracle.coupling.lower_kw)} shared rows"


class _Mixed:
    """What the assets do: mixed where sums mix, replayed where powers are netted or somebody is short."""

    def __init__(
        self, problem: DispatchProblem, oracle: FleetOracle, found: Decomposed, setpoints: MixedSetpoints
    ) -> None:
        self._power_kw = found.power_kw.copy()
        block_figures = found.figures.copy()
        self._group_power_kw = np.zeros((problem.group_count, problem.grid.step_count))
        of_group = _groups_of_signatures(problem, oracle)
        self._assets_short = _absent_short(oracle)
        replayed: list[tuple[int, int, int]] = []
        offset = 0
        for k, part in enumerate(oracle.parts):
            for block in range(len(part.block_signature)):
                short = block_figures[offset + block, SHORTFALL_KWH] > _SHORT_KWH
                if part.nets or short or of_group is None:
                    replayed.append((offset + block, k, block))
            offset += len(part.block_signature)

        def replay(which: tuple[int, int, int]) -> int:
            at, k, block = which
            part, missing_count = oracle.parts[k], 0
            self._power_kw[at], block_figures[at] = 0.0, 0.0
            end = int(part.block_begin[block + 1])
            for begin in range(int(part.block_begin[block]), end, _CHUNK):
                place = np.arange(begin, min(begin + _CHUNK, end))
                power = setpoints.part_powers(k, place)
                figures, missing = part.outcome(place, power, oracle.prices)
                self._power_kw[at] += power.sum(axis=0)
                block_figures[at] += figures
                missing_count += int((missing > _SHORT_KWH).sum())
                if of_group is None:
                    _add_groups(self._group_power_kw, problem.fleet.group_index[part.rows[place]], power)
            return missing_count

        if of_group is None:
            # blocks hold assets of several groups, whose sums they share
            self._assets_short += sum(replay(which) for which in replayed)
        else:
            self._assets_short += sum(oracle.workers.each(replay, replayed))
            _add_groups(self._group_power_kw, of_group[oracle.signature], self._power_kw)
        self._terms: FloatArray = block_figures.sum(axis=0)

    def emitted(self, oracle: FleetOracle) -> Emitted:
        """The sums."""
        rows = oracle.rows_kw(self._power_kw)
        return Emitted(self._power_kw.sum(axis=0), self._group_power_kw, rows, self._terms, self._assets_short)


def _absent_short(oracle: FleetOracle) -> int:
    return int((oracle.absent_need_kwh > _SHORT_KWH).sum())


def _add_groups(group_power_kw: FloatArray, group: NDArray[np.integer], power_kw: FloatArray) -> None:
    """Add powers (m, T) to those of their groups, -1 for none."""
    order = np.argsort(group, kind="stable")
    begin = np.searchsorted(group[order], np.arange(len(group_power_kw)))
    end = np.searchsorted(group[order], np.arange(len(group_power_kw)), side="right")
    for g in np.flatnonzero(end > begin):
        group_power_kw[g] += power_kw[order[begin[g] : end[g]]].sum(axis=0)


def _groups_of_signatures(problem: DispatchProblem, oracle: FleetOracle) -> IntArray | None:
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


def _termination(figures: PlanFigures, proof: Proof, stop: Stop, budget: Budget) -> Termination:
    objective = figures.total_cost
    # a bound above the plan is rounding
    bound = min(proof.bound, objective)
    met = stop.met(objective, bound, figures.scale)
    stopped = StoppedBy.NOTHING
    if not met:
        stopped = StoppedBy.TIME if proof.ran_out or budget.spent else StoppedBy.ITERATIONS
        if budget.cancel.is_set():
            stopped = StoppedBy.CANCELLED
    return Termination(
        reason=TerminationReason.OPTIMAL if met else TerminationReason.FEASIBLE,
        stopped_by=stopped,
        objective=objective,
        objective_bound=bound,
        absolute_gap=objective - bound,
        relative_gap=relative_gap(objective, bound, figures.scale),
        solve_duration_s=budget.elapsed_s,
        method=proof.method,
        detail=proof.detail,
    )
