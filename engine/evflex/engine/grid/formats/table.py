"""Tables of a network file, read cell by cell: each fault with file, table, row, column and rule."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from evflex.engine.grid.formats.imported import Refusal
from evflex.engine.validation import Rules

# Numbers beyond these are mistakes; within them no product or square of the importers' formulas overflows or vanishes.
LARGEST, SMALLEST = 1e30, 1e-30
_WHOLE_LIMIT = 2**53
_TRUE, _FALSE = frozenset({"true", "1"}), frozenset({"false", "0"})
_ABSENT = frozenset({"", "null", "nan", "none"})


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a file.

    Attributes:
        path: File and table, as faults name them: ``net.json: line``.
        name: The table's name, with which elements are named.
        ids: What names each row.
        columns: Each of the table's length.
        rules: Where faults go.
        text: Whether cells are text, as in CSV, of which numbers are read.
    """

    path: str
    name: str
    ids: Sequence[str]
    columns: Mapping[str, Sequence[object]]
    rules: Rules
    text: bool = False

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.ids)

    def __iter__(self) -> Iterator[Row]:
        """Rows, from the first."""
        return (Row(self, i) for i in range(len(self.ids)))

    def has(self, *columns: str) -> bool:
        """Whether each column is there, empty or not."""
        return all(column in self.columns for column in columns)


class Row:
    """A row of a table, whose cells are read by kind; a fault is kept in the table's rules and makes it unsound."""

    __slots__ = ("_index", "_sound", "_table")

    def __init__(self, table: Table, index: int) -> None:
        """Row ``index`` of ``table``."""
        self._table, self._index = table, index
        self._sound = True

    def is_sound(self) -> bool:
        """Whether no fault was found in the row so far."""
        return self._sound

    @property
    def id(self) -> str:
        """What names the row in its table."""
        return self._table.ids[self._index]

    @property
    def element(self) -> str:
        """The element for people: table, id, and the name where there is one."""
        name = self._cell("name")
        named = f" {name!r}" if isinstance(name, str) and name and name != self.id else ""
        return f"{self._table.name} {self.id}{named}"

    def refusal(self, reason: str) -> Refusal:
        """A refusal of this element."""
        return Refusal(self.element, reason)

    def fault(self, column: str, rule: str) -> None:
        """Report a cell that breaks ``rule``."""
        self._sound = False
        value = self._cell(column)
        told = repr(value)
        self._table.rules.check(
            False,
            f"{self._table.path}[{self.id}].{column}",
            f"{rule}, is {told if len(told) < 80 else told[:77] + '…'}",
        )

    def number(self, column: str, default: float | None = None, *, positive: bool = False) -> float:
        """A finite number; without one the default, and a fault where there is none."""
        value = self._cell(column)
        if self._is_absent(value):
            if default is not None:
                return default
            self.fault(column, "must be given")
            return math.nan
        number = self._as_number(value)
        if number is None or math.isnan(number) or abs(number) > LARGEST:
            self.fault(column, f"must be a finite number of magnitude below {LARGEST:g}")
            return math.nan
        if abs(number) < SMALLEST:
            number = 0.0
        if positive and number <= 0.0:
            self.fault(column, "must be > 0")
            return math.nan
        return number

    def triple(self, column: str, default: float) -> tuple[float, float, float]:
        """Three finite numbers, one a phase; the default for each that is missing."""
        value = self._cell(column)
        if self._is_absent(value):
            return default, default, default
        if not isinstance(value, list) or len(value) != 3:
            self.fault(column, "must hold a number for each of three phases")
            return math.nan, math.nan, math.nan
        numbers = [default if self._is_absent(one) else self._as_number(one) for one in value]
        a, b, c = (math.nan if one is None or not abs(one) <= LARGEST else one for one in numbers)
        if math.isnan(a + b + c) and not math.isnan(default):
            self.fault(column, f"must hold finite numbers of magnitude below {LARGEST:g}")
        return a, b, c

    def limit(self, column: str) -> float:
        """A limit > 0, NaN where there is none or it is 0."""
        value = self._cell(column)
        if self._is_absent(value) or self._as_number(value) in (0.0, math.inf):
            return math.nan
        return self.number(column, positive=True)

    def whole(self, column: str, default: int | None = None) -> int:
        """A whole number; without one the default, and a fault where there is none."""
        value = self._cell(column)
        if self._is_absent(value) and default is not None:
            return default
        number = self._as_number(value)
        if number is None or not math.isfinite(number) or number != int(number) or abs(number) > _WHOLE_LIMIT:
            self.fault(column, "must be a whole number")
            return -1
        return int(number)

    def flag(self, column: str, default: bool | None = None) -> bool:
        """True or false; without one the default, and a fault where there is none."""
        value = self._cell(column)
        if self._is_absent(value) and default is not None:
            return default
        told = str(value).lower() if isinstance(value, (bool, int, str)) else ""
        if told not in _TRUE | _FALSE:
            self.fault(column, "must be true or false")
        return told in _TRUE

    def words(self, column: str, default: str | None = None) -> str:
        """A text; without one the default, and a fault where there is none."""
        value = self._cell(column)
        if self._is_absent(value):
            if default is not None:
                return default
            self.fault(column, "must be given")
            return ""
        if not isinstance(value, str):
            self.fault(column, "must be a text")
            return ""
        return value

    def given(self, column: str) -> bool:
        """Whether the cell holds something."""
        return not self._is_absent(self._cell(column))

    def lookup(self, column: str, known: Mapping[str, int], what: str) -> int:
        """Position of what the cell refers to, which ``known`` must hold; -1 with a fault."""
        value = self._cell(column)
        key = value.strip() if isinstance(value, str) and self._table.text else str(self.whole(column))
        if not self._sound:
            return -1
        at = known.get(key, -1)
        if at < 0:
            self.fault(column, f"must be {what}")
        return at

    def _cell(self, column: str) -> object:
        cells = self._table.columns.get(column)
        return None if cells is None else cells[self._index]

    def _is_absent(self, value: object) -> bool:
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return True
        return self._table.text and isinstance(value, str) and value.strip().lower() in _ABSENT

    def _as_number(self, value: object) -> float | None:
        if isinstance(value, str) and not self._table.text:
            return None
        if not isinstance(value, (bool, int, float, str)):
            return None
        try:
            return float(value)
        except (ValueError, OverflowError):
            return None
