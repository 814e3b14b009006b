"""A balanced power flow written as plainly as possible: complex Ybus, Newton-Raphson in polar form, dense Jacobian.

R. D. Zimmerman, "AC power flows, generalized OPF costs and their derivatives using complex matrix notation", MATPOWER
technical note 2, 2010 (derivatives of the bus injections).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evflex.engine.grid.network import BranchKind, Network
from tests.engine.grid.reference.network_graph import (
    ComplexArray,
    FloatArray,
    IntArray,
    fused_buses,
    live_nodes,
    loading_ratio,
)


@dataclass(frozen=True, slots=True)
class ReferenceFlow:
    """Answer of a flow. Of islands voltages are NaN; of switches, and of branches on islands, what flows is NaN.

    A branch open at one end carries nothing there; open at both ends it carries nothing at all.

    Attributes:
        voltage_pu: Complex, (n,) or (n, 3) by phase.
        current_from_pu: Complex current into the from end, (m,) or (m, 3).
        current_to_pu: Complex current into the to end.
        power_from_kva: Complex power into the from end, of the same shape.
        power_to_kva: Complex power into the to end.
        loading_ratio: (m,), NaN where a branch has no rating. With three phases the fullest phase decides, and a rated
            power is shared by the phases alike.
        losses_kw: Of all branches together; shunts of buses count as loads.
        iterations: Taken until the mismatch was gone.
    """

    voltage_pu: ComplexArray
    current_from_pu: ComplexArray
    current_to_pu: ComplexArray
    power_from_kva: ComplexArray
    power_to_kva: ComplexArray
    loading_ratio: FloatArray
    losses_kw: float
    iterations: int


def reference_flow(
    network: Network, p_kw: FloatArray | None = None, q_kvar: FloatArray | None = None, *, tolerance: float = 1e-11
) -> ReferenceFlow:
    """Solve a balanced network for the loads given, (n,); without them for those that it brings.

    Raises:
        ArithmeticError: When Newton does not converge, or sources of one node disagree.
    """
    assert network.phase_count == 1
    p_kw = network.load_p_kw if p_kw is None else p_kw
    q_kvar = network.load_q_kvar if q_kvar is None else q_kvar
    node = fused_buses(network)
    live = live_nodes(network, node)
    node_count = live.shape[0]
    blocks = branch_admittances(network)
    admittance = _bus_admittance(network, node, node_count, blocks)
    injected = np.zeros(node_count, dtype=np.complex128)
    np.subtract.at(injected, node, (p_kw + 1j * q_kvar) / network.base_kva)
    generators = network.generators
    np.subtract.at(injected, node[generators.bus], generators.p_kw / network.base_kva)

    sources = network.sources
    phasors = sources.voltage_pu * np.exp(1j * np.deg2rad(sources.angle_deg))
    given = np.full(node_count, np.nan + 0j)
    for at, phasor in zip(node[sources.bus], phasors, strict=True):
        if not np.isnan(given[at]) and abs(given[at] - phasor) > 1e-12:
            raise ArithmeticError("sources of one node disagree")
        given[at] = phasor
    slack = ~np.isnan(given)
    held = np.full(node_count, np.nan)
    held[node[generators.bus]] = generators.voltage_pu
    voltage_controlled = ~np.isnan(held) & ~slack & live
    turned = _turned_by_shifts(network, node, node_count)
    solved = np.flatnonzero(live)
    voltage = np.full(node_count, np.nan + 0j)
    voltage[solved], iterations = _newton(
        admittance[np.ix_(solved, solved)], injected[solved], given[solved], held[solved], voltage_controlled[solved],
        turned[solved], tolerance,
    )  # fmt: skip
    return _answer(network, voltage[node], blocks, iterations)


def branch_admittances(network: Network) -> ComplexArray:
    """Y_ff, Y_ft, Y_tf and Y_tt of each branch in pu, (4, m); an open end is eliminated. 0 for a switch."""
    branches = network.branches
    switch = branches.kinds == BranchKind.SWITCH
    series = np.zeros(network.branch_count, dtype=np.complex128)
    series[~switch] = 1.0 / (branches.r_pu + 1j * branches.x_pu)[~switch]
    tap = branches.ratio * np.exp(1j * np.deg2rad(branches.shift_deg))
    blocks = np.stack([
        (series + branches.g_from_pu + 1j * branches.b_from_pu) / np.abs(tap) ** 2,
        -series / np.conj(tap),
        -series / tap,
        series + branches.g_to_pu + 1j * branches.b_to_pu,
    ])  # fmt: skip
    return open_ends(network, blocks)


def open_ends(network: Network, blocks: ComplexArray) -> ComplexArray:
    """Eliminate the open ends of branches from (4, m) admittances."""
    from_closed, to_closed = network.branches.from_closed, network.branches.to_closed
    out = np.zeros_like(blocks)
    for i in range(network.branch_count):
        ff, ft, tf, tt = blocks[:, i]
        if from_closed[i] and to_closed[i]:
            out[:, i] = blocks[:, i]
        elif from_closed[i]:
            out[0, i] = ff - (ft * tf / tt if tt != 0 else 0.0)
        elif to_closed[i]:
            out[3, i] = tt - (ft * tf / ff if ff != 0 else 0.0)
    return out


def _bus_admittance(network: Network, node: IntArray, node_count: int, blocks: ComplexArray) -> ComplexArray:
    from_node, to_node = node[network.branches.from_bus], node[network.branches.to_bus]
    admittance = np.zeros((node_count, node_count), dtype=np.complex128)
    for rows, columns, values in (
        (from_node, from_node, blocks[0]),
        (from_node, to_node, blocks[1]),
        (to_node, from_node, blocks[2]),
        (to_node, to_node, blocks[3]),
        (node, node, network.buses.shunt_g_pu + 1j * network.buses.shunt_b_pu),
    ):
        np.add.at(admittance, (rows, columns), values)
    return admittance


def _turned_by_shifts(network: Network, node: IntArray, node_count: int) -> FloatArray:
    """Angle in radians that sources and the shifts of transformers alone give each node."""
    branches, sources = network.branches, network.sources
    neighbours: list[list[tuple[int, float]]] = [[] for _ in range(node_count)]
    closed = (branches.kinds != BranchKind.SWITCH) & branches.from_closed & branches.to_closed
    for i in np.flatnonzero(closed).tolist():
        a, b = int(node[branches.from_bus[i]]), int(node[branches.to_bus[i]])
        shift = float(np.deg2rad(branches.shift_deg[i]))
        neighbours[a].append((b, -shift))
        neighbours[b].append((a, shift))
    angle = np.full(node_count, np.nan)
    angle[node[sources.bus]] = np.deg2rad(sources.angle_deg)
    waiting = [int(i) for i in node[sources.bus]]
    while waiting:
        at = waiting.pop()
        for j, turn in neighbours[at]:
            if np.isnan(angle[j]):
                angle[j] = angle[at] + turn
                waiting.append(j)
    return angle


def _newton(
    admittance: ComplexArray,
    injected: ComplexArray,
    given: ComplexArray,
    held: FloatArray,
    voltage_controlled: NDArray[np.bool_],
    turned: FloatArray,
    tolerance: float,
) -> tuple[ComplexArray, int]:
    slack = ~np.isnan(given)
    angles, magnitudes = np.flatnonzero(~slack), np.flatnonzero(~slack & ~voltage_controlled)
    magnitude = np.where(slack, np.abs(given), np.where(voltage_controlled, held, 1.0))
    # a first guess of the angles under load, as if every branch were a reactance
    weight = np.abs(admittance)
    np.fill_diagonal(weight, 0.0)
    laplacian = np.diag(weight.sum(axis=1)) - weight
    angle = turned.copy()
    angle[angles] += np.linalg.lstsq(laplacian[np.ix_(angles, angles)], injected.real[angles], rcond=None)[0]
    start = np.where(slack, given, magnitude * np.exp(1j * angle))
    voltage, iteration, residual = _iterate(admittance, injected, start, angles, magnitudes, tolerance)
    if not residual < 1e-7:
        raise ArithmeticError(f"no convergence: {residual:.3g} pu is left")
    return voltage, iteration


def _iterate(
    admittance: ComplexArray,
    injected: ComplexArray,
    voltage: ComplexArray,
    angles: IntArray,
    magnitudes: IntArray,
    tolerance: float,
) -> tuple[ComplexArray, int, float]:
    """Newton's steps until the mismatch is below the tolerance, or as small as rounding lets it be."""
    before, residual, iteration = np.inf, np.inf, 0
    while iteration < 50:
        current = admittance @ voltage
        mismatch = voltage * np.conj(current) - injected
        left = np.concatenate([mismatch.real[angles], mismatch.imag[magnitudes]])
        residual = float(np.abs(left).max(initial=0.0))
        if residual < tolerance or (residual < 1e-7 and residual > 0.5 * before) or not np.isfinite(residual):
            break
        before, iteration = residual, iteration + 1
        unit = voltage / np.abs(voltage)
        by_angle = 1j * voltage[:, None] * np.conj(np.diag(current) - admittance * voltage)
        by_magnitude = voltage[:, None] * np.conj(admittance * unit) + np.diag(np.conj(current) * unit)
        jacobian = np.block([
            [by_angle.real[np.ix_(angles, angles)], by_magnitude.real[np.ix_(angles, magnitudes)]],
            [by_angle.imag[np.ix_(magnitudes, angles)], by_magnitude.imag[np.ix_(magnitudes, magnitudes)]],
        ])  # fmt: skip
        step = np.linalg.solve(jacobian, -left)
        angle, magnitude = np.angle(voltage), np.abs(voltage)
        angle[angles] += step[: angles.size]
        magnitude[magnitudes] += step[angles.size :]
        voltage = magnitude * np.exp(1j * angle)
    return voltage, iteration, residual


def _answer(network: Network, voltage: ComplexArray, blocks: ComplexArray, iterations: int) -> ReferenceFlow:
    branches = network.branches
    v_from, v_to = voltage[branches.from_bus], voltage[branches.to_bus]
    # an end that is open may lie on an island, whose NaN must not reach the other end
    v_from = np.where(branches.from_closed, v_from, 0.0)
    v_to = np.where(branches.to_closed, v_to, 0.0)
    hidden = np.where(branches.kinds == BranchKind.SWITCH, np.nan, 1.0)
    current_from = (blocks[0] * v_from + blocks[1] * v_to) * hidden
    current_to = (blocks[2] * v_from + blocks[3] * v_to) * hidden
    power_from = v_from * np.conj(current_from) * network.base_kva
    power_to = v_to * np.conj(current_to) * network.base_kva
    loading = loading_ratio(
        network, np.abs(current_from), np.abs(current_to), np.maximum(np.abs(power_from), np.abs(power_to))
    )
    losses = float(np.nansum((power_from + power_to).real))
    return ReferenceFlow(voltage, current_from, current_to, power_from, power_to, loading, losses, iterations)
