"""A small world: what is registered and what is sold of it, and worlds drawn by chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np

from evflex.engine.activation.model import (
    OPEN_END_MS,
    Commitment,
    Direction,
    Policy,
    PolicyKind,
    Resource,
    ResourceKind,
    Row,
    Session,
)

HOUR_MS = 3_600_000
# Times of a random world are so many units at most.
MOST_UNITS = 24
AREAS = ("", "north", "south")
PRODUCTS = ("balancing", "congestion", "peak")
AGGREGATORS = ("ada", "bob", "cyd")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LinkAliases:
    """Aliases that a resource gets."""

    resource_id: str
    aliases: tuple[tuple[str, str], ...]


# What commitments are decided by.
Change = Session | LinkAliases


# No slots: what follows from the fields is worked out once and kept.
@dataclass(frozen=True)
class World:
    """Resources, sessions and policies, and the commitments that count, each with its sequence > 0."""

    resources: tuple[Resource, ...] = ()
    sessions: tuple[Session, ...] = ()
    policies: tuple[Policy, ...] = ()
    commitments: tuple[Commitment, ...] = ()

    @cached_property
    def resource(self) -> Mapping[str, Resource]:
        """Resource of each identifier."""
        return {resource.resource_id: resource for resource in self.resources}

    @cached_property
    def session(self) -> Mapping[str, Session]:
        """Session of each identifier."""
        return {session.session_id: session for session in self.sessions}

    @cached_property
    def members(self) -> Mapping[str, frozenset[str]]:
        """Resources of each thing, by its name: joined for as long as two sets share an alias."""
        joined = [{resource.resource_id} for resource in self.resources]
        while True:
            two = [(a, b) for a in joined for b in joined if a is not b and self._aliases(a) & self._aliases(b)]
            if not two:
                return {min(names): frozenset(names) for names in joined}
            a, b = two[0]
            a |= b
            joined = [names for names in joined if names is not b]

    @cached_property
    def thing(self) -> Mapping[str, str]:
        """Name of the thing that each resource is."""
        return {resource_id: thing for thing, names in self.members.items() for resource_id in names}

    @cached_property
    def ancestors(self) -> Mapping[str, frozenset[str]]:
        """What each thing is behind, and so on."""
        found = {}
        for thing in self.members:
            above: set[str] = set()
            while self._parents(above | {thing}) - above:
                above |= self._parents(above | {thing})
            found[thing] = frozenset(above)
        return found

    def kind(self, thing: str) -> ResourceKind:
        """Kind of a thing, which is that of each member."""
        return self.resource[thing].kind

    def headroom_w(self, thing: str, direction: Direction) -> int | None:
        """Smallest headroom of any member that has one, None for no limit."""
        members = [self.resource[resource_id] for resource_id in self.members[thing]]
        up = direction == Direction.UP
        limits = [member.up_headroom_w if up else member.down_headroom_w for member in members]
        return min((limit for limit in limits if limit is not None), default=None)

    def sessions_of(self, thing: str) -> list[Session]:
        """Sessions that a vehicle or charge point is in at any time."""
        return [s for s in self.sessions if thing in (self.thing[s.ev_id], self.thing[s.charge_point_id])]

    def after(self, change: Change) -> World:
        """The world once a session is opened, or a resource has more aliases."""
        if isinstance(change, Session):
            return replace(self, sessions=(*self.sessions, change))
        named = self.resource[change.resource_id]
        more = replace(named, aliases=(*named.aliases, *change.aliases))
        return replace(self, resources=tuple(more if other is named else other for other in self.resources))

    def is_sound(self) -> bool:
        """Whether things are of one kind, none is behind itself, and none is in two sessions at a time."""
        for thing, names in self.members.items():
            if len({self.resource[resource_id].kind for resource_id in names}) > 1 or thing in self.ancestors[thing]:
                return False
            sessions = self.sessions_of(thing)
            for a in sessions:
                for b in sessions:
                    if a is not b and a.start_ms < b.end_ms and b.start_ms < a.end_ms:
                        return False
        return True

    def _aliases(self, names: set[str]) -> set[tuple[str, str]]:
        return {alias for resource_id in names for alias in self.resource[resource_id].aliases}

    def _parents(self, things: set[str]) -> set[str]:
        members = [self.resource[resource_id] for thing in things for resource_id in self.members[thing]]
        return {self.thing[member.parent_id] for member in members if member.parent_id}


def random_world(rng: np.random.Generator, unit_ms: int = HOUR_MS, most_commitments: int = 7) -> World:
    """A sound world in which limits bind about half of the time; its commitments have met no check.

    Args:
        rng: Source of chance.
        unit_ms: What times are multiples of, now and then a millisecond off. With hours, W times units are Wh; with
            single milliseconds energies are next to nothing and round up.
        most_commitments: Most that are sold.
    """
    world = World(policies=_policies(rng), resources=_resources(rng))
    for _ in range(int(rng.integers(0, 6))):
        linked = world.after(_link(rng, world))
        world = linked if linked.is_sound() else world
    for k in range(int(rng.integers(0, 9))):
        opened = world.after(random_session(rng, world, f"session-{k}", unit_ms))
        world = opened if opened.is_sound() else world
    count = int(rng.integers(1, most_commitments + 1))
    sold = tuple(random_commitment(rng, world, f"sold-{k}", unit_ms, sequence=3 * k + 1) for k in range(count))
    return replace(world, commitments=sold)


def random_commitment(
    rng: np.random.Generator, world: World, commitment_id: str, unit_ms: int = HOUR_MS, sequence: int = 0
) -> Commitment:
    """A commitment of one row, or of several, on resources and sessions of a world."""
    start_ms, end_ms = _interval(rng, unit_ms)
    names = [resource.resource_id for resource in world.resources]
    sessions = list(world.session)
    if sessions and _chance(rng, 0.35):
        session = world.session[_one_of(rng, sessions)]
        names = list({session.session_id: 0, _one_of(rng, sessions): 0, _one_of(rng, names): 0})
        if _chance(rng, 0.9) and session.start_ms < end_ms and start_ms < session.end_ms:
            start_ms, end_ms = max(start_ms, session.start_ms), min(end_ms, session.end_ms)
    count = 1 if _chance(rng, 0.55) else min(len(names), int(rng.integers(2, 5)))
    chosen = [names[int(k)] for k in rng.permutation(len(names))[:count]]
    rows = tuple(Row(name, int(rng.integers(1, 11)), end_ms) for name in chosen)
    power_w = sum(row.power_w for row in rows)
    if _chance(rng, 0.2):
        units = (end_ms - start_ms) // unit_ms
        rows = tuple(replace(row, end_ms=start_ms + unit_ms * int(rng.integers(0, units + 1))) for row in rows)
        if _chance(rng, 0.5):  # as a session leaves them that ended when they began
            rows = tuple(row for row in rows if row.end_ms > start_ms) or rows
    group = _one_of(rng, ("g", "h"))
    sort = int(rng.integers(6))
    return Commitment(
        commitment_id=commitment_id,
        aggregator_id=_one_of(rng, AGGREGATORS),
        product_id=_one_of(rng, PRODUCTS),
        direction=_one_of(rng, (Direction.UP, Direction.UP, Direction.DOWN)),
        rows=rows,
        start_ms=start_ms,
        end_ms=end_ms,
        power_w=power_w,
        energy_wh=int(rng.integers(1, 60)) if _chance(rng, 0.3) else None,
        exclusive_group=group if sort == 0 else "",
        co_delivery_group=group if sort == 1 else "",
        counter_activation_declared=_chance(rng, 0.5),
        sequence=sequence,
    )


def random_session(
    rng: np.random.Generator, world: World, session_id: str, unit_ms: int = HOUR_MS, open_ratio: float = 0.5
) -> Session:
    """A session of any vehicle at any charge point, not always one that may be; open ones often have a need."""
    evs = [resource.resource_id for resource in world.resources if resource.kind == ResourceKind.EV]
    charge_points = [resource.resource_id for resource in world.resources if resource.kind == ResourceKind.CHARGE_POINT]
    start_ms, end_ms = _interval(rng, unit_ms)
    session = Session(session_id, _one_of(rng, evs), _one_of(rng, charge_points), start_ms, end_ms)
    if _chance(rng, 0.7):
        # Departure is where the session would have ended, or soon after.
        departure_ms = end_ms + unit_ms * int(rng.integers(0, 3))
        most_w = int(rng.integers(2, 15))
        most_wh = most_w * (departure_ms - start_ms) // HOUR_MS
        need = int(rng.integers(most_wh // 2, most_wh + 2))
        session = replace(session, energy_wh=need, departure_ms=departure_ms, max_charge_w=most_w)
    return replace(session, end_ms=OPEN_END_MS) if _chance(rng, open_ratio) else session


def random_change(rng: np.random.Generator, world: World, unit_ms: int = HOUR_MS) -> Change | None:
    """A session to open, or aliases that join two things; None where none was found that a world bears."""
    for _ in range(20):
        change: Change = random_session(rng, world, "plugged-in", unit_ms, open_ratio=1.0)
        if _chance(rng, 0.25):
            change = _link(rng, world)
        after = world.after(change)
        if after.is_sound() and (isinstance(change, Session) or len(after.members) < len(world.members)):
            return change
    return None


def _resources(rng: np.random.Generator) -> tuple[Resource, ...]:
    # The first letter is by chance, so that the smallest name is now that of one kind and now of another.
    letters = [chr(ord("a") + int(k)) for k in rng.permutation(26)]
    sites, charge_points, evs, others = (
        [f"{letters.pop()}-{name}" for _ in range(int(rng.integers(least, most + 1)))]
        for name, least, most in (("site", 0, 3), ("point", 1, 3), ("ev", 1, 4), ("other", 0, 2))
    )
    return (
        *(_resource(rng, site, ResourceKind.SITE, sites[:k]) for k, site in enumerate(sites)),
        *(_resource(rng, charge_point, ResourceKind.CHARGE_POINT, sites) for charge_point in charge_points),
        *(_resource(rng, ev, ResourceKind.EV, sites + charge_points if _chance(rng, 0.3) else []) for ev in evs),
        *(_resource(rng, o, _one_of(rng, (ResourceKind.BATTERY, ResourceKind.OTHER)), sites) for o in others),
    )


def _resource(rng: np.random.Generator, resource_id: str, kind: ResourceKind, parents: Sequence[str]) -> Resource:
    parent_id = _one_of(rng, parents) if parents and _chance(rng, 0.85) else ""
    most_w = 40 if kind == ResourceKind.SITE else 20
    up_w, down_w = (
        None if _chance(rng, 0.25) else 0 if _chance(rng, 0.07) else int(rng.integers(5, most_w)) for _ in range(2)
    )
    return Resource(resource_id, kind, parent_id, _one_of(rng, AREAS), up_w, down_w, (("meter_id", resource_id),))


def _policies(rng: np.random.Generator) -> tuple[Policy, ...]:
    found = []
    for area_id in AREAS:
        for product_id in ("", *PRODUCTS):
            if _chance(rng, 0.7):
                continue
            kind = _one_of(rng, tuple(PolicyKind))
            side = _one_of(rng, (ResourceKind.EV, ResourceKind.CHARGE_POINT)) if kind == PolicyKind.ONE_SIDE else None
            cap = int(rng.integers(0, 25)) if not product_id and _chance(rng, 0.6) else None
            found.append(Policy(area_id, product_id, kind, side, cap))
    return tuple(found)


def _link(rng: np.random.Generator, world: World) -> LinkAliases:
    """The alias of one resource for another of its kind; several make chains."""
    alias = _one_of(rng, world.resources)
    others = [other for other in world.resources if other.kind == alias.kind and other is not alias]
    return LinkAliases(_one_of(rng, others or [alias]).resource_id, alias.aliases[:1])


def _interval(rng: np.random.Generator, unit_ms: int) -> tuple[int, int]:
    first = int(rng.integers(0, MOST_UNITS))
    last = min(MOST_UNITS, first + int(rng.integers(1, 11)))
    off_ms = [int(rng.integers(-1, 2)) if unit_ms > 2 and _chance(rng, 0.1) else 0 for _ in range(2)]
    return max(0, first * unit_ms + off_ms[0]), last * unit_ms + off_ms[1]


def _one_of(rng: np.random.Generator, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]


def _chance(rng: np.random.Generator, probability: float) -> bool:
    return bool(rng.random() < probability)
