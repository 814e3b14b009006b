"""Old changes and request ids are forgotten, a bounded number at a time, and what that means for callers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import grpc
import pytest

from evflex.charging.v1 import charging_service_pb2 as api
from evflex.server.store.database import Database
from evflex.server.store.retention import Retention
from evflex.server.store.schedules import ScheduleStore
from tests.server.support import reason_of, running, settings_for, stored_request, until

DAY_US = 86_400_000_000


def opened(folder: Path, database_url: str) -> tuple[Database, ScheduleStore]:
    database = Database(settings_for(folder, database_url=database_url))
    return database, ScheduleStore(database, Retention(30.0, 30.0))


def test_what_is_young_is_kept(tmp_path: Path, database_url: str) -> None:
    with running(tmp_path, database_url=database_url) as here:
        for _ in range(3):
            here.stub.OptimizeSchedule(stored_request())
    database, store = opened(tmp_path, database_url)
    try:
        assert store.prune(time.time_ns() // 1_000) == 0
    finally:
        database.close()


def test_old_rows_go_a_bounded_number_at_a_time_and_the_newest_change_stays(tmp_path: Path, database_url: str) -> None:
    with running(tmp_path, database_url=database_url) as here:
        for _ in range(5):
            here.stub.OptimizeSchedule(stored_request())
    later = time.time_ns() // 1_000 + 31 * DAY_US
    database, store = opened(tmp_path, database_url)
    retention = Retention(30.0, 30.0)
    try:
        last = store.last_sequence()
        with database.writing() as connection:
            assert retention.prune(connection, later, most_rows=2) == 4
            assert retention.prune(connection, later, most_rows=10) == 2 + 3
            assert retention.prune(connection, later, most_rows=10) == 0
        assert store.first_sequence() == store.last_sequence() == last
    finally:
        database.close()


def test_a_token_from_before_is_refused_and_a_request_id_is_new_again(tmp_path: Path, database_url: str) -> None:
    request = stored_request()
    with running(tmp_path, database_url=database_url) as here:
        first = here.stub.OptimizeSchedule(request).schedule
        token = _token(here.stub)
        for _ in range(3):
            here.stub.OptimizeSchedule(stored_request())
    with running(tmp_path, database_url=database_url, change_retention_days=1e-9, request_retention_days=1e-9) as here:
        with pytest.raises(grpc.RpcError) as caught:
            next(here.stub.WatchSchedules(api.WatchSchedulesRequest(resume_token=token)))
        assert caught.value.code() is grpc.StatusCode.OUT_OF_RANGE
        assert reason_of(caught.value) == "RESUME_TOKEN_EXPIRED"
        again = here.stub.OptimizeSchedule(request).schedule
        assert again.schedule_id != first.schedule_id
        assert here.stub.GetSchedule(api.GetScheduleRequest(schedule_id=first.schedule_id)).schedule == first
        until(lambda: _token(here.stub) != token)


def _token(stub: Any) -> str:
    watch = stub.WatchSchedules(api.WatchSchedulesRequest(site_ids=["none"]))
    try:
        return str(next(watch).resume_token)
    finally:
        watch.cancel()
