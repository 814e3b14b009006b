"""Enums of the activation service by the short names that people write."""

from __future__ import annotations

from enum import StrEnum

from evflex.activation.v1 import activation_service_pb2, commitment_pb2, policy_pb2, resource_pb2
from evflex.client.enums import full_name, short_name
from evflex.common.v1 import direction_pb2

_CONFLICT_PREFIX = "CONFLICT_KIND_"
CONFLICT_KINDS = {
    number: name.removeprefix(_CONFLICT_PREFIX) for name, number in commitment_pb2.ConflictKind.items() if number
}
"""Kinds of conflicts by number."""
DIRECTIONS = {name.removeprefix("DIRECTION_"): number for name, number in direction_pb2.Direction.items() if number}
"""Directions by name."""


class ResourceKind(StrEnum):
    """What a resource is.

    Attributes:
        EV: Electric vehicle.
        CHARGE_POINT: One EVSE, which serves one vehicle at a time.
        SITE: Site, feeder or any other node that resources are behind.
        BATTERY: Stationary battery.
        OTHER: Anything else, such as a heat pump.
    """

    EV = "EV"
    CHARGE_POINT = "CHARGE_POINT"
    SITE = "SITE"
    BATTERY = "BATTERY"
    OTHER = "OTHER"


class ActivationPolicyKind(StrEnum):
    """Remedy against selling a vehicle and its charge point twice.

    Attributes:
        ONE_SIDE: Only vehicles, or only charge points, may be sold.
        SESSION: Both are sold as sessions; a sale of either is a forecast until the vehicle is plugged in.
        SAME_AGGREGATOR: Both may be sold by the same aggregator.
        NO_CASCADE: Nothing may be sold together with what it is behind.
    """

    ONE_SIDE = "ONE_SIDE"
    SESSION = "SESSION"
    SAME_AGGREGATOR = "SAME_AGGREGATOR"
    NO_CASCADE = "NO_CASCADE"


def resource_kind_name(kind: str) -> str:
    """Name of the contract for a kind of resource; empty is unspecified.

    Raises:
        ValueError: The kind is unknown.
    """
    return full_name(resource_pb2.ResourceKind, "RESOURCE_KIND_", str(kind))


def resource_kind_text(number: int) -> str:
    """Short name of a kind of resource; empty where it is unspecified."""
    return short_name(resource_pb2.ResourceKind, "RESOURCE_KIND_", number) if number else ""


def direction_name(direction: str) -> str:
    """Name of the contract for ``UP`` or ``DOWN``.

    Raises:
        ValueError: The direction is unknown.
    """
    return full_name(direction_pb2.Direction, "DIRECTION_", direction)


def direction_text(number: int) -> str:
    """``UP`` or ``DOWN``; empty where it is unspecified."""
    return short_name(direction_pb2.Direction, "DIRECTION_", number) if number else ""


def state_name(state: str) -> str:
    """Name of the contract for the state of a commitment; empty is unspecified.

    Raises:
        ValueError: The state is unknown.
    """
    return full_name(commitment_pb2.CommitmentState, "COMMITMENT_STATE_", state)


def state_text(number: int) -> str:
    """Short name of the state of a commitment; empty where it is unspecified."""
    return short_name(commitment_pb2.CommitmentState, "COMMITMENT_STATE_", number) if number else ""


def conflict_text(number: int) -> str:
    """Short name of a kind of conflict."""
    return short_name(commitment_pb2.ConflictKind, _CONFLICT_PREFIX, number)


def conflict_event_text(number: int) -> str:
    """Short name of what a message of a watch is about."""
    return short_name(activation_service_pb2.ConflictEventKind, "CONFLICT_EVENT_KIND_", number)


def policy_kind_name(kind: str) -> str:
    """Name of the contract for a kind of policy; empty is none.

    Raises:
        ValueError: The kind is unknown.
    """
    return full_name(policy_pb2.ActivationPolicyKind, "ACTIVATION_POLICY_KIND_", str(kind))


def policy_kind_text(number: int) -> str:
    """Short name of a kind of policy; empty where there is none."""
    return short_name(policy_pb2.ActivationPolicyKind, "ACTIVATION_POLICY_KIND_", number) if number else ""
