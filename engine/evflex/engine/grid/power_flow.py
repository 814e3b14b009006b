"""Power flows of many steps: voltages, loadings and losses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from evflex.engine.grid.admittance import ComplexArray
from evflex.engine.grid.branch_flows import BranchFlows, branch_flows
from evflex.engine.grid.flow_kernel import Flows, flow_range
from evflex.engine.grid.lanes import LANES
from evflex.engine.grid.phase_kernel import PhaseFlows, phase_flow_range
from evflex.engine.grid.prepared import BalancedPart, PhasePart, PreparedGrid
from evflex.engine.grid.sequences import phases_of
from evflex.engine.supply_tree import BoolArray, FloatArray
from evflex.engine.validation import Rules
from evflex.engine.workers import Workers

# Steps that a thread takes at a time: enough to forget its start, few enough to share.
_CHUNK = 16 * LANES


@dataclass(frozen=True, slots=True)
class FlowOptions:
    """How power flows are computed, and what of them is wanted.

    Attributes:
        tolerance_kva: Largest mismatch of active and of reactive power at a node, in a balanced network.
        voltage_tolerance_pu: Largest change of a voltage in the last round, in a network of three phases.
        max_iterations: Number of Newton steps after which a step is not converged.
        max_rounds: Number of rounds after which it is not, in a network of three phases.
        complex_voltages: Whether voltages are wanted with their angles.
        branch_flows: Whether powers and currents at both ends of branches are wanted; they take seven times as
            much memory as loadings.
    """

    tolerance_kva: float = 1e-5
    voltage_tolerance_pu: float = 1e-9
    max_iterations: int = 20
    max_rounds: int = 100
    complex_voltages: bool = False
    branch_flows: bool = False


@dataclass(frozen=True, slots=True)
class PowerFlow:
    """Power flows of T steps. What no source reaches, and each step that is not converged, is NaN.

    Attributes:
        voltage_pu: Voltage magnitudes over nominal, (T, n), or by phase, (T, n, 3).
        branch_loading_ratio: Largest of current or apparent power over its rating at either end and of each phase,
            (T, m); NaN without a rating.
        losses_kw: Losses of all branches, (T,).
        converged: Whether a step was solved, (T,).
        energised: Whether a source reaches each bus, (n,).
        voltage_unbalance_ratio: Negative over positive sequence, (T, n); None for a balanced network.
        complex_voltage_pu: Voltages, (T, n) or (T, n, 3), if wanted.
        flows: Powers and currents of branches, if wanted.
    """

    voltage_pu: FloatArray
    branch_loading_ratio: FloatArray
    losses_kw: FloatArray
    converged: BoolArray
    energised: BoolArray
    voltage_unbalance_ratio: FloatArray | None
    complex_voltage_pu: ComplexArray | None
    flows: BranchFlows | None

    @property
    def voltage_angle_deg(self) -> FloatArray:
        """Angles of the voltages, which must be wanted as complex ones: (T, n) or (T, n, 3)."""
        assert self.complex_voltage_pu is not None
        angle: FloatArray = np.angle(self.complex_voltage_pu, deg=True)
        return angle


def run_power_flow(
    grid: PreparedGrid,
    p_kw: FloatArray,
    q_kvar: FloatArray,
    options: FlowOptions | None = None,
    workers: Workers | None = None,
) -> PowerFlow:
    """Solve the power flow of each step: by Newton's method, or by current injection for three phases.

    Args:
        grid: The network in its switching state.
        p_kw: Active power drawn at each bus, (T, n), or by phase, (T, n, 3); production is negative.
        q_kvar: Reactive power drawn, of the same shape; inductive is positive.
        options: How, and what is wanted.
        workers: Threads that share the steps; None for this one alone. The answer does not depend on them.

    Returns:
        Voltages and loadings. Injections at buses that no source reaches are not served.

    Raises:
        InvalidProblemError: Injections of a wrong shape, not finite, or unbalanced where zero-sequence current has
            no path to earth.
    """
    options = options or FlowOptions()
    p_kw, q_kvar = _checked(grid, p_kw, q_kvar)
    part = grid.part
    if isinstance(part, BalancedPart):
        return _run_balanced(grid, part, p_kw, q_kvar, options, workers)
    return _run_phases(grid, part, p_kw, q_kvar, options, workers)


def _checked(grid: PreparedGrid, p_kw: FloatArray, q_kvar: FloatArray) -> tuple[FloatArray, FloatArray]:
    rules = Rules()
    wanted = grid.network.load_p_kw.shape
    for name, values in (("p_kw", p_kw), ("q_kvar", q_kvar)):
        if values.shape != (p_kw.shape[0], *wanted):
            rules.check(False, name, f"must have shape (steps, {', '.join(map(str, wanted))}), has {values.shape}")
        elif not np.isfinite(values).all():
            step, bus = np.argwhere(~np.isfinite(values))[0][:2]
            rules.check(False, f"{name}[{step}][{bus}]", "must be finite")
        elif isinstance(grid.part, PhasePart):
            floating = np.flatnonzero(grid.part.floating[grid.structure.node_of_bus])
            uneven = (values[:, floating] != values[:, floating, :1]).any(axis=(0, 2))
            for bus in floating[uneven]:
                rules.check(False, f"{name}[0][{bus}]", "must be equal on all phases: the bus has no path to earth")
    rules.raise_if_any()
    return np.ascontiguousarray(p_kw, dtype=np.float64), np.ascontiguousarray(q_kvar, dtype=np.float64)


def _run_balanced(
    grid: PreparedGrid, part: BalancedPart, p_kw: FloatArray, q_kvar: FloatArray, options: FlowOptions,
    workers: Workers | None,
) -> PowerFlow:  # fmt: skip
    network = grid.network
    steps, n, m = p_kw.shape[0], network.bus_count, network.branch_count
    parts = (steps if options.complex_voltages or options.branch_flows else 0, n)
    out = Flows(
        np.empty(parts), np.empty(parts), np.empty((steps, n)), np.empty((steps, m)), np.empty(steps),
        np.empty(steps, dtype=bool),
    )  # fmt: skip

    def solve(first: int, last: int) -> None:
        flow_range(
            grid.pattern, part.admittances, grid.structure.node_of_bus, part.branches, part.generated_pu, p_kw, q_kvar,
            1.0 / network.base_kva, options.tolerance_kva / network.base_kva, options.max_iterations, first, last, out,
        )  # fmt: skip

    _share(solve, steps, workers)
    _forget(~out.converged, out.magnitude, out.loading, out.losses, out.v_re, out.v_im)
    voltage = out.v_re + 1j * out.v_im if parts[0] else None
    return PowerFlow(
        out.magnitude, out.loading, out.losses * network.base_kva, out.converged, grid.energised, None,
        voltage if options.complex_voltages else None,
        None if voltage is None or not options.branch_flows else branch_flows(grid, voltage),
    )  # fmt: skip


def _run_phases(
    grid: PreparedGrid, part: PhasePart, p_kw: FloatArray, q_kvar: FloatArray, options: FlowOptions,
    workers: Workers | None,
) -> PowerFlow:  # fmt: skip
    network = grid.network
    steps, n, m = p_kw.shape[0], network.bus_count, network.branch_count
    wanted = steps if options.complex_voltages or options.branch_flows else 0
    out = PhaseFlows(
        np.empty((wanted, n, 3, 2)), np.empty((steps, n, 3)), np.empty((steps, n)), np.empty((steps, m)),
        np.empty(steps), np.empty(steps, dtype=bool),
    )  # fmt: skip
    draws = ((p_kw != 0.0) | (q_kvar != 0.0)).any(axis=(0, 2))
    first_active = min(grid.structure.node_of_bus[draws].tolist(), default=grid.structure.unknown_count)
    first_active = min(first_active, grid.structure.unknown_count)

    def solve(first: int, last: int) -> None:
        phase_flow_range(
            grid.pattern, part.factor, grid.structure.node_of_bus, part.dead, part.branches, first_active, p_kw, q_kvar,
            3.0 / network.base_kva, options.voltage_tolerance_pu, options.max_rounds, first, last, out,
        )  # fmt: skip

    _share(solve, steps, workers)
    _forget(~out.converged, out.magnitude, out.unbalance, out.loading, out.losses, out.voltage)
    voltage = out.voltage.view(np.complex128)[..., 0] if wanted else None
    return PowerFlow(
        out.magnitude, out.loading, out.losses * network.base_kva, out.converged, grid.energised, out.unbalance,
        phases_of(voltage) if voltage is not None and options.complex_voltages else None,
        None if voltage is None or not options.branch_flows else branch_flows(grid, voltage),
    )  # fmt: skip


def _share(solve: Callable[[int, int], None], steps: int, workers: Workers | None) -> None:
    """Solve all steps, in chunks that do not depend on the threads."""
    chunks = list(pairwise([*range(0, steps, _CHUNK), steps]))
    if workers is None:
        for chunk in chunks:
            solve(*chunk)
    else:
        workers.each(lambda chunk: solve(*chunk), chunks)


def _forget(failed: BoolArray, *values: FloatArray) -> None:
    """Keep nothing of the steps that are not solved."""
    if failed.any():
        for array in values:
            if array.shape[0]:
                array[failed] = np.nan
