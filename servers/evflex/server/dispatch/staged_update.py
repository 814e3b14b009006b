"""A change that is coming in: checked as its chunks come, and against the portfolio with the commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evflex.dispatch.v1 import dispatch_service_pb2
from evflex.engine.dispatch.model import Fleet
from evflex.engine.validation import Rules
from evflex.server.dispatch.fleet_columns import COLUMN_NAMES
from evflex.server.dispatch.id_kernels import ByteTable, Rows
from evflex.server.dispatch.id_table import IdTable
from evflex.server.dispatch.memory import Claim
from evflex.server.dispatch.names import check_names
from evflex.server.dispatch.portfolio import Change, Portfolio, fleet_bytes
from evflex.server.dispatch.profile_rules import (
    UNKNOWN_KIND,
    by_grid,
    check_profiles,
    newest_profiles,
    profile_ids,
    profile_sign,
)
from evflex.server.dispatch.profiles import profile_bytes
from evflex.server.dispatch.read_fleet import (
    ReadFleet,
    ReadProfile,
    check_fleet,
    first_of,
    read_fleet,
    read_ids,
    read_profiles,
)
from evflex.server.fields import check_id, check_request_id

_Header = dispatch_service_pb2.UpdatePortfolioHeader
_SLACK = 4
_ONCE = "must come once in a stream"
_NOT_YET = "must not be added or changed by an earlier message of the stream"


@dataclass(frozen=True, slots=True)
class ResolvedChange:
    """A change with all its values, and what it does to the number of assets."""

    change: Change
    added_count: int
    changed_count: int
    removed_count: int


class StagedUpdate:
    """Collects a change without looking at the portfolio, which may change meanwhile."""

    def __init__(self, header: _Header, rules: Rules, claim: Claim) -> None:
        """Begin with a header."""
        self._header = header
        self._rules = rules
        self._claim = claim
        self._ids = IdTable()
        self._removed = IdTable()
        self._removed_paths: list[tuple[str, int]] = []
        self._pieces: list[tuple[str, ReadFleet]] = []
        self._profiles: list[ReadProfile] = []
        self._profile_bytes = 0
        check_request_id(rules, header.request_id, required=not header.validate_only, path="header.request_id")
        check_id(rules, "header.portfolio_id", header.portfolio_id, required=True)

    def add(self, path: str, chunk: dispatch_service_pb2.PortfolioChunk) -> None:
        """Take over a chunk, and report its faults.

        Raises:
            ServiceError: Memory does not suffice.
        """
        self._add_removed(f"{path}.removed_asset_ids", chunk.removed_asset_ids)
        read = read_fleet(self._rules, f"{path}.fleet", chunk.fleet)
        if read is not None and len(read.ids):
            _report_known(
                self._rules,
                f"{path}.fleet.asset_ids",
                self._enter(self._ids, read.ids) >= 0,
                _ONCE,
            )
            self._pieces.append((path, read))
        profiles = read_profiles(self._rules, f"{path}.profiles", chunk.profiles)
        self._profile_bytes += sum(profile_bytes(profile.grid.step_count) for profile in profiles)
        self._profiles += profiles
        self._claim.hold(self._size_bytes())

    def resolve(self, portfolio: Portfolio, rules: Rules) -> ResolvedChange:
        """The change of this version of a portfolio; what does not suit it is reported."""
        names = portfolio.names
        header = self._header
        check_names(
            rules,
            {"header.added_operators": header.added_operators, "header.added_groups": header.added_groups},
            names.groups + names.operators,
        )
        group_count = len(names.groups) + len(header.added_groups)
        operator_count = len(names.operators) + len(header.added_operators)
        removed = self._removed.ids
        for i in first_of(portfolio.ids.find(removed) < 0):
            path, k = self._removed_paths[i]
            rules.check(False, f"{path}[{k}]", "must name an asset of the portfolio")
        rows = portfolio.ids.find(self._ids.ids)
        rows[self._removed.find(self._ids.ids) >= 0] = -1  # an asset that was removed comes back as a new one
        profiles = newest_profiles(self._profiles)
        fleets = []
        first = 0
        for path, read in self._pieces:
            piece_rows = rows[first : first + len(read.ids)]
            fleet = _whole(portfolio, piece_rows, read)
            check_fleet(rules, f"{path}.fleet", fleet, group_count, operator_count)
            _check_old_profiles(rules, path, portfolio, piece_rows, fleet, read, profiles)
            fleets.append(fleet)
            first += len(read.ids)
        fleet = _joined(fleets)
        check_profiles(rules, profiles, self._kinds(portfolio, fleet, profile_ids(profiles)))
        change = Change(
            removed.copy(), self._ids.ids.copy(), fleet, by_grid(profiles), profile_ids(profiles),
            tuple(header.added_groups), tuple(header.added_operators),
        )  # fmt: skip
        known = int((rows >= 0).sum())
        return ResolvedChange(change, len(rows) - known, known, len(removed))

    def _add_removed(self, path: str, asset_ids: Sequence[str]) -> None:
        if not len(asset_ids):
            return
        ids = read_ids(self._rules, path, asset_ids)
        if ids is None:
            return
        _report_known(self._rules, path, self._enter(self._removed, ids) >= 0, _ONCE)
        _report_known(
            self._rules,
            path,
            self._ids.find(ids) >= 0,
            _NOT_YET,
        )
        self._removed_paths += [(path, k) for k in range(len(ids))]

    def _enter(self, table: IdTable, ids: ByteTable) -> Rows:
        """Append identifiers; the claim is adjusted before memory is taken."""
        needed = table.count + len(ids)
        capacity = max(needed, table.capacity if needed <= table.capacity else table.capacity * (_SLACK + 1) // _SLACK)
        self._claim.hold(self._claim.held_bytes + fleet_bytes(len(ids), ids.shape[1]))
        table.reserve(capacity, ids.shape[1])
        return table.add(ids)

    def _size_bytes(self) -> int:
        columns = sum(values.nbytes for _, read in self._pieces[-1:] for values in read.columns.values())
        whole = fleet_bytes(self._ids.count, self._ids.ids.shape[1])
        return whole + self._removed.nbytes + self._profile_bytes + columns

    def _kinds(self, portfolio: Portfolio, fleet: Fleet, ids: ByteTable) -> NDArray[np.uint8]:
        """Kind of each asset after the change, :data:`UNKNOWN_KIND` where there is none."""
        kinds = np.full(len(ids), UNKNOWN_KIND, dtype=np.uint8)
        rows = portfolio.ids.find(ids)
        stays = (rows >= 0) & (self._removed.find(ids) < 0)
        kinds[stays] = portfolio.columns.column("kind")[rows[stays]]
        own = self._ids.find(ids)
        if len(fleet) == self._ids.count:
            kinds[own >= 0] = fleet.kind[own[own >= 0]]
        return kinds


def _whole(portfolio: Portfolio, rows: Rows, read: ReadFleet) -> Fleet:
    """All columns of a message's assets: what is given, what the portfolio has in `rows`, or defaults."""
    fleet = Fleet.of(len(rows), read.columns)
    known = np.flatnonzero(rows >= 0)
    if len(known):
        for name in COLUMN_NAMES:
            if name not in read.columns:
                getattr(fleet, name)[known] = portfolio.columns.column(name)[rows[known]]
    return fleet


