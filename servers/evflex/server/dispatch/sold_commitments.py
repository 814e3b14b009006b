"""What plans ask the ledger of ActivationService for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from evflex.activation.v1.commitment_pb2 import Commitment


class SoldCommitments(Protocol):
    """Finds commitments by their identifiers."""

    def find(self, tenant_id: str, commitment_ids: Sequence[str]) -> Mapping[str, Commitment]:
        """Commitments of a tenant, in whatever state they are, by identifier.

        Args:
            tenant_id: Owner; commitments of others are not found.
            commitment_ids: What to look for, each once.
        """
