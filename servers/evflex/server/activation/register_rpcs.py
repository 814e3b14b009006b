"""RPCs of resources, sessions and policies, each in a few lines."""

from __future__ import annotations

import grpc

from evflex.activation.v1 import activation_service_pb2 as api
from evflex.activation.v1 import resource_pb2
from evflex.engine.validation import Rules
from evflex.server.activation.policies import Policies
from evflex.server.activation.registering import Register, shown_to
from evflex.server.activation.sessions import Sessions
from evflex.server.calls import current_call
from evflex.server.fields import check_id, refuse
from evflex.server.pages import check_page_size, page_of


class RegisterRpcs:
    """The part of ActivationService that is about what there is."""

    def __init__(self, register: Register, sessions: Sessions, policies: Policies) -> None:
        """Serve these."""
        self._register = register
        self._sessions = sessions
        self._policies = policies

    def RegisterResources(  # noqa: N802
        self, request: api.RegisterResourcesRequest, context: grpc.ServicerContext
    ) -> api.RegisterResourcesResponse:
        """Add resources, and change those of the caller."""
        return self._register.register(request, current_call().caller)

    def GetResource(  # noqa: N802
        self, request: api.GetResourceRequest, context: grpc.ServicerContext
    ) -> api.GetResourceResponse:
        """Return a resource."""
        return self._register.get(request, current_call().caller)

    def ListResources(  # noqa: N802
        self, request: api.ListResourcesRequest, context: grpc.ServicerContext
    ) -> api.ListResourcesResponse:
        """List resources, the one changed last first."""
        rules = Rules()
        check_id(rules, "area_id", request.area_id)
        known = request.kind in resource_pb2.ResourceKind.values()
        rules.check(known, "kind", f"must be a known ResourceKind, is {request.kind}")
        check_page_size(rules, request.page_size)
        refuse(rules)
        caller = current_call().caller
        rows, next_page_token = page_of(
            f"ListResources {request.area_id}\0{request.kind}\0{request.own}",
            request.page_size,
            request.page_token,
            lambda before, size: self._register.page(request, caller, before, size),
        )
        shown = [shown_to(caller, row) for row in rows]
        return api.ListResourcesResponse(resources=shown, next_page_token=next_page_token)

    def LinkAliases(  # noqa: N802
        self, request: api.LinkAliasesRequest, context: grpc.ServicerContext
    ) -> api.LinkAliasesResponse:
        """Add aliases to a resource."""
        return self._register.link(request, current_call().caller)

    def UnlinkAliases(  # noqa: N802
        self, request: api.UnlinkAliasesRequest, context: grpc.ServicerContext
    ) -> api.UnlinkAliasesResponse:
        """Take aliases from a resource."""
        return self._register.unlink(request, current_call().caller)

    def OpenSession(  # noqa: N802
        self, request: api.OpenSessionRequest, context: grpc.ServicerContext
    ) -> api.OpenSessionResponse:
        """Open a session."""
        return self._sessions.open(request, current_call().caller)

    def CloseSession(  # noqa: N802
        self, request: api.CloseSessionRequest, context: grpc.ServicerContext
    ) -> api.CloseSessionResponse:
        """Close a session."""
        return self._sessions.close(request, current_call().caller)

    def ListSessions(  # noqa: N802
        self, request: api.ListSessionsRequest, context: grpc.ServicerContext
    ) -> api.ListSessionsResponse:
        """List sessions, the one changed last first."""
        rules = Rules()
        check_id(rules, "resource_id", request.resource_id)
        check_page_size(rules, request.page_size)
        refuse(rules)
        caller = current_call().caller
        rows, next_page_token = page_of(
            f"ListSessions {request.resource_id}\0{request.open}",
            request.page_size,
            request.page_token,
            lambda before, size: self._sessions.page(request, caller, before, size),
        )
        return api.ListSessionsResponse(sessions=rows, next_page_token=next_page_token)

    def GetActivationPolicy(  # noqa: N802
        self, request: api.GetActivationPolicyRequest, context: grpc.ServicerContext
    ) -> api.GetActivationPolicyResponse:
        """Return the policy that holds for a product in an area."""
        return self._policies.get(request, current_call().caller)

    def ListActivationPolicies(  # noqa: N802
        self, request: api.ListActivationPoliciesRequest, context: grpc.ServicerContext
    ) -> api.ListActivationPoliciesResponse:
        """List policies, the one changed last first."""
        rules = Rules()
        check_page_size(rules, request.page_size)
        refuse(rules)
        caller = current_call().caller
        rows, next_page_token = page_of(
            "ListActivationPolicies",
            request.page_size,
            request.page_token,
            lambda before, size: self._policies.page(caller, before, size),
        )
        shown = [row for row in rows if not row.deleted]
        return api.ListActivationPoliciesResponse(policies=shown, next_page_token=next_page_token)

    def SetActivationPolicy(  # noqa: N802
        self, request: api.SetActivationPolicyRequest, context: grpc.ServicerContext
    ) -> api.SetActivationPolicyResponse:
        """Set the policy of a product in an area."""
        return self._policies.set(request, current_call().caller)

    def DeleteActivationPolicy(  # noqa: N802
        self, request: api.DeleteActivationPolicyRequest, context: grpc.ServicerContext
    ) -> api.DeleteActivationPolicyResponse:
        """Delete the policy of a product in an area."""
        return self._policies.delete(request, current_call().caller)
