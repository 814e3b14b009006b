"""From a problem to an oracle: which part of the fleet each asset belongs to, and in which block."""

from __future__ import annotations

import numpy as np

from evflex.engine.dispatch.assets import only_charges
from evflex.engine.dispatch.curtail_part import CurtailPart
from evflex.engine.dispatch.fleet_oracle import FleetOracle
from evflex.engine.dispatch.model import AssetKind, LimitScope
from evflex.engine.dispatch.parts import Part
from evflex.engine.dispatch.prepared import Prepared, possible_kw, profile_of
from evflex.engine.dispatch.slope_trick import COLUMN_COUNT, StoredAssets, take
from evflex.engine.dispatch.storage_oracle import class_order
from evflex.engine.dispatch.storage_part import StoragePart
from evflex.engine.dispatch.window_part import WindowPart
from evflex.engine.supply_tree import IntArray
from evflex.engine.workers import Workers

# Blocks of a part. More of them need fewer rounds, and make the master of each dearer: the oracle of assets that only
# charge is cheap, that of stores is not.
_WINDOW_BLOCKS, _STORAGE_BLOCKS, _BLOCKS_IN_A_GROUP = 16, 48, 4


def build_oracle(prepared: Prepared, workers: Workers) -> FleetOracle:
    """The fleet of a problem in parts."""
    fleet, windows, coupling, present = prepared.fleet, prepared.windows, prepared.coupling, prepared.present
    grid = prepared.problem.grid
    charges = only_charges(fleet)
    pv = fleet.kind == AssetKind.PV
    parts: list[Part] = []
    # vehicles with a minimum are parts of their own, which in_patterns can replace
    minimum = fleet.min_charge_kw > 0.0
    for some in (~minimum, minimum):
        rows = np.flatnonzero(charges & present & some)
        if len(rows):
            parts.append(WindowPart.of(fleet, windows, rows, coupling.signature, grid, _window_blocks(prepared)))
    for some in (~minimum, minimum):
        rows = np.flatnonzero(~charges & ~pv & present & some)
        if len(rows):
            parts.append(_storage_part(prepared, rows))
    rows = np.flatnonzero(pv & present)
    if len(rows):
        wear = fleet.discharge_cost_per_kwh[rows] * grid.step_h
        parts.append(CurtailPart(rows, possible_kw(prepared, rows), wear, coupling.signature[rows]))
    absent = ~present & ~pv
    need_kwh, short_price = fleet.energy_needed_kwh[absent], fleet.shortfall_price_per_kwh[absent]
    return FleetOracle(parts, coupling, prepared.prices, workers, need_kwh, short_price)


def _window_blocks(prepared: Prepared) -> int:
    """Blocks of assets that only charge: several in each group, where limits of all groups hang together."""
    scopes = [limit.scope for limit in prepared.problem.limits]
    groups = max(scopes.count(LimitScope.GROUP), scopes.count(LimitScope.OPERATOR))
    return _BLOCKS_IN_A_GROUP * groups if 0 < groups < len(scopes) else _WINDOW_BLOCKS


def _storage_part(prepared: Prepared, rows: IntArray) -> StoragePart:
    """Assets with a store, sorted into blocks of one signature by the time at which they leave."""
    fleet, windows, profiles = prepared.fleet, prepared.windows, prepared.problem.profiles
    signature = prepared.coupling.signature[rows].astype(np.int64)
    order = np.lexsort((windows.first[rows], windows.last[rows], signature))
    rows, signature = rows[order], signature[order]
    wanted = max(-(-len(rows) // _STORAGE_BLOCKS), 1)
    begins = np.flatnonzero(np.concatenate([[True], signature[1:] != signature[:-1]]))
    within = np.arange(len(rows)) - np.repeat(begins, np.diff(np.append(begins, len(rows))))
    block = np.cumsum(within % wanted == 0) - 1
    pump = fleet.kind[rows] == AssetKind.HEAT_PUMP
    profile = np.where(pump, profile_of(profiles, rows), -1)
    wear = np.where(pump, 0.0, fleet.discharge_cost_per_kwh[rows])
    table = np.empty((len(rows), COLUMN_COUNT))
    columns = (
        fleet.max_charge_kw[rows],
        np.where(pump, 0.0, fleet.max_discharge_kw[rows]),
        fleet.charge_efficiency[rows],
        fleet.discharge_efficiency[rows],
        wear,
        fleet.energy_needed_kwh[rows],
        fleet.energy_headroom_kwh[rows],
        prepared.low_kwh[rows],
        fleet.shortfall_price_per_kwh[rows],
        fleet.energy_value_per_kwh[rows],
    )
    for k, column in enumerate(columns):
        table[:, k] = column
    used = np.unique(profile[profile >= 0])
    place = np.full(len(profiles.asset) + 1, -1, dtype=np.int32)
    place[used] = np.arange(len(used))
    assets = StoredAssets(
        first=windows.first[rows], last=windows.last[rows], first_ratio=windows.first_ratio[rows],
        last_ratio=windows.last_ratio[rows], table=table, profile=place[profile],
        base_kw=np.ascontiguousarray(profiles.power_kw[used]),
    )  # fmt: skip
    # within a block assets of a class lie together, as the oracle wants them
    order = class_order(assets)
    order = order[np.argsort(block[order], kind="stable")]
    rows, assets = rows[order], take(assets, order)
    begin = np.flatnonzero(np.concatenate([[True], block[1:] != block[:-1]]))
    signature = prepared.coupling.signature[rows[begin]].astype(np.int64)
    return StoragePart(
        rows, assets, fleet.min_charge_kw[rows], np.append(begin, len(rows)), signature, prepared.problem.grid.step_h
    )
