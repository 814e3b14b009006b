"""Minimum powers: from a mixture that breaks them to a plan that keeps them.

A mixture of answers leaves some powers between 0 and the minimum. Each vehicle takes the steps of one of the answers
that its block mixes, those of a block in the proportion of the weights (a golden-ratio sequence, so that vehicles of
like windows share them out evenly). Within chosen steps powers are free again above the minimum, and the
decomposition finds the best: it keeps every shared limit that the mixture kept, as long as the steps leave room. The
bound stays that of the mixture.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeGuard

import numpy as np

from evflex.engine.budget import Budget
from evflex.engine.dispatch.decomposition import Decomposed, Stop
from evflex.engine.dispatch.fleet_oracle import FleetOracle
from evflex.engine.dispatch.parts import Mixing, Part
from evflex.engine.dispatch.pattern_oracle import Patterns, choose_patterns
from evflex.engine.dispatch.pattern_part import PatternPart
from evflex.engine.dispatch.prices import Prices
from evflex.engine.dispatch.slope_trick import StoragePatterns, StoredAssets
from evflex.engine.dispatch.storage_part import StoragePart
from evflex.engine.dispatch.storage_pattern_part import StoragePatternPart
from evflex.engine.dispatch.storage_patterns import choose_storage_patterns
from evflex.engine.dispatch.window_part import WindowPart
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray

_GOLDEN = (np.sqrt(5.0) - 1.0) / 2.0
_CHUNK = 8192
# So many choices are tried while the gap is open, each from another place of the sequence.
_TRIALS, _OFFSET = 6, 0.3
# Within chosen steps powers are found to this share of the asked gap.
_OWN_SHARE = 0.1


def keep_minimums(
    oracle: FleetOracle, mixed: Decomposed, solve: Callable[..., Decomposed], stop: Stop,
    budget: Budget,
) -> tuple[FleetOracle, Decomposed]:  # fmt: skip
    """A plan that keeps minimum powers, from a mixture that need not.

    Args:
        oracle: The fleet.
        mixed: The mixture, which gives prices and the bound.
        solve: Mixes the answers of a fleet, beginning at some prices (1, L, T).
        stop: When the plan is good enough.
        budget: Time and cancellation; one plan is made in any case.

    Returns:
        The fleet with chosen steps, and the best mixture of its answers.
    """
    mixings = mixed.mixings(oracle)
    best: tuple[FleetOracle, Decomposed] | None = None
    for trial in range(_TRIALS):
        at = (trial * _OFFSET) % 1.0
        parts: list[Part] = [
            in_patterns(part, mixing, oracle.prices, at) if has_minimums(part) else part
            for part, mixing in zip(oracle.parts, mixings, strict=True)
        ]
        chosen = oracle.with_parts(parts)
        found = solve(chosen, mixed.price[None], stop=stop.share(_OWN_SHARE))
        found = found.under(mixed.bound, stop)
        if best is None or found.objective < best[1].objective:
            best = chosen, found
        if found.met or budget.spent:
            break
    assert best is not None
    return best


def has_minimums(part: Part) -> TypeGuard[WindowPart | StoragePart]:
    """Whether answers of the part may break minimum powers."""
    return isinstance(part, WindowPart | StoragePart) and bool(part.least_kw.any())


def in_patterns(
    part: WindowPart | StoragePart, mixing: Mixing, prices: Prices, offset: float
) -> PatternPart | StoragePatternPart:
    """The part with the steps of each asset chosen.

    Args:
        part: Assets.
        mixing: What its blocks mix.
        prices: Prices without limits.
        offset: Where the sequence begins, in [0, 1).
    """
    counts = np.zeros(len(part.rows), dtype=np.int64)
    steps: list[IntArray] = []
    for block in range(len(part.block_signature)):
        added, weight = mixing.of_block(block)
        begin, end = int(part.block_begin[block]), int(part.block_begin[block + 1])
        answer = _share_out(weight, end - begin, offset)
        for first in range(begin, end, _CHUNK):
            assets = np.arange(first, min(first + _CHUNK, end))
            own = answer[assets - begin]
            chosen = np.zeros((len(assets), added.shape[1]), dtype=bool)
            for j in np.unique(own):
                at = np.flatnonzero(own == j)
                chosen[at] = _chosen_steps(part, assets[at], added[j], prices)
            counts[assets] = chosen.sum(axis=1)
            steps.append(np.nonzero(chosen)[1])
    entries = np.concatenate([[0], np.cumsum(counts)]), np.concatenate([np.empty(0, dtype=np.int64), *steps])
    blocks = part.block_begin, part.block_signature
    if isinstance(part, WindowPart):
        return PatternPart(part.rows, part.table, part.least_kw, Patterns(*entries), *blocks)
    patterns = StoragePatterns(part.least_kw, *entries)
    return StoragePatternPart(part.rows, part.assets, patterns, *blocks, part.step_h)


def _chosen_steps(part: WindowPart | StoragePart, assets: IntArray, added: FloatArray, prices: Prices) -> BoolArray:
    """Where some assets of a part charge, chosen where limits add (T,) to the prices, (len(assets), T)."""
    draw, inject = prices.drawing(added), prices.injecting(added)
    if isinstance(part, StoragePart):
        own = part.assets._replace(
            **{name: getattr(part.assets, name)[assets] for name in StoredAssets._fields if name != "base_kw"}
        )
        return choose_storage_patterns(
            own, part.least_kw[assets], draw / part.step_h, inject / part.step_h, part.step_h
        )
    chosen = np.zeros((len(assets), len(added)), dtype=bool)
    choose_patterns(part.table, part.least_kw, assets, draw, chosen)
    return chosen


def _share_out(weight: FloatArray, count: int, offset: float) -> IntArray:
    """An answer for each of so many assets, in the proportion of the weights, evenly spread, (count,)."""
    at = (offset + _GOLDEN * np.arange(count)) % 1.0
    return np.minimum(np.searchsorted(np.cumsum(weight), at, side="right"), len(weight) - 1)
