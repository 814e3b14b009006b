"""A portfolio in memory does what a dictionary would, whatever is added, changed and removed, in little memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evflex.engine.dispatch.model import AssetKind, Fleet
from evflex.engine.timegrid import TimeGrid
from evflex.server.dispatch.id_table import IdTable, packed
from evflex.server.dispatch.portfolio import Change, Portfolio, PortfolioNames
from evflex.server.dispatch.profiles import ProfileRows
from evflex.server.dispatch.records import change_parts, read_change, read_snapshot, snapshot_blocks

NAMES = PortfolioNames("tenant", "p", "", "EUR", ("g",), ())
GRIDS = [TimeGrid(0.0, 900.0, 4), TimeGrid(0.0, 3600.0, 2)]
names = st.text("abcé", min_size=1, max_size=5)


def names_in(ids: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> list[str]:
    return [row.tobytes().rstrip(b"\0").decode() for row in ids]


def change_of(removed: list[str], values: dict[str, float], profiles: dict[str, int] | None = None) -> Change:
    profiles = profiles or {}
    rows = tuple(
        ProfileRows(
            grid,
            np.array([i for i, g in enumerate(profiles.values()) if g == k], dtype=np.int64),
            np.array([[float(k)] * grid.step_count for g in profiles.values() if g == k]).reshape(-1, grid.step_count),
        )
        for k, grid in enumerate(GRIDS)
    )
    fleet = Fleet.of(
        len(values), {"max_charge_kw": np.array(list(values.values())), "kind": float(AssetKind.HEAT_PUMP)}
    )
    return Change(packed(removed), packed(list(values)), fleet, rows, packed(list(profiles)), (), ())


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[list[str], dict[str, float], dict[str, int]]]:
    """Changes that are allowed, one after another."""
    present: set[str] = set()
    steps = []
    for _ in range(draw(st.integers(1, 6))):
        removed = draw(st.lists(st.sampled_from(sorted(present)), unique=True)) if present else []
        values = draw(st.dictionaries(names, st.floats(0.0, 50.0), max_size=8))
        present = (present - set(removed)) | set(values)
        profiles = draw(st.dictionaries(st.sampled_from(sorted(present)), st.integers(0, 1))) if present else {}
        steps.append((removed, values, profiles))
    return steps


@given(histories())
def test_it_holds_what_a_dictionary_holds(history: list[tuple[list[str], dict[str, float], dict[str, int]]]) -> None:
    portfolio = Portfolio(NAMES)
    expected: dict[str, float] = {}
    expected_profiles: dict[str, int] = {}
    for version, (removed, values, profiles) in enumerate(history, start=2):
        for name in removed:
            del expected[name]
            expected_profiles.pop(name, None)
        expected |= values
        expected_profiles |= profiles
        change = change_of(removed, values, profiles)
        count = portfolio.profile_count_after(change)
        for part in change_parts(change):
            again = read_change(part)
            portfolio.prepare(again)
            portfolio.apply(again, version)
        assert len(portfolio.profiles) == count
        assert_holds(portfolio, expected, expected_profiles)
        snapshot = portfolio.snapshot()
        assert_holds(read_snapshot(NAMES, version, 0, snapshot_blocks(snapshot)), expected, expected_profiles)


def assert_holds(portfolio: Portfolio, expected: dict[str, float], profiles: dict[str, int]) -> None:
    snapshot = portfolio.snapshot()
    held = names_in(snapshot.ids)
    assert dict(zip(held, snapshot.fleet.max_charge_kw.tolist(), strict=True)) == expected
    assert portfolio.ids.find(packed(held)).tolist() == list(range(len(held)))
    assert portfolio.ids.find(packed(["missing"])).tolist() == [-1]
    found = {
        held[asset]: GRIDS.index(rows.grid)
        for rows in snapshot.profiles
        for asset, power_kw in zip(rows.asset.tolist(), rows.power_kw, strict=True)
        if (power_kw == GRIDS.index(rows.grid)).all()
    }
    assert found == profiles
    assert len(portfolio.profiles) == len(profiles)


@given(st.lists(names, max_size=30))
def test_an_identifier_that_is_there_is_found_when_it_comes_again(given_names: list[str]) -> None:
    table = IdTable()
    table.reserve(len(given_names), 10)
    taken = table.add(packed(given_names)).tolist()
    first: dict[str, int] = {}
    for row, name in enumerate(given_names):
        assert taken[row] == first.get(name, -1)
        first.setdefault(name, row)


def test_an_identifier_does_not_match_one_that_it_begins() -> None:
    table = IdTable()
    table.reserve(2, 8)
    table.add(packed(["abcd", "abcdefgh"]))
    assert table.find(packed(["abcd"])).tolist() == [0]
    assert table.find(packed(["abcdefgh", "abcdefghi", "abc"])).tolist() == [1, -1, -1]


@pytest.mark.parametrize("count", [20_000, 50_000, 70_000])
def test_an_asset_takes_at_most_250_bytes(count: int) -> None:
    portfolio = Portfolio(NAMES)
    for first in range(0, count, 1_000):
        portfolio.make_room(1_000, 20)
        portfolio.add(packed([f"{i:020d}" for i in range(first, first + 1_000)]), Fleet.of(1_000, {}))
    assert portfolio.asset_count == count
    assert portfolio.resident_bytes <= 250 * count


def test_a_snapshot_is_not_touched_by_what_comes_after() -> None:
    portfolio = Portfolio(NAMES)
    change = change_of([], {"a": 1.0, "b": 2.0})
    portfolio.prepare(change)
    portfolio.apply(change, 2)
    before = portfolio.snapshot()
    again = change_of(["a"], {"b": 5.0, "c": 3.0})
    portfolio.prepare(again)
    portfolio.apply(again, 3)
    assert (before.version, names_in(before.ids), before.fleet.max_charge_kw.tolist()) == (2, ["a", "b"], [1.0, 2.0])
