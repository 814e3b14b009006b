"""Commitments before they are called: held, confirmed, released and allocated anew."""

from __future__ import annotations

from collections.abc import Sequence

from google.rpc import code_pb2

from evflex.activation.v1 import activation_service_pb2 as api
from evflex.activation.v1 import commitment_pb2
from evflex.engine.activation import Ledger, Registry
from evflex.engine.activation.counting import area_of, policy_of
from evflex.engine.activation.model import Commitment, Conflict, Row
from evflex.engine.validation import Rules
from evflex.server.activation.decode import allocated, asked_of, check_allocation, check_commitment, commitment_of
from evflex.server.activation.encode import MOST_CONFLICTS, conflict_messages, set_rows
from evflex.server.activation.keeper import Done, LedgerKeeper
from evflex.server.activation.locks import Locks, locks_of, locks_of_names
from evflex.server.activation.own_commitments import check_ids_of, own_commitments, wrong_state
from evflex.server.activation.refusals import refused
from evflex.server.activation.times import set_ms
from evflex.server.activation.turn import Turn
from evflex.server.activation.world import ACTIVATED, CONFIRMED, COUNTING, HELD, SUSPENDED, LedgerWorld
from evflex.server.caller import Caller
from evflex.server.errors import ServiceError, limit_exceeded
from evflex.server.fields import check_id, check_request_id, duration_s, refuse
from evflex.server.messages import copy_of, unix_ms
from evflex.server.store.requests import check_etag
from evflex.server.unique import new_uuid

MOST_COMMITMENTS = 1_000
MOST_ROWS = 10_000
DEFAULT_HOLD_S = 300.0
_RELEASED = commitment_pb2.CommitmentState.COMMITMENT_STATE_RELEASED


