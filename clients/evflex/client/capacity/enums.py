"""Enums of the contract by the short names that people write."""

from __future__ import annotations

from enum import StrEnum

from evflex.capacity.v1 import allocation_pb2
from evflex.client.enums import full_name, short_name

_REASON_PREFIX = "BINDING_REASON_"
_POLICY_PREFIX = "ALLOCATION_POLICY_"


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
