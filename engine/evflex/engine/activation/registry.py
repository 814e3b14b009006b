"""What there is: resources that aliases join into things, what things are behind, sessions and policies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from evflex.engine.activation.model import Direction, Policy, PolicyKind, Resource, ResourceKind, Session


@dataclass(frozen=True, slots=True)
class Thing:
    """Resources that are one.

    Attributes:
        thing_id: Smallest identifier of its members.
        members: Identifiers, sorted.
        kind: What it is.
        up_headroom_w: Smallest of its members, None for no limit.
        down_headroom_w: Smallest of its members, None for no limit.
        parents: Things that its members are directly behind, sorted.
    """

    thing_id: str
    members: tuple[str, ...]
    kind: ResourceKind
    up_headroom_w: int | None
    down_headroom_w: int | None
    parents: tuple[str, ...]

    def headroom_w(self, direction: Direction) -> int | None:
        """Most that can be sold in a direction, None for no limit."""
        return self.up_headroom_w if direction == Direction.UP else self.down_headroom_w


class Registry:
    """Resources, sessions and policies.

    Attributes:
        resources: By identifier.
        sessions: By identifier.
        policies: By area and product.
        version: Rises with every change.
    """

    def __init__(self) -> None:
        """Know nothing yet."""
        self.resources: dict[str, Resource] = {}
        self.sessions: dict[str, Session] = {}
        self.policies: dict[tuple[str, str], Policy] = {}
        self.version = 0
        self._named: dict[tuple[str, str], set[str]] = {}
        self._things: dict[str, Thing] = {}
        self._ancestors: dict[str, tuple[str, ...]] = {}
        self._sessions_of: dict[str, list[Session]] = {}

    def copy(self) -> Registry:
        """The same, which later changes leave alone."""
        copy = Registry()
        copy.resources, copy.sessions, copy.policies = dict(self.resources), dict(self.sessions), dict(self.policies)
        copy.version = self.version
        copy._named = {alias: set(names) for alias, names in self._named.items()}
        copy._things, copy._ancestors = dict(self._things), dict(self._ancestors)
        copy._sessions_of = {name: list(sessions) for name, sessions in self._sessions_of.items()}
        return copy

    def put_resource(self, resource: Resource) -> None:
        """Add a resource, or replace the one of this identifier."""
        self.version += 1
        resource_id = resource.resource_id
        before = self.resources.get(resource_id)
        for alias in () if before is None else before.aliases:
            self._named[alias].discard(resource_id)
        self.resources[resource_id] = resource
        for alias in resource.aliases:
            self._named.setdefault(alias, set()).add(resource_id)
        if before is not None or len(self._component(resource_id)) > 1:
            self._forget_things()

    def drop_resource(self, resource_id: str) -> None:
        """Forget a resource."""
        self.version += 1
        resource = self.resources[resource_id]
        for alias in resource.aliases:
            self._named[alias].discard(resource_id)
        del self.resources[resource_id]
        self._forget_things()

    def put_session(self, session: Session) -> None:
        """Add a session, or replace the one of this identifier."""
        self.version += 1
        before = self.sessions.get(session.session_id)
        self.sessions[session.session_id] = session
        for resource_id in (session.ev_id, session.charge_point_id):
            there = self._sessions_of.setdefault(resource_id, [])
            if before is not None:
                there.remove(before)
            there.append(session)

    def drop_session(self, session_id: str) -> None:
        """Forget a session."""
        self.version += 1
        session = self.sessions.pop(session_id)
        for resource_id in (session.ev_id, session.charge_point_id):
            self._sessions_of[resource_id].remove(session)

    def put_policy(self, policy: Policy) -> None:
        """Set the policy of an area and a product."""
        self.version += 1
        self.policies[policy.area_id, policy.product_id] = policy

    def drop_policy(self, area_id: str, product_id: str) -> None:
        """Forget the policy of an area and a product."""
        self.version += 1
        del self.policies[area_id, product_id]

    def thing(self, resource_id: str) -> Thing:
        """The thing that a resource is a member of."""
        known = self._things.get(resource_id)
        if known is not None:
            return known
        members = tuple(sorted(self._component(resource_id)))
        resources = [self.resources[member] for member in members]
        parents = {r.parent_id for r in resources if r.parent_id}
        thing = Thing(
            members[0],
            members,
            resources[0].kind,
            _smallest(r.up_headroom_w for r in resources),
            _smallest(r.down_headroom_w for r in resources),
            tuple(sorted({min(self._component(parent)) for parent in parents})),
        )
        for member in members:
            self._things[member] = thing
        return thing

    def ancestors(self, thing_id: str) -> tuple[str, ...]:
        """Things that a thing is behind, nearest first; itself among them only where it is behind itself."""
        known = self._ancestors.get(thing_id)
        if known is None:
            found: dict[str, None] = {}
            level = list(self.thing(thing_id).parents)
            while level:
                fresh = [parent for parent in level if parent not in found]
                found.update(dict.fromkeys(fresh))
                level = [above for parent in fresh for above in self.thing(parent).parents]
            known = self._ancestors[thing_id] = tuple(found)
        return known

    def sides_of(self, session: Session) -> tuple[Thing, Thing]:
        """The vehicle and the charge point of a session."""
        return self.thing(session.ev_id), self.thing(session.charge_point_id)

    def sessions_of(self, thing: Thing, start_ms: int, end_ms: int) -> list[Session]:
        """Sessions of a vehicle or charge point that share time with [start_ms, end_ms), in the order of time."""
        there = [s for member in thing.members for s in self._sessions_of.get(member, ())]
        if not there:
            return there
        # one that was closed when it began shares time with nothing
        shared = (s for s in there if max(s.start_ms, start_ms) < min(s.end_ms, end_ms))
        return sorted(shared, key=lambda s: s.start_ms)

    def policy(self, area_id: str, product_id: str) -> Policy:
        """The most specific policy of a product in an area."""
        for key in ((area_id, product_id), (area_id, ""), ("", product_id), ("", "")):
            found = self.policies.get(key)
            if found is not None:
                return found
        return Policy("", "", PolicyKind.NONE)

    def cap_w(self, area_id: str) -> int | None:
        """Most that one aggregator may have committed at once in an area, None for no cap."""
        for key in ((area_id, ""), ("", "")):
            found = self.policies.get(key)
            if found is not None and found.aggregator_cap_w is not None:
                return found.aggregator_cap_w
        return None

    def joined_by(self, resource_id: str, aliases: Iterable[tuple[str, str]]) -> set[str]:
        """Resources that a resource is, or would be, one thing with; itself only where it is known."""
        found = self._component(resource_id) if resource_id in self.resources else set()
        for alias in aliases:
            for other in self._named.get(alias, ()):
                found |= self._component(other)
        return found

    def _forget_things(self) -> None:
        """Find things anew: others may have joined or parted, and parents are named by their things."""
        self._things.clear()
        self._ancestors.clear()

    def _component(self, resource_id: str) -> set[str]:
        """Resources joined with one by aliases, itself included."""
        found = {resource_id}
        waiting = [resource_id]
        while waiting:
            for alias in self.resources[waiting.pop()].aliases:
                fresh = self._named[alias] - found
                found |= fresh
                waiting.extend(fresh)
        return found


def closes_cycle(registry: Registry, resource_ids: Iterable[str]) -> bool:
    """Whether any of some resources is behind itself."""
    things = {registry.thing(resource_id).thing_id for resource_id in resource_ids}
    return any(thing_id in registry.ancestors(thing_id) for thing_id in things)


def overlapping(sessions: Sequence[Session]) -> tuple[Session, Session] | None:
    """Two sessions that overlap, None where there are none."""
    ordered = sorted(sessions, key=lambda s: (s.start_ms, s.end_ms))
    for earlier, later in pairwise(ordered):
        if later.start_ms < earlier.end_ms:
            return earlier, later
    return None


def _smallest(values: Iterable[int | None]) -> int | None:
    return min((value for value in values if value is not None), default=None)
