"""What the tests of portfolios share: streams of assets, requests for plans, and an engine for both domains."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from evflex.common.v1 import time_grid_pb2
from evflex.dispatch.v1 import dispatch_service_pb2 as api
from evflex.dispatch.v1 import dispatch_service_pb2_grpc, fleet_pb2, plan_pb2, portfolio_pb2
from evflex.engine.dispatch.model import DispatchProblem, PlanOptions
from evflex.engine.dispatch.plan import FleetPlan, PlanFigures, PlanProgress, Setpoints
from evflex.engine.supply_tree import FloatArray, IntArray
from evflex.engine.termination import StoppedBy, Termination, TerminationReason
from evflex.engine.validation import Rules
from evflex.server.app import Server
from tests.server.support import START_S, FakeEngine, Running, open_channel, settings_for

STEPS = 8


@dataclass(frozen=True)
class RampSetpoints(Setpoints):
    """Row i has i + first kW in each step, and k / 100 more in step k."""

    first_kw: float
    step_count: int

    def power_kw(self, rows: IntArray) -> FloatArray:
        powers: FloatArray = (rows + self.first_kw)[:, None] + 0.01 * np.arange(self.step_count)[None, :]
        return powers

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        return {"first_kw": np.array([self.first_kw]), "step_count": np.array([self.step_count])}


@dataclass
class FakeDispatchEngine(FakeEngine):
    """Plans nothing, at once or when told to, and reports progress.

    Attributes:
        problems: What was to be planned.
        progress: Reports of each solve.
    """

    problems: list[DispatchProblem] = field(default_factory=list)
    progress: list[PlanProgress] = field(default_factory=list)
    plan_error: Exception | None = None

    def plan_portfolio(
        self,
        problem: DispatchProblem,
        options: PlanOptions,
        cancel: threading.Event,
        on_progress: Callable[[PlanProgress], None],
    ) -> FleetPlan:
        rules = Rules()
        problem.validate(rules)
        options.validate(rules)
        rules.raise_if_any()
        self.problems.append(problem)
        self.time_limits_s.append(options.time_limit_s)
        self.started_count += 1
        for progress in self.progress:
            on_progress(progress)
        self.started.release()
        if self.plan_error is not None:
            raise self.plan_error
        stopped_by = StoppedBy.NOTHING
        if self.hold:
            stopped_by = self._wait(options.time_limit_s, cancel)
        return fleet_plan(problem, stopped_by)

    def setpoints_from_arrays(self, arrays: Mapping[str, NDArray[np.generic]]) -> Setpoints:
        return RampSetpoints(float(arrays["first_kw"][0]), int(arrays["step_count"][0]))


def fleet_plan(problem: DispatchProblem, stopped_by: StoppedBy = StoppedBy.NOTHING) -> FleetPlan:
    """A plan in which row i has about i + 1 kW."""
    steps, limits, reserves = problem.grid.step_count, len(problem.limits), len(problem.reserves)
    missing = np.zeros((reserves, steps))
    missing[:, :1] = 5.0
    return FleetPlan(
        fleet_power_kw=np.arange(float(steps)),
        group_power_kw=np.ones((problem.group_count, steps)),
        limit_power_kw=np.full((limits, steps), 2.0),
        limit_price_per_kw_step=np.full((limits, steps), 0.5),
        limit_above_kw=np.full((limits, steps), 0.25),
        limit_below_kw=np.full((limits, steps), 0.125),
        reserve_missing_up_kw=missing,
        reserve_missing_down_kw=np.zeros((reserves, steps)),
        figures=PlanFigures(10.0, 1.0, 2.0, 3.0, 4.0, 5.0),
        shortfall_kwh=1.5,
        assets_short=1,
        violation_kwh=0.5,
        termination=Termination(
            TerminationReason.OPTIMAL, stopped_by, 13.0, 12.0, 1.0, 0.04, 0.001, "fake", "plans nothing"
        ),
        setpoints=RampSetpoints(1.0, steps),
    )


@dataclass(frozen=True)
class RunningDispatch(Running):
    """A server with the fake engine for portfolios."""

    engine: FakeDispatchEngine

    @property
    def dispatch(self) -> Any:
        return dispatch_service_pb2_grpc.DispatchServiceStub(self.channel)


@contextmanager
def running_dispatch(
    data_dir: Path,
    engine: FakeDispatchEngine | None = None,
    *,
    server_arguments: dict[str, Any] | None = None,
    **values: Any,
) -> Iterator[RunningDispatch]:
    """A server in this process with the fake engine."""
    engine = engine or FakeDispatchEngine()
    server = Server(settings_for(data_dir, **values), engine=engine, **(server_arguments or {}))
    with server, open_channel(server.port) as channel:
        yield RunningDispatch(server, channel=channel, engine=engine)


def asset_names(count: int, first: int = 0) -> list[str]:
    return [f"asset-{i:06d}" for i in range(first, first + count)]


def fleet(count: int = 3, first: int = 0, **columns: Any) -> fleet_pb2.Fleet:
    """EVs of 11 kW that need 5 kWh."""
    values = {"max_charge_kw": [11.0] * count, "energy_needed_kwh": [5.0] * count, **columns}
    return fleet_pb2.Fleet(asset_ids=values.pop("asset_ids", asset_names(count, first)), **values)


def profile(asset_id: str, *power_kw: float, step_s: int = 3600, start_s: int = START_S) -> fleet_pb2.Profile:
    return fleet_pb2.Profile(asset_id=asset_id, time_grid=grid(len(power_kw), step_s, start_s), power_kw=power_kw)


def grid(steps: int = STEPS, step_s: int = 900, start_s: int = START_S) -> time_grid_pb2.TimeGrid:
    return time_grid_pb2.TimeGrid(
        start_time=Timestamp(seconds=start_s), step_duration=Duration(seconds=step_s), step_count=steps
    )


def header(expected: int = 3, **fields: Any) -> api.CreatePortfolioHeader:
    values = {
        "request_id": str(uuid.uuid4()), "portfolio_id": "p", "currency_code": "EUR",
        "groups": ["feeder-1", "feeder-2"], "operators": ["cpo-1"], "expected_assets": expected, **fields,
    }  # fmt: skip
    return api.CreatePortfolioHeader(**values)


def creation(head: api.CreatePortfolioHeader, *chunks: api.PortfolioChunk | fleet_pb2.Fleet) -> list[Any]:
    """Messages of CreatePortfolio."""
    parts = [api.PortfolioChunk(fleet=c) if isinstance(c, fleet_pb2.Fleet) else c for c in chunks]
    return [
        api.CreatePortfolioRequest(header=head),
        *(api.CreatePortfolioRequest(chunk=part) for part in parts),
        api.CreatePortfolioRequest(commit=api.PortfolioCommit()),
    ]


def update(*chunks: api.PortfolioChunk | fleet_pb2.Fleet, **fields: Any) -> list[Any]:
    """Messages of UpdatePortfolio."""
    values = {"request_id": str(uuid.uuid4()), "portfolio_id": "p", **fields}
    parts = [api.PortfolioChunk(fleet=c) if isinstance(c, fleet_pb2.Fleet) else c for c in chunks]
    return [
        api.UpdatePortfolioRequest(header=api.UpdatePortfolioHeader(**values)),
        *(api.UpdatePortfolioRequest(chunk=part) for part in parts),
        api.UpdatePortfolioRequest(commit=api.PortfolioCommit()),
    ]


def created(here: RunningDispatch, count: int = 3, *more: api.PortfolioChunk, **fields: Any) -> portfolio_pb2.Portfolio:
    """A portfolio of so many EVs."""
    messages = creation(header(count, **fields), *([fleet(count)] if count else []), *more)
    portfolio: portfolio_pb2.Portfolio = here.dispatch.CreatePortfolio(iter(messages)).portfolio
    return portfolio


def updated(here: RunningDispatch, *chunks: Any, **fields: Any) -> api.UpdatePortfolioResponse:
    answer: api.UpdatePortfolioResponse = here.dispatch.UpdatePortfolio(iter(update(*chunks, **fields)))
    return answer


def plan_request(steps: int = STEPS, return_setpoints: bool = True, **fields: Any) -> api.PlanPortfolioRequest:
    values = {
        "request_id": str(uuid.uuid4()), "portfolio_id": "p", "time_grid": grid(steps),
        "import_price_per_kwh": [0.2] * steps, **fields,
    }  # fmt: skip
    request = api.PlanPortfolioRequest(**values)
    request.options.return_setpoints = return_setpoints
    return request


@dataclass
class PlanAnswer:
    """A plan stream, taken apart."""

    progress: list[plan_pb2.PlanProgress] = field(default_factory=list)
    summary: plan_pb2.PlanSummary = field(default_factory=plan_pb2.PlanSummary)
    chunks: list[plan_pb2.PlanChunk] = field(default_factory=list)

    @property
    def plan(self) -> plan_pb2.Plan:
        return self.summary.plan

    @property
    def powers(self) -> dict[str, list[float]]:
        steps = self.plan.time_grid.step_count
        return {
            name: list(chunk.power_kw[i * steps : (i + 1) * steps])
            for chunk in self.chunks
            for i, name in enumerate(chunk.asset_ids)
        }


def answer_of(stream: Iterable[Any]) -> PlanAnswer:
    """The parts of a stream of PlanPortfolio or GetPlan."""
    answer = PlanAnswer()
    for message in stream:
        kind = message.WhichOneof("payload")
        if kind == "progress":
            answer.progress.append(message.progress)
        elif kind == "summary":
            answer.summary = message.summary
        else:
            assert message.chunk.chunk_index == len(answer.chunks)
            answer.chunks.append(message.chunk)
    assert answer.summary.chunk_count == len(answer.chunks)
    return answer


def planned(here: RunningDispatch, request: api.PlanPortfolioRequest | None = None, **fields: Any) -> PlanAnswer:
    return answer_of(here.dispatch.PlanPortfolio(request or plan_request(**fields)))
