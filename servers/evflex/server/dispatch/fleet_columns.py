"""The columns of a resident fleet: they grow by a little at a time, and an asset that goes is replaced by the last."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
from numba import njit
from numpy.typing import NDArray

from evflex.engine.dispatch.model import Fleet
from evflex.server.dispatch.id_kernels import Rows

COLUMN_NAMES = tuple(field.name for field in fields(Fleet))
_EMPTY = Fleet.of(0, {})
ROW_BYTES: int = sum(getattr(_EMPTY, name).itemsize for name in COLUMN_NAMES)


class FleetColumns:
    """Columns of equal capacity, of which the first `count` rows are assets."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self.count = 0
        self._columns: dict[str, NDArray[np.generic]] = {name: getattr(_EMPTY, name) for name in COLUMN_NAMES}

    @property
    def capacity(self) -> int:
        """Assets that there is room for."""
        return len(self._columns[COLUMN_NAMES[0]])

    @property
    def nbytes(self) -> int:
        """Memory taken."""
        return sum(column.nbytes for column in self._columns.values())

    def reserve(self, capacity: int) -> None:
        """Make room for `capacity` assets, so that adding them cannot fail."""
        if capacity <= self.capacity:
            return
        grown = {name: np.empty(capacity, dtype=column.dtype) for name, column in self._columns.items()}
        for name, column in self._columns.items():
            grown[name][: self.count] = column[: self.count]
        self._columns = grown

    def add(self, fleet: Fleet) -> None:
        """Append assets, for which there is room."""
        last = self.count + len(fleet)
        for name, column in self._columns.items():
            column[self.count : last] = getattr(fleet, name)
        self.count = last

    def put(self, rows: Rows, fleet: Fleet) -> None:
        """Overwrite the assets in `rows`."""
        for name, column in self._columns.items():
            column[rows] = getattr(fleet, name)

    def column(self, name: str) -> NDArray[np.generic]:
        """A column of all assets, not to be written."""
        return self._columns[name][: self.count]

    def fleet(self) -> Fleet:
        """All assets, copied."""
        return Fleet(**{name: self.column(name).copy() for name in COLUMN_NAMES})  # type: ignore[arg-type]

    def remove(self, targets: Rows, sources: Rows) -> None:
        """Let rows receive others, as :meth:`IdTable.remove` says, and shorten the columns by as many."""
        for column in self._columns.values():
            move_rows(column, targets, sources)
        self.count -= len(targets)


@njit(cache=True, nogil=True)
def move_rows(column: NDArray[np.generic], targets: Rows, sources: Rows) -> None:
    """Copy entries one after another; an entry may be moved on."""
    for i in range(len(targets)):
        column[targets[i]] = column[sources[i]]
