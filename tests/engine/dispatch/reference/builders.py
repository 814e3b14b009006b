"""Problems written by hand: times in steps of the grid, everything else as in the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from evflex.engine.dispatch.model import DispatchProblem, Fleet, LimitScope, PortfolioLimit, Profiles, Reserve
from evflex.engine.timegrid import TimeGrid
from tests.engine.dispatch.reference.fleets import START_UNIX_S

Column = float | Sequence[float]


def assets(begin: Sequence[float], until: Sequence[float], *, step_s: float = 3600.0, **columns: Column) -> Fleet:
    """Assets that are available between the given steps (fractions allowed); other columns by their names."""
    given = {name: np.asarray(values, dtype=float) for name, values in columns.items()}
    given["available_from_unix_s"] = np.round(START_UNIX_S + step_s * np.asarray(begin, dtype=float))
    given["available_until_unix_s"] = np.round(START_UNIX_S + step_s * np.asarray(until, dtype=float))
    return Fleet.of(len(begin), given)


def portfolio(
    fleet: Fleet,
    price: Sequence[float],
    *,
    step_s: float = 3600.0,
    export_price: Sequence[float] | None = None,
    profiles: Mapping[int, Sequence[float]] | None = None,
    limits: Sequence[PortfolioLimit] = (),
    reserves: Sequence[Reserve] = (),
    group_count: int = 0,
    operator_count: int = 0,
) -> DispatchProblem:
    """A problem with one price for each step, and profiles by row of the fleet."""
    rows = sorted(profiles or {})
    power = np.array([(profiles or {})[row] for row in rows], dtype=float).reshape(len(rows), len(price))
    return DispatchProblem(
        grid=TimeGrid(float(START_UNIX_S), step_s, len(price)),
        fleet=fleet,
        profiles=Profiles(np.array(rows, dtype=np.int64), power),
        import_price_per_kwh=np.asarray(price, dtype=float),
        export_price_per_kwh=np.asarray(price if export_price is None else export_price, dtype=float),
        limits=tuple(limits),
        reserves=tuple(reserves),
        group_count=group_count,
        operator_count=operator_count,
    )


def limit(
    steps: int,
    *,
    upper: Column = np.inf,
    lower: Column = -np.inf,
    price: float = 2.0,
    scope: LimitScope = LimitScope.FLEET,
    index: int = 0,
) -> PortfolioLimit:
    """A limit, constant or for each step."""
    bounds = np.empty((2, steps))
    bounds[0], bounds[1] = lower, upper
    return PortfolioLimit(scope, index, bounds[0], bounds[1], price)


def target(steps: int, power: Column, *, price: float = 2.0) -> PortfolioLimit:
    """A target of the fleet."""
    return limit(steps, upper=power, lower=power, price=price)


def reserve(steps: int, *, up: Column = 0.0, down: Column = 0.0, endurance_steps: float = 1.0) -> Reserve:
    """Reserve on a grid of hours."""
    sold = np.empty((2, steps))
    sold[0], sold[1] = up, down
    return Reserve(sold[0], sold[1], endurance_steps * 3600.0)
