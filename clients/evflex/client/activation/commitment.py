"""Flexibility that is sold for a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import pandas as pd

from evflex.activation.v1 import commitment_pb2
from evflex.client.activation.enums import direction_name, direction_text, policy_kind_text, state_text
from evflex.client.activation.whole import FieldWriter, in_thousands, optional_in_thousands
from evflex.client.moments import timestamp

Allocation = Mapping[str, float]
"""Power in kW by resource."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commitment:
    """Flexibility sold for a time; the interval is half-open, and intervals that touch do not conflict.

    Power and energy are sent in whole watts and watt-hours, rounded down, so that less is sold rather than more.

    Attributes:
        product_id: Product that it is sold as, which names the policy.
        direction: ``UP`` (more injection or less consumption) or ``DOWN``.
        start_time: Start, with a time zone and in whole milliseconds.
        end_time: End, likewise.
        resource_id: Resource or session that delivers all of it; empty where ``allocation`` is given.
        allocation: Power in kW by resource of a pool.
        power_kw: Power in kW; None is the sum of the allocation as it is sent.
        energy_kwh: Most energy in kWh that is delivered, grid-side; None is full power all the time.
        exclusive_group: Alternatives of the aggregator of which at most one is activated at a time.
        co_delivery_group: Commitments of the aggregator that one delivery serves together.
        counter_activation_declared: Whether the aggregator knowingly sells both directions at once.
        aggregator_id: Aggregator that sells it; empty is the caller.
        commitment_id: Output: identifier.
        state: Output: ``HELD``, ``CONFIRMED``, ``ACTIVATED``, ``DELIVERED``, ``SETTLED``, ``RELEASED``, ``EXPIRED`` or
            ``SUSPENDED``.
        expire_time: Output: when a hold ends (UTC).
        sequence: Output: place in the ledger; of two that conflict at plug-in the lower one wins.
        truncated_times: Output: by resource, when it ends (UTC) where that is earlier than ``end_time``.
        policies: Output: by resource, the kind of policy that it was sold under and keeps, where that is one.
        delivered_energy_kwh: Output: metered energy in kWh, once delivered.
        settlement_id: Output: what it was settled under.
        tenant_id: Output: the same as ``aggregator_id``.
        area_id: Output: grid area of its first resource.
        etag: Output: changes with every change.
        create_time: Output: when it was held (UTC).
        update_time: Output: when it was changed last (UTC).
    """

    product_id: str
    direction: str
    start_time: datetime | None
    end_time: datetime | None
    resource_id: str = ""
    allocation: Allocation = field(default_factory=dict)
    power_kw: float | None = None
    energy_kwh: float | None = None
    exclusive_group: str = ""
    co_delivery_group: str = ""
    counter_activation_declared: bool = False
    aggregator_id: str = ""
    commitment_id: str = ""
    state: str = ""
    expire_time: pd.Timestamp | None = None
    sequence: int = 0
    truncated_times: Mapping[str, pd.Timestamp] = field(default_factory=dict)
    policies: Mapping[str, str] = field(default_factory=dict)
    delivered_energy_kwh: float | None = None
    settlement_id: str = ""
    tenant_id: str = ""
    area_id: str = ""
    etag: str = ""
    create_time: pd.Timestamp | None = None
    update_time: pd.Timestamp | None = None

    @classmethod
    def from_message(cls, message: commitment_pb2.Commitment) -> Commitment:
        """Read a commitment of the contract."""
        ends = {row.resource_id: timestamp(row, "truncated_time") for row in message.allocation}
        rows = message.allocation or [message]
        policies = {row.resource_id: policy_kind_text(row.policy_kind) for row in rows}
        return cls(
            product_id=message.product_id,
            direction=direction_text(message.direction),
            start_time=timestamp(message, "start_time"),
            end_time=timestamp(message, "end_time"),
            resource_id=message.resource_id,
            allocation={row.resource_id: in_thousands(row.power_w) for row in message.allocation},
            power_kw=in_thousands(message.power_w),
            energy_kwh=optional_in_thousands(message, "energy_wh"),
            exclusive_group=message.exclusive_group,
            co_delivery_group=message.co_delivery_group,
            counter_activation_declared=message.counter_activation_declared,
            aggregator_id=message.aggregator_id,
            commitment_id=message.commitment_id,
            state=state_text(message.state),
            expire_time=timestamp(message, "expire_time"),
            sequence=message.sequence,
            truncated_times={resource: end for resource, end in ends.items() if end is not None},
            policies={resource: kind for resource, kind in policies.items() if kind},
            delivered_energy_kwh=optional_in_thousands(message, "delivered_energy_wh"),
            settlement_id=message.settlement_id,
            tenant_id=message.tenant_id,
            area_id=message.area_id,
            etag=message.etag,
            create_time=timestamp(message, "create_time"),
            update_time=timestamp(message, "update_time"),
        )

    def to_message(self, write: FieldWriter, path: str) -> commitment_pb2.Commitment:
        """Write a commitment of the contract, without what the server puts out.

        Args:
            write: Receives what is wrong with it.
            path: Where it stands in the request.
        """
        rows = allocation_messages(self.allocation, write, f"{path}.allocation")
        power_w = write.down(self.power_kw, f"{path}.power_kw")
        if self.power_kw is None:
            if not rows:
                write.refuse(f"{path}.power_kw", "must be given where there is no allocation")
            # the sum of whole watts, since that of the kW may be rounded to another
            power_w = sum(row.power_w for row in rows)
        return commitment_pb2.Commitment(
            aggregator_id=self.aggregator_id,
            product_id=self.product_id,
            direction=write.named(direction_name, self.direction, f"{path}.direction"),
            resource_id=self.resource_id,
            allocation=rows,
            start_time=write.instant(self.start_time, f"{path}.start_time"),
            end_time=write.instant(self.end_time, f"{path}.end_time"),
            power_w=power_w,
            energy_wh=write.down(self.energy_kwh, f"{path}.energy_kwh"),
            exclusive_group=self.exclusive_group,
            co_delivery_group=self.co_delivery_group,
            counter_activation_declared=self.counter_activation_declared,
        )


def allocation_messages(allocation: Allocation, write: FieldWriter, path: str) -> list[commitment_pb2.AllocationRow]:
    """Power by resource as messages of the contract, in whole watts rounded down.

    Args:
        allocation: Power in kW by resource.
        write: Receives what is wrong with it.
        path: Where it stands in the request.
    """
    return [
        commitment_pb2.AllocationRow(resource_id=resource, power_w=write.down(power_kw, f"{path}[{resource}]"))
        for resource, power_kw in allocation.items()
    ]
