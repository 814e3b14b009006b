"""Power, energy and instants of the contract: whole watts, watt-hours and milliseconds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import pandas as pd
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from evflex.client.errors import InvalidRequestError, Violation
from evflex.client.moments import timestamp_message

# A watt that is missing by rounding alone, as in 1.001 kW * 1000 = 1000.9999999999999 W, is not taken away.
ROUNDING_W = 1e-6
# Far above what the contract allows, and still exact as a number of 64 bits.
MOST_KW = 1e12
NS_PER_MS = 1_000_000
NO_WHOLE_MS = "must be a whole millisecond"


def floor_thousandths(values_k: NDArray[np.float64]) -> NDArray[np.int64]:
    """Whole W (or Wh) of powers in kW (energies in kWh), rounded down.

    Raises:
        ValueError: A value is not finite, or too large for any unit; the row is named.
    """
    wrong = ~(np.abs(values_k) <= MOST_KW)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f"row {row} must be a finite number, is {values_k[row]}")
    return np.floor(values_k * 1000.0 + ROUNDING_W).astype(np.int64)


def in_thousands(value: int) -> float:
    """KW of W, or kWh of Wh."""
    return value / 1000.0


def optional_in_thousands(message: Message, name: str) -> float | None:
    """KW of a field in W, or kWh of one in Wh; None where it is not set."""
    return in_thousands(getattr(message, name)) if message.HasField(name) else None


@dataclass(slots=True)
class FieldWriter:
    """Writes fields of a request and gathers what is wrong with them.

    Attributes:
        violations: What is wrong so far.
    """

    violations: list[Violation] = field(default_factory=list)

    def down(self, value_k: float | None, path: str) -> int | None:
        """Whole W of kW, or Wh of kWh, rounded down; None is not set."""
        return self._rounded(value_k, path, lambda value: math.floor(value * 1000.0 + ROUNDING_W))

    def up(self, value_k: float | None, path: str) -> int | None:
        """Whole W of kW, or Wh of kWh, rounded up; None is not set."""
        return self._rounded(value_k, path, lambda value: math.ceil(value * 1000.0 - ROUNDING_W))

    def instant(self, value: datetime | None, path: str) -> Timestamp | None:
        """An instant with a time zone and in whole milliseconds; None is not set."""
        try:
            if value is not None and pd.Timestamp(value).as_unit("ns").value % NS_PER_MS:
                raise ValueError(f"{NO_WHOLE_MS}, is {pd.Timestamp(value)}; use Timestamp.floor('ms')")
            return timestamp_message(None if value is None else pd.Timestamp(value), path.rpartition(".")[2])
        except (TypeError, ValueError) as error:
            self.refuse(path, str(error))
            return None

    def named(self, name_of: Callable[[str], str], name: str, path: str) -> str | None:
        """Name of the contract for a short one."""
        try:
            return name_of(name)
        except ValueError as error:
            self.refuse(path, str(error))
            return None

    def refuse(self, path: str, description: str) -> None:
        """Note what is wrong with a field."""
        self.violations.append(Violation(path, description))

    def check(self) -> None:
        """End of the request.

        Raises:
            InvalidRequestError: Something is wrong.
        """
        if self.violations:
            raise InvalidRequestError.before_sending(self.violations)

    def _rounded(self, value_k: float | None, path: str, rounded: Callable[[float], int]) -> int | None:
        if value_k is None:
            return None
        try:
            value = float(value_k)
        except (TypeError, ValueError):
            value = math.nan
        if not abs(value) <= MOST_KW:
            self.refuse(path, f"must be a finite number, is {value_k!r}")
            return None
        return rounded(value)
