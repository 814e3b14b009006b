"""What a hub of a request is entitled to: terms that the server keeps, or that stand in the request itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import inf, isfinite
from typing import Protocol

from evflex.capacity.v1 import agreement_pb2, hub_pb2
from evflex.engine.validation import Rules
from evflex.server.caller import Caller
from evflex.server.capacity.agreements import ActiveTerms
from evflex.server.capacity.terms import Terms, read_terms
from evflex.server.fields import check_id


class AgreementTerms(Protocol):
    """Agreements that the server keeps."""

    def all_active_terms(self, caller: Caller, agreement_ids: Collection[str]) -> Mapping[str, ActiveTerms]:
        """Terms in force of those of these agreements that are active, and that the caller may share by."""


def agreed_terms(agreements: AgreementTerms, hubs: Sequence[hub_pb2.Hub], caller: Caller) -> Mapping[str, ActiveTerms]:
    """Terms in force of the agreements that hubs name, but for those that the caller may not share by."""
    return agreements.all_active_terms(caller, {hub.agreement_id for hub in hubs if hub.agreement_id})


def terms_of_hub(
    rules: Rules, hub: hub_pb2.Hub, transformer_id: str, agreed: Mapping[str, ActiveTerms], path: str
) -> Terms:
    """What a hub is entitled to; a fault is reported, and such terms grant nothing.

    Args:
        rules: Receives the faults.
        hub: The hub.
        transformer_id: Transformer that feeds it.
        agreed: What :func:`agreed_terms` has found.
        path: Where the hub stands in the request.
    """
    check_id(rules, f"{path}.agreement_id", hub.agreement_id)
    if hub.HasField("agreement"):
        rules.check(not hub.agreement_id, f"{path}.agreement_id", "must be empty where agreement is given")
        return _inline(rules, hub.agreement, hub.hub_id, transformer_id, f"{path}.agreement")
    if not hub.agreement_id:
        # a fault of max_kw is not told twice
        return all_conditional(hub.max_kw if isfinite(hub.max_kw) and hub.max_kw > 0.0 else 0.0)
    found = agreed.get(hub.agreement_id)
    if found is None or (found.hub_id, found.transformer_id) != (hub.hub_id, transformer_id):
        rules.check(False, f"{path}.agreement_id", "must name an active agreement of this hub and transformer")
        return all_conditional(0.0)
    return found.terms


def all_conditional(max_kw: float) -> Terms:
    """Terms where there is no agreement: all may be curtailed, at no compensation."""
    return Terms(0.0, max_kw, 0, 0.0, 0.0, "", -inf, inf)


def _inline(rules: Rules, message: agreement_pb2.Agreement, hub_id: str, transformer_id: str, path: str) -> Terms:
    """An agreement in a request need not repeat what it is about, but may not contradict it."""
    rules.check(message.hub_id in ("", hub_id), f"{path}.hub_id", "must be empty or that of the hub")
    same = message.transformer_id in ("", transformer_id)
    rules.check(same, f"{path}.transformer_id", "must be empty or that of the request's transformer")
    found = Rules()
    terms = read_terms(found, path, message)
    rules.violations += found.violations
    return all_conditional(0.0) if found.violations else terms
