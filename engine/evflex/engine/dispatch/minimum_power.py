"""Minimum powers: from a mixture that breaks them to a plan that keeps them.

A mixture of answers leaves some powers between 0 and the minimum. Each vehicle takes the steps of one of the answers that
its block mixes, those of a block in the proportion of the weights (a golden-ratio sequence, so that vehicles of like windows
share them out evenly). Within chosen steps powers are free again above the minimum, and the decomposition finds the best:
it keeps every shared limit that the mixture kept, as long as the steps leave room. The bound stays that of the mixture.
"""

from __future__ import annotations

import numpy as np

from evflex.engine.dispatch.parts import Mixing
from evflex.engine.dispatch.pattern_oracle import Patterns, choose_patterns
from evflex.engine.dispatch.pattern_part import PatternPart
from evflex.engine.dispatch.prices import Prices
from evflex.engine.dispatch.window_part import WindowPart
from evflex.engine.supply_tree import FloatArray, IntArray

_GOLDEN = (np.sqrt(5.0) - 1.0) / 2.0
_CHUNK = 8192


def in_patterns(part: WindowPart, least_kw: FloatArray, mixing: Mixing, prices: Prices, offset: float) -> PatternPart:
    """The part with the steps of each asset chosen.

    Args:
        part: Assets.
        least_kw: Smallest power of each when charging, (m,).
        mixing: What its blocks mix.
        prices: Prices without limits.
        offset: Where the sequence begins, in [0, 1).
    """
    counts = np.zeros(len(part.rows), dtype=np.int64)
    steps: list[IntArray] = []
    for block in range(len(part.block_signature)):
        added, weight = mixing.of_block(block)
        price = prices.drawing(added)
        begin, end = int(part.block_begin[block]), int(part.block_begin[block + 1])
        answer = _share_out(weight, end - begin, offset)
        for first in range(begin, end, _CHUNK):
            assets = np.arange(first, min(first + _CHUNK, end))
            own = answer[assets - begin]
            chosen = np.zeros((len(assets), price.shape[1]), dtype=bool)
            for j in np.unique(own):
                at = np.flatnonzero(own == j)
                some = np.zeros((len(at), price.shape[1]), dtype=bool)
                choose_patterns(part.table, least_kw, assets[at], price[j], some)
                chosen[at] = some
            counts[assets] = chosen.sum(axis=1)
            steps.append(np.nonzero(chosen)[1])
    patterns = Patterns(np.concatenate([[0], np.cumsum(counts)]), np.concatenate([np.empty(0, dtype=np.int64), *steps]))
    return PatternPart(part.rows, part.table, least_kw, patterns, part.block_begin, part.block_signature)


def _share_out(weight: FloatArray, count: int, offset: float) -> IntArray:
    """An answer for each of so many assets, in the proportion of the weights, evenly spread, (count,)."""
    at = (offset + _GOLDEN * np.arange(count)) % 1.0
    return np.minimum(np.searchsorted(np.cumsum(weight), at, side="right"), len(weight) - 1)


