"""Writes a new base of a portfolio, in the background, once its log of changes has grown long beside the old one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from structlog.typing import FilteringBoundLogger

from evflex.server.dispatch.records import snapshot_blocks
from evflex.server.dispatch.residents import Residents
from evflex.server.errors import ServiceError
from evflex.server.log import places
from evflex.server.store.portfolios import PortfolioRow, PortfolioStore

_LOG_RATIO = 0.25
_LEAST_LOG_BYTES = 4 << 20
_LEAST_UPDATES = 1_000
_ASSETS_PER_UPDATE = 100


class _StoppedError(Exception):
    """The server is closing."""


class Compaction:
    """A thread that writes new bases, one after another."""

    def __init__(
        self, store: PortfolioStore, residents: Residents, now_unix_us: Callable[[], int], log: FilteringBoundLogger
    ) -> None:
        """Work on `store`."""
        self.store = store
        self._residents = residents
        self._now_unix_us = now_unix_us
        self._log = log
        self._pending: set[tuple[str, str]] = set()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="compaction")

    def consider(self, row: PortfolioRow) -> None:
        """Write a new base if the log is long by now."""
        key = row.tenant_id, row.portfolio_id
        with self._lock:
            if not is_due(row) or key in self._pending or self._stopped.is_set():
                return
            self._pending.add(key)
            self._thread.submit(self._run, key)

    def close(self) -> None:
        """Stop; a base that is being written is given up."""
        self._stopped.set()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _run(self, key: tuple[str, str]) -> None:
        try:
            self.compact(*key)
        except (_StoppedError, ServiceError) as error:  # tried again after the next change
            self._log.warning("no new base was written", reason=getattr(error, "reason", "SHUTTING_DOWN"))
        except Exception as error:
            self._log.error("no new base was written", exception=type(error).__name__, places=places(error))
        finally:
            with self._lock:
                self._pending.discard(key)

    def compact(self, tenant_id: str, portfolio_id: str) -> None:
        """Write a new base."""
        with self._residents.opened(tenant_id, portfolio_id) as resident:
            with resident.portfolio.writer:
                row, snapshot = resident.row, resident.portfolio.snapshot()
            self.store.replace_base(
                row, snapshot.version, self._unless_stopped(snapshot_blocks(snapshot)), self._now_unix_us()
            )
            with resident.portfolio.writer:
                present = self.store.find(tenant_id, portfolio_id)
                if present.etag == resident.row.etag:
                    resident.row = present

    def _unless_stopped(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        for block in blocks:
            if self._stopped.is_set():
                raise _StoppedError
            yield block


def is_due(row: PortfolioRow) -> bool:
    """Whether the log is long beside the base, in bytes or in changes."""
    most_updates = max(_LEAST_UPDATES, row.asset_count // _ASSETS_PER_UPDATE)
    most_bytes = max(_LEAST_LOG_BYTES, row.base_bytes * _LOG_RATIO)
    return row.log_bytes > most_bytes or row.version - row.base_version > most_updates