def _check_old_profiles(
    rules: Rules, path: str, portfolio: Portfolio, rows: Rows, fleet: Fleet, read: ReadFleet,
    profiles: Sequence[ReadProfile],
) -> None:  # fmt: skip
    """Report assets whose kind changes to one that their profile does not suit."""
    if "kind" not in read.columns or not len(portfolio.profiles):
        return
    renewed = set(portfolio.ids.find(profile_ids(profiles)).tolist())
    old = portfolio.columns.column("kind")
    for i in np.flatnonzero(rows >= 0).tolist():
        row = int(rows[i])
        if row not in portfolio.profiles or row in renewed:
            continue
        if profile_sign(int(fleet.kind[i])) != profile_sign(int(old[row])):
            rules.check(False, f"{path}.fleet.kinds[{i}]", "must suit the profile that the asset has, or bring another")


def _joined(fleets: Sequence[Fleet]) -> Fleet:
    if len(fleets) == 1:
        return fleets[0]
    if not fleets:
        return Fleet.of(0, {})
    return Fleet(**{name: np.concatenate([getattr(fleet, name) for fleet in fleets]) for name in COLUMN_NAMES})


def _report_known(rules: Rules, path: str, known: NDArray[np.bool_], rule: str) -> None:
    for i in first_of(known):
        rules.check(False, f"{path}[{i}]", rule)
