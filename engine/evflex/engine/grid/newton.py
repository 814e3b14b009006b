"""Newton's method for the power flow of many steps at once, on a factor whose pattern is known beforehand.

A block of :data:`LANES` steps is solved together: each operation is done for all of them, which the processor does in
one instruction, and what is looked up in the pattern is looked up once. The unknowns of a node are the changes of its
angle and of the logarithm of its voltage's magnitude. With ``w_ij = V_i · conj(y_ij V_j)`` and ``S_i = Σ_j w_ij``:
``∂S_i/∂θ_j = −j w_ij``, ``∂S_i/∂ln|V_j| = w_ij``, ``∂S_i/∂θ_i = j (S_i − w_ii)`` and ``∂S_i/∂ln|V_i| = S_i + w_ii``
(Tinney and Hart, Power flow solution by Newton's method, IEEE Trans. PAS-86, 1967; in complex form). Blocks of 2×2 are
eliminated in the structure's order, without a search for pivots.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from evflex.engine.grid.admittance import ComplexArray
from evflex.engine.grid.lanes import LANES
from evflex.engine.grid.structure import Structure
from evflex.engine.grid.switching_state import DEAD, GENERATOR, SwitchingState
from evflex.engine.kernels import lane_inner_kernel
from evflex.engine.supply_tree import FloatArray, IntArray

# A change of an angle or a logarithm beyond this is cut: Newton's steps from far away are too long.
_LONGEST_STEP = 0.5


class Pattern(NamedTuple):
    """A structure as kernels take it: sizes, edges and the factor. See :class:`Structure`."""

    node_count: int
    unknown_count: int
    edge_first: IntArray
    edge_second: IntArray
    edge_entry: IntArray
    row_begin: IntArray
    row_node: IntArray
    pair_begin: IntArray
    pair_target: IntArray


class Admittances(NamedTuple):
    """A switching state as kernels take it: real and imaginary parts apart. See :class:`SwitchingState`."""

    g_node: FloatArray
    b_node: FloatArray
    g_first: FloatArray
    b_first: FloatArray
    g_second: FloatArray
    b_second: FloatArray
    kind: IntArray
    start_re: FloatArray
    start_im: FloatArray


class Workspace(NamedTuple):
    """What a block of lanes needs: powers drawn, voltages, currents, the right-hand side, and the factor's blocks."""

    drawn: FloatArray
    voltage: FloatArray
    current: FloatArray
    right: FloatArray
    factor: FloatArray


def pattern_of(structure: Structure) -> Pattern:
    """The structure for kernels."""
    return Pattern(
        structure.node_count, structure.unknown_count, structure.edge_first, structure.edge_second,
        structure.edge_entry, structure.row_begin, structure.row_node, structure.pair_begin, structure.pair_target,
    )  # fmt: skip


def admittances_of(state: SwitchingState) -> Admittances:
    """The switching state for kernels."""
    g_node, b_node = _parts(state.y_node)
    g_first, b_first = _parts(state.y_first)
    g_second, b_second = _parts(state.y_second)
    start_re, start_im = _parts(state.start)
    return Admittances(g_node, b_node, g_first, b_first, g_second, b_second, state.kind, start_re, start_im)


def _parts(values: ComplexArray) -> tuple[FloatArray, FloatArray]:
    return np.ascontiguousarray(values.real), np.ascontiguousarray(values.imag)


@lane_inner_kernel
def workspace(pattern: Pattern) -> Workspace:
    """Memory for a block."""
    n, blocks = pattern.node_count, pattern.unknown_count + 2 * pattern.row_node.shape[0]
    return Workspace(
        np.zeros((n, 2, LANES)), np.zeros((n, 2, LANES)), np.zeros((n, 2, LANES)), np.zeros((n, 2, LANES)),
        np.zeros((blocks, 4, LANES)),
    )  # fmt: skip


@lane_inner_kernel
def start(net: Admittances, work: Workspace) -> None:
    """Set each lane's voltages to those without load."""
    for i in range(net.kind.shape[0]):
        for lane in range(LANES):
            work.voltage[i, 0, lane] = net.start_re[i]
            work.voltage[i, 1, lane] = net.start_im[i]


@lane_inner_kernel
def solve(
    pattern: Pattern, net: Admittances, work: Workspace, tolerance_pu: float, most: int, error: FloatArray
) -> int:
    """Newton steps until each lane's largest mismatch is below the tolerance, or ``most`` of them are done.

    ``error`` is filled with the mismatch left in each lane, in pu; it is no number where a lane diverged.

    Returns:
        Number of steps done.
    """
    for done in range(most):
        mismatch(pattern, net, work, error)
        open_lanes = 0
        for lane in range(LANES):
            # a lane that is no number is given up
            open_lanes += error[lane] >= tolerance_pu
        if open_lanes == 0:
            return done
        _assemble(pattern, net, work)
        _eliminate(pattern, work)
        _substitute(pattern, work)
        _step(pattern, work)
    mismatch(pattern, net, work, error)
    return most


