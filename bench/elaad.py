"""A fleet drawn from ElaadNL's open distributions of arrival, connection time, energy and power."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from bench.fleets import STEP_S, STEPS, Stays, Variant, problem_of
from bench.instances import FloatArray, data_folder
from evflex.engine.dispatch.model import DispatchProblem

# Share of each kind of place, and its column in the files.
_PLACES = {"private": 0.7, "workplace": 0.2, "public": 0.1}
_POWER_YEAR = "2020"
_LEAST_KW, _MOST_KW = 3.7, 22.0
_LEAST_STAY_S = 3600
_NOON_S, _DAY_S = 43_200, 86_400


def elaad_folder() -> Path:
    """Where the distributions are, if they are."""
    return data_folder() / "ev"


def elaad_problem(count: int, seed: int = 0, variant: Variant | None = None) -> DispatchProblem:
    """Cars as ElaadNL measures them, in the reference's market; windows begin and end within steps."""
    return problem_of(_draw, count, seed, variant or Variant())


def _draw(rng: np.random.Generator, count: int) -> Stays:
    """Arrival, stay, energy and power of each car, independently of each other but for the kind of place."""
    place = rng.choice(len(_PLACES), count, p=list(_PLACES.values()))
    arrival = _table("distribution-of-arrival.csv")
    stay_h = _table("distribution-of-connection-time.csv")
    energy_kwh = _table("distribution-of-energy-demand.csv")
    from_s = np.empty(count, dtype=np.int64)
    stay_s = np.empty(count, dtype=np.int64)
    wished_kwh = np.empty(count)
    for k, name in enumerate(_PLACES):
        rows = np.flatnonzero(place == k)
        from_s[rows] = _arrivals(rng, arrival[name], len(rows))
        stay_s[rows] = (3600.0 * _exceeded(rng, stay_h[name], len(rows))).astype(np.int64)
        wished_kwh[rows] = _exceeded(rng, energy_kwh[name], len(rows))
    power_kw = _exceeded(rng, _table("development-in-power-dem.csv")[_POWER_YEAR], count)
    from_s = np.minimum(from_s, _DAY_S - _LEAST_STAY_S)
    until_s = np.minimum(from_s + np.maximum(stay_s, _LEAST_STAY_S), STEPS * STEP_S)
    return Stays(from_s, until_s, np.clip(power_kw, _LEAST_KW, _MOST_KW), np.maximum(wished_kwh, 0.0))


def _arrivals(rng: np.random.Generator, weight: FloatArray, count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Seconds after noon, from a share of each quarter-hour of the day."""
    quarter = rng.choice(len(weight), count, p=weight / weight.sum())
    since_midnight_s = STEP_S * quarter + rng.integers(0, STEP_S, count)
    return ((since_midnight_s - _NOON_S) % _DAY_S).astype(np.int64)


def _exceeded(rng: np.random.Generator, values: FloatArray, count: int) -> FloatArray:
    """Draws from a curve that says what value 0, 1, … 100 % of the events exceed."""
    return np.interp(rng.uniform(0.0, 100.0, count), np.arange(len(values)), values)


def _table(name: str) -> dict[str, FloatArray]:
    """Columns of numbers by header, in the order of the first column; an empty cell is 0."""
    with (elaad_folder() / name).open(encoding="utf-8-sig", newline="") as file:
        header, *rows = list(csv.reader(file))
    # times of day sort as text, percentages as numbers
    rows.sort(key=lambda row: (0.0, row[0]) if ":" in row[0] else (float(row[0]), ""))
    return {title: np.array([float(row[k] or 0.0) for row in rows]) for k, title in enumerate(header) if k > 0}
