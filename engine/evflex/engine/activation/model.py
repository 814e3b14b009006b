"""What is sold of what: resources, sessions, commitments and policies, in whole watts and milliseconds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

# Stands for the end of a session that is open.
OPEN_END_MS = 1 << 60
MOST_POWER_W = 1_000_000_000
MOST_COMMITMENT_MS = 366 * 86_400_000
MOST_SESSION_MS = 31 * 86_400_000
MOST_CHARGE_W = 10_000_000
# A conflict names so many commitments at most.
MOST_NAMED = 20


class ResourceKind(IntEnum):
    """What a resource is; numbers as in the contract."""

    EV = 1
    CHARGE_POINT = 2
    SITE = 3
    BATTERY = 4
    OTHER = 5


class Direction(IntEnum):
    """Direction of flexibility: up is more injection or less consumption."""

    UP = 1
    DOWN = 2


class PolicyKind(IntEnum):
    """Remedy against selling a vehicle and its charge point twice."""

    NONE = 0
    ONE_SIDE = 1
    SESSION = 2
    SAME_AGGREGATOR = 3
    NO_CASCADE = 4


class ConflictKind(IntEnum):
    """What stands against a commitment."""

    CAPACITY_EXCEEDED = 1
    CROSS_SALE = 2
    ALIAS_SALE = 3
    CASCADE = 4
    COUNTER_ACTIVATION = 5
    ENERGY_EXCEEDED = 6
    AGGREGATOR_CAP = 7
    POLICY = 8


@dataclass(frozen=True, slots=True)
class Resource:
    """Something whose flexibility can be sold.

    Attributes:
        resource_id: Identifier.
        kind: What it is.
        parent_id: Resource that it is behind, empty for none.
        area_id: Grid area.
        up_headroom_w: Most that can be sold upward in W, None for no limit.
        down_headroom_w: Most that can be sold downward in W, None for no limit.
        aliases: Scheme and value of each other name.
    """

    resource_id: str
    kind: ResourceKind
    parent_id: str = ""
    area_id: str = ""
    up_headroom_w: int | None = None
    down_headroom_w: int | None = None
    aliases: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Session:
    """A vehicle at a charge point.

    Attributes:
        session_id: Identifier.
        ev_id: Resource that is the vehicle.
        charge_point_id: Resource that is the charge point.
        start_ms: When it was plugged in, milliseconds since 1970-01-01 UTC.
        end_ms: When it was unplugged, ``OPEN_END_MS`` while it is open.
        energy_wh: Energy needed from start to departure, grid-side; None where not known.
        departure_ms: When it is to leave; None where not known.
        max_charge_w: Most that it can draw; None where not known.
    """

    session_id: str
    ev_id: str
    charge_point_id: str
    start_ms: int
    end_ms: int = OPEN_END_MS
    energy_wh: int | None = None
    departure_ms: int | None = None
    max_charge_w: int | None = None

    @property
    def has_need(self) -> bool:
        """Whether it is known what must be reached by when."""
        return self.energy_wh is not None and self.departure_ms is not None and self.max_charge_w is not None


@dataclass(frozen=True, slots=True)
class Row:
    """Part of a commitment that one resource delivers.

    Attributes:
        resource_id: Resource, or session.
        power_w: Power in W, > 0.
        end_ms: When it ends, at most the end of the commitment.
        policy: Policy that it was sold under; None for the one that holds.
    """

    resource_id: str
    power_w: int
    end_ms: int
    policy: PolicyKind | None = None


@dataclass(frozen=True, slots=True)
class Commitment:
    """Flexibility sold for a time.

    Attributes:
        commitment_id: Identifier, unique in the ledger.
        aggregator_id: Who sells it.
        product_id: What it is sold as.
        direction: Direction.
        rows: What delivers it; all begin at ``start_ms``.
        start_ms: Start, milliseconds since 1970-01-01 UTC.
        end_ms: End.
        power_w: Power in W of all rows together, before any was truncated.
        energy_wh: Most energy in Wh; None for full power all the time.
        exclusive_group: The aggregator's alternatives, empty for none.
        co_delivery_group: What one delivery serves together, empty for none.
        counter_activation_declared: Whether both directions at once are meant.
        sequence: Place in the ledger; 0 for one that is not in it.
    """

    commitment_id: str
    aggregator_id: str
    product_id: str
    direction: Direction
    rows: tuple[Row, ...]
    start_ms: int
    end_ms: int
    power_w: int
    energy_wh: int | None = None
    exclusive_group: str = ""
    co_delivery_group: str = ""
    counter_activation_declared: bool = False
    sequence: int = 0

    @property
    def group(self) -> tuple[str, str, str] | None:
        """Aggregator, sort and name of the group that counts by its largest; None for a commitment in none."""
        if self.exclusive_group:
            return (self.aggregator_id, "exclusive", self.exclusive_group)
        if self.co_delivery_group:
            return (self.aggregator_id, "co-delivery", self.co_delivery_group)
        return None


@dataclass(frozen=True, slots=True)
class Policy:
    """What may be sold beside what.

    Attributes:
        area_id: Area, empty for all.
        product_id: Product, empty for all.
        kind: Remedy.
        sold_side: What may be sold, with ``ONE_SIDE``.
        aggregator_cap_w: Most that one aggregator may have committed at once in the area and in each direction; None
            for no cap. Only without a product.
    """

    area_id: str
    product_id: str
    kind: PolicyKind
    sold_side: ResourceKind | None = None
    aggregator_cap_w: int | None = None


@dataclass(frozen=True, slots=True)
class Conflict:
    """Why commitments cannot stand together.

    Attributes:
        kind: What it is.
        resource_id: Thing where it happens (the vehicle with ``CROSS_SALE`` and ``ENERGY_EXCEEDED``, the resource as
            named with ``POLICY``), empty with ``AGGREGATOR_CAP``.
        start_ms: First instant.
        end_ms: After the last instant.
        commitment_ids: Commitments that take part, in the order of the ledger and then of the request, at most
            ``MOST_NAMED``.
        direction: Direction, None where it is in none.
        excess_w: Power above the limit, or sold twice, in W.
        excess_wh: Energy missing at departure in Wh.
        area_id: Area of a cap.
        session_id: Session, with ``CROSS_SALE`` and ``ENERGY_EXCEEDED``.
        rule: The rule in words.
    """

    kind: ConflictKind
    resource_id: str
    start_ms: int
    end_ms: int
    commitment_ids: tuple[str, ...]
    direction: Direction | None = None
    excess_w: int = 0
    excess_wh: int = 0
    area_id: str = ""
    session_id: str = ""
    rule: str = ""
