"""Allocations: what the engine is asked, what comes back, what is kept and who sees it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from evflex.capacity.v1 import allocation_pb2
from evflex.capacity.v1 import capacity_service_pb2 as api
from evflex.common.v1 import supply_node_pb2, termination_pb2
from evflex.engine.capacity.hub import ANY_COUNT
from evflex.engine.capacity.model import AllocationPolicy
from evflex.engine.validation import InvalidProblemError, Violation
from evflex.server.caller import Caller
from tests.server.capacity.planning_support import (
    FINAL_STATE,
    STEPS,
    FakeCapacityEngine,
    RunningCapacity,
    allocate_request,
    allocated,
    car,
    grid,
    hub,
    running_capacity,
    terms,
    transformer,
)
from tests.server.support import START_S, info_of, reason_of, until, violations_of

OTHER = [("evflex-tenant", "cpo-1")]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCapacity]:
    with running_capacity(tmp_path_factory.mktemp("server")) as server:
        yield server


def refused(call: Any, *arguments: Any, **named: Any) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, **named)
    return caught.value


def got(here: RunningCapacity, allocation_id: str, *hub_ids: str, metadata: Any = None) -> allocation_pb2.Allocation:
    request = api.GetAllocationRequest(allocation_id=allocation_id, hub_ids=hub_ids)
    allocation: allocation_pb2.Allocation = here.capacity.GetAllocation(request, metadata=metadata).allocation
    return allocation


def test_the_answer_tells_what_the_engine_has_found(here: RunningCapacity) -> None:
    own = terms(curtailment_price_per_kwh=0.3, currency_code="DKK")
    cars = [car("a"), car("b")]
    answer = allocated(here, hubs=[hub("hub-1"), hub("hub-2", sessions=cars, agreement=own)], area_id="north")
    assert (answer.allocation_id, answer.transformer_id, answer.area_id) == ("", "trafo-1", "north")
    assert answer.time_grid == grid()
    assert answer.policy == allocation_pb2.ALLOCATION_POLICY_MAX_MIN
    first, second = answer.hubs
    assert (first.hub_id, second.hub_id) == ("hub-1", "hub-2")
    assert list(second.capacity_kw) == [20.0] * STEPS
    assert list(second.power_kw) == [16.0] * STEPS
    assert list(first.setpoint_current_a) == [float(i) for i in range(3 * STEPS)]
    assert list(second.setpoint_current_a) == [float(i) for i in range(3 * STEPS, 6 * STEPS)]
    assert list(first.evs_served) == [3] * STEPS
    assert (second.wanted_kwh, second.served_kwh, second.curtailed_kwh) == (40.0, 30.0, 10.0)
    assert (second.compensation, first.currency_code, second.currency_code) == (1.0, "", "DKK")
    assert (list(first.session_ids), list(second.session_ids)) == ([], ["a", "b"])
    assert list(second.session_power_kw) == [7.0] * 2 * STEPS
    outcome, ramp = answer.transformer, [float(k) for k in range(STEPS)]
    assert list(outcome.loading_ratio) == ramp
    assert list(outcome.top_oil_c) == [10.0 + k for k in ramp]
    assert list(outcome.hot_spot_c) == [20.0 + k for k in ramp]
    assert outcome.loss_of_life_h == 0.25 * STEPS
    assert list(outcome.headroom_n_kva) == [40.0 + k for k in ramp]
    assert list(outcome.headroom_n1_kva) == [50.0 + k for k in ramp]
    state = outcome.final_state
    assert (state.top_oil_c, state.winding_gradient_c, state.oil_gradient_c) == (
        FINAL_STATE.top_oil_c, FINAL_STATE.winding_gradient_c, FINAL_STATE.oil_gradient_c,
    )  # fmt: skip
    assert answer.fairness_index == 0.9
    assert [(row.step, row.hub_id, row.reason) for row in answer.binding] == [(0, "hub-1", 3), (0, "hub-2", 3)]
    hot, firm = answer.limit_violations
    assert (hot.step, hot.reason, hot.limit, hot.excess, hot.hub_id) == (0, 3, 120.0, 3.0, "")
    assert (firm.step, firm.reason, firm.limit, firm.excess, firm.hub_id) == (1, 2, 50.0, 4.0, "hub-2")
    assert firm.phase == supply_node_pb2.PHASE_UNSPECIFIED
    assert answer.termination.reason == termination_pb2.TERMINATION_REASON_OPTIMAL
    assert not answer.HasField("create_time")


def test_the_engine_is_asked_what_the_request_says(here: RunningCapacity) -> None:
    here.agreements.add("kept", "hub-2", firm_kw=7.0, conditional_kw=8.0, priority=2)
    request = allocate_request(
        hubs=[hub("hub-1", connected_evs=[5]), hub("hub-2", agreement_id="kept")],
        policy=AllocationPolicy.PRIORITY, grid_condition=[2], n1_rated_kva=300.0,
        time_limit_duration=Duration(seconds=3),
    )  # fmt: skip
    answer = allocated(here, request=request)
    assert answer.policy == allocation_pb2.ALLOCATION_POLICY_PRIORITY
    problem = here.engine.problems[-1]
    assert problem.policy is AllocationPolicy.PRIORITY
    assert problem.contingency.all()
    assert problem.n1_rated_kva == 300.0
    first, second = problem.hubs
    assert (first.connected_evs[0], second.connected_evs[0]) == (5, ANY_COUNT)
    assert (second.firm_kw[0], second.conditional_kw[0], second.priority) == (7.0, 8.0, 2)
    assert 2.0 < here.engine.time_limits_s[-1] <= 3.0


def test_a_plain_allocation_is_not_kept(here: RunningCapacity) -> None:
    before = len(here.heard.plans)
    allocated(here, hubs=[hub("hub-x")])
    rows = here.capacity.ListAllocations(api.ListAllocationsRequest()).allocations
    assert all(row.allocation_id for row in rows)
    assert len(here.heard.plans) == before


def test_a_kept_allocation_can_be_read_again_and_watchers_hear_of_it(here: RunningCapacity) -> None:
    answer = allocated(here, store=True, area_id="north")
    assert answer.allocation_id
    assert answer.etag
    assert answer.tenant_id == "default"
    assert answer.create_time == answer.update_time
    assert got(here, answer.allocation_id) == answer
    assert here.heard.plans[-1] == ("default", answer.allocation_id, ["hub-1", "hub-2"], "trafo-1", "north")


def test_hubs_of_an_allocation_can_be_named(here: RunningCapacity) -> None:
    whole = allocated(here, store=True, hubs=[hub("a"), hub("b"), hub("c")])
    part = got(here, whole.allocation_id, "c", "a")
    assert list(part.hubs) == [whole.hubs[2], whole.hubs[0]]
    assert [row.hub_id for row in part.binding] == ["a", "c"]
    assert [row.hub_id for row in part.limit_violations] == ["", "c"]
    assert part.transformer == whole.transformer
    assert [row.hub_id for row in got(here, whole.allocation_id, "a").limit_violations] == [""]
    request = api.GetAllocationRequest(allocation_id=whole.allocation_id, hub_ids=["a", "z", "a"])
    error = refused(here.capacity.GetAllocation, request)
    assert set(violations_of(error)) == {"hub_ids[1]", "hub_ids[2]"}


def test_a_charge_point_operator_sees_its_own_hubs(here: RunningCapacity) -> None:
    here.agreements.add("of-cpo", "mine")
    here.agreements.add("of-another-operator", "theirs", dso="other-dso")
    whole = allocated(here, store=True, hubs=[hub("theirs"), hub("mine"), hub("last")])
    seen = got(here, whole.allocation_id, metadata=OTHER)
    assert list(seen.hubs) == [whole.hubs[1]]
    assert [row.hub_id for row in seen.binding] == ["mine"]
    assert not seen.limit_violations
    for name in ("transformer", "termination"):
        assert not seen.HasField(name)
    assert seen.fairness_index == 0.0
    assert (seen.allocation_id, seen.time_grid, seen.etag) == (whole.allocation_id, whole.time_grid, whole.etag)
    request = api.GetAllocationRequest(allocation_id=whole.allocation_id, hub_ids=["theirs"])
    assert set(violations_of(refused(here.capacity.GetAllocation, request, metadata=OTHER))) == {"hub_ids[0]"}


def test_others_see_no_allocation(here: RunningCapacity) -> None:
    whole = allocated(here, store=True, hubs=[hub("elsewhere")])
    request = api.GetAllocationRequest(allocation_id=whole.allocation_id)
    for tenant in ("cpo-1", "stranger"):
        error = refused(here.capacity.GetAllocation, request, metadata=[("evflex-tenant", tenant)])
        assert error.code() is grpc.StatusCode.NOT_FOUND
    listed = here.capacity.ListAllocations(api.ListAllocationsRequest(), metadata=OTHER)
    assert not listed.allocations
    delete = api.DeleteAllocationRequest(request_id=str(uuid.uuid4()), allocation_id=whole.allocation_id)
    assert refused(here.capacity.DeleteAllocation, delete, metadata=OTHER).code() is grpc.StatusCode.NOT_FOUND
    assert got(here, whole.allocation_id) == whole


def test_an_agreement_of_others_is_none(here: RunningCapacity) -> None:
    here.agreements.add("far", "hub-1", dso="other-dso", cpo="default")
    error = refused(allocated, here, hubs=[hub("hub-1", agreement_id="far")])
    assert set(violations_of(error)) == {"hubs[0].agreement_id"}


def test_terms_that_two_parties_have_agreed_on_are_shared_by(tmp_path: Path) -> None:
    with running_capacity(tmp_path, fake_agreements=False) as here:
        agreement = terms(
            firm_kw=3.0, conditional_kw=4.0, priority=5, hub_id="hub-1", transformer_id="trafo-1",
            dso_party="default", cpo_party="cpo-1",
        )  # fmt: skip
        propose = api.ProposeAgreementRequest(request_id=str(uuid.uuid4()), agreement=agreement)
        proposed = here.capacity.ProposeAgreement(propose).agreement
        named = hub("hub-1", agreement_id=proposed.agreement_id)
        assert set(violations_of(refused(allocated, here, hubs=[named]))) == {"hubs[0].agreement_id"}
        accept = api.AcceptAgreementRequest(
            request_id=str(uuid.uuid4()), agreement_id=proposed.agreement_id, version=proposed.version
        )
        here.capacity.AcceptAgreement(accept, metadata=OTHER)
        whole = allocated(here, store=True, hubs=[named, hub("hub-2")])
        (first, _) = here.engine.problems[-1].hubs
        assert (first.firm_kw[0], first.conditional_kw[0], first.priority) == (3.0, 4.0, 5)
        # the other party sees its hub, and may not share the transformer
        assert list(got(here, whole.allocation_id, metadata=OTHER).hubs) == [whole.hubs[0]]
        assert set(violations_of(refused(allocated, here, "cpo-1", hubs=[named]))) == {"hubs[0].agreement_id"}
        end = api.EndAgreementRequest(request_id=str(uuid.uuid4()), agreement_id=proposed.agreement_id)
        here.capacity.EndAgreement(end)
        assert set(violations_of(refused(allocated, here, hubs=[named]))) == {"hubs[0].agreement_id"}
        lookup = api.GetAllocationRequest(allocation_id=whole.allocation_id)
        assert refused(here.capacity.GetAllocation, lookup, metadata=OTHER).code() is grpc.StatusCode.NOT_FOUND


def test_the_same_request_has_the_same_answer(here: RunningCapacity) -> None:
    here.agreements.add("passing", "hub-1")
    request = allocate_request(store=True, hubs=[hub("hub-1", agreement_id="passing")])
    first = allocated(here, request=request)
    # not even a change of what the request refers to makes another answer of it
    del here.agreements.known["passing"]
    solves, plans = here.engine.started_count, len(here.heard.plans)
    assert allocated(here, request=request) == first
    assert here.engine.started_count == solves
    assert len(here.heard.plans) == plans
    request.hubs[0].max_kw = 1.0
    assert reason_of(refused(allocated, here, request=request)) == "REQUEST_ID_REUSED"


def test_an_answer_is_deleted_with_its_allocation(here: RunningCapacity) -> None:
    request = allocate_request(store=True)
    kept = allocated(here, request=request)
    delete = api.DeleteAllocationRequest(request_id=str(uuid.uuid4()), allocation_id=kept.allocation_id)
    here.capacity.DeleteAllocation(delete)
    here.capacity.DeleteAllocation(delete)
    assert reason_of(refused(allocated, here, request=request)) == "ALLOCATION_DELETED"
    lookup = api.GetAllocationRequest(allocation_id=kept.allocation_id)
    assert refused(here.capacity.GetAllocation, lookup).code() is grpc.StatusCode.NOT_FOUND


def test_only_the_version_that_was_read_is_deleted(here: RunningCapacity) -> None:
    kept = allocated(here, store=True)
    named: Any = {"allocation_id": kept.allocation_id}
    stale = api.DeleteAllocationRequest(request_id=str(uuid.uuid4()), etag="another", **named)
    assert reason_of(refused(here.capacity.DeleteAllocation, stale)) == "ETAG_MISMATCH"
    here.capacity.DeleteAllocation(api.DeleteAllocationRequest(validate_only=True, etag=kept.etag, **named))
    assert got(here, kept.allocation_id) == kept
    here.capacity.DeleteAllocation(api.DeleteAllocationRequest(request_id=str(uuid.uuid4()), etag=kept.etag, **named))
    assert refused(got, here, kept.allocation_id).code() is grpc.StatusCode.NOT_FOUND
    nameless = refused(here.capacity.DeleteAllocation, api.DeleteAllocationRequest())
    assert set(violations_of(nameless)) == {"request_id", "allocation_id"}


def test_a_request_can_only_be_checked(here: RunningCapacity) -> None:
    solves = here.engine.started_count
    request = allocate_request(store=True, validate_only=True)
    assert not here.capacity.AllocateCapacity(request).HasField("allocation")
    assert here.engine.started_count == solves
    request.hubs[0].max_kw = -1.0
    assert set(violations_of(refused(here.capacity.AllocateCapacity, request))) == {"hubs[0].max_kw"}


def test_pages_list_the_newest_first_without_arrays(tmp_path: Path) -> None:
    with running_capacity(tmp_path) as here:
        names = [
            allocated(here, store=True, transformer=transformer(transformer_id=name)).allocation_id
            for name in ("x", "y", "x")
        ]
        first = here.capacity.ListAllocations(api.ListAllocationsRequest(page_size=2))
        assert [row.allocation_id for row in first.allocations] == [names[2], names[1]]
        second = here.capacity.ListAllocations(
            api.ListAllocationsRequest(page_size=2, page_token=first.next_page_token)
        )
        assert ([row.allocation_id for row in second.allocations], second.next_page_token) == ([names[0]], "")
        only = here.capacity.ListAllocations(api.ListAllocationsRequest(transformer_id="y")).allocations
        assert [row.allocation_id for row in only] == [names[1]]
        for name in ("hubs", "binding", "limit_violations"):
            assert not getattr(only[0], name)
        assert not only[0].HasField("transformer")
        assert (only[0].fairness_index, only[0].time_grid) == (0.9, grid())
        bad = api.ListAllocationsRequest(page_size=-1, transformer_id="\n")
        assert set(violations_of(refused(here.capacity.ListAllocations, bad))) == {"page_size", "transformer_id"}
        foreign = api.ListAllocationsRequest(transformer_id="x", page_token=first.next_page_token)
        assert set(violations_of(refused(here.capacity.ListAllocations, foreign))) == {"page_token"}


def test_an_earlier_allocation_protects_what_was_given_within_notice(here: RunningCapacity) -> None:
    earlier = allocated(here, store=True, hubs=[hub("a"), hub("b")])
    own = terms(notice_duration=Duration(seconds=1000))
    hubs = [hub("b", agreement=own), hub("a"), hub("new", agreement=own)]
    later = grid(start_s=START_S + 900)
    allocated(here, hubs=hubs, time_grid=later, previous_allocation_id=earlier.allocation_id)
    given, without_notice, new = here.engine.problems[-1].hubs
    assert given.noticed_kw.tolist() == [20.0, 20.0, 0.0, 0.0]
    assert not without_notice.noticed_kw.any()
    assert not new.noticed_kw.any()


def test_an_earlier_allocation_must_be_of_the_same_transformer_and_tenant(here: RunningCapacity) -> None:
    kept = allocated(here, store=True)
    elsewhere = allocated(here, store=True, transformer=transformer(transformer_id="trafo-2"))
    foreign = allocated(here, "stranger", store=True)
    for name in (elsewhere.allocation_id, foreign.allocation_id, str(uuid.uuid4()), "nothing"):
        error = refused(allocated, here, previous_allocation_id=name)
        assert set(violations_of(error)) == {"previous_allocation_id"}
    allocated(here, previous_allocation_id=kept.allocation_id)


def test_areas_of_others_are_not_there(tmp_path: Path) -> None:
    def resolve(metadata: Any, peer: str) -> Caller:
        areas = [value for key, value in metadata if key == "areas"]
        return Caller("default", areas=frozenset(areas) if areas else None)

    with running_capacity(tmp_path, server_arguments={"resolve_caller": resolve}) as here:
        north = allocated(here, store=True, area_id="north")
        south = [("areas", "south")]
        lookup = api.GetAllocationRequest(allocation_id=north.allocation_id)
        assert refused(here.capacity.GetAllocation, lookup, metadata=south).code() is grpc.StatusCode.NOT_FOUND
        delete = api.DeleteAllocationRequest(validate_only=True, allocation_id=north.allocation_id)
        assert refused(here.capacity.DeleteAllocation, delete, metadata=south).code() is grpc.StatusCode.NOT_FOUND
        assert not here.capacity.ListAllocations(api.ListAllocationsRequest(), metadata=south).allocations
        denied = refused(here.capacity.AllocateCapacity, allocate_request(area_id="north"), metadata=south)
        assert reason_of(denied) == "AREA_NOT_ALLOWED"
        request = allocate_request(area_id="south", previous_allocation_id=north.allocation_id)
        error = refused(here.capacity.AllocateCapacity, request, metadata=south)
        assert set(violations_of(error)) == {"previous_allocation_id"}


def test_a_scope_is_needed(tmp_path: Path) -> None:
    def resolve(metadata: Any, peer: str) -> Caller:
        return Caller("default", scopes=frozenset({"capacity.read"}))

    with running_capacity(tmp_path, server_arguments={"resolve_caller": resolve}) as here:
        for call, request in (
            (here.capacity.AllocateCapacity, allocate_request()),
            (here.capacity.DeleteAllocation, api.DeleteAllocationRequest()),
            (here.capacity.RateTransformer, api.RateTransformerRequest()),
        ):
            assert reason_of(refused(call, request)) == "SCOPE_MISSING"
        here.capacity.ListAllocations(api.ListAllocationsRequest())


@pytest.mark.parametrize(
    ("limits", "limit"),
    [
        ({"max_steps": 3}, "max_steps"),
        ({"max_hubs": 1}, "max_hubs"),
        ({"max_hub_steps": 7}, "max_hub_steps"),
        ({"max_hub_sessions": 1}, "max_hub_sessions"),
        ({"max_unary_answer_bytes": 300}, "max_unary_answer_bytes"),
    ],
)
def test_a_limit_is_named(tmp_path: Path, limits: Any, limit: str) -> None:
    with running_capacity(tmp_path, **limits) as here:
        cars = hub("hub-2", sessions=[car("a"), car("b")])
        error = refused(allocated, here, hubs=[hub("hub-1"), cars])
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert info_of(error)["limit"] == limit
        assert here.engine.started_count == 0


def test_an_answer_that_grew_too_large_is_not_kept(tmp_path: Path) -> None:
    # the arrays fit, but not with names and reasons on top
    with running_capacity(tmp_path, max_unary_answer_bytes=600) as here:
        error = refused(allocated, here, store=True, hubs=[hub("a" * 100), hub("b" * 100)])
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert here.engine.started_count == 1
        assert not here.capacity.ListAllocations(api.ListAllocationsRequest()).allocations
        assert not here.heard.plans


def test_what_the_engine_refuses_is_the_callers_fault(tmp_path: Path) -> None:
    engine = FakeCapacityEngine(capacity_error=InvalidProblemError([Violation("hubs[0].weight", "must be odd")]))
    with running_capacity(tmp_path, engine) as here:
        assert violations_of(refused(allocated, here)) == {"hubs[0].weight": "must be odd"}
        engine.capacity_error = ValueError("secret")
        error = refused(allocated, here)
        assert error.code() is grpc.StatusCode.INTERNAL
        assert "secret" not in error.details()


def test_a_solve_ends_with_its_call_and_its_deadline(tmp_path: Path) -> None:
    engine = FakeCapacityEngine(hold=True)
    with running_capacity(tmp_path, engine) as here:
        future = here.capacity.AllocateCapacity.future(allocate_request(), timeout=30.0)
        engine.started.acquire()
        future.cancel()
        engine.cancelled.acquire()
        answer = here.capacity.AllocateCapacity(allocate_request(), timeout=2.0).allocation
        assert answer.termination.stopped_by == termination_pb2.STOPPED_BY_TIME
        assert engine.time_limits_s[-1] < 2.0
        until(lambda: here.server.metrics.solves_running._value.get() == 0)


def test_allocations_survive_the_server(tmp_path: Path, database_url: str) -> None:
    with running_capacity(tmp_path, database_url=database_url) as here:
        kept = allocated(here, store=True)
    with running_capacity(tmp_path, database_url=database_url) as here:
        assert got(here, kept.allocation_id) == kept
