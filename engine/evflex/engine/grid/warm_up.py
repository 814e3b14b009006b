"""Compiles the kernels, so that no request waits for the compiler."""

from __future__ import annotations

import numpy as np

from evflex.engine.grid.network import Branches, BranchKind, Buses, Generators, Network, Sources, ZeroSequence
from evflex.engine.grid.power_flow import FlowOptions, run_power_flow
from evflex.engine.grid.prepared import prepare_grid


def warm_up() -> None:
    """Solve a step of three buses in a row, balanced and by phase, with all that can be wanted of it."""
    options = FlowOptions(complex_voltages=True, branch_flows=True)
    for network in (_row_of_three(1), _row_of_three(3)):
        run_power_flow(prepare_grid(network), network.load_p_kw[None], network.load_q_kvar[None], options)


def _row_of_three(phase_count: int) -> Network:
    holds = 1 if phase_count == 1 else 0
    shape = (3,) if phase_count == 1 else (3, 3)
    nothing, ones, unknown = np.zeros(2), np.ones(2), np.full(3, np.nan)
    closed = np.ones(2, dtype=bool)
    return Network(
        base_kva=1000.0,
        phase_count=phase_count,
        buses=Buses(("a", "b", "c"), np.full(3, 20.0), np.zeros(3), np.zeros(3), unknown, unknown, unknown, unknown),
        branches=Branches(
            ("ab", "bc"), np.full(2, int(BranchKind.LINE)), np.array([0, 1]), np.array([1, 2]), 0.01 * ones,
            0.02 * ones, nothing, nothing, nothing, nothing, ones, nothing, closed, closed, 100.0 * ones, 100.0 * ones,
            1000.0 * ones, np.full(2, int(ZeroSequence.THROUGH)), 0.03 * ones, 0.06 * ones, nothing, nothing, nothing,
            nothing,
        ),
        sources=Sources(np.array([0]), np.ones(1), np.zeros(1)),
        generators=Generators(np.full(holds, 2), np.full(holds, -10.0), np.ones(holds)),
        load_p_kw=np.full(shape, 20.0),
        load_q_kvar=np.full(shape, 5.0),
    )  # fmt: skip