@lane_inner_kernel
def mismatch(pattern: Pattern, net: Admittances, work: Workspace, error: FloatArray) -> None:
    """Currents I = Y V, and as the right-hand side minus what flows into a node and is not drawn there."""
    voltage, current, drawn, right = work.voltage, work.current, work.drawn, work.right
    for i in range(pattern.node_count):
        g, b = net.g_node[i], net.b_node[i]
        for lane in range(LANES):
            current[i, 0, lane] = g * voltage[i, 0, lane] - b * voltage[i, 1, lane]
            current[i, 1, lane] = g * voltage[i, 1, lane] + b * voltage[i, 0, lane]
    for e in range(pattern.edge_first.shape[0]):
        i, j = pattern.edge_first[e], pattern.edge_second[e]
        g, b, h, c = net.g_first[e], net.b_first[e], net.g_second[e], net.b_second[e]
        for lane in range(LANES):
            current[i, 0, lane] += g * voltage[j, 0, lane] - b * voltage[j, 1, lane]
            current[i, 1, lane] += g * voltage[j, 1, lane] + b * voltage[j, 0, lane]
            current[j, 0, lane] += h * voltage[i, 0, lane] - c * voltage[i, 1, lane]
            current[j, 1, lane] += h * voltage[i, 1, lane] + c * voltage[i, 0, lane]
    for lane in range(LANES):
        error[lane] = 0.0
    for i in range(pattern.unknown_count):
        kind = net.kind[i]
        if kind == DEAD:
            for lane in range(LANES):
                right[i, 0, lane] = 0.0
                right[i, 1, lane] = 0.0
            continue
        holds = 0.0 if kind == GENERATOR else 1.0
        for lane in range(LANES):
            p = (
                voltage[i, 0, lane] * current[i, 0, lane]
                + voltage[i, 1, lane] * current[i, 1, lane]
                + drawn[i, 0, lane]
            )
            q = (
                voltage[i, 1, lane] * current[i, 0, lane]
                - voltage[i, 0, lane] * current[i, 1, lane]
                + drawn[i, 1, lane]
            )
            q *= holds
            right[i, 0, lane] = -p
            right[i, 1, lane] = -q
            largest = max(abs(p), abs(q))
            # what is no number stays
            error[lane] = error[lane] if error[lane] >= largest else largest


@lane_inner_kernel
def _assemble(pattern: Pattern, net: Admittances, work: Workspace) -> None:
    voltage, current, factor = work.voltage, work.current, work.factor
    unknown, entries = pattern.unknown_count, pattern.row_node.shape[0]
    for k in range(unknown, unknown + 2 * entries):
        for part in range(4):
            for lane in range(LANES):
                factor[k, part, lane] = 0.0
    for i in range(unknown):
        g, b, kind = net.g_node[i], net.b_node[i], net.kind[i]
        if kind == DEAD:
            for lane in range(LANES):
                factor[i, 0, lane] = 1.0
                factor[i, 1, lane] = 0.0
                factor[i, 2, lane] = 0.0
                factor[i, 3, lane] = 1.0
            continue
        for lane in range(LANES):
            square = voltage[i, 0, lane] * voltage[i, 0, lane] + voltage[i, 1, lane] * voltage[i, 1, lane]
            own_p, own_q = g * square, -b * square
            p = voltage[i, 0, lane] * current[i, 0, lane] + voltage[i, 1, lane] * current[i, 1, lane]
            q = voltage[i, 1, lane] * current[i, 0, lane] - voltage[i, 0, lane] * current[i, 1, lane]
            factor[i, 0, lane] = own_q - q
            factor[i, 1, lane] = p + own_p
            factor[i, 2, lane] = p - own_p
            factor[i, 3, lane] = q + own_q
        if kind == GENERATOR:
            for lane in range(LANES):
                factor[i, 2, lane] = 0.0
                factor[i, 3, lane] = 1.0
                factor[i, 1, lane] = 0.0
    for e in range(pattern.edge_first.shape[0]):
        entry = pattern.edge_entry[e]
        if entry < 0:
            continue
        i, j = pattern.edge_first[e], pattern.edge_second[e]
        _between(work, unknown + entry, i, j, net.g_first[e], net.b_first[e], net.kind[i], net.kind[j])
        _between(work, unknown + entries + entry, j, i, net.g_second[e], net.b_second[e], net.kind[j], net.kind[i])


