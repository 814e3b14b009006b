"""A full disk is a clear error, and nothing is half-written."""

from __future__ import annotations

import ctypes
import os
import sqlite3
from pathlib import Path
from typing import Any

import grpc
import pytest
import sqlalchemy as sa
from google.rpc import code_pb2

from evflex.charging.v1 import charging_service_pb2 as api
from evflex.dispatch.v1 import dispatch_service_pb2 as dispatch_api
from tests.server.dispatch.support import created, fleet, planned, running_dispatch, updated
from tests.server.support import Running, answers_of, one_by_one, reason_of, running, stored_request


def fill(here: Running, sessions: int) -> tuple[list[str], grpc.RpcError]:
    """Store until the store is full; what was stored, and the refusal."""
    made = []
    for _ in range(200):
        try:
            made.append(here.stub.OptimizeSchedule(stored_request(sessions=sessions, steps=96)).schedule.schedule_id)
        except grpc.RpcError as error:
            return made, error
    raise AssertionError("the store was never full")


def assert_whole(here: Running, made: list[str], data_dir: Path) -> None:
    listed = here.stub.ListSchedules(api.ListSchedulesRequest(page_size=1000)).schedules
    assert sorted(s.schedule_id for s in listed) == sorted(made)
    for schedule_id in made[-3:]:
        assert here.stub.GetSchedule(api.GetScheduleRequest(schedule_id=schedule_id)).schedule.power_kw
    connection = sqlite3.connect(data_dir / "evflex.sqlite3")
    for table in ("schedules", "schedule_requests", "changes"):
        assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (len(made),)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def limit_pages(pages: int) -> None:
    """Let every SQLite connection made from now on refuse to grow the file beyond so many pages."""

    def on_connect(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}")

    sa.event.listen(sa.pool.Pool, "connect", on_connect)
    limit_pages.undo = lambda: sa.event.remove(sa.pool.Pool, "connect", on_connect)  # type: ignore[attr-defined]


@pytest.fixture
def small_file() -> object:
    limit_pages(150)  # the schema has some 110
    yield
    limit_pages.undo()  # type: ignore[attr-defined]


@pytest.mark.usefixtures("small_file")
def test_full_store_refuses_and_keeps_what_it_has(tmp_path: Path) -> None:
    with running(tmp_path, warm_up=False) as here:
        made, error = fill(here, sessions=400)  # more than a page each, so that deleting one frees room to log it
        assert made
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert reason_of(error) == "STORAGE_FULL"
        sites = one_by_one(*[stored_request(sessions=400, steps=96) for _ in range(3)])
        answers = list(answers_of(here.stub.OptimizeSchedules(sites)))
        assert {a.fault.code for a in answers} == {code_pb2.RESOURCE_EXHAUSTED}
        assert_whole(here, made, tmp_path)
        here.stub.DeleteSchedule(
            api.DeleteScheduleRequest(schedule_id=made[0], request_id="6e0f2cc6-7ab3-4b1c-9b07-6a52b5ae1c0e")
        )


@pytest.fixture
def small_disk(tmp_path: Path) -> object:
    libc = ctypes.CDLL(None, use_errno=True)
    place = tmp_path / "disk"
    place.mkdir()
    if libc.mount(b"tmpfs", os.fsencode(place), b"tmpfs", 0, b"size=1m") != 0:
        pytest.skip("mounting a small tmpfs is not permitted here")
    yield place
    libc.umount2(os.fsencode(place), 2)


def test_full_disk_refuses_and_keeps_what_it_has(small_disk: Path) -> None:
    with running(small_disk) as here:
        made, error = fill(here, sessions=50)
        assert made
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert reason_of(error) == "STORAGE_FULL"
        assert_whole(here, made, small_disk)


@pytest.mark.usefixtures("small_file")
def test_full_store_takes_no_portfolio_and_keeps_none_in_memory(tmp_path: Path) -> None:
    with running_dispatch(tmp_path, warm_up=False) as here:
        created(here, 3)
        columns: dict[str, Any] = {"discharge_cost_per_kwh": [i / 7.0 for i in range(40_000)]}
        chunk = dispatch_api.PortfolioChunk(fleet=fleet(40_000, **columns))
        with pytest.raises(grpc.RpcError) as caught:
            created(here, 0, chunk, expected_assets=40_000, portfolio_id="large")
        assert reason_of(caught.value) == "STORAGE_FULL"
        with pytest.raises(grpc.RpcError) as caught:
            updated(here, chunk)
        assert reason_of(caught.value) == "STORAGE_FULL"
        assert planned(here).plan.asset_count == 3
        listed = here.dispatch.ListPortfolios(dispatch_api.ListPortfoliosRequest()).portfolios
        assert [(portfolio.portfolio_id, portfolio.version) for portfolio in listed] == [("p", 1)]
