"""Order, runs and blocks of assets that only charge."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from evflex.engine.dispatch.assets import Windows
from evflex.engine.dispatch.model import Fleet
from evflex.engine.dispatch.window_assets import WindowTable, cut, sorted_windows
from tests.engine.dispatch.reference.case import IntArray
from tests.engine.dispatch.reference.window_twin import random_table

# beyond the first, keys are too many for a counting sort
STEPS = [24, 4_000]


def a_fleet(seed: int, count: int, steps: int, values: int) -> tuple[Fleet, Windows, IntArray]:
    """Assets of few windows, their windows and signatures."""
    rng = np.random.default_rng(seed)
    first = rng.integers(0, steps, 6)
    last = np.minimum(first + rng.integers(1, steps + 1, 6), steps)
    of = rng.integers(0, 6, count)
    ratios = rng.uniform(0.1, 1.0, (2, count))
    windows = Windows(first[of].astype(np.int32), last[of].astype(np.int32), ratios[0], ratios[1])
    fleet = Fleet.of(count, {"energy_value_per_kwh": rng.integers(0, values, count) / 100.0})
    return fleet, windows, rng.integers(0, 3, count)


def table_of(fleet: Fleet, windows: Windows, rows: IntArray) -> WindowTable:
    """A table in this order of which only windows and values count."""
    columns = random_table(np.random.default_rng(0), len(rows), 5, 2)
    return columns._replace(
        first=windows.first[rows], last=windows.last[rows], value=fleet.energy_value_per_kwh[rows]
    )  # fmt: skip


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("values", [1, 16, 40])
@pytest.mark.parametrize("seed", range(4))
def test_assets_are_sorted_by_signature_end_and_start(steps: int, values: int, seed: int) -> None:
    fleet, windows, signature = a_fleet(seed, 400, steps, values)
    some = np.flatnonzero(np.arange(400) % 3 > 0)
    rows = sorted_windows(fleet, windows, some, signature.astype(np.int32), steps)
    assert sorted(rows.tolist()) == some.tolist()
    keys = list(zip(signature[rows], windows.last[rows], windows.first[rows], strict=True))
    assert keys == sorted(keys)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("values", [1, 3, 16])
def test_equal_values_of_a_window_lie_together(steps: int, values: int) -> None:
    fleet, windows, signature = a_fleet(1, 600, steps, values)
    rows = sorted_windows(fleet, windows, np.arange(600), signature.astype(np.int32), steps)
    keys = list(
        zip(signature[rows], windows.last[rows], windows.first[rows], fleet.energy_value_per_kwh[rows], strict=True)
    )
    pieces = [key for k, key in enumerate(keys) if k == 0 or key != keys[k - 1]]
    assert len(pieces) == len(set(pieces))


@pytest.mark.parametrize("steps", STEPS)
def test_assets_alike_keep_their_order(steps: int) -> None:
    fleet, windows, signature = a_fleet(2, 500, steps, 30)
    rows = sorted_windows(fleet, windows, np.arange(500), signature.astype(np.int32), steps)
    for one, other in pairwise(rows.tolist()):
        alike = signature[one] == signature[other] and windows.first[one] == windows.first[other]
        if alike and windows.last[one] == windows.last[other]:
            assert one < other


@pytest.mark.parametrize("steps", STEPS)
def test_no_assets_have_no_order(steps: int) -> None:
    fleet, windows, signature = a_fleet(3, 5, steps, 2)
    none = np.empty(0, dtype=np.int64)
    assert len(sorted_windows(fleet, windows, none, signature.astype(np.int32), steps)) == 0


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("blocks", [1, 4, 16, 1_000])
@pytest.mark.parametrize("seed", range(4))
def test_blocks_are_whole_runs_of_one_signature(steps: int, blocks: int, seed: int) -> None:
    fleet, windows, signature = a_fleet(seed, 300, steps, 4)
    rows = sorted_windows(fleet, windows, np.arange(300), signature.astype(np.int32), steps)
    table, own = table_of(fleet, windows, rows), signature[rows]
    begin, of_block, runs = cut(table, own, blocks)
    keys = list(zip(own, table.last, table.first, strict=True))
    assert runs.begin.tolist() == [k for k in range(300) if k == 0 or keys[k] != keys[k - 1]] + [300]
    assert runs.begin[runs.of_block].tolist() == begin.tolist()
    assert (np.diff(begin) > 0).all()
    assert len(of_block) == len(begin) - 1
    for block, (first, end) in enumerate(pairwise(begin.tolist())):
        assert set(own[first:end].tolist()) == {of_block[block]}
        last_run = int(runs.begin[runs.of_block[block + 1] - 1])
        assert last_run - first < max(300 // blocks, 1)


def test_one_asset_is_one_block() -> None:
    begin, of_block, runs = cut(random_table(np.random.default_rng(1), 1, 4, 1), np.array([2]), 16)
    assert (begin.tolist(), of_block.tolist(), runs.begin.tolist(), runs.of_block.tolist()) == (
        [0, 1], [2], [0, 1], [0, 1],
    )  # fmt: skip
