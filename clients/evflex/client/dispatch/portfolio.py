"""A portfolio, and what goes to the server when it is created or changed."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from evflex.client.dispatch.files import FleetSource, fleet_table
from evflex.client.dispatch.fleet import ASSETS_PER_MESSAGE, FleetColumns, profile_messages
from evflex.client.moments import timestamp
from evflex.dispatch.v1 import dispatch_service_pb2 as pb
from evflex.dispatch.v1 import fleet_pb2, portfolio_pb2

_Profiles = Sequence[list[fleet_pb2.Profile]]


@dataclass(frozen=True, slots=True)
class Portfolio:
    """A fleet that stays with the server, without its columns.

    Attributes:
        portfolio_id: Identifier.
        version: Counts from 1; every update that changes something adds 1.
        groups: Groups that assets and limits refer to.
        operators: Operators that assets and limits refer to.
        currency_code: ISO 4217 code of all prices.
        asset_count: Number of assets.
        profile_count: Assets that have a profile.
        resident_bytes: Memory that the fleet takes on the server in bytes.
        tenant_id: Owner.
        area_id: Grid area.
        etag: Changes with every version.
        create_time: When it was created (UTC).
        update_time: When its newest version was stored (UTC).
    """

    portfolio_id: str
    version: int
    groups: tuple[str, ...]
    operators: tuple[str, ...]
    currency_code: str
    asset_count: int
    profile_count: int
    resident_bytes: int
    tenant_id: str
    area_id: str
    etag: str
    create_time: pd.Timestamp | None
    update_time: pd.Timestamp | None

    @classmethod
    def from_message(cls, message: portfolio_pb2.Portfolio) -> Portfolio:
        """Read a portfolio of the contract."""
        return cls(
            portfolio_id=message.portfolio_id,
            version=message.version,
            groups=tuple(message.groups),
            operators=tuple(message.operators),
            currency_code=message.currency_code,
            asset_count=message.asset_count,
            profile_count=message.profile_count,
            resident_bytes=message.resident_bytes,
            tenant_id=message.tenant_id,
            area_id=message.area_id,
            etag=message.etag,
            create_time=timestamp(message, "create_time"),
            update_time=timestamp(message, "update_time"),
        )


@dataclass(frozen=True, slots=True)
class PortfolioUpdate:
    """Outcome of a change.

    Attributes:
        portfolio: The portfolio afterwards.
        added_count: Assets added.
        changed_count: Assets changed.
        removed_count: Assets removed.
    """

    portfolio: Portfolio
    added_count: int
    changed_count: int
    removed_count: int

    @classmethod
    def from_message(cls, message: pb.UpdatePortfolioResponse) -> PortfolioUpdate:
        """Read an answer of the contract."""
        portfolio = Portfolio.from_message(message.portfolio)
        return cls(portfolio, message.added_count, message.changed_count, message.removed_count)


@dataclass(frozen=True, slots=True, eq=False)
class PortfolioCreation:
    """A portfolio on its way to the server.

    Attributes:
        header: First message.
        fleet: Assets.
        profiles: Profiles, in the portions of a message.
    """

    header: pb.CreatePortfolioHeader
    fleet: FleetColumns
    profiles: _Profiles

    @classmethod
    def of(
        cls,
        fleet: FleetSource,
        *,
        portfolio_id: str | None,
        currency_code: str,
        profiles: pd.DataFrame | None,
        area_id: str,
        validate_only: bool,
        request_id: str,
    ) -> PortfolioCreation:
        """Check what was given and read it; parameters as in ``EvflexClient.create_portfolio``.

        Raises:
            InvalidRequestError: Naming each column that cannot be read.
        """
        columns = FleetColumns.from_frame(fleet_table(fleet))
        header = pb.CreatePortfolioHeader(
            request_id=request_id or str(uuid.uuid4()),
            portfolio_id=portfolio_id or "",
            currency_code=currency_code,
            groups=columns.groups,
            operators=columns.operators,
            expected_assets=len(columns.asset_ids),
            area_id=area_id,
            validate_only=validate_only,
        )
        return cls(header, columns, _read_profiles(profiles))

    def messages(self) -> Iterator[pb.CreatePortfolioRequest]:
        """Header, chunks and commit; each call begins anew."""
        yield pb.CreatePortfolioRequest(header=self.header)
        for chunk in _chunks(self.fleet, self.profiles):
            yield pb.CreatePortfolioRequest(chunk=chunk)
        yield pb.CreatePortfolioRequest(commit=pb.PortfolioCommit())


@dataclass(frozen=True, slots=True, eq=False)
class PortfolioChange:
    """Changes of a portfolio on their way to the server.

    Attributes:
        header: First message.
        fleet: Assets to add and change; None where there are none.
        profiles: Profiles, in the portions of a message.
        removed_asset_ids: Assets to remove.
    """

    header: pb.UpdatePortfolioHeader
    fleet: FleetColumns | None
    profiles: _Profiles
    removed_asset_ids: Sequence[str]

    @classmethod
    def of(
        cls,
        portfolio_id: str,
        changes: pd.DataFrame | None,
        *,
        known: Portfolio | None,
        remove: Sequence[str],
        profiles: pd.DataFrame | None,
        etag: str,
        validate_only: bool,
        request_id: str,
    ) -> PortfolioChange:
        """Check what was given and read it; parameters as in ``EvflexClient.update_portfolio``.

        Args:
            portfolio_id: Identifier.
            changes: Assets to add and change.
            known: The portfolio as it is, where ``changes`` name groups or operators. The change is refused when
                another came between, because indices would then mean other names.
            remove: Assets to remove.
            profiles: Profiles.
            etag: Version that may be changed.
            validate_only: Whether the change is only checked.
            request_id: UUID of the change; drawn when empty.

        Raises:
            InvalidRequestError: Naming each column that cannot be read.
        """
        groups, operators = (known.groups, known.operators) if known else ((), ())
        columns = None
        if changes is not None:
            columns = FleetColumns.from_frame(changes, groups, operators)
        header = pb.UpdatePortfolioHeader(
            request_id=request_id or str(uuid.uuid4()),
            portfolio_id=portfolio_id,
            etag=etag or (known.etag if known else ""),
            added_groups=columns.groups[len(groups) :] if columns else (),
            added_operators=columns.operators[len(operators) :] if columns else (),
            validate_only=validate_only,
        )
        return cls(header, columns, _read_profiles(profiles), list(remove))

    def messages(self) -> Iterator[pb.UpdatePortfolioRequest]:
        """Header, chunks and commit; each call begins anew."""
        yield pb.UpdatePortfolioRequest(header=self.header)
        for chunk in _chunks(self.fleet, self.profiles, self.removed_asset_ids):
            yield pb.UpdatePortfolioRequest(chunk=chunk)
        yield pb.UpdatePortfolioRequest(commit=pb.PortfolioCommit())


def _read_profiles(profiles: pd.DataFrame | None) -> _Profiles:
    return [] if profiles is None else list(profile_messages(profiles))


def _chunks(
    fleet: FleetColumns | None, profiles: _Profiles, removed_asset_ids: Sequence[str] = ()
) -> Iterator[pb.PortfolioChunk]:
    """Removals first, so that an asset may be replaced, then assets, then profiles."""
    for first in range(0, len(removed_asset_ids), ASSETS_PER_MESSAGE):
        yield pb.PortfolioChunk(removed_asset_ids=removed_asset_ids[first : first + ASSETS_PER_MESSAGE])
    for message in fleet.messages() if fleet else ():
        yield pb.PortfolioChunk(fleet=message)
    for together in profiles:
        yield pb.PortfolioChunk(profiles=together)
