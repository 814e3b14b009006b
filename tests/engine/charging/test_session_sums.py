"""Kernels over sessions and steps, each beside a slow, obvious twin."""

from __future__ import annotations

import numpy as np
import pytest

from evflex.engine.charging.evaluation import add_starts, sum_sessions
from evflex.engine.charging.feasibility import tidy_powers
from evflex.engine.charging.group_sums import sum_groups

Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def random_power(rng: np.random.Generator, n: int, steps: int) -> Array:
    """Powers of both signs, many of them zero."""
    return np.where(rng.random((n, steps)) < 0.4, 0.0, rng.uniform(-8.0, 11.0, (n, steps)))


@pytest.mark.parametrize("seed", range(20))
def test_energies_of_sessions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, steps = int(rng.integers(0, 6)), int(rng.integers(1, 12))
    power = random_power(rng, n, steps)
    charge, discharge = rng.uniform(0.7, 1.0, n), rng.uniform(0.7, 1.0, n)
    leading = rng.integers(0, steps + 1, n)
    delivered, early, discharged = np.empty(n), np.empty(n), np.empty(n)
    sum_sessions(power, charge, discharge, leading, 0.25, delivered, early, discharged)
    for i in range(n):
        kwh = [0.25 * (p * charge[i] if p > 0 else p / discharge[i]) for p in power[i]]
        assert delivered[i] == pytest.approx(sum(kwh))
        assert early[i] == pytest.approx(sum(kwh[: leading[i]]))
        assert discharged[i] == pytest.approx(0.25 * sum(-p for p in power[i] if p < 0))


@pytest.mark.parametrize("seed", range(20))
def test_starts_of_sessions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, steps = int(rng.integers(0, 6)), int(rng.integers(1, 12))
    power, given = random_power(rng, n, steps), np.maximum(random_power(rng, n, steps), 0.0)
    now = rng.random(n) < 0.5
    starts = np.zeros(n, dtype=np.int64)
    add_starts(power, given, now, starts)
    for i in range(n):
        before = [bool(now[i])] + [power[i, t] > 1e-9 or given[i, t] > 0.0 for t in range(steps - 1)]
        assert starts[i] == sum(power[i, t] > 1e-9 and not before[t] for t in range(steps))


def tidy_power(p: float, f: float, smallest: float, largest: float, quantum: float) -> float:
    """One power as solvers should have left it."""
    size = abs(p)
    if 0.0 < f * smallest - size < 1e-6:
        size = f * smallest
    size = min(size, f * largest)
    if size < 1e-9:
        size = 0.0
    if f * quantum > 0.0 and abs(size / (f * quantum) - round(size / (f * quantum))) < 1e-5:
        size = round(size / (f * quantum)) * f * quantum
    return size if p > 0 else -size


@pytest.mark.parametrize("seed", range(20))
def test_what_solvers_leave_is_tidied(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, steps = 4, 10
    presence = rng.choice([0.0, 0.5, 1.0], (n, steps))
    low, high = rng.uniform(1.0, 3.0, (2, n)), rng.uniform(5.0, 11.0, (2, n))
    quantum = rng.choice([0.0, 0.23], n)
    # around zero, the minimum, the maximum and the quanta
    marks = np.stack([np.zeros(n), low[0], high[0], np.full(n, 17 * 0.23)])
    near = marks[rng.integers(0, 4, (n, steps)), np.arange(n)[:, None]] * presence
    size = np.abs(near + rng.choice([-5e-7, 0.0, 5e-7, 1e-10], (n, steps)))
    power = rng.choice([-1.0, 1.0], (n, steps)) * size
    out = np.empty((n, steps))
    tidy_powers(power, presence, low[0], high[0], low[1], high[1], quantum, out)
    for i in range(n):
        for t in range(steps):
            side = 0 if power[i, t] > 0.0 else 1
            expected = tidy_power(power[i, t], presence[i, t], low[side, i], high[side, i], quantum[i])
            assert out[i, t] == pytest.approx(expected, abs=1e-15)
            assert not np.signbit(out[i, t]) or out[i, t] < 0.0


@pytest.mark.parametrize("seed", range(20))
def test_sums_of_groups(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, steps, groups = int(rng.integers(0, 6)), 5, 3
    power, presence = random_power(rng, n, steps), rng.choice([0.0, 0.5, 1.0], (n, steps))
    power = np.where(presence > 0.0, power, 0.0)
    weight = rng.choice([0.0, 1.0, 1.0 / 3.0], (n, groups))
    session, group = (np.ascontiguousarray(index) for index in np.nonzero(weight))
    start = np.searchsorted(session, np.arange(n + 1))
    total = sum_groups(power, presence, start, group, weight[session, group], groups)
    instantaneous = np.divide(power, presence, out=np.zeros_like(power), where=presence > 0.0)
    assert np.allclose(total, weight.T @ instantaneous)
