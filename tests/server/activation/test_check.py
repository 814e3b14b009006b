"""A batch in columns is judged as the same commitments would be one by one, and nothing is stored."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from evflex.activation.v1 import activation_service_pb2 as api
from evflex.activation.v1 import check_pb2
from tests.server.activation.conftest import furnish
from tests.server.activation.support import (
    CHARGE_POINT,
    HOUR_MS,
    RIVAL,
    SITE,
    START_MS,
    Party,
    RunningLedger,
    alias,
    audit,
    error_of,
    hold,
    kind_of,
    link,
    plug_in,
    refusal_of,
    register,
    resource,
    running_ledger,
    sale,
    set_policy,
    sold,
)
from tests.server.support import reason_of, violations_of


def chunk(rows: int = 1, **columns: Any) -> check_pb2.CheckCommitmentsChunk:
    """Rows of 6 kW of the same vehicle and hour."""
    values: dict[str, Any] = {
        "resource_ids": ["ev"], "product_ids": ["afrr"], "resource_indices": [0] * rows, "product_indices": [0] * rows,
        "directions": [1] * rows, "start_unix_ms": [START_MS] * rows, "end_unix_ms": [START_MS + HOUR_MS] * rows,
        "power_w": [6_000] * rows,
    }  # fmt: skip
    return check_pb2.CheckCommitmentsChunk(**(values | columns))


def messages(
    chunks: Iterable[check_pb2.CheckCommitmentsChunk], expected_rows: int | None = None, **header: Any
) -> list[api.CheckCommitmentsRequest]:
    chunks = list(chunks)
    rows = sum(len(one.resource_indices) for one in chunks) if expected_rows is None else expected_rows
    first = check_pb2.CheckCommitmentsHeader(expected_rows=rows, **header)
    return [
        api.CheckCommitmentsRequest(header=first),
        *(api.CheckCommitmentsRequest(chunk=one) for one in chunks),
        api.CheckCommitmentsRequest(commit=check_pb2.CheckCommitmentsCommit()),
    ]


def check(party: Party, *chunks: check_pb2.CheckCommitmentsChunk, **header: Any) -> tuple[Any, list[Any]]:
    """Summary and conflicts."""
    return answer_of(party.CheckCommitments(iter(messages(chunks, **header))))


def answer_of(stream: Iterator[Any]) -> tuple[Any, list[Any]]:
    summary = next(stream).summary
    return summary, [conflict for message in stream for conflict in message.chunk.conflicts]


def test_batch_is_checked_among_itself_and_with_the_ledger(here: RunningLedger) -> None:
    (one,) = sold(here.rival, sale("ev", 6_000))
    lines = len(audit(here.agg))
    summary, (conflict,) = check(here.agg, chunk(2, start_unix_ms=[START_MS, START_MS + HOUR_MS],
                                                 end_unix_ms=[START_MS + HOUR_MS, START_MS + 2 * HOUR_MS]))  # fmt: skip
    assert (summary.row_count, summary.conflict_count, summary.clear_row_count) == (2, 1, 1)
    assert list(summary.conflict_count_by_kind) == [0, 1, 0, 0, 0, 0, 0, 0, 0]
    assert summary.ledger_sequence == lines
    assert (list(conflict.commitment_ids), list(conflict.request_indices)) == ([one.commitment_id], [0])
    assert (kind_of(conflict), conflict.excess_w, conflict.resource_id) == ("CAPACITY_EXCEEDED", 2_000, "ev")
    assert len(audit(here.agg)) == lines
    summary, conflicts = check(here.agg, chunk(1), ignore_ledger=True)
    assert (summary.conflict_count, summary.ledger_sequence, conflicts) == (0, 0, [])


def test_batch_of_one_row_is_judged_as_a_hold_is(here: RunningLedger) -> None:
    register(here.cpo, resource("other", aliases=[alias("x")]), resource("room", SITE, parent_id="site"))
    link(here.cpo, "ev-2", alias("x"))
    set_policy(here.cpo, area_id="north", aggregator_cap_w=18_000)
    set_policy(here.cpo, 1, "north", "one-side", sold_side=1)
    plug_in(here.cpo, "ev", "cp", "s", energy_wh=4_000, max_charge_w=10_000, departure_time=sale().end_time)
    sold(here.rival, sale("cp", 5_000))
    sold(here.agg, sale("ev-2", 8_000, exclusive_group="g"))
    rng = np.random.default_rng(4)
    seen = set()
    for _ in range(150):
        name = rng.choice(["ev", "ev-2", "cp", "cp-2", "site", "other", "other", "other", "room", "s"])
        product = rng.choice(["afrr", "one-side"], p=[0.8, 0.2])
        direction, power_w = int(rng.integers(1, 3)), int(rng.choice([500, 2_500, 5_000, 9_000, 19_000]))
        start_ms = int(rng.choice([0, HOUR_MS // 2, HOUR_MS]))
        group = rng.choice(["", "g"])
        answer = hold(
            here.agg, sale(name, power_w, start_ms, start_ms + HOUR_MS, direction, product_id=product,
                           exclusive_group=group), validate_only=True,
        )  # fmt: skip
        summary, conflicts = check(
            here.agg,
            chunk(
                resource_ids=[name], product_ids=[product], directions=[direction], power_w=[power_w],
                start_unix_ms=[START_MS + start_ms], end_unix_ms=[START_MS + start_ms + HOUR_MS], groups=["g"],
                exclusive_group_indices=[0 if group else -1],
            ),
        )  # fmt: skip
        told = sorted(one.SerializeToString(deterministic=True) for one in answer.conflicts)
        assert sorted(one.SerializeToString(deterministic=True) for one in conflicts) == told
        assert summary.clear_row_count == (not told)
        assert summary.conflict_count == len(told)
        seen |= {kind_of(one) for one in conflicts}
    assert len(seen) == 8, sorted(seen)[-3:]


def test_pools_groups_and_tables_go_on_over_chunks(here: RunningLedger) -> None:
    first = chunk(2, pool_numbers=[7, 0], groups=["g"], co_delivery_group_indices=[-1, 0])
    second = chunk(
        3, resource_ids=["ev-2"], product_ids=[], resource_indices=[1, 0, 1], pool_numbers=[7, 0, 0],
        co_delivery_group_indices=[-1, 0, -1],
    )  # fmt: skip
    summary, conflicts = check(here.agg, first, second)
    # on ev 6 of the pool and 6 of the group, on ev-2 6 of the pool and 6
    assert [(one.resource_id, one.excess_w, list(one.request_indices)) for one in conflicts] == [
        ("ev", 2_000, [0, 2, 1, 3]), ("ev-2", 2_000, [0, 2, 4]),
    ]  # fmt: skip
    assert (summary.row_count, summary.clear_row_count) == (5, 0)


def test_row_that_names_no_aggregator_is_the_callers(here: RunningLedger) -> None:
    set_policy(here.cpo, aggregator_cap_w=10_000)
    columns = {"resource_ids": ["ev", "ev-2", "cp"], "resource_indices": [0, 1]}
    summary, _ = check(here.agg, chunk(2, **columns))
    assert summary.conflict_count == 1
    summary, _ = check(here.agg, chunk(2, **columns, aggregator_ids=["a", "b"], aggregator_indices=[0, 1]))
    assert summary.conflict_count == 0
    rest = chunk(2, resource_ids=[], product_ids=[], resource_indices=[0, 1])
    sold(here.agg, sale("ev", 1))
    sold(here.rival, sale("ev-2", 1))
    chunks = [chunk(1, **(columns | {"resource_indices": [2]}), aggregator_ids=[RIVAL], aggregator_indices=[0]), rest]
    _, conflicts = check(here.agg, *chunks)
    caps = [one for one in conflicts if kind_of(one) == "AGGREGATOR_CAP"]
    assert [list(one.request_indices) for one in caps] == [[1, 2]], "not the first aggregator that is named"


def test_batch_of_faults_is_refused_with_the_path_of_each(here: RunningLedger) -> None:
    def faults(*chunks: check_pb2.CheckCommitmentsChunk, **header: Any) -> set[str]:
        return set(violations_of(error_of(lambda: check(here.agg, *chunks, **header))))

    good = chunk(2)
    for column, values in (
        ("resource_indices", [0, 1]), ("resource_indices", [0, -1]), ("product_indices", [0, 1]),
        ("directions", [1, 3]),
        ("power_w", [1, 0]), ("power_w", [1, 10**9 + 1]), ("start_unix_ms", [START_MS, -1]), ("energy_wh", [0, -1]),
        ("pool_numbers", [0, -1]), ("aggregator_indices", [0, 1]), ("exclusive_group_indices", [-1, 0]),
        ("aggregator_indices", [0, -1]),
    ):  # fmt: skip
        more = {"aggregator_ids": ["a"]} if column == "aggregator_indices" else {}
        assert faults(good, chunk(2, **{"resource_ids": [], "product_ids": [], column: values}, **more)) == {
            f"chunks[1].{column}[1]"
        }
        if column not in ("resource_indices",):
            assert faults(good, chunk(2, resource_ids=[], product_ids=[], **{column: values[:1]}, **more)) == {
                f"chunks[1].{column}"
            }
    assert faults(chunk(1, resource_ids=["unknown"])) == {"resource_ids[0]"}
    assert faults(chunk(1, end_unix_ms=[START_MS])) == {"end_unix_ms[0]"}
    assert faults(chunk(2, pool_numbers=[1, 1], directions=[1, 2])) == {"directions[1]"}
    both = {"groups": ["g"], "exclusive_group_indices": [0], "co_delivery_group_indices": [0]}
    assert faults(chunk(1, **both)) == {"co_delivery_group_indices[0]"}
    assert faults(chunk(2), expected_rows=3) == {"header.expected_rows"}
    assert faults(chunk(2), expected_rows=0) == {"header.expected_rows"}
    assert refusal_of(lambda: check(here.agg, chunk(2), expected_rows=1)) == ("RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED")
    many = error_of(lambda: check(here.agg, chunk(300, power_w=[0] * 300)))
    assert 20 < len(violations_of(many)) <= 100


def test_upload_must_come_in_order_and_to_an_end(here: RunningLedger) -> None:
    header, rows, commit = messages([chunk(1)])
    for upload, field in (
        ([rows, commit], "header"), ([header, rows], "commit"), ([header, header], "header"),
        ([header, rows, commit, rows], "commit"), ([], "header"), ([header, api.CheckCommitmentsRequest()], "payload"),
    ):  # fmt: skip
        error = error_of(lambda upload=upload: list(here.agg.CheckCommitments(iter(upload))))
        assert set(violations_of(error)) == {field}


def test_upload_that_falls_silent_or_is_too_large_is_given_up(tmp_path: Path) -> None:
    with running_ledger(tmp_path, max_upload_silence_s=0.1, max_check_rows=5) as here:
        furnish(here)
        assert refusal_of(lambda: check(here.agg, chunk(6))) == ("RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED")

        ended = threading.Event()

        def silent() -> Iterator[api.CheckCommitmentsRequest]:
            yield messages([chunk(1)])[0]
            ended.wait(60.0)

        error = error_of(lambda: list(here.agg.CheckCommitments(silent())))
        ended.set()
        assert (error.code(), reason_of(error)) == (grpc.StatusCode.DEADLINE_EXCEEDED, "UPLOAD_SILENT")


def test_twenty_thousand_rows_are_checked(here: RunningLedger) -> None:
    count = 20_000
    names = [f"r{i}" for i in range(2_000)]
    register(here.cpo, *(resource(name, CHARGE_POINT, parent_id="") for name in names))
    rng = np.random.default_rng(2)
    start = START_MS + rng.integers(0, 24 * HOUR_MS, count)
    summary, conflicts = check(
        here.agg,
        chunk(count, resource_ids=names, resource_indices=rng.integers(0, 2_000, count), start_unix_ms=start,
              end_unix_ms=start + HOUR_MS, power_w=[10_001] + [2_000] * (count - 1)),
    )  # fmt: skip
    assert summary.row_count == count
    assert any(list(one.request_indices) == [0] or 0 in one.request_indices for one in conflicts)
    assert summary.conflict_count == sum(summary.conflict_count_by_kind) == len(conflicts)
