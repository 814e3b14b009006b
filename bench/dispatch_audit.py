"""What a portfolio's plan costs and breaks, read off the powers of its assets, some thousand at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.instances import FloatArray
from evflex.engine.dispatch.model import DispatchProblem, LimitScope
from evflex.engine.dispatch.plan import FleetPlan

_CHUNK = 20_000
_TOLERANCE_KW = 1e-4
_TOLERANCE_KWH = 1e-3
_DEAREST_FLOOR, _SHORTFALL_FACTOR = 0.01, 10.0


@dataclass(frozen=True, slots=True)
class Audit:
    """What was found.

    Attributes:
        faults: Rules that the powers break, and figures that are not the powers'.
        total_cost: Of the powers, without what reserves lack.
    """

    faults: tuple[str, ...]
    total_cost: float


def audit(problem: DispatchProblem, plan: FleetPlan, relative_tolerance: float = 1e-6) -> Audit:
    """Check every asset's powers against window, power, minimum and energy, and the plan's figures against the powers.

    Shares no code with the solver. For vehicles and batteries; of reserves the plan's own account is taken.
    """
    ledger = _Ledger.of(problem)
    rows = np.arange(len(problem.fleet))
    for first in range(0, len(rows), _CHUNK):
        part = rows[first : first + _CHUNK]
        ledger.add(part, np.asarray(plan.setpoints.power_kw(part), dtype=np.float64))
    return ledger.close(plan, relative_tolerance)


class _Ledger:
    """Sums over the chunks."""

    def __init__(self, problem: DispatchProblem, shortfall_price: FloatArray) -> None:
        self._problem = problem
        self._shortfall_price = shortfall_price
        self._limit_kw = np.zeros((len(problem.limits), problem.grid.step_count))
        self._fleet_kw = np.zeros(problem.grid.step_count)
        self._cost = 0.0
        self._faults: set[str] = set()

    @classmethod
    def of(cls, problem: DispatchProblem) -> _Ledger:
        """Nothing seen yet."""
        prices = (problem.import_price_per_kwh, problem.export_price_per_kwh, problem.fleet.energy_value_per_kwh)
        dearest = max([_DEAREST_FLOOR, *(float(np.abs(values).max(initial=0.0)) for values in prices)])
        price = problem.fleet.shortfall_price_per_kwh
        return cls(problem, np.where(np.isnan(price), _SHORTFALL_FACTOR * dearest, price))

    def add(self, rows: np.ndarray[tuple[int], np.dtype[np.int64]], power_kw: FloatArray) -> None:
        """Take some assets' powers in. Shape of `power_kw`: (len(rows), T)."""
        problem, step_h = self._problem, self._problem.grid.step_h
        fleet = problem.fleet.take(rows)
        ratio = problem.grid.presence_ratio(
            fleet.available_from_unix_s.astype(np.float64), fleet.available_until_unix_s.astype(np.float64)
        )
        charge, discharge = np.maximum(power_kw, 0.0), np.maximum(-power_kw, 0.0)
        gained = charge * fleet.charge_efficiency[:, None] - discharge / fleet.discharge_efficiency[:, None]
        state = np.cumsum(gained, axis=1) * step_h
        least_kw = ratio * fleet.min_charge_kw[:, None]
        broken = {
            "above its maximum or while away": charge > ratio * fleet.max_charge_kw[:, None] + _TOLERANCE_KW,
            "discharges too much": discharge > ratio * fleet.max_discharge_kw[:, None] + _TOLERANCE_KW,
            "below its minimum": (charge > _TOLERANCE_KW) & (charge < least_kw - _TOLERANCE_KW),
            "above its headroom": state > fleet.energy_headroom_kwh[:, None] + _TOLERANCE_KWH,
            "emptier than it may be": state < -fleet.energy_available_kwh[:, None] - _TOLERANCE_KWH,
        }
        self._faults |= {name for name, where in broken.items() if where.any()}
        end = state[:, -1]
        short = np.maximum(0.0, fleet.energy_needed_kwh - end)
        extra = np.maximum(0.0, end - fleet.energy_needed_kwh)
        self._cost += float(
            step_h * (charge.sum(axis=0) @ problem.import_price_per_kwh)
            - step_h * (discharge.sum(axis=0) @ problem.export_price_per_kwh)
            + step_h * (discharge.sum(axis=1) @ fleet.discharge_cost_per_kwh)
            + short @ self._shortfall_price[rows]
            - extra @ fleet.energy_value_per_kwh
        )
        self._fleet_kw += power_kw.sum(axis=0)
        for k, limit in enumerate(problem.limits):
            if limit.scope == LimitScope.FLEET:
                self._limit_kw[k] += power_kw.sum(axis=0)
            else:
                index = fleet.group_index if limit.scope == LimitScope.GROUP else fleet.operator_index
                self._limit_kw[k] += power_kw[index == limit.index].sum(axis=0)

    def close(self, plan: FleetPlan, relative_tolerance: float) -> Audit:
        """Add what exceeds limits, and hold the plan's figures against the powers."""
        problem, step_h = self._problem, self._problem.grid.step_h
        total = self._cost
        for limit, power_kw in zip(problem.limits, self._limit_kw, strict=True):
            outside = np.maximum(0.0, power_kw - limit.upper_kw) + np.maximum(0.0, limit.lower_kw - power_kw)
            total += step_h * limit.violation_price_per_kwh * float(outside.sum())
        faults = set(self._faults)
        scale = max(1.0, float(np.abs(self._fleet_kw).max(initial=0.0)))
        if np.abs(plan.fleet_power_kw - self._fleet_kw).max(initial=0.0) > 10.0 * relative_tolerance * scale:
            faults.add("the stated power is not the assets'")
        # what reserves lack is in the stated cost only
        stated = plan.termination.objective
        low = stated - total < -relative_tolerance * plan.figures.scale
        high = not problem.reserves and stated - total > relative_tolerance * plan.figures.scale
        if low or high or abs(plan.figures.total_cost - stated) > relative_tolerance * plan.figures.scale:
            faults.add("the stated objective is not the plan's")
        return Audit(tuple(sorted(faults)), total)
