"""Reference fleets and their market: seeded, any size, in the variants that portfolio dispatch is measured on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from bench.instances import START_UNIX_S, FloatArray, IntArray
from evflex.engine.dispatch.model import DispatchProblem, Fleet, LimitScope, PortfolioLimit, Profiles, Reserve
from evflex.engine.timegrid import TimeGrid

STEPS, STEP_S = 96, 900
STEP_H = STEP_S / 3600.0
FEEDERS = 50
VIOLATION_PRICE_PER_KWH = 2.0
# Noon to noon.
GRID = TimeGrid(float(START_UNIX_S), float(STEP_S), STEPS)
_NOON_H = 12.0
_MARKET_SEED = 10_000
_LEAST_STAY_STEPS, _LAST_ARRIVAL = 4, 90
_LEAST_KW = {3.7: 1.38, 7.4: 1.38, 11.0: 4.14, 22.0: 4.14}
_RESERVE_KW_PER_CAR = 0.03
_ENDURANCE_S = 3600.0


class Coupling(StrEnum):
    """What the cars share."""

    FLEET = "one fleet limit"
    FEEDERS = "50 feeder limits"
    FEEDERS_AND_FLEET = "50 feeder limits and a fleet limit"
    TARGET = "a target"
    RESERVES = "one fleet limit and reserves"


@dataclass(frozen=True, slots=True)
class Variant:
    """What the cars can do.

    Attributes:
        distinct: Windows begin and end within steps, in unix seconds, and powers are jittered: no two cars merge.
        minimum: Below 6 A a car does not charge.
        discharging: Cars give energy back, with losses and wear.
        coupling: What they share.
    """

    distinct: bool = False
    minimum: bool = False
    discharging: bool = False
    coupling: Coupling = Coupling.FLEET


@dataclass(frozen=True, slots=True)
class Stays:
    """Cars as a generator draws them.

    Attributes:
        from_s: Arrival, seconds after the start of the grid. Shape (n,).
        until_s: Departure. Shape (n,).
        max_kw: Charging power. Shape (n,).
        wished_kwh: Before it is held against what the stay allows. Shape (n,).
    """

    from_s: IntArray
    until_s: IntArray
    max_kw: FloatArray
    wished_kwh: FloatArray


Draw = Callable[[np.random.Generator, int], Stays]


def reference_problem(count: int, seed: int = 0, variant: Variant | None = None) -> DispatchProblem:
    """The reference fleet, a day's market and what the cars share."""
    return problem_of(reference_stays, count, seed, variant or Variant())


def problem_of(draw: Draw, count: int, seed: int, variant: Variant) -> DispatchProblem:
    """A problem whose cars come from any generator; everything else is the reference's.

    Fleet and market have random streams of their own, so that the market of a seed is the same in every variant.
    """
    rng = np.random.default_rng(seed)
    stays = draw(rng, count)
    if variant.distinct:
        stays = _jittered(stays, np.random.default_rng([seed, 1]))
    feeders = variant.coupling in (Coupling.FEEDERS, Coupling.FEEDERS_AND_FLEET)
    group = np.random.default_rng([seed, 2]).integers(0, FEEDERS, count) if feeders else np.full(count, -1)
    fleet = Fleet.of(count, _columns(stays, rng, variant) | {"group_index": group})
    market = np.random.default_rng(_MARKET_SEED + seed)
    price = _price(market)
    limit_kw = count * _limit_per_car(market)
    problem = DispatchProblem(GRID, fleet, Profiles.none(STEPS), price, price)
    return _coupled(problem, variant.coupling, limit_kw, np.random.default_rng([_MARKET_SEED + seed, 1]))


