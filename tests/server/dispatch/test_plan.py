"""Plans: what the engine is asked, what comes back in which order, and what is refused."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration

from evflex.common.v1 import termination_pb2
from evflex.dispatch.v1 import dispatch_service_pb2 as api
from evflex.dispatch.v1 import plan_pb2
from evflex.engine.dispatch.model import LimitScope
from evflex.engine.dispatch.plan import PlanProgress
from tests.server.dispatch.support import (
    FakeDispatchEngine,
    RunningDispatch,
    answer_of,
    asset_names,
    created,
    fleet,
    grid,
    plan_request,
    planned,
    running_dispatch,
    updated,
)
from tests.server.support import START_S, info_of, reason_of, until, violations_of


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDispatch]:
    with running_dispatch(tmp_path_factory.mktemp("server")) as server:
        created(server)
        yield server


def refused(here: RunningDispatch, request: api.PlanPortfolioRequest | None = None, **fields: Any) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        planned(here, request, **fields)
    return caught.value


def limit(**fields: Any) -> plan_pb2.PortfolioLimit:
    return plan_pb2.PortfolioLimit(violation_price_per_kwh=2.0, **fields)


def reserve(**fields: Any) -> plan_pb2.PortfolioReserve:
    values = {"commitment_id": "c", "product_id": "FCR-N", "time_grid": grid(2, 3600), "up_kw": [1.0, 2.0], **fields}
    return plan_pb2.PortfolioReserve(**values)


def test_the_summary_tells_the_plan_and_the_chunks_the_powers(here: RunningDispatch) -> None:
    answer = planned(here, limits=[limit(group_id="feeder-2", max_import_kw=[4.0])], reserves=[reserve()])
    plan = answer.plan
    assert (plan.portfolio_id, plan.portfolio_version, plan.asset_count) == ("p", 1, 3)
    assert (plan.currency_code, list(plan.groups)) == ("EUR", ["feeder-1", "feeder-2"])
    assert list(plan.fleet_power_kw) == list(range(8))
    assert list(plan.group_power_kw) == [1.0] * 16
    (outcome,) = plan.limits
    assert outcome.group_id == "feeder-2"
    assert list(outcome.power_kw) == [2.0] * 8
    assert list(outcome.price_per_kw_step) == [0.5] * 8
    assert list(outcome.above_kw) == [0.25] * 8
    assert list(outcome.below_kw) == []
    (missing,) = plan.reserve_shortfalls
    assert (missing.commitment_id, missing.step, missing.up_kw, missing.down_kw) == ("c", 0, 5.0, 0.0)
    assert (plan.total_cost, plan.figures.import_cost, plan.figures.energy_value) == (13.0, 10.0, 5.0)
    assert (plan.shortfall_kwh, plan.assets_short, plan.violation_kwh) == (1.5, 1, 0.5)
    assert plan.termination.reason == termination_pb2.TERMINATION_REASON_OPTIMAL
    assert plan.create_time == plan.update_time
    assert list(answer.powers) == asset_names(3)
    assert answer.powers["asset-000001"] == pytest.approx([2.0 + 0.01 * k for k in range(8)])


def test_without_setpoints_the_summary_is_all(here: RunningDispatch) -> None:
    answer = planned(here, return_setpoints=False)
    assert answer.plan.plan_id
    assert not answer.chunks


def test_the_engine_gets_what_was_asked(here: RunningDispatch) -> None:
    planned(
        here,
        limits=[
            limit(max_import_kw=[5.0], max_export_kw=[2.0] * 8),
            limit(group_id="cpo-1", target_kw=list(range(8))),
            limit(group_id="feeder-1"),
        ],
        export_price_per_kwh=[0.1] * 8,
        options=plan_pb2.PlanOptions(
            relative_gap=0.0, absolute_gap=3.0, time_limit_duration=Duration(seconds=7), return_setpoints=True
        ),
    )
    problem = here.engine.problems[-1]
    whole, tracked, free = problem.limits
    assert (whole.scope, whole.index) == (LimitScope.FLEET, 0)
    assert (whole.lower_kw.tolist(), whole.upper_kw.tolist()) == ([-2.0] * 8, [5.0] * 8)
    assert (tracked.scope, tracked.index) == (LimitScope.OPERATOR, 0)
    assert tracked.lower_kw.tolist() == tracked.upper_kw.tolist() == list(range(8))
    assert (free.scope, free.index) == (LimitScope.GROUP, 0)
    assert np.isneginf(free.lower_kw).all()
    assert np.isposinf(free.upper_kw).all()
    assert problem.export_price_per_kwh.tolist() == [0.1] * 8
    assert 0.0 < here.engine.time_limits_s[-1] <= 7.0


def test_export_earns_the_import_price_unless_said_otherwise(here: RunningDispatch) -> None:
    planned(here, import_price_per_kwh=[0.1 * k for k in range(8)])
    problem = here.engine.problems[-1]
    assert problem.export_price_per_kwh.tolist() == problem.import_price_per_kwh.tolist()


def test_reserves_are_laid_onto_the_plan_by_their_largest(here: RunningDispatch) -> None:
    offset = reserve(time_grid=grid(3, 1200, START_S - 600), up_kw=[1.0, 3.0, 2.0], down_kw=[4.0])
    planned(here, reserves=[offset, reserve(commitment_id="d", product_id="MFRR-UP", up_kw=[9.0])])
    first, second = here.engine.problems[-1].reserves
    assert first.up_kw.tolist() == [3.0, 3.0, 2.0, 2.0, 0.0, 0.0, 0.0, 0.0]
    assert first.down_kw.tolist() == [4.0] * 4 + [0.0] * 4
    assert first.endurance_s == 3600.0
    assert second.up_kw.tolist() == [9.0] * 8
    assert (second.down_kw.tolist(), second.endurance_s) == ([0.0] * 8, 900.0)


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"request_id": "x"}, "request_id"),
        ({"portfolio_id": ""}, "portfolio_id"),
        ({"import_price_per_kwh": [0.1]}, "import_price_per_kwh"),
        ({"import_price_per_kwh": [float("nan")] + [0.1] * 7}, "import_price_per_kwh[0]"),
        ({"export_price_per_kwh": [0.1] * 7}, "export_price_per_kwh"),
        ({"export_price_per_kwh": [0.1] * 7 + [0.3]}, "export_price_per_kwh[7]"),
        ({"time_grid": grid(0)}, "time_grid.step_count"),
        ({"limits": [limit(group_id="nobody")]}, "limits[0].group_id"),
        ({"limits": [limit(), limit()]}, "limits[1].group_id"),
        ({"limits": [plan_pb2.PortfolioLimit()]}, "limits[0].violation_price_per_kwh"),
        ({"limits": [limit(max_import_kw=[1.0] * 3)]}, "limits[0].max_import_kw"),
        ({"limits": [limit(max_import_kw=[-1.0])]}, "limits[0].max_import_kw[0]"),
        ({"limits": [limit(max_export_kw=[float("inf")])]}, "limits[0].max_export_kw[0]"),
        ({"limits": [limit(target_kw=[float("nan")])]}, "limits[0].target_kw[0]"),
        ({"limits": [limit(target_kw=[1.0], max_import_kw=[2.0])]}, "limits[0].target_kw"),
        ({"reserves": [reserve(commitment_id="")]}, "reserves[0].commitment_id"),
        ({"reserves": [reserve(), reserve()]}, "reserves[1].commitment_id"),
        ({"reserves": [reserve(up_kw=[1.0, 2.0, 3.0])]}, "reserves[0].up_kw"),
        ({"reserves": [reserve(up_kw=[-1.0])]}, "reserves[0].up_kw[0]"),
        ({"reserves": [reserve(product_id="FCR-D-DOWN")]}, "reserves[0].up_kw"),
        ({"reserves": [reserve(product_id="AFRR-UP", down_kw=[1.0])]}, "reserves[0].down_kw"),
        ({"reserves": [reserve(time_grid=None)]}, "reserves[0].time_grid"),
        ({"options": plan_pb2.PlanOptions(relative_gap=-1.0)}, "options.relative_gap"),
        ({"options": plan_pb2.PlanOptions(time_limit_duration=Duration())}, "options.time_limit_duration"),
    ],
)
def test_what_breaks_a_rule_is_named(here: RunningDispatch, fields: dict[str, Any], path: str) -> None:
    request = plan_request()
    for name, value in fields.items():
        request.ClearField(name)
        request.MergeFrom(api.PlanPortfolioRequest(**{name: value}))
    before = here.engine.started_count
    error = refused(here, request)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert set(violations_of(error)) == {path}
    assert here.engine.started_count == before


def test_an_unknown_product_is_told_the_known_ones(here: RunningDispatch) -> None:
    found = violations_of(refused(here, reserves=[reserve(product_id="FCR")]))
    assert "AFRR-DOWN, AFRR-UP, FCR-D-DOWN" in found["reserves[0].product_id"]


def test_an_unknown_portfolio_is_not_found(here: RunningDispatch) -> None:
    assert refused(here, portfolio_id="missing").code() is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.RpcError) as caught:
        answer_of(here.dispatch.PlanPortfolio(plan_request(), metadata=(("evflex-tenant", "other"),)))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_version_that_has_passed_is_refused_with_both(tmp_path: Path) -> None:
    with running_dispatch(tmp_path) as here:
        created(here)
        assert planned(here, portfolio_version=1).plan.portfolio_version == 1
        updated(here, fleet(1, 5))
        error = refused(here, portfolio_version=1)
        assert (error.code(), reason_of(error)) == (grpc.StatusCode.FAILED_PRECONDITION, "PORTFOLIO_VERSION_PASSED")
        assert info_of(error) == {"version": "2", "requested_version": "1"}


def test_only_checked_is_not_planned(here: RunningDispatch) -> None:
    before = here.engine.started_count
    answer = planned(here, validate_only=True, request_id="")
    assert answer.plan.ByteSize() == 0
    assert here.engine.started_count == before


def test_progress_comes_before_the_summary(tmp_path: Path) -> None:
    engine = FakeDispatchEngine(hold=True, progress=[PlanProgress(k, 9.0 - k, 1.0, 0.5, 0.25, "bound") for k in (1, 2)])
    with running_dispatch(tmp_path, engine) as here:
        created(here)
        stream = here.dispatch.PlanPortfolio(plan_request())
        first = next(iter(stream)).progress
        assert (first.iteration, first.objective, first.objective_bound, first.phase) == (2, 7.0, 1.0, "bound")
        assert first.elapsed_duration.ToMilliseconds() == 250
        engine.release.set()
        assert answer_of(stream).plan.asset_count == 3


def test_a_large_plan_comes_in_chunks_under_a_mebibyte(tmp_path: Path) -> None:
    with running_dispatch(tmp_path) as here:
        created(here, 20_000)
        answer = planned(here, steps=96, import_price_per_kwh=[0.2] * 96)
        assert answer.summary.chunk_count == len(answer.chunks) > 10
        sizes = [api.PlanPortfolioResponse(chunk=chunk).ByteSize() for chunk in answer.chunks]
        assert max(sizes) <= 1 << 20
        assert min(sizes[:-1]) > 900_000
        powers = answer.powers
        assert list(powers) == asset_names(20_000)
        assert powers["asset-019999"][95] == pytest.approx(20_000.95)


def test_identifiers_of_all_lengths_come_back(tmp_path: Path) -> None:
    names = ["a", "é" * 32, "x" * 64, "middle"]
    with running_dispatch(tmp_path) as here:
        created(here, 0, api.PortfolioChunk(fleet=fleet(4, asset_ids=names)), expected_assets=4)
        assert list(planned(here).powers) == names


def test_limits_of_size_are_named(tmp_path: Path) -> None:
    with running_dispatch(tmp_path, max_steps=10, max_plan_series_steps=20) as here:
        created(here)
        assert info_of(refused(here, steps=11))["limit"] == "max_steps"
        assert info_of(refused(here, limits=[limit()]))["limit"] == "max_plan_series_steps"


def test_a_client_that_leaves_stops_the_solver(tmp_path: Path) -> None:
    engine = FakeDispatchEngine(hold=True)
    with running_dispatch(tmp_path, engine) as here:
        created(here)
        stream = here.dispatch.PlanPortfolio(plan_request(), timeout=60.0)
        assert engine.started.acquire(timeout=10.0)
        stream.cancel()
        assert engine.cancelled.acquire(timeout=10.0)
        until(lambda: here.server.pool.load() == (0, 0))
        assert not here.dispatch.ListPlans(api.ListPlansRequest()).plans


def test_a_deadline_leaves_time_to_answer(here: RunningDispatch) -> None:
    answer_of(here.dispatch.PlanPortfolio(plan_request(), timeout=20.0))
    assert 10.0 < here.engine.time_limits_s[-1] < 19.7


def test_a_full_queue_is_unavailable(tmp_path: Path) -> None:
    engine = FakeDispatchEngine(hold=True)
    with running_dispatch(tmp_path, engine, solve_threads=1, solve_queue_limit=0) as here:
        created(here)
        first = here.dispatch.PlanPortfolio(plan_request())
        assert engine.started.acquire(timeout=10.0)
        error = refused(here)
        assert (error.code(), reason_of(error)) == (grpc.StatusCode.UNAVAILABLE, "QUEUE_FULL")
        engine.release.set()
        assert answer_of(first).plan.plan_id


def test_too_many_streams_are_unavailable(tmp_path: Path) -> None:
    engine = FakeDispatchEngine(hold=True)
    with running_dispatch(tmp_path, engine, max_dispatch_streams=1) as here:
        created(here)
        first = here.dispatch.PlanPortfolio(plan_request())
        assert engine.started.acquire(timeout=10.0)
        assert reason_of(refused(here)) == "TOO_MANY_STREAMS"
        engine.release.set()
        answer_of(first)
        until(lambda: here.server.pool.load() == (0, 0))
        assert planned(here).plan.plan_id


def test_a_stream_without_deadline_ends_all_the_same(tmp_path: Path) -> None:
    engine = FakeDispatchEngine(hold=True)

    class Deaf(FakeDispatchEngine):
        """Knows no time limit, only cancellation."""

        def _wait(self, time_limit_s: float, cancel: Any) -> Any:
            return super()._wait(1e9, cancel)

    engine = Deaf(hold=True)
    with running_dispatch(tmp_path, engine, stream_default_deadline_s=0.5) as here:
        created(here)
        assert refused(here).code() is grpc.StatusCode.CANCELLED
        assert engine.cancelled.acquire(timeout=10.0)


def test_a_plan_is_finished_while_the_server_drains(tmp_path: Path) -> None:
    engine = FakeDispatchEngine(hold=True)
    with running_dispatch(tmp_path, engine) as here:
        created(here)
        stream = here.dispatch.PlanPortfolio(plan_request())
        assert engine.started.acquire(timeout=10.0)
        stopping = threading.Thread(target=here.server.stop, args=(20.0,))
        stopping.start()
        engine.release.set()
        assert answer_of(stream).plan.asset_count == 3
        stopping.join(20.0)
        assert here.server.wait(0.0)


def test_an_error_of_the_engine_tells_nothing_of_it(tmp_path: Path) -> None:
    engine = FakeDispatchEngine(plan_error=RuntimeError("secret"))
    with running_dispatch(tmp_path, engine, log_level="error") as here:
        created(here)
        error = refused(here)
        assert error.code() is grpc.StatusCode.INTERNAL
        assert "secret" not in error.details()
