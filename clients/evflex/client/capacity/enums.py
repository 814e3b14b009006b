"""Enums of the contract by the short names that people write."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from evflex.capacity.v1 import allocation_pb2

_REASON_PREFIX = "BINDING_REASON_"
_POLICY_PREFIX = "ALLOCATION_POLICY_"


class EnumTable(Protocol):
    """Names and numbers of an enum of the contract."""

    def keys(self) -> list[str]:
        """Names."""

    def Name(self, number: int) -> str:  # noqa: N802
        """Name of a number."""


class AllocationPolicy(StrEnum):
    """How conditional capacity is split between hubs that want more than there is.

    Attributes:
        MAX_MIN: The hub with the least gets as much as possible, then the next.
        PROPORTIONAL: Every hub gets the same share of what it wants.
        WEIGHTED_PROPORTIONAL_FAIR: Maximises the sum of weight times log of power.
        PRIORITY: Hubs of higher priority first; those of one priority as MAX_MIN.
        LEAST_COST: Least compensation for curtailment; hubs of one price as MAX_MIN.
    """

    MAX_MIN = "MAX_MIN"
    PROPORTIONAL = "PROPORTIONAL"
    WEIGHTED_PROPORTIONAL_FAIR = "WEIGHTED_PROPORTIONAL_FAIR"
    PRIORITY = "PRIORITY"
    LEAST_COST = "LEAST_COST"


def full_name(enum: EnumTable, prefix: str, name: str) -> str:
    """Name of the contract for a short one, for example ``COOLING_ONAN`` for ``ONAN``; empty is unspecified.

    Raises:
        ValueError: The name is unknown; the known ones are listed.
    """
    names = [key.removeprefix(prefix) for key in enum.keys()]  # noqa: SIM118 - no mapping
    if name and name not in names:
        known = ", ".join(key for key in names if key != "UNSPECIFIED")
        raise ValueError(f"unknown {prefix.lower().replace('_', ' ').strip()} {name!r}; known are {known}")
    return f"{prefix}{name or 'UNSPECIFIED'}"


def short_name(enum: EnumTable, prefix: str, number: int) -> str:
    """Short name of a number; a number that is newer than this client is its own name."""
    try:
        return enum.Name(number).removeprefix(prefix)
    except ValueError:
        return str(number)


def policy_name(policy: AllocationPolicy | str) -> str:
    """Name of the contract for a policy.

    Raises:
        ValueError: The policy is unknown.
    """
    return full_name(allocation_pb2.AllocationPolicy, _POLICY_PREFIX, str(policy))


def policy_text(number: int) -> str:
    """Short name of a policy."""
    return short_name(allocation_pb2.AllocationPolicy, _POLICY_PREFIX, number)


def reason_text(number: int) -> str:
    """Short name of the reason why a hub got less than it wanted."""
    return short_name(allocation_pb2.BindingReason, _REASON_PREFIX, number)
