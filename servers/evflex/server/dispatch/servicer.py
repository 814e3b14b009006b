"""DispatchService: each RPC in a few lines, on top of keeper, planner and stores."""

from __future__ import annotations

from collections.abc import Iterator

import grpc

from evflex.dispatch.v1 import dispatch_service_pb2, dispatch_service_pb2_grpc
from evflex.engine.validation import Rules
from evflex.server.caller import Caller
from evflex.server.calls import current_call
from evflex.server.dispatch import shown
from evflex.server.dispatch.keeper import Keeper
from evflex.server.dispatch.planner import PortfolioPlanner, summary_of
from evflex.server.errors import not_found
from evflex.server.fields import check_id, check_request_id, refuse
from evflex.server.pages import check_page_size, page_of
from evflex.server.store.plans import PlanRow
from evflex.server.store.requests import request_key
from evflex.server.stream_places import StreamPlaces

_GetPlanResponse = dispatch_service_pb2.GetPlanResponse


class DispatchServicer(dispatch_service_pb2_grpc.DispatchServiceServicer):
    """Translates between the wire and keeper, planner and stores."""

    def __init__(self, keeper: Keeper, planner: PortfolioPlanner) -> None:
        """Serve with these parts."""
        self._keeper = keeper
        self._planner = planner
        self._streams = StreamPlaces("max_dispatch_streams", planner.settings)

    def CreatePortfolio(  # noqa: N802
        self, request_iterator: Iterator[dispatch_service_pb2.CreatePortfolioRequest], context: grpc.ServicerContext
    ) -> dispatch_service_pb2.CreatePortfolioResponse:
        """Take a portfolio in."""
        with self._streams.taken(context):
            return self._keeper.create(request_iterator, current_call().caller)

    def UpdatePortfolio(  # noqa: N802
        self, request_iterator: Iterator[dispatch_service_pb2.UpdatePortfolioRequest], context: grpc.ServicerContext
    ) -> dispatch_service_pb2.UpdatePortfolioResponse:
        """Change a portfolio."""
        with self._streams.taken(context):
            return self._keeper.update(request_iterator, current_call().caller)

    def GetPortfolio(  # noqa: N802
        self, request: dispatch_service_pb2.GetPortfolioRequest, context: grpc.ServicerContext
    ) -> dispatch_service_pb2.GetPortfolioResponse:
        """Return a portfolio without its columns."""
        rules = Rules()
        check_id(rules, "portfolio_id", request.portfolio_id, required=True)
        refuse(rules)
        portfolio = self._keeper.get(current_call().caller, request.portfolio_id)
        return dispatch_service_pb2.GetPortfolioResponse(portfolio=portfolio)

    def ListPortfolios(  # noqa: N802
        self, request: dispatch_service_pb2.ListPortfoliosRequest, context: grpc.ServicerContext
    ) -> dispatch_service_pb2.ListPortfoliosResponse:
        """List portfolios, newest first."""
        rules = Rules()
        check_page_size(rules, request.page_size)
        refuse(rules)
        caller = current_call().caller
        rows, next_page_token = page_of(
            "ListPortfolios",
            request.page_size,
            request.page_token,
            lambda before, size: self._keeper.store.page(caller.tenant_id, before, size, caller.areas),
        )
        return dispatch_service_pb2.ListPortfoliosResponse(
            portfolios=[shown.portfolio(row) for row in rows], next_page_token=next_page_token
        )

    def DeletePortfolio(  # noqa: N802
        self, request: dispatch_service_pb2.DeletePortfolioRequest, context: grpc.ServicerContext
    ) -> dispatch_service_pb2.DeletePortfolioResponse:
        """Delete a portfolio."""
        rules = Rules()
        check_request_id(rules, request.request_id, required=not request.validate_only)
        check_id(rules, "portfolio_id", request.portfolio_id, required=True)
        refuse(rules)
        caller = current_call().caller
        key = request_key(caller.tenant_id, "DeletePortfolio", request.request_id, request)
        self._keeper.delete(key, request, caller)
        return dispatch_service_pb2.DeletePortfolioResponse()

    def PlanPortfolio(  # type: ignore[override]  # noqa: N802
        self, request: dispatch_service_pb2.PlanPortfolioRequest, context: grpc.ServicerContext
    ) -> Iterator[bytes]:
        """Plan a portfolio; hands out PlanPortfolioResponse messages, serialized."""
        with self._streams.taken(context):
            yield from self._planner.plan(request, current_call())

    def GetPlan(  # type: ignore[override]  # noqa: N802
        self, request: dispatch_service_pb2.GetPlanRequest, context: grpc.ServicerContext
    ) -> Iterator[bytes]:
        """Stream a stored plan; hands out GetPlanResponse messages, serialized."""
        rules = Rules()
        check_id(rules, "plan_id", request.plan_id, required=True)
        refuse(rules)
        caller = current_call().caller
        with self._streams.taken(context):
            row = _visible(caller, self._planner.store.get(caller.tenant_id, request.plan_id))
            chunks = None
            if request.return_setpoints or request.asset_ids:
                chunks = self._planner.powers(row).chunks(tuple(request.asset_ids))
            yield _GetPlanResponse(summary=summary_of(row, chunks)).SerializeToString()
            if chunks is not None:
                yield from chunks.messages(_GetPlanResponse.CHUNK_FIELD_NUMBER)

    def ListPlans(  # noqa: N802
        self, request: dispatch_service_pb2.ListPlansRequest, context: grpc.ServicerContext
    ) -> dispatch_service_pb2.ListPlansResponse:
        """List stored plans, newest first."""
        rules = Rules()
        check_id(rules, "portfolio_id", request.portfolio_id)
        check_page_size(rules, request.page_size)
        refuse(rules)
        caller = current_call().caller
        store = self._planner.store
        rows, next_page_token = page_of(
            f"ListPlans {request.portfolio_id}",
            request.page_size,
            request.page_token,
            lambda before, size: store.page(caller.tenant_id, request.portfolio_id, before, size, caller.areas),
        )
        return dispatch_service_pb2.ListPlansResponse(
            plans=[shown.plan(row) for row in rows], next_page_token=next_page_token
        )

    def DeletePlan(  # noqa: N802
        self, request: dispatch_service_pb2.DeletePlanRequest, context: grpc.ServicerContext
    ) -> dispatch_service_pb2.DeletePlanResponse:
        """Delete a stored plan."""
        rules = Rules()
        check_request_id(rules, request.request_id, required=not request.validate_only)
        check_id(rules, "plan_id", request.plan_id, required=True)
        refuse(rules)
        caller = current_call().caller
        self._planner.store.delete(
            request_key(caller.tenant_id, "DeletePlan", request.request_id, request),
            request.plan_id,
            request.etag,
            self._planner.now_unix_us(),
            may_use_area=caller.may_use_area,
            check_only=request.validate_only,
        )
        return dispatch_service_pb2.DeletePlanResponse()

    def ListProducts(  # noqa: N802
        self, request: dispatch_service_pb2.ListProductsRequest, context: grpc.ServicerContext
    ) -> dispatch_service_pb2.ListProductsResponse:
        """List the products that reserves can refer to."""
        return dispatch_service_pb2.ListProductsResponse(products=self._planner.products.specs())


def _visible(caller: Caller, row: PlanRow) -> PlanRow:
    """The row, unless the caller may not use its area: then there is no such plan."""
    if not caller.may_use_area(row.area_id):
        raise not_found("plan", row.plan_id)
    return row
