"""Power flows of many steps: voltages, loadings and losses."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from evflex.engine.grid.admittance import ComplexArray
from evflex.engine.grid.branch_flows import BranchFlows, branch_flows
from evflex.engine.grid.flow_kernel import Flows, flow_range
from evflex.engine.grid.lanes import LANES
from evflex.engine.grid.prepared import PreparedGrid
from evflex.engine.supply_tree import BoolArray, FloatArray
from evflex.engine.validation import Rules
from evflex.engine.workers import Workers

# Steps that a thread takes at a time: enough to forget its start, few enough to share.
_CHUNK = 16 * LANES


@dataclass(frozen=True, slots=True)
class FlowOptions:
    """How power flows are computed, and what of them is wanted.

    Attributes:
        tolerance_kva: Largest mismatch of active and of reactive power at a node.
        max_iterations: Number of Newton steps after which a step is not converged.
        complex_voltages: Whether voltages are wanted with their angles.
        branch_flows: Whether powers and currents at both ends of branches are wanted; they take seven times as
            much memory as loadings.
    """

    tolerance_kva: float = 1e-5
    max_iterations: int = 20
    complex_voltages: bool = False
    branch_flows: bool = False


@dataclass(frozen=True, slots=True)
class PowerFlow:
    """Power flows of T steps. What no source reaches, and each step that is not converged, is NaN.

    Attributes:
        voltage_pu: Voltage magnitudes over nominal, (T, n).
        branch_loading_ratio: Largest of current or apparent power over its rating at either end, (T, m); NaN without
            a rating.
        losses_kw: Losses of all branches, (T,).
        converged: Whether a step was solved, (T,).
        mismatch_kva: Largest mismatch left, (T,); NaN where the iteration diverged.
        energised: Whether a source reaches each bus, (n,).
        complex_voltage_pu: Voltages, (T, n), if wanted.
        flows: Powers and currents of branches, if wanted.
    """

    voltage_pu: FloatArray
    branch_loading_ratio: FloatArray
    losses_kw: FloatArray
    converged: BoolArray
    mismatch_kva: FloatArray
    energised: BoolArray
    complex_voltage_pu: ComplexArray | None
    flows: BranchFlows | None


def run_power_flow(
    grid: PreparedGrid,
    p_kw: FloatArray,
    q_kvar: FloatArray,
    options: FlowOptions | None = None,
    workers: Workers | None = None,
) -> PowerFlow:
    """Solve the power flow of each step.

    Args:
        grid: The network in its switching state.
        p_kw: Active power drawn at each bus, (T, n); production is negative.
        q_kvar: Reactive power drawn, (T, n); inductive is positive.
        options: How, and what is wanted.
        workers: Threads that share the steps; None for this one alone. The answer does not depend on them.

    Returns:
        Voltages and loadings. Injections at buses that no source reaches are not served.

    Raises:
        InvalidProblemError: Injections of a wrong shape, or not finite.
    """
    options = options or FlowOptions()
    p_kw, q_kvar = checked_injections(grid, p_kw, q_kvar)
    network = grid.network
    steps, n, m = p_kw.shape[0], network.bus_count, network.branch_count
    wants_complex = options.complex_voltages or options.branch_flows
    parts = (steps if wants_complex else 0, n)
    out = Flows(
        np.empty(parts), np.empty(parts), np.empty((steps, n)), np.empty((steps, m)), np.empty(steps),
        np.empty(steps, dtype=bool), np.empty(steps),
    )  # fmt: skip

    def solve(first: int, last: int) -> None:
        flow_range(
            grid.pattern, grid.admittances, grid.structure.node_of_bus, grid.branches, grid.generated_pu, p_kw, q_kvar,
            1.0 / network.base_kva, options.tolerance_kva / network.base_kva, options.max_iterations, first, last, out,
        )  # fmt: skip

    cuts = [*range(0, steps, _CHUNK), steps]
    if workers is None:
        solve(0, steps)
    else:
        workers.each(lambda ends: solve(*ends), list(pairwise(cuts)))
    return _flow(grid, out, options)


def checked_injections(grid: PreparedGrid, p_kw: FloatArray, q_kvar: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Both injections as kernels take them.

    Raises:
        InvalidProblemError: A wrong shape, or a value that is not finite.
    """
    rules = Rules()
    wanted = grid.network.load_p_kw.shape
    for name, values in (("p_kw", p_kw), ("q_kvar", q_kvar)):
        if values.ndim != len(wanted) + 1 or values.shape[1:] != wanted or values.shape[0] != p_kw.shape[0]:
            rules.check(False, name, f"must have shape (steps, {', '.join(map(str, wanted))}), has {values.shape}")
        elif not np.isfinite(values).all():
            step, bus = np.argwhere(~np.isfinite(values))[0][:2]
            rules.check(False, f"{name}[{step}][{bus}]", "must be finite")
    rules.raise_if_any()
    return np.ascontiguousarray(p_kw, dtype=np.float64), np.ascontiguousarray(q_kvar, dtype=np.float64)


def _flow(grid: PreparedGrid, out: Flows, options: FlowOptions) -> PowerFlow:
    failed = ~out.converged
    if failed.any():
        for values in (out.magnitude, out.loading, out.losses):
            values[failed] = np.nan
        if out.v_re.shape[0]:
            out.v_re[failed] = np.nan
            out.v_im[failed] = np.nan
    base = grid.network.base_kva
    voltage = out.v_re + 1j * out.v_im if out.v_re.shape[0] else None
    flows = None if voltage is None or not options.branch_flows else branch_flows(grid, voltage)
    return PowerFlow(
        out.magnitude, out.loading, out.losses * base, out.converged, out.error * base, grid.energised,
        voltage if options.complex_voltages else None, flows,
    )  # fmt: skip
