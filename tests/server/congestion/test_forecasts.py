"""Stored forecasts are streamed as they were made, listed and deleted."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import sqlalchemy as sa

from evflex.congestion.v1 import congestion_pb2
from evflex.congestion.v1 import congestion_service_pb2 as api
from evflex.server.congestion.stored_forecast import forecast_blocks, new_forecast
from evflex.server.store.database import Database
from evflex.server.store.forecasts import ForecastRow, ForecastStore
from evflex.server.store.requests import RequestKey
from evflex.server.store.retention import Retention
from evflex.server.store.schedules import ScheduleStore
from evflex.server.store.tables import blocks
from tests.server.congestion.support import OTHER_TENANT, RunningCongestion, grid, imported, refused, running_congestion
from tests.server.support import reason_of, settings_for

NOW_US = 1_730_804_400_000_000
DAY_US = 86_400_000_000


@contextmanager
def opened_store(data_dir: Path, database_url: str = "") -> Iterator[tuple[ForecastStore, Database]]:
    database = Database(settings_for(data_dir, database_url=database_url))
    yield ForecastStore(database, Retention(30.0, 30.0)), database
    database.close()


def congestion(element_id: str = "line-1") -> congestion_pb2.Congestion:
    return congestion_pb2.Congestion(
        element_id=element_id, kind=congestion_pb2.CONGESTION_KIND_LINE_OVERLOAD, start_step=2, end_step=4,
        worst_value=1.3, worst_step=3, limit=1.0, relief_bus_id="bus-3", relief_needed_kw=[-5.0, -7.0], probability=0.0,
    )  # fmt: skip


def forecast(network_id: str = "net", **fields: Any) -> congestion_pb2.CongestionForecast:
    values = {
        "network_id": network_id, "time_grid": grid(4), "congestion_count": 3, "contingency_count": 1,
        "flows_solved": 4, "islands": [congestion_pb2.Island(bus_ids=["bus-9"])],
        "not_converged": [congestion_pb2.UnsolvedContingency(contingency_id="line-2", steps=[1])], **fields,
    }  # fmt: skip
    return congestion_pb2.CongestionForecast(**values)


CHUNKS = (
    congestion_pb2.CongestionChunk(congestions=[congestion("line-1"), congestion("line-2")]),
    congestion_pb2.CongestionChunk(congestions=[congestion("line-3")]),
    congestion_pb2.WorstChunk(first_step=0, step_count=4, voltage_min_pu=[0.97] * 16, branch_loading_ratio=[1.3] * 12),
)


def saved(
    store: ForecastStore, message: congestion_pb2.CongestionForecast | None = None, *, tenant: str = "default",
    key: RequestKey | None = None, chunks: Sequence[Any] = CHUNKS,
) -> tuple[ForecastRow, bool]:  # fmt: skip
    key = key or RequestKey(tenant, str(uuid.uuid4()), "ForecastCongestion", "0" * 64)
    return store.save(new_forecast(key, message or forecast(), NOW_US), forecast_blocks(chunks))


def got(here: RunningCongestion, forecast_id: str, *, return_worst: bool = False) -> list[Any]:
    request = api.GetForecastRequest(forecast_id=forecast_id, return_worst=return_worst)
    return list(here.congestion.GetForecast(request, timeout=60.0))


def test_a_forecast_comes_as_it_was_made(tmp_path: Path, database_url: str) -> None:
    with opened_store(tmp_path, database_url) as (store, _):
        row, is_own = saved(store, forecast(area_id="north"))
    assert is_own
    with running_congestion(tmp_path, database_url=database_url) as here:
        first, *rest = got(here, row.forecast_id, return_worst=True)
        expected = forecast(area_id="north", forecast_id=row.forecast_id, tenant_id="default", etag=row.etag)
        expected.create_time.FromMicroseconds(NOW_US)
        expected.update_time.FromMicroseconds(NOW_US)
        assert first.summary == expected
        assert [m.congestions or m.worst for m in rest[:2]] == list(CHUNKS[:2])
        assert rest[2].worst == CHUNKS[2]
        without = got(here, row.forecast_id)
        assert [m.WhichOneof("payload") for m in without] == ["summary", "congestions", "congestions"]


def test_a_forecast_without_congestion_is_its_summary(tmp_path: Path) -> None:
    with running_congestion(tmp_path) as here, opened_store(tmp_path) as (store, _):
        row, _ = saved(store, chunks=())
        assert [m.WhichOneof("payload") for m in got(here, row.forecast_id)] == ["summary"]


def test_forecasts_are_listed_by_network_newest_first(tmp_path: Path, database_url: str) -> None:
    with (
        running_congestion(tmp_path, database_url=database_url) as here,
        opened_store(tmp_path, database_url) as (store, _),
    ):
        ids = [saved(store, forecast(name))[0].forecast_id for name in ("a", "b", "a", "b", "a")]
        names, token = [], ""
        while True:
            request = api.ListForecastsRequest(network_id="a", page_size=2, page_token=token)
            page = here.congestion.ListForecasts(request)
            names += [one.forecast_id for one in page.forecasts]
            assert all(one.congestion_count == 3 and not one.islands for one in page.forecasts)
            token = page.next_page_token
            if not token:
                break
        assert names == [ids[4], ids[2], ids[0]]
        everything = here.congestion.ListForecasts(api.ListForecastsRequest()).forecasts
        assert [one.forecast_id for one in everything] == ids[::-1]
        other = api.ListForecastsRequest(network_id="b", page_token=page.next_page_token or "x")
        assert refused(here.congestion.ListForecasts, other).code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_forecast_outlives_its_network_and_is_deleted_with_all_it_has(tmp_path: Path, database_url: str) -> None:
    with (
        running_congestion(tmp_path, database_url=database_url) as here,
        opened_store(tmp_path, database_url) as (store, database),
    ):
        imported(here)
        row, _ = saved(store)
        here.congestion.DeleteNetwork(api.DeleteNetworkRequest(request_id=str(uuid.uuid4()), network_id="net"))
        assert got(here, row.forecast_id)
        delete = api.DeleteForecastRequest(request_id=str(uuid.uuid4()), forecast_id=row.forecast_id)
        wrong = api.DeleteForecastRequest(request_id=str(uuid.uuid4()), forecast_id=row.forecast_id, etag="other")
        assert refused(here.congestion.DeleteForecast, wrong).code() is grpc.StatusCode.ABORTED
        here.congestion.DeleteForecast(api.DeleteForecastRequest(forecast_id=row.forecast_id, validate_only=True))
        assert got(here, row.forecast_id)
        here.congestion.DeleteForecast(delete)
        here.congestion.DeleteForecast(delete)
        for method, request in (
            (here.congestion.GetForecast, api.GetForecastRequest(forecast_id=row.forecast_id)),
            (
                here.congestion.DeleteForecast,
                api.DeleteForecastRequest(request_id=str(uuid.uuid4()), forecast_id=row.forecast_id),
            ),
        ):
            assert refused(method, request).code() is grpc.StatusCode.NOT_FOUND
        with database.reading() as connection:
            assert connection.execute(sa.select(sa.func.count()).select_from(blocks)).scalar() == 0


def test_tenants_see_only_their_own(tmp_path: Path) -> None:
    with running_congestion(tmp_path) as here, opened_store(tmp_path) as (store, _):
        row, _ = saved(store, tenant="other")
        get = api.GetForecastRequest(forecast_id=row.forecast_id)
        assert refused(here.congestion.GetForecast, get).code() is grpc.StatusCode.NOT_FOUND
        delete = api.DeleteForecastRequest(request_id=str(uuid.uuid4()), forecast_id=row.forecast_id)
        assert refused(here.congestion.DeleteForecast, delete).code() is grpc.StatusCode.NOT_FOUND
        assert not here.congestion.ListForecasts(api.ListForecastsRequest()).forecasts
        assert next(iter(here.congestion.GetForecast(get, metadata=OTHER_TENANT))).summary.tenant_id == "other"


def test_the_same_request_finds_what_it_made(tmp_path: Path) -> None:
    key = RequestKey("default", str(uuid.uuid4()), "ForecastCongestion", "0" * 64)
    with opened_store(tmp_path) as (store, _):
        assert store.find_answer(key) is None
        row, _ = saved(store, key=key)
        assert store.find_answer(key) == row
        assert saved(store, key=key) == (row, False)
        with pytest.raises(Exception, match="another payload") as caught:
            saved(store, key=RequestKey("default", key.request_id, "ForecastCongestion", "1" * 64))
        assert getattr(caught.value, "reason", "") == "REQUEST_ID_REUSED"


def test_what_is_deleted_while_it_is_read_is_told(tmp_path: Path) -> None:
    with opened_store(tmp_path) as (store, _):
        row, _ = saved(store)
        reading = store.blocks(row)
        next(reading)
        delete = RequestKey("default", str(uuid.uuid4()), "DeleteForecast", "0" * 64)
        store.delete(delete, row.forecast_id, "", NOW_US, may_use_area=lambda area: True, check_only=False)
        with pytest.raises(Exception, match="no forecast"):
            list(reading)


def test_blocks_in_use_are_never_taken_for_lost(tmp_path: Path, database_url: str) -> None:
    with running_congestion(tmp_path, database_url=database_url) as here:
        imported(here)
    with opened_store(tmp_path, database_url) as (store, database):
        row, _ = saved(store)
        later = 4 * 10**15
        ScheduleStore(database, Retention(36_500.0, 36_500.0)).prune(later)
        assert len(list(store.blocks(row))) == len(CHUNKS)
    with running_congestion(tmp_path, database_url=database_url) as here:
        request = api.GetNetworkRequest(network_id="net", return_tables=True)
        assert len(list(here.congestion.GetNetwork(request))) > 1


def test_a_name_that_no_forecast_has_is_refused(tmp_path: Path) -> None:
    with running_congestion(tmp_path) as here:
        for name, code in (("", "INVALID_REQUEST"), ("a\x00", "INVALID_REQUEST"), ("none", "NOT_FOUND")):
            error = refused(here.congestion.GetForecast, api.GetForecastRequest(forecast_id=name))
            assert reason_of(error) == code
