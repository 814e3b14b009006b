"""Stored schedules: once a request, found again, listed in pages, deleted, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import sqlite3
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
import sqlalchemy as sa

from evflex.charging.v1 import charging_service_pb2 as api
from evflex.server.errors import ServiceError
from evflex.server.store.database import Database, write_ahead
from evflex.server.store.tables import metadata
from tests.server.support import (
    FakeEngine,
    Running,
    answers_of,
    info_of,
    one_by_one,
    reason_of,
    running,
    settings_for,
    site_request,
    stored_request,
    violations_of,
)


def get(here: Running, schedule_id: str, *session_ids: str) -> Any:
    return here.stub.GetSchedule(api.GetScheduleRequest(schedule_id=schedule_id, session_ids=session_ids))


def delete(here: Running, schedule_id: str, **fields: object) -> api.DeleteScheduleRequest:
    fields.setdefault("request_id", str(uuid.uuid4()))
    request = api.DeleteScheduleRequest(schedule_id=schedule_id, **fields)  # type: ignore[arg-type]
    here.stub.DeleteSchedule(request)
    return request


def code_of(call: object, *arguments: object) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments)  # type: ignore[operator]
    return caught.value.code()


def test_stored_schedule_survives_a_restart(tmp_path: Path, database_url: str) -> None:
    with running(tmp_path, database_url=database_url) as here:
        schedule = here.stub.OptimizeSchedule(stored_request(area_id="north")).schedule
    assert schedule.schedule_id
    assert schedule.etag
    assert schedule.area_id == "north"
    assert schedule.update_time == schedule.create_time
    with running(tmp_path, database_url=database_url) as here:
        assert get(here, schedule.schedule_id).schedule == schedule
        latest = here.stub.GetLatestSchedule(api.GetLatestScheduleRequest(site_id="site-1")).schedule
        assert latest == schedule


def test_same_request_gets_the_same_answer_without_another_solve(tmp_path: Path, database_url: str) -> None:
    with running(tmp_path, database_url=database_url) as here:
        request = stored_request()
        first = here.stub.OptimizeSchedule(request)
        assert here.stub.OptimizeSchedule(request) == first
        assert here.engine.started_count == 1
        request.sessions[0].energy_needed_kwh += 1.0
        with pytest.raises(grpc.RpcError) as caught:
            here.stub.OptimizeSchedule(request)
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
    assert reason_of(caught.value) == "REQUEST_ID_REUSED"


def test_concurrent_repeats_store_one_schedule(tmp_path: Path, database_url: str) -> None:
    request = stored_request()
    other = site_request(store=True, request_id=request.request_id, area_id="elsewhere")
    with running(tmp_path, FakeEngine(hold=True), database_url=database_url, solve_threads=6) as here:
        same = [here.stub.OptimizeSchedule.future(request) for _ in range(4)]
        different = [here.stub.OptimizeSchedule.future(other) for _ in range(2)]
        for _ in range(6):
            assert here.engine.started.acquire(timeout=10.0)
        here.engine.release.set()
        answers = [call.result().schedule for call in same if call.exception() is None]
        others = [call.result().schedule for call in different if call.exception() is None]
        refused = [call.exception() for call in (*same, *different) if call.exception() is not None]
        listed = here.stub.ListSchedules(api.ListSchedulesRequest()).schedules
    assert len(listed) == 1
    assert {a.schedule_id for a in (*answers, *others)} == {listed[0].schedule_id}
    assert bool(answers) != bool(others)
    assert {error.code() for error in refused} == {grpc.StatusCode.ALREADY_EXISTS}


def test_request_id_belongs_to_its_tenant(tmp_path: Path) -> None:
    request = stored_request()
    with running(tmp_path) as here:
        mine = here.stub.OptimizeSchedule(request).schedule
        theirs = here.stub.OptimizeSchedule(request, metadata=(("evflex-tenant", "other"),)).schedule
    assert mine.schedule_id != theirs.schedule_id


def test_new_schedule_names_the_one_it_supersedes(tmp_path: Path, database_url: str) -> None:
    with running(tmp_path, database_url=database_url) as here:
        first = here.stub.OptimizeSchedule(stored_request()).schedule
        here.stub.OptimizeSchedule(stored_request("another site"))
        second = here.stub.OptimizeSchedule(stored_request()).schedule
        assert first.supersedes_schedule_id == ""
        assert second.supersedes_schedule_id == first.schedule_id
        latest = here.stub.GetLatestSchedule(api.GetLatestScheduleRequest(site_id="site-1")).schedule
        assert latest.schedule_id == second.schedule_id
        delete(here, second.schedule_id)
        latest = here.stub.GetLatestSchedule(api.GetLatestScheduleRequest(site_id="site-1")).schedule
        assert latest.schedule_id == first.schedule_id


def test_rows_can_be_asked_for_by_session(tmp_path: Path) -> None:
    with running(tmp_path) as here:
        schedule_id = here.stub.OptimizeSchedule(stored_request()).schedule.schedule_id
        schedule = get(here, schedule_id, "session-1").schedule
        assert list(schedule.session_ids) == ["session-1"]
        assert list(schedule.power_kw) == [2.0] * 8
        with pytest.raises(grpc.RpcError) as caught:
            get(here, schedule_id, "session-1", "nobody")
    assert "session_ids[1]" in violations_of(caught.value)


@pytest.mark.parametrize("schedule_id", [str(uuid.UUID(int=7)), "x", "a" * 256, "' OR 1=1 --"])
def test_unknown_schedule_is_not_found(tmp_path: Path, schedule_id: str) -> None:
    with running(tmp_path) as here:
        assert code_of(get, here, schedule_id) is grpc.StatusCode.NOT_FOUND
        assert code_of(delete, here, schedule_id) is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("schedule_id", ["", "a\x00b", "a" * 257])
def test_malformed_schedule_id_is_an_invalid_argument(tmp_path: Path, schedule_id: str) -> None:
    with running(tmp_path) as here:
        assert code_of(get, here, schedule_id) is grpc.StatusCode.INVALID_ARGUMENT
        assert code_of(delete, here, schedule_id) is grpc.StatusCode.INVALID_ARGUMENT


def test_list_comes_in_pages_newest_first_without_rows(tmp_path: Path, database_url: str) -> None:
    with running(tmp_path, database_url=database_url) as here:
        made = [here.stub.OptimizeSchedule(stored_request(f"site-{i % 2}")).schedule for i in range(7)]
        seen, token, pages = [], "", 0
        while pages == 0 or token:
            answer = here.stub.ListSchedules(api.ListSchedulesRequest(page_size=3, page_token=token))
            seen += answer.schedules
            token, pages = answer.next_page_token, pages + 1
            if pages == 1:  # stored meanwhile: belongs before the first page, and disturbs no other
                here.stub.OptimizeSchedule(stored_request("later"))
        assert pages == 3
        assert [s.schedule_id for s in seen] == [s.schedule_id for s in reversed(made)]
        assert not seen[0].power_kw
        assert not seen[0].root_power_kw
        assert seen[0].total_cost == made[-1].total_cost
        assert seen[0].etag == made[-1].etag
        of_site = here.stub.ListSchedules(api.ListSchedulesRequest(site_id="site-1")).schedules
        assert [s.site_id for s in of_site] == ["site-1"] * 3


def test_bad_page_token_is_an_invalid_argument(tmp_path: Path) -> None:
    with running(tmp_path) as here:
        for _ in range(3):
            here.stub.OptimizeSchedule(stored_request())
        token = here.stub.ListSchedules(api.ListSchedulesRequest(page_size=1)).next_page_token
        for bad in ("x", "äöü", token[:-2], token + "AA", "A" * len(token)):
            with pytest.raises(grpc.RpcError) as caught:
                here.stub.ListSchedules(api.ListSchedulesRequest(page_token=bad))
            assert "page_token" in violations_of(caught.value)
        with pytest.raises(grpc.RpcError) as caught:
            here.stub.ListSchedules(api.ListSchedulesRequest(site_id="another question", page_token=token))
        assert "page_token" in violations_of(caught.value)
        for size in (-1, 1001):
            with pytest.raises(grpc.RpcError) as caught:
                here.stub.ListSchedules(api.ListSchedulesRequest(page_size=size))
            assert "page_size" in violations_of(caught.value)


def test_deletion_is_repeatable_and_guarded_by_the_etag(tmp_path: Path, database_url: str) -> None:
    with running(tmp_path, database_url=database_url) as here:
        schedule = here.stub.OptimizeSchedule(stored_request()).schedule
        with pytest.raises(grpc.RpcError) as caught:
            delete(here, schedule.schedule_id, etag="other")
        assert caught.value.code() is grpc.StatusCode.ABORTED
        assert info_of(caught.value) == {"etag": schedule.etag}
        delete(here, schedule.schedule_id, etag=schedule.etag, validate_only=True)
        assert get(here, schedule.schedule_id).schedule == schedule
        request = delete(here, schedule.schedule_id, etag=schedule.etag)
        here.stub.DeleteSchedule(request)
        assert code_of(get, here, schedule.schedule_id) is grpc.StatusCode.NOT_FOUND
        assert code_of(delete, here, schedule.schedule_id) is grpc.StatusCode.NOT_FOUND
        request.etag = "another payload"
        assert code_of(here.stub.DeleteSchedule, request) is grpc.StatusCode.ALREADY_EXISTS


def test_request_whose_schedule_was_deleted_is_not_solved_again(tmp_path: Path) -> None:
    with running(tmp_path) as here:
        request = stored_request()
        delete(here, here.stub.OptimizeSchedule(request).schedule.schedule_id)
        with pytest.raises(grpc.RpcError) as caught:
            here.stub.OptimizeSchedule(request)
        assert reason_of(caught.value) == "SCHEDULE_DELETED"
        assert here.engine.started_count == 1


def test_previous_schedule_is_laid_onto_the_new_grid(tmp_path: Path) -> None:
    with running(tmp_path) as here:
        previous = here.stub.OptimizeSchedule(stored_request()).schedule
        request = site_request()
        request.options.previous_schedule_id = previous.schedule_id
        request.options.change_cost_per_kwh = 0.1
        here.stub.OptimizeSchedule(request)
        assert here.engine.options[-1].previous_power_kw.shape == (2, 8)
        (answer,) = answers_of(here.stub.OptimizeSchedules(one_by_one(request)))
        assert answer.HasField("summary")
        assert here.engine.options[-1].previous_power_kw.shape == (2, 8)
        request.site_id = "another site"
        with pytest.raises(grpc.RpcError) as caught:
            here.stub.OptimizeSchedule(request)
    assert "options.previous_schedule_id" in violations_of(caught.value)


def test_migrations_build_the_tables_that_the_code_uses(tmp_path: Path, database_url: str) -> None:
    settings = settings_for(tmp_path, database_url=database_url)
    Database(settings).close()
    Database(settings).close()
    engine = sa.create_engine(settings.resolved_database_url)
    inspector = sa.inspect(engine)
    for table in metadata.sorted_tables:
        assert {c["name"] for c in inspector.get_columns(table.name)} == set(table.columns.keys())
        assert {i["name"] for i in inspector.get_indexes(table.name)} == {i.name for i in table.indexes}
        assert "tenant_id" in table.columns
    engine.dispose()


def test_processes_that_start_together_migrate_once(tmp_path: Path, database_url: str) -> None:
    settings = settings_for(tmp_path, database_url=database_url)
    with ThreadPoolExecutor(4) as threads:
        for database in threads.map(lambda _: Database(settings), range(4)):
            database.close()


def test_failed_transaction_leaves_no_trace(tmp_path: Path, database_url: str) -> None:
    database = Database(settings_for(tmp_path, database_url=database_url))

    def fail_half_way() -> None:
        with database.writing() as connection:
            connection.execute(sa.text("DELETE FROM alembic_version"))
            raise KeyError

    with pytest.raises(KeyError):
        fail_half_way()
    with database.reading() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM alembic_version")).scalar() == 1
    database.close()


def test_sqlite_uses_a_write_ahead_log(tmp_path: Path) -> None:
    database = Database(settings_for(tmp_path))
    with sqlite3.connect(tmp_path / "evflex.sqlite3") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
    database.close()


def test_write_ahead_log_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "evflex.sqlite3"
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("CREATE TABLE a (x)")
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM a").fetchall()  # as one that opens the file at the same moment
    waits = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        reader.execute("ROLLBACK")

    monkeypatch.setattr("evflex.server.store.database.time.sleep", wait)
    opened = sqlite3.connect(path, timeout=0.0, isolation_level=None)
    write_ahead(opened)
    assert len(waits) == 1
    assert opened.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    reader.close()
    opened.close()


def test_database_that_is_locked_by_another_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evflex.server.store.database._BUSY_TIMEOUT_S", 0.05)
    database = Database(settings_for(tmp_path))
    blocker = sqlite3.connect(tmp_path / "evflex.sqlite3", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(ServiceError) as caught, database.writing():
        pass
    assert caught.value.reason == "STORAGE_UNAVAILABLE"
    assert caught.value.retry_delay_s is not None
    blocker.execute("ROLLBACK")
    blocker.close()
    with database.writing():
        pass
    database.close()