def reference_stays(rng: np.random.Generator, count: int) -> Stays:
    """70 % at home over night, 20 % at work, 10 % long stays."""
    kind = rng.choice(3, count, p=[0.7, 0.2, 0.1])
    arrive = np.choose(kind, [rng.normal(24.0, 8.0, count), rng.uniform(0, 80, count), rng.uniform(0, 30, count)])
    arrive = np.clip(np.rint(arrive), 0, _LAST_ARRIVAL)
    at_work = arrive + rng.uniform(8, 32, count)
    depart = np.choose(kind, [rng.normal(78.0, 6.0, count), at_work, rng.uniform(60, 96, count)])
    depart = np.minimum(np.maximum(np.rint(depart), arrive + _LEAST_STAY_STEPS), STEPS)
    max_kw = rng.choice(list(_LEAST_KW), count, p=[0.25, 0.45, 0.25, 0.05])
    wished_kwh = rng.lognormal(2.2, 0.6, count)
    return Stays((STEP_S * arrive).astype(np.int64), (STEP_S * depart).astype(np.int64), max_kw, wished_kwh)


def feeder_problem(problem: DispatchProblem, group: int) -> DispatchProblem:
    """One feeder's cars under its limit, as a problem of its own."""
    limits = tuple(
        replace(limit, scope=LimitScope.FLEET, index=0)
        for limit in problem.limits
        if limit.scope == LimitScope.GROUP and limit.index == group
    )
    fleet = problem.fleet.take(np.flatnonzero(problem.fleet.group_index == group))
    alone = replace(fleet, group_index=np.full(len(fleet), -1, dtype=np.int32))
    return replace(problem, fleet=alone, limits=limits, group_count=0)


def _jittered(stays: Stays, rng: np.random.Generator) -> Stays:
    """Edges within steps, and powers that differ by up to 2 %."""
    count = len(stays.max_kw)
    return replace(
        stays,
        from_s=stays.from_s + rng.integers(1, STEP_S, count),
        until_s=stays.until_s - rng.integers(1, STEP_S, count),
        max_kw=stays.max_kw * rng.uniform(0.98, 1.02, count),
    )


def _columns(stays: Stays, rng: np.random.Generator, variant: Variant) -> dict[str, NDArray[np.generic] | float]:
    """Columns of the fleet; energies are what a stay allows."""
    count = len(stays.max_kw)
    possible_kwh = stays.max_kw * (stays.until_s - stays.from_s) / 3600.0
    needed_kwh = np.minimum(stays.wished_kwh, 0.9 * possible_kwh)
    more_kwh = rng.uniform(0.0, 25.0, count)
    columns: dict[str, NDArray[np.generic] | float] = {
        "available_from_unix_s": START_UNIX_S + stays.from_s,
        "available_until_unix_s": START_UNIX_S + stays.until_s,
        "max_charge_kw": stays.max_kw,
        "energy_value_per_kwh": rng.choice([0.0, 0.05, 0.10], count, p=[0.4, 0.4, 0.2]),
    }
    if variant.minimum:
        columns["min_charge_kw"] = np.where(stays.max_kw < 9.0, _LEAST_KW[3.7], _LEAST_KW[11.0])
    if variant.discharging:
        efficiency = 0.95
        battery_kwh = rng.choice([40.0, 60.0, 80.0], count)
        start_kwh = battery_kwh * rng.uniform(0.2, 0.6, count)
        headroom_kwh = battery_kwh - start_kwh
        needed_kwh = np.minimum(np.minimum(stays.wished_kwh, 0.9 * efficiency * possible_kwh), headroom_kwh)
        columns |= {
            "max_discharge_kw": np.minimum(stays.max_kw, 11.0),
            "energy_available_kwh": start_kwh,
            "charge_efficiency": efficiency,
            "discharge_efficiency": efficiency,
            "discharge_cost_per_kwh": 0.02,
        }
    else:
        headroom_kwh = np.minimum(needed_kwh + more_kwh, possible_kwh)
    return columns | {"energy_needed_kwh": needed_kwh, "energy_headroom_kwh": headroom_kwh}


def _bump(at_h: float, sigma_h: float) -> FloatArray:
    """A bell of height 1 over the steps of the day."""
    hour = _NOON_H + STEP_H * np.arange(STEPS)
    away_h = (hour - at_h + 12.0) % 24.0 - 12.0
    bell: FloatArray = np.exp(-0.5 * (away_h / sigma_h) ** 2)
    return bell


