"""How far a commitment is: from a hold to its settlement, each step all or nothing, and no step out of turn."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from evflex.activation.v1 import activation_service_pb2 as api
from evflex.activation.v1 import commitment_pb2
from evflex.server.caller import Caller
from tests.server.activation.conftest import furnish
from tests.server.activation.support import (
    ACTIVATED,
    AGG,
    CONFIRMED,
    DELIVERED,
    EXPIRED,
    HELD,
    HOUR_MS,
    MINUTE_MS,
    RELEASED,
    SECOND_MS,
    SESSION,
    SETTLED,
    SUSPENDED,
    Party,
    RunningLedger,
    activate,
    after_start_ms,
    at,
    audit,
    called,
    complete,
    confirm,
    each_at_once,
    error_of,
    get,
    held,
    hold,
    hold_request,
    kinds,
    named,
    new_id,
    plug_in,
    pool,
    reallocate,
    refusal_of,
    register,
    release,
    resource,
    row,
    running_ledger,
    sale,
    set_policy,
    settle,
    sold,
    state,
    unplug,
)
from tests.server.support import info_of, violations_of

State = commitment_pb2.CommitmentState


def test_commitment_goes_from_hold_to_settlement(tmp_path: Path, ledger_database_url: str) -> None:
    with running_ledger(tmp_path, ledger_database_url) as here:
        furnish(here)
        asked = sale(energy_wh=9_000, co_delivery_group="g", end_ms=HOUR_MS)
        (first,) = held(here.agg, asked)
        name = first.commitment_id
        assert (first.state, first.aggregator_id, first.tenant_id, first.area_id) == (HELD, AGG, AGG, "north")
        assert after_start_ms(first.expire_time) == 5 * MINUTE_MS
        assert first.create_time == first.update_time == at(0)
        assert first.sequence == 6, "one line a resource, then this"
        assert (first.policy_kind, first.settlement_id) == (0, "")
        assert not first.HasField("delivered_energy_wh")
        for field in ("power_w", "energy_wh", "co_delivery_group", "start_time", "end_time", "resource_id"):
            assert getattr(first, field) == getattr(asked, field)
        etags = {first.etag}

        steps: list[tuple[Any, Callable[[], Any]]] = [
            (CONFIRMED, lambda: confirm(here.agg, name).commitments[0]),
            (ACTIVATED, lambda: activate(here.agg, name).commitments[0]),
            (DELIVERED, lambda: complete(here.agg, name, energy_wh=8_500)[0]),
            (SETTLED, lambda: settle(here.agg, name, settlement_id="invoice-7")[0]),
        ]
        for count, (wanted, step) in enumerate(steps):
            here.clock.set_ms((count + 1) * SECOND_MS)
            after = step()
            assert after.state == wanted
            assert after == get(here.agg, name)
            assert not after.HasField("expire_time")
            assert (after.create_time, after_start_ms(after.update_time)) == (at(0), (count + 1) * SECOND_MS)
            assert after.sequence == first.sequence
            etags.add(after.etag)
        assert len(etags) == 5
        assert (after.delivered_energy_wh, after.settlement_id) == (8_500, "invoice-7")


def _held(here: RunningLedger) -> str:
    return held(here.agg, sale())[0].commitment_id


def _confirmed(here: RunningLedger) -> str:
    return sold(here.agg, sale())[0].commitment_id


def _activated(here: RunningLedger) -> str:
    return called(here.agg, sale())[0].commitment_id


def _delivered(here: RunningLedger) -> str:
    return complete(here.agg, _activated(here))[0].commitment_id


def _settled(here: RunningLedger) -> str:
    return settle(here.agg, _delivered(here))[0].commitment_id


def _released(here: RunningLedger) -> str:
    return release(here.agg, _held(here))[0].commitment_id


def _expired(here: RunningLedger) -> str:
    (one,) = held(here.agg, sale(), hold_duration=Duration(seconds=1))
    here.clock.set_ms(SECOND_MS)
    return one.commitment_id


def _suspended(here: RunningLedger) -> str:
    held(here.rival, sale("cp", 1_000))
    name = _confirmed(here)
    plug_in(here.cpo, "ev", "cp")
    assert state(here.agg, name) == SUSPENDED
    return name


REACH: dict[Any, Callable[[RunningLedger], str]] = {
    HELD: _held, CONFIRMED: _confirmed, ACTIVATED: _activated, DELIVERED: _delivered, SETTLED: _settled,
    RELEASED: _released, EXPIRED: _expired, SUSPENDED: _suspended,
}  # fmt: skip
STEPS: dict[str, tuple[Callable[[Party, str], Any], set[Any]]] = {
    "confirm": (lambda party, name: confirm(party, name), {HELD, SUSPENDED}),
    "activate": (lambda party, name: activate(party, name), {CONFIRMED}),
    "complete": (lambda party, name: complete(party, name), {ACTIVATED}),
    "settle": (lambda party, name: settle(party, name), {DELIVERED}),
    "release": (lambda party, name: release(party, name), {HELD, SUSPENDED}),
    "reallocate": (lambda party, name: reallocate(party, name, {"ev-2": 10_000}), {HELD, CONFIRMED, ACTIVATED}),
}


@pytest.mark.parametrize("present", REACH, ids=State.Name)
def test_each_step_out_of_turn_is_refused_with_the_state(here: RunningLedger, present: Any) -> None:
    name = REACH[present](here)
    before = get(here.agg, name)
    for step, (call, allowed) in STEPS.items():
        if present in allowed:
            continue
        error = error_of(call, here.agg, name)
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION, step
        reason = "HOLD_EXPIRED" if present == EXPIRED else "WRONG_STATE"
        assert refusal_of(call, here.agg, name)[1] == reason, step
        info = info_of(error)
        assert info["state"] == State.Name(present).removeprefix("COMMITMENT_STATE_"), step
        assert info["commitment_id"] == name
    assert get(here.agg, name).sequence == before.sequence
    assert get(here.agg, name).state == present


def test_what_is_released_is_free_again(here: RunningLedger) -> None:
    name = _held(here)
    assert kinds(hold(here.rival, sale())) == ["CAPACITY_EXCEEDED"]
    (gone,) = release(here.agg, name)
    assert (gone.state, gone.HasField("expire_time")) == (RELEASED, False)
    held(here.rival, sale())


def test_what_expires_is_free_again(here: RunningLedger) -> None:
    name = _expired(here)
    held(here.rival, sale())
    assert state(here.agg, name) == EXPIRED


def test_expiry_is_judged_by_the_clock_at_commit(tmp_path: Path) -> None:
    # the sweep looks at the clock every watch_poll_s only
    with running_ledger(tmp_path, watch_poll_s=3_600.0) as here:
        furnish(here)
        (last, gone) = held(here.agg, sale("ev"), sale("ev-2"), hold_duration=Duration(seconds=1))
        here.clock.set_ms(SECOND_MS - 1)
        assert confirm(here.agg, last.commitment_id).confirmed
        here.clock.set_ms(SECOND_MS)
        assert refusal_of(confirm, here.agg, gone.commitment_id) == ("FAILED_PRECONDITION", "HOLD_EXPIRED")
        assert state(here.agg, gone.commitment_id) == EXPIRED
        assert state(here.agg, last.commitment_id) == CONFIRMED


def test_commitment_that_is_over_is_completed_without_having_been_called(here: RunningLedger) -> None:
    name = _confirmed(here)
    here.clock.set_ms(HOUR_MS - 1)
    assert refusal_of(complete, here.agg, name) == ("FAILED_PRECONDITION", "WRONG_STATE")
    here.clock.set_ms(HOUR_MS)
    assert refusal_of(activate, here.agg, name) == ("FAILED_PRECONDITION", "COMMITMENT_OVER")
    (one,) = complete(here.agg, name, energy_wh=0)
    assert (one.state, one.delivered_energy_wh) == (DELIVERED, 0)


def test_what_is_left_of_the_time_of_a_delivery_is_free_again(here: RunningLedger) -> None:
    complete(here.agg, _activated(here))
    held(here.rival, sale())


def test_suspended_commitment_is_confirmed_again_once_nothing_stands_against_it(here: RunningLedger) -> None:
    (first,) = held(here.rival, sale("cp", 1_000))
    name = _confirmed(here)
    plug_in(here.cpo, "ev", "cp")
    assert kinds(confirm(here.agg, name)) == ["CROSS_SALE", "CASCADE"]
    assert state(here.agg, name) == SUSPENDED
    release(here.rival, first.commitment_id)
    assert confirm(here.agg, name).commitments[0].state == CONFIRMED
    assert kinds(hold(here.rival, sale("cp", 1_000))) == ["CROSS_SALE", "CASCADE"]


def test_suspended_commitment_is_released(here: RunningLedger) -> None:
    assert release(here.agg, _suspended(here))[0].state == RELEASED


def test_suspended_commitment_that_is_over_cannot_be_confirmed(here: RunningLedger) -> None:
    name = _suspended(here)
    here.clock.set_ms(HOUR_MS)
    assert refusal_of(confirm, here.agg, name) == ("FAILED_PRECONDITION", "COMMITMENT_OVER")


def test_two_suspended_commitments_are_confirmed_together_only_where_they_fit_together(here: RunningLedger) -> None:
    (first,) = held(here.rival, sale("cp", 1_000))
    a, b = (one.commitment_id for one in sold(here.agg, sale("ev", 6_000), sale("ev", 4_000)))
    plug_in(here.cpo, "ev", "cp")
    release(here.rival, first.commitment_id)
    held(here.rival, sale("ev", 5_000))
    assert kinds(confirm(here.agg, a, b)) == ["CAPACITY_EXCEEDED", "CASCADE"] * 2
    assert {state(here.agg, a), state(here.agg, b)} == {SUSPENDED}
    assert confirm(here.agg, b).confirmed


def test_one_bad_row_and_nothing_of_a_pool_is_held(here: RunningLedger) -> None:
    refused = hold(here.agg, pool({"ev": 10_000, "ev-2": 10_001}))
    assert kinds(refused) == ["CAPACITY_EXCEEDED"]
    conflict = refused.conflicts[0]
    assert (conflict.resource_id, conflict.excess_w, list(conflict.request_indices)) == ("ev-2", 1, [0])
    assert not conflict.commitment_ids
    held(here.rival, sale("ev"), sale("ev-2"))


def test_one_bad_commitment_and_none_of_the_request_is_held(here: RunningLedger) -> None:
    lines = len(audit(here.agg))
    refused = hold(here.agg, sale("ev"), sale("ev-2"), sale("ev", 1))
    assert kinds(refused) == ["CAPACITY_EXCEEDED"]
    assert list(refused.conflicts[0].request_indices) == [0, 2]
    assert not refused.commitments
    assert len(audit(here.agg)) == lines
    held(here.rival, sale("ev"), sale("ev-2"))


def test_pool_counts_at_each_resource(here: RunningLedger) -> None:
    (one,) = held(here.agg, pool({"cp": 5_000, "cp-2": 10_000}))
    assert [(r.resource_id, r.power_w, r.HasField("truncated_time")) for r in one.allocation] == [
        ("cp", 5_000, False), ("cp-2", 10_000, False),
    ]  # fmt: skip
    assert kinds(hold(here.rival, sale("cp-2", 1))) == ["CAPACITY_EXCEEDED", "CASCADE"]
    assert kinds(hold(here.rival, sale("cp", 1))) == ["CASCADE"]


@pytest.mark.parametrize(
    ("step", "good", "bad"),
    [
        ("confirm", HELD, CONFIRMED), ("activate", CONFIRMED, HELD), ("complete", ACTIVATED, HELD),
        ("settle", DELIVERED, HELD), ("release", HELD, CONFIRMED),
    ],
)  # fmt: skip
def test_list_is_done_as_a_whole_or_not_at_all(here: RunningLedger, step: str, good: Any, bad: Any) -> None:
    calls: dict[str, Callable[..., Any]] = {
        "confirm": confirm, "activate": activate, "complete": complete, "settle": settle, "release": release,
    }  # fmt: skip
    call = calls[step]
    names = []
    for wanted, resource_id in ((good, "ev"), (bad, "ev-2")):
        (one,) = held(here.agg, sale(resource_id))
        name = one.commitment_id
        for after, advance in ((CONFIRMED, confirm), (ACTIVATED, activate), (DELIVERED, complete)):
            if after <= wanted:
                advance(here.agg, name)
        names.append(name)
    before = [get(here.agg, name) for name in names]
    assert refusal_of(call, here.agg, *names) == ("FAILED_PRECONDITION", "WRONG_STATE")
    assert refusal_of(call, here.agg, names[0], new_id()) == ("NOT_FOUND", "NOT_FOUND")
    assert [get(here.agg, name) for name in names] == before
    error = error_of(call, here.agg, names[0], names[0])
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, "each once"
    call(here.agg, names[0])


def test_checking_only_says_what_would_happen_and_stores_nothing(here: RunningLedger) -> None:
    def checked(call: Callable[..., Any], *arguments: Any, **fields: Any) -> Any:
        lines = len(audit(here.agg))
        answer = call(here.agg, *arguments, validate_only=True, request_id="", **fields)
        assert len(audit(here.agg)) == lines
        return answer

    granted = checked(hold, sale())
    assert (granted.granted, len(granted.commitments)) == (True, 0)
    name = _held(here)
    assert kinds(checked(hold, sale())) == ["CAPACITY_EXCEEDED"]
    assert (checked(confirm, name).confirmed, state(here.agg, name)) == (True, HELD)
    assert checked(release, name) == []
    assert state(here.agg, name) == HELD
    confirm(here.agg, name)
    assert refusal_of(checked, confirm, name) == ("FAILED_PRECONDITION", "WRONG_STATE")
    assert (checked(activate, name).activated, state(here.agg, name)) == (True, CONFIRMED)
    activate(here.agg, name)
    assert checked(complete, name) == []
    assert state(here.agg, name) == ACTIVATED
    complete(here.agg, name)
    assert checked(settle, name) == []
    assert state(here.agg, name) == DELIVERED
    settle(here.agg, name)
    (one,) = held(here.agg, pool({"ev": 5_000, "ev-2": 5_000}))
    assert checked(reallocate, one.commitment_id, {"ev": 10_000}).reallocated
    assert get(here.agg, one.commitment_id) == one


def test_request_is_remembered_with_its_answer(tmp_path: Path, ledger_database_url: str) -> None:
    with running_ledger(tmp_path, ledger_database_url) as here:
        furnish(here)
        request = hold_request(sale())
        first = here.agg.HoldCommitments(request)
        refusal = hold_request(sale("ev", 1))
        refused = here.rival.HoldCommitments(refusal)
        lines = len(audit(here.agg))
        release(here.agg, first.commitments[0].commitment_id)
        assert here.agg.HoldCommitments(request) == first
        assert here.rival.HoldCommitments(refusal) == refused, "though it would be granted now"
        assert len(audit(here.agg)) == lines + 1
        other = hold_request(sale("ev-2"), request_id=request.request_id)
        assert refusal_of(here.agg.HoldCommitments, other) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
        confirmation = named(api.ConfirmCommitmentsRequest, [new_id()], request_id=request.request_id)
        assert refusal_of(here.agg.ConfirmCommitments, confirmation) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
        assert here.rival.HoldCommitments(request).granted, "ids are each tenant's own"


def test_one_request_of_many_threads_is_done_once(tmp_path: Path, ledger_database_url: str) -> None:
    with running_ledger(tmp_path, ledger_database_url) as here:
        furnish(here)
        good, bad = hold_request(sale("ev")), hold_request(sale("ev-2"), sale("ev-2"))
        answers = each_at_once([lambda: here.agg.HoldCommitments(good), lambda: here.agg.HoldCommitments(bad)] * 8)
        assert all(answer == answers[0] and answer.granted for answer in answers[::2])
        assert all(answer == answers[1] and answer.conflicts for answer in answers[1::2])
        assert len(list(here.agg.ListCommitments(api.ListCommitmentsRequest()).commitments)) == 1


def test_other_payloads_of_many_threads_are_refused(here: RunningLedger) -> None:
    request_id = new_id()
    requests = [hold_request(sale("ev", 1 + i), request_id=request_id) for i in range(12)]
    answers = each_at_once([partial(here.agg.HoldCommitments, request) for request in requests])
    refused = [answer for answer in answers if isinstance(answer, grpc.RpcError)]
    assert len(refused) == 11
    assert {error.code() for error in refused} == {grpc.StatusCode.ALREADY_EXISTS}


def test_requests_of_one_commit_are_judged_one_after_the_other(here: RunningLedger) -> None:
    together = _held_up(here)
    answers = together([partial(hold, here.agg, sale("ev", 1_000 + i)) for i in range(12)])
    granted = [one for answer in answers for one in answer.commitments]
    assert 0 < sum(one.power_w for one in granted) <= 10_000
    assert len({one.sequence for one in granted}) == len(granted)
    assert all(kinds(answer) == ["CAPACITY_EXCEEDED"] for answer in answers if not answer.granted)


def test_commitment_is_settled_once_in_one_commit(here: RunningLedger) -> None:
    name = _delivered(here)
    answers = _held_up(here)([partial(settle, here.agg, name, settlement_id=f"invoice-{n}") for n in range(6)])
    done = [answer for answer in answers if isinstance(answer, list)]
    assert len(done) == 1
    assert get(here.agg, name).settlement_id == done[0][0].settlement_id
    refused = [answer for answer in answers if isinstance(answer, grpc.RpcError)]
    assert {info_of(error)["state"] for error in refused} == {"SETTLED"}


def test_commitment_is_completed_and_settled_in_one_commit(here: RunningLedger) -> None:
    name = _activated(here)
    _held_up(here)([lambda: complete(here.agg, name), lambda: release(here.agg, name)])
    assert settle(here.agg, name)[0].state == SETTLED


def _held_up(here: RunningLedger) -> Callable[[list[Callable[[], Any]]], list[Any]]:
    """Lets calls come while the writer stands still, so that one commit takes most of them."""

    def together(calls: list[Callable[[], Any]]) -> list[Any]:
        gate, started = threading.Event(), threading.Semaphore(0)

        def begun(call: Callable[[], Any]) -> Any:
            started.release()
            return call()

        with ThreadPoolExecutor(2) as threads:
            looking = threads.submit(here.keeper.look, lambda _: gate.wait())
            answers = threads.submit(each_at_once, [partial(begun, call) for call in calls])
            for _ in calls:
                started.acquire()
            gate.set()
            looking.result()
            return answers.result()

    return together


def test_open_holds_are_limited(tmp_path: Path) -> None:
    with running_ledger(tmp_path, max_open_holds=3) as here:
        furnish(here)
        first = held(here.agg, *(sale("ev", 1) for _ in range(3)))
        assert refusal_of(hold, here.agg, sale("ev", 1)) == ("RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED")
        assert info_of(error_of(hold, here.agg, sale("ev", 1)))["limit"] == "max_open_holds"
        held(here.rival, sale("ev", 1), sale("ev", 1), sale("ev", 1))
        confirm(here.agg, first[0].commitment_id)
        held(here.agg, sale("ev", 1))
        release(here.agg, first[1].commitment_id)
        held(here.agg, sale("ev", 1), hold_duration=Duration(seconds=600))
        here.clock.set_ms(5 * MINUTE_MS)
        held(here.agg, sale("ev", 1), sale("ev", 1))
        assert refusal_of(hold, here.agg, sale("ev", 1)) == ("RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED")


def test_hold_that_is_refused_takes_nothing_of_the_quota(tmp_path: Path) -> None:
    with running_ledger(tmp_path, max_open_holds=2) as here:
        furnish(here)
        for _ in range(3):
            hold(here.agg, sale("ev", 1), sale("ev"))
            hold(here.agg, sale("ev", 1), sale("ev", 1), validate_only=True)
        held(here.agg, sale("ev", 1), sale("ev", 1))


@pytest.mark.parametrize(
    ("duration", "is_good"),
    [
        (Duration(seconds=1), True), (Duration(seconds=3_600), True), (Duration(nanos=999_999_999), False),
        (Duration(seconds=3_600, nanos=1_000_000), False), (Duration(), False), (Duration(seconds=-300), False),
        (Duration(seconds=2, nanos=-1), False),
    ],
)  # fmt: skip
def test_hold_duration_is_limited(here: RunningLedger, duration: Duration, is_good: bool) -> None:
    if is_good:
        (one,) = held(here.agg, sale(), hold_duration=duration)
        assert after_start_ms(one.expire_time) == duration.seconds * SECOND_MS
    else:
        assert set(violations_of(error_of(hold, here.agg, sale(), hold_duration=duration))) == {"hold_duration"}


def test_commitments_of_others_are_not_found(here: RunningLedger) -> None:
    name = _held(here)
    for call in (confirm, activate, complete, settle, release, get):
        assert refusal_of(call, here.rival, name) == ("NOT_FOUND", "NOT_FOUND"), call
    assert refusal_of(reallocate, here.rival, name, {"ev": 1}) == ("NOT_FOUND", "NOT_FOUND")
    assert not here.rival.ListCommitments(api.ListCommitmentsRequest()).commitments
    assert state(here.agg, name) == HELD


def test_commitments_are_listed_the_last_first_in_pages(here: RunningLedger) -> None:
    names = [one.commitment_id for one in held(here.agg, *(sale("ev", 1, end_ms=HOUR_MS + i) for i in range(5)))]
    confirm(here.agg, names[0])
    seen: list[str] = []
    token = ""
    while True:
        page = here.agg.ListCommitments(api.ListCommitmentsRequest(page_size=2, page_token=token))
        seen += [one.commitment_id for one in page.commitments]
        token = page.next_page_token
        if not token:
            break
    assert seen == names[::-1]
    listed = here.agg.ListCommitments(api.ListCommitmentsRequest(state="COMMITMENT_STATE_CONFIRMED")).commitments
    assert [one.commitment_id for one in listed] == names[:1]
    listed = here.agg.ListCommitments(api.ListCommitmentsRequest(from_time=at(HOUR_MS + 3))).commitments
    assert [one.commitment_id for one in listed] == names[4:]
    assert not here.agg.ListCommitments(api.ListCommitmentsRequest(product_id="other")).commitments


def areas_of_metadata(metadata: Any, peer: str) -> Caller:
    """Trusts what a test says of tenant, areas and scopes."""
    said = dict(metadata)
    areas, scopes = said.get("evflex-areas"), said.get("evflex-scopes")
    return Caller(
        said["evflex-tenant"],
        None if scopes is None else frozenset(scopes.split(",")),
        None if areas is None else frozenset(areas.split(",")),
    )


def limited(here: RunningLedger, tenant_id: str, **limits: str) -> Party:
    """A caller with areas or scopes."""
    more = tuple((f"evflex-{name}", value) for name, value in limits.items())

    class Limited(Party):
        def __getattr__(self, name: str) -> Callable[[Any], Any]:
            method = getattr(here.party(tenant_id).stub, name)
            return lambda request: method(request, metadata=(("evflex-tenant", tenant_id), *more), timeout=60.0)

    return Limited(None, tenant_id)


@pytest.fixture
def with_areas(tmp_path: Path) -> Iterator[RunningLedger]:
    with running_ledger(tmp_path, resolve_caller=areas_of_metadata) as server:
        furnish(server)
        register(server.cpo, resource("ev-south", area_id="south"))
        yield server


def test_caller_of_one_area_sells_and_sees_nothing_in_another(with_areas: RunningLedger) -> None:
    here = with_areas
    northern = limited(here, AGG, areas="north")
    (one,) = sold(here.agg, sale("ev-south", 1))
    assert set(violations_of(error_of(hold, northern, sale("ev-south", 1)))) == {"commitments[0].resource_id"}
    refused = error_of(hold, northern, pool({"ev": 1, "ev-south": 1}))
    assert set(violations_of(refused)) == {"commitments[0].allocation[1].resource_id"}
    for call in (confirm, activate, complete, settle, release, get):
        assert refusal_of(call, northern, one.commitment_id) == ("NOT_FOUND", "NOT_FOUND"), call
    assert not northern.ListCommitments(api.ListCommitmentsRequest()).commitments
    held(northern, sale("ev", 1))
    assert refusal_of(northern.GetResource, api.GetResourceRequest(resource_id="ev-south"))[0] == "NOT_FOUND"
    assert refusal_of(register, northern, resource("x", area_id="south")) == ("PERMISSION_DENIED", "AREA_NOT_ALLOWED")
    listed = northern.ListResources(api.ListResourcesRequest()).resources
    assert "ev-south" not in {one.resource_id for one in listed}
    assert set(violations_of(error_of(plug_in, northern, "ev-south", "cp"))) == {"session.ev_resource_id"}


def test_resource_is_not_taken_out_of_an_area_by_who_may_not_use_it(with_areas: RunningLedger) -> None:
    northern = limited(with_areas, "cpo", areas="north")
    assert refusal_of(register, northern, resource("ev-south", area_id="north")) == (
        "PERMISSION_DENIED", "AREA_NOT_ALLOWED",
    )  # fmt: skip


def test_scope_is_needed(with_areas: RunningLedger) -> None:
    reader = limited(with_areas, AGG, scopes="activation.read")
    name = held(with_areas.agg, sale())[0].commitment_id
    assert state(reader, name) == HELD
    for call, arguments in (
        (hold, [sale("ev-2")]), (confirm, [name]), (activate, [name]), (complete, [name]), (settle, [name]),
        (release, [name]), (register, [resource("x")]), (plug_in, ["ev", "cp"]), (unplug, ["s"]), (set_policy, []),
        (audit, []),
    ):  # fmt: skip
        assert refusal_of(call, reader, *arguments) == ("PERMISSION_DENIED", "SCOPE_MISSING"), call
    assert reader.ListCommitments(api.ListCommitmentsRequest()).commitments
    seller = limited(with_areas, AGG, scopes="activation.sell")
    assert confirm(seller, name).confirmed
    assert refusal_of(activate, seller, name) == ("PERMISSION_DENIED", "SCOPE_MISSING")


def test_pool_gets_other_resources_in_one_step(here: RunningLedger) -> None:
    (one, _) = sold(here.agg, pool({"cp": 6_000, "cp-2": 4_000}), sale("ev-2", 9_000))
    answer = reallocate(here.agg, one.commitment_id, {"cp-2": 10_000}, etag=one.etag)
    assert answer.reallocated
    after = answer.commitment
    assert (after.sequence, after.state, list(after.allocation)) == (one.sequence, CONFIRMED, [row("cp-2", 10_000)])
    assert after == get(here.agg, one.commitment_id)
    held(here.rival, sale("cp", 5_000))
    assert kinds(hold(here.rival, sale("cp-2", 1))) == ["CAPACITY_EXCEEDED", "CASCADE"]


def test_pool_that_cannot_get_other_resources_stays_as_it_was(here: RunningLedger) -> None:
    (one, _) = sold(here.agg, pool({"cp": 6_000, "cp-2": 4_000}), sale("ev-2", 9_000))
    name = one.commitment_id
    assert kinds(reallocate(here.agg, name, {"cp": 6_000, "ev-2": 4_000})) == ["CAPACITY_EXCEEDED"]
    for allocation, field in (
        ({"cp": 9_999}, "allocation"), ({"cp": 11_000}, "allocation"), ({}, "allocation"),
        ({"cp": 6_000, "unknown": 4_000}, "allocation[1].resource_id"), ({"cp": 10_000, "cp-2": 0}, None),
    ):  # fmt: skip
        faults = set(violations_of(error_of(reallocate, here.agg, name, allocation)))
        assert faults == {field or "allocation[1].power_w"}
    assert refusal_of(reallocate, here.agg, name, {"cp": 10_000}, etag="other")[0] == "ABORTED"
    assert get(here.agg, name) == one
    assert kinds(hold(here.rival, sale("cp", 4_001))) == ["CAPACITY_EXCEEDED"]
    held(here.rival, sale("cp", 4_000))
    (single,) = held(here.agg, sale("ev", 1))
    assert refusal_of(reallocate, here.agg, single.commitment_id, {"ev": 1})[1] == "NOT_A_POOL"
    here.clock.set_ms(HOUR_MS)
    assert refusal_of(reallocate, here.agg, name, {"cp": 10_000})[1] == "COMMITMENT_OVER"


def test_called_pool_gets_no_resource_that_it_could_not_have_been_called_with(here: RunningLedger) -> None:
    register(here.cpo, resource("ev-south", area_id="south"))
    set_policy(here.cpo, SESSION, "south")
    (one,) = called(here.agg, pool({"ev": 10_000}))
    assert kinds(reallocate(here.agg, one.commitment_id, {"ev-south": 10_000})) == ["POLICY"], "it is not plugged in"
    assert get(here.agg, one.commitment_id) == one
    assert reallocate(here.agg, one.commitment_id, {"ev-2": 10_000}).reallocated
    assert state(here.agg, one.commitment_id) == ACTIVATED
