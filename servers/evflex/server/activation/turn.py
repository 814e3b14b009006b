"""What one request sees of the ledger and changes in it, within a transaction that it shares with others."""

from __future__ import annotations

from evflex.activation.v1 import audit_pb2, commitment_pb2, policy_pb2, resource_pb2
from evflex.engine.activation import Suspension
from evflex.engine.activation.model import Commitment, Conflict
from evflex.server.activation.encode import conflict_message
from evflex.server.activation.world import OPEN, SUSPENDED, LedgerWorld, Undo
from evflex.server.messages import copy_of, set_timestamp
from evflex.server.store.ledger_rows import NewEvent
from evflex.server.store.requests import new_etag

# A stored thing with the output fields that all of them have.
Stored = resource_pb2.Resource | resource_pb2.Session | commitment_pb2.Commitment | policy_pb2.ActivationPolicy


class Turn:
    """The ledger for one transaction.

    Attributes:
        world: The ledger in memory, with all that the transaction has changed.
        now_unix_us: Time of the transaction, microseconds since 1970-01-01 UTC, by which expiry is judged.
        events: What is to be added to the log.
        closed: Commitments that the transaction has let go, which no longer are in the world, by identifier.
    """

    def __init__(self, world: LedgerWorld, now_unix_us: int) -> None:
        """Begin with nothing changed."""
        self.world = world
        self.now_unix_us = now_unix_us
        self.events: list[NewEvent] = []
        self.closed: dict[str, commitment_pb2.Commitment] = {}
        self._undo: list[Undo] = []

    @property
    def now_ms(self) -> int:
        """Time of the transaction, milliseconds since 1970-01-01 UTC."""
        return self.now_unix_us // 1_000

    @property
    def next_sequence(self) -> int:
        """Number of the line that is written next."""
        return self.world.position + len(self.events) + 1

    def mark(self) -> tuple[int, int]:
        """Where :meth:`back_to` can go back to."""
        return len(self.events), len(self._undo)

    def back_to(self, mark: tuple[int, int]) -> None:
        """Take back what was changed since."""
        events, undo = mark
        while len(self._undo) > undo:
            self._undo.pop()()
        del self.events[events:]

    def on_undo(self, undo: Undo) -> None:
        """Remember how a change in memory is taken back."""
        self._undo.append(undo)

    def put_commitment(self, message: commitment_pb2.Commitment, model: Commitment | None = None) -> None:
        """Write a commitment, and let it count as it says; a new one has its sequence already."""
        self._stamp(message)
        self.on_undo(self.world.put_commitment(message, model))
        if message.state not in OPEN:
            before = self.closed.get(message.commitment_id)
            self.closed[message.commitment_id] = message
            self.on_undo(lambda: self._reopen(message.commitment_id, before))
        self._log(audit_pb2.LedgerEvent(commitment=message), message.tenant_id, message.area_id)

    def put_resource(self, message: resource_pb2.Resource) -> None:
        """Write a resource, which may join others to one thing."""
        self._number(message)
        suspended, undo = self.world.join_resource(message)
        self.on_undo(undo)
        self._log(audit_pb2.LedgerEvent(resource=message), message.tenant_id, message.area_id)
        self._suspend(suspended, message.tenant_id, "")

    def open_session(self, message: resource_pb2.Session) -> list[str]:
        """Write a session that opens, and who yields by it.

        Returns:
            Commitments of its tenant that are suspended.
        """
        self._number(message)
        suspended, undo = self.world.open_session(message)
        self.on_undo(undo)
        self._log(audit_pb2.LedgerEvent(session=message), message.tenant_id, message.area_id)
        return self._suspend(suspended, message.tenant_id, message.session_id)

    def close_session(self, message: resource_pb2.Session) -> list[Commitment]:
        """Write a session that closes; commitments that are cut by that are left to the caller to write."""
        self._number(message)
        changed, undo = self.world.close_session(message)
        self.on_undo(undo)
        self._log(audit_pb2.LedgerEvent(session=message), message.tenant_id, message.area_id)
        return changed

    def put_policy(self, message: policy_pb2.ActivationPolicy) -> None:
        """Write a policy."""
        self._number(message)
        self.on_undo(self.world.put_policy(message))
        self._log(audit_pb2.LedgerEvent(policy=message), message.tenant_id, message.area_id)

    def _suspend(self, suspended: list[Suspension], tenant_id: str, session_id: str) -> list[str]:
        """Write that commitments lost to earlier ones, and to whom.

        Returns:
            Those of the tenant.
        """
        world = self.world
        for each in suspended:
            name = each.commitment.commitment_id
            before = world.commitments[name]
            message = copy_of(before)
            message.state = SUSPENDED
            message.ClearField("expire_time")
            self.put_commitment(message)
            for conflict in each.conflicts:
                self._log_conflict(conflict, before, session_id)
        return [s.commitment.commitment_id for s in suspended if s.commitment.aggregator_id == tenant_id]

    def _log_conflict(self, conflict: Conflict, suspended: commitment_pb2.Commitment, session_id: str) -> None:
        others = [name for name in conflict.commitment_ids if name != suspended.commitment_id]
        kept = self.world.commitments.get(others[0]) if others else None
        resolved = audit_pb2.ResolvedConflict(
            conflict=conflict_message(conflict, {}),
            kept_commitment_id="" if kept is None else kept.commitment_id,
            kept_aggregator_id="" if kept is None else kept.aggregator_id,
            suspended_commitment_id=suspended.commitment_id,
            suspended_aggregator_id=suspended.aggregator_id,
            session_id=session_id,
        )
        self._log(audit_pb2.LedgerEvent(conflict=resolved), suspended.tenant_id, suspended.area_id)

    def _reopen(self, name: str, before: commitment_pb2.Commitment | None) -> None:
        if before is None:
            del self.closed[name]
        else:
            self.closed[name] = before

    def _number(self, message: resource_pb2.Resource | resource_pb2.Session | policy_pb2.ActivationPolicy) -> None:
        """Give what is about to be written its output fields, with the number of its line."""
        message.sequence = self.next_sequence
        self._stamp(message)

    def _stamp(self, message: Stored) -> None:
        if not message.HasField("create_time"):
            set_timestamp(message.create_time, self.now_unix_us)
        set_timestamp(message.update_time, self.now_unix_us)
        message.etag = new_etag()

    def _log(self, event: audit_pb2.LedgerEvent, tenant_id: str, area_id: str) -> None:
        self.events.append(NewEvent(tenant_id, area_id, event))
