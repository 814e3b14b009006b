"""Sessions: vehicles plugged in and unplugged."""

from __future__ import annotations

from evflex.activation.v1 import activation_service_pb2 as api
from evflex.activation.v1 import commitment_pb2, resource_pb2
from evflex.engine.activation.model import OPEN_END_MS, Commitment, ResourceKind
from evflex.engine.validation import Rules
from evflex.server.activation.decode import check_session
from evflex.server.activation.encode import set_rows
from evflex.server.activation.keeper import Done, LedgerKeeper
from evflex.server.activation.locks import Locks, locks_of_line
from evflex.server.activation.refusals import not_owner, refused
from evflex.server.activation.times import read_ms, set_ms
from evflex.server.activation.turn import Turn
from evflex.server.activation.world import LedgerWorld
from evflex.server.caller import Caller
from evflex.server.errors import invalid_field, not_found
from evflex.server.fields import check_id, check_request_id, refuse
from evflex.server.messages import copy_of, unix_ms
from evflex.server.store.requests import check_etag
from evflex.server.unique import new_uuid

_DAY_MS = 86_400_000
_RELEASED = commitment_pb2.CommitmentState.COMMITMENT_STATE_RELEASED
_SIDES = {
    "session.ev_resource_id": ResourceKind.EV,
    "session.charge_point_resource_id": ResourceKind.CHARGE_POINT,
}


class Sessions:
    """Keeps sessions."""

    def __init__(self, keeper: LedgerKeeper) -> None:
        """Write to a ledger."""
        self._keeper = keeper

    def open(self, request: api.OpenSessionRequest, caller: Caller) -> api.OpenSessionResponse:
        """Open a session, and decide what conflicts by it.

        Raises:
            ServiceError: INVALID_ARGUMENT; FAILED_PRECONDITION, vehicle or charge point is in a session at that time.
        """
        rules = Rules()
        check_request_id(rules, request.request_id, required=not request.validate_only)
        rules.check(request.HasField("session"), "session", "must be set")
        check_session(rules, "session", request.session)
        refuse(rules)
        name = request.session.session_id

        def work(turn: Turn) -> Done:
            message = copy_of(request.session)
            message.session_id = name or new_uuid()
            # of sessions that are long over only the store knows
            known = name in turn.world.sessions or name in turn.world.resources
            if name and (known or self._keeper.store.session(name) is not None):
                raise refused("SESSION_EXISTS", f"there is a session or resource {name!r}")
            self._check_sides(turn, caller, message)
            start_ms = unix_ms(message.start_time)
            self._check_clock(turn, "session.start_time", start_ms)
            if start_ms < turn.now_ms - _DAY_MS:
                raise invalid_field("session.start_time", "must be reported within a day")
            message.tenant_id = caller.tenant_id
            message.area_id = turn.world.resources[message.charge_point_resource_id].area_id
            own = turn.open_session(message)
            shown = None if request.validate_only else message
            answer = api.OpenSessionResponse(session=shown, suspended_commitment_ids=own)
            return Done(answer, message.session_id, message.area_id)

        return self._keeper.change(
            "OpenSession", request, caller, api.OpenSessionResponse, work,
            lambda world: _locks(world, request.session),
        )  # fmt: skip

    def close(self, request: api.CloseSessionRequest, caller: Caller) -> api.CloseSessionResponse:
        """Close a session, and cut what was sold of it.

        Raises:
            ServiceError: INVALID_ARGUMENT; NOT_FOUND; PERMISSION_DENIED, another tenant opened it; ABORTED for another
                etag; FAILED_PRECONDITION, it is closed.
        """
        rules = Rules()
        check_request_id(rules, request.request_id, required=not request.validate_only)
        check_id(rules, "session_id", request.session_id, required=True)
        if request.HasField("end_time"):
            read_ms(rules, "end_time", request.end_time)
        refuse(rules)
        name = request.session_id

        def work(turn: Turn) -> Done:
            before = turn.world.sessions.get(name) or self._keeper.store.session(name)
            if before is None or not caller.may_use_area(before.area_id):
                raise not_found("session", name)
            if before.tenant_id != caller.tenant_id:
                raise not_owner("session", name)
            check_etag("session", request.etag, before.etag)
            if before.HasField("end_time"):
                raise refused("SESSION_CLOSED", "the session is closed")
            message = copy_of(before)
            start_ms = unix_ms(before.start_time)
            end_ms = unix_ms(request.end_time) if request.HasField("end_time") else max(turn.now_ms, start_ms)
            if end_ms < start_ms:
                raise invalid_field("end_time", "must not be before the start of the session")
            self._check_clock(turn, "end_time", end_ms)
            set_ms(message.end_time, end_ms)
            changed = turn.close_session(message)
            own = [cut.commitment_id for cut in changed if cut.aggregator_id == caller.tenant_id]
            for cut in changed:
                _write_cut(turn, cut)
            shown = None if request.validate_only else message
            answer = api.CloseSessionResponse(session=shown, truncated_commitment_ids=own)
            return Done(answer, name, message.area_id)

        return self._keeper.change(
            "CloseSession", request, caller, api.CloseSessionResponse, work,
            lambda world: _locks(world, world.sessions.get(name)),
        )  # fmt: skip

    def page(
        self, request: api.ListSessionsRequest, caller: Caller, before_sequence: int | None, size: int
    ) -> list[resource_pb2.Session]:
        """Sessions of the caller, and of its resources, the one changed last first."""
        return self._keeper.store.sessions_page(
            caller.tenant_id, before_sequence, size, caller.areas, resource_id=request.resource_id,
            open_only=request.open,
        )  # fmt: skip

    def _check_sides(self, turn: Turn, caller: Caller, message: resource_pb2.Session) -> None:
        registry = turn.world.ledger.registry
        rules = Rules()
        names = (message.ev_resource_id, message.charge_point_resource_id)
        for (path, kind), name in zip(_SIDES.items(), names, strict=True):
            resource = turn.world.resources.get(name)
            known = resource is not None and caller.may_use_area(resource.area_id)
            rules.check(known, path, f"must be a registered resource, is {name!r}")
            if known:
                rules.check(registry.resources[name].kind == kind, path, f"must be of kind {kind.name}")
        refuse(rules)
        for name in names:
            there = registry.sessions_of(registry.thing(name), unix_ms(message.start_time), OPEN_END_MS)
            if there:
                raise refused(
                    "SESSION_OVERLAPS", f"{name!r} is in another session at that time", session_id=there[0].session_id
                )

    def _check_clock(self, turn: Turn, path: str, time_ms: int) -> None:
        """Refuse a time that the server's clock has not reached."""
        skew_ms = round(1e3 * self._keeper.settings.max_clock_skew_s)
        if time_ms > turn.now_ms + skew_ms:
            seconds = (time_ms - turn.now_ms) / 1e3
            raise invalid_field(path, f"must not be ahead of the server's clock, is by {seconds:g} s")


def _write_cut(turn: Turn, cut: Commitment) -> None:
    """Write a commitment that ends earlier, or is released where nothing of it is left."""
    message = copy_of(turn.world.commitments[cut.commitment_id])
    if cut.rows:
        set_ms(message.end_time, cut.end_ms)
        set_rows(message, cut)
        turn.put_commitment(message, cut)
    else:
        message.state = _RELEASED
        message.ClearField("expire_time")
        turn.put_commitment(message)


def _locks(world: LedgerWorld, session: resource_pb2.Session | None) -> Locks:
    """Both sides and all that is behind them, and whoever is sold there."""
    if session is None:
        return Locks()
    return locks_of_line(world, (session.ev_resource_id, session.charge_point_resource_id))
