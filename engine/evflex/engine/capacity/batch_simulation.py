"""Temperatures and ageing of many transformers: the equations of :mod:`thermal`, a block of transformers at a time."""

from __future__ import annotations

from functools import partial

import numpy as np

from evflex.engine.capacity.ageing_sums import LARGEST_PROVEN_C, LEAST_PROVEN_C, ageing_sums
from evflex.engine.capacity.batch import BatchTemperatures, TransformerBatch
from evflex.engine.capacity.powers import exp2, log2
from evflex.engine.capacity.thermal import ageing_exponent, ageing_slope, inner_steps
from evflex.engine.kernels import vector_inner_kernel, vector_kernel
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray
from evflex.engine.workers import Workers

# Transformers that are handled together: what the kernel keeps of them stays in the first cache.
BLOCK = 128
# Fewer transformers times steps than this are not worth a second thread.
_WORTH_A_THREAD = 20_000
# Rows of the kernel's table of parameters; the last three are logarithms to base 2 of what is kept in an inner step.
RISE, OIL_EXPONENT, LOSS_RATIO, NO_LOAD_SHARE, GRADIENT, WINDING_EXPONENT, K21 = range(7)
OIL, WINDING, OIL_GRADIENT = 7, 8, 9
_ROWS = 10
# Rows of the kernel's scratch: parameters first, as above; three rows each from _ONCE to _STATE.
_OWN_ROWS = 7
_ONCE, _WHOLE, _SPREAD, _MIDDLE, _STATE = 7, 10, 13, 16, 19
_PAPER, _SETTLED, _SLOW, _FAST, _THIRD, _LARGEST, _LOST, _MOST_OIL, _MOST_HOT = range(22, 31)
_POWER_SLOW, _POWER_FAST, _POWER_THIRD = 31, 32, 33
_S, _SCRATCH_ROWS = 34, 35
# Inner steps that the search for the largest hot-spot takes at once.
_AT_ONCE = 15
_LN2 = float(np.log(2.0))
_LOWEST, _UNPROVEN = -1e300, 1e300


def simulate_batch(batch: TransformerBatch) -> BatchTemperatures:
    """Temperatures and ageing of transformers under their load; the batch is valid."""
    steps, n = batch.loading_ratio.shape
    top_oil, hot_spot, life = np.empty((steps, n)), np.empty((steps, n)), np.empty((steps, n))
    state, peak = batch.initial_states(), np.empty((2, n))
    inner_count, kept = inner_steps(batch.thermal_parameters, batch.grid.step_s)
    table = _table(batch.thermal_parameters, kept)
    with Workers(None if n * steps >= _WORTH_A_THREAD else 1) as workers:
        for count in np.unique(inner_count).tolist():
            mine = inner_count == count
            # as good as always, all transformers have the same number of inner steps
            some = None if mine.all() else mine
            chosen = [_columns(a, some) for a in (batch.loading_ratio, batch.ambient_c, table, state, peak)]
            out = (
                (top_oil, hot_spot, life)
                if some is None
                else (np.empty_like(chosen[0]), np.empty_like(chosen[0]), np.empty_like(chosen[0]))
            )
            upgraded = batch.upgraded if some is None else batch.upgraded[some]
            _run(workers, batch.grid.step_s, count, upgraded, chosen, out)
            if some is not None:
                top_oil[:, some], hot_spot[:, some], life[:, some] = out
                state[:, some], peak[:, some] = chosen[3], chosen[4]
    return BatchTemperatures(top_oil, hot_spot, life, peak[0], peak[1], np.ascontiguousarray(state.T))


