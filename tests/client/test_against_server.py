"""Both clients against the real server: what is stored, fetched, listed, watched and deleted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from evflex.client import (
    AlreadyExistsError,
    EvflexClient,
    InvalidRequestError,
    NotFoundError,
    ScheduleOptions,
    ScheduleRequest,
    Tariff,
    TimeGrid,
)
from tests.cli.serving import server_in_process, server_process
from tests.client.conftest import Blocking


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with server_in_process(tmp_path_factory.mktemp("data")) as server:
        yield f"127.0.0.1:{server.port}"


@pytest.fixture(params=[EvflexClient, Blocking], ids=["sync", "asyncio"])
def real_client(address: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    made = request.param(address)
    yield made
    made.close()


def test_a_plan_keeps_limit_and_need(real_client: Any, site: ScheduleRequest) -> None:
    schedule = real_client.optimize_schedule(replace(site, options=ScheduleOptions(return_currents=True)))
    assert schedule.root_power_kw.max() <= 22.0 + 1e-9
    assert schedule.sessions["delivered_kwh"].tolist() == pytest.approx([10.0, 20.0])
    assert schedule.power_kw.sum(axis=1).tolist() == pytest.approx(schedule.root_power_kw.tolist())
    assert schedule.current_a is not None
    assert schedule.current_a["a"].tolist() == pytest.approx((schedule.power_kw["a"] * 1000 / 690).tolist())
    assert schedule.figures.total_cost < schedule.uncontrolled.total_cost
    assert schedule.termination.reason == "OPTIMAL"


def test_a_request_that_is_only_checked_has_an_empty_schedule(real_client: Any, site: ScheduleRequest) -> None:
    schedule = real_client.optimize_schedule(replace(site, validate_only=True))
    assert schedule.power_kw.empty


def test_a_bad_request_names_its_field(real_client: Any, site: ScheduleRequest) -> None:
    assert isinstance(site.tariff, pd.Series)
    index = pd.DatetimeIndex(site.tariff.index)
    with pytest.raises(InvalidRequestError) as caught:
        real_client.optimize_schedule(replace(site, tariff=Tariff([0.1, 0.2]), time_grid=TimeGrid.from_index(index)))
    assert caught.value.violations[0].field == "tariff.import_price_per_kwh"
    assert caught.value.request_id


def test_a_schedule_is_stored_fetched_listed_and_deleted(real_client: Any, site: ScheduleRequest) -> None:
    named = replace(site, site_id=f"site-{type(real_client).__name__}", store=True, request_id=fresh(site))
    schedule = real_client.optimize_schedule(named)
    assert real_client.optimize_schedule(named).schedule_id == schedule.schedule_id
    with pytest.raises(AlreadyExistsError):
        real_client.optimize_schedule(replace(named, area_id="elsewhere"))
    assert real_client.get_latest_schedule(named.site_id).power_kw.equals(schedule.power_kw)
    assert list(real_client.get_schedule(schedule.schedule_id, session_ids=["b"]).power_kw.columns) == ["b"]
    assert [found.schedule_id for found in real_client.list_schedules(named.site_id)] == [schedule.schedule_id]
    events = real_client.watch_schedules([named.site_id])
    assert [next(events).kind, next(events).kind] == ["SNAPSHOT", "SNAPSHOT_COMPLETE"]
    events.close()
    real_client.delete_schedule(schedule.schedule_id, etag=schedule.etag)
    with pytest.raises(NotFoundError):
        real_client.get_schedule(schedule.schedule_id)


def test_sites_are_streamed(real_client: Any, site: ScheduleRequest) -> None:
    many = [replace(site, site_id=f"s{i}", request_id=fresh(site)) for i in range(20)]
    answers = {answer.site_id: answer for answer in real_client.optimize_schedules(many)}
    assert len(answers) == 20
    assert {answer.termination.reason for answer in answers.values()} == {"OPTIMAL"}


@pytest.mark.slow
def test_a_killed_server_leaves_its_schedules_to_the_next(tmp_path: Path, site: ScheduleRequest) -> None:
    with server_process(tmp_path) as (_, address), EvflexClient(address) as client:
        kept = client.optimize_schedule(replace(site, store=True))
    with server_process(tmp_path) as (_, address), EvflexClient(address) as client:
        assert client.get_latest_schedule("depot").schedule_id == kept.schedule_id


def fresh(site: ScheduleRequest) -> str:
    """A request id that no other request has."""
    return ScheduleRequest(site.site_id, site.sessions, site.tariff).request_id
