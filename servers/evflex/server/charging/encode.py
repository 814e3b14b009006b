"""Turns the engine's plan into messages: whole, or a summary followed by chunks of rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from operator import attrgetter

import numpy as np
from google.protobuf.message import Message

from evflex.charging.v1 import charging_service_pb2, schedule_pb2
from evflex.engine.charging.model import ScheduleProblem
from evflex.engine.charging.schedule import LimitRows, Schedule, ScheduleFigures
from evflex.server.messages import set_termination, set_timestamp
from evflex.server.rows import Doubles, RowLayout
from evflex.server.wire import delimited, packed_doubles

_Schedule = schedule_pb2.Schedule
MEBIBYTE = 1 << 20
# A schedule up to the first size travels whole, a larger one in chunks of about the second.
WHOLE_BYTES = MEBIBYTE
CHUNK_BYTES = 768 << 10
# Rows of limits in a chunk: each has a node_id of up to 256 characters and some 40 bytes more.
_LIMITS_PER_CHUNK = 2_400
_SESSION_ROWS = ("session_ids", "evse_ids", "power_kw", "current_a", "session_results")
_LIMIT_ROWS = ("binding_limits", "limit_violations")
_MICROS = 1_000_000
_DOUBLE_BYTES = 8

_FIGURE_NAMES = tuple(field.name for field in fields(ScheduleFigures))
_figure_values = attrgetter(*_FIGURE_NAMES)
_RESULT_COLUMNS = (
    "delivered_kwh", "shortfall_kwh", "minimum_shortfall_kwh", "cost", "emissions_kg", "self_supplied_kwh", "starts",
)  # fmt: skip


def _numbers(message: type[Message], *names: str) -> dict[str, int]:
    """Number of each field that is named."""
    return {name: message.DESCRIPTOR.fields_by_name[name].number for name in names}


def _limit_layout(field_number: int, message: type[Message], amount: str) -> RowLayout:
    (text,) = _numbers(message, "node_id").values()
    ints = _numbers(message, "step", "phase", "unit")
    doubles = _numbers(message, "limit", amount)
    return RowLayout.of(field_number, text, {"limit": doubles["limit"], "amount": doubles[amount]}, ints)


_FIGURES = Doubles(*_numbers(_Schedule, *_FIGURE_NAMES).values())
_UNCONTROLLED = Doubles(*_numbers(schedule_pb2.ScheduleFigures, *_FIGURE_NAMES).values())
_RESULTS = RowLayout.of(
    _Schedule.SESSION_RESULTS_FIELD_NUMBER,
    schedule_pb2.SessionResult.SESSION_ID_FIELD_NUMBER,
    _numbers(schedule_pb2.SessionResult, *_RESULT_COLUMNS[:-1]),
    _numbers(schedule_pb2.SessionResult, _RESULT_COLUMNS[-1]),
)
_BINDING = _limit_layout(_Schedule.BINDING_LIMITS_FIELD_NUMBER, schedule_pb2.BindingLimit, "shadow_price")
_VIOLATION = _limit_layout(_Schedule.LIMIT_VIOLATIONS_FIELD_NUMBER, schedule_pb2.LimitViolation, "excess")


def encode_schedule(
    into: schedule_pb2.Schedule,
    request: charging_service_pb2.OptimizeScheduleRequest,
    problem: ScheduleProblem,
    plan: Schedule,
    tenant_id: str,
    create_time_unix_us: int,
) -> None:
    """Write the plan into an empty message, without what only a stored schedule has."""
    sessions, outcome, figures = problem.sessions, plan.sessions, plan.figures
    into.site_id = request.site_id
    into.area_id = request.area_id
    into.tenant_id = tenant_id
    into.currency_code = problem.tariff.currency_code
    into.time_grid.CopyFrom(request.time_grid)
    into.session_ids.extend(sessions.session_ids)
    into.evse_ids.extend(sessions.evse_ids)
    parts = [
        packed_doubles(_Schedule.POWER_KW_FIELD_NUMBER, plan.power_kw),
        packed_doubles(_Schedule.ROOT_POWER_KW_FIELD_NUMBER, plan.root_power_kw),
        packed_doubles(_Schedule.UNCONTROLLED_ROOT_POWER_KW_FIELD_NUMBER, plan.uncontrolled_root_power_kw),
        _FIGURES.write(_figure_values(figures)),
        delimited(_Schedule.UNCONTROLLED_FIELD_NUMBER, _UNCONTROLLED.write(_figure_values(plan.uncontrolled))),
        _RESULTS.write(sessions.session_ids, lambda name: getattr(outcome, name)),
        _limit_rows(_BINDING, problem, plan.binding_limits),
        _limit_rows(_VIOLATION, problem, plan.limit_violations),
    ]
    if request.options.return_currents:
        parts.append(packed_doubles(_Schedule.CURRENT_A_FIELD_NUMBER, plan.current_a))
    into.MergeFromString(b"".join(parts))
    for i, node in enumerate(outcome.limiting_node_index.tolist()):
        if node >= 0:
            into.session_results[i].limiting_node_id = problem.nodes.node_ids[node]
    set_termination(into.termination, plan.termination)
    set_timestamp(into.create_time, create_time_unix_us)
    set_timestamp(into.valid_until_time, round(problem.grid.end_unix_s * _MICROS))


def warm_up_encoding() -> None:
    """Compile what writes rows."""
    nothing = np.zeros(1)
    _RESULTS.write(("",), lambda name: nothing.astype(np.int64) if name in _RESULTS.ints else nothing)


def without_arrays(schedule: schedule_pb2.Schedule) -> schedule_pb2.Schedule:
    """A copy without rows and arrays per step: what a list shows."""
    return _without(schedule, (*_SESSION_ROWS, *_LIMIT_ROWS, "root_power_kw", "uncontrolled_root_power_kw"))


def fits_one_message(schedule: schedule_pb2.Schedule) -> bool:
    """Whether a schedule is streamed whole."""
    return schedule.ByteSize() <= WHOLE_BYTES


def chunked(
    schedule: schedule_pb2.Schedule,
) -> Iterator[charging_service_pb2.ScheduleSummary | charging_service_pb2.ScheduleChunk]:
    """The parts in which a schedule is streamed: whole, or its summary and then chunks of whole rows."""
    if fits_one_message(schedule):
        yield charging_service_pb2.ScheduleSummary(schedule=schedule)
        return
    chunks = list(_session_chunks(schedule))
    apart: tuple[str, ...] = _SESSION_ROWS
    if len(schedule.binding_limits) + len(schedule.limit_violations) > _LIMITS_PER_CHUNK:
        chunks += _limit_chunks(schedule)
        apart += _LIMIT_ROWS
    yield charging_service_pb2.ScheduleSummary(schedule=_without(schedule, apart), chunk_count=len(chunks))
    for index, chunk in enumerate(chunks):
        chunk.chunk_index = index
        yield chunk


def _without(schedule: schedule_pb2.Schedule, names: tuple[str, ...]) -> schedule_pb2.Schedule:
    head = schedule_pb2.Schedule()
    head.CopyFrom(schedule)
    for name in names:
        head.ClearField(name)
    return head


def _session_chunks(schedule: schedule_pb2.Schedule) -> Iterator[charging_service_pb2.ScheduleChunk]:
    rows = len(schedule.session_ids)
    if not rows:
        return
    columns = len(schedule.power_kw) // rows
    rows_per_chunk = max(1, CHUNK_BYTES * rows // schedule.ByteSize())
    for first in range(0, rows, rows_per_chunk):
        last = min(rows, first + rows_per_chunk)
        cells = slice(first * columns, last * columns)
        yield charging_service_pb2.ScheduleChunk(
            session_ids=schedule.session_ids[first:last],
            evse_ids=schedule.evse_ids[first:last],
            power_kw=schedule.power_kw[cells],
            current_a=schedule.current_a[cells],
            session_results=schedule.session_results[first:last],
        )


def _limit_chunks(schedule: schedule_pb2.Schedule) -> Iterator[charging_service_pb2.ScheduleChunk]:
    for first in range(0, len(schedule.binding_limits), _LIMITS_PER_CHUNK):
        rows = schedule.binding_limits[first : first + _LIMITS_PER_CHUNK]
        yield charging_service_pb2.ScheduleChunk(binding_limits=rows)
    for first in range(0, len(schedule.limit_violations), _LIMITS_PER_CHUNK):
        excess = schedule.limit_violations[first : first + _LIMITS_PER_CHUNK]
        yield charging_service_pb2.ScheduleChunk(limit_violations=excess)


def answer_bytes_at_least(session_count: int, step_count: int, *, with_currents: bool) -> int:
    """Lower bound on the size of a schedule, known before it is planned."""
    matrices = 2 if with_currents else 1
    return _DOUBLE_BYTES * step_count * (session_count * matrices + 2)


def _limit_rows(layout: RowLayout, problem: ScheduleProblem, rows: LimitRows) -> bytes:
    if not len(rows.step):
        return b""
    names = [problem.nodes.node_ids[i] for i in rows.node_index.tolist()]
    return layout.write(names, lambda name: getattr(rows, name))
