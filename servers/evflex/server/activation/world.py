"""The ledger in memory: the engine's, and the messages beside it; what is decided here can be taken back."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from evflex.activation.v1 import audit_pb2, commitment_pb2, policy_pb2, resource_pb2
from evflex.engine.activation import Ledger, Registry, Suspension
from evflex.engine.activation.activation_rule import ActiveBook
from evflex.engine.activation.model import Commitment
from evflex.server.activation.decode import aliases_of, commitment_of, policy_of, resource_of, session_of
from evflex.server.messages import unix_ms
from evflex.server.store.ledger_rows import LedgerState

_State = commitment_pb2.CommitmentState
HELD = _State.COMMITMENT_STATE_HELD
CONFIRMED = _State.COMMITMENT_STATE_CONFIRMED
ACTIVATED = _State.COMMITMENT_STATE_ACTIVATED
SUSPENDED = _State.COMMITMENT_STATE_SUSPENDED
COUNTING = frozenset({HELD, CONFIRMED, ACTIVATED})
OPEN = COUNTING | {SUSPENDED}
Undo = Callable[[], None]
_DAY_MS = 86_400_000


class LedgerWorld:
    """What the ledger has led to.

    Attributes:
        position: Number of the last line that is in it.
        ledger: Counting commitments, and what they are judged by.
        active: Activated commitments.
        resources: By identifier.
        sessions: By identifier.
        commitments: Those that are open (held, confirmed, activated or suspended), by identifier.
        policies: By area and product.
        open_holds: Number of held commitments of each aggregator.
        last_conflict: Number of the last line with a conflict that came since the start.
    """

    def __init__(self, state: LedgerState) -> None:
        """Begin with what is stored."""
        self.position = 0
        self.ledger = Ledger()
        self.active = ActiveBook(self.ledger)
        self.resources: dict[str, resource_pb2.Resource] = {}
        self.sessions: dict[str, resource_pb2.Session] = {}
        self.commitments: dict[str, commitment_pb2.Commitment] = {}
        self.policies: dict[tuple[str, str], policy_pb2.ActivationPolicy] = {}
        self.open_holds: Counter[str] = Counter()
        self.last_conflict = state.head.sequence
        self._expiries: list[tuple[int, str]] = []
        for policy in state.policies:
            self.put_policy(policy)
        self._load_resources(state.resources)
        for session in state.sessions:
            self.put_session(session)
        for commitment in state.commitments:
            self.put_commitment(commitment)
        self.position = state.head.sequence

    def apply(self, event: audit_pb2.LedgerEvent) -> None:
        """Take in a change that was decided elsewhere; a conflict changes nothing itself."""
        match event.WhichOneof("change"):
            case "commitment":
                self.put_commitment(event.commitment)
            case "resource":
                self.put_resource(event.resource)
            case "session":
                self.put_session(event.session)
            case "policy":
                self.put_policy(event.policy)

    def put_commitment(self, message: commitment_pb2.Commitment, model: Commitment | None = None) -> Undo:
        """Let a commitment be as a message has it.

        Args:
            message: The commitment.
            model: The same for the engine, where it is known.
        """
        name = message.commitment_id
        before = self.commitments.get(name)
        if before is not None:
            self._leave(before)
        if message.state in OPEN:
            self._enter(message, model)

        def undo() -> None:
            if message.state in OPEN:
                self._leave(message)
            if before is not None:
                self._enter(before, None)

        return undo

    def put_resource(self, message: resource_pb2.Resource) -> None:
        """Let a resource be as a message has it, and what is sold of it count by that."""
        resource = resource_of(message)
        affected = self.ledger.joined_to(resource.resource_id, resource.aliases)
        self.ledger.move(affected, lambda: self.ledger.registry.put_resource(resource))
        self.resources[message.resource_id] = message

    def put_session(self, message: resource_pb2.Session) -> None:
        """Let a session be as a message has it, and what is sold of its sides count by that."""
        session = session_of(message)
        self.ledger.move(self.ledger.naming_sides(session), lambda: self.ledger.registry.put_session(session))
        self.sessions[message.session_id] = message

    def put_policy(self, message: policy_pb2.ActivationPolicy) -> Undo:
        """Let a policy be as a message has it."""
        key, registry = (message.area_id, message.product_id), self.ledger.registry
        before = self.policies.get(key)
        # what is sold keeps its policies; what counts against caps may be another
        everything = [c.commitment_id for c in self.ledger.commitments()] if _moves_caps(before, message) else []
        self.ledger.move(everything, lambda: _set_policy(registry, key, message))
        self.policies[key] = message

        def undo() -> None:
            self.ledger.move(everything, lambda: _set_policy(registry, key, before))
            if before is None:
                del self.policies[key]
            else:
                self.policies[key] = before

        return undo

    def open_session(self, message: resource_pb2.Session) -> tuple[list[Suspension], Undo]:
        """Open a session, and decide what conflicts by it; those that yield are left to the caller to tell."""
        ledger, session = self.ledger, session_of(message)
        suspended = ledger.open_session(session)
        self.sessions[session.session_id] = message

        def undo() -> None:
            ledger.move(ledger.naming_sides(session), lambda: ledger.registry.drop_session(session.session_id))
            del self.sessions[session.session_id]
            self._let_count(each.commitment for each in suspended)

        return suspended, undo

    def close_session(self, message: resource_pb2.Session) -> tuple[list[Commitment], Undo]:
        """Close a session; commitments that are cut by that are left to the caller to tell."""
        before = self.sessions[message.session_id]
        changed = self.ledger.close_session(session_of(message))
        self.sessions[message.session_id] = message

        def undo() -> None:
            self.put_session(before)
            self._let_count(commitment_of(self.commitments[cut.commitment_id]) for cut in changed)

        return changed, undo

    def join_resource(self, message: resource_pb2.Resource) -> tuple[list[Suspension], Undo]:
        """Replace a resource, and decide what conflicts where its aliases join things.

        What is sold stays sold where it has less headroom, or fewer aliases, than before.
        """
        ledger, registry, name = self.ledger, self.ledger.registry, message.resource_id
        before, resource = self.resources.get(name), resource_of(message)
        kept = () if before is None else aliases_of(before.aliases)
        joins = registry.joined_by(name, resource.aliases) - registry.joined_by(name, kept) - {name}
        alone = replace(resource, aliases=kept) if joins else resource
        ledger.move(ledger.joined_to(name, resource.aliases), lambda: registry.put_resource(alone))
        suspended = ledger.change_resource(resource) if joins else []
        self.resources[name] = message

        def undo() -> None:
            if before is None:
                ledger.move(ledger.joined_to(name, ()), lambda: registry.drop_resource(name))
                del self.resources[name]
            else:
                self.put_resource(before)
            self._let_count(each.commitment for each in suspended)

        return suspended, undo

    def expired(self, now_ms: int) -> Iterator[commitment_pb2.Commitment]:
        """Holds that are over; whoever asks lets them expire."""
        while self._expiries and self._expiries[0][0] <= now_ms:
            _, name = heapq.heappop(self._expiries)
            message = self.commitments.get(name)
            if message is not None and message.state == HELD and unix_ms(message.expire_time) <= now_ms:
                yield message

    def forget_sessions(self, now_ms: int) -> None:
        """Forget sessions that no commitment can meet any more; the store keeps them."""
        registry = self.ledger.registry
        needed_ms = min((unix_ms(c.start_time) for c in self.commitments.values()), default=now_ms)
        needed_ms = min(needed_ms, now_ms - _DAY_MS)
        for session in list(registry.sessions.values()):
            if session.end_ms < needed_ms:
                registry.drop_session(session.session_id)
                del self.sessions[session.session_id]

    def expect_expiry(self, held: Iterable[commitment_pb2.Commitment]) -> None:
        """Let holds be told by :meth:`expired` once more, which they were told by and did not expire."""
        for message in held:
            heapq.heappush(self._expiries, (unix_ms(message.expire_time), message.commitment_id))

    def next_expiry_ms(self) -> int | None:
        """When the next hold may be over, None where there is none."""
        return self._expiries[0][0] if self._expiries else None

    def _let_count(self, commitments: Iterable[Commitment]) -> None:
        """Let commitments that the ledger changed count as before, where no message said so yet."""
        for commitment in commitments:
            if commitment.commitment_id in self.ledger:
                self.ledger.remove(commitment.commitment_id)
            self.ledger.put(commitment)

    def _load_resources(self, messages: Iterable[resource_pb2.Resource]) -> None:
        registry = self.ledger.registry
        for message in messages:
            registry.put_resource(resource_of(message))
            self.resources[message.resource_id] = message

    def _enter(self, message: commitment_pb2.Commitment, model: Commitment | None) -> None:
        self.commitments[message.commitment_id] = message
        if message.state not in COUNTING:
            return
        commitment = self.ledger.put(model or commitment_of(message))
        if message.state == ACTIVATED:
            self.active.put(commitment)
        elif message.state == HELD:
            self.open_holds[message.aggregator_id] += 1
            heapq.heappush(self._expiries, (unix_ms(message.expire_time), message.commitment_id))

    def _leave(self, message: commitment_pb2.Commitment) -> None:
        name = message.commitment_id
        del self.commitments[name]
        if message.state == HELD:
            self.open_holds[message.aggregator_id] -= 1
        # a session or an alias may have suspended it in the ledger before its message says so
        if name in self.ledger:
            self.ledger.remove(name)
        self.active.remove(message.aggregator_id, name)


def _set_policy(registry: Registry, key: tuple[str, str], message: policy_pb2.ActivationPolicy | None) -> None:
    if message is not None and not message.deleted:
        registry.put_policy(policy_of(message))
    elif key in registry.policies:
        registry.drop_policy(*key)


def _moves_caps(before: policy_pb2.ActivationPolicy | None, after: policy_pb2.ActivationPolicy) -> bool:
    had = before is not None and before.HasField("aggregator_cap_w")
    return had or after.HasField("aggregator_cap_w")
