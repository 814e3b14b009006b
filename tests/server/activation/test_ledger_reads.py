"""What is read of the ledger's store: its state as a whole, pages, conflicts and the log."""

from __future__ import annotations

import random
from typing import Any

import pytest

from evflex.activation.v1 import audit_pb2, commitment_pb2
from evflex.server.store.ledger import LedgerStore
from evflex.server.store.ledger_rows import Head
from tests.conftest import SOAK
from tests.server.activation.ledger_messages import (
    ACTIVATED,
    CONFIRMED,
    HELD,
    HOUR_MS,
    NOW_MS,
    NOW_US,
    SUSPENDED,
    Change,
    append,
    commitment,
    conflict,
    events,
    policy,
    resource,
    session,
)


def random_change(generator: random.Random, made: dict[str, int]) -> Change:
    name = f"{generator.randrange(12)}"
    match generator.randrange(4):
        case 0:
            return resource(name, area_id=generator.choice("ns"))
        case 1:
            end = generator.choice([None, NOW_MS - 900 * HOUR_MS, NOW_MS - 300 * HOUR_MS, NOW_MS - HOUR_MS])
            return session(f"s{name}", end_ms=end)
        case 2:
            start_ms = NOW_MS - generator.choice([0, 500]) * HOUR_MS
            return commitment(
                f"c{name}", state=generator.randint(1, 8), sequence=made.get(f"c{name}", 0), start_ms=start_ms
            )
        case _:
            return policy(generator.choice(["", "n"]), generator.choice(["", "afrr"]))


@pytest.mark.parametrize("seed", range(40 if SOAK else 4))
def test_loading_gives_what_a_replay_of_the_log_gives(store: LedgerStore, seed: int) -> None:
    generator = random.Random(seed)
    made: dict[str, int] = {}
    for _ in range(12):
        with store.turn() as turn:
            changes = []
            first = turn.lock_head().sequence + 1
            for sequence in range(first, first + generator.randint(1, 9)):
                change = random_change(generator, made)
                if isinstance(change, commitment_pb2.Commitment):
                    made.setdefault(change.commitment_id, sequence)
                changes.append(change)
            turn.append(events(turn.lock_head(), changes), NOW_US)
    resources, sessions, commitments, policies = {}, {}, {}, {}
    for row in store.audit(1):
        event = audit_pb2.LedgerEvent.FromString(row.event)
        match event.WhichOneof("change"):
            case "resource":
                resources[event.resource.resource_id] = event.resource
            case "session":
                sessions[event.session.session_id] = event.session
            case "commitment":
                commitments[event.commitment.commitment_id] = event.commitment
            case "policy":
                policies[event.policy.area_id, event.policy.product_id] = event.policy
    standing = [c for c in commitments.values() if c.state in (HELD, CONFIRMED, ACTIVATED, SUSPENDED)]
    first_ms = min([c.start_time.ToMilliseconds() for c in standing] + [NOW_MS - 24 * HOUR_MS])
    needed = [s for s in sessions.values() if not s.HasField("end_time") or s.end_time.ToMilliseconds() > first_ms]

    state = store.load(NOW_US)
    with store.turn() as turn:
        assert state.head == turn.lock_head()
    for loaded, replayed in (
        (state.resources, resources.values()), (state.sessions, needed), (state.commitments, standing),
        (state.policies, policies.values()),
    ):  # fmt: skip
        assert loaded == sorted(replayed, key=lambda message: message.sequence)


def test_an_empty_ledger_is_loaded(store: LedgerStore) -> None:
    state = store.load(NOW_US)
    assert state.head == Head(0, bytes(32))
    assert (state.resources, state.sessions, state.commitments, state.policies) == ([], [], [], [])


def test_what_is_not_there_is_none(store: LedgerStore) -> None:
    for name in ("", "absent", "a\0b", "x" * 257):
        assert (store.session(name), store.commitment(name)) == (None, None)


def test_resources_come_in_pages(store: LedgerStore) -> None:
    append(store, resource("a"), resource("b", "other"), resource("c", area_id="south"), resource("d", kind=2))
    append(store, resource("a"))

    def ids(before: int | None = None, size: int = 9, areas: frozenset[str] | None = None, **filters: Any) -> str:
        page = store.resources_page(before, size, areas, **filters)
        return "".join(one.resource_id for one in page)

    assert ids() == "adcb"
    assert ids(size=2) == "ad"
    assert ids(before=4, size=2) == "cb"
    assert ids(areas=frozenset({"south", "west"})) == "c"
    assert (ids(area_id="south"), ids(kind=2), ids(tenant_id="other")) == ("c", "d", "b")


