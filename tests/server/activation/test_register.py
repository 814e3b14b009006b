"""What there is: resources registered, changed, joined by aliases and separated, by who owns them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evflex.activation.v1 import activation_service_pb2 as api
from evflex.activation.v1 import audit_pb2
from tests.server.activation.conftest import furnish
from tests.server.activation.support import (
    AGG,
    CHARGE_POINT,
    CONFIRMED,
    CPO,
    EV,
    HOUR_MS,
    MINUTE_MS,
    SESSION,
    SITE,
    SUSPENDED,
    Party,
    RunningLedger,
    alias,
    at,
    audit,
    error_of,
    held,
    hold,
    kinds,
    link,
    new_id,
    plug_in,
    refusal_of,
    register,
    resource,
    running_ledger,
    sale,
    set_policy,
    sold,
    state,
    unlink,
    unplug,
)
from tests.server.support import violations_of


def get(party: Party, resource_id: str) -> api.GetResourceResponse:
    return party.GetResource(api.GetResourceRequest(resource_id=resource_id))  # type: ignore[no-any-return]


def listed(party: Party, **fields: Any) -> list[str]:
    names: list[str] = []
    token = ""
    while True:
        page = party.ListResources(api.ListResourcesRequest(**({"page_token": token} | fields)))
        names += [one.resource_id for one in page.resources]
        token = page.next_page_token
        if not token:
            return names


def test_resource_is_registered_changed_and_seen(tmp_path: Path, ledger_database_url: str) -> None:
    with running_ledger(tmp_path, ledger_database_url) as here:
        asked = resource("ev", up_w=None, up_headroom_w=0, aliases=[alias("WVW1"), alias("WVW1")])
        (first,) = register(here.cpo, asked)
        assert (first.tenant_id, first.sequence, first.area_id, first.kind) == (CPO, 1, "north", EV)
        assert (first.up_headroom_w, first.HasField("down_headroom_w")) == (0, False)
        assert first.create_time == first.update_time == at(0)
        assert list(first.aliases) == [alias("WVW1")]
        here.clock.set_ms(MINUTE_MS)
        (second,) = register(here.cpo, resource("ev", etag=first.etag))
        assert (second.create_time, second.update_time, second.sequence) == (at(0), at(MINUTE_MS), 2)
        assert (second.etag != first.etag, second.up_headroom_w, len(second.aliases)) == (True, 10_000, 0)
        assert get(here.cpo, "ev").resource == second
        assert get(here.stranger, "ev").resource == second
        assert refusal_of(register, here.cpo, resource("ev", etag=first.etag)) == ("ABORTED", "ETAG_MISMATCH")
        assert refusal_of(get, here.cpo, "other") == ("NOT_FOUND", "NOT_FOUND")


def test_resources_are_listed_the_one_changed_last_first(here: RunningLedger) -> None:
    register(here.rival, resource("mine", area_id="south"))
    register(here.cpo, resource("ev"))
    everything = ["ev", "mine", "site", "cp-2", "cp", "ev-2"]
    assert sorted(listed(here.cpo)) == sorted(everything)
    assert listed(here.cpo)[:2] == ["ev", "mine"]
    assert listed(here.cpo, page_size=2) == listed(here.cpo)
    assert listed(here.rival, own=True) == ["mine"]
    assert listed(here.rival, area_id="south") == ["mine"]
    assert listed(here.rival, kind=SITE) == ["site"]


def test_only_the_owner_changes_a_resource(here: RunningLedger) -> None:
    for call, arguments in ((register, [resource("ev")]), (link, ["ev", alias("x")]), (unlink, ["ev", alias("x")])):
        assert refusal_of(call, here.rival, *arguments) == ("PERMISSION_DENIED", "NOT_OWNER"), call
    # nothing of a request is done where one is another's
    assert refusal_of(register, here.rival, resource("new"), resource("ev")) == ("PERMISSION_DENIED", "NOT_OWNER")
    assert refusal_of(get, here.cpo, "new") == ("NOT_FOUND", "NOT_FOUND")


def test_parents_may_stand_in_any_order(here: RunningLedger) -> None:
    chain = [resource(f"n{i}", SITE, parent_id=f"n{i + 1}" if i < 4 else "site") for i in range(5)]
    for order in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 0, 4, 1, 3]):
        made = register(here.cpo, *(chain[i] for i in order))
        assert [one.resource_id for one in made] == [f"n{i}" for i in order]


def test_parent_must_be_registered(here: RunningLedger) -> None:
    refused = error_of(register, here.cpo, resource("a"), resource("b", parent_id="unknown"))
    assert set(violations_of(refused)) == {"resources[1].parent_id"}
    assert refusal_of(get, here.cpo, "a")[0] == "NOT_FOUND"


def test_nothing_is_behind_itself(here: RunningLedger) -> None:
    assert set(violations_of(error_of(register, here.cpo, resource("a", parent_id="a")))) == {"resources[0].parent_id"}
    refused = error_of(register, here.cpo, resource("a", parent_id="b"), resource("b", parent_id="a"))
    assert set(violations_of(refused)) == {"resources[0].parent_id"}
    register(here.cpo, resource("a", SITE), resource("b", SITE, parent_id="a"))
    assert refusal_of(register, here.cpo, resource("a", SITE, parent_id="b")) == ("FAILED_PRECONDITION", "CYCLE")
    register(here.cpo, resource("a", SITE, parent_id="b"), resource("b", SITE))


def test_nothing_is_behind_itself_by_an_alias(here: RunningLedger) -> None:
    register(here.cpo, resource("a", SITE, aliases=[alias("x")]), resource("b", SITE, parent_id="a"))
    assert refusal_of(link, here.cpo, "b", alias("x")) == ("FAILED_PRECONDITION", "CYCLE")
    assert refusal_of(register, here.cpo, resource("c", SITE, parent_id="b", aliases=[alias("x")]))[1] == "CYCLE"
    assert get(here.cpo, "b").resource.aliases == []
    assert not get(here.cpo, "b").same_resource_ids


def test_one_thing_is_of_one_kind(here: RunningLedger) -> None:
    link(here.cpo, "ev", alias("x"))
    assert refusal_of(link, here.cpo, "cp", alias("x")) == ("FAILED_PRECONDITION", "KINDS_DIFFER")
    assert refusal_of(register, here.rival, resource("new", SITE, aliases=[alias("x")]))[1] == "KINDS_DIFFER"
    assert link(here.cpo, "cp", alias("x", "evse_id")).same_resource_ids == [], "another scheme"


def test_alias_joins_and_separates(here: RunningLedger) -> None:
    link(here.cpo, "ev", alias("x"), alias("y"))
    joined = link(here.cpo, "ev-2", alias("y"))
    assert joined.same_resource_ids == ["ev"]
    assert get(here.cpo, "ev").same_resource_ids == ["ev-2"]
    register(here.rival, resource("theirs", aliases=[alias("x")]))
    assert get(here.cpo, "ev-2").same_resource_ids == ["ev", "theirs"]
    held(here.agg, sale("ev", 6_000))
    assert kinds(hold(here.agg, sale("theirs", 5_000))) == ["ALIAS_SALE"]
    assert unlink(here.cpo, "ev", alias("x")).same_resource_ids == ["ev-2"]
    held(here.agg, sale("theirs", 5_000))
    assert kinds(hold(here.agg, sale("ev-2", 5_000))) == ["ALIAS_SALE"]
    assert set(violations_of(error_of(unlink, here.cpo, "ev", alias("y"), alias("x")))) == {"aliases[1]"}
    assert unlink(here.cpo, "ev", alias("y")).same_resource_ids == []
    held(here.agg, sale("ev-2", 5_000))


def test_joining_and_separating_is_written_down(here: RunningLedger) -> None:
    link(here.cpo, "ev", alias("x"))
    unlink(here.cpo, "ev", alias("x"))
    events = [audit_pb2.LedgerEvent.FromString(record.event).resource for record in audit(here.cpo)][-2:]
    assert [(one.resource_id, list(one.aliases)) for one in events] == [("ev", [alias("x")]), ("ev", [])]


def test_checking_only_leaves_things_as_they_are(here: RunningLedger) -> None:
    link(here.cpo, "ev", alias("x"))
    link(here.cpo, "ev-2", alias("x"))
    held(here.agg, sale("ev", 4_000), sale("ev-2", 5_000))
    lines = len(audit(here.agg))
    assert unlink(here.cpo, "ev", alias("x"), validate_only=True).same_resource_ids == []
    assert link(here.cpo, "ev", alias("z"), validate_only=True).same_resource_ids == ["ev-2"]
    assert register(here.cpo, resource("ev", up_w=0), validate_only=True) == []
    assert register(here.cpo, resource("new", aliases=[alias("x")]), validate_only=True) == []
    assert len(audit(here.agg)) == lines
    assert refusal_of(get, here.cpo, "new")[0] == "NOT_FOUND"
    for name in ("ev", "ev-2"):
        assert kinds(hold(here.agg, sale(name, 1_001))) == ["ALIAS_SALE"]
    held(here.agg, sale("ev-2", 1_000))


def test_joining_suspends_the_later_of_two_that_do_not_fit(here: RunningLedger) -> None:
    (first,) = sold(here.agg, sale("ev-2", 6_000))
    (second,) = sold(here.rival, sale("ev", 5_000))
    link(here.cpo, "ev", alias("x"))
    link(here.cpo, "ev-2", alias("x"))
    assert state(here.agg, first.commitment_id) == CONFIRMED
    assert state(here.rival, second.commitment_id) == SUSPENDED


def test_alias_that_moves_in_one_request_joins_nothing_in_between(here: RunningLedger) -> None:
    link(here.cpo, "ev-2", alias("x"))
    sold(here.agg, sale("ev-2", 6_000))
    (second,) = sold(here.rival, sale("ev", 5_000))
    register(here.cpo, resource("ev", aliases=[alias("x")]), resource("ev-2"))
    assert state(here.rival, second.commitment_id) == CONFIRMED
    assert get(here.cpo, "ev").same_resource_ids == []
    # the one behind which it stands takes the alias of what is behind it
    register(here.cpo, resource("below", SITE, parent_id="site", aliases=[alias("n")]))
    register(here.cpo, resource("site", SITE, aliases=[alias("n")]), resource("below", SITE, parent_id="site"))
    assert get(here.cpo, "site").same_resource_ids == []


def test_what_is_sold_stays_sold_where_less_headroom_is_left(tmp_path: Path, ledger_database_url: str) -> None:
    with running_ledger(tmp_path, ledger_database_url) as here:
        furnish(here)
        (one,) = sold(here.agg, sale("ev", 8_000))
        register(here.cpo, resource("ev", up_w=5_000))
        assert state(here.agg, one.commitment_id) == CONFIRMED
        assert kinds(hold(here.agg, sale("ev", 1))) == ["CAPACITY_EXCEEDED"]
        assert hold(here.agg, sale("ev", 1)).conflicts[0].excess_w == 3_001
        held(here.agg, sale("ev", 5_000, HOUR_MS, 2 * HOUR_MS))


def test_headroom_of_a_thing_is_the_smallest_of_any_of_its_names(here: RunningLedger) -> None:
    register(here.cpo, resource("ev", aliases=[alias("x")]))
    register(here.rival, resource("theirs", up_w=7_000, aliases=[alias("x")]))
    assert kinds(hold(here.agg, sale("ev", 7_001))) == ["CAPACITY_EXCEEDED"]
    held(here.agg, sale("ev", 7_000))


@pytest.mark.parametrize(
    "changed",
    [resource("ev", CHARGE_POINT), resource("ev", parent_id="site"), resource("ev", area_id="south")],
    ids=["kind", "parent", "area"],
)
@pytest.mark.parametrize("use", ["sold", "sold as a forecast", "in a session"])
def test_resource_in_use_stays_where_it_is(here: RunningLedger, changed: Any, use: str) -> None:
    if use == "in a session":
        plug_in(here.cpo, "ev", "cp", "s")
    else:
        if use == "sold as a forecast":
            set_policy(here.cpo, SESSION)
        held(here.agg, sale("ev", 1))
    assert refusal_of(register, here.cpo, changed) == ("FAILED_PRECONDITION", "RESOURCE_IN_USE")
    assert get(here.cpo, "ev").resource.sequence == 1
    here.clock.set_ms(HOUR_MS)
    if use == "in a session":
        unplug(here.cpo, "s")
    register(here.cpo, changed)


def test_aliases_are_hidden_from_others(here: RunningLedger) -> None:
    link(here.cpo, "ev", alias("WVW1"))
    assert list(get(here.cpo, "ev").resource.aliases) == [alias("WVW1")]
    assert not get(here.rival, "ev").resource.aliases
    for one in here.rival.ListResources(api.ListResourcesRequest()).resources:
        assert not one.aliases
    assert all(b"WVW1" not in record.SerializeToString() for record in audit(here.rival))


def test_sessions_of_what_an_alias_joins_may_not_overlap(here: RunningLedger) -> None:
    plug_in(here.cpo, "ev", "cp", "s-1")
    plug_in(here.cpo, "ev-2", "cp-2", "s-2")
    link(here.cpo, "ev", alias("x"))
    link(here.cpo, "cp", alias("p"))
    assert refusal_of(link, here.cpo, "ev-2", alias("x")) == ("FAILED_PRECONDITION", "SESSIONS_OVERLAP")
    assert refusal_of(link, here.cpo, "cp-2", alias("p")) == ("FAILED_PRECONDITION", "SESSIONS_OVERLAP")
    assert get(here.cpo, "ev").same_resource_ids == []
    here.clock.set_ms(MINUTE_MS)
    unplug(here.cpo, "s-1", 0)
    link(here.cpo, "ev-2", alias("x"))


def test_resource_is_not_called_as_a_session_is(here: RunningLedger) -> None:
    plug_in(here.cpo, "ev", "cp", "s")
    assert refusal_of(register, here.cpo, resource("s")) == ("INVALID_ARGUMENT", "INVALID_REQUEST")


def test_ten_thousand_resources_are_registered_at_once(here: RunningLedger) -> None:
    many = [resource(f"r{i}", CHARGE_POINT, parent_id="site", aliases=[alias(f"r{i}")]) for i in range(10_001)]
    assert set(violations_of(error_of(register, here.cpo, *many))) == {"resources"}
    # the answer would be larger than an answer may be
    request_id = new_id()
    made = register(here.cpo, *many[:10_000], request_id=request_id)
    assert len(made) == 10_000
    assert made[9_999].sequence == 10_005


def test_request_is_remembered(here: RunningLedger) -> None:
    request_id = new_id()
    first = register(here.cpo, resource("new"), request_id=request_id)
    register(here.cpo, resource("new", up_w=5))
    assert register(here.cpo, resource("new"), request_id=request_id) == first
    assert refusal_of(register, here.cpo, resource("new", up_w=5), request_id=request_id)[0] == "ALREADY_EXISTS"
    assert register(here.party(AGG), resource("other"), request_id=request_id)
