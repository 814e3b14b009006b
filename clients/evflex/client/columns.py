"""Columns of a table that becomes a message: which there may be, and their values as arrays."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evflex.client.errors import Violation


def with_id_column(frame: pd.DataFrame, id_column: str) -> pd.DataFrame:
    """The table with its identifiers in a column; the index serves when it has that name."""
    return frame.reset_index() if frame.index.name == id_column else frame


def faulty_columns(frame: pd.DataFrame, required: Sequence[str], known: Sequence[str], table: str) -> list[Violation]:
    """Columns that are missing, unknown or there twice.

    Args:
        frame: Table.
        required: Columns that must be there.
        known: Columns that may be there.
        table: Name of the table in the violations.
    """
    missing = [name for name in required if name not in frame.columns]
    unknown = [str(name) for name in frame.columns if name not in known]
    twice = frame.columns[frame.columns.duplicated()]
    return [
        *(Violation(f"{table}.{name}", "the column is missing") for name in missing),
        *(Violation(f"{table}.{name}", f"unknown column{_hint(name, known)}") for name in unknown),
        *(Violation(f"{table}.{name}", "the column occurs twice") for name in twice),
    ]


def numbers(values: pd.Series) -> NDArray[np.float64]:
    """Numbers of a column; NaN where one is missing.

    Raises:
        ValueError: An entry is no number; the row is named.
        TypeError: The entries are of a kind that is no number.
    """
    try:
        return values.to_numpy(dtype=np.float64, na_value=np.nan)
    except ValueError as error:
        wrong = np.flatnonzero((pd.to_numeric(values, errors="coerce").isna() & values.notna()).to_numpy())
        if not len(wrong):
            raise
        row = int(wrong[0])
        raise ValueError(f"row {row} must be a number, is {values.iloc[row]!r}") from error


def instants_ns(values: pd.Series) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Nanoseconds since 1970-01-01 UTC of a column of times or of text in ISO 8601, and which are missing (then 0).

    Raises:
        ValueError: The times have no time zone, or a text is no time.
    """
    if values.empty:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.bool_)
    parsed = values if pd.api.types.is_datetime64_any_dtype(values.dtype) else pd.to_datetime(values, format="ISO8601")
    if not isinstance(parsed.dtype, pd.DatetimeTZDtype):
        raise ValueError("times must have a time zone, for example column.dt.tz_localize('Europe/Oslo')")
    missing = parsed.isna().to_numpy()
    instants = parsed.dt.tz_convert("UTC").dt.as_unit("ns").to_numpy(dtype="datetime64[ns]")
    return np.where(missing, 0, instants.astype(np.int64)), missing


def check_complete(missing: NDArray[np.bool_]) -> None:
    """Check that a column has a value in every row.

    Raises:
        ValueError: It has not; the first such row is named.
    """
    if missing.any():
        row = int(missing.argmax())
        raise ValueError(f"row {row} has no value; where the default holds for all, leave the column out")


def _hint(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"
