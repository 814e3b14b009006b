"""Linear and mixed-integer programs in HiGHS, with a deadline and a caller who may leave."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import highspy
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from evflex.engine.budget import Budget
from evflex.engine.supply_tree import FloatArray, IntArray

INFINITY = highspy.kHighsInf
# Below this many columns a linear program ends faster than a caller can leave; callbacks would only slow it.
_INTERRUPTIBLE_COLUMNS = 20_000
_FINEST = 1e-9
# Values of HiGHS' option simplex_strategy.
_DUAL, _PRIMAL = 1, 4
# A point costs what HiGHS says, up to rounding: absolute, and relative to its cost.
_COST_TOLERANCE = 1e-6


class LpMethod(StrEnum):
    """Algorithm for a linear program."""

    CHOOSE = "choose"
    SIMPLEX = "simplex"
    PRIMAL_SIMPLEX = "primal simplex"
    INTERIOR_POINT = "ipx"


@dataclass(frozen=True, slots=True)
class LinearProgram:
    """minimise cost·x subject to row_lower <= matrix·x <= row_upper, column_lower <= x <= column_upper.

    Attributes:
        cost: Shape (columns,).
        column_lower: Shape (columns,).
        column_upper: Shape (columns,).
        matrix: Shape (rows, columns), compressed by column.
        row_lower: Shape (rows,).
        row_upper: Shape (rows,).
        integer: Columns that must be whole; shape (columns,).
    """

    cost: FloatArray
    column_lower: FloatArray
    column_upper: FloatArray
    matrix: sparse.csc_array
    row_lower: FloatArray
    row_upper: FloatArray
    integer: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ProgramSolution:
    """Answer of HiGHS.

    Attributes:
        optimal: Solved to the asked tolerance.
        has_point: Whether ``x`` is a feasible point.
        x: Shape (columns,).
        row_dual: Change of the optimum for each unit of a row's bound; zeros for a mixed-integer program. (rows,).
        objective: Of ``x``.
        bound: Proven lower bound; minus infinity where there is none.
    """

    optimal: bool
    has_point: bool
    x: FloatArray
    row_dual: FloatArray
    objective: float
    bound: float


class Solver:
    """One HiGHS model that can be solved again after its costs, bounds or rows change."""

    def __init__(self, program: LinearProgram, budget: Budget, *, precise: bool = False) -> None:
        """Pass ``program`` to HiGHS.

        Args:
            program: The model.
            budget: Time and cancellation of every solve.
            precise: Keep rows and integers to HiGHS' finest tolerance.
        """
        self._budget = budget
        self._highs = highspy.Highs()
        self._highs.setOptionValue("output_flag", False)
        self._highs.setOptionValue("threads", 1)
        self._highs.setOptionValue("random_seed", 0)
        if precise:
            for tolerance in ("mip_feasibility", "primal_feasibility", "dual_feasibility"):
                self._highs.setOptionValue(f"{tolerance}_tolerance", _FINEST)
        self._is_mip = bool(program.integer.any())
        lp = highspy.HighsLp()
        lp.num_row_, lp.num_col_ = program.matrix.shape
        lp.col_cost_ = program.cost
        lp.col_lower_ = np.maximum(program.column_lower, -INFINITY)
        lp.col_upper_ = np.minimum(program.column_upper, INFINITY)
        lp.row_lower_ = np.maximum(program.row_lower, -INFINITY)
        lp.row_upper_ = np.minimum(program.row_upper, INFINITY)
        lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        lp.a_matrix_.start_ = program.matrix.indptr
        lp.a_matrix_.index_ = program.matrix.indices
        lp.a_matrix_.value_ = program.matrix.data
        if self._is_mip:
            kinds = highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger
            lp.integrality_ = [kinds[int(whole)] for whole in program.integer]
        self._highs.passModel(lp)
        self._columns = lp.num_col_
        self._cost = program.cost.copy()
        if self._is_mip or self._columns >= _INTERRUPTIBLE_COLUMNS:
            self._listen()

    def _listen(self) -> None:
        budget = self._budget

        def interrupt(event: highspy.highs.HighsCallbackEvent) -> None:
            if budget.spent:
                event.interrupt()

        for callback in (
            self._highs.cbMipInterrupt,
            self._highs.cbSimplexInterrupt,
            self._highs.cbIpmInterrupt,
        ):
            callback.subscribe(interrupt)

    def solve(
        self, method: LpMethod = LpMethod.CHOOSE, *, relative_gap: float = 0.0, absolute_gap: float = 0.0
    ) -> ProgramSolution:
        """Solve within the budget.

        Args:
            method: Algorithm, where the program is linear.
            relative_gap: HiGHS stops a mixed-integer program at this gap.
            absolute_gap: As above, in units of the objective.
        """
        highs = self._highs
        if self._budget.spent:
            # HiGHS would set itself up all the same.
            return ProgramSolution(False, False, np.empty(0), np.empty(0), np.inf, -np.inf)
        if self._is_mip:
            highs.setOptionValue("mip_rel_gap", relative_gap)
            highs.setOptionValue("mip_abs_gap", max(absolute_gap, 1e-9))
        else:
            # after new columns the last point is still feasible: primal simplex goes on from there
            primal = method is LpMethod.PRIMAL_SIMPLEX
            highs.setOptionValue("solver", LpMethod.SIMPLEX.value if primal else method.value)
            highs.setOptionValue("simplex_strategy", _PRIMAL if primal else _DUAL)
        solution = self._run()
        if self._is_mip and solution.has_point and self._misjudged(solution):
            # Presolve of HiGHS (1.16) can map a given start to a cheaper point of the reduced program, which the start
            # is not: every plan dearer than that is cut off, and the start comes back as the optimum.
            highs.clearSolver()
            solution = self._run()
        return solution

    def _misjudged(self, solution: ProgramSolution) -> bool:
        """Whether the point costs more than HiGHS says."""
        cost = float(self._cost @ solution.x)
        return cost > solution.objective + _COST_TOLERANCE * max(1.0, abs(cost))

    def _run(self) -> ProgramSolution:
        highs = self._highs
        # HiGHS counts its time limit over all runs of one instance.
        highs.setOptionValue("time_limit", highs.getRunTime() + max(self._budget.remaining_s, 1e-3))
        highs.run()
        status = highs.getModelStatus()
        info = highs.getInfo()
        solution = highs.getSolution()
        optimal = status == highspy.HighsModelStatus.kOptimal
        has_point = info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
        objective = float(info.objective_function_value)
        bound = float(info.mip_dual_bound) if self._is_mip else (objective if optimal else -np.inf)
        return ProgramSolution(
            optimal=optimal,
            has_point=has_point,
            x=np.array(solution.col_value, dtype=np.float64),
            row_dual=np.array(solution.row_dual, dtype=np.float64),
            objective=objective,
            bound=bound,
        )

    def set_cost(self, cost: FloatArray) -> None:
        """Replace the costs of all columns."""
        self._cost = cost.copy()
        self._highs.changeColsCost(self._columns, np.arange(self._columns, dtype=np.int32), cost)

    def set_costs_of(self, columns: IntArray, cost: FloatArray) -> None:
        """Replace the costs of some columns."""
        self._cost[columns] = cost
        self._highs.changeColsCost(len(columns), columns.astype(np.int32), cost)

    def set_row_bounds(self, rows: IntArray, lower: FloatArray, upper: FloatArray) -> None:
        """Replace the bounds of some rows."""
        self._highs.changeRowsBounds(len(rows), rows.astype(np.int32), lower, upper)  # type: ignore[attr-defined]  # not in the stubs

    def add_row(self, columns: IntArray, values: FloatArray, lower: float, upper: float) -> None:
        """Add lower <= values·x[columns] <= upper."""
        self._highs.addRow(lower, upper, len(columns), columns.astype(np.int32), values)

    def add_columns(self, cost: FloatArray, columns: sparse.csc_array) -> None:
        """Add columns that are not negative, with their entries in the rows."""
        begin, row = (entries.astype(np.int64) for entries in (columns.indptr[:-1], columns.indices))
        self.add_entries(cost, begin, row, columns.data)

    def add_entries(self, cost: FloatArray, begin: IntArray, row: IntArray, value: FloatArray) -> None:
        """Add columns that are not negative: first entry of each, row and value of each entry."""
        count = len(cost)
        self._highs.addCols(
            count, cost, np.zeros(count), np.full(count, INFINITY), len(value), begin.astype(np.int32),
            row.astype(np.int32), value,
        )  # fmt: skip
        self._columns += count
        self._cost = np.append(self._cost, cost)

    def start_from(self, values: dict[int, float]) -> None:
        """Give values of some columns to start a mixed-integer solve from; HiGHS completes what is missing."""
        columns = np.fromiter(values, dtype=np.int32, count=len(values))
        self._highs.setSolution(len(values), columns, np.fromiter(values.values(), dtype=np.float64, count=len(values)))
