"""A portfolio in memory: identifiers, columns and profiles of a fleet, changed as a whole, copied for a plan."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

import numpy as np

from evflex.engine.dispatch.model import Fleet
from evflex.server.dispatch.fleet_columns import COLUMN_NAMES, ROW_BYTES, FleetColumns
from evflex.server.dispatch.id_kernels import ByteTable, Rows
from evflex.server.dispatch.id_table import IdTable, id_bytes
from evflex.server.dispatch.profiles import ProfileBook, ProfileRows, profile_bytes

# Room is made for an eighth more than there is.
_SLACK = 8


@dataclass(frozen=True, slots=True)
class PortfolioNames:
    """What a portfolio is called and refers to.

    Attributes:
        tenant_id: Owner.
        portfolio_id: Identifier.
        area_id: Grid area, may be empty.
        currency_code: Currency of all prices.
        groups: Groups that group indices count.
        operators: Operators that operator indices count.
    """

    tenant_id: str
    portfolio_id: str
    area_id: str
    currency_code: str
    groups: tuple[str, ...]
    operators: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """A change that was checked against a version: assets removed first, then added or overwritten.

    Attributes:
        removed: Identifiers of assets that go, (r, width).
        ids: Identifiers of assets that are added or overwritten, (m, width).
        fleet: Their columns, all of them, (m,).
        profiles: New profiles; their `asset` is a row of `profile_ids`.
        profile_ids: Identifiers of the assets that get profiles.
        added_groups: Groups that are added.
        added_operators: Operators that are added.
    """

    removed: ByteTable
    ids: ByteTable
    fleet: Fleet
    profiles: tuple[ProfileRows, ...]
    profile_ids: ByteTable
    added_groups: tuple[str, ...]
    added_operators: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing changes."""
        return not (len(self.removed) or len(self.ids) or self.profiles or self.added_groups or self.added_operators)

    @property
    def profile_bytes(self) -> int:
        """Memory that its profiles take, about."""
        return sum(len(rows.asset) * profile_bytes(rows.grid.step_count) for rows in self.profiles)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A version of a portfolio that nothing changes any more."""

    version: int
    names: PortfolioNames
    ids: ByteTable
    fleet: Fleet
    profiles: tuple[ProfileRows, ...]


class Portfolio:
    """A fleet in memory.

    `lock` guards what is in memory, for moments. `writer` is held from the check of a change until it is in memory,
    over the time that it takes to store it, so that what was checked is still true.
    """

    def __init__(self, names: PortfolioNames, version: int = 1) -> None:
        """Hold no assets yet."""
        self.names = names
        self.version = version
        self.ids = IdTable()
        self.columns = FleetColumns()
        self.profiles = ProfileBook()
        self.lock = threading.Lock()
        self.writer = threading.Lock()

    @property
    def asset_count(self) -> int:
        """Number of assets."""
        return self.ids.count

    @property
    def resident_bytes(self) -> int:
        """Memory taken."""
        return self.ids.nbytes + self.columns.nbytes + self.profiles.nbytes

    def reserve(self, asset_count: int, id_width: int) -> None:
        """Make room for exactly so many assets, so that adding them cannot fail."""
        self.columns.reserve(asset_count)
        self.ids.reserve(asset_count, id_width)

    def make_room(self, added: int, id_width: int) -> None:
        """Make room for more assets, and some to spare where there was too little."""
        needed = self.asset_count + added
        if needed > self.columns.capacity:
            needed = max(needed, self.columns.capacity + self.columns.capacity // _SLACK)
        self.reserve(needed, id_width)

    def add(self, ids: ByteTable, fleet: Fleet) -> Rows:
        """Append assets, for which there is room; see :meth:`IdTable.add` for what is returned."""
        self.columns.add(fleet)
        return self.ids.add(ids)

    def prepare(self, change: Change) -> None:
        """Make room for a change, so that :meth:`apply` cannot fail."""
        with self.lock:
            # an asset that is removed and comes back is new
            added = len(change.ids) if len(change.removed) else int((self.ids.find(change.ids) < 0).sum())
            self.make_room(added, change.ids.shape[1])
            for rows in change.profiles:
                self.profiles.reserve(rows.grid, len(rows.asset))

    def apply(self, change: Change, version: int) -> None:
        """Take a change over; there must be room for it."""
        with self.lock:
            self._remove(change.removed)
            rows = self.ids.find(change.ids)
            known = rows >= 0
            self.columns.put(rows[known], change.fleet.take(np.flatnonzero(known)))
            self.add(change.ids[~known], change.fleet.take(np.flatnonzero(~known)))
            assets = self.ids.find(change.profile_ids)
            for profiles in change.profiles:
                self.profiles.set(ProfileRows(profiles.grid, assets[profiles.asset], profiles.power_kw))
            self.names = self.names_after(change)
            self.version = version

    def name(self, portfolio_id: str) -> None:
        """Take the identifier that the store has given."""
        self.names = replace(self.names, portfolio_id=portfolio_id)

    def names_after(self, change: Change) -> PortfolioNames:
        """Names once a change has been applied."""
        names = self.names
        return replace(
            names, groups=names.groups + change.added_groups, operators=names.operators + change.added_operators
        )

    def profile_count_after(self, change: Change) -> int:
        """Assets with a profile once a change has been applied."""
        gone = {row for row in self.ids.find(change.removed).tolist() if row in self.profiles}
        rows = self.ids.find(change.profile_ids).tolist()
        added: int = sum(row < 0 or row in gone or row not in self.profiles for row in rows)
        return len(self.profiles) - len(gone) + added

    def added_bytes(self, change: Change) -> int:
        """Memory that making room for a change takes at most."""
        count = self.asset_count + len(change.ids)
        if count > self.columns.capacity or change.ids.shape[1] > self.ids.ids.shape[1]:
            count = max(count, self.columns.capacity + self.columns.capacity // _SLACK)
            width = max(change.ids.shape[1], self.ids.ids.shape[1])
            return max(0, fleet_bytes(count, width) - self.ids.nbytes - self.columns.nbytes) + change.profile_bytes
        return change.profile_bytes

    def take_over(self, other: Portfolio) -> None:
        """Become what another is, which nobody else holds."""
        with self.lock:
            self.names, self.version = other.names, other.version
            self.ids, self.columns, self.profiles = other.ids, other.columns, other.profiles

    def unshared(self) -> Snapshot:
        """The present version without a copy, for who alone holds the portfolio."""
        columns = {name: self.columns.column(name) for name in COLUMN_NAMES}
        fleet = Fleet(**columns)  # type: ignore[arg-type]
        return Snapshot(self.version, self.names, self.ids.ids, fleet, tuple(self.profiles.rows()))

    def snapshot(self) -> Snapshot:
        """The present version, copied."""
        with self.lock:
            return Snapshot(
                self.version, self.names, self.ids.ids.copy(), self.columns.fleet(), tuple(self.profiles.rows())
            )

    def _remove(self, removed: ByteTable) -> None:
        if not len(removed):
            return
        rows = np.sort(self.ids.find(removed))[::-1].copy()
        if len(self.profiles):
            for row in rows.tolist():
                self.profiles.drop(row)
        targets, sources = self.ids.remove(rows)
        self.columns.remove(targets, sources)
        if len(self.profiles):
            for target, source in zip(targets.tolist(), sources.tolist(), strict=True):
                if target != source:
                    self.profiles.move(target, source)


def fleet_bytes(asset_count: int, id_width: int) -> int:
    """Memory that so many assets take without profiles and slack."""
    return ROW_BYTES * asset_count + id_bytes(asset_count, id_width)
