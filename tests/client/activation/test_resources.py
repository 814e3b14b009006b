"""Resources and sessions of both clients: kW go out as whole watts, towards less sold."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evflex.activation.v1 import activation_service_pb2 as pb
from evflex.activation.v1 import resource_pb2
from evflex.client import InvalidRequestError, Resource, ResourceKind
from tests.client.activation.messages import END, START, UNAVAILABLE, resource_message, session_message
from tests.client.fake_server import FakeServer, answering

PLUG_IN = pd.Timestamp(START)


def test_resources_are_registered_in_whole_watts(client: Any, server: FakeServer) -> None:
    answer = pb.RegisterResourcesResponse(resources=[resource_message()])
    server.on("RegisterResources", UNAVAILABLE, answering(answer))
    car = Resource(
        "car-1", ResourceKind.EV, "site-1", "DK1", up_headroom_kw=7.4009, down_headroom_kw=1.001,
        aliases={"vin": ["W1", "W2"], "emaid": "D"}, etag="e-0",
    )  # fmt: skip
    (registered,) = client.register_resources([car])
    first, second = server.asked("RegisterResources")
    assert first == second
    assert first.request_id
    (sent,) = first.resources
    assert (sent.resource_id, sent.kind, sent.parent_id) == ("car-1", resource_pb2.RESOURCE_KIND_EV, "site-1")
    # 1.001 * 1000 is a little less than 1001 in floating point, and still 1001 W
    assert (sent.up_headroom_w, sent.down_headroom_w, sent.etag) == (7400, 1001, "e-0")
    assert sent.aliases == resource_message().aliases
    assert (registered.kind, registered.up_headroom_kw, registered.down_headroom_kw) == ("EV", 7.4, None)
    assert registered.aliases == {"vin": ("W1", "W2"), "emaid": ("D",)}
    assert (registered.tenant_id, registered.sequence, registered.create_time) == ("agg", 3, PLUG_IN)


def test_no_headroom_is_no_limit_and_zero_is_one(client: Any, server: FakeServer) -> None:
    server.on("RegisterResources", answering(pb.RegisterResourcesResponse()))
    assert client.register_resources([Resource("bay-1", "CHARGE_POINT", up_headroom_kw=0.0)], validate_only=True) == ()
    (request,) = server.asked("RegisterResources")
    assert request.validate_only
    assert request.resources[0].HasField("up_headroom_w")
    assert not request.resources[0].HasField("down_headroom_w")


@pytest.mark.parametrize("indexed", [False, True])
def test_a_table_of_resources_is_registered(client: Any, server: FakeServer, indexed: bool) -> None:
    server.on("RegisterResources", answering(pb.RegisterResourcesResponse()))
    table = pd.DataFrame(
        {
            "resource_id": ["site-1", "car-1"],
            "kind": ["SITE", "EV"],
            "parent_id": [None, "site-1"],
            "up_headroom_kw": [np.nan, 7.4],
            "aliases.vin": [None, "W1"],
        }
    )
    client.register_resources(table.set_index("resource_id") if indexed else table)
    site, car = server.asked("RegisterResources")[0].resources
    assert site == resource_pb2.Resource(resource_id="site-1", kind=resource_pb2.RESOURCE_KIND_SITE)
    assert car == resource_pb2.Resource(
        resource_id="car-1", kind=resource_pb2.RESOURCE_KIND_EV, parent_id="site-1", up_headroom_w=7400,
        aliases=[{"scheme": "vin", "value": "W1"}],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("resources", "problem"),
    [
        ([Resource("a", "CAR")], r"resources\[0\]\.kind: unknown resource kind 'CAR'; known are EV, CHARGE_POINT"),
        (
            [Resource("a", "EV", up_headroom_kw=float("nan"))],
            r"resources\[0\]\.up_headroom_kw: must be a finite number",
        ),
        (pd.DataFrame({"resource_id": ["a"], "kid": ["EV"]}), "resources.kind: the column is missing"),
        (
            pd.DataFrame({"resource_id": ["a"], "kind": "EV", "up_headrom_kw": 1}),
            "resources.up_headrom_kw: unknown column; did you mean up_headroom_kw?",
        ),
        (
            pd.DataFrame({"resource_id": ["a"], "kind": "EV", "up_headroom_kw": "much"}),
            "resources.up_headroom_kw: row 0 must be a number, is 'much'",
        ),
    ],
)
def test_resources_that_cannot_be_written_are_not_sent(
    client: Any, server: FakeServer, resources: Any, problem: str
) -> None:
    with pytest.raises(InvalidRequestError, match=problem):
        client.register_resources(resources)
    assert server.calls == []


def test_a_resource_is_fetched_with_what_is_the_same_thing(client: Any, server: FakeServer) -> None:
    answer = pb.GetResourceResponse(resource=resource_message(), same_resource_ids=["car-1b"])
    server.on("GetResource", answering(answer))
    assert client.get_resource("car-1").same_resource_ids == ("car-1b",)
    assert server.asked("GetResource")[0].resource_id == "car-1"


def test_resources_are_listed_over_pages(client: Any, server: FakeServer) -> None:
    server.on(
        "ListResources",
        answering(pb.ListResourcesResponse(resources=[resource_message("a")], next_page_token="more")),
        answering(pb.ListResourcesResponse(resources=[resource_message("b")])),
    )
    found = list(client.list_resources("DK1", kind="EV", own=True, page_size=1))
    assert [resource.resource_id for resource in found] == ["a", "b"]
    first, second = server.asked("ListResources")
    assert (first.area_id, first.kind, first.own, first.page_size) == ("DK1", resource_pb2.RESOURCE_KIND_EV, True, 1)
    assert second.page_token == "more"
    with pytest.raises(InvalidRequestError, match="unknown resource kind 'VAN'"):
        list(client.list_resources(kind="VAN"))


@pytest.mark.parametrize("rpc", ["LinkAliases", "UnlinkAliases"])
def test_aliases_are_linked_and_unlinked(client: Any, server: FakeServer, rpc: str) -> None:
    kind = getattr(pb, f"{rpc}Response")
    server.on(rpc, UNAVAILABLE, answering(kind(resource=resource_message(), same_resource_ids=["car-2"])))
    call = client.link_aliases if rpc == "LinkAliases" else client.unlink_aliases
    resource = call("car-1", {"vin": "W1", "emaid": ("D", "E")}, etag="e-1", validate_only=True)
    assert (resource.resource_id, resource.same_resource_ids) == ("car-1", ("car-2",))
    first, second = server.asked(rpc)
    assert first == second
    assert first.request_id
    assert (first.resource_id, first.etag, first.validate_only) == ("car-1", "e-1", True)
    assert [(alias.scheme, alias.value) for alias in first.aliases] == [("vin", "W1"), ("emaid", "D"), ("emaid", "E")]


def test_a_session_is_opened_with_a_need_rounded_towards_less_sold(client: Any, server: FakeServer) -> None:
    answer = pb.OpenSessionResponse(session=session_message(), suspended_commitment_ids=["c-1"])
    server.on("OpenSession", UNAVAILABLE, answering(answer))
    session = client.open_session(
        "car-1", "bay-1", PLUG_IN.tz_convert("Europe/Copenhagen"), session_id="s-1", energy_kwh=20.0001,
        departure_time=datetime.fromisoformat("2026-03-05T07:00:00+01:00"), max_charge_kw=11.0009,
    )  # fmt: skip
    first, second = server.asked("OpenSession")
    assert first == second
    sent, expected = first.session, session_message()
    for output in ("tenant_id", "area_id", "etag", "sequence"):
        expected.ClearField(output)
    assert sent == expected
    assert (session.start_time, session.end_time, session.energy_kwh, session.max_charge_kw) == (
        PLUG_IN, None, 20.001, 11.0,
    )  # fmt: skip
    assert session.suspended_commitment_ids == ("c-1",)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"start_time": datetime(2026, 3, 4, 17)}, "start_time: start_time must have a time zone"),
        (
            {"start_time": PLUG_IN + pd.Timedelta("1us")},
            r"start_time: must be a whole millisecond, is 2026-03-04 17:00:00.000001\+00:00",
        ),
        ({"departure_time": datetime(2026, 3, 5)}, "departure_time must have a time zone"),
        ({"energy_kwh": float("inf")}, "energy_kwh: must be a finite number, is inf"),
    ],
)
def test_a_session_that_cannot_be_written_is_not_sent(
    client: Any, server: FakeServer, change: dict[str, Any], problem: str
) -> None:
    given = {"ev_resource_id": "car-1", "charge_point_resource_id": "bay-1", "start_time": PLUG_IN} | change
    with pytest.raises(InvalidRequestError, match=problem):
        client.open_session(**given)
    assert server.calls == []


def test_a_session_is_closed_now_or_then(client: Any, server: FakeServer) -> None:
    answer = pb.CloseSessionResponse(session=session_message(END), truncated_commitment_ids=["c-2"])
    server.on("CloseSession", answering(answer))
    session = client.close_session("s-1")
    assert (session.end_time, session.truncated_commitment_ids) == (pd.Timestamp(END), ("c-2",))
    client.close_session("s-1", pd.Timestamp(END), etag="e-2")
    now, then = server.asked("CloseSession")
    assert not now.HasField("end_time")
    assert (then.end_time.ToJsonString(), then.etag) == (END, "e-2")
    with pytest.raises(InvalidRequestError, match="end_time: must be a whole millisecond"):
        client.close_session("s-1", pd.Timestamp("2026-03-04T18:00:00.0000005Z"))


def test_sessions_are_listed(client: Any, server: FakeServer) -> None:
    server.on("ListSessions", answering(pb.ListSessionsResponse(sessions=[session_message()])))
    (session,) = client.list_sessions("car-1", open_only=True)
    assert session.session_id == "s-1"
    assert server.asked("ListSessions")[0] == pb.ListSessionsRequest(resource_id="car-1", open=True)
