"""A portfolio as a linear program written out asset by asset and step by step, for SciPy: the peer's slow twin."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linprog

from evflex.engine.dispatch.model import DispatchProblem, LimitScope

Terms = dict[int, float]


@dataclass(slots=True)
class Sheet:
    """Columns and rows as they are written."""

    cost: list[float] = field(default_factory=list)
    bounds: list[tuple[float, float]] = field(default_factory=list)
    rows: list[tuple[Terms, float]] = field(default_factory=list)
    equal: list[tuple[Terms, float]] = field(default_factory=list)

    def column(self, cost: float, lower: float, upper: float) -> int:
        self.cost.append(cost)
        self.bounds.append((lower, upper))
        return len(self.cost) - 1

    def at_most(self, terms: Terms, bound: float) -> None:
        if math.isfinite(bound):
            self.rows.append((terms, bound))

    def optimum(self) -> float:
        def dense(rows: list[tuple[Terms, float]]) -> tuple[np.ndarray | None, list[float] | None]:
            if not rows:
                return None, None
            matrix = np.zeros((len(rows), len(self.cost)))
            for k, (terms, _) in enumerate(rows):
                for column, value in terms.items():
                    matrix[k, column] += value
            return matrix, [bound for _, bound in rows]

        a_ub, b_ub = dense(self.rows)
        a_eq, b_eq = dense(self.equal)
        found = linprog(self.cost, a_ub, b_ub, a_eq, b_eq, bounds=self.bounds, method="highs")
        assert found.status == 0, found.message
        assert found.fun is not None
        return float(found.fun)


def optimum(problem: DispatchProblem) -> float:
    """Least total cost of vehicles and batteries, simultaneous charging and discharging not excluded."""
    grid, fleet, step_h = problem.grid, problem.fleet, problem.grid.step_h
    sheet = Sheet()
    dearest = max(
        0.01, *np.abs(problem.import_price_per_kwh), *np.abs(problem.export_price_per_kwh), *fleet.energy_value_per_kwh
    )
    n = math.ceil(max((r.endurance_s for r in problem.reserves), default=0.0) / grid.step_s)
    start_up = sum((r.up_kw for r in problem.reserves), np.zeros(grid.step_count))
    start_down = sum((r.down_kw for r in problem.reserves), np.zeros(grid.step_count))
    up = [max(start_up[max(0, k - n + 1) : k + 1], default=0.0) if n else 0.0 for k in range(grid.step_count)]
    down = [max(start_down[max(0, k - n + 1) : k + 1], default=0.0) if n else 0.0 for k in range(grid.step_count)]
    power: list[list[Terms]] = []
    room_up, room_down = np.zeros(grid.step_count), np.zeros(grid.step_count)
    up_assets: list[int] = []
    down_assets: list[int] = []
    for i in range(len(fleet)):
        most_kw, back_kw = fleet.max_charge_kw[i], fleet.max_discharge_kw[i]
        gain, loss = fleet.charge_efficiency[i], fleet.discharge_efficiency[i]
        begin, end = int(fleet.available_from_unix_s[i]), int(fleet.available_until_unix_s[i])
        low, high = -fleet.energy_available_kwh[i], fleet.energy_headroom_kwh[i]
        present = [_present(problem, begin, end, k) for k in range(grid.step_count)]
        if n and any(present[k] > 0 and up[k] > 0 for k in range(grid.step_count)):
            sooner = math.ceil(n * (1.0 + back_kw / (gain * loss * most_kw)))
            ready = int(end - sooner * grid.step_s)
            possible = most_kw * gain * (min(ready, grid.end_unix_s) - max(begin, grid.start_unix_s)) / 3600.0
            call = n * step_h * back_kw / loss
            if ready > begin and fleet.energy_needed_kwh[i] <= possible + 1e-9 and -low >= call:
                end, low = ready, low + call
                up_assets.append(i)
        if n and any(present[k] > 0 and down[k] > 0 for k in range(grid.step_count)):
            call = n * step_h * gain * most_kw
            if high - call >= fleet.energy_needed_kwh[i]:
                high -= call
                down_assets.append(i)
        row: list[Terms] = []
        state: Terms = {}
        for k in range(grid.step_count):
            f = _present(problem, begin, end, k)
            c = sheet.column(step_h * problem.import_price_per_kwh[k], 0.0, f * most_kw)
            wear = fleet.discharge_cost_per_kwh[i] - problem.export_price_per_kwh[k]
            d = sheet.column(step_h * wear, 0.0, f * back_kw)
            row.append({c: 1.0, d: -1.0})
            s = sheet.column(0.0, low, high)
            sheet.equal.append(({c: step_h * gain, d: -step_h / loss, s: -1.0} | state, 0.0))
            state = {s: 1.0}
            if i in up_assets:
                room_up[k] += f * back_kw
            if i in down_assets:
                room_down[k] += f * most_kw
        price = fleet.shortfall_price_per_kwh[i]
        short = sheet.column(10.0 * dearest if math.isnan(price) else price, 0.0, math.inf)
        extra = sheet.column(-fleet.energy_value_per_kwh[i], 0.0, math.inf)
        sheet.equal.append((state | {short: 1.0, extra: -1.0}, fleet.energy_needed_kwh[i]))
        power.append(row)
    for limit in problem.limits:
        index = {LimitScope.GROUP: fleet.group_index, LimitScope.OPERATOR: fleet.operator_index}.get(limit.scope)
        of = [i for i in range(len(fleet)) if index is None or index[i] == limit.index]
        for k in range(grid.step_count):
            outside = step_h * limit.violation_price_per_kwh
            above, below = sheet.column(outside, 0.0, math.inf), sheet.column(outside, 0.0, math.inf)
            total = _sum(power, of, k)
            sheet.at_most(total | {above: -1.0}, limit.upper_kw[k])
            sheet.at_most(_negative(total) | {below: -1.0}, -limit.lower_kw[k])
    for k in range(grid.step_count):
        missing = sheet.column(5.0 * dearest * step_h, 0.0, math.inf)
        if up[k] > 0.0:
            sheet.at_most(_negative(_sum(power, up_assets, k)) | {missing: -1.0}, room_up[k] - up[k])
        missing = sheet.column(5.0 * dearest * step_h, 0.0, math.inf)
        if down[k] > 0.0:
            sheet.at_most(_sum(power, down_assets, k) | {missing: -1.0}, room_down[k] - down[k])
    return sheet.optimum()


def _present(problem: DispatchProblem, begin: float, end: float, k: int) -> float:
    edge = problem.grid.start_unix_s + k * problem.grid.step_s
    return max(0.0, min(end, edge + problem.grid.step_s) - max(begin, edge)) / problem.grid.step_s


def _sum(power: list[list[Terms]], assets: list[int], k: int) -> Terms:
    return {column: value for i in assets for column, value in power[i][k].items()}


def _negative(terms: Terms) -> Terms:
    return {column: -value for column, value in terms.items()}
