"""Requests that change commitments, and their answers."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import pandas as pd

from evflex.activation.v1 import activation_service_pb2 as pb
from evflex.activation.v1 import commitment_pb2
from evflex.client.activation.commitment import Allocation, Commitment, allocation_messages
from evflex.client.activation.conflict import Conflict
from evflex.client.activation.enums import state_name
from evflex.client.activation.whole import FieldWriter
from evflex.client.errors import InvalidRequestError, Violation
from evflex.client.moments import duration_message, timestamp_message


@dataclass(frozen=True, slots=True)
class Hold:
    """Answer to a hold, all of which is granted or nothing. A refusal is an answer, no error.

    Attributes:
        granted: Whether the commitments are held; where they were only to be checked, whether they could be.
        commitments: The commitments in the order of the request, where they are held.
        conflicts: What stands against it, at most 100.
    """

    granted: bool
    commitments: tuple[Commitment, ...]
    conflicts: tuple[Conflict, ...]

    @classmethod
    def from_message(cls, message: pb.HoldCommitmentsResponse) -> Hold:
        """Read an answer of the contract."""
        return cls(message.granted, commitments_of(message.commitments), conflicts_of(message.conflicts))

    @property
    def commitment_ids(self) -> tuple[str, ...]:
        """Identifiers of what is held, as the other calls take them."""
        return tuple(commitment.commitment_id for commitment in self.commitments)


@dataclass(frozen=True, slots=True)
class CommitmentChange:
    """Answer to a confirmation, an activation or a reallocation: all of it or nothing. A refusal is no error.

    Attributes:
        done: Whether it was done; where it was only to be checked, whether it could be.
        commitments: The commitments in the order of the request, where it was done.
        conflicts: What stands against it, at most 100.
    """

    done: bool
    commitments: tuple[Commitment, ...]
    conflicts: tuple[Conflict, ...]

    @classmethod
    def of(
        cls,
        done: bool,
        commitments: Iterable[commitment_pb2.Commitment],
        conflicts: Iterable[commitment_pb2.Conflict],
    ) -> CommitmentChange:
        """Read the parts of an answer of the contract."""
        return cls(done, commitments_of(commitments), conflicts_of(conflicts))

    @classmethod
    def of_reallocation(cls, message: pb.ReallocateCommitmentResponse) -> CommitmentChange:
        """Read an answer of the contract about one commitment."""
        changed = [message.commitment] if message.HasField("commitment") else []
        return cls.of(message.reallocated, changed, message.conflicts)


def commitments_of(messages: Iterable[commitment_pb2.Commitment]) -> tuple[Commitment, ...]:
    """Read commitments of the contract."""
    return tuple(map(Commitment.from_message, messages))


def conflicts_of(messages: Iterable[commitment_pb2.Conflict]) -> tuple[Conflict, ...]:
    """Read conflicts of the contract."""
    return tuple(map(Conflict.from_message, messages))


def holding(
    commitments: Sequence[Commitment], hold_duration: timedelta | None, validate_only: bool, request_id: str
) -> pb.HoldCommitmentsRequest:
    """Write a hold of the contract; parameters as in ``EvflexClient.hold_commitments``.

    Raises:
        InvalidRequestError: Something cannot be written; each field is named.
    """
    write = FieldWriter()
    messages = [commitment.to_message(write, f"commitments[{i}]") for i, commitment in enumerate(commitments)]
    write.check()
    return pb.HoldCommitmentsRequest(
        request_id=request_id or str(uuid.uuid4()),
        commitments=messages,
        hold_duration=duration_message(hold_duration),
        validate_only=validate_only,
    )


def completion(
    delivered_kwh: Mapping[str, float], validate_only: bool, request_id: str
) -> pb.CompleteCommitmentsRequest:
    """Write what was metered; parameters as in ``EvflexClient.complete_commitments``.

    Raises:
        InvalidRequestError: An energy is no number.
    """
    write = FieldWriter()
    deliveries = [
        pb.Delivery(commitment_id=commitment, delivered_energy_wh=write.down(energy_kwh, f"deliveries[{commitment}]"))
        for commitment, energy_kwh in delivered_kwh.items()
    ]
    write.check()
    return pb.CompleteCommitmentsRequest(
        request_id=request_id or str(uuid.uuid4()), deliveries=deliveries, validate_only=validate_only
    )


def reallocation(
    commitment_id: str, allocation: Allocation, etag: str, validate_only: bool, request_id: str
) -> pb.ReallocateCommitmentRequest:
    """Write other resources of a pool; parameters as in ``EvflexClient.reallocate_commitment``.

    Raises:
        InvalidRequestError: A power is no number.
    """
    write = FieldWriter()
    rows = allocation_messages(allocation, write, "allocation")
    write.check()
    return pb.ReallocateCommitmentRequest(
        request_id=request_id or str(uuid.uuid4()),
        commitment_id=commitment_id,
        allocation=rows,
        etag=etag,
        validate_only=validate_only,
    )


def commitments_query(
    product_id: str, state: str, from_time: datetime | None, page_size: int
) -> pb.ListCommitmentsRequest:
    """Write a query of the contract.

    Raises:
        InvalidRequestError: The state is unknown, or the time has no time zone.
    """
    write = FieldWriter()
    wanted = write.named(state_name, state, "state")
    write.check()
    try:
        since = timestamp_message(None if from_time is None else pd.Timestamp(from_time), "from_time")
    except ValueError as error:
        raise InvalidRequestError.before_sending([Violation("from_time", str(error))]) from None
    return pb.ListCommitmentsRequest(product_id=product_id, state=wanted, from_time=since, page_size=page_size)
