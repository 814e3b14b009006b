"""Policies change while the server runs, and what is sold keeps the one that it was sold under."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evflex.activation.v1 import activation_service_pb2 as api
from evflex.activation.v1 import policy_pb2
from tests.server.activation.conftest import furnish
from tests.server.activation.support import (
    CONFIRMED,
    CPO,
    EV,
    HOUR_MS,
    NO_CASCADE,
    ONE_SIDE,
    SAME_AGGREGATOR,
    SESSION,
    SUSPENDED,
    Party,
    RunningLedger,
    activate,
    called,
    confirm,
    delete_policy,
    error_of,
    get,
    held,
    hold,
    kinds,
    plug_in,
    refusal_of,
    running_ledger,
    sale,
    set_policy,
    sold,
    state,
)
from tests.server.support import violations_of


def policy(party: Party, area_id: str = "north", product_id: str = "afrr") -> policy_pb2.ActivationPolicy:
    request = api.GetActivationPolicyRequest(area_id=area_id, product_id=product_id)
    return party.GetActivationPolicy(request).policy  # type: ignore[no-any-return]


def test_policy_is_set_changed_and_deleted(tmp_path: Path, ledger_database_url: str) -> None:
    with running_ledger(tmp_path, ledger_database_url) as here:
        furnish(here)
        assert policy(here.agg) == policy_pb2.ActivationPolicy(), "none was set"
        first = set_policy(here.cpo, ONE_SIDE, sold_side=EV)
        assert (first.version, first.tenant_id, first.deleted) == (1, CPO, False)
        assert kinds(hold(here.agg, sale("cp", 1))) == ["POLICY"]
        held(here.agg, sale("ev", 1))
        second = set_policy(here.cpo, NO_CASCADE)
        assert (second.version, second.create_time, second.etag != first.etag) == (2, first.create_time, True)
        held(here.agg, sale("cp", 1))
        assert kinds(hold(here.agg, sale("site", 1))) == ["CASCADE"]
        delete_policy(here.cpo, etag=second.etag)
        assert policy(here.agg).version == 0
        assert refusal_of(delete_policy, here.cpo) == ("NOT_FOUND", "NOT_FOUND")
        assert not here.agg.ListActivationPolicies(api.ListActivationPoliciesRequest()).policies
        assert kinds(hold(here.agg, sale("site", 1))) == ["CASCADE"], "what is sold keeps its policy"
        held(here.agg, sale("site", 1, HOUR_MS, 2 * HOUR_MS), sale("cp", 1, HOUR_MS, 2 * HOUR_MS))
        assert set_policy(here.cpo).version == 4


def test_etag_and_fields_are_checked(here: RunningLedger) -> None:
    set_policy(here.cpo, SESSION)
    assert refusal_of(delete_policy, here.cpo, etag="other") == ("ABORTED", "ETAG_MISMATCH")
    for fields, field in (
        ({"kind": ONE_SIDE}, "policy.sold_side"), ({"kind": ONE_SIDE, "sold_side": 3}, "policy.sold_side"),
        ({"kind": SESSION, "sold_side": EV}, "policy.sold_side"), ({"kind": 9}, "policy.kind"),
        ({"aggregator_cap_w": -1}, "policy.aggregator_cap_w"),
        ({"aggregator_cap_w": 1, "product_id": "afrr"}, "policy.aggregator_cap_w"),
    ):  # fmt: skip
        assert set(violations_of(error_of(set_policy, here.cpo, **fields))) == {field}


def test_most_specific_policy_holds(here: RunningLedger) -> None:
    chain: list[tuple[Any, dict[str, str]]] = [
        (NO_CASCADE, {}), (SESSION, {"product_id": "afrr"}), (SAME_AGGREGATOR, {"area_id": "north"}),
        (0, {"area_id": "north", "product_id": "afrr"}),
    ]  # fmt: skip
    for kind, where in chain:
        set_policy(here.cpo, kind, **where)
        found = policy(here.agg)
        assert (found.kind, found.version, found.area_id, found.product_id) == (
            kind, 1, where.get("area_id", ""), where.get("product_id", ""),
        )  # fmt: skip
        assert held(here.agg, sale("ev", 1))[0].policy_kind == kind
    assert policy(here.agg, "south", "other").kind == NO_CASCADE
    for kind, where in reversed(chain):
        assert policy(here.agg).kind == kind
        delete_policy(here.cpo, **where)


def test_policy_of_one_area_is_seen_with_the_cap_of_all(here: RunningLedger) -> None:
    set_policy(here.cpo, aggregator_cap_w=5_000)
    set_policy(here.cpo, SESSION, "north")
    found = policy(here.agg)
    assert (found.kind, found.aggregator_cap_w) == (SESSION, 5_000)


def test_both_sides_are_sold_by_one_aggregator_within_the_capacity_of_both(here: RunningLedger) -> None:
    set_policy(here.cpo, SAME_AGGREGATOR)
    plug_in(here.cpo, "ev", "cp", "s")
    held(here.agg, sale("ev", 6_000), sale("cp", 4_000))
    assert kinds(hold(here.agg, sale("cp", 1))) == ["CASCADE"]
    assert "CROSS_SALE" in kinds(hold(here.rival, sale("cp", 1)))


def test_sale_keeps_the_policy_that_it_was_sold_under(here: RunningLedger) -> None:
    (first,) = sold(here.agg, sale("ev", 1_000))
    set_policy(here.cpo, SAME_AGGREGATOR)
    (second,) = sold(here.agg, sale("cp", 1_000))
    plug_in(here.cpo, "ev", "cp", "s")
    assert (state(here.agg, first.commitment_id), state(here.agg, second.commitment_id)) == (CONFIRMED, SUSPENDED)
    set_policy(here.cpo, ONE_SIDE, sold_side=2)
    assert get(here.agg, first.commitment_id).policy_kind == 0
    assert activate(here.agg, first.commitment_id).activated


def test_forecast_counts_and_is_called_once_it_is_plugged_in(here: RunningLedger) -> None:
    set_policy(here.cpo, SESSION)
    (one,) = sold(here.agg, sale("ev", 6_000))
    (other,) = sold(here.rival, sale("ev", 6_000))
    refused = activate(here.agg, one.commitment_id)
    assert (kinds(refused), refused.conflicts[0].resource_id) == (["POLICY"], "ev")
    plug_in(here.cpo, "ev", "cp", "s")
    assert (state(here.agg, one.commitment_id), state(here.rival, other.commitment_id)) == (CONFIRMED, SUSPENDED)
    assert activate(here.agg, one.commitment_id).activated
    assert "CAPACITY_EXCEEDED" in kinds(confirm(here.rival, other.commitment_id))


def test_one_of_an_exclusive_group_is_called_at_a_time(here: RunningLedger) -> None:
    group: dict[str, Any] = {"exclusive_group": "g"}
    a, b, later = sold(
        here.agg, sale("ev", 6_000, **group), sale("ev", 6_000, **group),
        sale("ev", 6_000, HOUR_MS, 2 * HOUR_MS, **group),
    )  # fmt: skip
    assert kinds(activate(here.agg, a.commitment_id, b.commitment_id)) == ["POLICY"]
    assert state(here.agg, a.commitment_id) == CONFIRMED
    assert activate(here.agg, a.commitment_id).activated
    refused = activate(here.agg, b.commitment_id)
    assert list(refused.conflicts[0].commitment_ids) == [a.commitment_id, b.commitment_id]
    assert activate(here.agg, later.commitment_id).activated
    called(here.rival, sale("ev-2", 1, **group))


def test_cap_is_judged_when_held_and_as_it_is_when_called(tmp_path: Path, ledger_database_url: str) -> None:
    with running_ledger(tmp_path, ledger_database_url) as here:
        furnish(here)
        names = [one.commitment_id for one in sold(here.agg, sale("ev", 6_000), sale("ev-2", 6_000))]
        set_policy(here.cpo, area_id="north", aggregator_cap_w=10_000)
        assert kinds(hold(here.agg, sale("ev", 1))) == ["AGGREGATOR_CAP"]
        refused = activate(here.agg, *names)
        assert (kinds(refused), refused.conflicts[0].excess_w) == (["AGGREGATOR_CAP"], 2_000)
        assert activate(here.agg, names[0]).activated
        assert kinds(activate(here.agg, names[1])) == ["AGGREGATOR_CAP"]
        set_policy(here.cpo, area_id="north", aggregator_cap_w=12_000)
        assert activate(here.agg, names[1]).activated
        set_policy(here.cpo, area_id="north")
        held(here.agg, sale("ev", 1))
        set_policy(here.cpo, aggregator_cap_w=12_001)
        assert kinds(hold(here.agg, sale("ev", 1))) == ["AGGREGATOR_CAP"]
        held(here.rival, sale("ev", 1))
