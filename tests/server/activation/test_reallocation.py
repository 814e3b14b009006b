"""A pool gets other resources in one step, or stays as it was."""

from __future__ import annotations

from tests.server.activation.support import (
    ACTIVATED,
    CONFIRMED,
    HOUR_MS,
    SESSION,
    RunningLedger,
    called,
    error_of,
    get,
    held,
    hold,
    kinds,
    pool,
    reallocate,
    refusal_of,
    register,
    resource,
    row,
    sale,
    set_policy,
    sold,
    state,
)
from tests.server.support import violations_of


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
