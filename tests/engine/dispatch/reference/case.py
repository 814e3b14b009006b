"""A dispatch problem as checker and reference model read it: what each asset may do, and what is asked of all."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evflex.engine.dispatch.model import AssetKind, DispatchProblem, Fleet, LimitScope, PortfolioLimit

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_TIME_TOLERANCE_S = 1e-6
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Assets:
    """What some assets may do, m of them: power = base + charge - discharge, and the state that follows from it.

    Attributes:
        rows: Rows of the fleet, (m,).
        base_kw: What a heat pump would draw, 0 for others, (m, T).
        share: Share of each step in which an asset may act, (m, T); upward reserve ends it earlier.
        charge_most_kw: Upper bound of charging, (m, T).
        charge_least_kw: Least charging other than none, (m, T).
        discharge_most_kw: Upper bound of discharging, (m, T).
        has_state: Everything but PV, (m,).
        state_low_kwh: Lower bound of the state, (m,).
        state_high_kwh: Upper bound of the state, (m,).
        needed_kwh: Wanted state at the end, (m,).
        shortfall_price_per_kwh: With the default filled in, (m,).
        value_per_kwh: Worth of what exceeds the need, (m,).
        charge_efficiency: (m,).
        discharge_efficiency: (m,).
        wear_per_kwh: For each kWh injected, (m,).
        takes_up: Takes part in upward reserve, (m,).
        takes_down: Takes part in downward reserve, (m,).
    """

    rows: IntArray
    base_kw: FloatArray
    share: FloatArray
    charge_most_kw: FloatArray
    charge_least_kw: FloatArray
    discharge_most_kw: FloatArray
    has_state: BoolArray
    state_low_kwh: FloatArray
    state_high_kwh: FloatArray
    needed_kwh: FloatArray
    shortfall_price_per_kwh: FloatArray
    value_per_kwh: FloatArray
    charge_efficiency: FloatArray
    discharge_efficiency: FloatArray
    wear_per_kwh: FloatArray
    takes_up: BoolArray
    takes_down: BoolArray

    def state_kwh(self, power_kw: FloatArray, step_h: float) -> FloatArray:
        """State after each step, (m, T); zeros for PV."""
        moved = power_kw - self.base_kw
        gain = np.maximum(moved, 0.0) * self.charge_efficiency[:, None]
        loss = np.maximum(-moved, 0.0) / self.discharge_efficiency[:, None]
        state: FloatArray = np.cumsum((gain - loss) * step_h, axis=1)
        state[~self.has_state] = 0.0
        return state


class Case:
    """Everything that follows from a problem without a decision."""

    def __init__(self, problem: DispatchProblem) -> None:
        self.problem = problem
        grid, fleet = problem.grid, problem.fleet
        self.count, self.steps = len(fleet), grid.step_count
        self.step_s, self.dt = grid.step_s, grid.step_s / 3600.0
        self.start = grid.start_unix_s
        prices = [np.abs(problem.import_price_per_kwh), np.abs(problem.export_price_per_kwh)]
        prices += [fleet.energy_value_per_kwh, np.array([0.01])]
        self.dearest_price = float(max(values.max() for values in prices if values.size))
        self.default_shortfall_price = 10.0 * self.dearest_price
        self.reserve_price = 5.0 * self.dearest_price
        endurance_s = max((reserve.endurance_s for reserve in problem.reserves), default=0.0)
        self.call_steps = max(1, math.ceil(endurance_s / self.step_s - _ROUNDING))
        count = len(problem.reserves)
        self.sold_up_kw = np.array([reserve.up_kw for reserve in problem.reserves]).reshape(count, self.steps)
        self.sold_down_kw = np.array([reserve.down_kw for reserve in problem.reserves]).reshape(count, self.steps)
        self.up_kw = self._held(self.sold_up_kw.sum(axis=0))
        self.down_kw = self._held(self.sold_down_kw.sum(axis=0))
        profiles = np.full(self.count, -1)
        profiles[problem.profiles.asset] = np.arange(len(problem.profiles.asset))
        self._profile_of = profiles

    def starts(self, step: int) -> range:
        """Steps in which a call may begin that still runs in ``step``."""
        return range(max(0, step - self.call_steps + 1), step + 1)

    def _held(self, sold_kw: FloatArray) -> FloatArray:
        return np.array([max(sold_kw[j] for j in self.starts(k)) for k in range(self.steps)])

    def members(self, limit: PortfolioLimit, rows: IntArray) -> BoolArray:
        """Whose powers a limit adds up, (m,)."""
        fleet = self.problem.fleet
        if limit.scope == LimitScope.FLEET:
            return np.ones(len(rows), dtype=bool)
        index = fleet.group_index if limit.scope == LimitScope.GROUP else fleet.operator_index
        return index[rows] == limit.index

    def share_of_steps(self, begin_unix_s: FloatArray, until_unix_s: FloatArray) -> FloatArray:
        """Share of each step within a window, (m, T)."""
        edges = self.start + self.step_s * np.arange(self.steps + 1)
        begin = np.maximum(edges[:-1], begin_unix_s[:, None])
        until = np.minimum(edges[1:], until_unix_s[:, None])
        seconds = until - begin
        seconds[seconds < _TIME_TOLERANCE_S] = 0.0
        seconds[seconds > self.step_s - _TIME_TOLERANCE_S] = self.step_s
        return np.asarray(seconds / self.step_s)

    def all_assets(self) -> Assets:
        """The whole fleet."""
        return self.assets(np.arange(self.count))

    def assets(self, rows: IntArray) -> Assets:
        """What some assets may do."""
        fleet = self.problem.fleet.take(rows)
        kind = fleet.kind
        is_pv, is_pump = kind == AssetKind.PV, kind == AssetKind.HEAT_PUMP
        profile, given = self._profiles(rows)
        needed, headroom = self._wishes(fleet, profile, given)
        discharge_kw = np.where(kind == AssetKind.FLEXIBLE_LOAD, 0.0, fleet.max_discharge_kw)
        begin = fleet.available_from_unix_s.astype(float)
        until = fleet.available_until_unix_s.astype(float)
        share = self.share_of_steps(begin, until)
        call_h = self.call_steps * self.dt

        may = np.isin(kind, [AssetKind.EV, AssetKind.BATTERY, AssetKind.FLEXIBLE_LOAD])
        taken = call_h * discharge_kw / fleet.discharge_efficiency
        ready = self._ready_unix_s(fleet, discharge_kw, until)
        shorter = self.share_of_steps(begin, ready)
        chargeable = shorter.sum(axis=1) * self.dt * fleet.max_charge_kw * fleet.charge_efficiency
        takes_up = may & np.isfinite(ready) & (share[:, self.up_kw > 0.0] > 0.0).any(axis=1)
        takes_up &= (needed <= chargeable + _ROUNDING) & (taken <= fleet.energy_available_kwh + _ROUNDING)
        given_back = call_h * fleet.max_charge_kw * fleet.charge_efficiency
        takes_down = may & (share[:, self.down_kw > 0.0] > 0.0).any(axis=1)
        takes_down &= headroom - given_back >= needed - _ROUNDING
        share = np.where(takes_up[:, None], shorter, share)

        produced = np.where(given[:, None], -profile, fleet.max_discharge_kw[:, None])
        capped = np.where(fleet.max_discharge_kw > 0.0, fleet.max_discharge_kw, np.inf)
        produced = share * np.minimum(produced, capped[:, None])
        base = np.where(is_pump[:, None], share * profile, 0.0)
        charge_most = np.maximum(share * fleet.max_charge_kw[:, None], base) - base
        discharge_most = share * discharge_kw[:, None]
        discharge_most = np.where(is_pump[:, None], base, np.where(is_pv[:, None], produced, discharge_most))
        price = fleet.shortfall_price_per_kwh
        return Assets(
            rows=rows,
            base_kw=base,
            share=share,
            charge_most_kw=np.where(is_pv[:, None], 0.0, charge_most),
            charge_least_kw=share * np.where(kind == AssetKind.EV, fleet.min_charge_kw, 0.0)[:, None],
            discharge_most_kw=discharge_most,
            has_state=~is_pv,
            state_low_kwh=np.minimum(np.where(takes_up, taken, 0.0) - fleet.energy_available_kwh, 0.0),
            state_high_kwh=np.maximum(headroom - np.where(takes_down, given_back, 0.0), needed),
            needed_kwh=needed,
            shortfall_price_per_kwh=np.where(np.isnan(price), self.default_shortfall_price, price),
            value_per_kwh=np.where(is_pv, 0.0, fleet.energy_value_per_kwh),
            charge_efficiency=fleet.charge_efficiency,
            discharge_efficiency=fleet.discharge_efficiency,
            wear_per_kwh=fleet.discharge_cost_per_kwh,
            takes_up=takes_up,
            takes_down=takes_down,
        )

    def _profiles(self, rows: IntArray) -> tuple[FloatArray, BoolArray]:
        at = self._profile_of[rows]
        given = at >= 0
        profile = np.zeros((len(rows), self.steps))
        profile[given] = self.problem.profiles.power_kw[at[given]]
        return profile, given

    def _wishes(self, fleet: Fleet, profile: FloatArray, given: BoolArray) -> tuple[FloatArray, FloatArray]:
        """Needed energy and headroom; a flexible load without a need wants what its profile draws."""
        by_profile = (fleet.kind == AssetKind.FLEXIBLE_LOAD) & (fleet.energy_needed_kwh == 0.0) & given
        needed = np.where(by_profile, profile.sum(axis=1) * self.dt, fleet.energy_needed_kwh)
        needed = np.where(fleet.kind == AssetKind.PV, 0.0, needed)
        return needed, np.where(by_profile, np.maximum(fleet.energy_headroom_kwh, needed), fleet.energy_headroom_kwh)

    def _ready_unix_s(self, fleet: Fleet, discharge_kw: FloatArray, until: FloatArray) -> FloatArray:
        """When an asset is ready that takes part upward: M steps before it leaves; -inf where it cannot recharge."""
        recharge_kw = fleet.charge_efficiency * fleet.discharge_efficiency * fleet.max_charge_kw
        ratio = np.full(len(until), np.inf)
        np.divide(discharge_kw, recharge_kw, out=ratio, where=recharge_kw > 0.0)
        ratio[discharge_kw == 0.0] = 0.0
        steps = np.ceil(self.call_steps * (1.0 + ratio) - _ROUNDING)
        return np.asarray(until - steps * self.step_s)
