"""A ledger for tests of plans, and what is sold in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evflex.activation.v1 import commitment_pb2
from evflex.activation.v1.commitment_pb2 import Commitment
from evflex.common.v1 import direction_pb2
from evflex.dispatch.v1 import plan_pb2
from tests.server.support import START_S


@dataclass
class FakeLedger:
    """Finds what was put in, and remembers what it was asked.

    Attributes:
        commitments: All there are, of every tenant.
        asked: Tenant and identifiers of each question.
    """

    commitments: dict[str, Commitment] = field(default_factory=dict)
    asked: list[tuple[str, list[str]]] = field(default_factory=list)

    def find(self, tenant_id: str, commitment_ids: Sequence[str]) -> Mapping[str, Commitment]:
        self.asked.append((tenant_id, list(commitment_ids)))
        found = {name: self.commitments[name] for name in commitment_ids if name in self.commitments}
        return {name: commitment for name, commitment in found.items() if commitment.tenant_id == tenant_id}

    def sell(self, *commitments: Commitment) -> None:
        self.commitments |= {commitment.commitment_id: commitment for commitment in commitments}


def commitment(commitment_id: str = "c", start_ms: int = 0, end_ms: int = 900_000, **fields: Any) -> Commitment:
    """10 kW upward in the first quarter-hour of the plan; times count from the start of its grid."""
    made = Commitment(
        **{
            "commitment_id": commitment_id, "aggregator_id": "default", "tenant_id": "default",
            "product_id": "MFRR-UP", "resource_id": "site", "direction": direction_pb2.DIRECTION_UP,
            "power_w": 10_000, "state": commitment_pb2.COMMITMENT_STATE_CONFIRMED, **fields,
        }
    )  # fmt: skip
    made.start_time.FromMilliseconds(START_S * 1_000 + start_ms)
    made.end_time.FromMilliseconds(START_S * 1_000 + end_ms)
    return made


def by_id(*commitment_ids: str, **fields: Any) -> list[plan_pb2.PortfolioReserve]:
    """Reserves that name commitments alone."""
    return [plan_pb2.PortfolioReserve(commitment_id=name, **fields) for name in commitment_ids]
