"""Assets that only charge: random ones, and their cheapest answers to prices, one at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog

from evflex.engine.dispatch.window_assets import WindowTable
from tests.engine.dispatch.reference.case import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class Answer:
    """What one asset draws.

    Attributes:
        power_kw: (T,).
        energy: In kW·steps.
        short_cost: Of what is missing.
        value: Of what exceeds the need.
        shortfall_kwh: Missing.
        cost: At the prices asked, shortfall and value included.
    """

    power_kw: FloatArray
    energy: float
    short_cost: float
    value: float
    shortfall_kwh: float
    cost: float


def random_table(rng: np.random.Generator, count: int, steps: int, windows: int) -> WindowTable:
    """Assets of so many windows, sorted; round numbers, so that ties and exact fits are common."""
    first = rng.integers(0, steps, windows)
    last = np.minimum(first + rng.integers(1, steps + 1, windows), steps)
    of = rng.integers(0, windows, count)
    value = rng.choice([0.0, 0.05, 0.1, 0.2], count)
    order = np.lexsort((value, first[of], last[of]))
    first, last, value = first[of][order], last[of][order], value[order]
    first_ratio = np.where(rng.random(count) < 0.5, 1.0, rng.choice([0.25, 0.1, 0.7], count))
    last_ratio = np.where((rng.random(count) < 0.5) | (last - first == 1), 1.0, rng.choice([0.25, 0.1, 0.7], count))
    power = rng.choice([0.0, 0.1, 1.0, 3.7, 11.0], count, p=[0.1, 0.1, 0.2, 0.3, 0.3])
    most = power * (last - first)
    need = np.where(rng.random(count) < 0.3, power * rng.integers(0, 4, count), most * rng.uniform(0.0, 1.3, count))
    room = need + rng.choice([0.0, 0.0, 1.0, 7.3, 100.0], count)
    return WindowTable(
        first=first.astype(np.int32), last=last.astype(np.int32), first_ratio=first_ratio, last_ratio=last_ratio,
        power=power, need=need, room=room, value=value, short_price=value + rng.choice([0.0, 0.1, 2.0], count),
        kwh=rng.choice([0.25, 0.2], count),
    )  # fmt: skip


def random_prices(rng: np.random.Generator, *shape: int) -> FloatArray:
    """Prices of few digits, some equal to each other and to values of energy."""
    return np.where(rng.random(shape) < 0.3, 0.1, rng.uniform(-0.2, 0.6, shape).round(2))


def shares(table: WindowTable, i: int, steps: int) -> FloatArray:
    """Share of each step in which asset i is available, (T,)."""
    share = np.zeros(steps)
    share[table.first[i] : table.last[i]] = 1.0
    share[table.last[i] - 1] = table.last_ratio[i]
    share[table.first[i]] = table.first_ratio[i]
    return share


def answer(
    table: WindowTable, i: int, price: FloatArray, least_kw: float = 0.0, chosen: BoolArray | None = None
) -> Answer:
    """Fill the cheapest steps first: up to the room where they cost less than the value, else up to the need.

    Args:
        table: Assets.
        i: Which of them.
        price: (T,).
        least_kw: Smallest power in the chosen steps.
        chosen: Steps that may, and then must, be used; None for all of the window, (T,).
    """
    share = shares(table, i, len(price)) * (1.0 if chosen is None else chosen)
    power = least_kw * share
    for step in np.argsort(price, kind="stable"):
        wanted = 0.0
        if price[step] < table.value[i]:
            wanted = float(table.room[i])
        elif price[step] < table.short_price[i]:
            wanted = float(table.need[i])
        power[step] += min(max(wanted - power.sum(), 0.0), (table.power[i] - least_kw) * share[step])
    energy = float(power.sum())
    missing, more = max(float(table.need[i]) - energy, 0.0), max(energy - float(table.need[i]), 0.0)
    short_cost, value = float(table.short_price[i]) * missing, float(table.value[i]) * more
    cost = float(price @ power) + short_cost - value
    return Answer(power, energy, short_cost, value, float(table.kwh[i]) * missing, cost)


def least_cost(
    table: WindowTable, i: int, price: FloatArray, least_kw: float = 0.0, chosen: BoolArray | None = None
) -> float:
    """The same cost by linear programming; infinite where the least powers exceed the room."""
    share = shares(table, i, len(price)) * (1.0 if chosen is None else chosen)
    need, room = float(table.need[i]), float(table.room[i])
    # columns: powers, shortfall, surplus
    bounds = [(least_kw * s, float(table.power[i]) * s) for s in share.tolist()] + [(0.0, np.inf), (0.0, room - need)]
    solved = linprog(
        [*price, float(table.short_price[i]), -float(table.value[i])],
        A_eq=[[*np.ones(len(price)), 1.0, -1.0]], b_eq=[need], bounds=bounds,
    )  # fmt: skip
    return float(solved.fun) if solved.fun is not None else np.inf


def rows_of(table: WindowTable, rows: IntArray) -> WindowTable:
    """Some of the assets."""
    columns = {name: np.ascontiguousarray(column[rows]) for name, column in table._asdict().items()}
    return WindowTable(**columns)
