"""A generated fleet: cars at home over night and at work by day, the same in every run."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evflex.cli.demo.look import FloatArray

SEED = 2026
HOME_SHARE = 0.8
# Of the cars at home, those that can discharge.
BIDIRECTIONAL_SHARE = 0.04
# Most of a stay that charging takes at full power, so that everybody can be served.
BUSY_SHARE = 0.8
EFFICIENCY = 0.92
# 6 A at 230 V on one phase and on three.
MIN_ONE_PHASE_KW, MIN_THREE_PHASES_KW = 1.38, 4.14
WEAR_PER_KWH = 0.04


def generated_fleet(count: int, start: pd.Timestamp) -> pd.DataFrame:
    """A fleet as the client takes it, one row a car.

    Args:
        count: Number of cars.
        start: Noon of the first day, with a time zone; cars come and go until noon of the next.
    """
    draw = np.random.default_rng(SEED)
    home = draw.random(count) < HOME_SHARE
    evening = draw.random(count) < 0.5
    arrival_h = _chosen(home, evening, draw.normal(6.0, 1.6, count), draw.uniform(0.0, 1.5, count),
                        draw.normal(20.2, 0.6, count))  # fmt: skip
    departure_h = _chosen(home, evening, draw.normal(19.6, 1.0, count), draw.normal(5.0, 0.8, count),
                          draw.uniform(23.0, 24.0, count))  # fmt: skip
    arrival_h = np.clip(arrival_h, 0.0, 21.5)
    departure_h = np.clip(departure_h, arrival_h + 1.5, 24.0)
    max_charge_kw = np.where(
        home, draw.choice([3.7, 7.4, 11.0], count, p=[0.2, 0.4, 0.4]), draw.choice([11.0, 22.0], count, p=[0.8, 0.2])
    )
    wanted_kwh = draw.lognormal(2.3, 0.6, count)
    most_kwh = BUSY_SHARE * EFFICIENCY * max_charge_kw * (departure_h - arrival_h)
    fleet = pd.DataFrame(
        {
            "asset_id": [f"car-{i:06d}" for i in range(count)],
            "kind": pd.Categorical(["EV"] * count),
            "available_from": _instants(start, arrival_h),
            "available_until": _instants(start, departure_h),
            "max_charge_kw": max_charge_kw,
            "min_charge_kw": np.where(max_charge_kw < 11.0, MIN_ONE_PHASE_KW, MIN_THREE_PHASES_KW),
            "max_discharge_kw": 0.0,
            "energy_needed_kwh": np.minimum(wanted_kwh, most_kwh).round(3),
            "energy_available_kwh": 0.0,
            "charge_efficiency": EFFICIENCY,
            "discharge_efficiency": EFFICIENCY,
            "discharge_cost_per_kwh": WEAR_PER_KWH,
        }
    )
    fleet["energy_headroom_kwh"] = fleet["energy_needed_kwh"]
    _make_bidirectional(fleet, home & (draw.random(count) < BIDIRECTIONAL_SHARE), draw)
    return fleet


def _make_bidirectional(fleet: pd.DataFrame, chosen: NDArray[np.bool_], draw: np.random.Generator) -> None:
    """Let some cars discharge at 11 kW and use a part of their battery both ways."""
    battery_kwh = draw.choice([40.0, 60.0, 80.0], len(fleet))
    fleet.loc[chosen, ["max_charge_kw", "max_discharge_kw"]] = 11.0
    fleet.loc[chosen, "min_charge_kw"] = 0.0
    fleet.loc[chosen, "energy_available_kwh"] = 0.2 * battery_kwh[chosen]
    fleet.loc[chosen, "energy_headroom_kwh"] += 0.2 * battery_kwh[chosen]


def _chosen(
    home: NDArray[np.bool_], afternoon: NDArray[np.bool_], at_home: FloatArray, by_day: FloatArray, next_day: FloatArray
) -> FloatArray:
    """Hours since noon of cars at home, at work on the first day, and at work on the next."""
    return np.where(home, at_home, np.where(afternoon, by_day, next_day))


def _instants(start: pd.Timestamp, hours: FloatArray) -> pd.DatetimeIndex:
    """Instants to the minute."""
    return start.tz_convert("UTC") + pd.to_timedelta((60.0 * hours).round() * 60.0, unit="s")
