"""Calls about resources and sessions, asynchronous: the twin of :mod:`evflex.client.activation.sync_resources`."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import datetime

import pandas as pd

from evflex.activation.v1 import activation_service_pb2 as pb
from evflex.client.activation import operations
from evflex.client.activation.enums import ResourceKind
from evflex.client.activation.resource import Aliases, Resource, alias_messages, registration, resources_query
from evflex.client.activation.session import Session, closing, opening
from evflex.client.aio_transport import AsyncTransport


class AsyncResourceCalls:
    """Resources and sessions, for asyncio.

    Methods, arguments and errors are those of :class:`evflex.client.activation.sync_resources.ResourceCalls`.
    """

    _transport: AsyncTransport

    async def register_resources(
        self,
        resources: Sequence[Resource] | pd.DataFrame,
        *,
        validate_only: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> tuple[Resource, ...]:
        """Add resources, and replace those that the caller registered before: all of it or nothing, up to 10 000."""
        request = registration(resources, validate_only, request_id)
        answer = await self._transport.unary(operations.REGISTER_RESOURCES, request, timeout_s)
        return tuple(map(Resource.from_message, answer.resources))

    async def get_resource(self, resource_id: str, *, timeout_s: float | None = None) -> Resource:
        """Fetch a resource, with the others that are the same thing."""
        request = pb.GetResourceRequest(resource_id=resource_id)
        answer = await self._transport.unary(operations.GET_RESOURCE, request, timeout_s)
        return Resource.from_message(answer.resource, answer.same_resource_ids)

    async def list_resources(
        self,
        area_id: str = "",
        *,
        kind: ResourceKind | str = "",
        own: bool = False,
        page_size: int = 0,
        timeout_s: float | None = None,
    ) -> AsyncIterator[Resource]:
        """List resources, the one changed last first; further pages are fetched as they are needed."""
        request = resources_query(area_id, kind, own, page_size)
        async for page in self._transport.pages(operations.LIST_RESOURCES, request, timeout_s):
            for message in page.resources:
                yield Resource.from_message(message)

    async def link_aliases(
        self,
        resource_id: str,
        aliases: Aliases,
        *,
        etag: str = "",
        validate_only: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Resource:
        """Add other names to a resource; resources that share one are one thing from then on."""
        request = pb.LinkAliasesRequest(
            request_id=request_id or str(uuid.uuid4()),
            resource_id=resource_id,
            aliases=alias_messages(aliases),
            etag=etag,
            validate_only=validate_only,
        )
        answer = await self._transport.unary(operations.LINK_ALIASES, request, timeout_s)
        return Resource.from_message(answer.resource, answer.same_resource_ids)

    async def unlink_aliases(
        self,
        resource_id: str,
        aliases: Aliases,
        *,
        etag: str = "",
        validate_only: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Resource:
        """Take names from a resource; what they joined is separate again."""
        request = pb.UnlinkAliasesRequest(
            request_id=request_id or str(uuid.uuid4()),
            resource_id=resource_id,
            aliases=alias_messages(aliases),
            etag=etag,
            validate_only=validate_only,
        )
        answer = await self._transport.unary(operations.UNLINK_ALIASES, request, timeout_s)
        return Resource.from_message(answer.resource, answer.same_resource_ids)

    async def open_session(
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
        """Tell that a vehicle was plugged in; commitments that conflict by it are decided."""
        request = opening(
            ev_resource_id, charge_point_resource_id, start_time, session_id, energy_kwh, departure_time,
            max_charge_kw, validate_only, request_id,
        )  # fmt: skip
        answer = await self._transport.unary(operations.OPEN_SESSION, request, timeout_s)
        return Session.from_message(answer.session, suspended=answer.suspended_commitment_ids)

    async def close_session(
        self,
        session_id: str,
        end_time: datetime | None = None,
        *,
        etag: str = "",
        validate_only: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Session:
        """Tell that a vehicle was unplugged; what was sold of the session ends with it."""
        request = closing(session_id, end_time, etag, validate_only, request_id)
        answer = await self._transport.unary(operations.CLOSE_SESSION, request, timeout_s)
        return Session.from_message(answer.session, truncated=answer.truncated_commitment_ids)

    async def list_sessions(
        self, resource_id: str = "", *, open_only: bool = False, page_size: int = 0, timeout_s: float | None = None
    ) -> AsyncIterator[Session]:
        """List sessions that the caller opened, or of resources that it registered, the one changed last first."""
        request = pb.ListSessionsRequest(resource_id=resource_id, open=open_only, page_size=page_size)
        async for page in self._transport.pages(operations.LIST_SESSIONS, request, timeout_s):
            for message in page.sessions:
                yield Session.from_message(message)
