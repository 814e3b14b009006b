"""Power flows of a range of steps: what is drawn in, voltages and what branches carry out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from evflex.engine.grid.lanes import LANES
from evflex.engine.grid.newton import Admittances, Pattern, Workspace, solve, start, workspace
from evflex.engine.grid.switching_state import DEAD
from evflex.engine.kernels import lane_inner_kernel, lane_kernel
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray


class BranchTable(NamedTuple):
    """Branches as kernels take them.

    Attributes:
        from_node: Node of the from end, (m,).
        to_node: Node of the to end, (m,).
        ports: Real and imaginary parts of Y_ff, Y_ft, Y_tf, Y_tt, (m, 8).
        weight: What the squared currents of the from and to end in pu are multiplied by for the squared loading, and
            the squared apparent powers, (m, 3); NaN without a rating.
    """

    from_node: IntArray
    to_node: IntArray
    ports: FloatArray
    weight: FloatArray


class Flows(NamedTuple):
    """Where a range of steps is written to; arrays without rows are not wanted.

    Attributes:
        v_re: Real part of the voltages in pu, (T, n).
        v_im: Imaginary part, (T, n).
        magnitude: Voltage magnitudes in pu, (T, n).
        loading: Loading of branches, (T, m).
        losses: Losses of branches in pu, (T,).
        converged: Whether a step was solved, (T,).
    """

    v_re: FloatArray
    v_im: FloatArray
    magnitude: FloatArray
    loading: FloatArray
    losses: FloatArray
    converged: BoolArray


@lane_kernel
def flow_range(
    pattern: Pattern,
    net: Admittances,
    node_of_bus: IntArray,
    table: BranchTable,
    generated_pu: FloatArray,
    p_kw: FloatArray,
    q_kvar: FloatArray,
    pu_per_kw: float,
    tolerance_pu: float,
    most: int,
    first: int,
    last: int,
    flows: Flows,
) -> None:
    """Solve steps first to last − 1; ``p_kw`` and ``q_kvar`` are (T, n), consumption positive."""
    work = workspace(pattern)
    error = np.zeros(LANES)
    for t in range(first, last, LANES):
        count = min(LANES, last - t)
        _draw(work, node_of_bus, generated_pu, p_kw, q_kvar, pu_per_kw, t, count)
        start(net, work)
        solve(pattern, net, work, tolerance_pu, most, error)
        for lane in range(count):
            flows.converged[t + lane] = error[lane] < tolerance_pu
        _write_voltages(work, net, node_of_bus, t, count, flows)
        _write_branches(work, table, t, count, flows)


@lane_inner_kernel
def _draw(
    work: Workspace, node_of_bus: IntArray, generated_pu: FloatArray, p_kw: FloatArray, q_kvar: FloatArray,
    pu_per_kw: float, t: int, count: int,
) -> None:  # fmt: skip
    """What each node draws in pu; lanes beyond the last step repeat it."""
    for i in range(generated_pu.shape[0]):
        for lane in range(LANES):
            work.drawn[i, 0, lane] = generated_pu[i]
            work.drawn[i, 1, lane] = 0.0
    for lane in range(LANES):
        row = t + min(lane, count - 1)
        for bus in range(node_of_bus.shape[0]):
            work.drawn[node_of_bus[bus], 0, lane] += p_kw[row, bus] * pu_per_kw
            work.drawn[node_of_bus[bus], 1, lane] += q_kvar[row, bus] * pu_per_kw


@lane_inner_kernel
def _write_voltages(work: Workspace, net: Admittances, node_of_bus: IntArray, t: int, count: int, flows: Flows) -> None:
    wants_complex = flows.v_re.shape[0] > 0
    # the right-hand side has served
    magnitude = work.right
    for i in range(net.kind.shape[0]):
        for lane in range(LANES):
            magnitude[i, 0, lane] = np.sqrt(work.voltage[i, 0, lane] ** 2 + work.voltage[i, 1, lane] ** 2)
    for i in range(net.kind.shape[0]):
        if net.kind[i] == DEAD:
            for lane in range(LANES):
                magnitude[i, 0, lane] = np.nan
    for lane in range(count):
        for bus in range(node_of_bus.shape[0]):
            flows.magnitude[t + lane, bus] = magnitude[node_of_bus[bus], 0, lane]
        if wants_complex:
            for bus in range(node_of_bus.shape[0]):
                node = node_of_bus[bus]
                dead = net.kind[node] == DEAD
                flows.v_re[t + lane, bus] = np.nan if dead else work.voltage[node, 0, lane]
                flows.v_im[t + lane, bus] = np.nan if dead else work.voltage[node, 1, lane]


@lane_inner_kernel
def _write_branches(work: Workspace, table: BranchTable, t: int, count: int, flows: Flows) -> None:
    voltage = work.voltage
    losses, loading = np.zeros(LANES), np.zeros(LANES)
    for k in range(table.from_node.shape[0]):
        i, j = table.from_node[k], table.to_node[k]
        g_ff, b_ff, g_ft, b_ft = table.ports[k, 0], table.ports[k, 1], table.ports[k, 2], table.ports[k, 3]
        g_tf, b_tf, g_tt, b_tt = table.ports[k, 4], table.ports[k, 5], table.ports[k, 6], table.ports[k, 7]
        of_from, of_to, of_power = table.weight[k, 0], table.weight[k, 1], table.weight[k, 2]
        for lane in range(LANES):
            a_re, a_im, c_re, c_im = voltage[i, 0, lane], voltage[i, 1, lane], voltage[j, 0, lane], voltage[j, 1, lane]
            f_re = g_ff * a_re - b_ff * a_im + g_ft * c_re - b_ft * c_im
            f_im = g_ff * a_im + b_ff * a_re + g_ft * c_im + b_ft * c_re
            t_re = g_tf * a_re - b_tf * a_im + g_tt * c_re - b_tt * c_im
            t_im = g_tf * a_im + b_tf * a_re + g_tt * c_im + b_tt * c_re
            lost = a_re * f_re + a_im * f_im + c_re * t_re + c_im * t_im
            losses[lane] += lost
            squared_from = (f_re * f_re + f_im * f_im) * max(of_from, of_power * (a_re * a_re + a_im * a_im))
            squared_to = (t_re * t_re + t_im * t_im) * max(of_to, of_power * (c_re * c_re + c_im * c_im))
            loading[lane] = np.sqrt(max(squared_from, squared_to))
        for lane in range(count):
            flows.loading[t + lane, k] = loading[lane]
    for lane in range(count):
        flows.losses[t + lane] = losses[lane]