class Selling:
    """Keeps what is sold."""

    def __init__(self, keeper: LedgerKeeper) -> None:
        """Write to a ledger."""
        self._keeper = keeper

    def hold(self, request: api.HoldCommitmentsRequest, caller: Caller) -> api.HoldCommitmentsResponse:
        """Hold commitments, all of them or none; what stands against it is an answer.

        Raises:
            ServiceError: INVALID_ARGUMENT; PERMISSION_DENIED for another aggregator or an area; RESOURCE_EXHAUSTED, the
                caller would have too many open holds.
        """
        hold_ms = self._check_hold(request, caller)
        models = [asked_of(message) for message in request.commitments]

        def work(turn: Turn) -> Done:
            self._check_quota(turn, caller, len(models))
            _check_known(turn.world, caller, models, "commitments")
            first = turn.next_sequence
            ledger = turn.world.ledger
            candidates = [_candidate(ledger, model, caller, new_uuid(), first + i) for i, model in enumerate(models)]
            conflicts, held = self._admit(turn, request, candidates, turn.now_ms + hold_ms)
            area_id = area_of(ledger.registry, candidates[0].rows[0])
            if conflicts:
                index = {candidate.commitment_id: i for i, candidate in enumerate(candidates)}
                refusal = api.HoldCommitmentsResponse(conflicts=conflict_messages(conflicts, index))
                return Done(refusal, "", area_id)
            shown = [] if request.validate_only else held
            answer = api.HoldCommitmentsResponse(granted=True, commitments=shown)
            return Done(answer, candidates[0].commitment_id, area_id)

        def locks(world: LedgerWorld) -> Locks:
            known = [m for m in models if all(_is_known(world, row.resource_id) for row in m.rows)]
            return locks_of(world, [_candidate(world.ledger, model, caller, "", 0) for model in known])

        return self._keeper.change("HoldCommitments", request, caller, api.HoldCommitmentsResponse, work, locks)

    def confirm(self, request: api.ConfirmCommitmentsRequest, caller: Caller) -> api.ConfirmCommitmentsResponse:
        """Confirm holds before they expire, and suspended commitments that nothing stands against any more.

        Raises:
            ServiceError: INVALID_ARGUMENT; NOT_FOUND; FAILED_PRECONDITION: HOLD_EXPIRED, WRONG_STATE, or
                COMMITMENT_OVER.
        """
        check_ids_of(request)
        names = list(request.commitment_ids)

        def work(turn: Turn) -> Done:
            own = own_commitments(self._keeper, turn, caller, names)
            conflicts: list[Conflict] = []
            mark = turn.mark()
            for before in own:
                if before.state not in (HELD, SUSPENDED):
                    raise wrong_state(before, "HELD or SUSPENDED")
                if unix_ms(before.end_time) <= turn.now_ms:
                    raise refused("COMMITMENT_OVER", f"{before.commitment_id} is over")
                model = None
                if before.state == SUSPENDED:
                    model = commitment_of(before)
                    conflicts += turn.world.ledger.conflicts_of(model)
                message = copy_of(before)
                message.state = CONFIRMED
                message.ClearField("expire_time")
                turn.put_commitment(message, model)
            if conflicts:
                turn.back_to(mark)
                refusal = api.ConfirmCommitmentsResponse(conflicts=conflict_messages(conflicts, {}))
                return Done(refusal, names[0], own[0].area_id)
            shown = [] if request.validate_only else [turn.world.commitments[name] for name in names]
            answer = api.ConfirmCommitmentsResponse(confirmed=True, commitments=shown)
            return Done(answer, names[0], own[0].area_id)

        return self._keeper.change(
            "ConfirmCommitments", request, caller, api.ConfirmCommitmentsResponse, work,
            lambda world: locks_of_names(world, names),
        )  # fmt: skip

    def release(self, request: api.ReleaseCommitmentsRequest, caller: Caller) -> api.ReleaseCommitmentsResponse:
        """Give back holds and suspended commitments, all of them or none.

        Raises:
            ServiceError: INVALID_ARGUMENT; NOT_FOUND; FAILED_PRECONDITION: HOLD_EXPIRED or WRONG_STATE.
        """
        check_ids_of(request)
        names = list(request.commitment_ids)

        def work(turn: Turn) -> Done:
            own = own_commitments(self._keeper, turn, caller, names)
            released = []
            for before in own:
                if before.state not in (HELD, SUSPENDED):
                    raise wrong_state(before, "HELD or SUSPENDED")
                message = copy_of(before)
                message.state = _RELEASED
                message.ClearField("expire_time")
                turn.put_commitment(message)
                released.append(message)
            answer = api.ReleaseCommitmentsResponse(commitments=[] if request.validate_only else released)
            return Done(answer, names[0], own[0].area_id)

        return self._keeper.change(
            "ReleaseCommitments", request, caller, api.ReleaseCommitmentsResponse, work,
            lambda world: locks_of_names(world, names),
        )  # fmt: skip

    def reallocate(self, request: api.ReallocateCommitmentRequest, caller: Caller) -> api.ReallocateCommitmentResponse:
        """Give a pool other resources, in one step.

        Raises:
            ServiceError: INVALID_ARGUMENT; NOT_FOUND; ABORTED for another etag; FAILED_PRECONDITION: WRONG_STATE,
                NOT_A_POOL or COMMITMENT_OVER.
        """
        rules = Rules()
        check_request_id(rules, request.request_id, required=not request.validate_only)
        check_id(rules, "commitment_id", request.commitment_id, required=True)
        refuse(rules)
        name = request.commitment_id

        def work(turn: Turn) -> Done:
            before = own_commitments(self._keeper, turn, caller, [name])[0]
            check_etag("commitment", request.etag, before.etag)
            if before.state not in COUNTING:
                raise wrong_state(before, "HELD, CONFIRMED or ACTIVATED")
            if before.resource_id:
                raise refused("NOT_A_POOL", "the commitment is sold of one resource")
            if unix_ms(before.end_time) <= turn.now_ms:
                raise refused("COMMITMENT_OVER", "the commitment is over")
            rules = Rules()
            check_allocation(rules, "", request.allocation, before.power_w)
            refuse(rules)
            model = allocated(commitment_of(before), request.allocation)
            _check_known(turn.world, caller, [model], "")
            conflicts = _against_instead(turn, before, model)
            if conflicts:
                refusal = api.ReallocateCommitmentResponse(conflicts=conflict_messages(conflicts, {}))
                return Done(refusal, name, before.area_id)
            message = copy_of(before)
            del message.allocation[:]
            for row in request.allocation:
                message.allocation.add(resource_id=row.resource_id, power_w=row.power_w)
            pinned = turn.world.ledger.pinned(model)
            set_rows(message, pinned)
            turn.put_commitment(message, pinned)
            shown = None if request.validate_only else message
            return Done(api.ReallocateCommitmentResponse(reallocated=True, commitment=shown), name, before.area_id)

        def locks(world: LedgerWorld) -> Locks:
            message = world.commitments.get(name)
            known = all(_is_known(world, row.resource_id) for row in request.allocation)
            if message is None or not known:
                return Locks()
            before = commitment_of(message)
            return locks_of(world, [before, allocated(before, request.allocation)])

        return self._keeper.change(
            "ReallocateCommitment", request, caller, api.ReallocateCommitmentResponse, work, locks
        )

    def _check_hold(self, request: api.HoldCommitmentsRequest, caller: Caller) -> int:
        """Check a request by itself; how long it wants to hold, in ms."""
        rules = Rules()
        check_request_id(rules, request.request_id, required=not request.validate_only)
        count = len(request.commitments)
        rules.check(0 < count <= MOST_COMMITMENTS, "commitments", f"must be 1 to {MOST_COMMITMENTS}, are {count}")
        now_ms = self._keeper.now_unix_us() // 1_000
        rows = 0
        for i, commitment in enumerate(request.commitments[:MOST_COMMITMENTS]):
            check_commitment(rules, f"commitments[{i}]", commitment, now_ms)
            rows += max(1, len(commitment.allocation))
        rules.check(rows <= MOST_ROWS, "commitments", f"must have at most {MOST_ROWS} allocation rows, have {rows}")
        hold_s = DEFAULT_HOLD_S
        if request.HasField("hold_duration"):
            most_s = self._keeper.settings.max_hold_s
            hold_s = duration_s(rules, "hold_duration", request.hold_duration)
            rules.check(1.0 <= hold_s <= most_s, "hold_duration", f"must lie between 1 s and {most_s:g} s")
        refuse(rules)
        for commitment in request.commitments:
            if commitment.aggregator_id not in ("", caller.tenant_id):
                raise not_the_aggregator()
        return round(1e3 * hold_s)

    def _check_quota(self, turn: Turn, caller: Caller, count: int) -> None:
        most = self._keeper.settings.max_open_holds
        holds = turn.world.open_holds[caller.tenant_id] + count
        if holds > most:
            raise limit_exceeded("max_open_holds", holds, most, "confirm or release holds first")

    def _admit(
        self, turn: Turn, request: api.HoldCommitmentsRequest, candidates: Sequence[Commitment], expire_ms: int
    ) -> tuple[list[Conflict], list[commitment_pb2.Commitment]]:
        """Hold candidates one after the other; where anything stands against it, nothing is held."""
        mark = turn.mark()
        conflicts: list[Conflict] = []
        held = []
        for wanted, candidate in zip(request.commitments, candidates, strict=True):
            conflicts += turn.world.ledger.conflicts_of(candidate)
            message = _held(turn.world.ledger.registry, wanted, candidate, expire_ms)
            turn.put_commitment(message, candidate)
            held.append(message)
            if len(conflicts) >= MOST_CONFLICTS:
                break  # no more are told, and a thousand commitments can have half a million
        if conflicts:
            turn.back_to(mark)
        return conflicts, held


