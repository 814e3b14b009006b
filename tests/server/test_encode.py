"""Schedules leave whole or in chunks of whole rows, and matrices leave as the doubles they are."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from evflex.charging.v1 import charging_service_pb2 as api
from evflex.charging.v1 import schedule_pb2
from evflex.server.charging.decode import decode_request
from evflex.server.charging.encode import chunked, encode_schedule
from evflex.server.charging.stored import keep_rows
from evflex.server.errors import ServiceError
from evflex.server.rows import RowLayout
from evflex.server.wire import packed_doubles
from tests.server.support import empty_plan, site_request


def schedule_of(sessions: int, steps: int, *, currents: bool = False) -> schedule_pb2.Schedule:
    request = site_request(sessions=sessions, steps=steps)
    request.options.return_currents = currents
    problem = decode_request(request, 1.0).problem
    schedule = schedule_pb2.Schedule()
    encode_schedule(schedule, request, problem, empty_plan(problem), "tenant", 1_500_000)
    return schedule


@given(arrays.arrays(np.float64, st.tuples(st.integers(0, 5), st.integers(0, 40))))
def test_doubles_arrive_as_they_were(values: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> None:
    message = schedule_pb2.Schedule()
    message.MergeFromString(packed_doubles(schedule_pb2.Schedule.POWER_KW_FIELD_NUMBER, values.T))
    np.testing.assert_array_equal(np.array(message.power_kw), values.T.ravel())


LIMITS = RowLayout.of(13, 1, {"limit": 5, "shadow_price": 6}, {"step": 2, "phase": 3, "unit": 4})
limit_rows = st.lists(
    st.tuples(
        st.text(max_size=200), st.floats(allow_nan=False), st.floats(allow_nan=False),
        st.integers(0, 2**31 - 1), st.integers(0, 3), st.integers(0, 4),
    ),
    max_size=5,
)  # fmt: skip


@given(limit_rows)
def test_rows_are_written_as_protobuf_writes_them(rows: list[tuple[str, float, float, int, int, int]]) -> None:
    slow = schedule_pb2.Schedule()
    for node_id, limit, price, step, phase, unit in rows:
        slow.binding_limits.add(
            node_id=node_id, limit=limit, shadow_price=price, step=step,
            phase=phase, unit=unit,
        )  # fmt: skip
    columns = {
        "limit": np.array([row[1] for row in rows]),
        "shadow_price": np.array([row[2] for row in rows]),
        "step": np.array([row[3] for row in rows], dtype=np.int64),
        "phase": np.array([row[4] for row in rows], dtype=np.int64),
        "unit": np.array([row[5] for row in rows], dtype=np.int64),
    }
    written = LIMITS.write([row[0] for row in rows], columns.__getitem__)
    assert schedule_pb2.Schedule.FromString(written) == slow


def test_outcome_of_each_session_is_told() -> None:
    request = site_request(sessions=2, steps=3)
    problem = decode_request(request, 1.0).problem
    plan = empty_plan(problem)
    outcome = dataclasses.replace(
        plan.sessions, minimum_shortfall_kwh=np.array([0.0, 2.5]), starts=np.array([0, 300]),
        limiting_node_index=np.array([-1, 0]),
    )  # fmt: skip
    schedule = schedule_pb2.Schedule()
    encode_schedule(schedule, request, problem, dataclasses.replace(plan, sessions=outcome), "tenant", 0)
    first, second = schedule.session_results
    assert (first.session_id, first.minimum_shortfall_kwh, first.limiting_node_id) == ("session-0", 0.0, "")
    assert (second.minimum_shortfall_kwh, second.starts, second.limiting_node_id) == (2.5, 300, "root")
    assert (schedule.peak_cost, schedule.uncontrolled.shortfall_kwh) == (1.0, 12.0)
    (limit,) = schedule.binding_limits
    assert (limit.node_id, limit.step, limit.limit, limit.shadow_price) == ("root", 1, 50.0, 0.1)


def test_small_schedule_is_one_part() -> None:
    (part,) = chunked(schedule_of(3, 4))
    assert isinstance(part, api.ScheduleSummary)
    assert part.chunk_count == 0
    assert len(part.schedule.power_kw) == 12


@pytest.mark.parametrize("currents", [False, True])
def test_large_schedule_is_put_together_from_its_parts(currents: bool) -> None:
    schedule = schedule_of(900, 200, currents=currents)
    summary, *chunks = chunked(schedule)
    assert isinstance(summary, api.ScheduleSummary)
    assert summary.chunk_count == len(chunks) > 1
    assert not summary.schedule.session_ids
    assert len(summary.schedule.root_power_kw) == 200
    whole = summary.schedule
    for index, chunk in enumerate(chunks):
        assert isinstance(chunk, api.ScheduleChunk)
        assert chunk.chunk_index == index
        assert chunk.ByteSize() <= 1 << 20
        assert chunk.ByteSize() >= 256 << 10 or index == len(chunks) - 1
        whole.session_ids.extend(chunk.session_ids)
        whole.evse_ids.extend(chunk.evse_ids)
        whole.power_kw.extend(chunk.power_kw)
        whole.current_a.extend(chunk.current_a)
        whole.session_results.extend(chunk.session_results)
    assert whole == schedule


def test_many_limits_come_in_chunks_of_their_own() -> None:
    schedule = schedule_of(2, 4)
    for step in range(30_000):
        schedule.limit_violations.add(node_id="a panel of some name", step=step, limit=1.0, excess=2.0)
        schedule.binding_limits.add(node_id="root", step=step, limit=1.0, shadow_price=0.1)
    summary, *chunks = chunked(schedule)
    assert isinstance(summary, api.ScheduleSummary)
    assert summary.ByteSize() < 1 << 20
    whole = summary.schedule
    for chunk in chunks:
        assert isinstance(chunk, api.ScheduleChunk)
        assert chunk.ByteSize() <= 1 << 20
        for name in ("session_ids", "evse_ids", "power_kw", "session_results", "binding_limits", "limit_violations"):
            getattr(whole, name).extend(getattr(chunk, name))
    assert whole == schedule


def test_rows_are_kept_in_the_order_asked_for() -> None:
    schedule = schedule_of(4, 3, currents=True)
    keep_rows(schedule, ["session-2", "session-0"])
    assert list(schedule.session_ids) == ["session-2", "session-0"]
    assert list(schedule.evse_ids) == ["evse-2", "evse-0"]
    assert list(schedule.power_kw) == [3.0] * 3 + [1.0] * 3
    assert len(schedule.current_a) == 6
    assert [r.session_id for r in schedule.session_results] == ["session-2", "session-0"]


def test_unknown_and_repeated_rows_are_named() -> None:
    with pytest.raises(ServiceError) as caught:
        keep_rows(schedule_of(2, 1), ["session-0", "nobody", "session-0"])
    assert [v.field for v in caught.value.violations] == ["session_ids[1]", "session_ids[2]"]


def test_create_time_keeps_microseconds() -> None:
    schedule = schedule_of(0, 1)
    assert (schedule.create_time.seconds, schedule.create_time.nanos) == (1, 500_000_000)
