"""The server with the kernels themselves: plans that add up, and solves that stop when told to."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from evflex.charging.v1 import charging_service_pb2 as api
from evflex.common.v1 import termination_pb2
from evflex.server.app import Server
from tests.server.support import answers_of, open_channel, settings_for, site_request, stored_request, stub_of, until

pytestmark = pytest.mark.slow  # where kernels are compiled first


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(settings_for(tmp_path_factory.mktemp("server"), solve_threads=1)) as made:
        assert made.wait_until_serving(240.0)
        yield made


@pytest.fixture
def stub(server: Server) -> Iterator[Any]:
    with open_channel(server.port) as channel:
        yield stub_of(channel)


def hard_request() -> api.OptimizeScheduleRequest:
    """A site whose gap of zero no method proves in a minute: starts cost, currents are whole amperes."""
    request = site_request(sessions=120, steps=96)
    for i, session in enumerate(request.sessions):
        session.energy_needed_kwh = 7.0 + 0.37 * (i % 23)
        session.arrival_time.seconds += 900 * (i % 40)
    request.nodes[0].max_import_kw[:] = [90.0]
    request.options.start_cost = 0.05
    request.options.current_quantum_a = 1.0
    request.options.relative_gap = 0.0
    return request


def test_plan_delivers_what_is_needed_within_the_limit(stub: Any) -> None:
    schedule = stub.OptimizeSchedule(site_request(sessions=6, steps=24), timeout=60.0).schedule
    assert schedule.termination.reason == termination_pb2.TERMINATION_REASON_OPTIMAL
    assert schedule.shortfall_kwh == pytest.approx(0.0, abs=1e-6)
    assert max(schedule.root_power_kw) <= 50.0 + 1e-6
    for row, result in enumerate(schedule.session_results):
        power_kw = schedule.power_kw[row * 24 : (row + 1) * 24]
        assert result.delivered_kwh == pytest.approx(0.92 * 0.25 * sum(power_kw), abs=1e-6)
        assert result.delivered_kwh == pytest.approx(5.0, abs=1e-6)
    assert schedule.total_cost <= schedule.uncontrolled.total_cost + 1e-9


def test_stored_plan_is_the_start_of_the_next(stub: Any) -> None:
    first = stub.OptimizeSchedule(stored_request(sessions=3), timeout=60.0).schedule
    request = site_request(sessions=3)
    request.options.previous_schedule_id = first.schedule_id
    request.options.change_cost_per_kwh = 10.0
    second = stub.OptimizeSchedule(request, timeout=60.0).schedule
    assert second.change_cost == pytest.approx(0.0, abs=1e-6)
    assert list(second.power_kw) == pytest.approx(list(first.power_kw), abs=1e-6)


def test_short_deadline_gets_the_best_plan_so_far(stub: Any) -> None:
    started_s = time.monotonic()
    schedule = stub.OptimizeSchedule(hard_request(), timeout=3.0).schedule
    assert time.monotonic() - started_s < 3.0
    assert schedule.termination.reason == termination_pb2.TERMINATION_REASON_FEASIBLE
    assert schedule.termination.relative_gap >= 0.0
    assert len(schedule.power_kw) == 120 * 96


def test_client_that_vanishes_frees_the_pool(server: Server, stub: Any) -> None:
    call = stub.OptimizeSchedule.future(hard_request(), timeout=60.0)
    until(lambda: server.pool.load() == (1, 0))
    call.cancel()
    until(lambda: server.pool.load() == (0, 0), timeout_s=5.0)
    assert stub.OptimizeSchedule(site_request(), timeout=30.0).schedule.site_id == "site-1"


def test_stream_plans_many_small_sites(stub: Any) -> None:
    batch = api.OptimizeSchedulesRequest(site_requests=[site_request(site_id=f"s{i}") for i in range(40)])
    stream = stub.OptimizeSchedules(iter([batch]), timeout=60.0)
    answers = {a.site_id: a.summary.schedule for a in answers_of(stream)}
    assert len(answers) == 40
    assert len({a.total_cost for a in answers.values()}) == 1


def test_stream_of_all_kinds_of_sites_gets_the_plans_that_each_gets_alone(stub: Any) -> None:
    requests = [site_request(site_id=f"s{i}", sessions=2 + i % 4) for i in range(12)]
    for i, request in enumerate(requests):
        request.nodes[0].max_import_kw[:] = [7.5 * (1 + i % 3)]
        request.options.shortfall_price_per_kwh = 2.0
    requests[1].tariff.peak_price_per_kw = 5.0
    requests[4].options.start_cost = 0.05
    requests[7].sessions[0].max_discharge_kw = 7.0
    requests[7].sessions[0].energy_available_kwh = 3.0
    alone = {r.site_id: stub.OptimizeSchedule(r, timeout=60.0).schedule for r in requests}
    broken = site_request(site_id="broken")
    broken.sessions[0].max_charge_kw = float("nan")
    batch = api.OptimizeSchedulesRequest(site_requests=[*requests, broken])
    answers = {a.site_id: a for a in answers_of(stub.OptimizeSchedules(iter([batch]), timeout=60.0))}
    assert [v.field for v in answers.pop("broken").fault.violations] == ["sessions[0].max_charge_kw"]
    assert answers.keys() == alone.keys()
    for site_id, answer in answers.items():
        schedule = answer.summary.schedule
        assert list(schedule.power_kw) == pytest.approx(list(alone[site_id].power_kw), abs=1e-9)
        assert schedule.total_cost == pytest.approx(alone[site_id].total_cost, abs=1e-9)
        assert schedule.binding_limits == alone[site_id].binding_limits
        for mine, theirs in zip(schedule.session_results, alone[site_id].session_results, strict=True):
            assert (mine.session_id, mine.starts) == (theirs.session_id, theirs.starts)
            assert mine.cost == pytest.approx(theirs.cost, abs=1e-9)


def test_engine_refusals_name_fields(stub: Any) -> None:
    request = site_request()
    request.tariff.import_price_per_kwh.append(1.0)
    with pytest.raises(grpc.RpcError) as caught:
        stub.OptimizeSchedule(request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_schedules_survive_with_their_figures(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, warm_up=False)
    with Server(settings) as server, open_channel(server.port) as channel:
        made = stub_of(channel).OptimizeSchedule(stored_request(sessions=3), timeout=60.0).schedule
    with Server(settings) as server, open_channel(server.port) as channel:
        request = api.GetScheduleRequest(schedule_id=made.schedule_id)
        assert stub_of(channel).GetSchedule(request).schedule == made