def not_the_aggregator() -> ServiceError:
    """PERMISSION_DENIED for who would sell as another."""
    return ServiceError(code_pb2.PERMISSION_DENIED, "NOT_THE_AGGREGATOR", "aggregator_id must be the caller's tenant")


def _candidate(ledger: Ledger, model: Commitment, caller: Caller, commitment_id: str, sequence: int) -> Commitment:
    """What was asked as the caller's, under the policies that hold; field by field, which is five times as fast."""
    registry = ledger.registry
    return Commitment(
        commitment_id,
        caller.tenant_id,
        model.product_id,
        model.direction,
        tuple(Row(row.resource_id, row.power_w, row.end_ms, policy_of(registry, model, row)) for row in model.rows),
        model.start_ms,
        model.end_ms,
        model.power_w,
        model.energy_wh,
        model.exclusive_group,
        model.co_delivery_group,
        model.counter_activation_declared,
        sequence,
    )


def _held(
    registry: Registry, wanted: commitment_pb2.Commitment, model: Commitment, expire_ms: int
) -> commitment_pb2.Commitment:
    """The message of a commitment that is held: what was asked, and nothing that only the server tells."""
    message = commitment_pb2.Commitment(
        commitment_id=model.commitment_id,
        aggregator_id=model.aggregator_id,
        tenant_id=model.aggregator_id,
        product_id=wanted.product_id,
        direction=wanted.direction,
        resource_id=wanted.resource_id,
        start_time=wanted.start_time,
        end_time=wanted.end_time,
        power_w=wanted.power_w,
        exclusive_group=wanted.exclusive_group,
        co_delivery_group=wanted.co_delivery_group,
        counter_activation_declared=wanted.counter_activation_declared,
        state=HELD,
        sequence=model.sequence,
        area_id=area_of(registry, model.rows[0]),
    )
    if wanted.HasField("energy_wh"):
        message.energy_wh = wanted.energy_wh
    for row in wanted.allocation:
        message.allocation.add(resource_id=row.resource_id, power_w=row.power_w)
    set_rows(message, model)
    set_ms(message.expire_time, expire_ms)
    return message


def _against_instead(turn: Turn, before: commitment_pb2.Commitment, model: Commitment) -> list[Conflict]:
    """What stands against a commitment in place of what it is now; one that is called must be fit to be called."""
    ledger, active = turn.world.ledger, turn.world.active
    name = before.commitment_id
    ledger.remove(name)
    conflicts = ledger.conflicts_of(model)
    ledger.put(commitment_of(before))
    if before.state == ACTIVATED:
        active.remove(model.aggregator_id, name)
        conflicts += active.conflicts_of(model, turn.now_ms)
        active.put(commitment_of(before))
    return conflicts


def _check_known(world: LedgerWorld, caller: Caller, models: Sequence[Commitment], root: str) -> None:
    """Raise INVALID_ARGUMENT for each row on what is not registered, or in an area that the caller may not use."""
    rules = Rules()
    registry = world.ledger.registry
    for i, model in enumerate(models):
        base = f"{root}[{i}]." if root else ""
        is_pool = len(model.rows) > 1 or not root
        for k, row in enumerate(model.rows):
            if not _is_known(world, row.resource_id) or not caller.may_use_area(area_of(registry, row)):
                path = f"{base}allocation[{k}].resource_id" if is_pool else f"{base}resource_id"
                rules.check(False, path, f"must be a registered resource or a session, is {row.resource_id!r}")
    refuse(rules)


def _is_known(world: LedgerWorld, name: str) -> bool:
    return name in world.resources or name in world.sessions
