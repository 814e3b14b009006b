"""Plans of both clients: progress, summary and powers as pandas objects, and streams that break."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pandas as pd
import pytest

from evflex.client import (
    InvalidRequestError,
    NotFoundError,
    PlanProgress,
    PortfolioLimit,
    PortfolioReserve,
    ServerError,
)
from evflex.common.v1 import termination_pb2
from evflex.dispatch.v1 import dispatch_service_pb2 as pb
from evflex.dispatch.v1 import plan_pb2
from tests.client.fake_server import Behaviour, FakeServer, abort, answering, failing

UNAVAILABLE = failing(grpc.StatusCode.UNAVAILABLE, "the queue is full")
INDEX = pd.date_range("2026-03-04 11:00", periods=2, freq="15min", tz="UTC")
PRICES = pd.Series([0.3, 0.1], index=INDEX)
LIMIT = PortfolioLimit(max_import_kw=6.0, violation_price_per_kwh=2.0)


def plan_message() -> plan_pb2.Plan:
    message = plan_pb2.Plan(
        plan_id="plan-1", portfolio_id="p-1", portfolio_version=3, currency_code="DKK", asset_count=3,
        fleet_power_kw=[3.0, 6.0], groups=["north", "south"], group_power_kw=[1.0, 2.0, 2.0, 4.0],
        total_cost=1.5, shortfall_kwh=0.5, assets_short=1,
    )  # fmt: skip
    message.time_grid.start_time.FromJsonString("2026-03-04T11:00:00Z")
    message.time_grid.step_duration.FromJsonString("900s")
    message.time_grid.step_count = 2
    message.limits.add(power_kw=[3.0, 6.0], price_per_kw_step=[0.0, 0.2], above_kw=[0.0, 1.0])
    message.limits.add(group_id="north", power_kw=[1.0, 2.0], price_per_kw_step=[0.0, 0.0])
    message.reserve_shortfalls.add(commitment_id="c", step=1, up_kw=2.0)
    message.figures.import_cost = 1.25
    message.termination.reason = termination_pb2.TERMINATION_REASON_OPTIMAL
    message.termination.relative_gap = 0.0005
    message.create_time.FromJsonString("2026-03-04T10:59:00Z")
    return message


def chunks() -> Iterator[plan_pb2.PlanChunk]:
    """Powers that tell the asset's number and the step."""
    yield plan_pb2.PlanChunk(chunk_index=0, asset_ids=["a", "b"], power_kw=[0.0, 0.5, 1.0, 1.5])
    yield plan_pb2.PlanChunk(chunk_index=1, asset_ids=["c"], power_kw=[2.0, 2.5])


def planned(setpoints: bool = True) -> list[pb.PlanPortfolioResponse]:
    progress = pb.PlanPortfolioResponse()
    progress.progress.iteration = 4
    progress.progress.phase = "master"
    progress.progress.elapsed_duration.FromJsonString("1.5s")
    summary = plan_pb2.PlanSummary(plan=plan_message(), chunk_count=2 * setpoints)
    parts = [pb.PlanPortfolioResponse(chunk=chunk) for chunk in chunks()] if setpoints else []
    return [progress, pb.PlanPortfolioResponse(summary=summary), *parts]


def stored() -> list[pb.GetPlanResponse]:
    summary = plan_pb2.PlanSummary(plan=plan_message(), chunk_count=2)
    return [pb.GetPlanResponse(summary=summary), *(pb.GetPlanResponse(chunk=chunk) for chunk in chunks())]


def streaming(messages: list[Any], then: grpc.StatusCode | None = None) -> Behaviour:
    def behaviour(_request: Any, context: Any) -> Iterator[Any]:
        yield from messages
        if then is not None:
            abort(context, then, "lost")

    return behaviour


