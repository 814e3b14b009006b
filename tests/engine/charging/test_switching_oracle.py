"""The dynamic program of one session against enumeration of every pattern, and its plans against the rules."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.optimize import linprog

from evflex.engine.charging.switching_oracle import Switched, cheapest_patterns, fill_patterns, plan_costs

STEPS = 7


def session(seed: int, *, quantised: bool, partial: bool, roomy: bool) -> tuple[Switched, np.ndarray]:
    """One session of seven steps, and prices."""
    rng = np.random.default_rng(seed)
    high_kw, low_kw = (7.36, 1.38) if seed % 2 else (11.04, 4.14)
    unit = 0.46 if seed % 2 else 1.38
    presence = np.ones(STEPS)
    if partial:
        presence[[0, -1]] = rng.choice([0.3, 0.5, 0.8], 2)
        unit /= 8
    wanted = float(rng.uniform(0.0, 30.0))
    if quantised:
        unit = 0.69
        high_kw, low_kw = 10.35, 4.14
    most = wanted + (float(rng.uniform(0.5, 9.0)) if roomy else 0.0)
    one = (1,)
    return (
        Switched(
            first=np.zeros(one, dtype=np.int64),
            last=np.full(one, STEPS),
            low=(presence * low_kw)[None, :],
            high=(presence * high_kw)[None, :],
            quantum=(presence * unit)[None, :] if quantised else np.zeros((1, STEPS)),
            before=np.zeros((1, STEPS), dtype=np.bool_),
            must=np.zeros((1, STEPS), dtype=np.bool_),
            wanted=np.array([wanted]),
            most=np.array([most]),
            short_price=np.array([0.5]),
            value=np.array([0.06 if roomy else 0.0]),
            unit=np.array([unit]),
            start_cost=float(rng.choice([0.0, 0.05, 0.4])),
            run_steps=int(rng.integers(1, 4)),
            max_starts=int(rng.integers(0, 3)),
        ),
        rng.uniform(-0.02, 0.2, (1, STEPS)).round(3),
    )


def starts_of(pattern: tuple[int, ...]) -> int:
    return sum(1 for t, on in enumerate(pattern) if on and (t == 0 or not pattern[t - 1]))


def keeps_runs(pattern: tuple[int, ...], run_steps: int) -> bool:
    """No run but one that the departure cuts is shorter than ``run_steps``."""
    run = 0
    for on in pattern:
        if on:
            run += 1
        elif 0 < run < run_steps:
            return False
        else:
            run = 0
    return True


def best_by_enumeration(s: Switched, price: np.ndarray) -> float:
    """Least cost over all patterns, powers by linear (or, with quanta, brute-force) optimisation."""
    best = np.inf
    for pattern in product((0, 1), repeat=STEPS):
        starts = starts_of(pattern)
        if (s.max_starts and starts > s.max_starts) or not keeps_runs(pattern, s.run_steps):
            continue
        on = np.array(pattern, dtype=float)
        # Columns: power of each step, shortfall, surplus.
        cost = np.concatenate([price[0], [s.short_price[0], -s.value[0]]])
        bounds = [(low * o, high * o) for low, high, o in zip(s.low[0], s.high[0], on, strict=True)]
        bounds += [(0.0, s.wanted[0]), (0.0, s.most[0] - s.wanted[0])]
        row = np.concatenate([np.ones(STEPS), [1.0, -1.0]])[None, :]
        answer = linprog(cost, A_eq=row, b_eq=[s.wanted[0]], bounds=bounds)
        if answer.success:
            best = min(best, float(answer.fun or 0.0) + s.start_cost * starts)
    return best


def solve(s: Switched, price: np.ndarray) -> tuple[float, np.ndarray, float]:
    """Value, powers and cost of the oracle's plan."""
    on, value, power = np.zeros((1, STEPS), dtype=np.bool_), np.zeros(1), np.zeros((1, STEPS))
    cheapest_patterns(s, price, on, value)
    fill_patterns(s, price, on, power)
    return float(value[0]), power, float((price * power).sum() + plan_costs(s, power)[0])


@pytest.mark.parametrize("roomy", [False, True])
@pytest.mark.parametrize("seed", range(25))
def test_whole_steps_are_solved_exactly(seed: int, roomy: bool) -> None:
    s, price = session(seed, quantised=False, partial=False, roomy=roomy)
    value, power, cost = solve(s, price)
    assert value == pytest.approx(best_by_enumeration(s, price), abs=1e-7)
    assert cost == pytest.approx(value, abs=1e-7)
    assert ((power == 0.0) | ((power >= s.low - 1e-9) & (power <= s.high + 1e-9))).all()


@pytest.mark.parametrize("roomy", [False, True])
@pytest.mark.parametrize("seed", range(15))
def test_partial_steps_are_bounded_from_below(seed: int, roomy: bool) -> None:
    s, price = session(seed, quantised=False, partial=True, roomy=roomy)
    value, power, cost = solve(s, price)
    best = best_by_enumeration(s, price)
    assert value <= best + 1e-7
    assert cost >= best - 1e-7
    assert ((power == 0.0) | ((power >= s.low - 1e-9) & (power <= s.high + 1e-9))).all()


def best_on_quanta(s: Switched, price: np.ndarray) -> float:
    """Least cost by dynamic programming over whole quanta, without any insight into vertices."""
    unit = s.unit[0]
    levels = [0, *range(round(s.low[0, 0] / unit), round(s.high[0, 0] / unit) + 1)]
    # State: (on, run so far up to run_steps, starts, quanta so far).
    states: dict[tuple[int, int, int], float] = {(0, 0, 0): 0.0}
    for t in range(STEPS):
        ahead: dict[tuple[int, int, int], float] = {}
        for (run, starts, total), c in states.items():
            for level in levels:
                if level == 0:
                    if 0 < run < s.run_steps:
                        continue
                    key, extra = (0, starts, total), 0.0
                else:
                    begun = starts + (run == 0)
                    if s.max_starts and begun > s.max_starts:
                        continue
                    key = (min(run + 1, s.run_steps), begun if s.max_starts else 0, total + level)
                    extra = price[0, t] * level * unit + s.start_cost * (run == 0)
                    if key[2] * unit > s.most[0] + 1e-9:
                        continue
                if c + extra < ahead.get(key, np.inf):
                    ahead[key] = c + extra
        states = ahead
    return min(
        c + s.short_price[0] * max(0.0, s.wanted[0] - total * unit) - s.value[0] * max(0.0, total * unit - s.wanted[0])
        for (_, _, total), c in states.items()
    )


@pytest.mark.parametrize("roomy", [False, True])
@pytest.mark.parametrize("seed", range(15))
def test_quanta_are_solved_exactly(seed: int, roomy: bool) -> None:
    s, price = session(seed, quantised=True, partial=False, roomy=roomy)
    value, power, cost = solve(s, price)
    assert value == pytest.approx(best_on_quanta(s, price), abs=1e-7)
    assert cost == pytest.approx(value, abs=1e-7)
    count = power / s.unit[0]
    assert np.abs(count - np.round(count)).max() < 1e-9
