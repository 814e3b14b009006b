"""Portfolios in memory: brought back from the store when they are first used, kept while there is room."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from evflex.server.dispatch.memory import Claim, PortfolioMemory
from evflex.server.dispatch.portfolio import Change, Portfolio, PortfolioNames, fleet_bytes
from evflex.server.dispatch.records import read_change, read_snapshot
from evflex.server.store.portfolios import PortfolioRow, PortfolioStore

_Key = tuple[str, str]


@dataclass(eq=False, slots=True)
class Resident:
    """A portfolio in memory.

    Attributes:
        portfolio: The fleet.
        row: Its row in the store, of the same version.
        claim: Its part of the memory.
        users: Who works with it now; it stays in memory meanwhile.
        used_s: When it was used last, on the clock of :func:`time.monotonic`.
    """

    portfolio: Portfolio
    row: PortfolioRow
    claim: Claim
    users: int = 0
    used_s: float = field(default_factory=time.monotonic)


class Residents:
    """All portfolios in memory; gives up those that were used least lately when others need their room."""

    def __init__(self, store: PortfolioStore, memory: PortfolioMemory) -> None:
        """Load from `store`, within `memory`."""
        self._store = store
        self.memory = memory
        self._residents: dict[_Key, Resident] = {}
        self._loading: dict[_Key, threading.Lock] = {}
        self._lock = threading.Lock()
        memory.make_free = self._make_free

    def claim(self) -> Claim:
        """A part of the memory, of nothing yet."""
        return Claim(self.memory)

    def adopt(self, row: PortfolioRow, portfolio: Portfolio, claim: Claim) -> None:
        """Keep a portfolio that was just stored, and its claim."""
        key = row.tenant_id, row.portfolio_id
        with self._lock:
            before = self._residents.get(key)
            self._residents[key] = Resident(portfolio, row, claim)
        if before is not None:  # another process deleted it
            before.claim.release()

    @contextmanager
    def opened(self, tenant_id: str, portfolio_id: str) -> Iterator[Resident]:
        """A portfolio in its newest version, kept in memory meanwhile.

        Raises:
            ServiceError: NOT_FOUND, or RESOURCE_EXHAUSTED where it does not fit into memory.
        """
        resident = self._enter(tenant_id, portfolio_id)
        try:
            with resident.portfolio.writer:
                self.refresh(resident)
            yield resident
        finally:
            self._leave(resident)

    def refresh(self, resident: Resident) -> None:
        """Take over what other processes have changed; the caller holds the portfolio's `writer`.

        Raises:
            ServiceError: NOT_FOUND.
        """
        present = resident.row
        try:
            row = self._store.find(present.tenant_id, present.portfolio_id)
            if row.etag == present.etag:
                return
            with self._store.opened(present.tenant_id, present.portfolio_id) as stored:
                row = stored.row
                gone = row.portfolio_uid != present.portfolio_uid
                if gone or row.base_version > resident.portfolio.version:
                    fresh = _loaded(stored.row, stored.base(), stored.updates_after(row.base_version))
                    resident.portfolio.take_over(fresh)
                else:
                    for version, part in stored.updates_after(resident.portfolio.version):
                        _apply(resident.portfolio, read_change(part), version)
                resident.row = row
            resident.claim.hold(resident.portfolio.resident_bytes)
        except BaseException:
            self.forget(resident)
            raise

    def forget(self, resident: Resident) -> None:
        """Keep a portfolio no longer; the next who asks gets it from the store."""
        key = resident.row.tenant_id, resident.row.portfolio_id
        with self._lock:
            if self._residents.get(key) is resident:
                del self._residents[key]
        resident.claim.release()

    def forget_deleted(self, tenant_id: str, portfolio_id: str) -> None:
        """Keep a portfolio no longer that is not in the store any more."""
        with self._lock:
            resident = self._residents.get((tenant_id, portfolio_id))
        if resident is not None:
            self.forget(resident)

    def _enter(self, tenant_id: str, portfolio_id: str) -> Resident:
        key = tenant_id, portfolio_id
        with self._lock:
            resident = self._residents.get(key)
            if resident is not None:
                resident.users += 1
                return resident
            turn = self._loading.setdefault(key, threading.Lock())
        try:
            with turn:
                with self._lock:
                    resident = self._residents.get(key)
                    if resident is not None:
                        resident.users += 1
                        return resident
                resident = self._load(tenant_id, portfolio_id)
                with self._lock:
                    resident.users += 1
                    self._residents[key] = resident
                return resident
        finally:
            with self._lock:
                self._loading.pop(key, None)

    def _leave(self, resident: Resident) -> None:
        key = resident.row.tenant_id, resident.row.portfolio_id
        with self._lock:
            resident.users -= 1
            resident.used_s = time.monotonic()
            is_lost = not resident.users and self._residents.get(key) is not resident
        if is_lost:  # forgotten meanwhile, but worked on to the end
            resident.claim.release()

    def _load(self, tenant_id: str, portfolio_id: str) -> Resident:
        claim = self.claim()
        try:
            with self._store.opened(tenant_id, portfolio_id) as stored:
                row = stored.row
                claim.hold(max(row.resident_bytes, fleet_bytes(row.asset_count, 1)))
                portfolio = _loaded(row, stored.base(), stored.updates_after(row.base_version))
            claim.hold(portfolio.resident_bytes)
        except BaseException:
            claim.release()
            raise
        return Resident(portfolio, row, claim)

    def _make_free(self, missing_bytes: int) -> None:
        with self._lock:
            idle = sorted((r for r in self._residents.values() if not r.users), key=lambda r: r.used_s)
            given_up = []
            for resident in idle:
                if missing_bytes <= 0:
                    break
                missing_bytes -= resident.claim.held_bytes
                del self._residents[resident.row.tenant_id, resident.row.portfolio_id]
                given_up.append(resident)
        for resident in given_up:
            resident.claim.release()


def _loaded(row: PortfolioRow, base: Iterator[bytes], updates: Iterator[tuple[int, bytes]]) -> Portfolio:
    names = PortfolioNames(row.tenant_id, row.portfolio_id, row.area_id, row.currency_code, (), ())
    portfolio = read_snapshot(names, row.base_version, row.asset_count, base)
    for version, part in updates:
        _apply(portfolio, read_change(part), version)
    return portfolio


def _apply(portfolio: Portfolio, change: Change, version: int) -> None:
    portfolio.prepare(change)
    portfolio.apply(change, version)
