"""Portfolios of both clients: streamed whole, again where that helps, and found afterwards."""

from __future__ import annotations

from typing import Any

import grpc
import pandas as pd
import pytest

from evflex.client import (
    AlreadyExistsError,
    ConflictError,
    InvalidRequestError,
    LimitExceededError,
    UnavailableError,
)
from evflex.client.dispatch import fleet as fleet_module
from evflex.client.dispatch import portfolio as portfolio_module
from evflex.common.v1 import product_pb2
from evflex.dispatch.v1 import dispatch_service_pb2 as pb
from evflex.dispatch.v1 import portfolio_pb2
from tests.client.fake_server import FakeServer, after_reading, answering, failing

UNAVAILABLE = failing(grpc.StatusCode.UNAVAILABLE, "the queue is full")
FLEET = pd.DataFrame(
    {
        "asset_id": [f"car-{i}" for i in range(5)],
        "group": ["north", "north", "south", "south", None],
        "max_charge_kw": 11.0,
    }
)


def portfolio_message(portfolio_id: str = "p-1") -> portfolio_pb2.Portfolio:
    message = portfolio_pb2.Portfolio(
        portfolio_id=portfolio_id, version=3, groups=["north", "south"], operators=["o"], currency_code="DKK",
        asset_count=5, resident_bytes=400, etag="e-3",
    )  # fmt: skip
    message.create_time.FromJsonString("2026-03-04T10:59:00Z")
    return message


@pytest.fixture
def small_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_module, "ASSETS_PER_MESSAGE", 2)
    monkeypatch.setattr(portfolio_module, "ASSETS_PER_MESSAGE", 2)


@pytest.mark.usefixtures("small_messages")
def test_a_portfolio_is_sent_as_header_chunks_and_commit(client: Any, server: FakeServer) -> None:
    server.on("CreatePortfolio", after_reading(pb.CreatePortfolioResponse(portfolio=portfolio_message())))
    index = pd.date_range("2026-03-04 12:00", periods=2, freq="h", tz="UTC")
    created = client.create_portfolio(
        FLEET, portfolio_id="p-1", currency_code="DKK", area_id="DK2", profiles=pd.DataFrame({"roof": -1.0}, index)
    )
    assert (created.portfolio_id, created.version, created.groups) == ("p-1", 3, ("north", "south"))
    assert created.create_time == pd.Timestamp("2026-03-04T10:59:00Z")
    assert created.update_time is None
    (sent,) = server.asked("CreatePortfolio")
    kinds = [message.WhichOneof("payload") for message in sent]
    assert kinds == ["header", "chunk", "chunk", "chunk", "chunk", "commit"]
    header = sent[0].header
    assert header.request_id
    assert (header.portfolio_id, header.currency_code, header.area_id) == ("p-1", "DKK", "DK2")
    assert (header.expected_assets, list(header.groups)) == (5, ["north", "south"])
    assert [asset for message in sent for asset in message.chunk.fleet.asset_ids] == FLEET["asset_id"].tolist()
    assert sent[4].chunk.profiles[0].asset_id == "roof"


def test_a_busy_server_is_sent_the_same_portfolio_again(client: Any, server: FakeServer) -> None:
    answer = after_reading(pb.CreatePortfolioResponse(portfolio=portfolio_message()))

    def failing_at_the_end(requests: Any, context: Any) -> Any:
        for _ in requests:
            pass
        return UNAVAILABLE(None, context)

    server.on("CreatePortfolio", UNAVAILABLE, failing_at_the_end, answer)
    assert client.create_portfolio(FLEET, currency_code="EUR").portfolio_id == "p-1"
    _, second, third = server.asked("CreatePortfolio")
    assert second == third
    assert len(third) == 3


def test_a_server_that_refuses_early_is_heard(client: Any, server: FakeServer) -> None:
    server.on("CreatePortfolio", failing(grpc.StatusCode.RESOURCE_EXHAUSTED, "at most 3 assets"))
    with pytest.raises(LimitExceededError, match="at most 3 assets"):
        client.create_portfolio(FLEET, currency_code="EUR")


def test_a_server_that_stays_busy_is_given_up(client: Any, server: FakeServer) -> None:
    server.on("CreatePortfolio", UNAVAILABLE)
    with pytest.raises(UnavailableError):
        client.create_portfolio(FLEET, currency_code="EUR")
    assert len(server.calls) == 3


def test_a_faulty_table_is_not_sent(client: Any, server: FakeServer) -> None:
    with pytest.raises(InvalidRequestError, match=r"fleet\.max_charge_kw"):
        client.create_portfolio(FLEET.assign(max_charge_kw="fast"), currency_code="EUR")
    assert server.calls == []


