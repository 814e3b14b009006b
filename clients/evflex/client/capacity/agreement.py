"""Agreements between a system operator and a charge point operator, and what was done with them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

import pandas as pd

from evflex.capacity.v1 import agreement_pb2 as pb
from evflex.capacity.v1 import capacity_service_pb2 as service_pb2
from evflex.client.enums import full_name, short_name
from evflex.client.errors import InvalidRequestError, Violation
from evflex.client.moments import duration_message, timestamp, timestamp_message


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementTerms:
    """What a hub is entitled to.

    Attributes:
        firm_kw: Capacity in kW that is always there.
        conditional_kw: Capacity in kW on top that may be curtailed.
        priority: The higher, the earlier served with PRIORITY.
        notice: A plan that replaces another leaves conditional capacity that begins within this time as it is, where
            safety allows; None is no notice.
        curtailment_price_per_kwh: Compensation of a kWh that is curtailed.
        currency_code: Currency of the price, ISO 4217.
        valid_from_time: From when capacity is granted, with a time zone; None is always.
        valid_until_time: Until when, not included; None is without end.
    """

    firm_kw: float
    conditional_kw: float = 0.0
    priority: int = 0
    notice: timedelta | None = None
    curtailment_price_per_kwh: float = 0.0
    currency_code: str = "EUR"
    valid_from_time: pd.Timestamp | None = None
    valid_until_time: pd.Timestamp | None = None

    @classmethod
    def from_message(cls, message: pb.Agreement) -> AgreementTerms:
        """Read the terms of an agreement of the contract."""
        return cls(
            firm_kw=message.firm_kw,
            conditional_kw=message.conditional_kw,
            priority=message.priority,
            notice=message.notice_duration.ToTimedelta() if message.HasField("notice_duration") else None,
            curtailment_price_per_kwh=message.curtailment_price_per_kwh,
            currency_code=message.currency_code,
            valid_from_time=timestamp(message, "valid_from_time"),
            valid_until_time=timestamp(message, "valid_until_time"),
        )

    def to_message(self, *, hub_id: str) -> pb.Agreement:
        """Write an agreement of the contract with these terms.

        Args:
            hub_id: Hub that it is about.

        Raises:
            ValueError: A time has no time zone.
        """
        return pb.Agreement(
            hub_id=hub_id,
            firm_kw=self.firm_kw,
            conditional_kw=self.conditional_kw,
            priority=self.priority,
            notice_duration=duration_message(self.notice),
            curtailment_price_per_kwh=self.curtailment_price_per_kwh,
            currency_code=self.currency_code,
            valid_from_time=timestamp_message(self.valid_from_time, "valid_from_time"),
            valid_until_time=timestamp_message(self.valid_until_time, "valid_until_time"),
        )


@dataclass(frozen=True, slots=True)
class AgreementEvent:
    """One line of an agreement's audit.

    Attributes:
        event_time: When (UTC).
        action: ``PROPOSED``, ``ACCEPTED`` or ``ENDED``.
        party: Tenant that did it, as the server resolved it.
        version: Version that it was done to.
        request_id: Request that did it.
    """

    event_time: pd.Timestamp | None
    action: str
    party: str
    version: int
    request_id: str

    @classmethod
    def from_message(cls, message: pb.AgreementEvent) -> AgreementEvent:
        """Read a line of the contract."""
        return cls(
            event_time=timestamp(message, "event_time"),
            action=short_name(pb.AgreementAction, "AGREEMENT_ACTION_", message.action),
            party=message.party,
            version=message.version,
            request_id=message.request_id,
        )


@dataclass(frozen=True, slots=True)
class Agreement:
    """A conditional connection agreement of one hub, in one version.

    Attributes:
        agreement_id: Identifier.
        hub_id: Hub.
        transformer_id: Transformer that feeds the hub.
        dso_party: Tenant of the distribution system operator.
        cpo_party: Tenant of the charge point operator.
        terms: What the hub is entitled to.
        state: ``PROPOSED``, ``ACTIVE`` or ``ENDED``.
        version: Version of the terms, from 1.
        accepted_by: Parties that have accepted this version.
        proposed_by: Tenant that proposed it.
        area_id: Grid area of the hub.
        tenant_id: Owner of the record.
        etag: Changes with every change.
        create_time: When it was first proposed (UTC).
        update_time: When it was changed last (UTC).
        events: All that was done with it, oldest first; only where one agreement was fetched.
    """

    agreement_id: str
    hub_id: str
    transformer_id: str
    dso_party: str
    cpo_party: str
    terms: AgreementTerms
    state: str
    version: int
    accepted_by: tuple[str, ...]
    proposed_by: str
    area_id: str
    tenant_id: str
    etag: str
    create_time: pd.Timestamp | None
    update_time: pd.Timestamp | None
    events: tuple[AgreementEvent, ...] = ()

    @classmethod
    def from_message(cls, message: pb.Agreement, events: Iterable[pb.AgreementEvent] = ()) -> Agreement:
        """Read an agreement of the contract."""
        return cls(
            agreement_id=message.agreement_id,
            hub_id=message.hub_id,
            transformer_id=message.transformer_id,
            dso_party=message.dso_party,
            cpo_party=message.cpo_party,
            terms=AgreementTerms.from_message(message),
            state=short_name(pb.AgreementState, "AGREEMENT_STATE_", message.state),
            version=message.version,
            accepted_by=tuple(message.accepted_by),
            proposed_by=message.proposed_by,
            area_id=message.area_id,
            tenant_id=message.tenant_id,
            etag=message.etag,
            create_time=timestamp(message, "create_time"),
            update_time=timestamp(message, "update_time"),
            events=tuple(map(AgreementEvent.from_message, events)),
        )


def proposal(
    hub_id: str,
    terms: AgreementTerms,
    transformer_id: str,
    dso_party: str,
    cpo_party: str,
    agreement_id: str,
    etag: str,
    area_id: str,
    validate_only: bool,
    request_id: str,
) -> service_pb2.ProposeAgreementRequest:
    """Write a proposal of the contract; parameters as in ``EvflexClient.propose_agreement``.

    Raises:
        InvalidRequestError: A time of the terms has no time zone.
    """
    try:
        agreement = terms.to_message(hub_id=hub_id)
    except (TypeError, ValueError) as error:
        raise InvalidRequestError.before_sending([Violation("agreement", str(error))]) from None
    agreement.transformer_id = transformer_id
    agreement.dso_party = dso_party
    agreement.cpo_party = cpo_party
    agreement.agreement_id = agreement_id
    agreement.etag = etag
    agreement.area_id = area_id
    return service_pb2.ProposeAgreementRequest(
        request_id=request_id or str(uuid.uuid4()), agreement=agreement, validate_only=validate_only
    )


def agreements_query(hub_id: str, transformer_id: str, state: str, page_size: int) -> service_pb2.ListAgreementsRequest:
    """Write a query of the contract.

    Raises:
        InvalidRequestError: The state is unknown.
    """
    try:
        wanted = full_name(pb.AgreementState, "AGREEMENT_STATE_", state)
    except ValueError as error:
        raise InvalidRequestError.before_sending([Violation("state", str(error))]) from None
    return service_pb2.ListAgreementsRequest(
        hub_id=hub_id, transformer_id=transformer_id, state=wanted, page_size=page_size
    )