def _price(rng: np.random.Generator) -> FloatArray:
    """Price of a day with peaks in the evening and the morning."""
    bumps = 0.06 * _bump(19.5, 2.0) + 0.04 * _bump(8.0, 1.5) - 0.05 * _bump(3.0, 2.5) - 0.04 * _bump(13.0, 2.0)
    price: FloatArray = 0.11 + bumps + rng.normal(0.0, 0.004, STEPS)
    return price


def _limit_per_car(rng: np.random.Generator) -> FloatArray:
    """What the rest of the grid's load leaves for a car, in kW."""
    base = 0.55 + 0.45 * _bump(19.5, 2.5) + 0.2 * _bump(8.0, 2.0)
    limit: FloatArray = (1.45 - base) * 0.95 + rng.normal(0.0, 0.01, STEPS)
    return limit


def _coupled(
    problem: DispatchProblem, coupling: Coupling, limit_kw: FloatArray, rng: np.random.Generator
) -> DispatchProblem:
    """The problem with what its cars share.

    Feeders differ in strength by 15 % each way; a fleet limit beside them is 5 % under the reference's, so that both
    kinds bind. A target follows the cars that are there and the limit. Reserves are 0.03 kW a car: upward in the
    evening, downward in the night.
    """
    count = len(problem.fleet)
    no_lower = np.full(STEPS, -np.inf)
    if coupling in (Coupling.FLEET, Coupling.RESERVES):
        limits = [PortfolioLimit(LimitScope.FLEET, 0, no_lower, limit_kw, VIOLATION_PRICE_PER_KWH)]
    elif coupling == Coupling.TARGET:
        target_kw = _target(problem, limit_kw)
        limits = [PortfolioLimit(LimitScope.FLEET, 0, target_kw, target_kw, VIOLATION_PRICE_PER_KWH)]
    else:
        cars = np.bincount(problem.fleet.group_index, minlength=FEEDERS)
        noise = rng.normal(0.0, 0.01, (FEEDERS, STEPS))
        strength = rng.uniform(0.85, 1.15, (FEEDERS, 1))
        feeder_kw = cars[:, None] * (strength * limit_kw / max(1, count) + noise)
        limits = [
            PortfolioLimit(LimitScope.GROUP, g, no_lower, feeder_kw[g], VIOLATION_PRICE_PER_KWH) for g in range(FEEDERS)
        ]
        if coupling == Coupling.FEEDERS_AND_FLEET:
            limits.append(PortfolioLimit(LimitScope.FLEET, 0, no_lower, 0.95 * limit_kw, VIOLATION_PRICE_PER_KWH))
    groups = FEEDERS if coupling in (Coupling.FEEDERS, Coupling.FEEDERS_AND_FLEET) else 0
    reserves = (_reserve(count),) if coupling == Coupling.RESERVES else ()
    return replace(problem, limits=tuple(limits), reserves=reserves, group_count=groups)


def _target(problem: DispatchProblem, limit_kw: FloatArray) -> FloatArray:
    """A fifth more than the needs, spread by the chargers in use and the limit, so that it can nearly be followed."""
    grid, fleet = problem.grid, problem.fleet
    begin = (fleet.available_from_unix_s - grid.start_unix_s) / grid.step_s
    end = (fleet.available_until_unix_s - grid.start_unix_s) / grid.step_s
    arrived_kw = np.bincount(np.ceil(begin).astype(np.int64), weights=fleet.max_charge_kw, minlength=STEPS + 1)
    left_kw = np.bincount(np.floor(end).astype(np.int64), weights=fleet.max_charge_kw, minlength=STEPS + 1)
    weight = np.cumsum(arrived_kw - left_kw)[:STEPS] * limit_kw
    target: FloatArray = 1.2 * fleet.energy_needed_kwh.sum() * weight / weight.sum() / STEP_H
    return target


def _reserve(count: int) -> Reserve:
    hour = (_NOON_H + STEP_H * np.arange(STEPS)) % 24.0
    size_kw = _RESERVE_KW_PER_CAR * count
    evening, night = (hour >= 17.0) & (hour < 21.0), hour < 5.0
    return Reserve(np.where(evening, size_kw, 0.0), np.where(night, size_kw, 0.0), _ENDURANCE_S)