def test_an_identifier_that_is_taken_is_told(client: Any, server: FakeServer) -> None:
    server.on("CreatePortfolio", failing(grpc.StatusCode.ALREADY_EXISTS, "p-1 exists"))
    with pytest.raises(AlreadyExistsError):
        client.create_portfolio(FLEET, portfolio_id="p-1", currency_code="EUR")


@pytest.mark.usefixtures("small_messages")
def test_changes_of_groups_go_by_the_portfolios_own_index(client: Any, server: FakeServer) -> None:
    server.on("GetPortfolio", answering(pb.GetPortfolioResponse(portfolio=portfolio_message())))
    answer = pb.UpdatePortfolioResponse(portfolio=portfolio_message(), added_count=1, changed_count=1, removed_count=3)
    server.on("UpdatePortfolio", after_reading(answer))
    changes = pd.DataFrame({"asset_id": ["car-0", "car-9"], "group": ["west", "south"]})
    update = client.update_portfolio("p-1", changes, remove=["car-1", "car-2", "car-3"])
    assert (update.added_count, update.changed_count, update.removed_count) == (1, 1, 3)
    assert update.portfolio.version == 3
    (sent,) = server.asked("UpdatePortfolio")
    assert (sent[0].header.etag, list(sent[0].header.added_groups)) == ("e-3", ["west"])
    assert list(sent[1].chunk.removed_asset_ids) == ["car-1", "car-2"]
    assert list(sent[2].chunk.removed_asset_ids) == ["car-3"]
    assert list(sent[3].chunk.fleet.group_indices) == [2, 1]
    assert sent[-1].WhichOneof("payload") == "commit"


def test_changes_without_groups_ask_nothing_first(client: Any, server: FakeServer) -> None:
    server.on("UpdatePortfolio", after_reading(pb.UpdatePortfolioResponse()))
    client.update_portfolio("p-1", FLEET[["asset_id", "max_charge_kw"]])
    client.update_portfolio("p-1", remove=["car-1"], etag="mine")
    first, second = server.asked("UpdatePortfolio")
    assert [name for name, _, _ in server.calls] == ["UpdatePortfolio", "UpdatePortfolio"]
    assert first[0].header.etag == ""
    assert second[0].header.etag == "mine"
    assert list(second[1].chunk.removed_asset_ids) == ["car-1"]


def test_a_change_between_is_a_conflict(client: Any, server: FakeServer) -> None:
    server.on("UpdatePortfolio", failing(grpc.StatusCode.FAILED_PRECONDITION, "the etag is e-4"))
    with pytest.raises(ConflictError):
        client.update_portfolio("p-1", remove=["car-1"], etag="e-3")


def test_portfolios_are_fetched_listed_and_deleted(client: Any, server: FakeServer) -> None:
    server.on("GetPortfolio", answering(pb.GetPortfolioResponse(portfolio=portfolio_message())))
    server.on(
        "ListPortfolios",
        answering(pb.ListPortfoliosResponse(portfolios=[portfolio_message("p-2")], next_page_token="more")),
        UNAVAILABLE,
        answering(pb.ListPortfoliosResponse(portfolios=[portfolio_message("p-1")])),
    )
    server.on("DeletePortfolio", UNAVAILABLE, answering(pb.DeletePortfolioResponse()))
    assert client.get_portfolio("p-1").asset_count == 5
    assert [found.portfolio_id for found in client.list_portfolios(page_size=1)] == ["p-2", "p-1"]
    assert [request.page_token for request in server.asked("ListPortfolios")] == ["", "more", "more"]
    client.delete_portfolio("p-1", etag="e-3")
    first, second = server.asked("DeletePortfolio")
    assert first == second
    assert (first.portfolio_id, first.etag) == ("p-1", "e-3")
    assert first.request_id


def test_products_are_listed(client: Any, server: FakeServer) -> None:
    message = product_pb2.ProductSpec(
        product_id="fcr-d-up", version=1, kind=product_pb2.PRODUCT_KIND_FCR_D_UP, min_bid_kw=100.0
    )
    message.min_endurance_duration.FromJsonString("1200s")
    server.on("ListProducts", answering(pb.ListProductsResponse(products=[message])))
    (product,) = client.list_products()
    assert (product.product_id, product.kind, product.min_bid_kw) == ("fcr-d-up", "FCR_D_UP", 100.0)
    assert product.min_endurance_duration == pd.Timedelta(minutes=20)
    assert product.valid_from_time is None
