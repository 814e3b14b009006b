"""Allocations as rows of the store, and rows as messages, whole or what one of the parties sees."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from evflex.capacity.v1 import allocation_pb2
from evflex.engine.validation import Rules
from evflex.server.fields import refuse
from evflex.server.messages import set_timestamp
from evflex.server.store.allocations import AllocationRow, NewAllocation
from evflex.server.store.requests import RequestKey

# The fastest level: arrays of plans are mostly repeats.
_COMPRESSION_LEVEL = 1
_LEFT_OUT_OF_LISTS = ("hubs", "transformer", "binding", "limit_violations")
# What tells of other hubs, or of the operator's grid.
_OPERATORS_OWN = ("transformer", "fairness_index", "termination")


def new_allocation(key: RequestKey, message: allocation_pb2.Allocation, create_time_unix_us: int) -> NewAllocation:
    """An allocation ready to be stored."""
    summary = allocation_pb2.Allocation()
    summary.CopyFrom(message)
    for name in _LEFT_OUT_OF_LISTS:
        summary.ClearField(name)
    return NewAllocation(
        key=key,
        area_id=message.area_id,
        transformer_id=message.transformer_id,
        summary=summary.SerializeToString(),
        payload=zlib.compress(message.SerializeToString(), _COMPRESSION_LEVEL),
        create_time_unix_us=create_time_unix_us,
    )


def shown(row: AllocationRow) -> allocation_pb2.Allocation:
    """A stored allocation, as lists show it where only its summary was read."""
    message = allocation_pb2.Allocation.FromString(zlib.decompress(row.payload) if row.payload else row.summary)
    message.allocation_id = row.allocation_id
    message.tenant_id = row.tenant_id
    message.area_id = row.area_id
    message.etag = row.etag
    set_timestamp(message.create_time, row.create_time_unix_us)
    set_timestamp(message.update_time, row.update_time_unix_us)
    return message


def keep_partys_own(message: allocation_pb2.Allocation, hub_ids: Sequence[str]) -> None:
    """Leave what the charge point operator of these hubs may see: the hubs, and what they get."""
    keep_hubs(message, hub_ids)
    for name in _OPERATORS_OWN:
        message.ClearField(name)
    _keep_rows(message, [row for row in message.limit_violations if row.hub_id], message.binding)


def check_hubs(message: allocation_pb2.Allocation, hub_ids: Sequence[str]) -> None:
    """Raise INVALID_ARGUMENT for a hub that the allocation does not have, or that is named twice."""
    present = {hub.hub_id for hub in message.hubs}
    rules = Rules()
    seen: set[str] = set()
    for i, hub_id in enumerate(hub_ids):
        rules.check(hub_id in present, f"hub_ids[{i}]", "must name a hub of the allocation")
        rules.check(hub_id not in seen, f"hub_ids[{i}]", "must not be named twice")
        seen.add(hub_id)
    refuse(rules)


def keep_hubs(message: allocation_pb2.Allocation, hub_ids: Sequence[str]) -> None:
    """Keep these hubs in the order given, and of all other things those that are not about other hubs."""
    by_id = {hub.hub_id: hub for hub in message.hubs}
    kept = [by_id[hub_id] for hub_id in hub_ids]
    allowed = {"", *hub_ids}
    violations = [row for row in message.limit_violations if row.hub_id in allowed]
    binding = [row for row in message.binding if row.hub_id in allowed]
    own = allocation_pb2.Allocation(hubs=kept)
    message.ClearField("hubs")
    message.hubs.extend(own.hubs)
    _keep_rows(message, violations, binding)


def _keep_rows(
    message: allocation_pb2.Allocation,
    violations: Sequence[allocation_pb2.CapacityViolation],
    binding: Sequence[allocation_pb2.BindingConstraint],
) -> None:
    own = allocation_pb2.Allocation(limit_violations=violations, binding=binding)
    message.ClearField("limit_violations")
    message.ClearField("binding")
    message.MergeFrom(own)
