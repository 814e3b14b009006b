"""Plans take reserves from the ledger by their commitments, and refuse those that the caller has not sold."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest

from evflex.activation.v1 import commitment_pb2
from evflex.common.v1 import direction_pb2
from evflex.dispatch.v1 import plan_pb2
from evflex.engine.dispatch.model import Reserve
from evflex.server.caller import Caller
from tests.server.dispatch.commitments import FakeLedger, by_id, commitment
from tests.server.dispatch.support import (
    RunningDispatch,
    created,
    grid,
    plan_request,
    planned,
    running_dispatch,
)
from tests.server.support import START_S, info_of, violations_of

MINUTE_MS = 60_000
RULE = "must be a confirmed or activated commitment of the caller"
UP, DOWN = direction_pb2.DIRECTION_UP, direction_pb2.DIRECTION_DOWN


@pytest.fixture(scope="module")
def shared_ledger() -> FakeLedger:
    return FakeLedger()


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, shared_ledger: FakeLedger) -> Iterator[RunningDispatch]:
    arguments = {"commitments": shared_ledger}
    with running_dispatch(tmp_path_factory.mktemp("server"), server_arguments=arguments) as server:
        created(server)
        yield server


@pytest.fixture
def ledger(shared_ledger: FakeLedger) -> FakeLedger:
    shared_ledger.commitments.clear()
    shared_ledger.asked.clear()
    return shared_ledger


def reserves_of(here: RunningDispatch, reserves: Sequence[plan_pb2.PortfolioReserve]) -> tuple[Reserve, ...]:
    planned(here, reserves=reserves)
    return here.engine.problems[-1].reserves


def faults_of(here: RunningDispatch, reserves: Sequence[plan_pb2.PortfolioReserve]) -> dict[str, str]:
    before = here.engine.started_count
    with pytest.raises(grpc.RpcError) as caught:
        planned(here, reserves=reserves)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert here.engine.started_count == before
    return violations_of(caught.value)


def test_direction_power_time_and_product_come_from_the_ledger(here: RunningDispatch, ledger: FakeLedger) -> None:
    activated = commitment_pb2.COMMITMENT_STATE_ACTIVATED
    ledger.sell(
        commitment("up", 30 * MINUTE_MS, 60 * MINUTE_MS, power_w=12_345),
        commitment("down", 0, 15 * MINUTE_MS, product_id="FCR-D-DOWN", direction=DOWN, state=activated),
    )
    up, down = reserves_of(here, by_id("up", "down"))
    assert (up.up_kw.tolist(), up.endurance_s) == ([0.0, 0.0, 12.345, 12.345, 0.0, 0.0, 0.0, 0.0], 900.0)
    assert (down.down_kw.tolist(), down.endurance_s) == ([10.0] + [0.0] * 7, 1200.0)
    assert not up.down_kw.any()
    assert not down.up_kw.any()


@pytest.mark.parametrize(
    ("start_ms", "end_ms", "steps"),
    [
        (900_000, 1_800_000, [1]),
        (899_999, 1_800_000, [0, 1]),
        (900_000, 1_800_001, [1, 2]),
        (1_000_000, 1_000_001, [1]),
        (-3_600_000, 1, [0]),
        (7_199_999, 9_000_000, [7]),
        (-1, 7_200_001, list(range(8))),
    ],
)
def test_a_step_that_is_touched_by_a_millisecond_counts_in_full(
    here: RunningDispatch, ledger: FakeLedger, start_ms: int, end_ms: int, steps: list[int]
) -> None:
    ledger.sell(commitment("c", start_ms, end_ms))
    (reserve,) = reserves_of(here, by_id("c"))
    assert reserve.up_kw.tolist() == [10.0 if k in steps else 0.0 for k in range(8)]


@pytest.mark.parametrize(("start_ms", "end_ms"), [(-900_000, 0), (7_200_000, 8_100_000)])
def test_what_lies_outside_the_plan_is_not_planned(
    here: RunningDispatch, ledger: FakeLedger, start_ms: int, end_ms: int
) -> None:
    ledger.sell(commitment("c", start_ms, end_ms, product_id="FCR-N"))
    (reserve,) = reserves_of(here, by_id("c"))
    assert not reserve.up_kw.any()
    assert reserve.endurance_s == 0.0  # nor are the calls of others longer


def test_what_vehicles_would_have_given_ends_when_they_are_unplugged(here: RunningDispatch, ledger: FakeLedger) -> None:
    sold = commitment("c", 0, 60 * MINUTE_MS, resource_id="", power_w=10_000)
    for name, power_w, left_ms in (("a", 1_000, 15 * MINUTE_MS), ("b", 2_000, 31 * MINUTE_MS), ("c", 7_000, 0)):
        row = sold.allocation.add(resource_id=name, power_w=power_w)
        if left_ms:
            row.truncated_time.FromMilliseconds(START_S * 1_000 + left_ms)
    ledger.sell(sold)
    (reserve,) = reserves_of(here, by_id("c"))
    assert reserve.up_kw.tolist() == [10.0, 9.0, 9.0, 7.0, 0.0, 0.0, 0.0, 0.0]


def test_the_ledger_is_asked_once_and_only_for_what_is_of_it(here: RunningDispatch, ledger: FakeLedger) -> None:
    ledger.sell(commitment("a"), commitment("b"))
    elsewhere = plan_pb2.PortfolioReserve(
        commitment_id="elsewhere", product_id="FCR-N", time_grid=grid(2, 3600), up_kw=[1.0, 2.0]
    )
    first, second, third = reserves_of(here, [*by_id("b"), elsewhere, *by_id("a", product_id="MFRR-UP")])
    assert ledger.asked == [("default", ["b", "a"])]
    assert second.up_kw.tolist() == [1.0] * 4 + [2.0] * 4
    assert first.up_kw.tolist() == third.up_kw.tolist() == [10.0] + [0.0] * 7
    planned(here, reserves=[elsewhere])
    assert len(ledger.asked) == 1


def test_what_is_missing_is_told_by_commitment(here: RunningDispatch, ledger: FakeLedger) -> None:
    ledger.sell(commitment("a"), commitment("b"))
    missing = planned(here, reserves=by_id("b", "a")).plan.reserve_shortfalls
    assert [(m.commitment_id, m.step, m.up_kw) for m in missing] == [("b", 0, 5.0), ("a", 0, 5.0)]


def test_the_same_request_has_the_same_plan_when_the_commitment_is_over(
    here: RunningDispatch, ledger: FakeLedger
) -> None:
    ledger.sell(commitment("c"))
    request = plan_request(reserves=by_id("c"))
    plan = planned(here, request).plan
    ledger.sell(commitment("c", state=commitment_pb2.COMMITMENT_STATE_SETTLED))
    assert planned(here, request).plan == plan
    assert faults_of(here, by_id("c")) == {"reserves[0].commitment_id": f"{RULE}, is SETTLED"}


@pytest.mark.parametrize("state", ["UNSPECIFIED", "HELD", "DELIVERED", "SETTLED", "RELEASED", "EXPIRED", "SUSPENDED"])
def test_what_is_not_sold_is_refused_with_its_state(here: RunningDispatch, ledger: FakeLedger, state: str) -> None:
    ledger.sell(commitment("a"), commitment("b", state=f"COMMITMENT_STATE_{state}"))
    assert faults_of(here, by_id("a", "b")) == {"reserves[1].commitment_id": f"{RULE}, is {state}"}


def test_what_others_sold_looks_like_what_is_not_there(here: RunningDispatch, ledger: FakeLedger) -> None:
    ledger.sell(commitment("theirs", tenant_id="other", aggregator_id="other"))
    found = faults_of(here, by_id("theirs", "missing"))
    assert found == {"reserves[0].commitment_id": RULE, "reserves[1].commitment_id": RULE}


@pytest.mark.parametrize(
    ("fields", "reserve", "path", "rule"),
    [
        ({"product_id": "EVENING"}, {}, "commitment_id", "AFRR-UP, FCR-D-DOWN, .*, is of 'EVENING'"),
        ({"product_id": ""}, {}, "commitment_id", "is of ''"),
        ({"product_id": "FCR-D-DOWN"}, {}, "commitment_id", "must not be upward, FCR-D-DOWN is downward"),
        ({"direction": DOWN}, {}, "commitment_id", "must not be downward, MFRR-UP is upward"),
        ({"direction": 0}, {}, "commitment_id", "must have a direction"),
        ({}, {"product_id": "AFRR-UP"}, "product_id", "must be empty or that of the commitment, MFRR-UP"),
        ({}, {"commitment_id": ""}, "commitment_id", "must not be empty"),
        ({}, {"commitment_id": "c\0"}, "commitment_id", "printable"),
        ({}, {"time_grid": grid(1)}, "product_id", "must be one of AFRR-DOWN"),
        ({}, {"up_kw": [1.0], "product_id": "MFRR-UP"}, "time_grid", "must be set"),
    ],
)
def test_what_contradicts_is_named(
    here: RunningDispatch, ledger: FakeLedger, fields: dict[str, Any], reserve: dict[str, Any], path: str, rule: str
) -> None:
    ledger.sell(commitment("c", **fields))
    found = faults_of(here, [plan_pb2.PortfolioReserve(**{"commitment_id": "c", **reserve})])
    assert list(found) == [f"reserves[0].{path}"]
    assert re.search(rule, found[f"reserves[0].{path}"])


def test_an_identifier_that_cannot_be_is_not_looked_for(here: RunningDispatch, ledger: FakeLedger) -> None:
    assert len(faults_of(here, by_id("", "c\0", "c" * 257))) == 3
    assert ledger.asked == []


def test_a_commitment_is_named_once(here: RunningDispatch, ledger: FakeLedger) -> None:
    ledger.sell(commitment("c"))
    assert faults_of(here, by_id("c", "c")) == {"reserves[1].commitment_id": "must be unique in the request"}


def test_only_checked_is_told_the_same(here: RunningDispatch, ledger: FakeLedger) -> None:
    ledger.sell(commitment("c"))
    assert planned(here, validate_only=True, reserves=by_id("c")).plan.ByteSize() == 0
    with pytest.raises(grpc.RpcError) as caught:
        planned(here, validate_only=True, reserves=by_id("missing"))
    assert violations_of(caught.value) == {"reserves[0].commitment_id": RULE}


def test_commitments_of_areas_that_the_caller_may_not_use_are_not_there(tmp_path: Path) -> None:
    def resolve(_metadata: Any, _peer: str) -> Caller:
        return Caller("default", areas=frozenset({"north"}))

    ledger = FakeLedger()
    ledger.sell(commitment("north", area_id="north"), commitment("south", area_id="south"))
    arguments = {"commitments": ledger, "resolve_caller": resolve}
    with running_dispatch(tmp_path, server_arguments=arguments) as here:
        created(here, area_id="north")
        assert faults_of(here, by_id("north", "south")) == {"reserves[1].commitment_id": RULE}


def test_a_server_without_a_ledger_finds_none(tmp_path: Path) -> None:
    with running_dispatch(tmp_path) as here:
        created(here)
        assert faults_of(here, by_id("c")) == {"reserves[0].commitment_id": RULE}


def test_many_reserves_without_steps_do_not_reach_the_ledger(tmp_path: Path) -> None:
    ledger = FakeLedger()
    with running_dispatch(tmp_path, server_arguments={"commitments": ledger}, max_plan_series_steps=5) as here:
        created(here, groups=[], operators=[])
        with pytest.raises(grpc.RpcError) as caught:
            planned(here, plan_request(steps=0, reserves=by_id(*"abcdef")))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert info_of(caught.value)["limit"] == "max_plan_series_steps"
    assert ledger.asked == []
