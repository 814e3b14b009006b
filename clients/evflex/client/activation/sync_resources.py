"""Calls about resources and sessions, synchronous."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime

import pandas as pd

from evflex.activation.v1 import activation_service_pb2 as pb
from evflex.client.activation import operations
from evflex.client.activation.enums import ResourceKind
from evflex.client.activation.resource import Aliases, Resource, alias_messages, registration, resources_query
from evflex.client.activation.session import Session, closing, opening
from evflex.client.transport import Transport


class ResourceCalls:
    """Resources whose flexibility is sold, and the sessions that tie vehicles to charge points."""

    _transport: Transport

    def register_resources(
        self,
        resources: Sequence[Resource] | pd.DataFrame,
        *,
        validate_only: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> tuple[Resource, ...]:
        """Add resources, and replace those that the caller registered before: all of it or nothing, up to 10 000.

        Args:
            resources: Resources; or a table with one row each, whose columns are named as the attributes of
                :class:`Resource`. ``resource_id`` may be the index, and ``aliases.vin`` holds aliases of the scheme
                ``vin``; a missing value leaves the default. Headroom is sent in whole watts, rounded down.
            validate_only: Only check: nothing is returned.
            request_id: UUID under which a repeated call gives the same answer; drawn when empty.
            timeout_s: Time for all attempts.

        Raises:
            InvalidRequestError: The resources break rules; what cannot be read is told before anything is sent.
            ConflictError: Commitments or sessions stand against a change, or an etag differs.
            NotPermittedError: Another tenant registered one of them.
        """
        request = registration(resources, validate_only, request_id)
        answer = self._transport.unary(operations.REGISTER_RESOURCES, request, timeout_s)
        return tuple(map(Resource.from_message, answer.resources))

    def get_resource(self, resource_id: str, *, timeout_s: float | None = None) -> Resource:
        """Fetch a resource, with the others that are the same thing.

        Args:
            resource_id: Resource.
            timeout_s: Time for all attempts.

        Raises:
            NotFoundError: There is no such resource.
        """
        request = pb.GetResourceRequest(resource_id=resource_id)
        answer = self._transport.unary(operations.GET_RESOURCE, request, timeout_s)
        return Resource.from_message(answer.resource, answer.same_resource_ids)

    def list_resources(
        self,
        area_id: str = "",
        *,
        kind: ResourceKind | str = "",
        own: bool = False,
        page_size: int = 0,
        timeout_s: float | None = None,
    ) -> Iterator[Resource]:
        """List resources, the one changed last first; further pages are fetched as they are needed.

        Args:
            area_id: Only of this area; empty means all.
            kind: Only of this kind; empty means all.
            own: Only those that the caller registered.
            page_size: Entries asked for at once; 0 takes the server's default.
            timeout_s: Time for each page.

        Raises:
            InvalidRequestError: The kind is unknown.
        """
        request = resources_query(area_id, kind, own, page_size)
        for page in self._transport.pages(operations.LIST_RESOURCES, request, timeout_s):
            yield from map(Resource.from_message, page.resources)

    def link_aliases(
        self,
        resource_id: str,
        aliases: Aliases,
        *,
        etag: str = "",
        validate_only: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Resource:
        """Add other names to a resource; resources that share one are one thing from then on.

        Args:
            resource_id: Resource that the caller registered.
            aliases: Names to add by scheme; those that it has stay.
            etag: When not empty, change it only if the stored one is the same.
            validate_only: Only check: what is returned has only ``same_resource_ids``.
            request_id: UUID under which a repeated call gives the same answer; drawn when empty.
            timeout_s: Time for all attempts.

        Raises:
            NotFoundError: There is no such resource.
            ConflictError: A cycle would be closed, sessions would overlap, or the etag differs.
        """
        request = pb.LinkAliasesRequest(
            request_id=request_id or str(uuid.uuid4()),
            resource_id=resource_id,
            aliases=alias_messages(aliases),
            etag=etag,
            validate_only=validate_only,
        )
        answer = self._transport.unary(operations.LINK_ALIASES, request, timeout_s)
        return Resource.from_message(answer.resource, answer.same_resource_ids)

    def unlink_aliases(
        self,
        resource_id: str,
        aliases: Aliases,
        *,
        etag: str = "",
        validate_only: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Resource:
        """Take names from a resource; what they joined is separate again.

        Args:
            resource_id: Resource that the caller registered.
            aliases: Names to take away by scheme, each of them its own.
            etag: When not empty, change it only if the stored one is the same.
            validate_only: Only check: what is returned has only ``same_resource_ids``.
            request_id: UUID under which a repeated call gives the same answer; drawn when empty.
            timeout_s: Time for all attempts.

        Raises:
            NotFoundError: There is no such resource.
            ConflictError: The etag differs.
        """
        request = pb.UnlinkAliasesRequest(
            request_id=request_id or str(uuid.uuid4()),
            resource_id=resource_id,
            aliases=alias_messages(aliases),
            etag=etag,
            validate_only=validate_only,
        )
        answer = self._transport.unary(operations.UNLINK_ALIASES, request, timeout_s)
        return Resource.from_message(answer.resource, answer.same_resource_ids)

    def open_session(
        self,
        ev_resource_id: str,
        charge_point_resource_id: str,
        start_time: datetime,
        *,
        session_id: str = "",
        energy_kwh: float | None = None,
        departure_time: datetime | None = None,
        max_charge_kw: float | None = None,
        validate_only: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Session:
        """Tell that a vehicle was plugged in; commitments that conflict by it are decided.

        Args:
            ev_resource_id: The vehicle.
            charge_point_resource_id: The charge point.
            start_time: When it was plugged in, with a time zone and in whole milliseconds.
            session_id: Identifier, unique among sessions and resources; empty lets the server choose.
            energy_kwh: Energy in kWh, grid-side, that it is to get until departure; sent in whole Wh, rounded up. Needs
                the next two.
            departure_time: When it is to leave, with a time zone and in whole milliseconds.
            max_charge_kw: Most that it can draw in kW; sent in whole W, rounded down.
            validate_only: Only check: the session is empty.
            request_id: UUID under which a repeated call gives the same answer; drawn when empty.
            timeout_s: Time for all attempts.

        Raises:
            InvalidRequestError: The session breaks rules; a time without a time zone is told before anything is sent.
            NotFoundError: Vehicle or charge point is not registered.
            ConflictError: Vehicle or charge point is in a session at that time.
        """
        request = opening(
            ev_resource_id, charge_point_resource_id, start_time, session_id, energy_kwh, departure_time,
            max_charge_kw, validate_only, request_id,
        )  # fmt: skip
        answer = self._transport.unary(operations.OPEN_SESSION, request, timeout_s)
        return Session.from_message(answer.session, suspended=answer.suspended_commitment_ids)

    def close_session(
        self,
        session_id: str,
        end_time: datetime | None = None,
        *,
        etag: str = "",
        validate_only: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Session:
        """Tell that a vehicle was unplugged; what was sold of the session ends with it.

        Args:
            session_id: Session that the caller opened.
            end_time: When it was unplugged, with a time zone and in whole milliseconds; None is now.
            etag: When not empty, close it only if the stored one is the same.
            validate_only: Only check: the session is empty.
            request_id: UUID under which a repeated call gives the same answer; drawn when empty.
            timeout_s: Time for all attempts.

        Raises:
            NotFoundError: There is no such session of the caller.
            ConflictError: It is closed already, or the etag differs.
        """
        request = closing(session_id, end_time, etag, validate_only, request_id)
        answer = self._transport.unary(operations.CLOSE_SESSION, request, timeout_s)
        return Session.from_message(answer.session, truncated=answer.truncated_commitment_ids)

    def list_sessions(
        self, resource_id: str = "", *, open_only: bool = False, page_size: int = 0, timeout_s: float | None = None
    ) -> Iterator[Session]:
        """List sessions that the caller opened, or of resources that it registered, the one changed last first.

        Further pages are fetched as they are needed.

        Args:
            resource_id: Only of this vehicle or charge point; empty means all.
            open_only: Only those that are open.
            page_size: Entries asked for at once; 0 takes the server's default.
            timeout_s: Time for each page.
        """
        request = pb.ListSessionsRequest(resource_id=resource_id, open=open_only, page_size=page_size)
        for page in self._transport.pages(operations.LIST_SESSIONS, request, timeout_s):
            yield from map(Session.from_message, page.sessions)
