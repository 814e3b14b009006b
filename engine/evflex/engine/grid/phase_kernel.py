"""Power flows of three phases by current injection, for many steps at once.

With the currents that loads draw at the voltages of the last round, ``Y_uu V_u = −I(V_u) − Y_us V_s`` is linear and its
factor is the same for all steps; it is solved until voltages stay (Chen and others, Distribution system power flow
analysis: a rigid approach, IEEE Trans. Power Delivery 6, 1991). On a feeder that is a backward and forward sweep. Nodes
before ``first_active`` in the order draw nothing: they take no part until the end.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from evflex.engine.grid.lanes import LANES
from evflex.engine.grid.newton import Pattern
from evflex.engine.grid.phase_factor import PhaseFactor
from evflex.engine.kernels import lane_inner_kernel, lane_kernel
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray

_HALF_ROOT_3 = 0.8660254037844386


class PhaseBranches(NamedTuple):
    """Branches as the kernel takes them.

    Attributes:
        from_node: Node of the from end, (m,).
        to_node: Node of the to end, (m,).
        ports: Y_ff, Y_ft, Y_tf, Y_tt by sequence, real and imaginary parts, (m, 3, 8).
        weight: As in :class:`BranchTable`, (m, 3).
        symmetric: Whether what flows in at one end flows out at the other, (m,).
    """

    from_node: IntArray
    to_node: IntArray
    ports: FloatArray
    weight: FloatArray
    symmetric: BoolArray


class PhaseFlows(NamedTuple):
    """Where steps are written to; arrays without rows are not wanted.

    Attributes:
        voltage: Voltages of buses by sequence, real and imaginary parts, (T, n, 3, 2).
        magnitude: Magnitudes by phase, (T, n, 3).
        unbalance: Negative over positive sequence, (T, n).
        loading: Loading of branches, of the phase that carries most, (T, m).
        losses: Losses of branches in pu, (T,).
        converged: Whether a step was solved, (T,).
    """

    voltage: FloatArray
    magnitude: FloatArray
    unbalance: FloatArray
    loading: FloatArray
    losses: FloatArray
    converged: BoolArray


@lane_kernel
def phase_flow_range(
    pattern: Pattern, factor: PhaseFactor, node_of_bus: IntArray, dead: BoolArray, table: PhaseBranches,
    first_active: int, p_kw: FloatArray, q_kvar: FloatArray, pu_per_kw: float, tolerance_pu: float, most: int,
    first: int, last: int, flows: PhaseFlows,
) -> None:  # fmt: skip
    """Solve steps first to last − 1; ``p_kw`` and ``q_kvar`` are (T, n, 3), consumption positive."""
    n = pattern.node_count
    drawn, voltage = np.zeros((n, 3, 2, LANES)), np.zeros((n, 3, 2, LANES))
    right, change = np.zeros((n, 3, 2, LANES)), np.zeros(LANES)
    for i in range(pattern.unknown_count, n):
        for s in range(3):
            for part in range(2):
                for lane in range(LANES):
                    voltage[i, s, part, lane] = factor.source[i, s, part]
    for t in range(first, last, LANES):
        count = min(LANES, last - t)
        _draw(drawn, node_of_bus, dead, p_kw, q_kvar, pu_per_kw, t, count)
        _inject(pattern, dead, first_active, drawn, voltage, right, False)
        _solve(pattern, factor, first_active, voltage, right, change)
        for _ in range(most):
            _inject(pattern, dead, first_active, drawn, voltage, right, True)
            _solve(pattern, factor, first_active, voltage, right, change)
            open_lanes = 0
            for lane in range(LANES):
                # a lane that is no number is given up
                open_lanes += change[lane] >= tolerance_pu * tolerance_pu
            if open_lanes == 0:
                break
        _spread(pattern, factor, first_active, voltage)
        for lane in range(count):
            flows.converged[t + lane] = change[lane] < tolerance_pu * tolerance_pu
        _write_voltages(voltage, node_of_bus, dead, t, count, flows)
        _write_branches(voltage, table, t, count, flows)


@lane_inner_kernel
def _phases(at: FloatArray, lane: int) -> tuple[float, float, float, float, float, float]:
    """Real and imaginary parts of L1, L2, L3 of what is given by sequence, (3, 2, LANES).

    X_b and X_c = X0 − (X1 + X2) / 2 ∓ j √3/2 (X1 − X2).
    """
    x0_re, x0_im = at[0, 0, lane], at[0, 1, lane]
    x1_re, x1_im, x2_re, x2_im = at[1, 0, lane], at[1, 1, lane], at[2, 0, lane], at[2, 1, lane]
    mid_re, mid_im = x0_re - 0.5 * (x1_re + x2_re), x0_im - 0.5 * (x1_im + x2_im)
    dif_re, dif_im = _HALF_ROOT_3 * (x1_im - x2_im), -_HALF_ROOT_3 * (x1_re - x2_re)
    a_re, a_im = x0_re + x1_re + x2_re, x0_im + x1_im + x2_im
    return a_re, a_im, mid_re + dif_re, mid_im + dif_im, mid_re - dif_re, mid_im - dif_im


@lane_inner_kernel
def _draw(
    drawn: FloatArray, node_of_bus: IntArray, dead: BoolArray, p_kw: FloatArray, q_kvar: FloatArray, pu_per_kw: float,
    t: int, count: int,
) -> None:  # fmt: skip
    """What each phase of a node draws in pu of a phase; lanes beyond the last step repeat it."""
    drawn[:] = 0.0
    for lane in range(LANES):
        row = t + min(lane, count - 1)
        for bus in range(node_of_bus.shape[0]):
            node = node_of_bus[bus]
            if not dead[node]:
                for phase in range(3):
                    drawn[node, phase, 0, lane] += p_kw[row, bus, phase] * pu_per_kw
                    drawn[node, phase, 1, lane] += q_kvar[row, bus, phase] * pu_per_kw


@lane_inner_kernel
def _inject(
    pattern: Pattern, dead: BoolArray, first_active: int, drawn: FloatArray, voltage: FloatArray, right: FloatArray,
    loaded: bool,
) -> None:  # fmt: skip
    """Minus the currents of loads, I = conj(S / V) by phase, in sequence components."""
    for i in range(first_active, pattern.unknown_count):
        for s in range(3):
            for part in range(2):
                for lane in range(LANES):
                    right[i, s, part, lane] = 0.0
        if not loaded or dead[i]:
            continue
        for lane in range(LANES):
            a_re, a_im, b_re, b_im, c_re, c_im = _phases(voltage[i], lane)
            a_scale = 1.0 / (a_re * a_re + a_im * a_im)
            b_scale = 1.0 / (b_re * b_re + b_im * b_im)
            c_scale = 1.0 / (c_re * c_re + c_im * c_im)
            ap, aq, bp, bq = drawn[i, 0, 0, lane], drawn[i, 0, 1, lane], drawn[i, 1, 0, lane], drawn[i, 1, 1, lane]
            cp, cq = drawn[i, 2, 0, lane], drawn[i, 2, 1, lane]
            ia_re, ia_im = (ap * a_re + aq * a_im) * a_scale, (ap * a_im - aq * a_re) * a_scale
            ib_re, ib_im = (bp * b_re + bq * b_im) * b_scale, (bp * b_im - bq * b_re) * b_scale
            ic_re, ic_im = (cp * c_re + cq * c_im) * c_scale, (cp * c_im - cq * c_re) * c_scale
            # 3 I1 and 3 I2 = I_a − (I_b + I_c) / 2 ± j √3/2 (I_b − I_c)
            mid_re, mid_im = ia_re - 0.5 * (ib_re + ic_re), ia_im - 0.5 * (ib_im + ic_im)
            dif_re, dif_im = -_HALF_ROOT_3 * (ib_im - ic_im), _HALF_ROOT_3 * (ib_re - ic_re)
            right[i, 0, 0, lane] -= (ia_re + ib_re + ic_re) * (1.0 / 3.0)
            right[i, 0, 1, lane] -= (ia_im + ib_im + ic_im) * (1.0 / 3.0)
            right[i, 1, 0, lane] -= (mid_re + dif_re) * (1.0 / 3.0)
            right[i, 1, 1, lane] -= (mid_im + dif_im) * (1.0 / 3.0)
            right[i, 2, 0, lane] -= (mid_re - dif_re) * (1.0 / 3.0)
            right[i, 2, 1, lane] -= (mid_im - dif_im) * (1.0 / 3.0)


@lane_inner_kernel
def _solve(
    pattern: Pattern, factor: PhaseFactor, first_active: int, voltage: FloatArray, right: FloatArray, change: FloatArray
) -> None:
    """Voltages of active nodes, and the largest squared change of each lane."""
    unknown = pattern.unknown_count
    for k in range(first_active, unknown):
        for below in range(pattern.row_begin[k], pattern.row_begin[k + 1]):
            j = pattern.row_node[below]
            for s in range(3):
                g, b = factor.lower[below, s, 0], factor.lower[below, s, 1]
                for lane in range(LANES):
                    re, im = right[k, s, 0, lane], right[k, s, 1, lane]
                    right[j, s, 0, lane] -= g * re - b * im
                    right[j, s, 1, lane] -= g * im + b * re
    for lane in range(LANES):
        change[lane] = 0.0
    for back in range(unknown - first_active):
        k = unknown - 1 - back
        for s in range(3):
            g, b = factor.inverse[k, s, 0], factor.inverse[k, s, 1]
            fed_re, fed_im = factor.right[k, s, 0], factor.right[k, s, 1]
            for lane in range(LANES):
                re, im = fed_re + right[k, s, 0, lane], fed_im + right[k, s, 1, lane]
                right[k, s, 0, lane] = g * re - b * im
                right[k, s, 1, lane] = g * im + b * re
            for after in range(pattern.row_begin[k], pattern.row_begin[k + 1]):
                j = pattern.row_node[after]
                g, b = factor.upper[after, s, 0], factor.upper[after, s, 1]
                for lane in range(LANES):
                    re, im = voltage[j, s, 0, lane], voltage[j, s, 1, lane]
                    right[k, s, 0, lane] -= g * re - b * im
                    right[k, s, 1, lane] -= g * im + b * re
            for lane in range(LANES):
                re, im = right[k, s, 0, lane], right[k, s, 1, lane]
                d_re, d_im = re - voltage[k, s, 0, lane], im - voltage[k, s, 1, lane]
                voltage[k, s, 0, lane] = re
                voltage[k, s, 1, lane] = im
                moved = d_re * d_re + d_im * d_im
                # what is no number stays
                change[lane] = change[lane] if change[lane] >= moved else moved


@lane_inner_kernel
def _spread(pattern: Pattern, factor: PhaseFactor, first_active: int, voltage: FloatArray) -> None:
    """Voltages of the nodes that draw nothing."""
    for back in range(first_active):
        k = first_active - 1 - back
        for s in range(3):
            g, b = factor.inverse[k, s, 0], factor.inverse[k, s, 1]
            own_re, own_im = factor.right[k, s, 0], factor.right[k, s, 1]
            for lane in range(LANES):
                voltage[k, s, 0, lane] = g * own_re - b * own_im
                voltage[k, s, 1, lane] = g * own_im + b * own_re
            for after in range(pattern.row_begin[k], pattern.row_begin[k + 1]):
                j = pattern.row_node[after]
                g, b = factor.upper[after, s, 0], factor.upper[after, s, 1]
                for lane in range(LANES):
                    re, im = voltage[j, s, 0, lane], voltage[j, s, 1, lane]
                    voltage[k, s, 0, lane] -= g * re - b * im
                    voltage[k, s, 1, lane] -= g * im + b * re


@lane_inner_kernel
def _write_voltages(
    voltage: FloatArray, node_of_bus: IntArray, dead: BoolArray, t: int, count: int, flows: PhaseFlows
) -> None:
    told = np.zeros((4, LANES))
    wants_complex = flows.voltage.shape[0] > 0
    for bus in range(node_of_bus.shape[0]):
        i = node_of_bus[bus]
        for lane in range(LANES):
            a_re, a_im, b_re, b_im, c_re, c_im = _phases(voltage[i], lane)
            v1_re, v1_im = voltage[i, 1, 0, lane], voltage[i, 1, 1, lane]
            v2_re, v2_im = voltage[i, 2, 0, lane], voltage[i, 2, 1, lane]
            told[0, lane] = np.sqrt(a_re * a_re + a_im * a_im)
            told[1, lane] = np.sqrt(b_re * b_re + b_im * b_im)
            told[2, lane] = np.sqrt(c_re * c_re + c_im * c_im)
            told[3, lane] = np.sqrt((v2_re * v2_re + v2_im * v2_im) / (v1_re * v1_re + v1_im * v1_im))
        if dead[i]:
            told[:] = np.nan
        for lane in range(count):
            for phase in range(3):
                flows.magnitude[t + lane, bus, phase] = told[phase, lane]
            flows.unbalance[t + lane, bus] = told[3, lane]
            if wants_complex:
                for s in range(3):
                    for part in range(2):
                        flows.voltage[t + lane, bus, s, part] = np.nan if dead[i] else voltage[i, s, part, lane]


@lane_inner_kernel
def _write_branches(voltage: FloatArray, table: PhaseBranches, t: int, count: int, flows: PhaseFlows) -> None:
    losses, loading = np.zeros(LANES), np.zeros(LANES)
    current = np.zeros((3, 2, LANES))
    for k in range(table.from_node.shape[0]):
        i, j = table.from_node[k], table.to_node[k]
        of_from, of_to, of_power = table.weight[k, 0], table.weight[k, 1], table.weight[k, 2]
        for lane in range(LANES):
            loading[lane] = 0.0
        for end in range(2):
            own = i if end == 0 else j
            for s in range(3):
                g, b = table.ports[k, s, 4 * end], table.ports[k, s, 4 * end + 1]
                h, c = table.ports[k, s, 4 * end + 2], table.ports[k, s, 4 * end + 3]
                for lane in range(LANES):
                    re = g * voltage[i, s, 0, lane] - b * voltage[i, s, 1, lane]
                    im = g * voltage[i, s, 1, lane] + b * voltage[i, s, 0, lane]
                    re += h * voltage[j, s, 0, lane] - c * voltage[j, s, 1, lane]
                    im += h * voltage[j, s, 1, lane] + c * voltage[j, s, 0, lane]
                    current[s, 0, lane] = re
                    current[s, 1, lane] = im
                    losses[lane] += voltage[own, s, 0, lane] * re + voltage[own, s, 1, lane] * im
            if end == 1 and table.symmetric[k] and of_power == 0.0:
                continue
            weight = of_from if end == 0 else of_to
            _loading(voltage[own], current, weight, of_power, loading)
        rated = of_power == of_power
        for lane in range(count):
            flows.loading[t + lane, k] = np.sqrt(loading[lane]) if rated else np.nan
    for lane in range(count):
        flows.losses[t + lane] = losses[lane]


@lane_inner_kernel
def _loading(voltage: FloatArray, current: FloatArray, weight: float, of_power: float, loading: FloatArray) -> None:
    """Squared loading of the phase that carries most; a rated power is three times that of a phase."""
    for lane in range(LANES):
        a_re, a_im, b_re, b_im, c_re, c_im = _phases(current, lane)
        a, b, c = a_re * a_re + a_im * a_im, b_re * b_re + b_im * b_im, c_re * c_re + c_im * c_im
        loading[lane] = max(loading[lane], weight * max(a, max(b, c)))
    if of_power == 0.0:
        return
    for lane in range(LANES):
        a_re, a_im, b_re, b_im, c_re, c_im = _phases(current, lane)
        u_re, u_im, v_re, v_im, w_re, w_im = _phases(voltage, lane)
        a = (a_re * a_re + a_im * a_im) * (u_re * u_re + u_im * u_im)
        b = (b_re * b_re + b_im * b_im) * (v_re * v_re + v_im * v_im)
        c = (c_re * c_re + c_im * c_im) * (w_re * w_re + w_im * w_im)
        loading[lane] = max(loading[lane], of_power * max(a, max(b, c)))
