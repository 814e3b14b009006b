"""Minimum powers: from a mixture that breaks them to a plan that keeps them.

A mixture of answers leaves some powers between 0 and the minimum. Each vehicle takes the steps of one of the answers
that its block mixes, those of a block in the proportion of the weights: of a large block by a golden-ratio sequence,
so that vehicles of like windows share them out evenly, of a small one such that powers stay close to the mixture. Or
it takes the steps of the mixture itself, rounded, which serves small fleets better. Within chosen steps powers are
free again above the minimum, and the decomposition finds the best: it keeps every shared limit that the mixture kept,
as long as the steps leave room. The bound stays that of the mixture.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeGuard

import numpy as np

from evflex.engine.budget import Budget
from evflex.engine.dispatch.decomposition import Decomposed, Stop
from evflex.engine.dispatch.fleet_oracle import FleetOracle
from evflex.engine.dispatch.parts import Mixing, Part
from evflex.engine.dispatch.pattern_oracle import Patterns, choose_patterns, round_patterns
from evflex.engine.dispatch.pattern_part import PatternPart
from evflex.engine.dispatch.prices import Prices
from evflex.engine.dispatch.slope_trick import StoragePatterns, take
from evflex.engine.dispatch.storage_part import StoragePart
from evflex.engine.dispatch.storage_pattern_part import StoragePatternPart
from evflex.engine.dispatch.storage_patterns import choose_storage_patterns
from evflex.engine.dispatch.window_part import WindowPart
from evflex.engine.kernels import kernel
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray

_GOLDEN = (np.sqrt(5.0) - 1.0) / 2.0
# Assets of a block that are enough to even out by themselves.
_MANY = 512
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
            in_patterns(part, mixing, oracle.prices, at, rounded=trial % 2 == 1) if has_minimums(part) else part
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
    part: WindowPart | StoragePart, mixing: Mixing, prices: Prices, offset: float, *, rounded: bool = False
) -> PatternPart | StoragePatternPart:
    """The part with the steps of each asset chosen.

    Args:
        part: Assets.
        mixing: What its blocks mix.
        prices: Prices without limits.
        offset: Where the golden-ratio sequence begins, in [0, 1).
        rounded: Whether assets that only charge take the steps of the mixture itself, rounded, instead.
    """
    counts = np.zeros(len(part.rows), dtype=np.int64)
    steps: list[IntArray] = []
    beyond = np.zeros((int(part.block_signature.max(initial=-1)) + 1, mixing.added.shape[1]))
    for block, signature in enumerate(part.block_signature.tolist()):
        assets = np.arange(part.block_begin[block], part.block_begin[block + 1])
        mixed = mixing.of_block(block)
        if rounded and isinstance(part, WindowPart):
            chosen = np.zeros((len(assets), beyond.shape[1]), dtype=bool)
            power = part.powers(assets, *mixed, prices)
            round_patterns(part.table, part.least_kw, assets, power, beyond[signature], chosen)
        else:
            chosen = _answered(part, assets, *mixed, prices, offset, beyond[signature])
        counts[assets] = chosen.sum(axis=1)
        steps.append(np.nonzero(chosen)[1])
    entries = np.concatenate([[0], np.cumsum(counts)]), np.concatenate([np.empty(0, dtype=np.int64), *steps])
    blocks = part.block_begin, part.block_signature
    if isinstance(part, WindowPart):
        return PatternPart(part.rows, part.table, part.least_kw, Patterns(*entries), *blocks)
    patterns = StoragePatterns(part.least_kw, *entries)
    return StoragePatternPart(part.rows, part.assets, patterns, *blocks, part.step_h)


def _answered(
    part: WindowPart | StoragePart, assets: IntArray, added: FloatArray, weight: FloatArray, prices: Prices,
    offset: float, beyond: FloatArray,
) -> BoolArray:  # fmt: skip
    """Where each asset charges in one of the answers that its block mixes, (len(assets), T)."""
    answer = _answers(part, assets, added, weight, prices, offset, beyond)
    chosen = np.zeros((len(assets), added.shape[1]), dtype=bool)
    for j in np.unique(answer):
        some = np.flatnonzero(answer == j)
        chosen[some] = _chosen_steps(part, assets[some], added[j], prices)
    return chosen


def _answers(
    part: WindowPart | StoragePart, assets: IntArray, added: FloatArray, weight: FloatArray, prices: Prices,
    offset: float, beyond: FloatArray,
) -> IntArray:  # fmt: skip
    """One of the answers that a block mixes for each of its assets, (len(assets),); ``beyond`` as in ``_share_out``."""
    at = (offset + _GOLDEN * np.arange(len(assets))) % 1.0
    if len(weight) == 1 or len(assets) > _MANY:
        return np.minimum(np.searchsorted(np.cumsum(weight), at, side="right"), len(weight) - 1)
    power = np.array([part.powers(assets, some[None], np.ones(1), prices) for some in added])
    answer = np.empty(len(assets), dtype=np.int64)
    _share_out(power, weight, np.argsort(at), beyond, answer)
    return answer


def _chosen_steps(part: WindowPart | StoragePart, assets: IntArray, added: FloatArray, prices: Prices) -> BoolArray:
    """Where some assets of a part charge, chosen where limits add (T,) to the prices, (len(assets), T)."""
    draw, inject = prices.drawing(added), prices.injecting(added)
    if isinstance(part, StoragePart):
        own, step_h = take(part.assets, assets), part.step_h
        return choose_storage_patterns(own, part.least_kw[assets], draw / step_h, inject / step_h, step_h)
    chosen = np.zeros((len(assets), len(added)), dtype=bool)
    choose_patterns(part.table, part.least_kw, assets, draw, chosen)
    return chosen


@kernel
def _share_out(power: FloatArray, weight: FloatArray, order: IntArray, beyond: FloatArray, answer: IntArray) -> None:
    """An answer for each asset, such that their powers stay close to the mixture.

    Args:
        power: Powers of each asset in each answer, (J, k, T).
        weight: Weights of the answers, (J,).
        order: Assets in the order in which they take their answers, (k,).
        beyond: What assets draw beyond the mixture, so far and in the end, (T,).
        answer: Answers are written here, (k,).
    """
    answers, steps = weight.shape[0], beyond.shape[0]
    for n in range(order.shape[0]):
        i = order[n]
        for j in range(answers):
            for t in range(steps):
                beyond[t] -= weight[j] * power[j, i, t]
        best, least = 0, np.inf
        for j in range(answers):
            apart = 0.0
            for t in range(steps):
                apart += (beyond[t] + power[j, i, t]) ** 2
            if apart < least:
                best, least = j, apart
        answer[i] = best
        for t in range(steps):
            beyond[t] += power[best, i, t]
