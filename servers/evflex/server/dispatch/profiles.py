"""Profiles of a resident fleet: one matrix for all that share a time axis, and where the profile of an asset stands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evflex.engine.timegrid import TimeGrid
from evflex.server.dispatch.id_kernels import Rows

FloatArray = NDArray[np.float64]
# What an entry of the dictionary of places takes, about.
_PLACE_BYTES = 200
# And a matrix, without what it holds.
_TABLE_BYTES = 600
_SLACK = 8


@dataclass(frozen=True, slots=True)
class ProfileRows:
    """Profiles that share a time axis.

    Attributes:
        grid: Their time axis.
        asset: Row of each asset, (k,).
        power_kw: Powers on the axis, (k, steps).
    """

    grid: TimeGrid
    asset: Rows
    power_kw: FloatArray


class ProfileBook:
    """Profiles by the rows of their assets."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._tables: dict[TimeGrid, _Table] = {}
        self._places: dict[int, tuple[TimeGrid, int]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, asset: int) -> bool:
        return asset in self._places

    @property
    def nbytes(self) -> int:
        """Memory taken, about."""
        tables = sum(table.nbytes + _TABLE_BYTES for table in self._tables.values())
        return tables + _PLACE_BYTES * len(self._places)

    def reserve(self, grid: TimeGrid, added: int) -> None:
        """Make room for more profiles of a time axis, so that setting them cannot fail."""
        self._table(grid).reserve(added)

    def set(self, rows: ProfileRows) -> None:
        """Give assets these profiles; the last counts where an asset stands twice."""
        table = self._table(rows.grid)
        table.reserve(len(rows.asset))
        for asset, power_kw in zip(rows.asset.tolist(), rows.power_kw, strict=True):
            place = self._places.get(asset)
            if place is not None and place[0] == rows.grid:
                table.power_kw[place[1]] = power_kw
                continue
            if place is not None:
                self.drop(asset)
            self._places[asset] = (rows.grid, table.add(asset, power_kw))

    def drop(self, asset: int) -> None:
        """Forget the profile of an asset, if it has one."""
        place = self._places.pop(asset, None)
        if place is None:
            return
        grid, row = place
        moved = self._tables[grid].remove(row)
        if moved is not None:
            self._places[moved] = (grid, row)
        if not self._tables[grid].count:
            del self._tables[grid]

    def move(self, target: int, source: int) -> None:
        """Let the profile of `source`, if it has one, be that of `target`, which has none."""
        place = self._places.pop(source, None)
        if place is not None:
            self._places[target] = place
            self._tables[place[0]].asset[place[1]] = target

    def rows(self) -> Iterator[ProfileRows]:
        """All profiles, copied."""
        for grid, table in self._tables.items():
            if table.count:
                yield ProfileRows(grid, table.asset[: table.count].copy(), table.power_kw[: table.count].copy())

    def _table(self, grid: TimeGrid) -> _Table:
        return self._tables.setdefault(grid, _Table(grid.step_count))


class _Table:
    """A matrix of profiles and the rows of their assets."""

    def __init__(self, step_count: int) -> None:
        self.count = 0
        self.asset: Rows = np.empty(0, dtype=np.int64)
        self.power_kw: FloatArray = np.empty((0, step_count))

    @property
    def nbytes(self) -> int:
        return self.asset.nbytes + self.power_kw.nbytes

    def reserve(self, added: int) -> None:
        needed = self.count + added
        if needed <= len(self.asset):
            return
        capacity = max(needed, len(self.asset) + len(self.asset) // _SLACK)
        asset, power_kw = np.empty(capacity, dtype=np.int64), np.empty((capacity, self.power_kw.shape[1]))
        asset[: self.count], power_kw[: self.count] = self.asset[: self.count], self.power_kw[: self.count]
        self.asset, self.power_kw = asset, power_kw

    def add(self, asset: int, power_kw: FloatArray) -> int:
        self.asset[self.count], self.power_kw[self.count] = asset, power_kw
        self.count += 1
        return self.count - 1

    def remove(self, row: int) -> int | None:
        """Replace a row by the last; the asset that moved, None where the last row itself went."""
        self.count -= 1
        if row == self.count:
            return None
        self.asset[row], self.power_kw[row] = self.asset[self.count], self.power_kw[self.count]
        return int(self.asset[row])


def profile_bytes(step_count: int) -> int:
    """Memory that a profile of so many steps takes, about."""
    return 8 * step_count + 8 + _PLACE_BYTES
