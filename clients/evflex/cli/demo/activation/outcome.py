"""What the offers of the evening came to, and the ledger that tells it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import pandas as pd

from evflex.cli.demo.activation.evening import Act, Evening, Offer, clock
from evflex.client import (
    ActivationPolicy,
    AuditRecord,
    Commitment,
    Conflict,
    ResolvedConflict,
    Resource,
    Session,
)

REFUSED, SUSPENDED, SOLD = "refused", "suspended", "sold"
HASH_LETTERS = 12


@dataclass(frozen=True, slots=True)
class Sale:
    """An offer and what it came to.

    Attributes:
        offer: The offer.
        commitment_id: Its commitment; empty where it was refused.
        result: Whether it was refused at once, suspended at plug-in, or sold.
        conflicts: What stood against it.
    """

    offer: Offer
    commitment_id: str
    result: str
    conflicts: tuple[Conflict, ...] = ()


@dataclass(frozen=True, slots=True)
class ActOutcome:
    """An act and what its offers came to.

    Attributes:
        act: The act.
        sales: Its offers, in order.
        told: By aggregator, the conflicts of plug-in that it was told of.
    """

    act: Act
    sales: tuple[Sale, ...]
    told: Mapping[str, tuple[ResolvedConflict, ...]]

    def with_result(self, result: str) -> list[Sale]:
        """Sales that came to this."""
        return [sale for sale in self.sales if sale.result == result]

    def against(self, conflict: Conflict) -> list[Offer]:
        """Offers of commitments that a conflict names."""
        return [sale.offer for sale in self.sales if sale.commitment_id in conflict.commitment_ids]


@dataclass(frozen=True, slots=True)
class EveningOutcome:
    """All acts, and the ledger as each party reads it.

    Attributes:
        acts: Outcome of each act, without a remedy first.
        exports: By party, the ledger as it was exported to it and verified.
    """

    acts: tuple[ActOutcome, ...]
    exports: Mapping[str, Sequence[AuditRecord]]

    def ledger(self, evening: Evening) -> pd.DataFrame:
        """Lines in order: sequence, tenant, what, and the first letters of the digest.

        A party reads the events of its own lines and the digests of all, so what happened is put together from the
        exports of all of them.
        """
        told = {line.sequence: line for export in self.exports.values() for line in export if line.event}
        chain = next(iter(self.exports.values()))
        lines = [
            (
                line.sequence,
                line.tenant_id,
                _words(evening, told.get(line.sequence, line)),
                line.hash.hex()[:HASH_LETTERS],
            )
            for line in chain
        ]
        return pd.DataFrame(lines, columns=["sequence", "tenant", "what", "hash"])


def main_conflict(sale: Sale) -> Conflict | None:
    """The conflict that says most of what stood against a sale: a cross-sale, where it is one."""
    return min(sale.conflicts, key=lambda conflict: conflict.kind != "CROSS_SALE", default=None)


def interval(start_hour: float, end_hour: float) -> str:
    """Hours of the evening's clock from start to end."""
    return f"{clock(start_hour)}–{clock(end_hour)}"


def interval_of(evening: Evening, start: datetime | None, end: datetime | None) -> str:
    """An interval of the ledger on the evening's clock."""
    return "" if start is None or end is None else interval(evening.hour(start), evening.hour(end))


def _words(evening: Evening, line: AuditRecord) -> str:
    """A line of the ledger in words."""
    change = line.change
    match change:
        case Resource():
            return f"resource {change.resource_id} registered"
        case Session():
            return f"session {change.session_id} {'opened' if change.end_time is None else 'closed'}"
        case Commitment():
            when = interval_of(evening, change.start_time, change.end_time)
            return f"{change.power_kw:g} kW {change.direction} of {change.resource_id} {when} {change.state}"
        case ActivationPolicy():
            return f"policy {change.kind} in {change.area_id}"
        case ResolvedConflict() | None:  # of a conflict the digest alone is exported, for it names both its parties
            return "conflict decided, and told to its two parties"
