"""Creates, changes, shows and deletes portfolios."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from google.rpc import code_pb2

from evflex.dispatch.v1 import dispatch_service_pb2, portfolio_pb2
from evflex.engine.validation import Rules
from evflex.server.caller import Caller
from evflex.server.dispatch import shown
from evflex.server.dispatch.compaction import Compaction
from evflex.server.dispatch.creation import Creation
from evflex.server.dispatch.memory import Claim
from evflex.server.dispatch.portfolio import Portfolio, PortfolioNames
from evflex.server.dispatch.records import change_parts, snapshot_blocks
from evflex.server.dispatch.residents import Resident, Residents
from evflex.server.dispatch.staged_update import ResolvedChange, StagedUpdate
from evflex.server.errors import ServiceError, limit_exceeded, not_found
from evflex.server.fields import refuse
from evflex.server.settings import Settings
from evflex.server.store.portfolios import (
    NewPortfolio,
    PortfolioFigures,
    PortfolioRow,
    PortfolioStore,
    VersionPassedError,
    portfolio_exists,
)
from evflex.server.store.requests import RequestKey, check_etag
from evflex.server.upload import Upload

_CreateUpload = Upload[dispatch_service_pb2.CreatePortfolioHeader, dispatch_service_pb2.PortfolioChunk]
_UpdateUpload = Upload[dispatch_service_pb2.UpdatePortfolioHeader, dispatch_service_pb2.PortfolioChunk]


@dataclass(frozen=True, slots=True)
class Keeper:
    """Keeps portfolios in store and memory.

    Attributes:
        settings: Limits.
        store: Where portfolios are kept.
        residents: Those in memory.
        compaction: Shortens logs.
        now_unix_us: The clock, microseconds since 1970-01-01 UTC.
    """

    settings: Settings
    store: PortfolioStore
    residents: Residents
    compaction: Compaction
    now_unix_us: Callable[[], int] = lambda: time.time_ns() // 1_000

    def create(
        self, messages: Iterator[dispatch_service_pb2.CreatePortfolioRequest], caller: Caller
    ) -> dispatch_service_pb2.CreatePortfolioResponse:
        """Take a new portfolio in, and store it.

        Raises:
            ServiceError: It is refused; nothing is stored then.
        """
        claim = self.residents.claim()
        kept = False
        try:
            upload: _CreateUpload = Upload(messages)
            header = upload.header()
            names = PortfolioNames(
                caller.tenant_id, header.portfolio_id, header.area_id, header.currency_code,
                tuple(header.groups), tuple(header.operators),
            )  # fmt: skip
            creation = Creation(header, names, upload.rules, claim, self.settings)
            for path, chunk in upload.chunks():
                creation.add(path, chunk)
            portfolio = creation.finish()
            refuse(upload.rules)
            caller.require_area(header.area_id)
            if header.validate_only:
                self._check_new(caller, header.portfolio_id)
                return dispatch_service_pb2.CreatePortfolioResponse(portfolio=portfolio_pb2.Portfolio())
            claim.hold(portfolio.resident_bytes)
            key = RequestKey(caller.tenant_id, header.request_id.lower(), "CreatePortfolio", upload.digest)
            answer, kept = self._store_new(key, portfolio, claim)
            return answer
        finally:
            if not kept:
                claim.release()

    def update(
        self, messages: Iterator[dispatch_service_pb2.UpdatePortfolioRequest], caller: Caller
    ) -> dispatch_service_pb2.UpdatePortfolioResponse:
        """Change a portfolio, in store and memory: all of it or nothing.

        Raises:
            ServiceError: The change is refused.
        """
        claim = self.residents.claim()
        try:
            upload: _UpdateUpload = Upload(messages)
            header = upload.header()
            staged = StagedUpdate(header, upload.rules, claim)
            for path, chunk in upload.chunks():
                staged.add(path, chunk)
            refuse(upload.rules)
            key = RequestKey(caller.tenant_id, header.request_id.lower(), "UpdatePortfolio", upload.digest)
            earlier = None if header.validate_only else self.store.find_answer(key)
            if earlier is not None:
                return dispatch_service_pb2.UpdatePortfolioResponse.FromString(earlier)
            with self.residents.opened(caller.tenant_id, header.portfolio_id) as resident:
                _check_visible(caller, resident.row)
                with resident.portfolio.writer:
                    answer = self._change(resident, staged, key, header)
                self.compaction.consider(resident.row)
                return answer
        finally:
            claim.release()

    def get(self, caller: Caller, portfolio_id: str) -> portfolio_pb2.Portfolio:
        """A portfolio without its columns.

        Raises:
            ServiceError: NOT_FOUND.
        """
        row = self.store.find(caller.tenant_id, portfolio_id)
        _check_visible(caller, row)
        return shown.portfolio(row)

    def delete(self, key: RequestKey, request: dispatch_service_pb2.DeletePortfolioRequest, caller: Caller) -> None:
        """Delete a portfolio.

        Raises:
            ServiceError: NOT_FOUND, or ABORTED for another etag.
        """
        self.store.delete(
            key, request.portfolio_id, request.etag, self.now_unix_us(),
            may_use_area=caller.may_use_area, check_only=request.validate_only,
        )  # fmt: skip
        if not request.validate_only:
            self.residents.forget_deleted(caller.tenant_id, request.portfolio_id)

    def _check_new(self, caller: Caller, portfolio_id: str) -> None:
        if not portfolio_id:
            return
        try:
            self.store.find(caller.tenant_id, portfolio_id)
        except ServiceError as error:
            if error.code == code_pb2.NOT_FOUND:
                return
            raise
        raise portfolio_exists(portfolio_id)

    def _store_new(
        self, key: RequestKey, portfolio: Portfolio, claim: Claim
    ) -> tuple[dispatch_service_pb2.CreatePortfolioResponse, bool]:
        """Store a portfolio and keep it in memory; the answer, and whether it was kept."""
        earlier = self.store.find_answer(key)
        if earlier is not None:
            return dispatch_service_pb2.CreatePortfolioResponse.FromString(earlier), False
        names = portfolio.names

        def answered(row: PortfolioRow) -> bytes:
            return dispatch_service_pb2.CreatePortfolioResponse(portfolio=shown.portfolio(row)).SerializeToString()

        new = NewPortfolio(
            key, names.portfolio_id, names.area_id, names.currency_code, _figures(portfolio), self.now_unix_us()
        )
        row, answer = self.store.create(new, snapshot_blocks(portfolio.unshared()), answered)
        if row is not None:
            portfolio.name(row.portfolio_id)
            self.residents.adopt(row, portfolio, claim)
        return dispatch_service_pb2.CreatePortfolioResponse.FromString(answer), row is not None

    def _change(
        self,
        resident: Resident,
        staged: StagedUpdate,
        key: RequestKey,
        header: dispatch_service_pb2.UpdatePortfolioHeader,
    ) -> dispatch_service_pb2.UpdatePortfolioResponse:
        """Check, store and take over a change; again where another process was faster."""
        while True:
            check_etag("portfolio", header.etag, resident.row.etag)
            rules = Rules()
            resolved = staged.resolve(resident.portfolio, rules)
            refuse(rules)
            self._check_sizes(resident.portfolio, resolved)
            if header.validate_only:
                return _update_answer(resident.row, resolved)
            try:
                return self._store_change(resident, resolved, key)
            except VersionPassedError:
                self.residents.refresh(resident)

    def _store_change(
        self, resident: Resident, resolved: ResolvedChange, key: RequestKey
    ) -> dispatch_service_pb2.UpdatePortfolioResponse:
        portfolio, change = resident.portfolio, resolved.change
        resident.claim.hold(portfolio.resident_bytes + portfolio.added_bytes(change))
        try:
            portfolio.prepare(change)
            figures = _figures_after(portfolio, resolved)
            parts = () if change.is_empty else tuple(change_parts(change))
            row, answer = self.store.update(
                key, resident.row, figures, parts, self.now_unix_us(),
                lambda row: _update_answer(row, resolved).SerializeToString(),
            )  # fmt: skip
            if row is not None:
                if parts:
                    portfolio.apply(change, row.version)
                resident.row = row
        except ServiceError as error:
            if error.code == code_pb2.NOT_FOUND:
                self.residents.forget(resident)
            raise
        finally:
            if resident.claim.held_bytes:
                resident.claim.hold(portfolio.resident_bytes)
        return dispatch_service_pb2.UpdatePortfolioResponse.FromString(answer)

    def _check_sizes(self, portfolio: Portfolio, resolved: ResolvedChange) -> None:
        count = portfolio.asset_count + resolved.added_count - resolved.removed_count
        if count > self.settings.max_portfolio_assets:
            raise limit_exceeded("max_portfolio_assets", count, self.settings.max_portfolio_assets)
        names = portfolio.names_after(resolved.change)
        groups = len(names.groups) + len(names.operators)
        if groups > self.settings.max_portfolio_groups:
            raise limit_exceeded("max_portfolio_groups", groups, self.settings.max_portfolio_groups)


def _figures(portfolio: Portfolio) -> PortfolioFigures:
    return PortfolioFigures(
        portfolio.asset_count, len(portfolio.profiles), portfolio.resident_bytes, shown.head(portfolio.names)
    )


def _figures_after(portfolio: Portfolio, resolved: ResolvedChange) -> PortfolioFigures:
    """Figures once a change, for which there is room already, has been applied."""
    return PortfolioFigures(
        portfolio.asset_count + resolved.added_count - resolved.removed_count,
        portfolio.profile_count_after(resolved.change),
        portfolio.resident_bytes,
        shown.head(portfolio.names_after(resolved.change)),
    )


def _update_answer(row: PortfolioRow, resolved: ResolvedChange) -> dispatch_service_pb2.UpdatePortfolioResponse:
    return dispatch_service_pb2.UpdatePortfolioResponse(
        portfolio=shown.portfolio(row),
        added_count=resolved.added_count,
        changed_count=resolved.changed_count,
        removed_count=resolved.removed_count,
    )


def _check_visible(caller: Caller, row: PortfolioRow) -> None:
    """Raise NOT_FOUND where the caller may not use the area: then there is no such portfolio."""
    if not caller.may_use_area(row.area_id):
        raise not_found("portfolio", row.portfolio_id)
