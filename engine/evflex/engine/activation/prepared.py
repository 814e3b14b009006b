"""The registry as arrays, for batches: things, what they are behind, sessions and limits by number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evflex.engine.activation.model import Direction, PolicyKind, ResourceKind
from evflex.engine.activation.registry import Registry

IntArray = NDArray[np.int64]
# Stands for no limit.
NO_LIMIT_W = 1 << 62


@dataclass(frozen=True, slots=True)
class PreparedRegistry:
    """Resources, sessions and policies by number; a snapshot.

    Names are resources and then sessions. Lists of a thing or a session are ranges of one array: those of number k are
    ``values[starts[k]:starts[k + 1]]``.

    Attributes:
        registry: What it was made of; judges the conflicts that are found.
        version: Of the registry then.
        number_of: Number of each name.
        thing_ids: Identifier of each thing.
        kind: Kind of each thing, (things,).
        headroom_w: Limits upward and downward, ``NO_LIMIT_W`` for none, (2, things).
        place_starts: Ranges of ``places``, (things + 1,).
        places: Of each thing itself and its ancestors.
        thing_of: Thing of each resource, -1 for a session, (names,).
        session_of: Session of each name, -1 for a resource, (names,).
        area_of: Area of each name, (names,).
        area_ids: Areas.
        session_ids: Identifier of each session.
        session_sides: Vehicle and charge point of each session, things, (2, sessions).
        session_ms: Start and end of each session, (2, sessions).
        own_starts: Ranges of ``own_sessions``, (things + 1,).
        own_sessions: Sessions of each thing in the order of time.
        own_rows: The same: start and end in ms, the thing on the other side, and the session, (n, 4).
    """

    registry: Registry
    version: int
    number_of: dict[str, int]
    thing_ids: list[str]
    kind: IntArray
    headroom_w: IntArray
    place_starts: IntArray
    places: IntArray
    thing_of: IntArray
    session_of: IntArray
    area_of: IntArray
    area_ids: list[str]
    session_ids: list[str]
    session_sides: IntArray
    session_ms: IntArray
    own_starts: IntArray
    own_sessions: IntArray
    own_rows: IntArray

    def cap_w(self) -> IntArray:
        """Cap of an aggregator in each area, ``NO_LIMIT_W`` for none, (areas,)."""
        caps = [self.registry.cap_w(area_id) for area_id in self.area_ids]
        return np.array([NO_LIMIT_W if cap is None else cap for cap in caps], dtype=np.int64)

    def policy_kinds(self, product_ids: Sequence[str]) -> tuple[IntArray, IntArray]:
        """Policy of each area and product, and the side that ONE_SIDE lets be sold (0 otherwise), (areas, products)."""
        shape = (len(self.area_ids), len(product_ids))
        kinds, sides = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        for i, area_id in enumerate(self.area_ids):
            for j, product_id in enumerate(product_ids):
                policy = self.registry.policy(area_id, product_id)
                kinds[i, j] = policy.kind
                if policy.kind == PolicyKind.ONE_SIDE and policy.sold_side is not None:
                    sides[i, j] = policy.sold_side
        return kinds, sides


def prepare_registry(registry: Registry) -> PreparedRegistry:
    """Number everything that is registered."""
    resources, sessions = list(registry.resources), list(registry.sessions.values())
    number_of = {name: k for k, name in enumerate([*resources, *registry.sessions])}
    things = {thing.thing_id: thing for thing in map(registry.thing, resources)}
    thing_ids = list(things)
    thing_number = {thing_id: k for k, thing_id in enumerate(thing_ids)}
    areas: dict[str, int] = {}
    area_of = [areas.setdefault(registry.resources[name].area_id, len(areas)) for name in resources]
    area_of += [area_of[number_of[session.charge_point_id]] for session in sessions]
    thing_of = [thing_number[registry.thing(name).thing_id] for name in resources]
    place_starts, places = _ranges(
        [thing_number[place] for place in (thing_id, *registry.ancestors(thing_id))] for thing_id in thing_ids
    )
    sides = np.array(
        [
            [thing_of[number_of[session.ev_id]] for session in sessions],
            [thing_of[number_of[session.charge_point_id]] for session in sessions],
        ],
        dtype=np.int64,
    )
    times = np.array([[s.start_ms for s in sessions], [s.end_ms for s in sessions]], dtype=np.int64)
    own_starts, own_sessions, others = _sessions_by_thing(sides, times[0], len(thing_ids))
    return PreparedRegistry(
        registry=registry,
        version=registry.version,
        number_of=number_of,
        thing_ids=thing_ids,
        kind=np.array([things[t].kind for t in thing_ids], dtype=np.int64),
        headroom_w=np.array(
            [[_limit(things[t].headroom_w(d)) for t in thing_ids] for d in Direction], dtype=np.int64
        ).reshape(2, len(thing_ids)),
        place_starts=place_starts,
        places=places,
        thing_of=np.array(thing_of + [-1] * len(sessions), dtype=np.int64),
        session_of=np.array([-1] * len(resources) + list(range(len(sessions))), dtype=np.int64),
        area_of=np.array(area_of, dtype=np.int64),
        area_ids=list(areas),
        session_ids=[session.session_id for session in sessions],
        session_sides=sides,
        session_ms=times,
        own_starts=own_starts,
        own_sessions=own_sessions,
        own_rows=np.stack([*times[:, own_sessions], others, own_sessions], axis=1),
    )


def is_charging(kind: IntArray) -> NDArray[np.bool_]:
    """Which things are vehicles or charge points."""
    return (kind == ResourceKind.EV) | (kind == ResourceKind.CHARGE_POINT)


def _limit(headroom_w: int | None) -> int:
    return NO_LIMIT_W if headroom_w is None else headroom_w


def _ranges(lists: Iterable[list[int]]) -> tuple[IntArray, IntArray]:
    starts, values = [0], list[int]()
    for one in lists:
        values += one
        starts.append(len(values))
    return np.array(starts, dtype=np.int64), np.array(values, dtype=np.int64)


def _sessions_by_thing(sides: IntArray, start_ms: IntArray, things: int) -> tuple[IntArray, IntArray, IntArray]:
    """Ranges, sessions, and the thing on the other side of each."""
    owners, others = sides.ravel(), sides[::-1].ravel()
    numbers = np.tile(np.arange(sides.shape[1], dtype=np.int64), 2)
    order = np.lexsort((np.tile(start_ms, 2), owners))
    starts = np.searchsorted(owners[order], np.arange(things + 1)).astype(np.int64)
    return starts, numbers[order], others[order]
