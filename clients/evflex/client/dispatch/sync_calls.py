"""Calls of the dispatch service, synchronous."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import timedelta

import pandas as pd

from evflex.client.dispatch import operations
from evflex.client.dispatch.files import FleetSource, fleet_table
from evflex.client.dispatch.fleet import names_groups
from evflex.client.dispatch.plan import FleetPlan, PlanAnswerT, PlanProgress, PlanStream, SetpointStream
from evflex.client.dispatch.plan_request import PlanRequest, PortfolioLimit, PortfolioReserve
from evflex.client.dispatch.portfolio import Portfolio, PortfolioChange, PortfolioCreation, PortfolioUpdate
from evflex.client.dispatch.product import Product
from evflex.client.errors import EvflexError
from evflex.client.operations import Operation, RequestT
from evflex.client.steps import PerStep
from evflex.client.transport import Transport
from evflex.dispatch.v1 import dispatch_service_pb2 as pb


class DispatchCalls:
    """Portfolios and their plans; the part of :class:`evflex.client.EvflexClient` that calls the dispatch service."""

    _transport: Transport

    def create_portfolio(
        self,
        fleet: FleetSource,
        *,
        currency_code: str,
        portfolio_id: str | None = None,
        profiles: pd.DataFrame | None = None,
        area_id: str = "",
        validate_only: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Portfolio:
        """Create a portfolio.

        Args:
            fleet: One row an asset, columns as in :meth:`evflex.client.dispatch.fleet.FleetColumns.from_frame`; or a
                Parquet or CSV file with them.
            currency_code: ISO 4217 code of all prices.
            portfolio_id: Identifier; None lets the server choose.
            profiles: What PV could produce (<= 0) or loads would draw, in kW; rows are steps by time, columns are
                assets.
            area_id: Grid area.
            validate_only: Only check.
            request_id: UUID under which a repeated call gives the same answer; drawn when empty.
            timeout_s: Time for all attempts.

        Raises:
            InvalidRequestError: The table or the fleet breaks rules; ``violations`` names them. A column that cannot
                be read is told before anything is sent.
            AlreadyExistsError: There is a portfolio with this ``portfolio_id``.
            ImportError: The file is Parquet and pyarrow is missing.
        """
        creation = PortfolioCreation.of(
            fleet, portfolio_id=portfolio_id, currency_code=currency_code, profiles=profiles, area_id=area_id,
            validate_only=validate_only, request_id=request_id,
        )  # fmt: skip
        answer = self._transport.client_stream(operations.CREATE_PORTFOLIO, creation.messages, timeout_s)
        return Portfolio.from_message(answer.portfolio)

    def update_portfolio(
        self,
        portfolio_id: str,
        changes: FleetSource | None = None,
        *,
        remove: Sequence[str] = (),
        profiles: pd.DataFrame | None = None,
        etag: str = "",
        validate_only: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> PortfolioUpdate:
        """Add, change and remove assets; all or none of it.

        Args:
            portfolio_id: Identifier.
            changes: Assets to add and change, as in :meth:`create_portfolio`. An absent column leaves assets that
                exist as they are. New groups and operators are added.
            remove: Identifiers of assets to remove; they are removed before ``changes`` are made.
            profiles: Profiles of assets, instead of those that they have.
            etag: When not empty, change only if the stored one is the same.
            validate_only: Only check.
            request_id: UUID under which a repeated call gives the same answer; drawn when empty.
            timeout_s: Time for all attempts.

        Raises:
            NotFoundError: There is no such portfolio.
            ConflictError: The etag differs, or another change came while names of groups were looked up.
            InvalidRequestError: As in :meth:`create_portfolio`.
        """
        table = None if changes is None else fleet_table(changes)
        known = self.get_portfolio(portfolio_id) if names_groups(table) else None
        change = PortfolioChange.of(
            portfolio_id, table, known=known, remove=remove, profiles=profiles, etag=etag,
            validate_only=validate_only, request_id=request_id,
        )  # fmt: skip
        answer = self._transport.client_stream(operations.UPDATE_PORTFOLIO, change.messages, timeout_s)
        return PortfolioUpdate.from_message(answer)

    def get_portfolio(self, portfolio_id: str, *, timeout_s: float | None = None) -> Portfolio:
        """Fetch a portfolio without its columns.

        Raises:
            NotFoundError: There is no such portfolio.
        """
        request = pb.GetPortfolioRequest(portfolio_id=portfolio_id)
        return Portfolio.from_message(self._transport.unary(operations.GET_PORTFOLIO, request, timeout_s).portfolio)

    def list_portfolios(self, *, page_size: int = 0, timeout_s: float | None = None) -> Iterator[Portfolio]:
        """List portfolios, newest first; further pages are fetched as they are needed.

        Args:
            page_size: Entries asked for at once; 0 takes the server's default.
            timeout_s: Time for each page.
        """
        request = pb.ListPortfoliosRequest(page_size=page_size)
        for page in self._transport.pages(operations.LIST_PORTFOLIOS, request, timeout_s):
            yield from map(Portfolio.from_message, page.portfolios)

    def delete_portfolio(
        self, portfolio_id: str, *, etag: str = "", request_id: str = "", timeout_s: float | None = None
    ) -> None:
        """Delete a portfolio; its plans stay. Arguments and errors as :meth:`EvflexClient.delete_schedule`."""
        request = pb.DeletePortfolioRequest(
            request_id=request_id or str(uuid.uuid4()), portfolio_id=portfolio_id, etag=etag
        )
        self._transport.unary(operations.DELETE_PORTFOLIO, request, timeout_s)

    def plan_portfolio(
        self,
        portfolio_id: str,
        *,
        prices: PerStep,
        start: pd.Timestamp | None = None,
        step: timedelta | None = None,
        export_prices: PerStep | None = None,
        limits: Sequence[PortfolioLimit] = (),
        reserves: Sequence[PortfolioReserve | str] = (),
        relative_gap: float | None = None,
        absolute_gap: float = 0.0,
        time_limit: timedelta | None = None,
        return_setpoints: bool = False,
        portfolio_version: int | None = None,
        validate_only: bool = False,
        request_id: str = "",
        on_progress: Callable[[PlanProgress], None] | None = None,
        timeout_s: float | None = None,
    ) -> FleetPlan:
        """Plan a portfolio at least cost and store the plan.

        Args:
            portfolio_id: Portfolio.
            prices: Price of a kWh drawn, all-in, for each step. The time index of a Series is the time axis.
            start: Start of the first step, with a time zone, where ``prices`` have no time index.
            step: Length of a step, likewise.
            export_prices: Price of a kWh injected, at most the import price of its step; None is the import price.
            limits: Limits; at most one for the fleet, each group and each operator.
            reserves: Reserves sold before; the identifier alone of a confirmed or activated commitment of the ledger.
            relative_gap: The solve stops once this gap is proven; None takes the server's default.
            absolute_gap: Or this one, in money.
            time_limit: Longest solve; None leaves it to ``timeout_s``.
            return_setpoints: Whether the plan has the powers of all assets; ``get_plan`` and ``iter_setpoints``
                fetch them later.
            portfolio_version: Plan only if the portfolio still has this version.
            validate_only: Only check the request: the plan is empty.
            request_id: UUID under which a repeated call gives the same plan; drawn when empty.
            on_progress: Called with each message of progress.
            timeout_s: Time for all attempts.

        Raises:
            NotFoundError: There is no such portfolio.
            ConflictError: The portfolio has another version.
            InvalidRequestError: The request breaks rules; ``violations`` names field and rule.
        """
        request = PlanRequest(
            portfolio_id, prices, start, step, export_prices, limits, reserves, relative_gap, absolute_gap, time_limit,
            return_setpoints, portfolio_version, validate_only, request_id,
        ).to_message()  # fmt: skip
        return read_plan(self._transport, operations.PLAN_PORTFOLIO, request, timeout_s, on_progress).plan()

    def get_plan(
        self,
        plan_id: str,
        *,
        return_setpoints: bool = False,
        asset_ids: Sequence[str] = (),
        timeout_s: float | None = None,
    ) -> FleetPlan:
        """Fetch a stored plan.

        Args:
            plan_id: Identifier.
            return_setpoints: Whether the plan has the powers of all assets.
            asset_ids: Assets whose powers the plan has instead.
            timeout_s: Time for all attempts.

        Raises:
            NotFoundError: There is no such plan.
        """
        request = pb.GetPlanRequest(plan_id=plan_id, return_setpoints=return_setpoints, asset_ids=asset_ids)
        return read_plan(self._transport, operations.GET_PLAN, request, timeout_s).plan()

    def iter_setpoints(
        self, plan_id: str, *, asset_ids: Sequence[str] = (), timeout_s: float | None = None
    ) -> Iterator[pd.DataFrame]:
        """Fetch the powers of a stored plan in parts, for fleets that are larger than memory.

        Args:
            plan_id: Identifier.
            asset_ids: Assets wanted; empty means all.
            timeout_s: Time for the whole stream.

        Yields:
            Powers of some assets in kW; rows are assets, columns are steps (UTC).

        Raises:
            NotFoundError: There is no such plan.
        """
        request = pb.GetPlanRequest(plan_id=plan_id, return_setpoints=not asset_ids, asset_ids=asset_ids)
        stream = SetpointStream()
        attempts = self._transport.attempts(operations.GET_PLAN, timeout_s)
        while not stream.complete:
            try:
                answers = self._transport.server_stream(operations.GET_PLAN, request, attempts.remaining_s())
                with closing(answers):
                    for message in answers:
                        part = stream.accept(message)
                        if part is not None:
                            attempts.succeeded()
                            yield part
                stream.check_ended()
            except EvflexError as error:
                self._transport.pause(attempts, error)

    def list_plans(
        self, portfolio_id: str = "", *, page_size: int = 0, timeout_s: float | None = None
    ) -> Iterator[FleetPlan]:
        """List stored plans, newest first, without arrays; further pages are fetched as they are needed.

        Args:
            portfolio_id: Only plans of this portfolio; empty means all.
            page_size: Entries asked for at once; 0 takes the server's default.
            timeout_s: Time for each page.
        """
        request = pb.ListPlansRequest(portfolio_id=portfolio_id, page_size=page_size)
        for page in self._transport.pages(operations.LIST_PLANS, request, timeout_s):
            yield from map(FleetPlan.from_message, page.plans)

    def delete_plan(
        self, plan_id: str, *, etag: str = "", request_id: str = "", timeout_s: float | None = None
    ) -> None:
        """Delete a stored plan. Arguments and errors as :meth:`EvflexClient.delete_schedule`."""
        request = pb.DeletePlanRequest(request_id=request_id or str(uuid.uuid4()), plan_id=plan_id, etag=etag)
        self._transport.unary(operations.DELETE_PLAN, request, timeout_s)

    def list_products(self, *, timeout_s: float | None = None) -> list[Product]:
        """Products that reserves can refer to, in the order of their identifiers."""
        answer = self._transport.unary(operations.LIST_PRODUCTS, pb.ListProductsRequest(), timeout_s)
        return [Product.from_message(message) for message in answer.products]


def read_plan(
    transport: Transport,
    operation: Operation[RequestT, PlanAnswerT],
    request: RequestT,
    timeout_s: float | None,
    on_progress: Callable[[PlanProgress], None] | None = None,
) -> PlanStream:
    """Call an RPC that streams a plan, again where that helps, and read its answers to the end.

    Args:
        transport: Channel.
        operation: ``PlanPortfolio`` or ``GetPlan``.
        request: Request.
        timeout_s: Time for all attempts and pauses; None takes the operation's default.
        on_progress: Called with each message of progress.

    Raises:
        EvflexError: The call failed for good.
    """
    attempts = transport.attempts(operation, timeout_s)
    while True:
        stream = PlanStream()
        try:
            answers = transport.server_stream(operation, request, attempts.remaining_s())
            with closing(answers):
                for message in answers:
                    progress = stream.accept(message)
                    if progress is not None and on_progress is not None:
                        on_progress(progress)
            return stream
        except EvflexError as error:
            transport.pause(attempts, error)
