"""Schedules leave whole or in chunks of whole rows, and matrices leave as the doubles they are."""

from __future__ import annotations

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
from evflex.server.wire import set_doubles
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
    set_doubles(message, schedule_pb2.Schedule.POWER_KW_FIELD_NUMBER, values.T)
    np.testing.assert_array_equal(np.array(message.power_kw), values.T.ravel())


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
