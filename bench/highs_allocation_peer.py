"""The peer of an allocation: most energy under the loading limits as one linear program in HiGHS, built as arrays."""

from __future__ import annotations

import time
from dataclasses import dataclass

import highspy
import numpy as np
from scipy import sparse

from bench.highs_peer import INFINITY, Options, solver
from evflex.engine.capacity import AllocationProblem

MODES: dict[str, Options] = {
    "dual simplex": {"solver": "simplex", "simplex_strategy": 1},
    "primal simplex": {"solver": "simplex", "simplex_strategy": 4},
    "interior point": {"solver": "ipx", "run_crossover": "off"},
}


@dataclass(frozen=True, slots=True)
class AllocationAnswer:
    """Energy that HiGHS serves, and the seconds of passing the model and solving."""

    energy_kwh: float
    seconds: float


def allocation_program(problem: AllocationProblem) -> highspy.HighsLp:
    """Most energy of hubs with demand per step on balanced phases; firm capacity is kept free whether used or not.

    Columns are what each hub uses within its firm right and beyond it, and what waits after each step.
    """
    steps, count, step_h = problem.grid.step_count, len(problem.hubs), problem.grid.step_h
    limit_kva = np.where(
        problem.contingency, problem.n1_rated_kva, problem.transformer.max_loading_ratio * problem.transformer.rated_kva
    )
    firm = np.array([np.minimum(hub.firm_kw, hub.max_kw) for hub in problem.hubs])
    most = np.array([np.minimum(hub.firm_kw + hub.conditional_kw, hub.max_kw) for hub in problem.hubs])
    room = np.sqrt(limit_kva**2 - problem.base.phase_kvar.sum(axis=1) ** 2) - problem.base.phase_kw.sum(axis=1)
    cells = sparse.eye_array(count * steps)
    # what waits is what waited and was wanted, less what is used
    carried = sparse.kron(sparse.eye_array(count), sparse.eye_array(steps) - sparse.eye_array(steps, k=-1))
    balance = sparse.hstack([cells * step_h, cells * step_h, carried])
    by_step = sparse.kron(np.ones((1, count)), sparse.eye_array(steps))
    nothing = sparse.csc_array((steps, count * steps))
    matrix = sparse.vstack([balance, sparse.hstack([nothing, by_step, nothing])], format="csc")
    wanted = np.concatenate([hub.demand_kw * step_h for hub in problem.hubs])
    free_kw = room - firm.sum(axis=0)
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = matrix.shape[1], matrix.shape[0]
    lp.col_cost_ = np.concatenate([np.full(2 * count * steps, -step_h), np.zeros(count * steps)])
    lp.col_lower_ = np.zeros(lp.num_col_)
    lp.col_upper_ = np.concatenate([firm.ravel(), (most - firm).ravel(), np.full(count * steps, INFINITY)])
    lp.row_lower_ = np.concatenate([wanted, np.full(steps, -INFINITY)])
    lp.row_upper_ = np.concatenate([wanted, free_kw])
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = matrix.indptr, matrix.indices, matrix.data
    return lp


def solve_allocation(lp: highspy.HighsLp, options: Options) -> AllocationAnswer:
    """Pass and solve once, on one thread.

    Raises:
        RuntimeError: HiGHS found no optimum.
    """
    highs = solver(options)
    started = time.perf_counter()
    highs.passModel(lp)
    highs.run()
    seconds = time.perf_counter() - started
    if highs.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        raise RuntimeError(f"HiGHS stopped with {highs.getModelStatus()}")
    return AllocationAnswer(-float(highs.getInfo().objective_function_value), seconds)
