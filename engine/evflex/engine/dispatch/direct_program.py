"""A small portfolio as one linear or mixed-integer program.

Columns are the charging c and the discharging d of each asset and step, states of assets that discharge, shortfall and
energy above the need of each asset, and power outside of each shared row. Where a step is switched, a binary b decides:

    f·min·b <= c <= C·b,   d <= D·(1 - b)

so that minimum powers hold and nobody charges and discharges at once. Without switches both rules are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evflex.engine.dispatch.assets import present_shares
from evflex.engine.dispatch.model import AssetKind
from evflex.engine.dispatch.prepared import Prepared, possible_kw, profile_of
from evflex.engine.highs import INFINITY, LinearProgram
from evflex.engine.program_builder import Builder
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class PowerBounds:
    """What assets may do in each step, power = base + charging - discharging; (n, T) each.

    Attributes:
        base_kw: What heat pumps would draw, 0 for others.
        charge_kw: Most charging.
        charge_least_kw: Least charging other than none.
        discharge_kw: Most discharging.
    """

    base_kw: FloatArray
    charge_kw: FloatArray
    charge_least_kw: FloatArray
    discharge_kw: FloatArray


def power_bounds(prepared: Prepared) -> PowerBounds:
    """What the assets may do."""
    fleet, profiles, steps = prepared.fleet, prepared.problem.profiles, prepared.problem.grid.step_count
    share = present_shares(prepared.windows, np.arange(len(fleet)), steps)
    base = np.zeros_like(share)
    pumps = np.flatnonzero(fleet.kind == AssetKind.HEAT_PUMP)
    profile = profile_of(profiles, pumps)
    given = pumps[profile >= 0]
    base[given] = share[given] * profiles.power_kw[profile[profile >= 0]]
    charge = np.maximum(share * fleet.max_charge_kw[:, None], base) - base
    discharge = share * fleet.max_discharge_kw[:, None]
    discharge[pumps] = base[pumps]
    generators = np.flatnonzero(fleet.kind == AssetKind.PV)
    charge[generators], discharge[generators] = 0.0, possible_kw(prepared, generators)
    return PowerBounds(base, charge, share * fleet.min_charge_kw[:, None], discharge)


@dataclass(frozen=True, slots=True)
class DirectProgram:
    """A program and where to find things in it; index arrays hold -1 where there is no column or row.

    Attributes:
        program: The model; its objective is the plan's cost less what no plan can change.
        charge: Columns of charging, (n, T).
        discharge: Columns of discharging, (n, T).
        switch: Columns that tell whether an asset charges, (n, T).
        shared_row: Rows of limits and reserves, (L, T).
    """

    program: LinearProgram
    charge: IntArray
    discharge: IntArray
    switch: IntArray
    shared_row: IntArray


def write_program(prepared: Prepared, bounds: PowerBounds, switched: BoolArray) -> DirectProgram:
    """Write a portfolio as a program.

    Args:
        prepared: The portfolio.
        bounds: What its assets may do.
        switched: Where minimum powers hold, and nobody charges and discharges at once, (n, T).
    """
    return _Writer(prepared, bounds).write(switched)


class _Writer:
    """Columns and rows; one method a rule of docs/dispatch.md."""

    def __init__(self, prepared: Prepared, bounds: PowerBounds) -> None:
        self.prepared, self.bounds, self.model = prepared, bounds, Builder()
        self.step_h = prepared.problem.grid.step_h

    def write(self, switched: BoolArray) -> DirectProgram:
        self._add_powers()
        self._add_energies()
        rows = self._add_shared_rows()
        switch = self._add_switches(switched)
        return DirectProgram(self.model.build(), self.charge, self.discharge, switch, rows)

    def _add_powers(self) -> None:
        """0 <= c, d <= their most; a heat pump that draws less than its profile saves import."""
        prices, fleet, shape = self.prepared.prices, self.prepared.fleet, self.bounds.charge_kw.shape
        draw = np.broadcast_to(prices.draw, shape)
        wear = fleet.discharge_cost_per_kwh[:, None] * self.step_h
        pump = (fleet.kind == AssetKind.HEAT_PUMP)[:, None]
        self.charge = self._power_columns(draw, self.bounds.charge_kw)
        self.discharge = self._power_columns(np.where(pump, -draw, wear - prices.inject), self.bounds.discharge_kw)

    def _power_columns(self, cost: FloatArray, most_kw: FloatArray) -> IntArray:
        columns = np.full(most_kw.shape, -1)
        some = most_kw > 0.0
        columns[some] = self.model.add_columns(int(some.sum()), 0.0, most_kw[some], cost[some])
        return columns

    def _add_energies(self) -> None:
        """State within its bounds, and at the end need - shortfall + extra; who only charges needs the end alone."""
        fleet, model = self.prepared.fleet, self.model
        stored = self.prepared.present & (fleet.kind != AssetKind.PV)
        assets = np.flatnonzero(stored)
        need, count = fleet.energy_needed_kwh[assets], len(assets)
        short = model.add_columns(count, 0.0, INFINITY, fleet.shortfall_price_per_kwh[assets])
        room = fleet.energy_headroom_kwh[assets] - need
        extra = model.add_columns(count, 0.0, room, -fleet.energy_value_per_kwh[assets])
        end = np.full(len(fleet), -1)
        end[assets] = model.add_rows(count, need, need)
        model.put(end[assets], short, 1.0)
        model.put(end[assets], extra, -1.0)
        falls = (self.discharge >= 0).any(axis=1)
        who, step = np.nonzero((self.charge >= 0) & (stored & ~falls)[:, None])
        model.put(end[who], self.charge[who, step], fleet.charge_efficiency[who] * self.step_h)
        self._add_states(stored & falls, end)

    def _add_states(self, stores: BoolArray, end: IntArray) -> None:
        """A state for each step in which a store may do something."""
        fleet, model = self.prepared.fleet, self.model
        who, step = np.nonzero(((self.charge >= 0) | (self.discharge >= 0)) & stores[:, None])
        low, high = self.prepared.low_kwh[who], fleet.energy_headroom_kwh[who]
        state = model.add_columns(len(who), low, high)
        balance = model.add_rows(len(who), 0.0, 0.0)
        model.put(balance, state, 1.0)
        follows = np.flatnonzero(who[1:] == who[:-1]) + 1
        model.put(balance[follows], state[follows - 1], -1.0)
        for columns, gained_kwh in (
            (self.charge[who, step], fleet.charge_efficiency[who] * self.step_h),
            (self.discharge[who, step], -self.step_h / fleet.discharge_efficiency[who]),
        ):
            some = columns >= 0
            model.put(balance[some], columns[some], -gained_kwh[some])
        last = np.flatnonzero(np.append(who[1:] != who[:-1], np.ones(min(len(who), 1), dtype=bool)))
        model.put(end[who[last]], state[last], 1.0)

    def _add_shared_rows(self) -> IntArray:
        """Lower <= sum - above + below <= upper, where there is a bound; violation at its price."""
        coupling, model = self.prepared.coupling, self.model
        counted = coupling.member[coupling.signature]
        base = counted.astype(np.float64).T @ self.bounds.base_kw
        lower, upper = coupling.lower_kw - base, coupling.upper_kw - base
        rows = np.full(lower.shape, -1)
        limited = np.isfinite(lower) | np.isfinite(upper)
        rows[limited] = model.add_rows(int(limited.sum()), lower[limited], upper[limited])
        price = np.broadcast_to(coupling.violation_price[:, None], lower.shape)
        for some, sign in ((np.isfinite(upper), -1.0), (np.isfinite(lower), 1.0)):
            model.put(rows[some], model.add_columns(int(some.sum()), 0.0, INFINITY, price[some]), sign)
        for columns, sign in ((self.charge, 1.0), (self.discharge, -1.0)):
            who, step = np.nonzero(columns >= 0)
            entry, row = np.nonzero(counted[who])
            at = rows[row, step[entry]]
            some = at >= 0
            model.put(at[some], columns[who, step][entry[some]], sign)
        return rows

    def _add_switches(self, switched: BoolArray) -> IntArray:
        """f·min·b <= c <= C·b and d <= D·(1 - b)."""
        bounds, model = self.bounds, self.model
        columns = np.full(switched.shape, -1)
        who, step = np.nonzero(switched)
        switch = columns[who, step] = model.add_columns(len(who), 0.0, 1.0, integer=True)
        charge, discharge = self.charge[who, step], self.discharge[who, step]
        for bound_kw, lower, upper in ((bounds.charge_kw, -INFINITY, 0.0), (bounds.charge_least_kw, 0.0, INFINITY)):
            some = bound_kw[who, step] > 0.0
            rows = model.add_rows(int(some.sum()), lower, upper)
            model.put(rows, charge[some], 1.0)
            model.put(rows, switch[some], -bound_kw[who, step][some])
        some = discharge >= 0
        most_kw = bounds.discharge_kw[who, step][some]
        rows = model.add_rows(int(some.sum()), -INFINITY, most_kw)
        model.put(rows, discharge[some], 1.0)
        model.put(rows, switch[some], most_kw)
        return columns
