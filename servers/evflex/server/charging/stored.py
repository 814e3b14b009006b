"""Schedules as rows of the store, and rows as messages."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from evflex.charging.v1 import charging_service_pb2, schedule_pb2
from evflex.engine.validation import Violation
from evflex.server.charging.encode import without_arrays
from evflex.server.errors import invalid
from evflex.server.messages import set_timestamp
from evflex.server.store.requests import RequestKey, request_key
from evflex.server.store.schedules import NewSchedule, StoredSchedule

# The fastest level: matrices are mostly zeros and repeats.
_COMPRESSION_LEVEL = 1


def optimize_key(tenant_id: str, request: charging_service_pb2.OptimizeScheduleRequest) -> RequestKey:
    """The key of a plan; a site asked for alone and the same in a stream are one request."""
    return request_key(tenant_id, "OptimizeSchedule", request.request_id, request)


def new_row(key: RequestKey, schedule: schedule_pb2.Schedule, create_time_unix_us: int) -> NewSchedule:
    """A schedule ready to be stored."""
    return NewSchedule(
        key=key,
        area_id=schedule.area_id,
        site_id=schedule.site_id,
        summary=without_arrays(schedule).SerializeToString(),
        payload=zlib.compress(schedule.SerializeToString(), _COMPRESSION_LEVEL),
        create_time_unix_us=create_time_unix_us,
    )


def whole(row: StoredSchedule) -> schedule_pb2.Schedule:
    """The stored schedule."""
    schedule = schedule_pb2.Schedule.FromString(zlib.decompress(row.payload))
    complete(schedule, row)
    return schedule


def summary(row: StoredSchedule) -> schedule_pb2.Schedule:
    """The stored schedule without rows and arrays per step."""
    schedule = schedule_pb2.Schedule.FromString(row.summary)
    complete(schedule, row)
    return schedule


def complete(schedule: schedule_pb2.Schedule, row: StoredSchedule) -> None:
    """Set the fields that only a stored schedule has."""
    schedule.schedule_id = row.schedule_id
    schedule.tenant_id = row.tenant_id
    schedule.area_id = row.area_id
    schedule.etag = row.etag
    schedule.supersedes_schedule_id = row.supersedes_schedule_id
    set_timestamp(schedule.create_time, row.create_time_unix_us)
    set_timestamp(schedule.update_time, row.update_time_unix_us)


def power_matrix(schedule: schedule_pb2.Schedule) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """`power_kw` as a matrix of sessions and steps."""
    return np.array(schedule.power_kw, dtype=np.float64).reshape(
        len(schedule.session_ids), schedule.time_grid.step_count
    )


def keep_rows(schedule: schedule_pb2.Schedule, session_ids: Sequence[str]) -> None:
    """Keep the rows of these sessions, in the order given.

    Raises:
        ServiceError: INVALID_ARGUMENT for a session that the schedule does not have, or that is named twice.
    """
    index = {session_id: i for i, session_id in enumerate(schedule.session_ids)}
    faults = []
    seen: set[str] = set()
    for i, session_id in enumerate(session_ids):
        if session_id not in index:
            faults.append(Violation(f"session_ids[{i}]", "must name a session of the schedule"))
        elif session_id in seen:
            faults.append(Violation(f"session_ids[{i}]", "must not be named twice"))
        seen.add(session_id)
    if faults:
        raise invalid(faults)
    kept = [index[session_id] for session_id in session_ids]
    power_kw = power_matrix(schedule)[kept]
    current_a = list(schedule.current_a)
    if current_a:
        current_a = np.array(current_a).reshape(len(index), -1)[kept].ravel().tolist()
    evse_ids = [schedule.evse_ids[i] for i in kept]
    results = []
    for i in kept:
        result = schedule_pb2.SessionResult()
        result.CopyFrom(schedule.session_results[i])
        results.append(result)
    for name in ("session_ids", "evse_ids", "power_kw", "current_a", "session_results"):
        schedule.ClearField(name)
    schedule.session_ids.extend(session_ids)
    schedule.evse_ids.extend(evse_ids)
    schedule.power_kw.extend(power_kw.ravel().tolist())
    schedule.current_a.extend(current_a)
    schedule.session_results.extend(results)