def test_a_plan_comes_as_pandas_objects(client: Any, server: FakeServer) -> None:
    server.on("PlanPortfolio", streaming(planned(setpoints=False)))
    plan = client.plan_portfolio("p-1", prices=PRICES, limits=[LIMIT])
    assert (plan.plan_id, plan.portfolio_version, plan.currency_code) == ("plan-1", 3, "DKK")
    assert list(plan.power_kw.index) == list(INDEX)
    assert plan.power_kw.tolist() == [3.0, 6.0]
    assert plan.group_power_kw["south"].tolist() == [2.0, 4.0]
    assert plan.limits.loc["", "price_per_kw_step"].tolist() == [0.0, 0.2]
    assert plan.limits.loc[("", INDEX[1]), "above_kw"] == 1.0
    assert plan.limits.loc["north", "above_kw"].tolist() == [0.0, 0.0]
    assert plan.reserve_shortfalls.loc[0, ["time", "up_kw"]].tolist() == [INDEX[1], 2.0]
    assert plan.setpoints_kw is None
    assert (plan.total_cost, plan.figures.import_cost, plan.shortfall_kwh, plan.assets_short) == (1.5, 1.25, 0.5, 1)
    assert (plan.gap, plan.termination.reason) == (0.0005, "OPTIMAL")
    assert plan.create_time == pd.Timestamp("2026-03-04T10:59:00Z")
    (request,) = server.asked("PlanPortfolio")
    assert list(request.limits[0].max_import_kw) == [6.0]


def test_a_commitment_that_the_plan_breaks_is_told(client: Any, server: FakeServer) -> None:
    server.on("PlanPortfolio", streaming(planned(setpoints=False)))
    plan = client.plan_portfolio("p-1", prices=PRICES, reserves=["kept", PortfolioReserve(commitment_id="c")])
    (request,) = server.asked("PlanPortfolio")
    assert [reserve.commitment_id for reserve in request.reserves] == ["kept", "c"]
    assert not any(reserve.HasField("time_grid") for reserve in request.reserves)
    (missing,) = plan.reserve_shortfalls.to_dict("records")
    assert (missing["commitment_id"], missing["step"], missing["up_kw"]) == ("c", 1, 2.0)


def test_powers_of_assets_come_as_one_table(client: Any, server: FakeServer) -> None:
    server.on("PlanPortfolio", streaming(planned()))
    plan = client.plan_portfolio("p-1", prices=PRICES, return_setpoints=True)
    assert server.asked("PlanPortfolio")[0].options.return_setpoints
    assert list(plan.setpoints_kw.index) == ["a", "b", "c"]
    assert list(plan.setpoints_kw.columns) == list(INDEX)
    assert np.array_equal(plan.setpoints_kw.to_numpy(), [[0.0, 0.5], [1.0, 1.5], [2.0, 2.5]])


def test_progress_is_told(client: Any, server: FakeServer) -> None:
    server.on("PlanPortfolio", streaming(planned()))
    told: list[PlanProgress] = []
    client.plan_portfolio("p-1", prices=PRICES, on_progress=told.append)
    assert [(progress.iteration, progress.phase) for progress in told] == [(4, "master")]
    assert told[0].elapsed_duration == pd.Timedelta(seconds=1.5)


def test_a_lost_plan_is_asked_again_with_the_same_request(client: Any, server: FakeServer) -> None:
    lost = streaming(planned()[:3], grpc.StatusCode.UNAVAILABLE)
    server.on("PlanPortfolio", UNAVAILABLE, lost, streaming(planned()))
    plan = client.plan_portfolio("p-1", prices=PRICES, return_setpoints=True)
    assert len(plan.setpoints_kw) == 3
    first, second, third = server.asked("PlanPortfolio")
    assert first == second == third


def test_an_empty_plan_is_that_of_a_checked_request(client: Any, server: FakeServer) -> None:
    server.on("PlanPortfolio", streaming([pb.PlanPortfolioResponse(summary=plan_pb2.PlanSummary())]))
    plan = client.plan_portfolio("p-1", prices=PRICES, validate_only=True)
    assert server.asked("PlanPortfolio")[0].validate_only
    assert plan.power_kw.empty
    assert plan.limits.empty
    assert plan.group_power_kw.empty