def _run(
    workers: Workers,
    step_s: float,
    inner_count: int,
    upgraded: BoolArray,
    arrays: list[FloatArray],
    out: tuple[FloatArray, FloatArray, FloatArray],
) -> None:
    """Simulate transformers that have the same number of inner steps."""
    loading, ambient, table, state, peak = arrays
    half = 0.5 * (inner_count - 1)
    blocks = -(-loading.shape[1] // BLOCK)
    steepest = np.maximum.reduceat((-_LN2 * half * table[OIL:]).max(axis=0), np.arange(0, loading.shape[1], BLOCK))
    sums = [ageing_sums(inner_count, max(block, 1e-3)) for block in steepest.tolist()]
    cuts = np.linspace(0, blocks, min(blocks, 4 * workers.count) + 1).astype(int)
    work = partial(
        _simulate, loading, ambient, table, upgraded, inner_count, step_s / 3600.0 / inner_count, sums[0].node,
        sums[0].weight, sums[0].first, np.stack([block.reach for block in sums]), state, peak, *out,
    )  # fmt: skip
    workers.each(lambda k: work(int(cuts[k]), int(cuts[k + 1])), range(len(cuts) - 1))


def _columns(values: FloatArray, some: BoolArray | None) -> FloatArray:
    return np.ascontiguousarray(values, dtype=np.float64) if some is None else np.ascontiguousarray(values[:, some])


def _table(parameters: FloatArray, kept: FloatArray) -> FloatArray:
    """Parameters as the kernel reads them, (rows, n)."""
    rise, gradient, loss_ratio, x, y, _, _, _, k21, _ = parameters.T
    table = np.empty((_ROWS, parameters.shape[0]))
    table[RISE], table[OIL_EXPONENT] = rise, x
    table[LOSS_RATIO], table[NO_LOAD_SHARE] = loss_ratio, 1.0 / (1.0 + loss_ratio)
    table[GRADIENT], table[WINDING_EXPONENT], table[K21] = gradient, y, k21
    table[OIL:] = np.log2(kept)
    return table


@vector_kernel
def _simulate(
    loading: FloatArray,
    ambient: FloatArray,
    table: FloatArray,
    upgraded: BoolArray,
    inner_count: int,
    inner_h: float,
    node: FloatArray,
    weight: FloatArray,
    first: IntArray,
    reach: FloatArray,
    state: FloatArray,
    peak: FloatArray,
    top_oil: FloatArray,
    hot_spot: FloatArray,
    life: FloatArray,
    begin_block: int,
    end_block: int,
) -> None:
    """Simulate blocks of transformers; arrays over time are (T, n).

    Within a step the hot-spot is c + A p^j + B q^j - C r^j: p, q, r are what top oil, winding gradient and oil gradient
    keep of their distance from the target in an inner step, A, B, C those distances at the step's start. Where p = r,
    which is so in most cooling classes, or C = 0 for good, two terms are left (``slow``, p and ``fast``, q).

    Args:
        loading: Load over rated power, (T, n).
        ambient: Ambient temperature, (T, n).
        table: Parameters, (rows, n).
        upgraded: Whether the paper is upgraded, (n,).
        inner_count: Inner steps in a step.
        inner_h: Their length in hours.
        node: See :class:`AgeingSums`.
        weight: See there.
        first: See there.
        reach: See there, of each block, (blocks, choices).
        state: Moved to the end, (3, n).
        peak: Filled with the largest top oil and hot-spot, (2, n).
        top_oil: Filled with top oil at the end of each step, (T, n).
        hot_spot: Filled with the largest hot-spot in each step, (T, n).
        life: Filled with the hours lost in each step, (T, n).
        begin_block: First block.
        end_block: The block after the last.
    """
    steps, n = loading.shape
    choices, nodes = reach.shape[1], node.shape[0]
    half, middle = 0.5 * (inner_count - 1), 0.5 * (inner_count + 1)
    # one array of known shape, so that the compiler sees that its rows do not overlap
    w = np.empty(_SCRATCH_ROWS * BLOCK)
    at_node, ready = np.empty((nodes, 3, BLOCK)), np.zeros(choices, dtype=np.int64)
    for block in range(begin_block, end_block):
        begin = block * BLOCK
        m = min(BLOCK, n - begin)
        two_terms, any_upgraded = True, False
        ready[:] = 0
        for i in range(m):
            at = begin + i
            for row in range(_OWN_ROWS):
                w[row * BLOCK + i] = table[row, at]
            for row in range(3):
                exponent = table[OIL + row, at]
                w[(_ONCE + row) * BLOCK + i], w[(_WHOLE + row) * BLOCK + i] = (
                    exp2(exponent),
                    exp2(exponent * inner_count),
                )
                w[(_SPREAD + row) * BLOCK + i] = -exponent * _LN2 * half * exp2(exponent * middle)
                w[(_MIDDLE + row) * BLOCK + i] = exp2(exponent * middle)
                w[(_STATE + row) * BLOCK + i] = state[row, at]
            w[_MOST_OIL * BLOCK + i], w[_MOST_HOT * BLOCK + i] = _LOWEST, _LOWEST
            w[_PAPER * BLOCK + i] = 1.0 if upgraded[at] else 0.0
            any_upgraded |= upgraded[at]
            two_terms &= table[OIL, at] == table[OIL_GRADIENT, at] or (table[K21, at] == 1.0 and state[2, at] == 0.0)
        for k in range(steps):
            _enter_step(w, m, begin, loading[k], ambient[k], top_oil[k])
            if two_terms:
                for i in range(m):
                    w[_SLOW * BLOCK + i] -= w[_THIRD * BLOCK + i]
                    w[_THIRD * BLOCK + i] = 0.0
                _largest_of_two(w, m, inner_count)
            else:
                _largest_of_three(w, m, inner_count)
            # constants, because the compiler does not take the question out of the loop by itself
            if any_upgraded:
                _spreads(w, m, True)
            else:
                _spreads(w, m, False)
            choice = _choice(w, m, reach[block])
            if not ready[choice]:
                ready[choice] = 1
                for at in range(first[choice], first[choice + 1]):
                    for row in range(3):
                        for i in range(m):
                            at_node[at, row, i] = exp2(table[OIL + row, begin + i] * node[at])
            for at in range(first[choice], first[choice + 1]):
                hours = weight[at] * inner_h
                if any_upgraded:
                    _add_ageing(w, m, at_node[at], hours, False, True)
                elif two_terms:
                    _add_ageing(w, m, at_node[at], hours, True, False)
                else:
                    _add_ageing(w, m, at_node[at], hours, False, False)
            _leave_step(w, m, begin, hot_spot[k], life[k])
        for i in range(m):
            for row in range(3):
                state[row, begin + i] = w[(_STATE + row) * BLOCK + i]
            peak[0, begin + i], peak[1, begin + i] = w[_MOST_OIL * BLOCK + i], w[_MOST_HOT * BLOCK + i]


@vector_inner_kernel
def _enter_step(
    w: FloatArray, m: int, begin: int, loading: FloatArray, ambient: FloatArray, top_oil: FloatArray
) -> None:
    """Distances from the targets at the start of a step, and the state at its end."""
    for i in range(m):
        ratio = abs(loading[begin + i])
        losses = (1.0 + ratio * ratio * w[LOSS_RATIO * BLOCK + i]) * w[NO_LOAD_SHARE * BLOCK + i]
        oil_target = ambient[begin + i] + w[RISE * BLOCK + i] * exp2(w[OIL_EXPONENT * BLOCK + i] * log2(losses))
        rated = w[GRADIENT * BLOCK + i] * exp2(w[WINDING_EXPONENT * BLOCK + i] * log2(ratio))
        winding_target, gradient_target = w[K21 * BLOCK + i] * rated, (w[K21 * BLOCK + i] - 1.0) * rated
        a, b, c = (
            w[_STATE * BLOCK + i] - oil_target,
            w[(_STATE + 1) * BLOCK + i] - winding_target,
            w[(_STATE + 2) * BLOCK + i] - gradient_target,
        )
        # top oil moves one way only within a step
        early, late = oil_target + a * w[_ONCE * BLOCK + i], oil_target + a * w[_WHOLE * BLOCK + i]
        early = late if late > early else early
        w[_MOST_OIL * BLOCK + i] = early if early > w[_MOST_OIL * BLOCK + i] else w[_MOST_OIL * BLOCK + i]
        w[_STATE * BLOCK + i] = late
        w[(_STATE + 1) * BLOCK + i] = winding_target + b * w[(_WHOLE + 1) * BLOCK + i]
        w[(_STATE + 2) * BLOCK + i] = gradient_target + c * w[(_WHOLE + 2) * BLOCK + i]
        w[_SETTLED * BLOCK + i] = oil_target + winding_target - gradient_target
        w[_SLOW * BLOCK + i], w[_FAST * BLOCK + i], w[_THIRD * BLOCK + i], w[_LOST * BLOCK + i] = a, b, c, 0.0
        top_oil[begin + i] = late


@vector_inner_kernel
def _leave_step(w: FloatArray, m: int, begin: int, hot_spot: FloatArray, life: FloatArray) -> None:
    """Write what the step has come to."""
    for i in range(m):
        hot = w[_SETTLED * BLOCK + i] + w[_LARGEST * BLOCK + i]
        w[_MOST_HOT * BLOCK + i] = hot if hot > w[_MOST_HOT * BLOCK + i] else w[_MOST_HOT * BLOCK + i]
        hot_spot[begin + i] = hot
        life[begin + i] = w[_LOST * BLOCK + i]


@vector_inner_kernel
def _add_ageing(w: FloatArray, m: int, at_node: FloatArray, hours: float, two_terms: bool, any_upgraded: bool) -> None:
    """Add the hours lost that one node stands for."""
    for i in range(m):
        theta = w[_SETTLED * BLOCK + i] + w[_SLOW * BLOCK + i] * at_node[0, i] + w[_FAST * BLOCK + i] * at_node[1, i]
        if not two_terms:
            theta -= w[_THIRD * BLOCK + i] * at_node[2, i]
        exponent = ageing_exponent(theta, False)
        if any_upgraded:
            exponent = ageing_exponent(theta, True) if w[_PAPER * BLOCK + i] == 1.0 else exponent
        w[_LOST * BLOCK + i] += hours * exp2(exponent)


@vector_inner_kernel
def _spreads(w: FloatArray, m: int, any_upgraded: bool) -> None:
    """The s of :mod:`ageing_sums` of each transformer; beyond all proof where the temperature is."""
    for i in range(m):
        s = (
            abs(w[_SLOW * BLOCK + i]) * w[_SPREAD * BLOCK + i]
            + abs(w[_FAST * BLOCK + i]) * w[(_SPREAD + 1) * BLOCK + i]
            + abs(w[_THIRD * BLOCK + i]) * w[(_SPREAD + 2) * BLOCK + i]
        )
        kappa = ageing_slope(0.0, False)
        if any_upgraded:
            hot = w[_SETTLED * BLOCK + i] + w[_SLOW * BLOCK + i] * w[_MIDDLE * BLOCK + i]
            hot += w[_FAST * BLOCK + i] * w[(_MIDDLE + 1) * BLOCK + i]
            hot -= w[_THIRD * BLOCK + i] * w[(_MIDDLE + 2) * BLOCK + i]
            proven = (hot >= LEAST_PROVEN_C) & (hot <= LARGEST_PROVEN_C)
            by_arrhenius = ageing_slope(hot, True) if proven else _UNPROVEN
            kappa = by_arrhenius if w[_PAPER * BLOCK + i] == 1.0 else kappa
        w[_S * BLOCK + i] = s * kappa


@vector_inner_kernel
def _choice(w: FloatArray, m: int, reach: FloatArray) -> int:
    """First choice of nodes that reaches far enough for all; counts add up at once, where a maximum goes one by one."""
    for choice in range(reach.shape[0] - 1):
        beyond, most = 0, reach[choice]
        for i in range(m):
            beyond += 1 if w[_S * BLOCK + i] > most else 0
        if beyond == 0:
            return choice
    return reach.shape[0] - 1


@vector_inner_kernel
def _largest_of_two(w: FloatArray, m: int, inner_count: int) -> None:
    """Largest a p^j + b q^j over j = 1 … N.

    The difference of neighbours is a sum of two exponentials too, so it changes its sign once at most: unless the
    values rise first and fall at the end, the largest stands at an end. Only then every inner step is looked at.
    """
    inside = 0
    for i in range(m):
        a, b, p, q = w[_SLOW * BLOCK + i], w[_FAST * BLOCK + i], w[_ONCE * BLOCK + i], w[(_ONCE + 1) * BLOCK + i]
        last_a, last_b = a * w[_WHOLE * BLOCK + i], b * w[(_WHOLE + 1) * BLOCK + i]
        a *= p
        b *= q
        first, last = a + b, last_a + last_b
        w[_LARGEST * BLOCK + i] = last if last > first else first
        # the first difference, and the one after the last: if that does not fall, nothing has fallen after a rise
        rises = a * (1.0 - p) + b * (1.0 - q) < 0.0
        falls = last_a * (1.0 - p) + last_b * (1.0 - q) > 0.0
        inside += 1 if rises & falls else 0
        w[_POWER_SLOW * BLOCK + i], w[_POWER_FAST * BLOCK + i] = w[_SLOW * BLOCK + i], w[_FAST * BLOCK + i]
    if inside == 0:
        return
    done = 0
    while done + _AT_ONCE <= inner_count:
        for i in range(m):
            a, b, most, p, q = (
                w[_POWER_SLOW * BLOCK + i],
                w[_POWER_FAST * BLOCK + i],
                w[_LARGEST * BLOCK + i],
                w[_ONCE * BLOCK + i],
                w[(_ONCE + 1) * BLOCK + i],
            )
            for _ in range(_AT_ONCE):
                a *= p
                b *= q
                most = a + b if a + b > most else most
            w[_POWER_SLOW * BLOCK + i], w[_POWER_FAST * BLOCK + i], w[_LARGEST * BLOCK + i] = a, b, most
        done += _AT_ONCE
    while done < inner_count:
        for i in range(m):
            w[_POWER_SLOW * BLOCK + i] *= w[_ONCE * BLOCK + i]
            w[_POWER_FAST * BLOCK + i] *= w[(_ONCE + 1) * BLOCK + i]
            value = w[_POWER_SLOW * BLOCK + i] + w[_POWER_FAST * BLOCK + i]
            w[_LARGEST * BLOCK + i] = value if value > w[_LARGEST * BLOCK + i] else w[_LARGEST * BLOCK + i]
        done += 1


@vector_inner_kernel
def _largest_of_three(w: FloatArray, m: int, inner_count: int) -> None:
    """Largest a p^j + b q^j - c r^j over j = 1 … N."""
    for i in range(m):
        w[_POWER_SLOW * BLOCK + i], w[_POWER_FAST * BLOCK + i], w[_POWER_THIRD * BLOCK + i] = (
            w[_SLOW * BLOCK + i],
            w[_FAST * BLOCK + i],
            w[_THIRD * BLOCK + i],
        )
        w[_LARGEST * BLOCK + i] = _LOWEST
    for _ in range(inner_count):
        for i in range(m):
            w[_POWER_SLOW * BLOCK + i] *= w[_ONCE * BLOCK + i]
            w[_POWER_FAST * BLOCK + i] *= w[(_ONCE + 1) * BLOCK + i]
            w[_POWER_THIRD * BLOCK + i] *= w[(_ONCE + 2) * BLOCK + i]
            value = w[_POWER_SLOW * BLOCK + i] + w[_POWER_FAST * BLOCK + i] - w[_POWER_THIRD * BLOCK + i]
            w[_LARGEST * BLOCK + i] = value if value > w[_LARGEST * BLOCK + i] else w[_LARGEST * BLOCK + i]
