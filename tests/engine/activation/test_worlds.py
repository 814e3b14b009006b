"""Random small worlds: ledger and batch find what the slow twin finds, under all policies."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from evflex.engine.activation import (
    Commitment,
    Conflict,
    ConflictKind,
    Direction,
    Ledger,
    PolicyKind,
    Registry,
    Session,
    check_batch,
    columns_of,
    joined,
    prepare_registry,
)
from tests.conftest import SOAK
from tests.engine.activation.reference.brute import all_conflicts, candidate_conflicts, decided
from tests.engine.activation.reference.builders import ev, needing, plugged, point, rule, sold
from tests.engine.activation.reference.builders import world as world_of
from tests.engine.activation.reference.world import (
    HOUR_MS,
    World,
    random_change,
    random_commitment,
    random_world,
)

WORLDS_PER_SEED = 100
SEEDS = range(100 if SOAK else 5)
FEW_SEEDS = range(20 if SOAK else 1)


def registry_of(world: World) -> Registry:
    registry = Registry()
    for policy in world.policies:
        registry.put_policy(policy)
    # parents stand before what is behind them only by chance
    for resource in world.resources:
        registry.put_resource(replace(resource, parent_id=""))
    for resource in world.resources:
        registry.put_resource(resource)
    for session in world.sessions:
        registry.put_session(session)
    return registry


def ledger_of(world: World) -> Ledger:
    ledger = Ledger(registry_of(world))
    for commitment in world.commitments:
        ledger.put(commitment)
    return ledger


def plain(conflicts: Iterable[Conflict]) -> list[Conflict]:
    """Without words, in one order."""
    return sorted((replace(conflict, rule="") for conflict in conflicts), key=repr)


def renamed(conflicts: Iterable[Conflict], names: list[str]) -> list[Conflict]:
    return [replace(c, commitment_ids=tuple(names[int(k)] for k in c.commitment_ids)) for c in conflicts]


def worlds(seed: int) -> Iterable[tuple[np.random.Generator, World]]:
    rng = np.random.default_rng([6, seed])
    for k in range(WORLDS_PER_SEED):
        yield rng, random_world(rng, 1 if k % 10 == 0 else HOUR_MS, most_commitments=7)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_batch_has_the_conflicts_of_the_slow_twin(seed: int) -> None:
    for _, world in worlds(seed):
        prepared = prepare_registry(registry_of(world))
        found = check_batch(prepared, columns_of(prepared, world.commitments))
        expected = plain(all_conflicts(world))
        names = [commitment.commitment_id for commitment in world.commitments]
        assert plain(renamed(found.conflicts, names)) == expected, world
        assert found.count_by_kind.sum() == len(expected)
        involved = {name for conflict in expected for name in conflict.commitment_ids}
        assert {names[k] for k in np.flatnonzero(found.takes_part)} == involved


@pytest.mark.parametrize("seed", SEEDS)
def test_a_candidate_has_the_conflicts_of_the_slow_twin(seed: int) -> None:
    for rng, world in worlds(seed):
        ledger = ledger_of(world)
        for k in range(3):
            candidate = random_commitment(rng, world, f"candidate-{k}")
            assert plain(ledger.conflicts_of(candidate)) == plain(candidate_conflicts(world, candidate)), world
        both = [random_commitment(rng, world, f"both-{k}") for k in range(2)]
        second = replace(world, commitments=(*world.commitments, replace(both[0], sequence=1000)))
        expected = [*candidate_conflicts(world, both[0]), *candidate_conflicts(second, both[1])]
        assert plain(ledger.check(both)) == plain(expected)
        assert [c.commitment_id for c in ledger.commitments()] == [c.commitment_id for c in world.commitments]


@pytest.mark.parametrize("seed", FEW_SEEDS)
def test_what_leaves_the_ledger_leaves_no_trace(seed: int) -> None:
    for rng, world in worlds(seed):
        ledger = ledger_of(world)
        gone = [c for c in world.commitments if rng.random() < 0.5]
        for commitment in gone:
            ledger.remove(commitment.commitment_id)
        left = replace(world, commitments=tuple(c for c in world.commitments if c not in gone))
        candidate = random_commitment(rng, world, "candidate")
        assert plain(ledger.conflicts_of(candidate)) == plain(candidate_conflicts(left, candidate))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_change_is_decided_as_the_slow_twin_decides(seed: int) -> None:
    changes = 0
    for rng, world in worlds(seed):
        change = random_change(rng, world)
        if change is None:
            continue
        admitted = admitted_part(world) if rng.random() < 0.7 else world
        ledger = ledger_of(admitted)
        registry = ledger.registry
        if isinstance(change, Session):
            sides = {change.ev_id, change.charge_point_id}
            suspended = ledger.open_session(change)
            assert registry.sessions[change.session_id] == change, sides
        else:
            before = registry.resources[change.resource_id]
            suspended = ledger.change_resource(replace(before, aliases=(*before.aliases, *change.aliases)))
        assert [s.commitment.commitment_id for s in suspended] == decided(admitted, change), admitted
        changes += 1
    assert changes


@pytest.mark.parametrize("seed", FEW_SEEDS)
def test_rows_after_a_ledger_are_checked_together_with_it(seed: int) -> None:
    for rng, world in worlds(seed):
        prepared = prepare_registry(registry_of(world))
        cut = int(rng.integers(0, len(world.commitments) + 1))
        first, second = world.commitments[:cut], world.commitments[cut:]
        columns = joined(columns_of(prepared, first), columns_of(prepared, second))
        whole = check_batch(prepared, columns_of(prepared, world.commitments))
        assert plain(check_batch(prepared, columns).conflicts) == plain(whole.conflicts)


def test_a_row_keeps_its_share_of_the_energy_where_another_was_left_out() -> None:
    # 16 Wh can be drawn and 10 are needed; of 10 Wh sold the vehicle gives half, for it has half of the power
    pool = sold("pool", ("ev", 3), power_w=6, energy_wh=10)
    here = world_of(ev(), point(), needing(10, departure=4, max_charge_w=4), pool)
    prepared = prepare_registry(registry_of(here))
    assert check_batch(prepared, columns_of(prepared, here.commitments)).conflicts == all_conflicts(here) == []


def test_two_that_meet_in_each_of_two_sessions_are_one_conflict() -> None:
    down = sold("down", ("point", 1), direction=Direction.DOWN, product_id="forecast")
    parts = (plugged(0, 1, "first"), plugged(2, 3, "second"), rule(PolicyKind.SESSION, product="forecast"))
    here = world_of(ev(), point(), *parts, down, sold("up", ("point", 1)))
    prepared = prepare_registry(registry_of(here))
    found = check_batch(prepared, columns_of(prepared, here.commitments))
    assert plain(renamed(found.conflicts, ["down", "up"])) == plain(all_conflicts(here))
    assert [conflict.kind for conflict in found.conflicts] == [ConflictKind.COUNTER_ACTIVATION]


def admitted_part(world: World) -> World:
    """The commitments that a ledger would have admitted, in their order."""
    kept: list[Commitment] = []
    for commitment in world.commitments:
        if not candidate_conflicts(replace(world, commitments=tuple(kept)), commitment):
            kept.append(commitment)
    return replace(world, commitments=tuple(kept))