@pytest.mark.parametrize(
    "messages",
    [
        [],
        planned()[:1],
        planned()[:3],
        [*planned()[:2], planned()[3]],
        [*planned(), planned()[3]],
        [planned()[2], *planned()],
    ],
    ids=["nothing", "progress only", "a chunk short", "a chunk left out", "a chunk twice", "chunk first"],
)
def test_a_stream_that_is_not_whole_is_an_error(
    client: Any, server: FakeServer, messages: list[pb.PlanPortfolioResponse]
) -> None:
    server.on("PlanPortfolio", streaming(messages))
    with pytest.raises(ServerError, match="the server's stream"):
        client.plan_portfolio("p-1", prices=PRICES, return_setpoints=True)
    assert len(server.calls) == 1


def test_a_request_that_cannot_be_written_is_not_sent(client: Any, server: FakeServer) -> None:
    with pytest.raises(InvalidRequestError, match="start and step"):
        client.plan_portfolio("p-1", prices=[0.1])
    assert server.calls == []


def test_a_stored_plan_is_fetched(client: Any, server: FakeServer) -> None:
    server.on("GetPlan", UNAVAILABLE, streaming(stored()))
    plan = client.get_plan("plan-1", return_setpoints=True)
    assert plan.setpoints_kw.loc["b"].tolist() == [1.0, 1.5]
    assert server.asked("GetPlan")[1] == pb.GetPlanRequest(plan_id="plan-1", return_setpoints=True)


def test_some_assets_are_fetched(client: Any, server: FakeServer) -> None:
    one = plan_pb2.PlanChunk(asset_ids=["c"], power_kw=[2.0, 2.5])
    summary = plan_pb2.PlanSummary(plan=plan_message(), chunk_count=1)
    server.on("GetPlan", streaming([pb.GetPlanResponse(summary=summary), pb.GetPlanResponse(chunk=one)]))
    assert client.get_plan("plan-1", asset_ids=["c"]).setpoints_kw.to_numpy().tolist() == [[2.0, 2.5]]
    assert list(server.asked("GetPlan")[0].asset_ids) == ["c"]


def test_powers_are_read_in_parts_over_a_lost_connection(client: Any, server: FakeServer) -> None:
    server.on("GetPlan", streaming(stored()[:2], grpc.StatusCode.UNAVAILABLE), streaming(stored()))
    parts = list(client.iter_setpoints("plan-1"))
    assert [list(part.index) for part in parts] == [["a", "b"], ["c"]]
    assert parts[1].loc["c", INDEX[1]] == 2.5
    assert server.asked("GetPlan")[0] == pb.GetPlanRequest(plan_id="plan-1", return_setpoints=True)


def test_parts_may_be_of_some_assets(client: Any, server: FakeServer) -> None:
    server.on("GetPlan", streaming(stored()))
    list(client.iter_setpoints("plan-1", asset_ids=["a"]))
    assert server.asked("GetPlan")[0] == pb.GetPlanRequest(plan_id="plan-1", asset_ids=["a"])


@pytest.mark.parametrize("messages", [stored()[:2], [stored()[0], stored()[2]]], ids=["short", "left out"])
def test_parts_that_are_missing_are_an_error(
    client: Any, server: FakeServer, messages: list[pb.GetPlanResponse]
) -> None:
    server.on("GetPlan", streaming(messages))
    with pytest.raises(ServerError, match="the server's stream"):
        list(client.iter_setpoints("plan-1"))


def test_a_plan_that_is_not_there_is_told(client: Any, server: FakeServer) -> None:
    server.on("GetPlan", failing(grpc.StatusCode.NOT_FOUND, "no plan"))
    with pytest.raises(NotFoundError):
        client.get_plan("none")
    with pytest.raises(NotFoundError):
        list(client.iter_setpoints("none"))


def test_plans_are_listed_and_deleted(client: Any, server: FakeServer) -> None:
    listed = plan_pb2.Plan(plan_id="plan-2", portfolio_id="p-1", total_cost=2.0)
    server.on("ListPlans", answering(pb.ListPlansResponse(plans=[plan_message(), listed])))
    server.on("DeletePlan", UNAVAILABLE, answering(pb.DeletePlanResponse()))
    assert [plan.total_cost for plan in client.list_plans("p-1")] == [1.5, 2.0]
    assert server.asked("ListPlans")[0].portfolio_id == "p-1"
    client.delete_plan("plan-2", etag="e")
    first, second = server.asked("DeletePlan")
    assert first == second
    assert first.request_id