@lane_inner_kernel
def _between(work: Workspace, k: int, i: int, j: int, g: float, b: float, kind: int, other: int) -> None:
    """∂S_i/∂(θ_j, ln|V_j|); a generator's own voltage stays, and nothing else holds its reactive power."""
    if kind == DEAD or other == DEAD:
        return
    row = 0.0 if kind == GENERATOR else 1.0
    column = 0.0 if other == GENERATOR else 1.0
    voltage, factor = work.voltage, work.factor
    for lane in range(LANES):
        u_re = g * voltage[j, 0, lane] - b * voltage[j, 1, lane]
        u_im = g * voltage[j, 1, lane] + b * voltage[j, 0, lane]
        p = voltage[i, 0, lane] * u_re + voltage[i, 1, lane] * u_im
        q = voltage[i, 1, lane] * u_re - voltage[i, 0, lane] * u_im
        factor[k, 0, lane] = q
        factor[k, 1, lane] = p * column
        factor[k, 2, lane] = -p * row
        factor[k, 3, lane] = q * row * column


@lane_inner_kernel
def _eliminate(pattern: Pattern, work: Workspace) -> None:
    """Factorise, and carry the right-hand side along; diagonal blocks become their inverses."""
    factor, right = work.factor, work.right
    unknown, entries = pattern.unknown_count, pattern.row_node.shape[0]
    for k in range(unknown):
        for lane in range(LANES):
            a, b, c, d = factor[k, 0, lane], factor[k, 1, lane], factor[k, 2, lane], factor[k, 3, lane]
            scale = 1.0 / (a * d - b * c)
            factor[k, 0, lane] = d * scale
            factor[k, 1, lane] = -b * scale
            factor[k, 2, lane] = -c * scale
            factor[k, 3, lane] = a * scale
        begin, end = pattern.row_begin[k], pattern.row_begin[k + 1]
        pair = pattern.pair_begin[k]
        for below in range(begin, end):
            low, j = unknown + entries + below, pattern.row_node[below]
            for lane in range(LANES):
                a, b, c, d = factor[low, 0, lane], factor[low, 1, lane], factor[low, 2, lane], factor[low, 3, lane]
                e, f, g, h = factor[k, 0, lane], factor[k, 1, lane], factor[k, 2, lane], factor[k, 3, lane]
                w, x, y, z = a * e + b * g, a * f + b * h, c * e + d * g, c * f + d * h
                factor[low, 0, lane] = w
                factor[low, 1, lane] = x
                factor[low, 2, lane] = y
                factor[low, 3, lane] = z
                right[j, 0, lane] -= w * right[k, 0, lane] + x * right[k, 1, lane]
                right[j, 1, lane] -= y * right[k, 0, lane] + z * right[k, 1, lane]
            for after in range(begin, end):
                target, up = pattern.pair_target[pair], unknown + after
                pair += 1
                for lane in range(LANES):
                    w, x, y, z = factor[low, 0, lane], factor[low, 1, lane], factor[low, 2, lane], factor[low, 3, lane]
                    e, f, g, h = factor[up, 0, lane], factor[up, 1, lane], factor[up, 2, lane], factor[up, 3, lane]
                    factor[target, 0, lane] -= w * e + x * g
                    factor[target, 1, lane] -= w * f + x * h
                    factor[target, 2, lane] -= y * e + z * g
                    factor[target, 3, lane] -= y * f + z * h


@lane_inner_kernel
def _substitute(pattern: Pattern, work: Workspace) -> None:
    """Solve backwards; the right-hand side becomes the changes of angle and logarithm."""
    factor, right = work.factor, work.right
    unknown = pattern.unknown_count
    for back in range(unknown):
        k = unknown - 1 - back
        for after in range(pattern.row_begin[k], pattern.row_begin[k + 1]):
            up, j = unknown + after, pattern.row_node[after]
            for lane in range(LANES):
                right[k, 0, lane] -= factor[up, 0, lane] * right[j, 0, lane] + factor[up, 1, lane] * right[j, 1, lane]
                right[k, 1, lane] -= factor[up, 2, lane] * right[j, 0, lane] + factor[up, 3, lane] * right[j, 1, lane]
        for lane in range(LANES):
            p, q = right[k, 0, lane], right[k, 1, lane]
            right[k, 0, lane] = factor[k, 0, lane] * p + factor[k, 1, lane] * q
            right[k, 1, lane] = factor[k, 2, lane] * p + factor[k, 3, lane] * q


@lane_inner_kernel
def _step(pattern: Pattern, work: Workspace) -> None:
    """Turn each voltage by its angle's change, (1 + jΔ/2) / (1 − jΔ/2), which keeps its magnitude, and scale it."""
    for i in range(pattern.unknown_count):
        for lane in range(LANES):
            half = 0.5 * min(max(work.right[i, 0, lane], -_LONGEST_STEP), _LONGEST_STEP)
            scale = 1.0 + min(max(work.right[i, 1, lane], -_LONGEST_STEP), _LONGEST_STEP)
            square = half * half
            turn = scale / (1.0 + square)
            cos, sin = turn * (1.0 - square), turn * 2.0 * half
            re, im = work.voltage[i, 0, lane], work.voltage[i, 1, lane]
            work.voltage[i, 0, lane] = re * cos - im * sin
            work.voltage[i, 1, lane] = re * sin + im * cos
