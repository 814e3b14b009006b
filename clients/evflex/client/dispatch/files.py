"""Fleets in files."""

from __future__ import annotations

import pandas as pd

from evflex.client.files import TableSource, read_table

_TEXT_COLUMNS = ("asset_id", "kind", "group", "operator", "available_from", "available_until")


FleetSource = TableSource
"""A table of assets, or the file that holds it."""


def fleet_table(source: FleetSource) -> pd.DataFrame:
    """The table itself, or that of a Parquet or CSV file; errors as :func:`evflex.client.files.read_table`.

    In CSV, an empty group or operator means none.
    """
    return read_table(source, _TEXT_COLUMNS)
