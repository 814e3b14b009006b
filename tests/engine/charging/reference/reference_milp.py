"""The charging problem as a plain mixed-integer model, solved rank after rank."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import highspy
import numpy as np

from evflex.engine.charging.model import ScheduleOptions, ScheduleProblem
from tests.engine.charging.reference import figures as recompute
from tests.engine.charging.reference.case import AGREEMENT_KW, CURRENT_A, EMISSIONS, Case, FloatArray
from tests.engine.charging.reference.uncontrolled import uncontrolled

Expression = highspy.highs_linear_expression


class ReferenceError(RuntimeError):
    """The reference found no optimum."""


@dataclass(frozen=True)
class Reference:
    """Optimum of the reference model.

    Attributes:
        ranks: Optimal safety excess, minimum energy, agreement excess, shortfall and objective.
        power_kw: A plan that has them. Shape (sessions, steps).
    """

    ranks: tuple[float, ...]
    power_kw: FloatArray

    @property
    def objective(self) -> float:
        """Optimal objective at the best ranks before it."""
        return self.ranks[-1]


def solve(
    problem: ScheduleProblem, options: ScheduleOptions, *, relaxed: bool = False, time_limit_s: float = 120.0
) -> Reference:
    """The best plan there is.

    Each rank is minimised and then kept, within a tolerance that leaves room for rounding only. At the end
    the integers found are fixed, so that the plan keeps its rules to the precision of a linear program.

    Args:
        problem: A valid problem. The departure margin is not modelled.
        options: How it is asked; limits of time and gap are ignored.
        relaxed: Whether integers may be fractions; the objective is then a lower bound.
        time_limit_s: For each rank.

    Raises:
        ReferenceError: The solver did not prove an optimum.
    """
    model = _Model(Case(problem, options), relaxed, time_limit_s)
    values = []
    goals = model.goals()
    for goal in goals[:-1]:
        value = model.minimise(goal)
        values.append(max(0.0, value))
        if goal is not None:
            model.add(goal <= max(0.0, value) + 1e-8 * max(1.0, value))
    values.append(model.minimise(goals[-1]))
    if not relaxed:
        model.fix_integers()
        model.minimise(goals[-1])
    return Reference(tuple(values), model.powers())


class _Model:
    """Variables and rules; one method a rule, named as in the contract."""

    def __init__(self, case: Case, relaxed: bool, time_limit_s: float) -> None:
        self.case, self.relaxed = case, relaxed
        self.highs = highspy.Highs()
        self.highs.silent()
        for name, value in (
            ("threads", 1), ("time_limit", time_limit_s), ("mip_rel_gap", 0.0), ("mip_abs_gap", 1e-9),
            ("mip_feasibility_tolerance", 1e-9), ("primal_feasibility_tolerance", 1e-9),
            ("dual_feasibility_tolerance", 1e-9),
        ):  # fmt: skip
            self.highs.setOptionValue(name, value)
        self.integers: list[highspy.highs_var] = []
        shape = (case.count, case.steps)
        self.charge, self.discharge = np.full(shape, None), np.full(shape, None)
        self.charging, self.discharging = np.full(shape, None), np.full(shape, None)
        self.starts: dict[tuple[int, int], highspy.highs_var] = {}
        self.energy: dict[tuple[int, int], Expression] = {}
        for i in range(case.count):
            self._powers_of(i)
            self._battery_of(i)
            self._starts_of(i)
            self._ramp_of(i)
        self._controlled_steps()
        self._limits()
        self._root()
        self._wishes()
        self._changes()

    # --- building blocks -----------------------------------------------------------------------

    def var(self, lb: float = 0.0, ub: float = math.inf) -> highspy.highs_var:
        variable: highspy.highs_var = self.highs.addVariable(lb=lb, ub=ub)
        return variable

    def integer(self, ub: float = 1.0) -> highspy.highs_var:
        if self.relaxed:
            return self.var(0.0, ub)
        self.integers.append(self.highs.addIntegral(lb=0.0, ub=ub))
        variable: highspy.highs_var = self.integers[-1]
        return variable

    def add(self, constraint: Expression) -> None:
        self.highs.addConstr(constraint)

    def power(self, i: int, t: int) -> Expression:
        """Mean net power of session i in step t."""
        net: Expression = Expression() + self.charge[i, t] - self.discharge[i, t]
        return net

    def present(self, i: int) -> list[int]:
        return [int(t) for t in np.flatnonzero(self.case.presence[i] > 0)]

    def total(self, terms: Sequence[Expression | highspy.highs_var]) -> Expression:
        whole = Expression()
        for term in terms:
            whole += term
        return whole

    # --- rules ---------------------------------------------------------------------------------

    def _powers_of(self, i: int) -> None:
        case = self.case
        for t in self.present(i):
            share = float(case.presence[i, t])
            free = bool(case.controlled[t])
            for charging, power, on in (
                (True, self.charge, self.charging),
                (False, self.discharge, self.discharging),
            ):
                low, high = (share * kw for kw in case.range_kw(i, charging))
                power[i, t] = self.var(0.0, high if free or charging else 0.0)
                on[i, t] = self.integer()
                if free:
                    self.add(power[i, t] <= high * on[i, t])
                    self.add(power[i, t] >= low * on[i, t])
                    unit = share * case.quantum_kw(i)
                    if unit > 0:
                        self.add(power[i, t] == unit * self.integer(max(0.0, round(high / unit))))
            if free:
                self.add(self.charging[i, t] + self.discharging[i, t] <= 1)

    def _battery_of(self, i: int) -> None:
        case, s = self.case, self.case.problem.sessions
        state, discharged = Expression(), Expression()
        for t in range(case.steps):
            if self.charge[i, t] is not None:
                state = state + self.charge[i, t] * (case.dt * s.charge_efficiency[i])
                lost = self.discharge[i, t] * (case.dt / s.discharge_efficiency[i])
                state, discharged = state - lost, discharged + lost
                end = self.var(case.lowest[i], float(s.energy_headroom_kwh[i]))
                self.add(state - end == 0)
                state = Expression() + end
            self.energy[i, t] = Expression() + state
        if math.isfinite(case.most_discharged[i]) and self.present(i):
            self.add(discharged <= float(case.most_discharged[i]))

    def _starts_of(self, i: int) -> None:
        case, s, options = self.case, self.case.problem.sessions, self.case.options
        steps = self.present(i)
        for t in steps:
            if t == 0 and s.charging_now[i]:
                continue
            start = self.starts[i, t] = self.var(0.0, 1.0)
            before = self.charging[i, t - 1] if t - 1 in steps else 0.0
            self.add(start >= self.charging[i, t] - before)
            self.add(start <= self.charging[i, t])
            self.add(start + before <= 1.0)
            for later in range(t + 1, t + case.min_run_steps):
                if later in steps:
                    self.add(self.charging[i, later] >= start)
        if options.max_starts_per_session is not None and steps:
            mine = [start for (owner, _), start in self.starts.items() if owner == i]
            self.add(self.total(mine) <= options.max_starts_per_session)
        if s.charging_now[i]:
            left = math.ceil((options.min_run_s - s.run_duration_s[i]) / case.step_s - 1e-9)
            for t in range(min(left, case.steps)):
                if t in steps:
                    self.add(self.charging[i, t] >= 1.0)

    def _ramp_of(self, i: int) -> None:
        case, s = self.case, self.case.problem.sessions
        ramp = float(s.max_ramp_kw_per_step[i])
        steps = self.present(i)
        if not math.isfinite(ramp):
            return
        for t0, t1 in pairwise(steps):
            rise, fall = Expression() + ramp, Expression() + ramp
            for on, low, into in (
                (self.charging, s.min_charge_kw[i], True),
                (self.discharging, s.min_discharge_kw[i], False),
            ):
                begin = max(0.0, low * case.presence[i, t1] - ramp) * self._switch(on[i, t0], on[i, t1])
                finish = max(0.0, low * case.presence[i, t0] - ramp) * self._switch(on[i, t1], on[i, t0])
                rise, fall = (rise + begin, fall + finish) if into else (rise + finish, fall + begin)
            change = self.power(i, t1) - self.power(i, t0)
            self.add(change - rise <= 0)
            self.add(change + fall >= 0)

    def _switch(self, off: highspy.highs_var, on: highspy.highs_var) -> highspy.highs_var:
        """At most 1 where ``off`` is 0 and ``on`` is 1, otherwise 0."""
        switch = self.var(0.0, 1.0)
        self.add(switch <= on)
        self.add(switch + off <= 1.0)
        return switch

    def _controlled_steps(self) -> None:
        case = self.case
        free = np.flatnonzero(~case.controlled)
        fixed = uncontrolled(case, free.tolist())
        for i in range(case.count):
            for t in set(free.tolist()) & set(self.present(i)):
                self.add(Expression() + self.charge[i, t] == float(fixed[i, t]))
                on = float(fixed[i, t] > recompute.OFF_KW)
                self.add(Expression() + self.charging[i, t] == on)
                self.add(Expression() + self.discharging[i, t] == 0.0)

    def _limits(self) -> None:
        case = self.case
        self.safety: list[Expression] = []
        self.agreement: list[Expression] = []
        for row in case.rows:
            load = self.total([self.power(i, row.step) * s for i, s in row.share.items()])
            if row.unit == AGREEMENT_KW:
                excess = self.var()
                self.agreement.append(excess * case.dt)
            elif row.fixed_excess > 0:
                kw = case.problem.nodes.nominal_voltage_v[row.node] / 1000 if row.unit == CURRENT_A else 1.0
                excess = self.var(0.0, row.fixed_excess)
                self.safety.append(excess * (case.dt * float(kw)))
            elif row.share:
                self.add(load <= row.limit - row.fixed)
                continue
            else:
                continue
            self.add(load - excess <= row.limit - row.fixed)

    def _root(self) -> None:
        """Import and export of each step, and the peaks of import."""
        case = self.case
        self.imported, self.exported = [], []
        for t in range(case.steps):
            session_kw = [self.power(i, t) for i in range(case.count) if self.charge[i, t] is not None]
            most = abs(case.fixed[case.root, t])
            for i in range(case.count):
                most += max(case.range_kw(i, charging)[1] for charging in (True, False))
            bought, sold = self.var(0.0, most), self.var(0.0, most)
            self.add(self.total(session_kw) - bought + sold == -float(case.fixed[case.root, t]))
            price = case.import_price[t] + case.problem.tariff.emission_price_per_kg * case.kg_per_kwh[t]
            if case.export_price[t] > price and case.options.objective != EMISSIONS:
                importing = self.integer()
                self.add(bought <= most * importing)
                self.add(sold + most * importing <= most)
            self.imported.append(bought)
            self.exported.append(sold)
        tariff = case.problem.tariff
        self.peak = self.var()
        for steps in case.peak_blocks:
            mean = self.total([self.imported[t] * (1.0 / len(steps)) for t in steps])
            self.add(mean - self.peak <= tariff.observed_peak_kw)

    def _wishes(self) -> None:
        case, s = self.case, self.case.problem.sessions
        self.missing, self.surplus, self.minimum_missing = [], [], []
        for i in range(case.count):
            end = self.energy[i, case.steps - 1]
            most_short = float(case.needed[i] - case.lowest[i])
            most_over = float(max(0.0, s.energy_headroom_kwh[i] - case.needed[i]))
            short, over = self.var(0.0, most_short), self.var(0.0, most_over)
            self.add(end + short - over == float(case.needed[i]))
            if case.priced[i] and case.price[i] < case.value[i]:
                side = self.integer()  # short or over, not both
                self.add(short <= most_short * side)
                self.add(over + most_over * side <= most_over)
            self.missing.append(short)
            self.surplus.append(over)
            last = int(case.minimum_steps[i])
            reached = self.energy[i, last - 1] if last else Expression()
            early = self.var()
            if s.minimum_energy_kwh[i] > 0:
                self.add(reached + early >= float(s.minimum_energy_kwh[i]))
            self.minimum_missing.append(early)

    def _changes(self) -> None:
        case = self.case
        self.changes, self.constant_change = [], 0.0
        for i, t in np.argwhere(~np.isnan(case.previous)):
            before = float(case.previous[i, t])
            if self.charge[i, t] is None:
                self.constant_change += abs(before)
                continue
            change = self.var()
            self.add(change - self.power(i, t) >= -before)
            self.add(change + self.power(i, t) >= before)
            self.changes.append(Expression() + change)

    # --- goals ---------------------------------------------------------------------------------

    def goals(self) -> list[Expression | None]:
        """What is minimised, in order; None where nothing can be."""
        case, weight = self.case, self.case.problem.sessions.shortfall_weight
        minimum = [v * float(w) for v, w in zip(self.minimum_missing, weight, strict=True)]
        unpriced = [self.missing[i] * float(weight[i]) for i in range(case.count) if not case.priced[i]]
        wishes = (self.safety, minimum, self.agreement, unpriced)
        return [*(self.total(terms) if terms else None for terms in wishes), self._objective()]

    def _objective(self) -> Expression:
        case, options, s = self.case, self.case.options, self.case.problem.sessions
        tariff = case.problem.tariff
        alone = recompute.root_figures(case, case.fixed[case.root])
        terms = [self.peak * tariff.peak_price_per_kw - alone.peak_cost]
        for t in range(case.steps):
            kg = float(case.kg_per_kwh[t])
            if options.objective == EMISSIONS:
                terms.append(self.imported[t] * (kg * case.dt))
            else:
                price = float(case.import_price[t]) + tariff.emission_price_per_kg * kg
                terms.append(self.imported[t] * (price * case.dt))
                terms.append(self.exported[t] * (-float(case.export_price[t]) * case.dt))
        for i in range(case.count):
            wear = float(s.discharge_cost_per_kwh[i]) * case.dt
            terms += [self.discharge[i, t] * wear for t in self.present(i)]
            terms.append(self.surplus[i] * -float(case.value[i]))
            if case.priced[i]:
                terms.append(self.missing[i] * float(case.price[i]))
        terms += [start * options.start_cost for start in self.starts.values()]
        rate = options.change_cost_per_kwh * case.dt
        terms += [change * rate for change in self.changes]
        constant = self.constant_change * rate
        if options.objective == EMISSIONS:
            constant -= alone.emissions_kg
        else:
            constant -= alone.import_cost - alone.export_revenue + alone.emission_cost
        whole: Expression = self.total(terms) + constant
        return whole

    # --- solving -------------------------------------------------------------------------------

    def minimise(self, goal: Expression | None) -> float:
        if goal is None:
            return 0.0
        self.highs.minimize(goal)
        status = self.highs.getModelStatus()
        if status != highspy.HighsModelStatus.kOptimal:
            raise ReferenceError(self.highs.modelStatusToString(status))
        return float(self.highs.getObjectiveValue())

    def fix_integers(self) -> None:
        for variable in self.integers:
            value = float(round(self.highs.variableValue(variable)))
            self.highs.changeColBounds(variable.index, value, value)
            self.highs.changeColIntegrality(variable.index, highspy.HighsVarType.kContinuous)

    def powers(self) -> FloatArray:
        power = np.zeros((self.case.count, self.case.steps))
        for i in range(self.case.count):
            for t in self.present(i):
                power[i, t] = self.highs.variableValue(self.charge[i, t])
                power[i, t] -= self.highs.variableValue(self.discharge[i, t])
        power[np.abs(power) < 1e-9] = 0.0
        return power
