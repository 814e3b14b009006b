"""What aggregators sell in some days: resources, sessions and a batch of commitments, seeded and of any size."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bench.instances import IntArray
from evflex.engine.activation.columns import Columns
from evflex.engine.activation.model import Policy, PolicyKind, Resource, ResourceKind, Session
from evflex.engine.activation.registry import Registry

START_MS = 1_767_222_000_000
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
_DAY_MS = 24 * HOUR_MS
_QUARTER_MS = 15 * MINUTE_MS
# Commitments of a resource; each resource has an aggregator, of whom there are some.
_PER_RESOURCE, _AGGREGATORS = 10, 20
_DAYS = 5
_SHARE_PLUGGED_IN = 0.6
_SLOTS_PER_DAY, _SLOT_MS = 3, 8 * HOUR_MS
RESOURCES_PER_SITE, SITES_PER_NODE = 10, 50


@dataclass(frozen=True, slots=True)
class Sales:
    """Commitments of one row each, all arrays of shape (n,).

    Attributes:
        name: Number of the resource, in the order of the registry.
        direction: 1 up, 2 down.
        start_ms: Start, in milliseconds since 1970-01-01 UTC.
        end_ms: End.
        power_w: Power in W.
        aggregator: Number of the aggregator.
    """

    name: IntArray
    direction: IntArray
    start_ms: IntArray
    end_ms: IntArray
    power_w: IntArray
    aggregator: IntArray

    def __len__(self) -> int:
        return len(self.name)

    def columns(self) -> Columns:
        """The same as a batch; both directions at once are declared."""
        n = len(self)
        return Columns(
            ["balancing"], [f"aggregator-{k}" for k in range(_AGGREGATORS)], [], self.name,
            np.zeros(n, dtype=np.int64), self.aggregator, self.direction, self.start_ms, self.end_ms, self.power_w,
            self.power_w, np.full(n, -1), np.full(n, -1), np.arange(n), np.ones(n, dtype=np.bool_), np.full(n, -1),
        )  # fmt: skip


def batteries(count: int, *, behind_sites: bool) -> Registry:
    """Batteries whose both headrooms are limited; behind sites and these behind nodes, where that is asked."""
    registry = Registry()
    rng = np.random.default_rng([11, count])
    headroom_kw = rng.choice([5, 7, 10, 11, 22], size=(2, count)).tolist()
    sites = -(-count // RESOURCES_PER_SITE) if behind_sites else 0
    for k in range(count):
        site = f"site-{k // RESOURCES_PER_SITE}" if behind_sites else ""
        up_w, down_w = 1_000 * headroom_kw[0][k], 1_000 * headroom_kw[1][k]
        registry.put_resource(Resource(f"battery-{k}", ResourceKind.BATTERY, site, "", up_w, down_w))
    for k in range(sites):
        limit_w = 1_000 * int(rng.integers(20, 40))
        registry.put_resource(
            Resource(f"site-{k}", ResourceKind.SITE, f"node-{k // SITES_PER_NODE}", "", limit_w, limit_w)
        )
    for k in range(-(-sites // SITES_PER_NODE)):
        registry.put_resource(Resource(f"node-{k}", ResourceKind.OTHER, "", "", 1_000_000, 1_000_000))
    return registry


def sales_of_batteries(count: int) -> Sales:
    """Sales of some batteries within days, in quarters of an hour; some of them are too much."""
    rng = np.random.default_rng([12, count])
    n = _PER_RESOURCE * count
    name = rng.integers(0, count, n)
    start_ms = START_MS + _QUARTER_MS * rng.integers(0, _DAYS * _DAY_MS // _QUARTER_MS, n)
    end_ms = start_ms + _QUARTER_MS * rng.integers(1, 17, n)
    return Sales(name, rng.integers(1, 3, n), start_ms, end_ms, rng.integers(500, 3_500, n), name % _AGGREGATORS)


@dataclass(frozen=True, slots=True)
class Plugged:
    """Vehicles at charge points.

    Attributes:
        vehicle: Number of the vehicle of each session, which is its number in the registry, (sessions,).
        point: Number in the registry of the charge point of each session, (sessions,).
        start_ms: Start of each session.
        end_ms: End of each session.
        registry: All of it.
    """

    vehicle: IntArray
    point: IntArray
    start_ms: IntArray
    end_ms: IntArray
    registry: Registry


def plugged(vehicles: int, points: int, sessions: int) -> Plugged:
    """Vehicles that are plugged in here and there, three times a day at most."""
    rng = np.random.default_rng([13, sessions])
    slots = _SLOTS_PER_DAY * _DAYS
    each = sessions // slots
    vehicle = np.concatenate([rng.permutation(vehicles)[:each] for _ in range(slots)])
    point = vehicles + np.concatenate([rng.permutation(points)[:each] for _ in range(slots)])
    slot_ms = START_MS + _SLOT_MS * np.repeat(np.arange(slots), each)
    # whoever comes late in a slot leaves before its end
    start_ms = slot_ms + MINUTE_MS * rng.integers(0, 120, len(vehicle))
    end_ms = start_ms + MINUTE_MS * rng.integers(45, 360, len(vehicle))
    registry = Registry()
    registry.put_policy(Policy("", "", PolicyKind.NONE))
    for k in range(vehicles):
        registry.put_resource(Resource(f"ev-{k}", ResourceKind.EV))
    for k in range(points):
        registry.put_resource(Resource(f"point-{k}", ResourceKind.CHARGE_POINT))
    rows = zip(vehicle.tolist(), point.tolist(), start_ms.tolist(), end_ms.tolist(), strict=True)
    for k, (ev, at, begins, ends) in enumerate(rows):
        registry.put_session(Session(f"session-{k}", f"ev-{ev}", f"point-{at - vehicles}", begins, ends))
    return Plugged(vehicle, point, start_ms, end_ms, registry)


def sales_of_both_sides(world: Plugged, per_side: int) -> Sales:
    """As many sales of vehicles as of charge points, by different aggregators; most begin while one is plugged in."""
    rng = np.random.default_rng([14, per_side])
    session = rng.integers(0, len(world.vehicle), 2 * per_side)
    name = np.concatenate([world.vehicle[session[:per_side]], world.point[session[per_side:]]])
    within_ms = (world.end_ms - world.start_ms)[session]
    inside_ms = world.start_ms[session] + MINUTE_MS * (rng.random(len(name)) * (within_ms // MINUTE_MS)).astype(
        np.int64
    )
    at_any_ms = START_MS + MINUTE_MS * rng.integers(0, _DAYS * _DAY_MS // MINUTE_MS, len(name))
    start_ms = np.where(rng.random(len(name)) < _SHARE_PLUGGED_IN, inside_ms, at_any_ms)
    end_ms = start_ms + MINUTE_MS * rng.integers(15, 121, len(name))
    power_w = rng.integers(500, 11_000, len(name))
    sales = Sales(name, rng.integers(1, 3, len(name)), start_ms, end_ms, power_w, name % _AGGREGATORS)
    # in any order, as they come in
    order = rng.permutation(len(sales))
    return replace(sales, **{key: getattr(sales, key)[order] for key in Sales.__slots__})
