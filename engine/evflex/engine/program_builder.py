"""A linear or mixed-integer program put together from blocks of columns and rows."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import sparse

from evflex.engine.highs import LinearProgram
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray


@dataclass(slots=True)
class Builder:
    """Columns and rows as they are added."""

    cost: list[FloatArray] = field(default_factory=list)
    lower: list[FloatArray] = field(default_factory=list)
    upper: list[FloatArray] = field(default_factory=list)
    integer: list[BoolArray] = field(default_factory=list)
    row_lower: list[FloatArray] = field(default_factory=list)
    row_upper: list[FloatArray] = field(default_factory=list)
    entries: list[tuple[IntArray, IntArray, FloatArray]] = field(default_factory=list)
    columns: int = 0
    rows: int = 0

    def add_columns(
        self, count: int, lower: object, upper: object, cost: object = 0.0, *, integer: bool = False
    ) -> IntArray:
        """Add columns; returns their indices."""
        for target, value in ((self.cost, cost), (self.lower, lower), (self.upper, upper)):
            target.append(np.broadcast_to(np.asarray(value, dtype=np.float64), (count,)))
        self.integer.append(np.full(count, integer))
        self.columns += count
        return np.arange(self.columns - count, self.columns)

    def add_rows(self, count: int, lower: object, upper: object) -> IntArray:
        """Add rows; returns their indices."""
        self.row_lower.append(np.broadcast_to(np.asarray(lower, dtype=np.float64), (count,)))
        self.row_upper.append(np.broadcast_to(np.asarray(upper, dtype=np.float64), (count,)))
        self.rows += count
        return np.arange(self.rows - count, self.rows)

    def put(self, rows: IntArray, columns: IntArray, values: object) -> None:
        """Add matrix entries."""
        self.entries.append((rows, columns, np.broadcast_to(np.asarray(values, dtype=np.float64), rows.shape)))

    def build(self) -> LinearProgram:
        """The program."""
        row, column, value = (
            np.concatenate([e[k] for e in self.entries]) if self.entries else np.empty(0) for k in range(3)
        )
        matrix = sparse.csc_array(
            (value, (row.astype(np.int32), column.astype(np.int32))), shape=(self.rows, self.columns)
        )
        none = np.empty(0)
        return LinearProgram(
            cost=np.concatenate([*self.cost, none]),
            column_lower=np.concatenate([*self.lower, none]),
            column_upper=np.concatenate([*self.upper, none]),
            matrix=matrix,
            row_lower=np.concatenate([*self.row_lower, none]),
            row_upper=np.concatenate([*self.row_upper, none]),
            integer=np.concatenate([*self.integer, np.empty(0, dtype=np.bool_)]),
        )
