"""A linear or mixed-integer program put together block by block, and solved by HiGHS."""

from __future__ import annotations

from dataclasses import dataclass

import highspy
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from tests.engine.dispatch.reference.case import FloatArray, IntArray

# Above this an interior point and a crossover are faster than the simplex.
_INTERIOR_POINT_COLUMNS = 30_000
_FINEST = 1e-9


class NoOptimumError(RuntimeError):
    """HiGHS did not prove an optimum."""


@dataclass(frozen=True)
class Solved:
    """An optimum.

    Attributes:
        x: Values of the columns.
        row_dual: Change of the optimum for each unit of a row's bound; with the integers fixed.
        objective: Of ``x``.
        bound: Proven lower bound.
    """

    x: FloatArray
    row_dual: FloatArray
    objective: float
    bound: float


class Program:
    """minimise cost·x subject to lower <= matrix·x <= upper and bounds of x."""

    def __init__(self) -> None:
        self.column_count = self.row_count = 0
        self._cost: list[FloatArray] = []
        self._column_bounds: list[FloatArray] = []
        self._integer: list[NDArray[np.bool_]] = []
        self._row_bounds: list[FloatArray] = []
        self._entries: list[tuple[IntArray, IntArray, FloatArray]] = []

    def columns(
        self,
        count: int,
        *,
        cost: FloatArray | float = 0.0,
        lower: FloatArray | float = 0.0,
        upper: FloatArray | float = np.inf,
        integer: bool = False,
    ) -> IntArray:
        """Add columns; their numbers."""
        self._cost.append(np.broadcast_to(np.asarray(cost, dtype=float), count))
        self._column_bounds.append(_bounds(count, lower, upper))
        self._integer.append(np.full(count, integer))
        self.column_count += count
        return np.arange(self.column_count - count, self.column_count)

    def rows(self, count: int, *, lower: FloatArray | float = -np.inf, upper: FloatArray | float = np.inf) -> IntArray:
        """Add rows; their numbers."""
        self._row_bounds.append(_bounds(count, lower, upper))
        self.row_count += count
        return np.arange(self.row_count - count, self.row_count)

    def put(self, rows: IntArray, columns: IntArray, values: FloatArray | float) -> None:
        """Add one entry for each pair of row and column."""
        count = len(columns)
        self._entries.append((rows, columns, np.broadcast_to(np.asarray(values, dtype=float), count)))

    def solve(self, time_limit_s: float) -> Solved:
        """The optimum.

        Raises:
            NoOptimumError: None was proven in time, or there is none.
        """
        integer = np.concatenate(self._integer)
        highs = self._passed(integer)
        highs.setOptionValue("time_limit", time_limit_s)
        if not integer.any():
            return self._run(highs)
        mixed = self._run(highs)
        whole = np.flatnonzero(integer).astype(np.int32)
        values = np.round(mixed.x[whole])
        highs = self._passed(np.zeros_like(integer))
        highs.changeColsBounds(len(whole), whole, values, values)
        fixed = self._run(highs)
        return Solved(fixed.x, fixed.row_dual, fixed.objective, mixed.bound)

    def _passed(self, integer: NDArray[np.bool_]) -> highspy.Highs:
        lp = highspy.HighsLp()
        lp.num_row_, lp.num_col_ = self.row_count, self.column_count
        lp.col_cost_ = np.concatenate(self._cost)
        lp.col_lower_, lp.col_upper_ = np.concatenate(self._column_bounds, axis=1)
        lp.row_lower_, lp.row_upper_ = np.concatenate([np.zeros((2, 0)), *self._row_bounds], axis=1)
        rows, columns, values = (np.concatenate(part) for part in zip(*self._entries, strict=True))
        matrix = sparse.csc_array((values, (rows, columns)), shape=(self.row_count, self.column_count))
        lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = matrix.indptr, matrix.indices, matrix.data
        if integer.any():
            types = highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger
            lp.integrality_ = [types[int(whole)] for whole in integer]
        highs = highspy.Highs()
        options: dict[str, bool | int | float | str] = {"output_flag": False, "threads": 1, "random_seed": 0}
        options |= {"mip_rel_gap": 0.0, "mip_abs_gap": 1e-9}
        if self.column_count > _INTERIOR_POINT_COLUMNS:
            options["solver"] = "ipx"
        else:
            options |= {f"{kind}_feasibility_tolerance": _FINEST for kind in ("primal", "dual", "mip")}
        for name, value in options.items():
            highs.setOptionValue(name, value)
        highs.passModel(lp)
        return highs

    def _run(self, highs: highspy.Highs) -> Solved:
        highs.run()
        if highs.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            raise NoOptimumError(highs.modelStatusToString(highs.getModelStatus()))
        info, solution = highs.getInfo(), highs.getSolution()
        objective = float(info.objective_function_value)
        is_mixed = len(highs.getLp().integrality_) > 0
        return Solved(
            x=np.array(solution.col_value, dtype=float),
            row_dual=np.array(solution.row_dual, dtype=float),
            objective=objective,
            bound=float(info.mip_dual_bound) if is_mixed else objective,
        )


def _bounds(count: int, lower: FloatArray | float, upper: FloatArray | float) -> FloatArray:
    bounds = np.empty((2, count))
    bounds[0], bounds[1] = lower, upper
    return np.clip(bounds, -highspy.kHighsInf, highspy.kHighsInf)
