"""A portfolio over the wire: uploaded, planned and its powers read, with generated stubs and arrays on our side."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import grpc
import numpy as np
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from evflex.common.v1 import time_grid_pb2
from evflex.dispatch.v1 import dispatch_service_pb2 as api
from evflex.dispatch.v1 import dispatch_service_pb2_grpc, fleet_pb2, plan_pb2
from evflex.engine.dispatch.model import WIRE_NAMES, DispatchProblem, LimitScope

# Below the default limit of 16 MiB with every column sent.
_ASSETS_PER_MESSAGE = 50_000
_CALL_S = 600.0


@dataclass(slots=True)
class WirePlan:
    """What came back.

    Attributes:
        plan: Summary.
        power_kw: Powers of all assets, in the order of the portfolio, (n, T); None where they were not asked for.
    """

    plan: plan_pb2.Plan
    power_kw: NDArray[np.float32] | None


class FleetCaller:
    """Calls of the dispatch service, arrays in and arrays out."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = dispatch_service_pb2_grpc.DispatchServiceStub(channel)

    def create(self, problem: DispatchProblem, portfolio_id: str) -> api.CreatePortfolioResponse:
        """Upload a fleet from its arrays; the messages are written while they are sent."""
        answer: api.CreatePortfolioResponse = self._stub.CreatePortfolio(
            fleet_messages(problem, portfolio_id), timeout=_CALL_S
        )
        return answer

    def plan(
        self, problem: DispatchProblem, portfolio_id: str, relative_gap: float, *, return_setpoints: bool
    ) -> WirePlan:
        """Plan, and read the powers where asked."""
        request = api.PlanPortfolioRequest(
            request_id=str(uuid.uuid4()),
            portfolio_id=portfolio_id,
            time_grid=time_grid_pb2.TimeGrid(
                start_time=Timestamp(seconds=int(problem.grid.start_unix_s)),
                step_duration=Duration(seconds=int(problem.grid.step_s)),
                step_count=problem.grid.step_count,
            ),
            import_price_per_kwh=problem.import_price_per_kwh.tolist(),
            limits=limit_messages(problem),
            options=plan_pb2.PlanOptions(relative_gap=relative_gap, return_setpoints=return_setpoints),
        )
        return read_plan(self._stub.PlanPortfolio(request, timeout=_CALL_S))

    def stored(self, plan_id: str) -> WirePlan:
        """A plan with all its powers, read again."""
        request = api.GetPlanRequest(plan_id=plan_id, return_setpoints=True)
        return read_plan(self._stub.GetPlan(request, timeout=_CALL_S))


def fleet_messages(
    problem: DispatchProblem, portfolio_id: str, assets_per_message: int = _ASSETS_PER_MESSAGE
) -> Iterator[api.CreatePortfolioRequest]:
    """Header, chunks of columns and commit, written one by one."""
    fleet = problem.fleet
    yield api.CreatePortfolioRequest(
        header=api.CreatePortfolioHeader(
            request_id=str(uuid.uuid4()),
            portfolio_id=portfolio_id,
            currency_code="EUR",
            groups=[f"feeder-{k}" for k in range(problem.group_count)],
            expected_assets=len(fleet),
        )
    )
    for first in range(0, len(fleet), assets_per_message):
        part = fleet.take(slice(first, first + assets_per_message))
        columns = {wire: getattr(part, name).tolist() for name, wire in WIRE_NAMES.items()}
        if np.isnan(part.shortfall_price_per_kwh).all():
            # a column without entries is the contract's default
            del columns["shortfall_price_per_kwh"]
        ids = [f"car-{k}" for k in range(first, first + len(part))]
        chunk = api.PortfolioChunk(fleet=fleet_pb2.Fleet(asset_ids=ids, **columns))
        yield api.CreatePortfolioRequest(chunk=chunk)
    yield api.CreatePortfolioRequest(commit=api.PortfolioCommit())


def limit_messages(problem: DispatchProblem) -> list[plan_pb2.PortfolioLimit]:
    """The limits of imports."""
    return [
        plan_pb2.PortfolioLimit(
            group_id=f"feeder-{limit.index}" if limit.scope == LimitScope.GROUP else "",
            max_import_kw=limit.upper_kw.tolist(),
            violation_price_per_kwh=limit.violation_price_per_kwh,
        )
        for limit in problem.limits
    ]


def read_plan(messages: Iterable[api.PlanPortfolioResponse | api.GetPlanResponse]) -> WirePlan:
    """The summary, and the chunks' powers as one array.

    Raises:
        RuntimeError: The stream has no summary, or not all chunks of it.
    """
    plan: plan_pb2.Plan | None = None
    power_kw: NDArray[np.float32] | None = None
    filled = chunks = expected = 0
    for message in messages:
        if message.HasField("summary"):
            plan = message.summary.plan
            expected = message.summary.chunk_count
            if expected:
                power_kw = np.empty((plan.asset_count, plan.time_grid.step_count), dtype=np.float32)
        elif message.HasField("chunk") and power_kw is not None:
            rows = len(message.chunk.asset_ids)
            power_kw[filled : filled + rows] = np.array(message.chunk.power_kw).reshape(rows, -1)
            filled += rows
            chunks += 1
    if plan is None or chunks != expected or (power_kw is not None and filled != len(power_kw)):
        raise RuntimeError("the plan's stream ended before its end")
    return WirePlan(plan, power_kw)
