"""The figures of the chapter: without a plan and with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from evflex.cli.demo.portfolio.day import PortfolioDay
from evflex.client import FleetPlan

# Local hours in which homes need the grid most.
EVENING_HOURS = (17, 18, 19, 20)


@dataclass(frozen=True, slots=True)
class PortfolioOutcome:
    """What a fleet costs and does to the grid.

    Attributes:
        energy_cost: Energy bought less energy sold.
        wear_cost: Wear of discharging.
        peak_kw: Highest power of the fleet.
        evening_peak_kw: Highest power in the evening hours.
        above_limit_kwh: Energy beyond the limit.
        missing_kwh: Energy wanted and not charged.
    """

    energy_cost: float
    wear_cost: float
    peak_kw: float
    evening_peak_kw: float
    above_limit_kwh: float
    missing_kwh: float

    @property
    def cost(self) -> float:
        """Energy and wear."""
        return self.energy_cost + self.wear_cost


def uncontrolled_outcome(day: PortfolioDay, power_kw: pd.Series) -> PortfolioOutcome:
    """Outcome of charging on arrival."""
    energy_cost = float((power_kw * day.price_per_kwh).sum()) * day.step_h
    return _outcome(day, power_kw, energy_cost, wear_cost=0.0, missing_kwh=0.0)


def planned_outcome(day: PortfolioDay, plan: FleetPlan) -> PortfolioOutcome:
    """Outcome of the plan."""
    figures = plan.figures
    energy_cost = figures.import_cost - figures.export_revenue
    return _outcome(day, plan.power_kw, energy_cost, figures.discharge_cost, plan.shortfall_kwh)


def _outcome(
    day: PortfolioDay, power_kw: pd.Series, energy_cost: float, wear_cost: float, missing_kwh: float
) -> PortfolioOutcome:
    power, limit = power_kw.to_numpy(), day.limit_kw.to_numpy()
    evening = np.isin(pd.DatetimeIndex(day.limit_kw.index).hour, EVENING_HOURS)
    return PortfolioOutcome(
        energy_cost=energy_cost,
        wear_cost=wear_cost,
        peak_kw=float(power.max()),
        evening_peak_kw=float(power[evening].max()),
        above_limit_kwh=float(np.clip(power - limit, 0.0, None).sum()) * day.step_h,
        missing_kwh=missing_kwh,
    )
