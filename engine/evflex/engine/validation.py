"""How bad input is reported: every fault with the field's path and the rule it breaks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numba import njit
from numpy.typing import NDArray

MAX_REPORTED = 100


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that a field breaks.

    Attributes:
        field: Path of the field as in the public contract, for example ``sessions[3].max_charge_kw``.
        description: The rule, and the value that broke it.
    """

    field: str
    description: str


class InvalidProblemError(ValueError):
    """Input that breaks at least one rule.

    Attributes:
        violations: The first 100 faults found.
        total: Number of faults found.
    """

    def __init__(self, violations: Sequence[Violation]) -> None:
        """Keep the first 100 of ``violations``."""
        self.violations = tuple(violations[:MAX_REPORTED])
        self.total = len(violations)
        first = self.violations[0]
        more = f" (and {self.total - 1} more)" if self.total > 1 else ""
        super().__init__(f"{first.field}: {first.description}{more}")


@dataclass(slots=True)
class Rules:
    """Collects violations while a model is checked."""

    violations: list[Violation] = field(default_factory=list)

    def check(self, ok: bool, path: str, description: str) -> None:
        """Report ``path`` unless ``ok``."""
        if not ok:
            self.violations.append(Violation(path, description))

    def rows(
        self,
        table: str,
        column: str,
        bad: NDArray[np.bool_],
        rule: str,
        values: Sequence[object] | NDArray[np.generic],
    ) -> None:
        """Report ``table[i].column`` for each row i where ``bad``; the rule is followed by the row's value."""
        if bad.any():
            for i in np.flatnonzero(bad).tolist():
                self.violations.append(Violation(f"{table}[{i}].{column}", f"{rule}, is {values[i]}"))

    def identifiers(self, table: str, column: str, names: Sequence[str]) -> None:
        """Report each of a table's identifiers that is empty, or repeats one before it; no column for a plain list."""
        end = f".{column}" if column else ""
        if len(set(names)) == len(names) and "" not in names:
            return
        first: dict[str, int] = {}
        for i, name in enumerate(names):
            self.check(bool(name), f"{table}[{i}]{end}", "must not be empty")
            earlier = first.setdefault(name, i)
            if name and earlier != i:
                self.check(False, f"{table}[{i}]{end}", f"must be unique, repeats {table}[{earlier}]: {name!r}")

    def length(self, path: str, length: int, allowed: tuple[int, ...] | None) -> bool:
        """Report a length that is not allowed; None allows any. True when all is well."""
        if allowed is None or length in allowed:
            return True
        names = " or ".join(str(n) for n in sorted(set(allowed)))
        self.violations.append(Violation(path, f"must have length {names}, has {length}"))
        return False

    def array(
        self,
        path: str,
        values: NDArray[np.float64],
        lengths: tuple[int, ...] | None,
        *,
        minimum: float = -np.inf,
    ) -> bool:
        """Report a wrong length, and each entry that is not finite or lies below ``minimum``. True when all is well.

        No lengths means that any is allowed.
        """
        if not self.length(path, values.shape[0], lengths):
            return False
        if all_in_range(values, minimum):
            return True
        rule = "must be finite" if minimum == -np.inf else f"must be finite and >= {minimum:g}"
        for k in np.flatnonzero(~(np.isfinite(values) & (values >= minimum))):
            self.violations.append(Violation(f"{path}[{k}]", f"{rule}, is {values[k]}"))
        return False

    def raise_if_any(self) -> None:
        """Raise :class:`InvalidProblemError` when anything was reported."""
        if self.violations:
            raise InvalidProblemError(self.violations)


def all_in_range(values: NDArray[np.float64], minimum: float) -> bool:
    """Whether each value is finite and >= ``minimum``."""
    # an empty array may be of any kind, and each kind would be compiled for
    return values.shape[0] == 0 or bool(_all_in_range(values, minimum))


@njit(cache=True)  # holds the GIL: letting it go and waiting for it takes longer
def _all_in_range(values: NDArray[np.float64], minimum: float) -> bool:
    sound = True
    for value in values:
        sound &= minimum <= value < np.inf and value > -np.inf
    return sound
