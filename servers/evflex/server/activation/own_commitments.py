"""Commitments that a request names: those of the caller, in the state that it expects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from evflex.activation.v1 import commitment_pb2
from evflex.engine.validation import Rules
from evflex.server.activation.keeper import LedgerKeeper
from evflex.server.activation.refusals import refused
from evflex.server.activation.turn import Turn
from evflex.server.caller import Caller
from evflex.server.errors import ServiceError, not_found
from evflex.server.fields import check_id, check_request_id, refuse

MOST_NAMES = 1_000
_State = commitment_pb2.CommitmentState


class NamesCommitments(Protocol):
    """A request that names commitments."""

    @property
    def request_id(self) -> str:
        """UUID of the request."""

    @property
    def commitment_ids(self) -> Sequence[str]:
        """The commitments."""

    @property
    def validate_only(self) -> bool:
        """Whether it only checks."""


def check_ids_of(request: NamesCommitments) -> None:
    """Raise INVALID_ARGUMENT for a request that does not name some commitments, each once."""
    rules = Rules()
    check_request_id(rules, request.request_id, required=not request.validate_only)
    check_names(rules, "commitment_ids", "", request.commitment_ids)
    refuse(rules)


def check_names(rules: Rules, table: str, column: str, names: Sequence[str]) -> None:
    """Report too few or too many names, and each that cannot be one or repeats one."""
    rules.check(0 < len(names) <= MOST_NAMES, table, f"must be 1 to {MOST_NAMES}, are {len(names)}")
    end = f".{column}" if column else ""
    for i, name in enumerate(names[:MOST_NAMES]):
        check_id(rules, f"{table}[{i}]{end}", name)
    rules.identifiers(table, column, names[:MOST_NAMES])


def own_commitments(
    keeper: LedgerKeeper, turn: Turn, caller: Caller, names: Sequence[str]
) -> list[commitment_pb2.Commitment]:
    """The commitments of these names, as they are.

    Raises:
        ServiceError: NOT_FOUND, one is not the caller's.
    """
    found = []
    for name in names:
        # those that are over and done with are in the store only
        message = turn.world.commitments.get(name) or turn.closed.get(name) or keeper.store.commitment(name)
        found.append(own_of(caller, name, message))
    return found


def own_of(caller: Caller, name: str, message: commitment_pb2.Commitment | None) -> commitment_pb2.Commitment:
    """What was found by a name, if it is the caller's.

    Raises:
        ServiceError: NOT_FOUND.
    """
    if message is None or message.tenant_id != caller.tenant_id or not caller.may_use_area(message.area_id):
        raise not_found("commitment", name)
    return message


def wrong_state(message: commitment_pb2.Commitment, wanted: str) -> ServiceError:
    """FAILED_PRECONDITION for a commitment that is not as far as a request expects, or further."""
    state = _State.Name(message.state).removeprefix("COMMITMENT_STATE_")
    if message.state == _State.COMMITMENT_STATE_EXPIRED:
        reason, text = "HOLD_EXPIRED", f"the hold of {message.commitment_id} has expired"
    else:
        reason, text = "WRONG_STATE", f"{message.commitment_id} is {state}, must be {wanted}"
    return refused(reason, text, state=state, commitment_id=message.commitment_id)
