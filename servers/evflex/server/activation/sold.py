"""What plans ask the ledger: the commitments that their reserves are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evflex.activation.v1 import commitment_pb2
from evflex.server.activation.keeper import LedgerKeeper


class SoldFromLedger:
    """Finds commitments of the ledger; see :class:`evflex.server.dispatch.sold_commitments.SoldCommitments`."""

    def __init__(self, keeper: LedgerKeeper) -> None:
        """Look into a ledger."""
        self._keeper = keeper

    def find(self, tenant_id: str, commitment_ids: Sequence[str]) -> Mapping[str, commitment_pb2.Commitment]:
        """Commitments of a tenant, by identifier; those that there are not, or that are another's, are left out."""
        found = {}
        for name in commitment_ids:
            message = self._keeper.store.commitment(name)
            if message is not None and message.tenant_id == tenant_id:
                found[name] = message
        return found
