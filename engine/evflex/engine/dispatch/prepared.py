"""A problem as it is planned: what its assets want, when they are there and what they share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evflex.engine.dispatch.assets import Windows, present_shares, wished
from evflex.engine.dispatch.coupling import Coupling, couple
from evflex.engine.dispatch.model import DispatchProblem, Fleet, Profiles
from evflex.engine.dispatch.prices import Prices
from evflex.engine.dispatch.reserves import hold_reserves
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Prepared:
    """A problem with all that follows from it before anything is decided.

    Attributes:
        problem: What was asked.
        fleet: The fleet with what its kinds, defaults and reserves mean.
        windows: Steps of each asset.
        low_kwh: Lowest state relative to the first level, <= 0, (n,).
        coupling: What assets share.
        prices: Prices without limits.
        present: Assets that have a step, (n,).
    """

    problem: DispatchProblem
    fleet: Fleet
    windows: Windows
    low_kwh: FloatArray
    coupling: Coupling
    prices: Prices
    present: BoolArray


def prepare(problem: DispatchProblem) -> Prepared:
    """What every way to a plan begins with."""
    held = hold_reserves(problem, wished(problem))
    step_h = problem.grid.step_h
    return Prepared(
        problem=problem,
        fleet=held.fleet,
        windows=held.windows,
        low_kwh=held.low_kwh,
        coupling=couple(problem, held.rows),
        prices=Prices(problem.import_price_per_kwh * step_h, problem.export_price_per_kwh * step_h),
        present=held.windows.last > held.windows.first,
    )


def possible_kw(prepared: Prepared, rows: IntArray) -> FloatArray:
    """What generators could produce, >= 0, (m, T)."""
    profiles, steps = prepared.problem.profiles, prepared.problem.grid.step_count
    rated = prepared.fleet.max_discharge_kw[rows]
    possible = np.repeat(rated[:, None], steps, axis=1)
    profile = profile_of(profiles, rows)
    given = profile >= 0
    capped = np.where(rated > 0.0, rated, np.inf)[given, None]
    possible[given] = np.minimum(-profiles.power_kw[profile[given]], capped)
    produced: FloatArray = possible * present_shares(prepared.windows, rows, steps)
    return produced


def profile_of(profiles: Profiles, rows: IntArray) -> IntArray:
    """Row of the profiles of some assets, -1 for none."""
    asset = profiles.asset
    if not len(asset):
        return np.full(len(rows), -1)
    at = np.minimum(np.searchsorted(asset, rows), len(asset) - 1)
    return np.where(asset[at] == rows, at, -1)
