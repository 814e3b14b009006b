"""The audit of a portfolio's plan finds every kind of fault, and the cost of its powers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.dispatch_audit import audit
from evflex.engine.dispatch.model import DispatchProblem, Fleet, LimitScope, PortfolioLimit, Profiles
from evflex.engine.dispatch.plan import FleetPlan, PlanFigures
from evflex.engine.supply_tree import FloatArray, IntArray
from evflex.engine.termination import StoppedBy, Termination, TerminationReason
from evflex.engine.timegrid import TimeGrid


@dataclass(frozen=True, slots=True)
class Known:
    powers_kw: FloatArray

    def power_kw(self, rows: IntArray) -> FloatArray:
        return self.powers_kw[rows]

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        return {"power_kw": self.powers_kw}


def two_cars() -> DispatchProblem:
    """Three hours; the second car is there for the first one and a half, and may give 2 kWh back."""
    fleet = Fleet.of(
        2,
        {
            "available_until_unix_s": np.array([10_800, 5400]),
            "max_charge_kw": 10.0,
            "min_charge_kw": np.array([3.0, 0.0]),
            "max_discharge_kw": np.array([0.0, 4.0]),
            "energy_needed_kwh": np.array([9.0, 2.0]),
            "energy_headroom_kwh": np.array([12.0, 8.0]),
            "energy_available_kwh": np.array([0.0, 2.0]),
            "discharge_efficiency": np.array([1.0, 0.8]),
            "discharge_cost_per_kwh": 0.02,
            "energy_value_per_kwh": 0.05,
            "shortfall_price_per_kwh": 1.0,
        },
    )
    price = np.array([0.1, 0.2, 0.3])
    limit = PortfolioLimit(LimitScope.FLEET, 0, np.full(3, -2.0), np.array([8.0, 8.0, 5.0]), 2.0)
    return DispatchProblem(TimeGrid(0.0, 3600.0, 3), fleet, Profiles.none(3), price, price, (limit,))


def plan_of(power_kw: list[list[float]], total_cost: float) -> FleetPlan:
    powers = np.array(power_kw)
    none = np.zeros((1, 3))
    figures = PlanFigures(total_cost, 0.0, 0.0, 0.0, 0.0, 0.0)
    ended = Termination(
        TerminationReason.OPTIMAL, StoppedBy.NOTHING, total_cost, total_cost, 0.0, 0.0, 0.0, "by hand", ""
    )
    return FleetPlan(
        powers.sum(axis=0), none, none, none, none, none, none, none, figures, 0.0, 0, 0.0, ended, Known(powers)
    )


GOOD = [[6.0, 0.0, 4.0], [3.0, -0.8, 0.0]]
# draw 9 and 4 kWh, give 0.8 back; 1 kWh of worth; no shortfall (3 - 1 = 2); 1 kWh beyond 8 kW
GOOD_COST = 0.9 + 1.2 - 0.8 * (0.2 - 0.02) - 0.05 + 2.0


def test_powers_cost_what_a_hand_can_compute() -> None:
    found = audit(two_cars(), plan_of(GOOD, GOOD_COST))
    assert found.faults == ()
    assert found.total_cost == pytest.approx(GOOD_COST)


def test_a_missing_kwh_and_export_beyond_the_limit_cost() -> None:
    found = audit(two_cars(), plan_of([[0.0, 0.0, 5.0], [8.0, -4.0, 0.0]], 0.0))
    # short 4 and 0 kWh (8 - 5 = 3), worth of 1 kWh, 2 kWh beyond the export limit
    assert found.total_cost == pytest.approx(1.5 + 0.8 - 4.0 * 0.18 + 4.0 - 0.05 + 4.0)


@pytest.mark.parametrize(
    ("power_kw", "fault"),
    [
        ([[11.0, 0.0, 0.0], [3.0, -0.8, 0.0]], "above its maximum or while away"),
        ([[6.0, 0.0, 4.0], [3.0, 0.0, 1.0]], "above its maximum or while away"),
        ([[6.0, 0.0, 4.0], [3.0, -2.1, 0.0]], "discharges too much"),
        ([[6.0, 0.0, 2.0], [3.0, 0.0, 0.0]], "below its minimum"),
        ([[6.0, 0.0, 7.0], [3.0, 0.0, 0.0]], "above its headroom"),
        ([[6.0, 0.0, 4.0], [-2.0, 4.0, 0.0]], "emptier than it may be"),
    ],
)
def test_each_fault_is_found(power_kw: list[list[float]], fault: str) -> None:
    assert fault in audit(two_cars(), plan_of(power_kw, 0.0)).faults


def test_a_figure_that_is_not_the_powers_is_found() -> None:
    plan = plan_of(GOOD, GOOD_COST - 0.01)
    assert audit(two_cars(), plan).faults == ("the stated objective is not the plan's",)
    other = replace(plan_of(GOOD, GOOD_COST), fleet_power_kw=np.zeros(3))
    assert audit(two_cars(), other).faults == ("the stated power is not the assets'",)
