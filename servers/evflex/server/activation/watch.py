"""WatchConflicts: what is still suspended, then every conflict as it is decided; tokens to resume, and heartbeats."""

from __future__ import annotations

import time
from collections.abc import Iterator

from evflex.activation.v1 import activation_service_pb2 as api
from evflex.activation.v1 import audit_pb2
from evflex.server.activation.keeper import LedgerKeeper
from evflex.server.caller import Caller
from evflex.server.calls import Call
from evflex.server.errors import busy, invalid_field
from evflex.server.messages import copy_of, set_timestamp
from evflex.server.settings import Settings
from evflex.server.store.ledger_rows import ConflictRow
from evflex.server.tokens import make_token, read_token

_Kind = api.ConflictEventKind
_PURPOSE = "WatchConflicts"
_AT_ONCE = 1_000


def watch_conflicts(
    settings: Settings, keeper: LedgerKeeper, resume_token: str, call: Call
) -> Iterator[api.WatchConflictsResponse]:
    """Messages until the caller leaves.

    Raises:
        ServiceError: INVALID_ARGUMENT for a token that is not from here, UNAVAILABLE when the server drains.
    """
    caller = call.caller
    call.on_end(keeper.wake)
    position = keeper.position
    if resume_token:
        resumed = read_token("resume_token", _PURPOSE, resume_token)
        if resumed > keeper.store.head():
            raise invalid_field("resume_token", "must come from this ledger")
        position = resumed
    else:
        for row in keeper.store.open_conflicts(caller.tenant_id):
            if row.sequence <= position and caller.may_use_area(row.area_id):
                yield _event(_Kind.CONFLICT_EVENT_KIND_SNAPSHOT, "", _shown(row, caller))
        yield _event(_Kind.CONFLICT_EVENT_KIND_SNAPSHOT_COMPLETE, _token(position))
    while True:
        reached = keeper.position
        for row in _new(keeper, caller, position):
            yield _event(_Kind.CONFLICT_EVENT_KIND_DECIDED, _token(row.sequence), _shown(row, caller))
            reached = max(reached, row.sequence)
        position = max(position, reached)
        if keeper.wait_for_conflict(position, settings.watch_heartbeat_s, call.ended):
            continue
        if call.ended.is_set():
            return
        if keeper.draining:
            raise busy("SHUTTING_DOWN", "the server is shutting down", settings.retry_delay_s)
        yield _event(_Kind.CONFLICT_EVENT_KIND_HEARTBEAT, _token(position))


def _new(keeper: LedgerKeeper, caller: Caller, position: int) -> Iterator[ConflictRow]:
    """Conflicts of the caller after a line."""
    while True:
        rows = keeper.store.conflicts_after(position, caller.tenant_id, _AT_ONCE)
        yield from (row for row in rows if caller.may_use_area(row.area_id))
        if len(rows) < _AT_ONCE:
            return
        position = rows[-1].sequence


def _shown(row: ConflictRow, caller: Caller) -> audit_pb2.ResolvedConflict:
    """A conflict as one of its two parties sees it: without the name of the other."""
    shown = copy_of(row.conflict)
    if shown.kept_aggregator_id != caller.tenant_id:
        shown.kept_aggregator_id = ""
    if shown.suspended_aggregator_id != caller.tenant_id:
        shown.suspended_aggregator_id = ""
    return shown


def _token(position: int) -> str:
    return make_token(_PURPOSE, position)


def _event(
    kind: api.ConflictEventKind, token: str, conflict: audit_pb2.ResolvedConflict | None = None
) -> api.WatchConflictsResponse:
    message = api.WatchConflictsResponse(kind=kind, conflict=conflict, resume_token=token)
    set_timestamp(message.event_time, time.time_ns() // 1_000)
    return message
