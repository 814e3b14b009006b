"""Turns what the engine found into messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from evflex.activation.v1 import commitment_pb2
from evflex.engine.activation.model import MOST_NAMED, Commitment, Conflict
from evflex.server.activation.times import set_ms

MOST_CONFLICTS = 100


def conflict_message(conflict: Conflict, request_index: Mapping[str, int]) -> commitment_pb2.Conflict:
    """A conflict.

    Args:
        conflict: The conflict.
        request_index: Place in the request of each commitment that is not in the ledger.
    """
    names = conflict.commitment_ids
    message = commitment_pb2.Conflict(
        kind=int(conflict.kind),  # type: ignore[arg-type]  # the numbers are the same in engine and contract
        commitment_ids=[name for name in names if name not in request_index][:MOST_NAMED],
        request_indices=[request_index[name] for name in names if name in request_index][:MOST_NAMED],
        resource_id=conflict.resource_id,
        excess_w=conflict.excess_w,
        excess_wh=conflict.excess_wh,
        rule=conflict.rule,
        area_id=conflict.area_id,
    )
    if conflict.direction is not None:
        message.direction = int(conflict.direction)  # type: ignore[assignment]
    set_ms(message.start_time, conflict.start_ms)
    set_ms(message.end_time, conflict.end_ms)
    return message


def conflict_messages(conflicts: Iterable[Conflict], request_index: Mapping[str, int]) -> list[commitment_pb2.Conflict]:
    """The first conflicts, as many as are told."""
    return [conflict_message(conflict, request_index) for conflict in list(conflicts)[:MOST_CONFLICTS]]


def set_rows(into: commitment_pb2.Commitment, commitment: Commitment) -> None:
    """Write the rows of a commitment: their policies, and where they were truncated.

    A pool keeps the rows that were cut to nothing, as truncated at the start.
    """
    if into.resource_id:
        into.policy_kind = int(commitment.rows[0].policy or 0)  # type: ignore[assignment]
        return
    left = {row.resource_id: row for row in commitment.rows}
    for message in into.allocation:
        row = left.get(message.resource_id)
        if row is None:
            set_ms(message.truncated_time, commitment.start_ms)
            continue
        message.policy_kind = int(row.policy or 0)  # type: ignore[assignment]
        if row.end_ms < commitment.end_ms:
            set_ms(message.truncated_time, row.end_ms)
