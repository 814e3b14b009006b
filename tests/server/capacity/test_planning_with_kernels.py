"""The planning RPCs with the kernels: limits that hold, rights that are honoured, odd numbers that do no harm."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given

from evflex.capacity.v1 import allocation_pb2, capacity_service_pb2_grpc
from evflex.capacity.v1 import capacity_service_pb2 as api
from evflex.common.v1 import termination_pb2
from evflex.engine.capacity import AllocationPolicy, warm_up
from tests.server.capacity.planning_support import (
    FakeAgreements,
    HeardPlans,
    PlanningServer,
    allocate_request,
    car,
    forecast,
    hub,
    measured,
    rate_request,
    terms,
    transformer,
)
from tests.server.capacity.test_fuzz_capacity import REFUSALS, allocations, code_of, ratings
from tests.server.support import START_S, open_channel, settings_for

pytestmark = pytest.mark.slow  # where kernels are compiled first

STEPS = 24
RATED_KVA = 100.0


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    warm_up()  # of this domain alone
    server = PlanningServer(settings_for(tmp_path_factory.mktemp("server"), warm_up=False))
    server.agreements, server.heard = FakeAgreements(), HeardPlans()
    with server, open_channel(server.port) as channel:
        yield capacity_service_pb2_grpc.CapacityServiceStub(channel)


def evening_kw() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """A load with a peak, and export before it."""
    return 60.0 * np.sin(np.linspace(-1.0, 3.0, STEPS))


def rating_of(stub: Any, **fields: Any) -> api.TransformerRating:
    values = {"transformer": transformer(rated_kva=RATED_KVA), "loading": forecast(load_kw=evening_kw()), **fields}
    rating: api.TransformerRating = stub.RateTransformer(rate_request(STEPS, **values), timeout=60.0).rating
    return rating


def allocation_of(stub: Any, **fields: Any) -> allocation_pb2.Allocation:
    values = {"transformer": transformer(rated_kva=RATED_KVA), "loading": forecast(load_kw=evening_kw()), **fields}
    request = allocate_request(STEPS, **values)
    answer: allocation_pb2.Allocation = stub.AllocateCapacity(request, timeout=60.0).allocation
    return answer


def test_a_rating_tells_load_and_headroom(stub: Any) -> None:
    rating = rating_of(stub, n1_rated_kva=70.0)
    assert np.array(rating.loading_ratio) == pytest.approx(np.abs(evening_kw()) / RATED_KVA)
    normal, contingency = np.array(rating.headroom_n_kva), np.array(rating.headroom_n1_kva)
    assert np.all(evening_kw() + normal <= 1.5 * RATED_KVA + 1e-6)
    assert np.all(evening_kw() + contingency <= 70.0 + 1e-6)
    assert np.all(normal >= contingency - 1e-6)
    assert contingency.min() > 0.0
    assert not rating.limit_violations
    assert max(rating.hot_spot_c) <= 120.0


def test_a_load_that_breaks_a_limit_by_itself_is_told(stub: Any) -> None:
    rating = rating_of(stub, loading=measured(current_a=[300.0, 100.0, 100.0], power_factor=1.0))
    # 300 A at 230 V on one phase of a third of 100 kVA
    assert rating.loading_ratio[0] == pytest.approx(0.23 * 300.0 * 3.0 / RATED_KVA)
    reasons = {row.reason for row in rating.limit_violations}
    assert allocation_pb2.BINDING_REASON_LOADING_RATIO in reasons


@pytest.mark.parametrize("policy", list(AllocationPolicy))
def test_no_policy_breaks_the_transformer_or_a_right(stub: Any, policy: AllocationPolicy) -> None:
    own = {"firm_kw": 5.0, "conditional_kw": 60.0, "curtailment_price_per_kwh": 0.2, "currency_code": "EUR"}
    until = Timestamp(seconds=START_S + 900 * STEPS)
    hubs = [
        hub("demand", STEPS, demand_kw=[45.0] * STEPS, agreement=terms(**own)),
        hub("first", STEPS, demand_kw=[45.0] * STEPS, agreement=terms(**{**own, "priority": 3}), phases=1, max_kw=20.0),
        hub("cars", sessions=[car(f"c{i}", energy_needed_kwh=20.0, departure_time=until) for i in range(4)]),
    ]
    answer = allocation_of(stub, hubs=hubs, policy=policy, grid_condition=[1] * 12 + [2] * 12, n1_rated_kva=80.0)
    capacity_kw = np.array([row.capacity_kw for row in answer.hubs])
    power_kw = np.array([row.power_kw for row in answer.hubs])
    on_phase = evening_kw()[:, None] / 3 + (capacity_kw[0] + capacity_kw[2])[:, None] / 3
    on_phase[:, 0] += capacity_kw[1]
    most_kva = np.where(np.arange(STEPS) < 12, 1.5 * RATED_KVA, 80.0)
    assert np.all(np.abs(on_phase) <= most_kva[:, None] / 3 + 1e-6)
    assert max(answer.transformer.hot_spot_c) <= 120.0 + 1e-6
    assert not answer.limit_violations
    assert np.all(capacity_kw[:2] >= 5.0 - 1e-6)
    assert np.all(power_kw <= capacity_kw + 1e-6)
    for row, used_kw in zip(answer.hubs, power_kw, strict=True):
        assert row.served_kwh == pytest.approx(0.25 * used_kw.sum(), abs=1e-6)
        assert row.curtailed_kwh == pytest.approx(row.wanted_kwh - row.served_kwh, abs=1e-9)
    assert [row.compensation for row in answer.hubs] == pytest.approx(
        [0.2 * answer.hubs[0].curtailed_kwh, 0.2 * answer.hubs[1].curtailed_kwh, 0.0], abs=1e-9
    )
    cars_kw = np.array(answer.hubs[2].session_power_kw).reshape(4, STEPS)
    assert cars_kw.sum(axis=0) == pytest.approx(power_kw[2], abs=1e-6)
    assert answer.termination.reason != termination_pb2.TERMINATION_REASON_NO_SOLUTION


def test_what_is_kept_is_what_was_answered(stub: Any) -> None:
    answer = allocation_of(stub, hubs=[hub("a", STEPS), hub("b", STEPS)], store=True)
    lookup = api.GetAllocationRequest(allocation_id=answer.allocation_id)
    assert stub.GetAllocation(lookup).allocation == answer
    # rising demand does not take back what was given
    own = terms(firm_kw=0.0, conditional_kw=50.0, notice_duration=rate_request().time_grid.step_duration)
    again = allocation_of(
        stub, hubs=[hub("a", STEPS, agreement=own), hub("c", STEPS, demand_kw=[50.0] * STEPS)],
        previous_allocation_id=answer.allocation_id,
    )  # fmt: skip
    assert again.hubs[0].capacity_kw[0] >= min(answer.hubs[0].capacity_kw[0], 40.0) - 1e-6


@given(allocations())
def test_odd_numbers_do_no_harm_to_sharing(stub: Any, request: api.AllocateCapacityRequest) -> None:
    for own in request.hubs:
        own.ClearField("agreement_id")
    assert code_of(stub.AllocateCapacity, request) in REFUSALS


@given(ratings())
def test_odd_numbers_do_no_harm_to_rating(stub: Any, request: api.RateTransformerRequest) -> None:
    assert code_of(stub.RateTransformer, request) in REFUSALS
