"""Portfolios and plans survive the server, on SQLite and on PostgreSQL alike, also where several servers share them."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import sqlalchemy as sa

from evflex.dispatch.v1 import dispatch_service_pb2 as api
from evflex.dispatch.v1 import fleet_pb2
from evflex.server.dispatch.compaction import is_due
from evflex.server.store.arrays import pack_arrays, unpack_arrays
from evflex.server.store.database import Database
from evflex.server.store.retention import Retention
from evflex.server.store.schedules import ScheduleStore
from evflex.server.store.tables import blocks, portfolio_updates, portfolios
from tests.server.dispatch.support import (
    RunningDispatch,
    answer_of,
    asset_names,
    created,
    creation,
    fleet,
    header,
    plan_request,
    planned,
    profile,
    running_dispatch,
    updated,
)
from tests.server.support import reason_of, settings_for, until, violations_of

DAY_US = 86_400_000_000


def get_plan(here: RunningDispatch, plan_id: str, *asset_ids: str, everything: bool = False) -> Any:
    request = api.GetPlanRequest(plan_id=plan_id, asset_ids=asset_ids, return_setpoints=everything)
    return answer_of(here.dispatch.GetPlan(request))


def columns_of(here: RunningDispatch) -> dict[str, list[float]]:
    """What a plan is made of, asset by asset."""
    names = list(planned(here).powers)
    problem = here.engine.problems[-1]
    profiled = dict(zip(problem.profiles.asset.tolist(), problem.profiles.power_kw.tolist(), strict=True))
    return {
        name: [
            float(problem.fleet.max_charge_kw[i]), float(problem.fleet.group_index[i]),
            float(problem.fleet.max_discharge_kw[i]), *profiled.get(i, []),
        ]
        for i, name in enumerate(names)
    }  # fmt: skip


def changed(here: RunningDispatch) -> None:
    """Some changes of every kind."""
    pump = fleet_pb2.Fleet(asset_ids=["hp"], kinds=[fleet_pb2.ASSET_KIND_HEAT_PUMP], max_charge_kw=[5.0])
    updated(here, api.PortfolioChunk(fleet=pump, profiles=[profile("hp", 1.0, 2.0)]))
    updated(here, fleet_pb2.Fleet(asset_ids=["asset-000001"], group_indices=[2]), added_groups=["feeder-3"])
    updated(here, api.PortfolioChunk(removed_asset_ids=["asset-000000"], fleet=fleet(1, 50, max_charge_kw=[7.0])))


def test_a_portfolio_and_its_changes_survive_a_restart(tmp_path: Path, database_url: str) -> None:
    with running_dispatch(tmp_path, database_url=database_url) as here:
        created(here)
        changed(here)
        before = columns_of(here)
        portfolio = here.dispatch.GetPortfolio(api.GetPortfolioRequest(portfolio_id="p")).portfolio
        assert (portfolio.version, portfolio.asset_count, portfolio.profile_count) == (4, 4, 1)
    with running_dispatch(tmp_path, database_url=database_url) as here:
        assert here.dispatch.GetPortfolio(api.GetPortfolioRequest(portfolio_id="p")).portfolio == portfolio
        assert columns_of(here) == before
        assert updated(here, fleet(1, 60)).portfolio.version == 5


def test_a_repeated_request_is_known_after_a_restart(tmp_path: Path, database_url: str) -> None:
    messages = creation(header(2), fleet(2))
    request = plan_request()
    with running_dispatch(tmp_path, database_url=database_url) as here:
        first = here.dispatch.CreatePortfolio(iter(messages))
        plan = planned(here, request)
    with running_dispatch(tmp_path, database_url=database_url) as here:
        assert here.dispatch.CreatePortfolio(iter(messages)) == first
        again = planned(here, request)
        assert again == plan
        assert here.engine.started_count == 0


def test_a_new_base_takes_the_place_of_a_long_log(tmp_path: Path, database_url: str) -> None:
    with running_dispatch(tmp_path, database_url=database_url) as here:
        created(here)
        changed(here)
        before = columns_of(here)
        here.server.compaction.compact("default", "p")
        updated(here, fleet(1, 70))
        assert rows_of(tmp_path, database_url, portfolio_updates) == 1
        assert columns_of(here) == before | {"asset-000070": [11.0, -1.0, 0.0]}
    with running_dispatch(tmp_path, database_url=database_url) as here:
        assert columns_of(here) == before | {"asset-000070": [11.0, -1.0, 0.0]}
        created(here, 0, portfolio_id="empty")
        here.server.compaction.compact("default", "empty")
        assert planned(here, portfolio_id="empty").plan.asset_count == 0


def test_a_long_log_is_shortened_in_the_background(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evflex.server.dispatch.compaction._LEAST_UPDATES", 5)
    with running_dispatch(tmp_path) as here:
        created(here)
        for k in range(7):
            updated(here, fleet(1, 100 + k))
        until(lambda: rows_of(tmp_path, "", portfolio_updates) <= 5)
        assert set(columns_of(here)) == {*asset_names(3), *asset_names(7, 100)}
        stored = here.server.compaction.store.find("default", "p")
        assert not is_due(stored)


def test_a_server_sees_what_another_has_changed(tmp_path: Path, database_url: str) -> None:
    with (
        running_dispatch(tmp_path, database_url=database_url) as one,
        running_dispatch(tmp_path, database_url=database_url) as two,
    ):
        created(one)
        assert updated(two, fleet(1, 10)).portfolio.version == 2
        assert updated(one, fleet(1, 11)).portfolio.version == 3
        assert columns_of(one) == columns_of(two)
        two.server.compaction.compact("default", "p")
        assert updated(two, fleet(1, 12)).portfolio.version == 4
        assert columns_of(one) == columns_of(two)
        delete = api.DeletePortfolioRequest(portfolio_id="p", request_id=str(uuid.uuid4()))
        one.dispatch.DeletePortfolio(delete)
        with pytest.raises(grpc.RpcError) as caught:
            updated(two, fleet(1, 13))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        created(one, 1)
        assert list(columns_of(two)) == asset_names(1)
        delete.request_id = str(uuid.uuid4())
        two.dispatch.DeletePortfolio(delete)
        made = created(two, 2)
        assert list(columns_of(one)) == asset_names(2)
        assert one.server.residents.memory.used_bytes == two.server.residents.memory.used_bytes == made.resident_bytes


def test_a_plan_outlives_changes_and_the_portfolio(tmp_path: Path, database_url: str) -> None:
    with running_dispatch(tmp_path, database_url=database_url) as here:
        created(here)
        made = planned(here)
        changed(here)
        here.dispatch.DeletePortfolio(api.DeletePortfolioRequest(portfolio_id="p", request_id=str(uuid.uuid4())))
        assert get_plan(here, made.plan.plan_id, everything=True) == made
    with running_dispatch(tmp_path, database_url=database_url) as here:
        assert get_plan(here, made.plan.plan_id, everything=True) == made
        assert get_plan(here, made.plan.plan_id).chunks == []
        some = get_plan(here, made.plan.plan_id, "asset-000002", "asset-000000")
        assert list(some.powers) == ["asset-000002", "asset-000000"]
        assert some.powers["asset-000002"] == made.powers["asset-000002"]


def test_rows_of_a_plan_that_are_not_there_are_named(tmp_path: Path) -> None:
    with running_dispatch(tmp_path) as here:
        created(here)
        plan_id = planned(here).plan.plan_id
        with pytest.raises(grpc.RpcError) as caught:
            get_plan(here, plan_id, "asset-000000", "missing", "asset-000000")
        assert set(violations_of(caught.value)) == {"asset_ids[1]", "asset_ids[2]"}
        for missing in (str(uuid.uuid4()), "x"):
            with pytest.raises(grpc.RpcError) as caught:
                get_plan(here, missing)
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        request = api.GetPlanRequest(plan_id=plan_id)
        with pytest.raises(grpc.RpcError) as caught:
            answer_of(here.dispatch.GetPlan(request, metadata=(("evflex-tenant", "other"),)))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_plans_are_listed_and_deleted(tmp_path: Path, database_url: str) -> None:
    with running_dispatch(tmp_path, database_url=database_url) as here:
        for name in ("p", "q"):
            created(here, 1, portfolio_id=name)
        request = plan_request()
        made = [planned(here, request).plan, planned(here).plan, planned(here, portfolio_id="q").plan]
        listed = here.dispatch.ListPlans(api.ListPlansRequest(portfolio_id="p", page_size=1))
        assert [plan.plan_id for plan in listed.plans] == [made[1].plan_id]
        assert list(listed.plans[0].fleet_power_kw) == []
        assert listed.plans[0].total_cost == 13.0
        rest = here.dispatch.ListPlans(
            api.ListPlansRequest(portfolio_id="p", page_size=1, page_token=listed.next_page_token)
        )
        assert ([plan.plan_id for plan in rest.plans], rest.next_page_token) == ([made[0].plan_id], "")
        assert len(here.dispatch.ListPlans(api.ListPlansRequest()).plans) == 3
        delete = api.DeletePlanRequest(plan_id=made[0].plan_id, request_id=str(uuid.uuid4()), etag="x")
        with pytest.raises(grpc.RpcError) as caught:
            here.dispatch.DeletePlan(delete)
        assert reason_of(caught.value) == "ETAG_MISMATCH"
        delete.etag = made[0].etag
        here.dispatch.DeletePlan(delete)
        here.dispatch.DeletePlan(delete)
        with pytest.raises(grpc.RpcError) as caught:
            planned(here, request)
        assert reason_of(caught.value) == "PLAN_DELETED"
        assert len(here.dispatch.ListPlans(api.ListPlansRequest()).plans) == 2


def test_nothing_is_left_of_what_was_deleted(tmp_path: Path, database_url: str) -> None:
    with running_dispatch(tmp_path, database_url=database_url) as here:
        created(here)
        changed(here)
        plan_id = planned(here).plan.plan_id
        here.dispatch.DeletePlan(api.DeletePlanRequest(plan_id=plan_id, request_id=str(uuid.uuid4())))
        here.dispatch.DeletePortfolio(api.DeletePortfolioRequest(portfolio_id="p", request_id=str(uuid.uuid4())))
        for table in (portfolios, portfolio_updates, blocks):
            assert rows_of(tmp_path, database_url, table) == 0


def test_lost_blocks_are_deleted_after_a_day(tmp_path: Path, database_url: str) -> None:
    with running_dispatch(tmp_path, database_url=database_url) as here:
        created(here)
        planned(here)
    database = Database(settings_for(tmp_path, database_url=database_url))
    try:
        with database.writing() as connection:
            row = dict(connection.execute(sa.select(blocks).limit(1)).one()._mapping)
            connection.execute(blocks.insert(), {**row, "set_id": str(uuid.uuid4())})
        before = rows_of(tmp_path, database_url, blocks)
        store = ScheduleStore(database, Retention(30.0, 30.0))
        now_us = time.time_ns() // 1_000
        assert store.prune(now_us) == 0
        assert store.prune(now_us + 2 * DAY_US) == 1
        assert rows_of(tmp_path, database_url, blocks) == before - 1
    finally:
        database.close()


def rows_of(data_dir: Path, database_url: str, table: sa.Table) -> int:
    database = Database(settings_for(data_dir, database_url=database_url))
    try:
        with database.reading() as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar() or 0)
    finally:
        database.close()


KILLED = """
import os, sys
from pathlib import Path
from tests.server.dispatch.support import *
with running_dispatch(Path(sys.argv[1])) as here:
    created(here)
    for k in range(5):
        print(updated(here, fleet(1, 100 + k)).portfolio.version, flush=True)
    os._exit(9)
"""


@pytest.mark.slow
def test_what_was_answered_is_there_after_a_kill(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 9, done.stderr
    with running_dispatch(tmp_path) as here:
        portfolio = here.dispatch.GetPortfolio(api.GetPortfolioRequest(portfolio_id="p")).portfolio
        assert portfolio.version == int(done.stdout.split()[-1]) == 6
        assert set(columns_of(here)) == {*asset_names(3), *asset_names(5, 100)}


def test_arrays_come_back_as_they_went() -> None:
    arrays = {
        "none": np.empty((0, 3)),
        "same": np.full((4, 2), np.nan),
        "bytes": np.arange(6, dtype=np.uint8).reshape(2, 3),
        "zeros": np.array([0.0, -0.0]),
        "one": np.array([7], dtype=np.int32),
        "big": np.arange(5, dtype=">i8"),
    }
    back = unpack_arrays(pack_arrays(arrays))
    assert list(back) == list(arrays)
    for name, array in arrays.items():
        assert back[name].shape == array.shape
        assert back[name].dtype == array.dtype.newbyteorder("=")
        assert back[name].tobytes() == array.astype(back[name].dtype).tobytes()
        back[name][...] = 0
