"""Why commitments cannot stand together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import pandas as pd

from evflex.activation.v1 import audit_pb2, commitment_pb2
from evflex.client.activation.enums import conflict_text, direction_text
from evflex.client.activation.whole import in_thousands
from evflex.client.moments import timestamp


@dataclass(frozen=True, slots=True)
class Conflict:
    """What stands against commitments.

    Attributes:
        kind: ``CAPACITY_EXCEEDED``, ``CROSS_SALE``, ``ALIAS_SALE``, ``CASCADE``, ``COUNTER_ACTIVATION``,
            ``ENERGY_EXCEEDED``, ``AGGREGATOR_CAP`` or ``POLICY``.
        commitment_ids: Commitments of the ledger that take part, at most 20.
        request_indices: Rows of the request that take part, at most 20, counted from 0.
        resource_id: Resource where it happens; empty with AGGREGATOR_CAP.
        start_time: First instant (UTC).
        end_time: After the last instant (UTC).
        excess_kw: Most in kW by which a limit is exceeded, or what is sold twice.
        excess_kwh: Energy in kWh that would be missing at departure, with ENERGY_EXCEEDED.
        rule: The rule, in words.
        area_id: Area of an AGGREGATOR_CAP.
        direction: ``UP`` or ``DOWN`` where it is in one, else empty.
    """

    kind: str
    commitment_ids: tuple[str, ...]
    request_indices: tuple[int, ...]
    resource_id: str
    start_time: pd.Timestamp | None
    end_time: pd.Timestamp | None
    excess_kw: float
    excess_kwh: float
    rule: str
    area_id: str
    direction: str

    @classmethod
    def from_message(cls, message: commitment_pb2.Conflict) -> Conflict:
        """Read a conflict of the contract."""
        return cls(
            kind=conflict_text(message.kind),
            commitment_ids=tuple(message.commitment_ids),
            request_indices=tuple(message.request_indices),
            resource_id=message.resource_id,
            start_time=timestamp(message, "start_time"),
            end_time=timestamp(message, "end_time"),
            excess_kw=in_thousands(message.excess_w),
            excess_kwh=in_thousands(message.excess_wh),
            rule=message.rule,
            area_id=message.area_id,
            direction=direction_text(message.direction),
        )

    def __str__(self) -> str:
        """Where, when, how much, who takes part, and the rule."""
        place = f" at {self.resource_id}" if self.resource_id else f" in {self.area_id}" if self.area_id else ""
        when = f", {_shown(self.start_time)} to {_shown(self.end_time)}" if self.start_time is not None else ""
        amounts = [
            f"{self.excess_kw:g} kW {self.direction}".rstrip() if self.excess_kw else "",
            f"{self.excess_kwh:g} kWh short" if self.excess_kwh else "",
        ]
        parties = [
            _counted("row", self.request_indices),
            _counted("commitment", self.commitment_ids),
        ]
        details = "".join(f", {part}" for part in (*amounts, *parties) if part)
        return f"{self.kind}{place}{when}{details}: {self.rule}"


@dataclass(frozen=True, slots=True)
class ResolvedConflict:
    """A conflict that appeared when a vehicle was plugged in, and how it was decided.

    Attributes:
        conflict: The conflict.
        kept_commitment_id: Commitment that stays, with the lower sequence.
        kept_aggregator_id: Its aggregator; empty where that is another than the caller.
        suspended_commitment_id: Commitment that was suspended.
        suspended_aggregator_id: Its aggregator; empty where that is another than the caller.
        session_id: Session that made it appear.
    """

    conflict: Conflict
    kept_commitment_id: str
    kept_aggregator_id: str
    suspended_commitment_id: str
    suspended_aggregator_id: str
    session_id: str

    @classmethod
    def from_message(cls, message: audit_pb2.ResolvedConflict) -> ResolvedConflict:
        """Read a decided conflict of the contract."""
        return cls(
            conflict=Conflict.from_message(message.conflict),
            kept_commitment_id=message.kept_commitment_id,
            kept_aggregator_id=message.kept_aggregator_id,
            suspended_commitment_id=message.suspended_commitment_id,
            suspended_aggregator_id=message.suspended_aggregator_id,
            session_id=message.session_id,
        )


def conflict_table(conflicts: Iterable[Conflict]) -> pd.DataFrame:
    """Conflicts as a table with one row each and the attributes of :class:`Conflict` as columns."""
    names = [column.name for column in fields(Conflict)]
    rows = [[getattr(conflict, name) for name in names] for conflict in conflicts]
    return pd.DataFrame(rows, columns=names)


def _counted(noun: str, parties: Sequence[object]) -> str:
    return f"{noun}{'s' * (len(parties) > 1)} {', '.join(map(str, parties))}" if parties else ""


def _shown(instant: pd.Timestamp | None) -> str:
    return "" if instant is None else instant.isoformat().replace("+00:00", "Z")
