"""How strong the conflicts of a commitment are, so that those before and after a change can be told apart."""

from __future__ import annotations

from collections.abc import Iterable

from evflex.engine.activation.model import Conflict, ConflictKind, Direction
from evflex.engine.activation.registry import Registry

_OF_TWO = (ConflictKind.CROSS_SALE, ConflictKind.COUNTER_ACTIVATION)
_Key = tuple[ConflictKind, Direction | None, str, str, str, tuple[str, ...]]
# By what makes two conflicts the same one: the largest excess in W and in Wh.
Strengths = dict[_Key, tuple[int, int]]


def _key(conflict: Conflict, own: str) -> _Key:
    of_two = conflict.kind in _OF_TWO or (conflict.kind == ConflictKind.CASCADE and conflict.direction is None)
    others = tuple(name for name in conflict.commitment_ids if name != own) if of_two else ()
    return (conflict.kind, conflict.direction, conflict.resource_id, conflict.area_id, conflict.session_id, others)


def strengths_of(conflicts: Iterable[Conflict], own: str) -> Strengths:
    """Largest excess of each conflict of a commitment."""
    found: Strengths = {}
    for conflict in conflicts:
        key = _key(conflict, own)
        most_w, most_wh = found.get(key, (0, 0))
        found[key] = (max(most_w, conflict.excess_w), max(most_wh, conflict.excess_wh))
    return found


def grown(conflicts: Iterable[Conflict], before: Strengths, own: str) -> list[Conflict]:
    """Conflicts that were not there before, or were smaller."""
    found = []
    for conflict in conflicts:
        known = before.get(_key(conflict, own))
        if known is None or conflict.excess_w > known[0] or conflict.excess_wh > known[1]:
            found.append(conflict)
    return found


def renamed(strengths: Strengths, registry: Registry) -> Strengths:
    """Strengths from before a change, things named as they are after it."""
    found: Strengths = {}
    for (kind, direction, resource_id, area_id, session_id, others), (excess_w, excess_wh) in strengths.items():
        is_thing = resource_id and kind != ConflictKind.POLICY
        name = registry.thing(resource_id).thing_id if is_thing else resource_id
        key = (kind, direction, name, area_id, session_id, others)
        most_w, most_wh = found.get(key, (0, 0))
        found[key] = (max(most_w, excess_w), max(most_wh, excess_wh))
    return found
