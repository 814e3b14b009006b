"""The one place that says who calls; authentication will replace exactly this."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from google.rpc import code_pb2

from evflex.server.errors import ServiceError
from evflex.server.settings import Settings

TENANT_KEY = "evflex-tenant"
MAX_TENANT_LENGTH = 64
TENANT_RULE = f"must be 1 to {MAX_TENANT_LENGTH} letters, digits, hyphens or underscores"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, and what for.

    Attributes:
        tenant_id: Owner of everything the caller stores and sees.
        scopes: Scopes held, such as `charging.read`; None means all.
        areas: Grid areas that the caller may use; None means all.
    """

    tenant_id: str
    scopes: frozenset[str] | None = None
    areas: frozenset[str] | None = None

    def require_scope(self, scope: str) -> None:
        """Raise PERMISSION_DENIED unless the caller holds `scope`."""
        if self.scopes is not None and scope not in self.scopes:
            raise ServiceError(
                code_pb2.PERMISSION_DENIED,
                "SCOPE_MISSING",
                f"needs the scope {scope}",
                metadata={"scope": scope},
            )

    def require_area(self, area_id: str) -> None:
        """Raise PERMISSION_DENIED unless the caller may use this area."""
        if not self.may_use_area(area_id):
            raise ServiceError(code_pb2.PERMISSION_DENIED, "AREA_NOT_ALLOWED", "the caller may not use this area_id")

    def may_use_area(self, area_id: str) -> bool:
        """Whether the caller may read and write things of this area."""
        return self.areas is None or area_id in self.areas


class CallerResolver(Protocol):
    """Says who calls."""

    def __call__(self, metadata: Sequence[tuple[str, str | bytes]], peer: str) -> Caller:
        """Resolve the caller of an RPC.

        Args:
            metadata: The call's metadata; keys are lower case.
            peer: Address of the caller as gRPC writes it, such as `ipv4:127.0.0.1:5000`.

        Raises:
            ServiceError: The caller cannot be admitted.
        """


@dataclass(frozen=True, slots=True)
class TrustingResolver:
    """Trusts callers on this machine to name their tenant; all others are the default tenant.

    A caller from elsewhere gets here only when the operator allows insecure listening.
    """

    default_tenant: str

    def __call__(self, metadata: Sequence[tuple[str, str | bytes]], peer: str) -> Caller:
        """See :class:`CallerResolver`."""
        named = [value for key, value in metadata if key == TENANT_KEY]
        if not named or not _is_local(peer):
            return Caller(self.default_tenant)
        tenant_id = named[-1]
        if not isinstance(tenant_id, str) or not is_tenant_id(tenant_id):
            raise ServiceError(code_pb2.UNAUTHENTICATED, "TENANT_INVALID", f"metadata {TENANT_KEY} {TENANT_RULE}")
        return Caller(tenant_id)


def caller_resolver(settings: Settings) -> CallerResolver:
    """The resolver that the settings ask for."""
    return TrustingResolver(settings.default_tenant)


def is_tenant_id(text: str) -> bool:
    """Whether a tenant may be called so."""
    plain = text.isascii() and text.replace("-", "").replace("_", "").isalnum()
    return 0 < len(text) <= MAX_TENANT_LENGTH and plain


def _is_local(peer: str) -> bool:
    kind, _, address = peer.partition(":")
    if kind == "unix":
        return True
    return address.startswith(("127.", "[::1]", "%5B::1%5D", "[::ffff:127."))
