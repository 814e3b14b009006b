"""Starts, runs, blocks and quanta: Dantzig–Wolfe decomposition with one block a session.

The master chooses among whole plans of each session so that limits and the root are kept; its duals price the steps;
at these prices the oracle finds each session's cheapest plan exactly. The bound that follows is that of the convex hull
of each session's plans, much closer than the relaxation's. At the end each session takes its plan of largest weight,
sessions that overload a limit are re-planned into what the others leave, and the powers are set anew for that pattern.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from evflex.engine.budget import Budget
from evflex.engine.charging.evaluation import fixed_load_objective, group_power_kw
from evflex.engine.charging.feasibility import at_rest, broken_sessions, on_quanta
from evflex.engine.charging.polish import polished_plans
from evflex.engine.charging.program import SiteProgram
from evflex.engine.charging.relaxation import RankedBound, Relaxation, program_of, shortfall_penalty
from evflex.engine.charging.repair import repair
from evflex.engine.charging.single_runs import with_single_runs
from evflex.engine.charging.site import Site
from evflex.engine.charging.switching import charging_before, least_on_kw, min_run_steps, must_charge
from evflex.engine.charging.switching_oracle import (
    Shared,
    Switched,
    cheapest_patterns,
    fill_patterns,
    plan_costs,
    replan_sessions,
)
from evflex.engine.highs import LinearProgram, LpMethod, Solver
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray

_MAX_ROUNDS = 40
# The master stops at this share of the asked gap, but no later than at the second figure, relative to its cost.
_ROUND_SHARE = 0.15
_ROUND_GAP = 1e-5
# Weight of the best prices so far in the prices of the next round (Wentges 1997).
_SMOOTHING = 0.8
# Units of the dynamic program: at most this many in a session's maximum, at least that many where it must round.
_MOST_UNITS = 64
_FINE_UNITS = 48
_MOST_STATES = 1_500
_MAX_REPLANS = 6
_MAX_TURNS = 3
# Share of the time left that the master may take.
_MASTER_SHARE = 0.6
# States that the oracle looks at between two looks at the clock (about 20 ms).
_PART_WORK = 5e6


@dataclass(frozen=True, slots=True)
class SwitchedPlans:
    """Plans for the controlled steps, by method, and the bound that was proven."""

    plans: list[tuple[str, FloatArray]]
    bound: RankedBound


def plan_switching(site: Site, relaxation: Relaxation, budget: Budget) -> SwitchedPlans:
    """Plan a site whose starts, runs or quanta matter.

    Sessions that the oracle cannot hold (they discharge, ramp, change at a cost, or want energy before their departure)
    stay in the master as in the relaxation; only the pattern program and branch and bound place them.
    """
    who = _switchable(site)
    if budget.spent:
        return SwitchedPlans([], relaxation.bound)
    penalty = shortfall_penalty(site)
    switched = read_sessions(site, penalty)
    power, bound = relaxation.power_kw, relaxation.bound
    plans: list[tuple[str, FloatArray]] = []
    if who.any():
        model, dual = program_of(site, relaxation)
        master = _Master(site, model, who, switched, penalty, budget)
        weights = master.solve(relaxation, dual)
        power = np.where(who[:, None], weights, power)
        plans = [("each session in turn", with_single_runs(site, ~who, master.in_turn))]
        bound = RankedBound(master.bound - fixed_load_objective(site), {}, dict.fromkeys(master.level_names, penalty))
    return SwitchedPlans(plans + _place(site, relaxation, switched, who, power, budget), bound)


def _place(
    site: Site, relaxation: Relaxation, switched: Switched, who: BoolArray, power: FloatArray, budget: Budget
) -> list[tuple[str, FloatArray]]:
    """Feasible plans made of each session's plan of largest weight.

    Powers are set anew for the pattern, then sessions are re-planned one by one into what the others leave, in turns.
    """
    plans: list[tuple[str, FloatArray]] = []
    shared = _agreed_limits(site, relaxation)
    continuous = site.options.current_quantum_a <= 0.0
    if not continuous:
        power = on_quanta(site, power)
        power = with_single_runs(site, broken_sessions(site, power) & ~who, power)
    for _ in range(_MAX_TURNS):
        if continuous:
            for polished in polished_plans(site, relaxation, power, budget):
                power = polished
                plans.append(("column generation and pattern program", power))
        power = power.copy()
        load = group_power_kw(site, power)
        for _ in range(_MAX_REPLANS):
            if _replan(switched, shared, relaxation.price, who, power, load, budget, relieve=True) == 0:
                break
        changed = 0
        for _ in range(_MAX_REPLANS):
            moved = _replan(switched, shared, relaxation.free_price, who, power, load, budget, relieve=False)
            changed += moved
            if moved == 0:
                break
        plans.append(("column generation and re-planning", power))
        if changed == 0 or not continuous or budget.spent:
            break
    return plans


def _replan(
    switched: Switched,
    shared: Shared,
    price: FloatArray,
    who: BoolArray,
    power: FloatArray,
    load: FloatArray,
    budget: Budget,
    *,
    relieve: bool,
) -> int:
    """One pass of :func:`replan_sessions`, in parts between which time is looked at; returns how many changed."""
    changed = 0
    for part in _parts(switched):
        if budget.spent:
            break
        some = np.zeros_like(who)
        some[part] = who[part]
        changed += replan_sessions(switched, shared, price, some, power, load, relieve)
    return changed


def _parts(switched: Switched) -> list[slice]:
    """Sessions in slices that the oracle takes about as long for."""
    units = np.floor(switched.most / np.where(switched.unit > 0.0, switched.unit, np.inf)) + 1.0
    states = 3.0 * (switched.run_steps + 1) * (switched.max_starts + 1)
    work = np.cumsum(units * states * np.maximum(switched.last - switched.first, 0))
    part = (work / _PART_WORK).astype(np.int64)
    edges = [0, *(np.flatnonzero(np.diff(part)) + 1).tolist(), len(part)]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


def _switchable(site: Site) -> BoolArray:
    """Sessions that the oracle can hold."""
    sessions, options = site.problem.sessions, site.options
    early = (site.minimum_kwh > 0.0) & ((site.minimum_steps < site.step_count) | (site.minimum_kwh > site.need_kwh))
    changes = options.change_cost_per_kwh > 0.0 and options.previous_power_kw.size > 0
    fits = ~early & np.isinf(sessions.max_ramp_kw_per_step) & (site.max_discharge_kw <= 0.0)
    return fits & (site.max_charge_kw > 0.0) & (not changes)


def shared_limits(site: Site) -> Shared:
    """Limits as the oracle reads them; agreements do not give way."""
    limits = site.limits
    return Shared(site.presence, limits.drawable_kw, limits.session_start, limits.group, limits.weight)


def _agreed_limits(site: Site, relaxation: Relaxation) -> Shared:
    """The same, but agreements as far as the relaxation keeps them: it gives them up for minimum energy alone."""
    shared = shared_limits(site)
    if not np.isfinite(site.limits.agreement_kw).any() or not site.minimum_kwh.any():
        return shared
    given_up = np.maximum(shared.upper, group_power_kw(site, relaxation.power_kw))
    return shared._replace(upper=np.minimum(given_up, site.limits.upper_kw))


def read_sessions(site: Site, penalty: float) -> Switched:
    """Sessions as the oracle reads them; shortfall without a price is priced by ``penalty``."""
    sessions, options = site.problem.sessions, site.options
    kwh_per_kw = sessions.charge_efficiency * site.step_h
    given = site.given_kw.sum(axis=1)
    present = site.presence > 0.0
    some = present.any(axis=1)
    low, high = site.presence * least_on_kw(site)[:, None], site.presence * site.max_charge_kw[:, None]
    wanted, most = np.maximum(site.need_kwh / kwh_per_kw - given, 0.0), site.ceiling_kwh / kwh_per_kw - given
    short_price = np.where(
        np.isnan(site.shortfall_price_per_kwh), penalty * sessions.shortfall_weight, site.shortfall_price_per_kwh
    )
    return Switched(
        first=np.where(some, present.argmax(axis=1), 0),
        last=np.where(some, site.step_count - present[:, ::-1].argmax(axis=1), 0),
        low=low,
        high=high,
        quantum=site.presence * site.quantum_kw[:, None],
        before=charging_before(site),
        must=must_charge(site),
        wanted=wanted,
        most=np.maximum(most, wanted),
        short_price=short_price * kwh_per_kw,
        value=site.value_per_kwh * kwh_per_kw,
        unit=_units(site, most),
        start_cost=options.start_cost,
        run_steps=min_run_steps(options, site.problem.grid),
        max_starts=min(options.max_starts_per_session or 0, site.step_count),
    )


def _units(site: Site, most: FloatArray) -> FloatArray:
    """Largest unit that divides a session's minimum and maximum; a fine one where there is none."""
    units = np.zeros(site.session_count)
    partial = np.asarray(((site.presence > 0.0) & (site.presence < 1.0)).any(axis=1))
    for i, (largest, smallest, quantum) in enumerate(
        zip(site.max_charge_kw, site.min_charge_kw, site.quantum_kw, strict=True)
    ):
        if largest <= 0.0:
            continue
        if quantum > 0.0:
            units[i] = quantum
            continue
        parts = np.arange(1, _MOST_UNITS + 1)
        share = smallest / largest * parts
        even = parts[np.abs(share - np.round(share)) < 1e-6]
        count = int(even[0]) if len(even) else _MOST_UNITS
        if partial[i] and count < _FINE_UNITS:
            count *= -(-_FINE_UNITS // count)
        coarsest = max(1, int(_MOST_STATES * largest / max(most[i], largest)))
        units[i] = largest / min(count, max(coarsest, int(even[0]) if len(even) else 1))
    return units


class _Master:
    """The restricted master: rows shared by sessions, one convexity row a session, one column a plan."""

    def __init__(
        self, site: Site, model: SiteProgram, who: BoolArray, switched: Switched, penalty: float, budget: Budget
    ) -> None:
        self.site, self.model, self.who, self.switched, self.budget = site, model, who, switched, budget
        program = model.program
        self.convexity = model.energy_row[who]
        owned = np.concatenate([model.charge[who].ravel(), model.shortfall[who], model.surplus[who]])
        keep = np.ones(len(program.cost), dtype=np.bool_)
        keep[owned[owned >= 0]] = False
        cost = program.cost.copy()
        for level in model.levels:
            cost[level.columns] += penalty * level.weights
        self.level_names = [level.name for level in model.levels]
        row_lower, row_upper = program.row_lower.copy(), program.row_upper.copy()
        row_lower[self.convexity] = row_upper[self.convexity] = 1.0
        self.cost, self.matrix = cost[keep], program.matrix[:, keep]
        self.column_lower, self.column_upper = program.column_lower[keep], program.column_upper[keep]
        self.row_lower, self.row_upper = row_lower, row_upper
        continuous = np.zeros(len(self.cost), dtype=np.bool_)
        self.solver = Solver(
            LinearProgram(
                self.cost, self.column_lower, self.column_upper, self.matrix, row_lower, row_upper, continuous
            ),
            budget,
        )
        shared = program.matrix.tocsr(copy=True)
        mask = np.ones(shared.shape[0])
        mask[self.convexity] = 0.0
        self.shared = sparse.csc_array(sparse.diags_array(mask) @ shared)
        self.own_columns = int(keep.sum())
        self.plan_session: list[IntArray] = []
        self.plan_power: list[FloatArray] = []
        self.bound = -np.inf
        self.in_turn = np.zeros(site.presence.shape)

    def solve(self, relaxation: Relaxation, dual: FloatArray) -> FloatArray:
        """Generate columns until the gap closes or time runs out.

        Returns:
            Of each session the plan of largest weight, (n, T).
        """
        dual = np.where(np.isin(np.arange(self.shared.shape[0]), self.convexity), 0.0, dual)
        best_dual = dual
        self._add(at_rest(self.site))
        self.in_turn = self._one_by_one(relaxation)
        self._add(self.in_turn)
        if self.switched.run_steps == 1 and self.switched.max_starts == 0 and not self.site.quantum_kw.any():
            self._add(repair(self.site, relaxation))
        x = np.empty(0)
        # Placing the plans takes time too.
        until = self.budget.elapsed_s + _MASTER_SHARE * self.budget.remaining_s
        for _ in range(_MAX_ROUNDS):
            price = np.append(self.model.program.cost - self.shared.T @ dual, 0.0)[self.model.charge]
            found = self._oracle(price)
            if found is None:
                break
            plans, value = found
            bound = self.model.constant + self._dual_value(dual) + float(value[self.who].sum())
            if bound > self.bound:
                self.bound, best_dual = bound, dual
            self._add(plans)
            if self.budget.spent or self.budget.elapsed_s > until:
                break
            solution = self.solver.solve(LpMethod.SIMPLEX)
            if not solution.optimal:
                break
            x = solution.x
            cost = solution.objective + self.model.constant
            if cost - self.bound <= max(_ROUND_GAP, _ROUND_SHARE * self.site.options.relative_gap) * max(
                abs(cost), 1e-3
            ):
                break
            following = solution.row_dual.copy()
            following[self.convexity] = 0.0
            dual = _SMOOTHING * best_dual + (1.0 - _SMOOTHING) * following
        return self._largest(x)

    def _one_by_one(self, relaxation: Relaxation) -> FloatArray:
        """A feasible plan: each session in turn takes its cheapest plan in what the earlier ones left, (n, T)."""
        power = at_rest(self.site)
        shared = shared_limits(self.site)
        load = group_power_kw(self.site, power)
        _replan(self.switched, shared, relaxation.price, self.who, power, load, self.budget, relieve=False)
        return power

    def _oracle(self, price: FloatArray) -> tuple[FloatArray, FloatArray] | None:
        """Cheapest plan of each session at ``price`` and a lower bound on its cost; None when time ran out."""
        shape = self.site.presence.shape
        on, value, power = np.zeros(shape, dtype=np.bool_), np.zeros(shape[0]), np.zeros(shape)
        for part in _parts(self.switched):
            if self.budget.spent:
                return None
            some = self.switched.part(part)
            cheapest_patterns(some, price[part], on[part], value[part])
            fill_patterns(some, price[part], on[part], power[part])
        return power, value

    def _dual_value(self, dual: FloatArray) -> float:
        """What the shared rows and the columns that belong to no session add to the bound at ``dual``.

        min over x of (c − Aᵀy)·x within the columns' bounds, plus y·b with b the side of each row that y prices.
        """
        side = np.where(dual > 0.0, self.row_lower, self.row_upper)
        rows = np.abs(dual) > 1e-12
        reduced = self.cost - self.matrix.T @ dual
        reach = np.where(reduced > 0.0, self.column_lower, self.column_upper)
        columns = np.abs(reduced) > 1e-9
        return float(dual[rows] @ side[rows]) + float(reduced[columns] @ reach[columns])

    def _add(self, power: FloatArray) -> None:
        """Add each session's plan as a column."""
        who = np.flatnonzero(self.who)
        i, t = np.nonzero((self.model.charge >= 0) & self.who[:, None])
        place = np.full(len(self.who), -1)
        place[who] = np.arange(len(who))
        shape = (self.shared.shape[1], len(who))
        plans = sparse.csc_array((power[i, t], (self.model.charge[i, t], place[i])), shape=shape)
        columns = self.shared @ plans
        ones = sparse.csc_array((np.ones(len(who)), (self.convexity, np.arange(len(who)))), shape=columns.shape)
        cost = self.model.program.cost @ plans
        cost = cost + plan_costs(self.switched, power)[who]
        self.solver.add_columns(cost, sparse.csc_array(columns + ones))
        self.plan_session.append(who)
        self.plan_power.append(power[who])

    def _largest(self, x: FloatArray) -> FloatArray:
        """Each session's plan of largest weight; the last one found where the master was never solved."""
        power = np.zeros(self.site.presence.shape)
        power[self.who] = self.plan_power[-1]
        weight = x[self.own_columns :]
        if not len(weight):
            return power
        session = np.concatenate(self.plan_session)[: len(weight)]
        plans = np.concatenate(self.plan_power)[: len(weight)]
        order = np.argsort(weight, kind="stable")
        power[session[order]] = plans[order]
        return power
