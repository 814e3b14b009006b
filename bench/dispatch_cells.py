"""What both halves of the dispatch peer need: cells of presence, and who takes part in reserves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bench.instances import FloatArray, IntArray
from evflex.engine.dispatch.model import DispatchProblem, Fleet

_DEAREST_FLOOR = 0.01


@dataclass(frozen=True, slots=True)
class Cells:
    """Asset, step and share of presence of each cell, in the order of assets and steps.

    Attributes:
        first: First cell of each asset. Shape (n,).
        count: Cells of each asset. Shape (n,).
    """

    asset: IntArray
    step: IntArray
    ratio: FloatArray
    first: IntArray
    count: IntArray

    @classmethod
    def of(cls, problem: DispatchProblem, until_unix_s: IntArray) -> Cells:
        grid = problem.grid
        begin = np.clip((problem.fleet.available_from_unix_s - grid.start_unix_s) / grid.step_s, 0, grid.step_count)
        end = np.clip((until_unix_s - grid.start_unix_s) / grid.step_s, 0, grid.step_count)
        end = np.maximum(begin, end)
        low = np.floor(begin).astype(np.int64)
        count = np.where(end > begin, np.ceil(end).astype(np.int64) - low, 0)
        first = np.cumsum(count) - count
        asset = np.repeat(np.arange(len(count)), count)
        step = np.arange(len(asset)) - first[asset] + low[asset]
        ratio = np.minimum(end[asset], step + 1.0) - np.maximum(begin[asset], step)
        return cls(asset, step, ratio, first, count)


@dataclass(frozen=True, slots=True)
class Participation:
    """Who takes part in reserves, and what the others see of it.

    Attributes:
        fleet: The fleet with its margins of energy.
        until_unix_s: End of charging: an asset that takes part upward is ready that much sooner. Shape (n,).
        up: Takes part upward. Shape (n,).
        down: Takes part downward. Shape (n,).
        up_kw: Wanted in each step. Shape (T,).
        down_kw: Wanted in each step. Shape (T,).
    """

    fleet: Fleet
    until_unix_s: IntArray
    up: NDArray[np.bool_]
    down: NDArray[np.bool_]
    up_kw: FloatArray
    down_kw: FloatArray

    @classmethod
    def of(cls, problem: DispatchProblem) -> Participation:
        """By the rules of reserves in `docs/dispatch.md`."""
        fleet, grid = problem.fleet, problem.grid
        until = fleet.available_until_unix_s
        nobody = np.zeros(len(fleet), dtype=np.bool_)
        none_kw = np.zeros(grid.step_count)
        endurance_s = max((reserve.endurance_s for reserve in problem.reserves), default=0.0)
        n = math.ceil(endurance_s / grid.step_s)
        if n == 0:
            return cls(fleet, until, nobody, nobody, none_kw, none_kw)
        up_kw, down_kw = _held([r.up_kw for r in problem.reserves], n), _held([r.down_kw for r in problem.reserves], n)
        held_h = n * grid.step_h
        with np.errstate(divide="ignore", invalid="ignore"):
            recharge = fleet.max_discharge_kw / (
                fleet.charge_efficiency * fleet.discharge_efficiency * fleet.max_charge_kw
            )
            sooner_s = grid.step_s * np.ceil(n * (1.0 + recharge))
        ready = np.where(np.isfinite(sooner_s), until - sooner_s, -np.inf)
        stay_h = (
            np.minimum(ready, grid.end_unix_s) - np.maximum(fleet.available_from_unix_s, grid.start_unix_s)
        ) / 3600.0
        fits = fleet.energy_needed_kwh <= stay_h * fleet.max_charge_kw * fleet.charge_efficiency + 1e-9
        below = held_h * fleet.max_discharge_kw / fleet.discharge_efficiency
        above = held_h * fleet.max_charge_kw * fleet.charge_efficiency
        up = _present(problem, up_kw) & fits & (stay_h > 0.0) & (fleet.energy_available_kwh >= below)
        down = _present(problem, down_kw) & (fleet.energy_headroom_kwh - above >= fleet.energy_needed_kwh)
        margins = replace(
            fleet,
            energy_available_kwh=fleet.energy_available_kwh - np.where(up, below, 0.0),
            energy_headroom_kwh=fleet.energy_headroom_kwh - np.where(down, above, 0.0),
        )
        return cls(margins, np.where(up, ready, until).astype(np.int64), up, down, up_kw, down_kw)


def _held(asked_kw: Sequence[FloatArray], steps: int) -> FloatArray:
    """Largest sum of the starts from which a call still runs in each step."""
    total = np.sum(asked_kw, axis=0)
    padded = np.concatenate([np.zeros(steps - 1), total])
    held: FloatArray = np.lib.stride_tricks.sliding_window_view(padded, steps).max(axis=1)
    return held


def _present(problem: DispatchProblem, asked_kw: FloatArray) -> NDArray[np.bool_]:
    """Assets that are available in a step that is asked for."""
    cells = Cells.of(problem, problem.fleet.available_until_unix_s)
    steps = np.bincount(cells.asset, weights=asked_kw[cells.step] > 0.0, minlength=len(problem.fleet))
    return steps > 0.0


def dearest_price(problem: DispatchProblem) -> float:
    """The plan's dearest price."""
    prices = [np.abs(problem.import_price_per_kwh), np.abs(problem.export_price_per_kwh)]
    prices.append(problem.fleet.energy_value_per_kwh)
    return max([_DEAREST_FLOOR, *(float(values.max()) for values in prices if len(values))])
