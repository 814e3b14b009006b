"""Fleets in files."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

_TEXT_COLUMNS = ("asset_id", "kind", "group", "operator", "available_from", "available_until")
NEEDS_PYARROW = "Parquet files need pyarrow: pip install 'evflex[parquet]', or use a CSV file"


FleetSource = pd.DataFrame | str | Path
"""A table of assets, or the file that holds it."""


def fleet_table(source: FleetSource) -> pd.DataFrame:
    """The table itself, or that of a Parquet file (``.parquet``) or a CSV file (``.csv``, ``.csv.gz``).

    In CSV, times are ISO 8601 with an offset, and an empty group or operator means none.

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
        dtypes = dict.fromkeys(_TEXT_COLUMNS, "str")
        # only an empty cell is missing: a group may be called NA
        return pd.read_csv(path, dtype=dtypes, keep_default_na=False, na_values=[""])
    raise ValueError(f"{path} must end in .parquet, .csv or .csv.gz")
