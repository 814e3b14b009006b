"""Small random problems that exercise chosen features, reproducible from a seed."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from hypothesis import strategies as st

from evflex.engine.dispatch.model import (
    AssetKind,
    DispatchProblem,
    Fleet,
    LimitScope,
    PortfolioLimit,
    Profiles,
    Reserve,
)
from evflex.engine.timegrid import TimeGrid
from tests.engine.dispatch.reference.case import FloatArray

# 2024-11-05 11:00 UTC, noon in Copenhagen.
START_UNIX_S = 1_730_804_400

KINDS = {
    "battery": AssetKind.BATTERY, "pv": AssetKind.PV, "flexible_load": AssetKind.FLEXIBLE_LOAD,
    "heat_pump": AssetKind.HEAT_PUMP,
}  # fmt: skip
FEATURES = (
    *KINDS, "v2g", "minimum", "fractions", "beyond", "losses", "value", "priced", "negative_prices", "export_price",
    "fleet_limit", "groups", "operators", "export_limit", "target", "reserve_up", "reserve_down", "two_reserves",
)  # fmt: skip


def random_problem(
    seed: int, features: Iterable[str] | None = None, *, count: int = 5, steps: int = 6, step_s: float = 1800.0
) -> DispatchProblem:
    """A valid small problem under limits that bind.

    Args:
        seed: Same seed and arguments, same problem.
        features: Names out of :data:`FEATURES`; None chooses some.
        count: Number of assets.
        steps: Number of steps.
        step_s: Length of a step.
    """
    rng = np.random.default_rng(seed)
    on = some_features(seed) if features is None else frozenset(features)
    grid = TimeGrid(float(START_UNIX_S), step_s, steps)
    import_price = _pick(rng, steps, 0.05, 0.4)
    if "negative_prices" in on:
        import_price -= 0.2
    spread = _pick(rng, steps, 0.0, 0.15) if "export_price" in on else 0.0
    fleet = _fleet(rng, on, grid, count)
    groups, operators = (2 if name in on else 0 for name in ("groups", "operators"))
    return DispatchProblem(
        grid=grid,
        fleet=fleet,
        profiles=_profiles(rng, fleet, steps),
        import_price_per_kwh=import_price,
        export_price_per_kwh=import_price - spread,
        limits=_limits(rng, on, steps, count),
        reserves=_reserves(rng, on, grid, count),
        group_count=groups,
        operator_count=operators,
    )


def some_features(seed: int, most: int = 8) -> frozenset[str]:
    """A random choice of features."""
    rng = np.random.default_rng([seed, 7])
    return frozenset(rng.permutation(FEATURES)[: rng.integers(0, most + 1)].tolist())


@st.composite
def problems(draw: st.DrawFn, most_assets: int = 6, most_steps: int = 8) -> DispatchProblem:
    """Hypothesis strategy: small problems that shrink to fewer features, assets and steps."""
    features = draw(st.lists(st.sampled_from(FEATURES), max_size=8, unique=True))
    count, steps = draw(st.integers(0, most_assets)), draw(st.integers(1, most_steps))
    step_s = draw(st.sampled_from([900.0, 300.0, 1800.0, 3600.0]))
    return random_problem(draw(st.integers(0, 2**20)), features, count=count, steps=steps, step_s=step_s)


def _pick(rng: np.random.Generator, count: int, low: float, high: float, digits: int = 3) -> FloatArray:
    return np.round(rng.uniform(low, high, count), digits)


def _fleet(rng: np.random.Generator, on: frozenset[str], grid: TimeGrid, n: int) -> Fleet:
    kinds = [AssetKind.EV, *(KINDS[name] for name in KINDS if name in on)]
    kind = rng.choice(np.array(kinds, dtype=np.uint8), n)
    is_ev, is_battery = kind == AssetKind.EV, kind == AssetKind.BATTERY
    begin, stay = _windows(rng, on, grid, n)
    max_charge = rng.choice([3.7, 7.4, 11.0, 22.0], n)
    needed = np.round(max_charge * stay * grid.step_h * rng.uniform(0.1, 1.05, n), 3)
    needed = np.where(is_ev | ((kind == AssetKind.FLEXIBLE_LOAD) & (rng.random(n) < 0.5)), needed, 0.0)
    discharges = (is_ev & ("v2g" in on) & (rng.random(n) < 0.8)) | is_battery
    store = discharges | (kind == AssetKind.HEAT_PUMP)
    lossy = "losses" in on
    value = rng.choice([0.0, 0.05, 0.1, 0.2], n) if "value" in on else np.zeros(n)
    price = np.where(rng.random(n) < 0.5, np.nan, value + _pick(rng, n, 0.3, 1.0)) if "priced" in on else np.nan
    is_pv = kind == AssetKind.PV
    return Fleet.of(
        n,
        {
            "kind": kind,
            "group_index": rng.integers(-1, 2, n) if "groups" in on else -1,
            "operator_index": rng.integers(-1, 2, n) if "operators" in on else -1,
            "available_from_unix_s": np.round(grid.start_unix_s + grid.step_s * begin),
            "available_until_unix_s": np.round(grid.start_unix_s + grid.step_s * (begin + stay)),
            "max_charge_kw": max_charge,
            "min_charge_kw": np.where(is_ev & ("minimum" in on), np.where(max_charge > 8.0, 4.14, 1.38), 0.0),
            "max_discharge_kw": np.where(discharges | (is_pv & (rng.random(n) < 0.7)), _pick(rng, n, 2.0, 11.0), 0.0),
            "energy_needed_kwh": needed,
            "energy_headroom_kwh": needed + np.where(store | ("value" in on), _pick(rng, n, 0.0, 12.0), 0.0),
            "energy_available_kwh": np.where(store, _pick(rng, n, 0.0, 15.0), 0.0),
            "shortfall_price_per_kwh": price,
            "charge_efficiency": _pick(rng, n, 0.8, 1.0) if lossy else 1.0,
            "discharge_efficiency": _pick(rng, n, 0.8, 1.0) if lossy else 1.0,
            "discharge_cost_per_kwh": _pick(rng, n, 0.0, 0.05),
            "energy_value_per_kwh": value,
        },
    )


def _windows(rng: np.random.Generator, on: frozenset[str], grid: TimeGrid, n: int) -> tuple[FloatArray, FloatArray]:
    """Begin and length in steps; some begin before the grid, and some end after it."""
    steps = grid.step_count
    begin = rng.integers(-1, max(1, steps - 1), n).astype(float)
    until = np.minimum(begin + rng.integers(2, steps + 2, n), steps)
    if "fractions" in on:
        begin += _pick(rng, n, 0.0, 0.9, 2)
        until = np.maximum(begin + 0.1, until - _pick(rng, n, 0.0, 0.9, 2))
    if "beyond" in on:
        until += np.where(rng.random(n) < 0.6, steps * 0.6, 0.0)
        begin -= np.where(rng.random(n) < 0.3, steps * 0.6, 0.0)
    return begin, until - begin


def _profiles(rng: np.random.Generator, fleet: Fleet, steps: int) -> Profiles:
    """PV mostly has one, flexible loads some, heat pumps all."""
    chance = np.select(
        [fleet.kind == AssetKind.PV, fleet.kind == AssetKind.FLEXIBLE_LOAD, fleet.kind == AssetKind.HEAT_PUMP],
        [0.7, 0.7, 1.0],
    )
    asset = np.flatnonzero(rng.random(len(fleet)) < chance)
    sign = np.where(fleet.kind[asset] == AssetKind.PV, -1.0, 1.0)
    power = np.round(rng.uniform(0.0, 6.0, (len(asset), steps)), 3) * sign[:, None]
    return Profiles(asset, power)


def _limits(rng: np.random.Generator, on: frozenset[str], steps: int, count: int) -> tuple[PortfolioLimit, ...]:
    none = np.full(steps, np.inf)
    limits = []
    scopes = [(LimitScope.FLEET, 0)] if on & {"fleet_limit", "target", "export_limit"} else []
    scopes += [(LimitScope.GROUP, g) for g in range(2) if "groups" in on and rng.random() < 0.8]
    scopes += [(LimitScope.OPERATOR, g) for g in range(2) if "operators" in on and rng.random() < 0.8]
    for scope, index in scopes:
        size = count * (4.0 if scope == LimitScope.FLEET else 2.0)
        upper = _pick(rng, steps, 0.2 * size, size)
        lower = -none
        if "export_limit" in on:
            lower = -_pick(rng, steps, 0.0, 0.5 * size)
        if "target" in on and scope == LimitScope.FLEET:
            lower = upper = _pick(rng, steps, -0.2 * size, size)
        elif rng.random() < 0.2:
            upper = none
        limits.append(PortfolioLimit(scope, index, lower, upper, float(rng.choice([0.05, 0.5, 2.0]))))
    return tuple(limits[i] for i in rng.permutation(len(limits)))


def _reserves(rng: np.random.Generator, on: frozenset[str], grid: TimeGrid, count: int) -> tuple[Reserve, ...]:
    directions = [name in on for name in ("reserve_up", "reserve_down")]
    reserves = []
    for _ in range(2 if "two_reserves" in on else 1):
        sold = [
            np.where(rng.random(grid.step_count) < 0.5, _pick(rng, grid.step_count, 0.0, 2.0 * count), 0.0) * is_on
            for is_on in directions
        ]
        reserves.append(Reserve(sold[0], sold[1], float(rng.choice([0.5, 1.0, 2.0])) * grid.step_s))
    return tuple(reserves) if any(directions) else ()
