"""Tables in files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

NEEDS_PYARROW = "Parquet files need pyarrow: pip install 'evflex[parquet]', or use a CSV file"

TableSource = pd.DataFrame | str | Path
"""A table, or the file that holds it."""


def read_table(source: TableSource, text_columns: Sequence[str]) -> pd.DataFrame:
    """The table itself, or that of a Parquet file (``.parquet``) or a CSV file (``.csv``, ``.csv.gz``).

    In CSV, times are ISO 8601 with an offset, and an empty cell is a missing value.

    Args:
        source: Table or file.
        text_columns: Columns that are text in CSV, though they may look like numbers.

    Raises:
        ImportError: pyarrow is missing for a Parquet file.
        OSError: The file cannot be read.
        ValueError: The file is of another kind, or is no table.
    """
    if isinstance(source, pd.DataFrame):
        return source
    path = Path(source)
    if path.suffix == ".parquet":
        try:
            return pd.read_parquet(path, engine="pyarrow")
        except ImportError:
            raise ImportError(NEEDS_PYARROW) from None
    if path.suffix == ".csv" or path.suffixes[-2:] == [".csv", ".gz"]:
        dtypes = dict.fromkeys(text_columns, "str")
        # only an empty cell is missing: a group may be called NA
        return pd.read_csv(path, dtype=dtypes, keep_default_na=False, na_values=[""])
    raise ValueError(f"{path} must end in .parquet, .csv or .csv.gz")
