"""Portfolios come in as streams, are checked as a whole, and are there with the commit or not at all."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from evflex.dispatch.v1 import dispatch_service_pb2 as api
from evflex.dispatch.v1 import fleet_pb2
from evflex.server.caller import Caller
from tests.server.dispatch.support import (
    RunningDispatch,
    asset_names,
    created,
    creation,
    fleet,
    grid,
    header,
    planned,
    profile,
    running_dispatch,
    update,
)
from tests.server.support import info_of, reason_of, until, violations_of


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDispatch]:
    with running_dispatch(tmp_path_factory.mktemp("server")) as server:
        yield server


def refused(here: RunningDispatch, messages: list[Any]) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        here.dispatch.CreatePortfolio(iter(messages), timeout=30.0)
    return caught.value


def faults(here: RunningDispatch, *chunks: Any, **fields: Any) -> dict[str, str]:
    fields.setdefault("portfolio_id", "never")
    expected = fields.pop("expected", 3)
    error = refused(here, creation(header(expected, **fields), *chunks))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.RpcError) as caught:
        here.dispatch.GetPortfolio(api.GetPortfolioRequest(portfolio_id="never"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    return violations_of(error)


def test_a_portfolio_is_there_with_the_commit(here: RunningDispatch) -> None:
    pv = fleet(1, 2, kinds=[fleet_pb2.ASSET_KIND_PV], max_charge_kw=[], energy_needed_kwh=[])
    chunks = [
        api.PortfolioChunk(fleet=fleet(2)),
        api.PortfolioChunk(fleet=pv, profiles=[profile("asset-000002", -1.0)]),
    ]
    messages = creation(header(3, portfolio_id="whole", area_id="north"), *chunks)
    made = here.dispatch.CreatePortfolio(iter(messages)).portfolio
    assert (made.portfolio_id, made.version, made.asset_count, made.profile_count) == ("whole", 1, 3, 1)
    assert (list(made.groups), list(made.operators)) == (["feeder-1", "feeder-2"], ["cpo-1"])
    assert (made.area_id, made.tenant_id, made.currency_code) == ("north", "default", "EUR")
    assert made.resident_bytes > 0
    assert made.etag
    assert here.dispatch.GetPortfolio(api.GetPortfolioRequest(portfolio_id="whole")).portfolio == made


def test_the_server_names_a_portfolio_that_has_no_name(here: RunningDispatch) -> None:
    made = created(here, 1, portfolio_id="")
    assert made.portfolio_id
    assert planned(here, portfolio_id=made.portfolio_id).plan.asset_count == 1


@pytest.mark.parametrize("count", [0, 1])
def test_none_and_one_asset_are_a_portfolio(here: RunningDispatch, count: int) -> None:
    made = created(here, count, portfolio_id=f"small-{count}")
    assert made.asset_count == count
    answer = planned(here, portfolio_id=made.portfolio_id)
    assert len(answer.powers) == count
    assert answer.summary.chunk_count == count


def test_another_portfolio_of_the_same_name_is_refused(here: RunningDispatch) -> None:
    created(here, 1, portfolio_id="twice")
    error = refused(here, creation(header(1, portfolio_id="twice"), fleet(1)))
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.ALREADY_EXISTS, "PORTFOLIO_EXISTS")
    error = refused(here, creation(header(1, portfolio_id="twice", validate_only=True), fleet(1)))
    assert error.code() is grpc.StatusCode.ALREADY_EXISTS


def test_only_checked_is_not_stored(here: RunningDispatch) -> None:
    messages = creation(header(1, portfolio_id="checked", validate_only=True, request_id=""), fleet(1))
    assert here.dispatch.CreatePortfolio(iter(messages)).portfolio.ByteSize() == 0
    assert faults(here, fleet(1), expected=2)


@pytest.mark.parametrize(
    ("column", "values", "index"),
    [
        ("max_charge_kw", [1.0, float("nan"), 1.0], 1),
        ("max_charge_kw", [1.0, 1.0, float("inf")], 2),
        ("max_discharge_kw", [-1.0, 0.0, 0.0], 0),
        ("min_charge_kw", [12.0, 0.0, 0.0], 0),
        ("group_indices", [0, 1, 2], 2),
        ("operator_indices", [0, -2, -1], 1),
        ("kinds", [1, 0, 1], 1),
        ("kinds", [1, 257, 1], 1),
        ("available_until_unix_s", [0, 0, -1], 2),
        ("energy_headroom_kwh", [5.0, 4.0, 6.0], 1),
        ("shortfall_price_per_kwh", [1.0, float("nan"), 1.0], 1),
        ("charge_efficiency", [0.0, 1.0, 1.0], 0),
        ("discharge_efficiency", [1.0, 1.5, 1.0], 1),
        ("discharge_cost_per_kwh", [0.0, 0.0, -0.1], 2),
        ("energy_value_per_kwh", [0.0, float("nan"), 0.0], 1),
    ],
)
def test_a_fault_is_named_by_message_column_and_row(
    here: RunningDispatch, column: str, values: list[Any], index: int
) -> None:
    columns: dict[str, Any] = {column: values}
    found = faults(here, fleet(2, 9), fleet(3, **columns), expected=5)
    assert set(found) == {f"chunks[1].fleet.{column}[{index}]"}


def test_columns_of_another_length_are_refused(here: RunningDispatch) -> None:
    found = faults(here, fleet(3, max_discharge_kw=[1.0, 2.0]))
    assert found == {"chunks[0].fleet.max_discharge_kw": "must have length 0 or 3, has 2"}
    assert set(faults(here, fleet(0, max_charge_kw=[1.0], energy_needed_kwh=[]))) == {"chunks[0].fleet.max_charge_kw"}


def test_identifiers_must_be_there_short_printable_and_unique(here: RunningDispatch) -> None:
    assert set(faults(here, fleet(3, asset_ids=["a", "", "x" * 65]))) == {
        "chunks[0].fleet.asset_ids[1]", "chunks[0].fleet.asset_ids[2]",
    }  # fmt: skip
    assert set(faults(here, fleet(3, asset_ids=["a", "b\x00", "c"]))) == {"chunks[0].fleet.asset_ids[1]"}
    assert set(faults(here, fleet(2), fleet(2, 1), expected=4)) == {"chunks[1].fleet.asset_ids[0]"}
    wide = api.PortfolioChunk(fleet=fleet(1, asset_ids=["é" * 32]))
    assert created(here, 0, wide, portfolio_id="wide", expected_assets=1).asset_count == 1


def test_the_first_hundred_faults_are_told(here: RunningDispatch) -> None:
    many = fleet(300, max_discharge_kw=[-1.0] * 300)
    error = refused(here, creation(header(300, portfolio_id="never"), many))
    assert info_of(error)["violation_count"] == "300"
    assert 0 < len(violations_of(error)) <= 100


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"request_id": "x"}, "header.request_id"),
        ({"request_id": ""}, "header.request_id"),
        ({"currency_code": "eur"}, "header.currency_code"),
        ({"portfolio_id": "a\nb"}, "header.portfolio_id"),
        ({"groups": ["a", "a"]}, "header.groups[1]"),
        ({"groups": ["a", "cpo-1"]}, "header.groups[1]"),
        ({"operators": [""]}, "header.operators[0]"),
        ({"expected_assets": -1}, "header.expected_assets"),
        ({"expected_assets": 2}, "header.expected_assets"),
        ({"expected_assets": 4}, "header.expected_assets"),
    ],
)
def test_a_header_that_is_wrong_is_refused(here: RunningDispatch, fields: dict[str, Any], path: str) -> None:
    error = refused(here, creation(header(**{"portfolio_id": "never", **fields}), fleet(3)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert path in violations_of(error)


def test_the_order_is_header_chunks_commit(here: RunningDispatch) -> None:
    head, chunk, commit = creation(header(3, portfolio_id="never"), fleet(3))
    for messages, field in [
        ([], "header"),
        ([chunk, commit], "header"),
        ([head, head, chunk, commit], "header"),
        ([head, chunk], "commit"),
        ([head, chunk, commit, chunk], "commit"),
        ([head, api.CreatePortfolioRequest(), commit], "payload"),
    ]:
        assert set(violations_of(refused(here, messages))) == {field}


def test_nothing_is_removed_from_what_is_not_there_yet(here: RunningDispatch) -> None:
    assert set(faults(here, api.PortfolioChunk(fleet=fleet(3), removed_asset_ids=["a"]))) == {
        "chunks[0].removed_asset_ids"
    }


@pytest.mark.parametrize(
    ("made", "path"),
    [
        (profile("missing", -1.0), "asset_id"),
        (profile("asset-000001", 1.0), "asset_id"),
        (profile("asset-000000", -1.0, 0.5), "power_kw[1]"),
        (profile("asset-000002", -0.5), "power_kw[0]"),
        (profile("asset-000000", -1.0, float("nan")), "power_kw[1]"),
        (fleet_pb2.Profile(asset_id="asset-000000", time_grid=grid(3), power_kw=[0.0]), "power_kw"),
        (fleet_pb2.Profile(asset_id="asset-000000", power_kw=[0.0]), "time_grid"),
        (profile("asset-000000", -1.0, step_s=0), "time_grid.step_duration"),
    ],
)
def test_a_profile_must_suit_its_asset(here: RunningDispatch, made: fleet_pb2.Profile, path: str) -> None:
    kinds = [fleet_pb2.ASSET_KIND_PV, fleet_pb2.ASSET_KIND_EV, fleet_pb2.ASSET_KIND_HEAT_PUMP]
    chunk = api.PortfolioChunk(fleet=fleet(3, kinds=kinds), profiles=[made])
    assert set(faults(here, chunk)) == {f"chunks[0].profiles[0].{path}"}
    assert set(faults(here, fleet(3, kinds=kinds), profiles=[made])) == {f"header.profiles[0].{path}"}


def test_the_later_profile_of_an_asset_counts(here: RunningDispatch) -> None:
    kinds = [fleet_pb2.ASSET_KIND_FLEXIBLE_LOAD]
    chunk = api.PortfolioChunk(fleet=fleet(1, kinds=kinds), profiles=[profile("asset-000000", 7.0)])
    messages = creation(header(1, portfolio_id="later", profiles=[profile("asset-000000", 1.0, 2.0)]), chunk)
    assert here.dispatch.CreatePortfolio(iter(messages)).portfolio.profile_count == 1
    planned(here, portfolio_id="later")
    assert here.engine.problems[-1].profiles.power_kw.tolist() == [[7.0] * 4 + [0.0] * 4]


def test_the_same_request_gets_the_same_answer_and_another_payload_none(here: RunningDispatch) -> None:
    messages = creation(header(2, portfolio_id="again"), fleet(2))
    first = here.dispatch.CreatePortfolio(iter(messages))
    assert here.dispatch.CreatePortfolio(iter(messages)) == first
    messages[1].chunk.fleet.max_charge_kw[0] = 7.0
    error = refused(here, messages)
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


def test_a_stream_that_breaks_changes_nothing_and_frees_its_memory(tmp_path: Path) -> None:
    with running_dispatch(tmp_path) as here:
        going = threading.Event()

        def broken() -> Iterator[api.CreatePortfolioRequest]:
            yield from creation(header(3), fleet(2))[:-1]
            going.set()
            threading.Event().wait(30.0)

        call = here.dispatch.CreatePortfolio.future(broken())
        assert going.wait(10.0)
        call.cancel()
        memory = here.server.residents.memory
        until(lambda: memory.used_bytes == 0)
        assert not here.dispatch.ListPortfolios(api.ListPortfoliosRequest()).portfolios
        assert created(here).version == 1


def test_too_many_assets_are_refused_by_the_header_alone(tmp_path: Path) -> None:
    with running_dispatch(tmp_path, max_portfolio_assets=10) as here:
        error = refused(here, [api.CreatePortfolioRequest(header=header(11))])
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert info_of(error) == {"limit": "max_portfolio_assets", "maximum": "10", "value": "11"}
        created(here, 10)
        with pytest.raises(grpc.RpcError) as caught:
            here.dispatch.UpdatePortfolio(iter(update(fleet(1, 10))))
        assert info_of(caught.value)["limit"] == "max_portfolio_assets"


def test_too_many_groups_are_refused(tmp_path: Path) -> None:
    with running_dispatch(tmp_path, max_portfolio_groups=3) as here:
        error = refused(here, [api.CreatePortfolioRequest(header=header(1, groups=["a", "b", "c"]))])
        assert info_of(error)["limit"] == "max_portfolio_groups"


def test_what_does_not_fit_into_memory_is_refused_at_once_or_while_it_comes(tmp_path: Path) -> None:
    with running_dispatch(tmp_path, max_portfolio_memory_bytes=1_000_000) as here:
        error = refused(here, [api.CreatePortfolioRequest(header=header(10_000))])
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert info_of(error)["limit"] == "max_portfolio_memory_bytes"
        wide = fleet(5_000, asset_ids=[f"{i:064d}" for i in range(5_000)])
        kinds = [fleet_pb2.ASSET_KIND_PV] * 5_000
        error = refused(here, creation(header(6_000), wide))
        assert info_of(error)["limit"] == "max_portfolio_memory_bytes"
        many = [profile(name, *[-1.0] * 96) for name in asset_names(2_000)]
        error = refused(here, creation(header(5_000, profiles=many), fleet(5_000, kinds=kinds)))
        assert info_of(error)["limit"] == "max_portfolio_memory_bytes"
        assert here.server.residents.memory.used_bytes == 0


def test_idle_portfolios_make_room_and_come_back(tmp_path: Path) -> None:
    with running_dispatch(tmp_path, max_portfolio_memory_bytes=1_000_000) as here:
        for name in ("a", "b", "c"):
            created(here, 4_000, portfolio_id=name)
        assert here.server.residents.memory.used_bytes <= 1_000_000
        for name in ("a", "b", "c"):
            assert planned(here, portfolio_id=name, return_setpoints=False).plan.asset_count == 4_000


def test_many_faults_are_found_soon(here: RunningDispatch) -> None:
    count = 200_000
    bad = fleet(
        count, asset_ids=[str(i) for i in range(count)], group_indices=[7] * count, max_charge_kw=[-1.0] * count
    )
    error = refused(here, creation(header(count, portfolio_id="never"), bad))
    assert int(info_of(error)["violation_count"]) < count
    nameless = fleet(count, asset_ids=[""] * count)
    error = refused(here, creation(header(count, portfolio_id="never"), nameless))
    assert info_of(error)["violation_count"] == "100"


def test_memory_of_portfolios_is_measured(tmp_path: Path) -> None:
    with running_dispatch(tmp_path) as here:
        made = created(here, 100)
        samples = {s.name: s.value for m in here.server.metrics.registry.collect() for s in m.samples}
        assert samples["evflex_portfolio_bytes"] == made.resident_bytes


def test_tenants_see_only_their_own(here: RunningDispatch) -> None:
    mine = created(here, 1, portfolio_id="shared")
    other = (("evflex-tenant", "other"),)
    messages = creation(header(2, portfolio_id="shared"), fleet(2))
    theirs = here.dispatch.CreatePortfolio(iter(messages), metadata=other).portfolio
    assert theirs.asset_count == 2
    get = api.GetPortfolioRequest(portfolio_id="shared")
    assert here.dispatch.GetPortfolio(get, metadata=other).portfolio == theirs
    assert here.dispatch.GetPortfolio(get).portfolio == mine
    listed = here.dispatch.ListPortfolios(api.ListPortfoliosRequest(), metadata=other).portfolios
    assert list(listed) == [theirs]


def test_areas_of_others_are_not_there(tmp_path: Path) -> None:
    def resolve(metadata: Any, peer: str) -> Caller:
        areas = [value for key, value in metadata if key == "areas"]
        return Caller("default", areas=frozenset(areas) if areas else None)

    with running_dispatch(tmp_path, server_arguments={"resolve_caller": resolve}) as here:
        created(here, 1, area_id="north")
        south = (("areas", "south"),)
        for call, request in [
            (here.dispatch.GetPortfolio, api.GetPortfolioRequest(portfolio_id="p")),
            (here.dispatch.DeletePortfolio, api.DeletePortfolioRequest(portfolio_id="p", validate_only=True)),
        ]:
            with pytest.raises(grpc.RpcError) as caught:
                call(request, metadata=south)
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.RpcError) as caught:
            here.dispatch.CreatePortfolio(iter(creation(header(1, area_id="north"), fleet(1))), metadata=south)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert not here.dispatch.ListPortfolios(api.ListPortfoliosRequest(), metadata=south).portfolios
        assert len(here.dispatch.ListPortfolios(api.ListPortfoliosRequest()).portfolios) == 1


def test_a_message_of_another_kind_is_undecodable(here: RunningDispatch) -> None:
    call = here.channel.stream_unary("/evflex.dispatch.v1.DispatchService/CreatePortfolio")
    with pytest.raises(grpc.RpcError) as caught:
        call(iter([FieldMask(paths=["\x00" * 5]).SerializeToString() + b"\xff"]))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_pages_list_the_newest_first(tmp_path: Path) -> None:
    with running_dispatch(tmp_path) as here:
        for name in "abc":
            created(here, 0, portfolio_id=name)
        first = here.dispatch.ListPortfolios(api.ListPortfoliosRequest(page_size=2))
        assert [p.portfolio_id for p in first.portfolios] == ["c", "b"]
        second = here.dispatch.ListPortfolios(api.ListPortfoliosRequest(page_size=2, page_token=first.next_page_token))
        assert ([p.portfolio_id for p in second.portfolios], second.next_page_token) == (["a"], "")
