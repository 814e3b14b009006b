"""Changes are taken over whole or not at all, keep what they do not name, and do not touch a plan that runs."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from evflex.dispatch.v1 import dispatch_service_pb2 as api
from evflex.dispatch.v1 import fleet_pb2
from evflex.engine.dispatch.model import Fleet
from tests.server.dispatch.support import (
    FakeDispatchEngine,
    RunningDispatch,
    answer_of,
    asset_names,
    created,
    fleet,
    plan_request,
    planned,
    profile,
    running_dispatch,
    update,
    updated,
)
from tests.server.support import reason_of, violations_of


@pytest.fixture
def here(tmp_path: Path) -> Iterator[RunningDispatch]:
    with running_dispatch(tmp_path) as server:
        created(server)
        yield server


def fleet_now(here: RunningDispatch) -> tuple[list[str], Fleet]:
    """Identifiers and columns that a plan is made of."""
    names = list(planned(here).powers)
    return names, here.engine.problems[-1].fleet


def refused(here: RunningDispatch, *chunks: Any, **fields: Any) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        updated(here, *chunks, **fields)
    assert here.dispatch.GetPortfolio(api.GetPortfolioRequest(portfolio_id="p")).portfolio.version == 1
    return caught.value


def test_assets_are_added_changed_and_removed(here: RunningDispatch) -> None:
    change = fleet_pb2.Fleet(asset_ids=["asset-000001", "new"], max_discharge_kw=[3.0, 4.0])
    answer = updated(here, api.PortfolioChunk(fleet=change, removed_asset_ids=["asset-000000"]))
    assert (answer.added_count, answer.changed_count, answer.removed_count) == (1, 1, 1)
    assert (answer.portfolio.version, answer.portfolio.asset_count) == (2, 3)
    names, columns = fleet_now(here)
    assert names == ["asset-000002", "asset-000001", "new"]
    assert columns.max_discharge_kw.tolist() == [0.0, 3.0, 4.0]
    assert columns.max_charge_kw.tolist() == [11.0, 11.0, 0.0]
    assert columns.energy_headroom_kwh.tolist() == [5.0, 5.0, 0.0]


def test_a_column_that_is_not_given_stays_and_is_checked_with_the_others(here: RunningDispatch) -> None:
    error = refused(here, fleet_pb2.Fleet(asset_ids=["asset-000001"], energy_needed_kwh=[6.0]))
    assert set(violations_of(error)) == {"chunks[0].fleet.energy_headroom_kwh[0]"}
    updated(here, fleet_pb2.Fleet(asset_ids=["asset-000001"], energy_needed_kwh=[6.0], energy_headroom_kwh=[7.0]))
    _, columns = fleet_now(here)
    assert columns.energy_needed_kwh.tolist() == [5.0, 6.0, 5.0]
    assert columns.max_charge_kw.tolist() == [11.0] * 3


def test_an_asset_that_is_removed_and_comes_back_is_new(here: RunningDispatch) -> None:
    back = api.PortfolioChunk(
        removed_asset_ids=["asset-000001"], fleet=fleet_pb2.Fleet(asset_ids=["asset-000001"], max_charge_kw=[2.0])
    )
    answer = updated(here, back)
    assert (answer.added_count, answer.changed_count, answer.removed_count) == (1, 0, 1)
    names, columns = fleet_now(here)
    row = names.index("asset-000001")
    assert (columns.max_charge_kw[row], columns.energy_needed_kwh[row]) == (2.0, 0.0)


def test_groups_are_added_at_the_end(here: RunningDispatch) -> None:
    error = refused(here, fleet_pb2.Fleet(asset_ids=["asset-000000"], group_indices=[2]))
    assert set(violations_of(error)) == {"chunks[0].fleet.group_indices[0]"}
    answer = updated(
        here, fleet_pb2.Fleet(asset_ids=["asset-000000"], group_indices=[2]),
        added_groups=["feeder-3"], added_operators=["cpo-2"],
    )  # fmt: skip
    assert list(answer.portfolio.groups) == ["feeder-1", "feeder-2", "feeder-3"]
    assert list(answer.portfolio.operators) == ["cpo-1", "cpo-2"]
    assert list(planned(here).plan.groups) == ["feeder-1", "feeder-2", "feeder-3"]


def test_a_name_that_exists_is_no_new_group(here: RunningDispatch) -> None:
    error = refused(here, added_groups=["x", "cpo-1"])
    assert set(violations_of(error)) == {"header.added_groups[1]"}


@pytest.mark.parametrize(
    ("chunks", "path"),
    [
        ([api.PortfolioChunk(removed_asset_ids=["asset-000000", "missing"])], "chunks[0].removed_asset_ids[1]"),
        ([api.PortfolioChunk(removed_asset_ids=["asset-000000"] * 2)], "chunks[0].removed_asset_ids[1]"),
        ([fleet(2), fleet(2, 1)], "chunks[1].fleet.asset_ids[0]"),
        ([fleet(1), api.PortfolioChunk(removed_asset_ids=["asset-000000"])], "chunks[1].removed_asset_ids[0]"),
        ([fleet(1), fleet(2, 1, max_charge_kw=[1.0, -1.0])], "chunks[1].fleet.max_charge_kw[1]"),
        ([api.PortfolioChunk(profiles=[profile("missing", -1.0)])], "chunks[0].profiles[0].asset_id"),
        ([api.PortfolioChunk(profiles=[profile("asset-000000", -1.0)])], "chunks[0].profiles[0].asset_id"),
        (
            [api.PortfolioChunk(removed_asset_ids=["asset-000000"], profiles=[profile("asset-000000", -1.0)])],
            "chunks[0].profiles[0].asset_id",
        ),
    ],
)
def test_a_fault_leaves_everything_as_it_was(here: RunningDispatch, chunks: list[Any], path: str) -> None:
    before = fleet_now(here)
    assert path in violations_of(refused(here, *chunks))
    after = fleet_now(here)
    assert after[0] == before[0]
    assert after[1].max_charge_kw.tolist() == before[1].max_charge_kw.tolist()


def test_a_stream_without_commit_changes_nothing(here: RunningDispatch) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        here.dispatch.UpdatePortfolio(iter(update(fleet(1, 9))[:-1]))
    assert set(violations_of(caught.value)) == {"commit"}
    assert fleet_now(here)[0] == asset_names(3)


def test_a_profile_goes_with_its_asset_and_keeps_its_kind(here: RunningDispatch) -> None:
    pump = fleet_pb2.Fleet(asset_ids=["hp"], kinds=[fleet_pb2.ASSET_KIND_HEAT_PUMP], max_charge_kw=[5.0])
    answer = updated(here, api.PortfolioChunk(fleet=pump, profiles=[profile("hp", 1.0, 2.0)]))
    assert answer.portfolio.profile_count == 1
    planned(here)
    assert here.engine.problems[-1].profiles.power_kw.tolist() == [[1.0] * 4 + [2.0] * 4]
    kind = fleet_pb2.Fleet(asset_ids=["hp"], kinds=[fleet_pb2.ASSET_KIND_EV])
    with pytest.raises(grpc.RpcError) as caught:
        updated(here, kind)
    assert set(violations_of(caught.value)) == {"chunks[0].fleet.kinds[0]"}
    renewed = fleet_pb2.Fleet(asset_ids=["hp"], kinds=[fleet_pb2.ASSET_KIND_PV], max_charge_kw=[0.0])
    updated(here, api.PortfolioChunk(fleet=renewed, profiles=[profile("hp", -1.0)]))
    assert updated(here, api.PortfolioChunk(removed_asset_ids=["hp"])).portfolio.profile_count == 0
    planned(here)
    assert len(here.engine.problems[-1].profiles.asset) == 0


def test_nothing_is_no_new_version(here: RunningDispatch) -> None:
    assert updated(here).portfolio.version == 1


def test_another_etag_is_refused(here: RunningDispatch) -> None:
    etag = here.dispatch.GetPortfolio(api.GetPortfolioRequest(portfolio_id="p")).portfolio.etag
    error = refused(here, fleet(1), etag="another")
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    assert updated(here, fleet(1), etag=etag).portfolio.etag != etag


def test_only_checked_changes_nothing(here: RunningDispatch) -> None:
    answer = updated(here, fleet(2, 2), validate_only=True, request_id="")
    assert (answer.added_count, answer.changed_count, answer.portfolio.version) == (1, 1, 1)
    assert fleet_now(here)[0] == asset_names(3)


def test_the_same_request_changes_once(here: RunningDispatch) -> None:
    messages = update(fleet(1, 7))
    first = here.dispatch.UpdatePortfolio(iter(messages))
    updated(here, fleet(1, 8))
    assert here.dispatch.UpdatePortfolio(iter(messages)) == first
    assert here.dispatch.GetPortfolio(api.GetPortfolioRequest(portfolio_id="p")).portfolio.version == 3
    messages[1].chunk.fleet.max_charge_kw[0] = 1.0
    with pytest.raises(grpc.RpcError) as caught:
        here.dispatch.UpdatePortfolio(iter(messages))
    assert reason_of(caught.value) == "REQUEST_ID_REUSED"


def test_what_is_not_there_is_not_found(here: RunningDispatch) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        updated(here, fleet(1), portfolio_id="missing")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    request = api.DeletePortfolioRequest(portfolio_id="p", request_id=str(uuid.uuid4()))
    here.dispatch.DeletePortfolio(request)
    here.dispatch.DeletePortfolio(request)
    assert here.server.residents.memory.used_bytes == 0
    with pytest.raises(grpc.RpcError) as caught:
        updated(here, fleet(1))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert created(here, 1).version == 1


def test_a_plan_that_runs_goes_on_with_its_version(tmp_path: Path) -> None:
    engine = FakeDispatchEngine(hold=True)
    with running_dispatch(tmp_path, engine) as here:
        created(here)
        stream = here.dispatch.PlanPortfolio(plan_request())
        assert engine.started.acquire(timeout=10.0)
        updated(here, api.PortfolioChunk(fleet=fleet(1, 9), removed_asset_ids=["asset-000000"]))
        engine.release.set()
        answer = answer_of(stream)
        assert answer.plan.portfolio_version == 1
        assert list(answer.powers) == asset_names(3)
        assert planned(here).plan.portfolio_version == 2


def test_changes_at_the_same_time_are_all_taken_over(here: RunningDispatch) -> None:
    with ThreadPoolExecutor(8) as threads:
        versions = list(threads.map(lambda i: updated(here, fleet(1, 100 + i)).portfolio.version, range(24)))
    assert sorted(versions) == list(range(2, 26))
    assert set(fleet_now(here)[0]) == {*asset_names(3), *asset_names(24, 100)}
