"""Small worlds written by hand: times in hours, so that W times hours are Wh."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from evflex.engine.activation.model import (
    OPEN_END_MS,
    Commitment,
    Conflict,
    ConflictKind,
    Direction,
    Policy,
    PolicyKind,
    Resource,
    ResourceKind,
    Row,
    Session,
)
from tests.engine.activation.reference.world import HOUR_MS, World

UP, DOWN = Direction.UP, Direction.DOWN
VIN = ("vin", "W0L000")


def ev(name: str = "ev", **more: Any) -> Resource:
    return Resource(name, ResourceKind.EV, **more)


def point(name: str = "point", **more: Any) -> Resource:
    return Resource(name, ResourceKind.CHARGE_POINT, **more)


def site(name: str = "site", **more: Any) -> Resource:
    return Resource(name, ResourceKind.SITE, **more)


def plugged(start: int, end: int | None = None, name: str = "s", **more: Any) -> Session:
    """The vehicle at the charge point, until now where no end is given."""
    return Session(name, "ev", "point", start * HOUR_MS, OPEN_END_MS if end is None else end * HOUR_MS, **more)


def needing(energy_wh: int, departure: int, max_charge_w: int, start: int = 0) -> Session:
    """An open session with a need."""
    return plugged(start, energy_wh=energy_wh, departure_ms=departure * HOUR_MS, max_charge_w=max_charge_w)


def rule(kind: PolicyKind, area: str = "", product: str = "", **more: Any) -> Policy:
    return Policy(area, product, kind, **more)


def sold(
    name: str, *rows: tuple[str, int] | tuple[str, int, int], start: int = 0, end: int = 4, by: str = "ada", **more: Any
) -> Commitment:
    """Upward for four hours, unless told otherwise; a row may end earlier."""
    ends = tuple(Row(row[0], row[1], (row[2] if len(row) == 3 else end) * HOUR_MS) for row in rows)
    power_w = sum(row.power_w for row in ends)
    sale = Commitment(name, by, "peak", UP, ends, start * HOUR_MS, end * HOUR_MS, power_w)
    return replace(sale, **more)


def world(*parts: Resource | Session | Policy | Commitment) -> World:
    """A world of parts in any order; the order of the commitments is that of the ledger."""
    commitments = [part for part in parts if isinstance(part, Commitment)]
    return World(
        tuple(part for part in parts if isinstance(part, Resource)),
        tuple(part for part in parts if isinstance(part, Session)),
        tuple(part for part in parts if isinstance(part, Policy)),
        tuple(replace(each, sequence=k + 1) for k, each in enumerate(commitments)),
    )


def conflict(kind: ConflictKind, where: str, start: int, end: int, *names: str, **more: Any) -> Conflict:
    return Conflict(kind, where, start * HOUR_MS, end * HOUR_MS, names, **more)
