"""Policies of products and areas."""

from __future__ import annotations

from evflex.activation.v1 import activation_service_pb2 as api
from evflex.activation.v1 import policy_pb2
from evflex.engine.validation import Rules
from evflex.server.activation.decode import check_policy
from evflex.server.activation.keeper import Done, LedgerKeeper
from evflex.server.activation.turn import Turn
from evflex.server.activation.world import LedgerWorld
from evflex.server.caller import Caller
from evflex.server.errors import not_found
from evflex.server.fields import check_id, check_request_id, refuse
from evflex.server.store.requests import check_etag


class Policies:
    """Keeps policies."""

    def __init__(self, keeper: LedgerKeeper) -> None:
        """Write to a ledger."""
        self._keeper = keeper

    def get(self, request: api.GetActivationPolicyRequest, caller: Caller) -> api.GetActivationPolicyResponse:
        """The policy that holds for a product in an area, with the cap of the area.

        Raises:
            ServiceError: INVALID_ARGUMENT; PERMISSION_DENIED for an area.
        """
        rules = Rules()
        check_id(rules, "area_id", request.area_id)
        check_id(rules, "product_id", request.product_id)
        refuse(rules)
        if request.area_id:
            caller.require_area(request.area_id)

        def see(world: LedgerWorld) -> policy_pb2.ActivationPolicy:
            registry = world.ledger.registry
            holds = registry.policy(request.area_id, request.product_id)
            message = policy_pb2.ActivationPolicy()
            stored = world.policies.get((holds.area_id, holds.product_id))
            if stored is not None and not stored.deleted:
                message.CopyFrom(stored)
            cap_w = registry.cap_w(request.area_id)
            message.ClearField("aggregator_cap_w")
            if cap_w is not None:
                message.aggregator_cap_w = cap_w
            return message

        return api.GetActivationPolicyResponse(policy=self._keeper.look(see))

    def page(self, caller: Caller, before_sequence: int | None, size: int) -> list[policy_pb2.ActivationPolicy]:
        """Policies, the one changed last first."""
        return self._keeper.store.policies_page(before_sequence, size, caller.areas)

    def set(self, request: api.SetActivationPolicyRequest, caller: Caller) -> api.SetActivationPolicyResponse:
        """Set the policy of a product in an area.

        Raises:
            ServiceError: INVALID_ARGUMENT; PERMISSION_DENIED for an area; ABORTED for another etag.
        """
        rules = Rules()
        check_request_id(rules, request.request_id, required=not request.validate_only)
        rules.check(request.HasField("policy"), "policy", "must be set")
        check_policy(rules, request.policy)
        refuse(rules)
        _require_area(caller, request.policy.area_id)
        wanted = request.policy

        def work(turn: Turn) -> Done:
            message = policy_pb2.ActivationPolicy(
                area_id=wanted.area_id, product_id=wanted.product_id, kind=wanted.kind, sold_side=wanted.sold_side
            )
            if wanted.HasField("aggregator_cap_w"):
                message.aggregator_cap_w = wanted.aggregator_cap_w
            _write(turn, caller, message, request.etag)
            shown = None if request.validate_only else message
            return Done(api.SetActivationPolicyResponse(policy=shown), "", message.area_id)

        return self._keeper.change("SetActivationPolicy", request, caller, api.SetActivationPolicyResponse, work)

    def delete(self, request: api.DeleteActivationPolicyRequest, caller: Caller) -> api.DeleteActivationPolicyResponse:
        """Delete the policy of a product in an area; what holds without it holds then.

        Raises:
            ServiceError: INVALID_ARGUMENT; PERMISSION_DENIED for an area; NOT_FOUND; ABORTED for another etag.
        """
        rules = Rules()
        check_request_id(rules, request.request_id, required=not request.validate_only)
        check_id(rules, "area_id", request.area_id)
        check_id(rules, "product_id", request.product_id)
        refuse(rules)
        _require_area(caller, request.area_id)

        def work(turn: Turn) -> Done:
            before = turn.world.policies.get((request.area_id, request.product_id))
            if before is None or before.deleted:
                raise not_found("policy", f"{request.area_id}/{request.product_id}")
            message = policy_pb2.ActivationPolicy(area_id=request.area_id, product_id=request.product_id, deleted=True)
            _write(turn, caller, message, request.etag)
            return Done(api.DeleteActivationPolicyResponse(), "", request.area_id)

        return self._keeper.change("DeleteActivationPolicy", request, caller, api.DeleteActivationPolicyResponse, work)


def _write(turn: Turn, caller: Caller, message: policy_pb2.ActivationPolicy, etag: str) -> None:
    before = turn.world.policies.get((message.area_id, message.product_id))
    if before is not None:
        check_etag("policy", etag, before.etag)
        message.version = before.version
        message.create_time.CopyFrom(before.create_time)
    else:
        check_etag("policy", etag, "")
    message.version += 1
    message.tenant_id = caller.tenant_id
    turn.put_policy(message)


def _require_area(caller: Caller, area_id: str) -> None:
    """A policy of all areas is for those who may use all."""
    if caller.areas is not None:
        caller.require_area(area_id)
