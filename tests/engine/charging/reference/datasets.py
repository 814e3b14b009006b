"""Real charging problems: the instances with known optima, and days of measured sessions at market prices."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np

from evflex.engine.charging.model import ScheduleOptions, ScheduleProblem, Sessions, Tariff
from evflex.engine.supply_tree import PhaseConnection, SupplyNodes
from evflex.engine.timegrid import TimeGrid

# 2024-11-05 12:00 in Copenhagen.
INSTANCE_START_UNIX_S = 1_730_804_400.0
# Optimum without, and best proven bound with the minimum of 6 A, by number of sessions.
LP_OPTIMUM = {10: 25.502280, 100: 341.640208, 1000: 3177.763178}
MILP_OPTIMUM = {10: 25.504974, 100: 341.643552}

# The measured sessions are in Pasadena (UTC-7 all over the data), the prices in eastern Denmark (UTC+2 then).
# Drivers and prices follow the clock on the wall, so sessions move by nine hours: 8:00 there is 8:00 here.
_WALL_CLOCK_SHIFT = timedelta(hours=-9)
_COPENHAGEN_SUMMER = timedelta(hours=2)
_ACN_VOLTAGE_V = 208.0
_ACN_MAX_A, _ACN_MIN_A = 32.0, 6.0


def shared_data_folder() -> Path:
    """Where the data sets are, if they are."""
    beside_the_checkout = Path(__file__).resolve().parents[5] / "shared" / "data"
    return Path(os.environ.get("EVFLEX_SHARED_DATA", beside_the_checkout))


def site_instance(
    count: int, *, minimum: bool = True, folder: Path | None = None
) -> tuple[ScheduleProblem, ScheduleOptions]:
    """One of the instances with a known optimum: one site, 96 quarter-hours, a limit on all charging.

    Args:
        count: 10, 100 or 1000 sessions.
        minimum: Whether charging below 6 A is excluded.
        folder: Folder of the data sets.
    """
    raw = json.loads(((folder or shared_data_folder()) / "instances" / f"site_N{count}.json").read_text())
    cars = raw["ev"]
    grid = TimeGrid(INSTANCE_START_UNIX_S, raw["dt_h"] * 3600.0, raw["T"])
    sessions = Sessions.simple(
        arrival_unix_s=grid.start_unix_s + grid.step_s * np.array([car["arrive"] for car in cars]),
        departure_unix_s=grid.start_unix_s + grid.step_s * np.array([car["depart"] for car in cars]),
        energy_needed_kwh=np.array([car["energy_kwh"] for car in cars]),
        max_charge_kw=np.array([car["pmax_kw"] for car in cars]),
        min_charge_kw=np.array([car["pmin_kw"] if minimum else 0.0 for car in cars]),
        charge_efficiency=raw["eta"],
        phases=np.array([PhaseConnection.L1 if car["phases"] == 1 else PhaseConnection.L1_L2_L3 for car in cars]),
    )
    tariff = Tariff(import_price_per_kwh=np.array(raw["price_eur_mwh"]) / 1000.0)
    nodes = SupplyNodes.single(max_import_kw=np.array(raw["ev_cap_kw"]))
    options = ScheduleOptions(shortfall_price_per_kwh=raw["short_penalty_eur_kwh"])
    return ScheduleProblem(grid, nodes, sessions, tariff), options


def acn_days(number: int = 30, folder: Path | None = None) -> list[date]:
    """The days with most measured sessions, in calendar order."""
    rows = _acn_rows(folder or shared_data_folder())
    per_day = Counter(_wall_clock(row["connect_utc"]).date() for row in rows)
    busiest = sorted(per_day, key=lambda day: (-per_day[day], day))[:number]
    return sorted(busiest)


def acn_day(
    day: date, *, minimum: bool = True, limit_ratio: float = 0.3, folder: Path | None = None
) -> tuple[ScheduleProblem, ScheduleOptions]:
    """The measured sessions that began on a day, at that day's prices in eastern Denmark.

    The energy wanted is the energy charged then; the grid is the local day in quarter-hours. Sessions that go
    on after midnight depart beyond the grid.

    Args:
        day: Local date.
        minimum: Whether charging below 6 A is excluded.
        limit_ratio: The site's limit as a share of all chargers in use that day.
        folder: Folder of the data sets.
    """
    folder = folder or shared_data_folder()
    rows = [row for row in _acn_rows(folder) if _wall_clock(row["connect_utc"]).date() == day]
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC) - _COPENHAGEN_SUMMER
    grid = TimeGrid(midnight.timestamp(), 900.0, 96)
    charger_kw = _ACN_VOLTAGE_V * _ACN_MAX_A / 1000.0
    sessions = Sessions.simple(
        arrival_unix_s=np.array([_moved_unix_s(row["connect_utc"]) for row in rows]),
        departure_unix_s=np.array([_moved_unix_s(row["disconnect_utc"]) for row in rows]),
        energy_needed_kwh=np.array([float(row["kwh"]) for row in rows]),
        max_charge_kw=np.full(len(rows), charger_kw),
        min_charge_kw=_ACN_VOLTAGE_V * _ACN_MIN_A / 1000.0 if minimum else 0.0,
        evse_ids=tuple(row["station"] for row in rows),
        phases=PhaseConnection.L1,
    )
    hours = _prices(folder, midnight)
    return (
        ScheduleProblem(
            grid,
            SupplyNodes.single(max_import_kw=limit_ratio * charger_kw * len(rows)),
            sessions,
            Tariff(import_price_per_kwh=np.repeat(hours, 4) / 1000.0),
        ),
        ScheduleOptions(),
    )


@cache
def _acn_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "sessions" / "acn_caltech_2021.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["disconnect_utc"] > row["connect_utc"]]


def _wall_clock(utc: str) -> datetime:
    return datetime.fromisoformat(utc) + _WALL_CLOCK_SHIFT + _COPENHAGEN_SUMMER


def _moved_unix_s(utc: str) -> float:
    return (datetime.fromisoformat(utc) + _WALL_CLOCK_SHIFT).timestamp()


def _prices(folder: Path, start: datetime) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    wanted = [(start + timedelta(hours=h)).strftime("%Y-%m-%d %H:%M") for h in range(24)]
    return np.array([_price_by_hour(folder)[hour] for hour in wanted])


@cache
def _price_by_hour(folder: Path) -> dict[str, float]:
    with (folder / "prices" / "dk_day_ahead_hourly.csv").open(newline="") as file:
        return {row["hour_utc"]: float(row["eur_mwh"]) for row in csv.DictReader(file)}
