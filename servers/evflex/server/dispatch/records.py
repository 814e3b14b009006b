"""Portfolios and changes as binaries of the store, and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from evflex.engine.dispatch.model import Fleet
from evflex.engine.timegrid import TimeGrid
from evflex.server.dispatch.fleet_columns import COLUMN_NAMES
from evflex.server.dispatch.portfolio import Change, Portfolio, PortfolioNames, Snapshot
from evflex.server.dispatch.profiles import ProfileRows
from evflex.server.store.arrays import Array, pack_arrays, unpack_arrays

BLOCK_ASSETS = 65_536
_BLOCK_CELLS = 1 << 20


def snapshot_blocks(snapshot: Snapshot) -> Iterator[bytes]:
    """A version of a portfolio as blocks: names, then assets, then profiles."""
    names = snapshot.names
    yield pack_arrays({"names": _text([list(names.groups), list(names.operators)])})
    for first in range(0, len(snapshot.ids), BLOCK_ASSETS):
        rows = slice(first, first + BLOCK_ASSETS)
        yield pack_arrays({"ids": snapshot.ids[rows], **_columns(snapshot.fleet.take(rows))})
    for profiles in snapshot.profiles:
        for part in _parts(profiles):
            yield pack_arrays(_profile_arrays("", part))


def read_snapshot(names: PortfolioNames, version: int, asset_count: int, blocks: Iterable[bytes]) -> Portfolio:
    """The portfolio that :func:`snapshot_blocks` wrote; `names` give what is not among the blocks."""
    portfolio = Portfolio(names, version)
    for block in blocks:
        arrays = unpack_arrays(block)
        if "names" in arrays:
            groups, operators = _read_text(arrays["names"])
            portfolio.names = PortfolioNames(
                names.tenant_id, names.portfolio_id, names.area_id, names.currency_code, tuple(groups), tuple(operators)
            )
        elif "ids" in arrays:
            ids = arrays.pop("ids").astype(np.uint8)
            portfolio.reserve(max(asset_count, portfolio.asset_count + len(ids)), ids.shape[1])
            portfolio.add(ids, Fleet(**arrays))  # type: ignore[arg-type]
        else:
            portfolio.profiles.set(_read_profile(arrays, ""))
    return portfolio


def change_parts(change: Change) -> Iterator[bytes]:
    """A change as parts to be applied one after another."""
    nothing = np.empty((0, 1), dtype=np.uint8)
    count = len(change.ids)
    head = {"removed": change.removed, "names": _text([list(change.added_groups), list(change.added_operators)])}
    for first in range(0, max(1, count), BLOCK_ASSETS):
        rows = slice(first, first + BLOCK_ASSETS)
        arrays: dict[str, Array] = {"ids": change.ids[rows], **_columns(change.fleet.take(rows))}
        arrays |= head if first == 0 else {"removed": nothing, "names": _text([[], []])}
        if first + BLOCK_ASSETS >= count:
            arrays["profile_ids"] = change.profile_ids
            for k, profiles in enumerate(change.profiles):
                arrays |= _profile_arrays(f"{k}.", profiles)
        yield pack_arrays(arrays)


def read_change(part: bytes) -> Change:
    """A part of a change."""
    arrays = unpack_arrays(part)
    groups, operators = _read_text(arrays["names"])
    profiles: list[ProfileRows] = []
    while f"{len(profiles)}.grid" in arrays:
        profiles.append(_read_profile(arrays, f"{len(profiles)}."))
    return Change(
        removed=arrays["removed"].astype(np.uint8),
        ids=arrays["ids"].astype(np.uint8),
        fleet=Fleet(**{name: arrays[name] for name in COLUMN_NAMES}),  # type: ignore[arg-type]
        profiles=tuple(profiles),
        profile_ids=arrays.get("profile_ids", np.empty((0, 1), dtype=np.uint8)).astype(np.uint8),
        added_groups=tuple(groups),
        added_operators=tuple(operators),
    )


def _columns(fleet: Fleet) -> dict[str, Array]:
    return {name: getattr(fleet, name) for name in COLUMN_NAMES}


def _parts(profiles: ProfileRows) -> Iterator[ProfileRows]:
    rows_per_part = max(1, _BLOCK_CELLS // profiles.grid.step_count)
    for first in range(0, len(profiles.asset), rows_per_part):
        rows = slice(first, first + rows_per_part)
        yield ProfileRows(profiles.grid, profiles.asset[rows], profiles.power_kw[rows])


def _profile_arrays(prefix: str, profiles: ProfileRows) -> dict[str, Array]:
    grid = profiles.grid
    return {
        f"{prefix}grid": np.array([grid.start_unix_s, grid.step_s, grid.step_count]),
        f"{prefix}asset": profiles.asset,
        f"{prefix}power_kw": profiles.power_kw,
    }


def _read_profile(arrays: dict[str, Array], prefix: str) -> ProfileRows:
    start_unix_s, step_s, step_count = arrays[f"{prefix}grid"].astype(np.float64).tolist()
    grid = TimeGrid(start_unix_s, step_s, int(step_count))
    asset = arrays[f"{prefix}asset"].astype(np.int64)
    return ProfileRows(grid, asset, arrays[f"{prefix}power_kw"].astype(np.float64))


def _text(lists: Sequence[Sequence[str]]) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(lists).encode(), dtype=np.uint8)


def _read_text(array: Array) -> list[list[str]]:
    lists: list[list[str]] = json.loads(array.tobytes())
    return lists
