"""The reference fleet of EVs over a day, and one drawn from the distributions measured by ElaadNL."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from evflex.engine.dispatch.model import DispatchProblem, Fleet, LimitScope, PortfolioLimit, Profiles
from evflex.engine.timegrid import TimeGrid
from tests.engine.dispatch.reference.case import FloatArray, IntArray
from tests.engine.dispatch.reference.fleets import START_UNIX_S

STEPS, STEP_S = 96, 900
_STEP_H = STEP_S / 3600.0
_VIOLATION_PRICE_PER_KWH = 2.0
# Hour of the day in the middle of each step; the grid begins at noon.
_HOUR = (12.0 + _STEP_H * (np.arange(STEPS) + 0.5)) % 24.0
_PLACES = ("private", "public", "workplace")
_PLACE_SHARES = (0.5, 0.3, 0.2)


@dataclass(frozen=True)
class _Stays:
    """When EVs are there, in steps, and what they want."""

    arrival: IntArray
    departure: IntArray
    max_charge_kw: FloatArray
    needed_kwh: FloatArray


def reference_problem(
    n: int, seed: int, *, v2g: bool = False, minimum: bool = False, feeders: int = 0
) -> DispatchProblem:
    """The reference fleet of the design of portfolio dispatch.

    The default price of shortfall holds, and value is earned above the need.

    Args:
        n: Number of EVs.
        seed: Of the fleet; the market has a seed of its own that follows from it.
        v2g: Whether EVs discharge.
        minimum: Whether EVs cannot charge below 6 A.
        feeders: Number of groups with a limit each; 0 means one limit of the fleet.
    """
    rng = np.random.default_rng(seed)
    kind = rng.choice(3, n, p=[0.7, 0.2, 0.1])
    arrival = np.select(
        [kind == 0, kind == 1], [rng.normal(24.0, 8.0, n), rng.uniform(0.0, 80.0, n)], rng.uniform(0.0, 30.0, n)
    )
    arrival = np.clip(np.round(arrival), 0, 90)
    departure = np.select(
        [kind == 0, kind == 1], [rng.normal(78.0, 6.0, n), arrival + rng.uniform(8.0, 32.0, n)],
        rng.uniform(60.0, 96.0, n),
    )  # fmt: skip
    departure = np.clip(np.maximum(np.round(departure), arrival + 4), 0, STEPS)
    max_charge = _charger_kw(rng, n)
    needed = np.minimum(rng.lognormal(2.2, 0.6, n), 0.9 * max_charge * (departure - arrival) * _STEP_H)
    stays = _Stays(arrival.astype(np.int64), departure.astype(np.int64), max_charge, needed)
    return _problem(rng, seed, stays, v2g=v2g, minimum=minimum, feeders=feeders)


def elaad_problem(n: int, seed: int, *, v2g: bool = False, minimum: bool = False) -> DispatchProblem | None:
    """A fleet drawn from the distributions of ElaadNL in the reference market; None where there are no data sets.

    Arrival, stay and energy are drawn independently of each other, each at home, in public or at work.
    """
    folder = shared_data_folder() / "ev"
    if not folder.is_dir():
        return None
    rng = np.random.default_rng(seed)
    place = rng.choice(len(_PLACES), n, p=_PLACE_SHARES)
    arrival, stay, needed = np.zeros((3, n))
    for index, name in enumerate(_PLACES):
        here = np.flatnonzero(place == index)
        weight = _column(folder / "distribution-of-arrival.csv", name)
        quarter = rng.choice(len(weight), len(here), p=weight / weight.sum())
        arrival[here] = (quarter - 48) % STEPS  # the grid begins at noon
        stay[here] = _drawn(rng, folder / "distribution-of-connection-time.csv", name, len(here)) / _STEP_H
        needed[here] = _drawn(rng, folder / "distribution-of-energy-demand.csv", name, len(here))
    arrival = np.minimum(arrival, 90)
    departure = np.minimum(arrival + np.maximum(np.round(stay), 4), STEPS)
    max_charge = _charger_kw(rng, n)
    needed = np.minimum(needed, 0.9 * max_charge * (departure - arrival) * _STEP_H)
    stays = _Stays(arrival.astype(np.int64), departure.astype(np.int64), max_charge, needed)
    return _problem(rng, seed, stays, v2g=v2g, minimum=minimum, feeders=0)


def shared_data_folder() -> Path:
    """Where the data sets are, if they are."""
    beside_the_checkout = Path(__file__).resolve().parents[5] / "shared" / "data"
    return Path(os.environ.get("EVFLEX_SHARED_DATA", beside_the_checkout))


def _charger_kw(rng: np.random.Generator, n: int) -> FloatArray:
    return rng.choice([3.7, 7.4, 11.0, 22.0], n, p=[0.25, 0.45, 0.25, 0.05])


def _problem(
    rng: np.random.Generator, seed: int, stays: _Stays, *, v2g: bool, minimum: bool, feeders: int
) -> DispatchProblem:
    n = len(stays.arrival)
    whole_stay_kwh = stays.max_charge_kw * (stays.departure - stays.arrival) * _STEP_H
    columns = {
        "available_from_unix_s": START_UNIX_S + STEP_S * stays.arrival,
        "available_until_unix_s": START_UNIX_S + STEP_S * stays.departure,
        "max_charge_kw": stays.max_charge_kw,
        "min_charge_kw": np.where(stays.max_charge_kw > 8.0, 4.14, 1.38) * minimum,
        "energy_needed_kwh": stays.needed_kwh,
        "energy_headroom_kwh": np.minimum(stays.needed_kwh + rng.uniform(0.0, 25.0, n), whole_stay_kwh),
        "energy_value_per_kwh": rng.choice([0.0, 0.05, 0.1], n, p=[0.4, 0.4, 0.2]),
    }
    if v2g:
        battery_kwh, level = rng.choice([40.0, 60.0, 80.0], n), rng.uniform(0.2, 0.6, n)
        columns |= {
            "energy_headroom_kwh": battery_kwh * (1.0 - level),
            "energy_needed_kwh": np.minimum(stays.needed_kwh, battery_kwh * (1.0 - level)),
            "energy_available_kwh": battery_kwh * level,
            "max_discharge_kw": np.minimum(stays.max_charge_kw, 11.0),
            "charge_efficiency": np.full(n, 0.95),
            "discharge_efficiency": np.full(n, 0.95),
            "discharge_cost_per_kwh": np.full(n, 0.02),
        }
    group = rng.integers(0, feeders, n) if feeders else np.full(n, -1)
    price, limit_kw_per_ev = _market(seed)
    sizes = np.bincount(group, minlength=feeders)[:feeders] if feeders else np.array([n])
    limits = tuple(
        PortfolioLimit(
            scope=LimitScope.GROUP if feeders else LimitScope.FLEET,
            index=index,
            lower_kw=np.full(STEPS, -np.inf),
            upper_kw=int(size) * limit_kw_per_ev,
            violation_price_per_kwh=_VIOLATION_PRICE_PER_KWH,
        )
        for index, size in enumerate(sizes)
    )
    return DispatchProblem(
        grid=TimeGrid(float(START_UNIX_S), float(STEP_S), STEPS),
        fleet=Fleet.of(n, {**columns, "group_index": group}),
        profiles=Profiles.none(STEPS),
        import_price_per_kwh=price,
        export_price_per_kwh=price.copy(),
        limits=limits,
        group_count=feeders,
    )


def _market(seed: int) -> tuple[FloatArray, FloatArray]:
    """Price of a kWh and limit for each EV in kW, (T,) each."""
    rng = np.random.default_rng(10_000 + seed)
    price = 0.11 + 0.06 * _bump(19.5, 2.0) + 0.04 * _bump(8.0, 1.5) - 0.05 * _bump(3.0, 2.5) - 0.04 * _bump(13.0, 2.0)
    price = price + rng.normal(0.0, 0.004, STEPS)
    base = 0.55 + 0.45 * _bump(19.5, 2.5) + 0.2 * _bump(8.0, 2.0)
    return price, np.maximum((1.45 - base) * 0.95 + rng.normal(0.0, 0.01, STEPS), 0.0)


def _bump(hour: float, width_h: float) -> FloatArray:
    """A bell around an hour of the day."""
    apart = np.abs(_HOUR - hour)
    apart = np.minimum(apart, 24.0 - apart)
    return np.exp(-0.5 * (apart / width_h) ** 2)


@cache
def _column(path: Path, name: str) -> FloatArray:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return np.array([float(row[name] or 0.0) for row in csv.DictReader(file)])


def _drawn(rng: np.random.Generator, path: Path, name: str, count: int) -> FloatArray:
    """Values drawn from a column that says what a percentage of events exceeds."""
    values = _column(path, name)
    return np.interp(rng.uniform(0.0, 1.0, count), np.linspace(0.0, 1.0, len(values)), values)
