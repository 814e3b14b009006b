"""Who sees and changes what: commitments of others, areas and scopes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evflex.activation.v1 import activation_service_pb2 as api
from evflex.server.caller import Caller
from tests.server.activation.conftest import furnish
from tests.server.activation.support import (
    AGG,
    HELD,
    HOUR_MS,
    Party,
    RunningLedger,
    activate,
    at,
    audit,
    complete,
    confirm,
    error_of,
    get,
    held,
    hold,
    plug_in,
    pool,
    reallocate,
    refusal_of,
    register,
    release,
    resource,
    running_ledger,
    sale,
    set_policy,
    settle,
    sold,
    state,
    unplug,
)
from tests.server.support import violations_of


def test_commitments_of_others_are_not_found(here: RunningLedger) -> None:
    name = held(here.agg, sale())[0].commitment_id
    for call in (confirm, activate, complete, settle, release, get):
        assert refusal_of(call, here.rival, name) == ("NOT_FOUND", "NOT_FOUND"), call
    assert refusal_of(reallocate, here.rival, name, {"ev": 1}) == ("NOT_FOUND", "NOT_FOUND")
    assert not here.rival.ListCommitments(api.ListCommitmentsRequest()).commitments
    assert state(here.agg, name) == HELD


def test_commitments_are_listed_the_last_first_in_pages(here: RunningLedger) -> None:
    names = [one.commitment_id for one in held(here.agg, *(sale("ev", 1, end_ms=HOUR_MS + i) for i in range(5)))]
    confirm(here.agg, names[0])
    seen: list[str] = []
    token = ""
    while True:
        page = here.agg.ListCommitments(api.ListCommitmentsRequest(page_size=2, page_token=token))
        seen += [one.commitment_id for one in page.commitments]
        token = page.next_page_token
        if not token:
            break
    assert seen == names[::-1]
    listed = here.agg.ListCommitments(api.ListCommitmentsRequest(state="COMMITMENT_STATE_CONFIRMED")).commitments
    assert [one.commitment_id for one in listed] == names[:1]
    listed = here.agg.ListCommitments(api.ListCommitmentsRequest(from_time=at(HOUR_MS + 3))).commitments
    assert [one.commitment_id for one in listed] == names[4:]
    assert not here.agg.ListCommitments(api.ListCommitmentsRequest(product_id="other")).commitments


def areas_of_metadata(metadata: Any, peer: str) -> Caller:
    """Trusts what a test says of tenant, areas and scopes."""
    said = dict(metadata)
    areas, scopes = said.get("evflex-areas"), said.get("evflex-scopes")
    return Caller(
        said["evflex-tenant"],
        None if scopes is None else frozenset(scopes.split(",")),
        None if areas is None else frozenset(areas.split(",")),
    )


def limited(here: RunningLedger, tenant_id: str, **limits: str) -> Party:
    """A caller with areas or scopes."""
    more = tuple((f"evflex-{name}", value) for name, value in limits.items())

    class Limited(Party):
        def __getattr__(self, name: str) -> Callable[[Any], Any]:
            method = getattr(here.party(tenant_id).stub, name)
            return lambda request: method(request, metadata=(("evflex-tenant", tenant_id), *more), timeout=60.0)

    return Limited(None, tenant_id)


@pytest.fixture
def with_areas(tmp_path: Path) -> Iterator[RunningLedger]:
    with running_ledger(tmp_path, resolve_caller=areas_of_metadata) as server:
        furnish(server)
        register(server.cpo, resource("ev-south", area_id="south"))
        yield server


def test_caller_of_one_area_sells_and_sees_nothing_in_another(with_areas: RunningLedger) -> None:
    here = with_areas
    northern = limited(here, AGG, areas="north")
    (one,) = sold(here.agg, sale("ev-south", 1))
    assert set(violations_of(error_of(hold, northern, sale("ev-south", 1)))) == {"commitments[0].resource_id"}
    refused = error_of(hold, northern, pool({"ev": 1, "ev-south": 1}))
    assert set(violations_of(refused)) == {"commitments[0].allocation[1].resource_id"}
    for call in (confirm, activate, complete, settle, release, get):
        assert refusal_of(call, northern, one.commitment_id) == ("NOT_FOUND", "NOT_FOUND"), call
    assert not northern.ListCommitments(api.ListCommitmentsRequest()).commitments
    held(northern, sale("ev", 1))
    assert refusal_of(northern.GetResource, api.GetResourceRequest(resource_id="ev-south"))[0] == "NOT_FOUND"
    assert refusal_of(register, northern, resource("x", area_id="south")) == ("PERMISSION_DENIED", "AREA_NOT_ALLOWED")
    listed = northern.ListResources(api.ListResourcesRequest()).resources
    assert "ev-south" not in {one.resource_id for one in listed}
    assert set(violations_of(error_of(plug_in, northern, "ev-south", "cp"))) == {"session.ev_resource_id"}


def test_resource_is_not_taken_out_of_an_area_by_who_may_not_use_it(with_areas: RunningLedger) -> None:
    northern = limited(with_areas, "cpo", areas="north")
    assert refusal_of(register, northern, resource("ev-south", area_id="north")) == (
        "PERMISSION_DENIED", "AREA_NOT_ALLOWED",
    )  # fmt: skip


def test_scope_is_needed(with_areas: RunningLedger) -> None:
    reader = limited(with_areas, AGG, scopes="activation.read")
    name = held(with_areas.agg, sale())[0].commitment_id
    assert state(reader, name) == HELD
    for call, arguments in (
        (hold, [sale("ev-2")]), (confirm, [name]), (activate, [name]), (complete, [name]), (settle, [name]),
        (release, [name]), (register, [resource("x")]), (plug_in, ["ev", "cp"]), (unplug, ["s"]), (set_policy, []),
        (audit, []),
    ):  # fmt: skip
        assert refusal_of(call, reader, *arguments) == ("PERMISSION_DENIED", "SCOPE_MISSING"), call
    assert reader.ListCommitments(api.ListCommitmentsRequest()).commitments
    seller = limited(with_areas, AGG, scopes="activation.sell")
    assert confirm(seller, name).confirmed
    assert refusal_of(activate, seller, name) == ("PERMISSION_DENIED", "SCOPE_MISSING")
