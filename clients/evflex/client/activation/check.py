"""What the check of a batch came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from evflex.activation.v1 import activation_service_pb2 as pb
from evflex.activation.v1 import check_pb2, commitment_pb2
from evflex.client.activation.conflict import Conflict, conflict_table
from evflex.client.activation.enums import CONFLICT_KINDS
from evflex.client.errors import broken_stream


@dataclass(frozen=True, slots=True, eq=False)
class CommitmentCheck:
    """A checked batch.

    Attributes:
        row_count: Rows checked.
        conflict_count: Conflicts found.
        counts: Conflicts by kind, all kinds.
        clear_row_count: Rows that take part in none of them.
        ledger_sequence: Place of the ledger that the rows were checked against; 0 where it was ignored.
        conflicts: The first of them (the server says how many, by default 10 000) in the order of kind, resource and
            time, one row each, with the attributes of :class:`evflex.client.Conflict` as columns. ``request_indices``
            count the rows of the batch from 0.
    """

    row_count: int
    conflict_count: int
    counts: Mapping[str, int]
    clear_row_count: int
    ledger_sequence: int
    conflicts: pd.DataFrame


class CheckAnswer:
    """Puts the answer to a check together; begins anew after a lost connection."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Forget what has come: the batch is sent again."""
        self.summary: check_pb2.CheckCommitmentsSummary | None = None
        self.conflicts: list[commitment_pb2.Conflict] = []

    def accept(self, message: pb.CheckCommitmentsResponse) -> None:
        """Take a message."""
        if message.HasField("summary"):
            self.summary = message.summary
        elif message.HasField("chunk"):
            self.conflicts += message.chunk.conflicts

    def check_ended(self) -> None:
        """Check the end of a stream.

        Raises:
            ServerError: There was no summary.
        """
        if self.summary is None:
            raise broken_stream("ended before the check was whole")

    def check(self) -> CommitmentCheck:
        """What the check came to, once the stream has ended."""
        assert self.summary is not None
        by_kind = dict(enumerate(self.summary.conflict_count_by_kind))
        return CommitmentCheck(
            row_count=self.summary.row_count,
            conflict_count=self.summary.conflict_count,
            counts={name: by_kind.get(number, 0) for number, name in CONFLICT_KINDS.items()},
            clear_row_count=self.summary.clear_row_count,
            ledger_sequence=self.summary.ledger_sequence,
            conflicts=conflict_table(map(Conflict.from_message, self.conflicts)),
        )
