"""Commitments once they are called: activated, delivered and settled."""

from __future__ import annotations

from evflex.activation.v1 import activation_service_pb2 as api
from evflex.activation.v1 import commitment_pb2
from evflex.engine.activation.model import Conflict
from evflex.engine.validation import Rules
from evflex.server.activation.decode import commitment_of
from evflex.server.activation.encode import conflict_messages
from evflex.server.activation.keeper import Done, LedgerKeeper
from evflex.server.activation.locks import locks_of_names
from evflex.server.activation.own_commitments import (
    check_ids_of,
    check_names,
    own_commitments,
    wrong_state,
)
from evflex.server.activation.refusals import refused
from evflex.server.activation.turn import Turn
from evflex.server.activation.world import ACTIVATED, CONFIRMED
from evflex.server.caller import Caller
from evflex.server.fields import check_id, check_request_id, refuse
from evflex.server.messages import copy_of, unix_ms

MOST_ENERGY_WH = 10**13
_DELIVERED = commitment_pb2.CommitmentState.COMMITMENT_STATE_DELIVERED
_SETTLED = commitment_pb2.CommitmentState.COMMITMENT_STATE_SETTLED


class Activating:
    """Calls what is sold, and takes in what came of it."""

    def __init__(self, keeper: LedgerKeeper) -> None:
        """Write to a ledger."""
        self._keeper = keeper

    def activate(self, request: api.ActivateCommitmentsRequest, caller: Caller) -> api.ActivateCommitmentsResponse:
        """Call confirmed commitments, all of them or none; what stands against it is an answer.

        Raises:
            ServiceError: INVALID_ARGUMENT; NOT_FOUND; FAILED_PRECONDITION: WRONG_STATE, or COMMITMENT_OVER.
        """
        check_ids_of(request)
        names = list(request.commitment_ids)

        def work(turn: Turn) -> Done:
            own = own_commitments(self._keeper, turn, caller, names)
            conflicts: list[Conflict] = []
            mark = turn.mark()
            for before in own:
                if before.state != CONFIRMED:
                    raise wrong_state(before, "CONFIRMED")
                if unix_ms(before.end_time) <= turn.now_ms:
                    raise refused("COMMITMENT_OVER", f"{before.commitment_id} is over")
                model = commitment_of(before)
                conflicts += turn.world.active.conflicts_of(model, turn.now_ms)
                message = copy_of(before)
                message.state = ACTIVATED
                turn.put_commitment(message, model)
            if conflicts:
                turn.back_to(mark)
                refusal = api.ActivateCommitmentsResponse(conflicts=conflict_messages(conflicts, {}))
                return Done(refusal, names[0], own[0].area_id)
            shown = [] if request.validate_only else [turn.world.commitments[name] for name in names]
            return Done(api.ActivateCommitmentsResponse(activated=True, commitments=shown), names[0], own[0].area_id)

        return self._keeper.change(
            "ActivateCommitments", request, caller, api.ActivateCommitmentsResponse, work,
            lambda world: locks_of_names(world, names),
        )  # fmt: skip

    def complete(self, request: api.CompleteCommitmentsRequest, caller: Caller) -> api.CompleteCommitmentsResponse:
        """Take in what was metered.

        Raises:
            ServiceError: INVALID_ARGUMENT; NOT_FOUND; FAILED_PRECONDITION, WRONG_STATE: neither activated nor confirmed
                and over.
        """
        rules = Rules()
        check_request_id(rules, request.request_id, required=not request.validate_only)
        names = [delivery.commitment_id for delivery in request.deliveries]
        check_names(rules, "deliveries", "commitment_id", names)
        for i, delivery in enumerate(request.deliveries):
            energy_wh = delivery.delivered_energy_wh
            in_range = 0 <= energy_wh <= MOST_ENERGY_WH
            path = f"deliveries[{i}].delivered_energy_wh"
            rules.check(in_range, path, f"must lie between 0 and 1e13, is {energy_wh}")
        refuse(rules)

        def work(turn: Turn) -> Done:
            own = own_commitments(self._keeper, turn, caller, names)
            written = []
            for before, delivery in zip(own, request.deliveries, strict=True):
                is_over = before.state == CONFIRMED and unix_ms(before.end_time) <= turn.now_ms
                if before.state != ACTIVATED and not is_over:
                    raise wrong_state(before, "ACTIVATED, or CONFIRMED and over")
                message = copy_of(before)
                message.state = _DELIVERED
                message.delivered_energy_wh = delivery.delivered_energy_wh
                turn.put_commitment(message)
                written.append(message)
            shown = [] if request.validate_only else written
            return Done(api.CompleteCommitmentsResponse(commitments=shown), names[0], own[0].area_id)

        return self._keeper.change(
            "CompleteCommitments", request, caller, api.CompleteCommitmentsResponse, work,
            lambda world: locks_of_names(world, names),
        )  # fmt: skip

    def settle(self, request: api.SettleCommitmentsRequest, caller: Caller) -> api.SettleCommitmentsResponse:
        """Close delivered commitments as paid.

        Raises:
            ServiceError: INVALID_ARGUMENT; NOT_FOUND; FAILED_PRECONDITION, WRONG_STATE.
        """
        rules = Rules()
        check_request_id(rules, request.request_id, required=not request.validate_only)
        names = list(request.commitment_ids)
        check_names(rules, "commitment_ids", "", names)
        check_id(rules, "settlement_id", request.settlement_id, required=True)
        refuse(rules)

        def work(turn: Turn) -> Done:
            # of those that are delivered only the store knows, so that each is read and written in this transaction
            own = own_commitments(self._keeper, turn, caller, names)
            written = []
            for before in own:
                if before.state != _DELIVERED:
                    raise wrong_state(before, "DELIVERED")
                message = copy_of(before)
                message.state = _SETTLED
                message.settlement_id = request.settlement_id
                turn.put_commitment(message)
                written.append(message)
            shown = [] if request.validate_only else written
            return Done(api.SettleCommitmentsResponse(commitments=shown), names[0], own[0].area_id)

        return self._keeper.change("SettleCommitments", request, caller, api.SettleCommitmentsResponse, work)