def test_sessions_are_those_of_who_opened_them_or_owns_a_side(store: LedgerStore) -> None:
    append(
        store, resource("ev", "fleet"), resource("cp", "site", kind=2), session("a", "ev", "cp", "emp"),
        session("b", "ev2", "cp", "emp"), session("c", "ev", "cp2", "other", end_ms=NOW_MS),
    )  # fmt: skip

    def ids(tenant_id: str, before: int | None = None, size: int = 9, **filters: Any) -> str:
        page = store.sessions_page(tenant_id, before, size, None, **filters)
        return "".join(one.session_id for one in page)

    assert [ids(tenant) for tenant in ("emp", "fleet", "site", "other", "none")] == ["ba", "ca", "ba", "c", ""]
    assert (ids("fleet", open_only=True), ids("emp", resource_id="ev"), ids("emp", resource_id="cp")) == (
        "a",
        "a",
        "ba",
    )
    assert (ids("emp", size=1), ids("emp", before=4)) == ("b", "a")
    assert store.sessions_page("emp", None, 9, frozenset({"south"})) == []


def test_commitments_are_those_of_the_aggregator(store: LedgerStore) -> None:
    append(
        store, commitment("a"), commitment("b", "other"), commitment("c", state=CONFIRMED, product_id="fcr"),
        commitment("d", end_ms=NOW_MS + 2 * HOUR_MS, area_id="south"),
    )  # fmt: skip
    append(store, commitment("a", sequence=1, state=SUSPENDED))

    def ids(before: int | None = None, size: int = 9, areas: frozenset[str] | None = None, **filters: Any) -> str:
        page = store.commitments_page("agg", before, size, areas, **filters)
        return "".join(one.commitment_id for one in page)

    assert (ids(), ids(size=2), ids(before=3)) == ("dca", "dc", "a")
    assert (ids(product_id="fcr"), ids(state=SUSPENDED), ids(areas=frozenset({"south"}))) == ("c", "a", "d")
    assert (ids(ends_after_unix_ms=NOW_MS + HOUR_MS), ids(ends_after_unix_ms=NOW_MS)) == ("d", "dca")


def test_policies_of_all_areas_are_shown_beside_those_of_an_area(store: LedgerStore) -> None:
    append(store, policy("", "afrr"), policy("north", ""), policy("south", ""))

    def areas(allowed: frozenset[str] | None) -> list[str]:
        return [one.area_id for one in store.policies_page(None, 9, allowed)]

    assert areas(None) == ["south", "north", ""]
    assert areas(frozenset({"north"})) == ["north", ""]


def test_conflicts_are_told_to_both_and_are_open_while_suspended(store: LedgerStore) -> None:
    append(
        store, commitment("a", state=SUSPENDED), conflict("kept", "agg", "a"), commitment("b", state=SUSPENDED),
        conflict("other", "agg", "b"),
    )  # fmt: skip

    def after(sequence: int, tenant_id: str, most: int = 9) -> list[int]:
        return [row.sequence for row in store.conflicts_after(sequence, tenant_id, most)]

    def still_open(tenant_id: str) -> list[str]:
        return [row.conflict.suspended_commitment_id for row in store.open_conflicts(tenant_id)]

    assert [after(0, tenant) for tenant in ("agg", "kept", "other", "none")] == [[2, 4], [2], [4], []]
    assert (after(2, "agg"), after(0, "agg", most=1)) == ([4], [2])
    assert store.conflicts_after(0, "kept")[0].conflict == conflict("kept", "agg", "a")
    assert (still_open("agg"), still_open("kept")) == (["a", "b"], ["a"])
    append(store, commitment("a", sequence=1, state=CONFIRMED))
    assert (still_open("agg"), still_open("kept")) == (["b"], [])


def test_the_log_is_read_from_a_place_on(store: LedgerStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evflex.server.store.ledger_reads._LINES_AT_ONCE", 3)
    append(store, *(resource(f"r{i}") for i in range(10)))

    def lines(start: int, most: int | None = None) -> list[int]:
        return [row.sequence for row in store.audit(start, most)]

    assert lines(1) == list(range(1, 11))
    assert lines(8) == [8, 9, 10]
    assert lines(11) == []
    assert lines(2, 4) == [2, 3, 4, 5]
    assert lines(2, 3) == [2, 3, 4]
    assert lines(2, 0) == []
