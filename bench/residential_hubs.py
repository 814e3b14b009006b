"""A residential transformer with two hubs: measured loads of households, and measured sessions of garages in Norway."""

from __future__ import annotations

import csv
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

from bench.instances import FloatArray
from evflex.engine.capacity import (
    ANY_COUNT,
    AllocationProblem,
    BaseLoad,
    Cooling,
    Hub,
    HubSessions,
    ThermalParameters,
    Transformer,
    default_min_kw_per_ev,
)
from evflex.engine.supply_tree import PhaseConnection
from evflex.engine.timegrid import TimeGrid

RATED_KVA, N1_KVA = 400.0, 300.0
CAR_KW = 7.2
STEP_S, DAYS = 900.0, 7
# The year's peak of the households over rated power.
_PEAK_RATIO, _POWER_FACTOR = 0.7, 0.98
_FIRST_DAY = datetime(2020, 1, 13, tzinfo=ZoneInfo("Europe/Oslo"))
_AMBIENT_C = 0.0
_LARGEST_GARAGE = "Bl2"


def residential_week(folder: Path, n1_rated_kva: float = N1_KVA) -> AllocationProblem:
    """A week in January with conditional agreements: all that the transformer has beyond firm capacity.

    Hub 0 is the largest garage, hub 1 all others. Firm capacity is what a connection without conditions would have,
    for ever: N-1 rating less the households' peak of the year, half for each hub.
    """
    grid = TimeGrid(_FIRST_DAY.timestamp(), STEP_S, round(DAYS * 86_400.0 / STEP_S))
    load_kw = np.loadtxt(folder / "load" / "residential_loads.csv", delimiter=",").sum(axis=1)
    load_kw *= _PEAK_RATIO * RATED_KVA / load_kw.max()
    kvar_per_kw = float(np.tan(np.arccos(_POWER_FACTOR)))
    first = round((_FIRST_DAY - _FIRST_DAY.replace(day=1)).total_seconds() / STEP_S)
    base_kw = load_kw[first : first + grid.step_count]
    firm_kw = float(np.sqrt(n1_rated_kva**2 - (kvar_per_kw * load_kw.max()) ** 2) - load_kw.max())
    transformer = Transformer(
        RATED_KVA, ThermalParameters.of(Cooling.ONAN, distribution=True), np.full(grid.step_count, _AMBIENT_C)
    )
    return AllocationProblem(
        grid, transformer, BaseLoad.balanced(base_kw, base_kw * kvar_per_kw),
        np.zeros(grid.step_count, dtype=np.bool_), n1_rated_kva,
        tuple(_hub(name, cars, grid, firm_kw / 2.0) for name, cars in _garages(folder, grid).items()),
    )  # fmt: skip


def firm_only(problem: AllocationProblem) -> AllocationProblem:
    """The same with the firm capacity alone."""
    nothing = np.zeros(problem.grid.step_count)
    return replace(problem, hubs=tuple(replace(hub, conditional_kw=nothing) for hub in problem.hubs))


def _hub(hub_id: str, cars: HubSessions, grid: TimeGrid, firm_kw: float) -> Hub:
    max_kw = RATED_KVA / 2.0
    minimum = default_min_kw_per_ev(PhaseConnection.L1_L2_L3, 1)
    plain = Hub.of_demand(
        hub_id, np.zeros(grid.step_count), max_kw=max_kw, firm_kw=firm_kw, min_kw_per_ev=minimum,
        connected_evs=ANY_COUNT, phases_per_ev=1,
    )  # fmt: skip
    return replace(plain, demand_kw=np.empty(0), connected_evs=np.empty(0, dtype=np.int64), sessions=cars)


def _garages(folder: Path, grid: TimeGrid) -> dict[str, HubSessions]:
    """Sessions that are there within the grid, of the largest garage and of all others."""
    end_unix_s = grid.start_unix_s + grid.step_s * grid.step_count
    rows: dict[str, list[tuple[str, float, float, float]]] = {"largest garage": [], "other garages": []}
    path = folder / "sessions" / "norway_trondheim_residential.csv"
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter=";"):
            arrival, departure = _unix_s(row["Start_plugin"]), _unix_s(row["End_plugout"])
            energy_kwh = float(row["El_kWh"].replace(",", "."))
            if grid.start_unix_s <= arrival < min(departure, end_unix_s):
                hub = "largest garage" if row["Garage_ID"] == _LARGEST_GARAGE else "other garages"
                rows[hub].append((row["session_ID"], arrival, departure, energy_kwh))
    return {hub: _sessions(found) for hub, found in rows.items()}


def _sessions(rows: list[tuple[str, float, float, float]]) -> HubSessions:
    ids, arrival, departure, energy_kwh = zip(*rows, strict=True)
    return HubSessions(ids, _array(arrival), _array(departure), _array(energy_kwh), np.full(len(ids), CAR_KW))


def _array(values: tuple[float, ...]) -> FloatArray:
    return np.array(values, dtype=np.float64)


def _unix_s(text: str) -> float:
    """Local time; infinitely early where a row has none."""
    try:
        return datetime.strptime(text, "%d.%m.%Y %H:%M").replace(tzinfo=_FIRST_DAY.tzinfo).timestamp()
    except ValueError:
        return -np.inf
