"""What a request locks, where servers share a database: all by which what it changes is judged."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from evflex.engine.activation import Commitment
from evflex.server.activation.decode import commitment_of
from evflex.server.activation.world import LedgerWorld


@dataclass(frozen=True, slots=True)
class Locks:
    """What a request changes the sums of.

    Attributes:
        resource_ids: Resources.
        caps: Aggregator and area of each cap.
    """

    resource_ids: Collection[str] = ()
    caps: Collection[tuple[str, str]] = ()


def locks_of(world: LedgerWorld, commitments: Iterable[Commitment]) -> Locks:
    """Everything that commitments count at, by all its names."""
    registry = world.ledger.registry
    resource_ids: set[str] = set()
    caps: set[tuple[str, str]] = set()
    for commitment in commitments:
        for thing in world.ledger.things_touched(commitment):
            resource_ids.update(registry.thing(thing).members)
        caps.update(world.ledger.caps_touched(commitment))
    return Locks(resource_ids, caps)


def locks_of_names(world: LedgerWorld, names: Iterable[str]) -> Locks:
    """The same of commitments that are open."""
    known = (world.commitments.get(name) for name in names)
    return locks_of(world, [commitment_of(message) for message in known if message is not None])


def locks_of_line(world: LedgerWorld, resource_ids: Iterable[str]) -> Locks:
    """Resources that are known and all that they are behind, by all their names."""
    registry = world.ledger.registry
    found: set[str] = set()
    for resource_id in resource_ids:
        if resource_id not in registry.resources:
            continue
        thing = registry.thing(resource_id)
        for place in (thing.thing_id, *registry.ancestors(thing.thing_id)):
            found.update(registry.thing(place).members)
    return Locks(found)
