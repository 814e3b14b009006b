"""Calls of the dispatch service, asynchronous: the twin of :mod:`evflex.client.dispatch.sync_calls`."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from datetime import timedelta

import pandas as pd

from evflex.client.aio_transport import AsyncTransport
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
from evflex.dispatch.v1 import dispatch_service_pb2 as pb


class AsyncDispatchCalls:
    """Portfolios and their plans, for asyncio.

    Methods, arguments and errors are those of :class:`evflex.client.dispatch.sync_calls.DispatchCalls`.
    """

    _transport: AsyncTransport

    async def create_portfolio(
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
        """Create a portfolio."""
        creation = await asyncio.to_thread(
            PortfolioCreation.of, fleet, portfolio_id=portfolio_id, currency_code=currency_code, profiles=profiles,
            area_id=area_id, validate_only=validate_only, request_id=request_id,
        )  # fmt: skip
        answer = await self._transport.client_stream(operations.CREATE_PORTFOLIO, creation.messages, timeout_s)
        return Portfolio.from_message(answer.portfolio)

    async def update_portfolio(
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
        """Add, change and remove assets; all or none of it."""
        table = None if changes is None else await asyncio.to_thread(fleet_table, changes)
        known = await self.get_portfolio(portfolio_id) if names_groups(table) else None
        change = await asyncio.to_thread(
            PortfolioChange.of, portfolio_id, table, known=known, remove=remove, profiles=profiles, etag=etag,
            validate_only=validate_only, request_id=request_id,
        )  # fmt: skip
        answer = await self._transport.client_stream(operations.UPDATE_PORTFOLIO, change.messages, timeout_s)
        return PortfolioUpdate.from_message(answer)

    async def get_portfolio(self, portfolio_id: str, *, timeout_s: float | None = None) -> Portfolio:
        """Fetch a portfolio without its columns."""
        request = pb.GetPortfolioRequest(portfolio_id=portfolio_id)
        answer = await self._transport.unary(operations.GET_PORTFOLIO, request, timeout_s)
        return Portfolio.from_message(answer.portfolio)

    async def list_portfolios(self, *, page_size: int = 0, timeout_s: float | None = None) -> AsyncIterator[Portfolio]:
        """List portfolios, newest first; further pages are fetched as they are needed."""
        request = pb.ListPortfoliosRequest(page_size=page_size)
        async for page in self._transport.pages(operations.LIST_PORTFOLIOS, request, timeout_s):
            for message in page.portfolios:
                yield Portfolio.from_message(message)

    async def delete_portfolio(
        self, portfolio_id: str, *, etag: str = "", request_id: str = "", timeout_s: float | None = None
    ) -> None:
        """Delete a portfolio; its plans stay. Arguments and errors as :meth:`EvflexClient.delete_schedule`."""
        request = pb.DeletePortfolioRequest(
            request_id=request_id or str(uuid.uuid4()), portfolio_id=portfolio_id, etag=etag
        )
        await self._transport.unary(operations.DELETE_PORTFOLIO, request, timeout_s)

    async def plan_portfolio(
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
        """Plan a portfolio at least cost and store the plan."""
        request = PlanRequest(
            portfolio_id, prices, start, step, export_prices, limits, reserves, relative_gap, absolute_gap, time_limit,
            return_setpoints, portfolio_version, validate_only, request_id,
        ).to_message()  # fmt: skip
        return (await read_plan(self._transport, operations.PLAN_PORTFOLIO, request, timeout_s, on_progress)).plan()

    async def get_plan(
        self,
        plan_id: str,
        *,
        return_setpoints: bool = False,
        asset_ids: Sequence[str] = (),
        timeout_s: float | None = None,
    ) -> FleetPlan:
        """Fetch a stored plan."""
        request = pb.GetPlanRequest(plan_id=plan_id, return_setpoints=return_setpoints, asset_ids=asset_ids)
        return (await read_plan(self._transport, operations.GET_PLAN, request, timeout_s)).plan()

    async def iter_setpoints(
        self, plan_id: str, *, asset_ids: Sequence[str] = (), timeout_s: float | None = None
    ) -> AsyncIterator[pd.DataFrame]:
        """Fetch the powers of a stored plan in parts, for fleets that are larger than memory."""
        request = pb.GetPlanRequest(plan_id=plan_id, return_setpoints=not asset_ids, asset_ids=asset_ids)
        stream = SetpointStream()
        attempts = self._transport.attempts(operations.GET_PLAN, timeout_s)
        while not stream.complete:
            try:
                answers = self._transport.server_stream(operations.GET_PLAN, request, attempts.remaining_s())
                async with aclosing(answers):
                    async for message in answers:
                        part = stream.accept(message)
                        if part is not None:
                            attempts.succeeded()
                            yield part
                stream.check_ended()
            except EvflexError as error:
                await self._transport.pause(attempts, error)

    async def list_plans(
        self, portfolio_id: str = "", *, page_size: int = 0, timeout_s: float | None = None
    ) -> AsyncIterator[FleetPlan]:
        """List stored plans, newest first, without arrays; further pages are fetched as they are needed."""
        request = pb.ListPlansRequest(portfolio_id=portfolio_id, page_size=page_size)
        async for page in self._transport.pages(operations.LIST_PLANS, request, timeout_s):
            for message in page.plans:
                yield FleetPlan.from_message(message)

    async def delete_plan(
        self, plan_id: str, *, etag: str = "", request_id: str = "", timeout_s: float | None = None
    ) -> None:
        """Delete a stored plan. Arguments and errors as :meth:`EvflexClient.delete_schedule`."""
        request = pb.DeletePlanRequest(request_id=request_id or str(uuid.uuid4()), plan_id=plan_id, etag=etag)
        await self._transport.unary(operations.DELETE_PLAN, request, timeout_s)

    async def list_products(self, *, timeout_s: float | None = None) -> list[Product]:
        """Products that reserves can refer to, in the order of their identifiers."""
        answer = await self._transport.unary(operations.LIST_PRODUCTS, pb.ListProductsRequest(), timeout_s)
        return [Product.from_message(message) for message in answer.products]


async def read_plan(
    transport: AsyncTransport,
    operation: Operation[RequestT, PlanAnswerT],
    request: RequestT,
    timeout_s: float | None,
    on_progress: Callable[[PlanProgress], None] | None = None,
) -> PlanStream:
    """Call an RPC that streams a plan, again where that helps, and read its answers to the end."""
    attempts = transport.attempts(operation, timeout_s)
    while True:
        stream = PlanStream()
        try:
            answers = transport.server_stream(operation, request, attempts.remaining_s())
            async with aclosing(answers):
                async for message in answers:
                    progress = stream.accept(message)
                    if progress is not None and on_progress is not None:
                        on_progress(progress)
            return stream
        except EvflexError as error:
            await transport.pause(attempts, error)
