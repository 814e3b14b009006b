"""Which sales may stand beside which."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import pandas as pd

from evflex.activation.v1 import activation_service_pb2 as pb
from evflex.activation.v1 import policy_pb2
from evflex.client.activation.enums import (
    ActivationPolicyKind,
    ResourceKind,
    policy_kind_name,
    policy_kind_text,
    resource_kind_name,
    resource_kind_text,
)
from evflex.client.activation.whole import FieldWriter, optional_in_thousands
from evflex.client.moments import timestamp


@dataclass(frozen=True, slots=True)
class ActivationPolicy:
    """Policy of a product in an area; the most specific one holds.

    Attributes:
        area_id: Area; empty for all.
        product_id: Product; empty for all.
        kind: Remedy, by the names of :class:`ActivationPolicyKind`; empty for none.
        sold_side: ``EV`` or ``CHARGE_POINT``, what may be sold with ONE_SIDE.
        aggregator_cap_kw: Most in kW that one aggregator may have committed at once in the area, in each direction;
            None is no cap.
        version: Counts from 1; 0 for one that was never set.
        tenant_id: Tenant that set it.
        etag: Changes with every change.
        sequence: Number of its last change in the ledger.
        create_time: When it was made (UTC).
        update_time: When it was changed last (UTC).
    """

    area_id: str
    product_id: str
    kind: str
    sold_side: str
    aggregator_cap_kw: float | None
    version: int
    tenant_id: str
    etag: str
    sequence: int
    create_time: pd.Timestamp | None
    update_time: pd.Timestamp | None

    @classmethod
    def from_message(cls, message: policy_pb2.ActivationPolicy) -> ActivationPolicy:
        """Read a policy of the contract."""
        return cls(
            area_id=message.area_id,
            product_id=message.product_id,
            kind=policy_kind_text(message.kind),
            sold_side=resource_kind_text(message.sold_side),
            aggregator_cap_kw=optional_in_thousands(message, "aggregator_cap_w"),
            version=message.version,
            tenant_id=message.tenant_id,
            etag=message.etag,
            sequence=message.sequence,
            create_time=timestamp(message, "create_time"),
            update_time=timestamp(message, "update_time"),
        )


def policy_setting(
    kind: ActivationPolicyKind | str,
    area_id: str,
    product_id: str,
    sold_side: ResourceKind | str,
    aggregator_cap_kw: float | None,
    etag: str,
    validate_only: bool,
    request_id: str,
) -> pb.SetActivationPolicyRequest:
    """Write a policy of the contract; parameters as in ``EvflexClient.set_activation_policy``.

    Raises:
        InvalidRequestError: Something cannot be written; each field is named.
    """
    write = FieldWriter()
    policy = policy_pb2.ActivationPolicy(
        area_id=area_id,
        product_id=product_id,
        kind=write.named(policy_kind_name, kind, "kind"),
        sold_side=write.named(resource_kind_name, sold_side, "sold_side"),
        aggregator_cap_w=write.down(aggregator_cap_kw, "aggregator_cap_kw"),
    )
    write.check()
    return pb.SetActivationPolicyRequest(
        request_id=request_id or str(uuid.uuid4()), policy=policy, etag=etag, validate_only=validate_only
    )


def policy_deletion(
    area_id: str, product_id: str, etag: str, validate_only: bool, request_id: str
) -> pb.DeleteActivationPolicyRequest:
    """Parameters as in ``EvflexClient.delete_activation_policy``."""
    return pb.DeleteActivationPolicyRequest(
        request_id=request_id or str(uuid.uuid4()),
        area_id=area_id,
        product_id=product_id,
        etag=etag,
        validate_only=validate_only,
    )
