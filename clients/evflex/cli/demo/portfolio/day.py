"""The day of the chapter: fleet, prices, the limit, and what happens without a plan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from evflex.cli.demo.look import FloatArray
from evflex.cli.demo.portfolio.fleet import generated_fleet

CURRENCY_CODE = "EUR"
TIME_ZONE = "Europe/Amsterdam"
START = pd.Timestamp("2026-03-04 12:00", tz=TIME_ZONE)
STEP = pd.Timedelta(minutes=15)
STEP_COUNT = 96
# Capacity that the contract gives the fleet, in kW a car: less in the evening, when homes need the grid.
LIMIT_KW_A_CAR = 1.0
EVENING_KW_A_CAR = 0.5
VIOLATION_PRICE_PER_KWH = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class PortfolioDay:
    """A fleet and what it pays.

    Attributes:
        fleet: One row a car, columns as the client takes them.
        price_per_kwh: Price of a kWh drawn or injected; its index is the time axis.
        limit_kw: Most that the fleet may draw by step.
    """

    fleet: pd.DataFrame
    price_per_kwh: pd.Series
    limit_kw: pd.Series

    @property
    def step_h(self) -> float:
        """Length of a step in hours."""
        return STEP / pd.Timedelta(hours=1)


def generated_day(count: int) -> PortfolioDay:
    """The day of a fleet of ``count`` cars."""
    index = pd.date_range(START, periods=STEP_COUNT, freq=STEP, name="time")
    hour: FloatArray = (np.arange(STEP_COUNT, dtype=np.float64) + 0.5) * (STEP / pd.Timedelta(hours=1))
    price = 0.24 + _bump(hour, 7.0, 2.0, 0.13) + _bump(hour, 20.0, 1.5, 0.07) - _bump(hour, 15.0, 2.5, 0.06)
    limit = count * (LIMIT_KW_A_CAR - _bump(hour, 6.8, 2.2, EVENING_KW_A_CAR))
    return PortfolioDay(
        fleet=generated_fleet(count, START),
        price_per_kwh=pd.Series(price.round(4), index=index),
        limit_kw=pd.Series(limit.round(1), index=index),
    )


def uncontrolled_kw(day: PortfolioDay) -> pd.Series:
    """Power of the fleet by step when each car charges on arrival at full power, until it has what it needs."""
    fleet = day.fleet
    hours = pd.Timedelta(hours=1)
    arrival_h = ((fleet["available_from"] - START) / hours).to_numpy()
    power_kw = fleet["max_charge_kw"].to_numpy()
    charging_h = (fleet["energy_needed_kwh"] / (fleet["charge_efficiency"] * fleet["max_charge_kw"])).to_numpy()
    edges_h = np.arange(STEP_COUNT + 1) * day.step_h
    drawn_kwh = np.array([power_kw @ np.clip(edge - arrival_h, 0.0, charging_h) for edge in edges_h])
    return pd.Series(np.diff(drawn_kwh) / day.step_h, index=day.price_per_kwh.index)


def _bump(hour: FloatArray, centre: float, width: float, height: float) -> FloatArray:
    """A bell over the hours since noon."""
    return height * np.exp(-0.5 * ((hour - centre) / width) ** 2)
