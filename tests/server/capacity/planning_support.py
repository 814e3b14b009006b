"""What the tests of planning capacity share: requests, agreements, and a solver to put in the kernels' place."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from evflex.capacity.v1 import (
    agreement_pb2,
    allocation_pb2,
    capacity_service_pb2_grpc,
    hub_pb2,
    transformer_pb2,
)
from evflex.capacity.v1 import capacity_service_pb2 as api
from evflex.common.v1 import time_grid_pb2
from evflex.engine.capacity.allocation import Allocation, CapacityViolation, Rating
from evflex.engine.capacity.model import AllocationOptions, AllocationProblem, BindingReason, RatingProblem
from evflex.engine.capacity.transformer import ThermalState
from evflex.engine.termination import StoppedBy, Termination, TerminationReason
from evflex.engine.validation import Rules
from evflex.server.app import Server
from evflex.server.caller import Caller
from evflex.server.capacity.agreements import ActiveTerms, Agreements
from evflex.server.capacity.bookings import Bookings
from evflex.server.capacity.planner import CapacityPlanner
from evflex.server.capacity.servicer import CapacityServicer
from evflex.server.capacity.terms import Terms
from evflex.server.store.allocations import AllocationStore
from evflex.server.store.capacity import CapacityStore
from evflex.server.store.ratings import RatingStore
from evflex.server.store.retention import Retention
from tests.server.support import START_S, FakeEngine, Running, open_channel, settings_for

Request = TypeVar("Request", api.RateTransformerRequest, api.AllocateCapacityRequest)
STEPS = 4
FINAL_STATE = ThermalState(55.0, 21.0, 8.0)


@dataclass
class FakeCapacityEngine(FakeEngine):
    """Rates and shares nothing, at once or when told to.

    Attributes:
        ratings: What was to be rated.
        problems: What was to be shared.
        capacity_error: Raised by every solve.
        result: Answers a problem in place of :func:`allocation`.
    """

    ratings: list[RatingProblem] = field(default_factory=list)
    problems: list[AllocationProblem] = field(default_factory=list)
    capacity_error: Exception | None = None

    def rate_transformer(self, problem: RatingProblem) -> Rating:
        rules = Rules()
        problem.validate(rules)
        rules.raise_if_any()
        self.ratings.append(problem)
        if self.capacity_error is not None:
            raise self.capacity_error
        return rating(problem)

    def allocate_capacity(
        self, problem: AllocationProblem, options: AllocationOptions, cancel: threading.Event
    ) -> Allocation:
        rules = Rules()
        problem.validate(rules)
        options.validate(rules)
        rules.raise_if_any()
        self.problems.append(problem)
        self.time_limits_s.append(options.time_limit_s)
        self.started_count += 1
        self.started.release()
        if self.capacity_error is not None:
            raise self.capacity_error
        stopped_by = StoppedBy.NOTHING
        if self.hold:
            stopped_by = self._wait(options.time_limit_s, cancel)
        return allocation(problem, stopped_by)


def rating(problem: RatingProblem) -> Rating:
    """A rating whose arrays count from another number each; one limit is broken."""
    ramp = np.arange(float(problem.grid.step_count))
    broken = (CapacityViolation(0, BindingReason.LOADING_RATIO, 1.5, 0.25, phase=2),)
    return Rating(ramp, ramp + 10, ramp + 20, ramp + 30, ramp + 40, ramp + 50, broken, FINAL_STATE)


def allocation(problem: AllocationProblem, stopped_by: StoppedBy = StoppedBy.NOTHING) -> Allocation:
    """An allocation in which hub h gets 10 (h + 1) kW; each is bound in step 0, and the last lacks firm capacity."""
    hubs, steps = len(problem.hubs), problem.grid.step_count
    of_hub = np.arange(1.0, hubs + 1.0)
    ramp = np.arange(float(steps))
    return Allocation(
        capacity_kw=np.repeat(10.0 * of_hub[:, None], steps, axis=1),
        power_kw=np.repeat(8.0 * of_hub[:, None], steps, axis=1),
        current_a=np.arange(float(hubs * steps * 3)).reshape(hubs, steps, 3),
        evs_served=np.full((hubs, steps), 3, dtype=np.int64),
        wanted_kwh=20.0 * of_hub,
        served_kwh=15.0 * of_hub,
        compensation=0.5 * of_hub,
        session_power_kw=tuple(np.full((len(hub.sessions), steps), 7.0) for hub in problem.hubs),
        loading_ratio=ramp,
        top_oil_c=ramp + 10,
        hot_spot_c=ramp + 20,
        loss_of_life_h=np.full(steps, 0.25),
        headroom_n_kva=ramp + 40,
        headroom_n1_kva=ramp + 50,
        final_state=FINAL_STATE,
        fairness_index=0.9,
        binding=np.array([[0, h, int(BindingReason.HOT_SPOT)] for h in range(hubs)], dtype=np.int64),
        violations=(
            CapacityViolation(0, BindingReason.HOT_SPOT, 120.0, 3.0),
            CapacityViolation(1, BindingReason.CONTINGENCY, 50.0, 4.0, hub=hubs - 1),
        ),
        termination=Termination(
            TerminationReason.OPTIMAL, stopped_by, 5.0, 5.0, 0.0, 0.0, 0.001, "fake", "shares nothing"
        ),
    )


@dataclass
class FakeAgreements:
    """Active agreements by identifier, with the two parties."""

    known: dict[str, tuple[str, str, ActiveTerms]] = field(default_factory=dict)

    def add(self, agreement_id: str, hub_id: str, *, dso: str = "default", cpo: str = "cpo-1", **terms: Any) -> None:
        values: dict[str, Any] = {
            "firm_kw": 0.0, "conditional_kw": 0.0, "priority": 0, "notice_s": 0.0, "curtailment_price_per_kwh": 0.0,
            "currency_code": "", "valid_from_unix_s": -inf, "valid_until_unix_s": inf, **terms,
        }  # fmt: skip
        self.known[agreement_id] = (dso, cpo, ActiveTerms(agreement_id, 1, hub_id, "trafo-1", Terms(**values)))

    def all_active_terms(self, caller: Caller, agreement_ids: Collection[str]) -> dict[str, ActiveTerms]:
        named = {name: self.known[name] for name in agreement_ids if name in self.known}
        return {name: active for name, (dso, _, active) in named.items() if dso == caller.tenant_id}

    def visible_hubs(self, caller: Caller) -> Callable[[str, str, str], bool]:
        seen = {
            (dso, active.transformer_id, active.hub_id)
            for dso, cpo, active in self.known.values()
            if cpo == caller.tenant_id
        }
        return lambda owner, transformer_id, hub_id: (owner, transformer_id, hub_id) in seen


@dataclass
class HeardPlans:
    """What watchers were told of stored allocations."""

    plans: list[tuple[str, str, list[str], str, str]] = field(default_factory=list)

    def planned(
        self, owner_tenant: str, allocation_id: str, hub_ids: Sequence[str], transformer_id: str, area_id: str
    ) -> None:
        self.plans.append((owner_tenant, allocation_id, list(hub_ids), transformer_id, area_id))


class PlanningServer(Server):
    """A server whose planning knows other agreements, and tells another listener."""

    agreements: FakeAgreements | None
    heard: HeardPlans

    def _capacity_servicer(self, retention: Retention) -> CapacityServicer:
        store = CapacityStore(self._database, retention)
        kept = Agreements(store)
        agreements = self.agreements or kept
        planner = CapacityPlanner(
            self.settings, self._engine, self.pool, AllocationStore(self._database, retention),
            RatingStore(self._database, retention), agreements, self.heard, self.metrics,
        )  # fmt: skip
        bookings = Bookings(store, self.settings)
        return CapacityServicer(self.settings, planner, self.live, kept, bookings, agreements, self.log)


@dataclass(frozen=True)
class RunningCapacity(Running):
    """A server with the fake engine for capacity, and its neighbours."""

    engine: FakeCapacityEngine
    agreements: FakeAgreements
    heard: HeardPlans

    @property
    def capacity(self) -> Any:
        return capacity_service_pb2_grpc.CapacityServiceStub(self.channel)


@contextmanager
def running_capacity(
    data_dir: Path,
    engine: FakeCapacityEngine | None = None,
    *,
    fake_agreements: bool = True,
    server_arguments: dict[str, Any] | None = None,
    **values: Any,
) -> Iterator[RunningCapacity]:
    """A server in this process with the fake engine, and fake agreements or those that it keeps."""
    engine = engine or FakeCapacityEngine()
    server = PlanningServer(settings_for(data_dir, **values), engine=engine, **(server_arguments or {}))
    agreements, server.heard = FakeAgreements(), HeardPlans()
    server.agreements = agreements if fake_agreements else None
    with server, open_channel(server.port) as channel:
        yield RunningCapacity(server, channel=channel, engine=engine, agreements=agreements, heard=server.heard)


def grid(steps: int = STEPS, step_s: int = 900, start_s: int = START_S) -> time_grid_pb2.TimeGrid:
    return time_grid_pb2.TimeGrid(
        start_time=Timestamp(seconds=start_s), step_duration=Duration(seconds=step_s), step_count=steps
    )


def transformer(**fields: Any) -> transformer_pb2.Transformer:
    return transformer_pb2.Transformer(**{"transformer_id": "trafo-1", "rated_kva": 400.0, **fields})


def forecast(steps: int = STEPS, **fields: Any) -> transformer_pb2.Loading:
    values = {"load_kw": [100.0 + k for k in range(steps)], **fields}
    return transformer_pb2.Loading(forecast=transformer_pb2.ForecastLoading(**values))


def measured(**fields: Any) -> transformer_pb2.Loading:
    values = {"current_a": [100.0, 200.0, 0.0], "voltage_v": [230.0, 231.0, 232.0], "power_factor": 0.6, **fields}
    return transformer_pb2.Loading(measured=transformer_pb2.MeasuredLoading(**values))


def hub(hub_id: str = "hub-1", steps: int = STEPS, **fields: Any) -> hub_pb2.Hub:
    """A hub that wants 40 kW throughout, or has the cars that are given."""
    values: dict[str, Any] = {"hub_id": hub_id, "max_kw": 50.0, **fields}
    if "sessions" not in values:
        values = {"demand_kw": [40.0] * steps, **values}
    return hub_pb2.Hub(**values)


def car(session_id: str = "car-1", **fields: Any) -> hub_pb2.HubSession:
    values = {
        "session_id": session_id, "arrival_time": Timestamp(seconds=START_S - 600),
        "departure_time": Timestamp(seconds=START_S + 3600), "energy_needed_kwh": 12.0, "max_charge_kw": 11.0, **fields,
    }  # fmt: skip
    return hub_pb2.HubSession(**values)


def terms(**fields: Any) -> agreement_pb2.Agreement:
    """Terms inside a request."""
    return agreement_pb2.Agreement(**{"firm_kw": 10.0, "conditional_kw": 30.0, **fields})


def rate_request(steps: int = STEPS, **fields: Any) -> api.RateTransformerRequest:
    return _with(
        api.RateTransformerRequest(
            request_id=str(uuid.uuid4()), time_grid=grid(steps), transformer=transformer(), loading=forecast(steps)
        ),
        fields,
    )


def allocate_request(steps: int = STEPS, **fields: Any) -> api.AllocateCapacityRequest:
    request = api.AllocateCapacityRequest(
        request_id=str(uuid.uuid4()), time_grid=grid(steps), transformer=transformer(), loading=forecast(steps)
    )
    if "hubs" not in fields:
        request.hubs.extend([hub("hub-1", steps), hub("hub-2", steps)])
    return _with(request, fields)


def _with(request: Request, fields: Mapping[str, Any]) -> Request:
    for name, value in fields.items():
        if isinstance(value, Message):
            getattr(request, name).CopyFrom(value)
        elif isinstance(value, list):
            getattr(request, name).extend(value)
        else:
            setattr(request, name, value)
    return request


def allocated(here: RunningCapacity, tenant: str = "", **fields: Any) -> allocation_pb2.Allocation:
    """An allocation as the server answers it."""
    request = fields.pop("request", None) or allocate_request(**fields)
    metadata = [("evflex-tenant", tenant)] if tenant else None
    answer: allocation_pb2.Allocation = here.capacity.AllocateCapacity(request, metadata=metadata).allocation
    return answer
