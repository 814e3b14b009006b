"""Fleets from Parquet and CSV are those of the table that was written."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

from evflex.client.dispatch.files import fleet_table
from evflex.client.dispatch.fleet import FleetColumns


@pytest.fixture
def fleet() -> pd.DataFrame:
    times = pd.date_range("2026-10-25 12:00", periods=3, freq="h", tz="UTC")
    return pd.DataFrame(
        {
            "asset_id": ["007", "8", "nine"],
            "kind": ["EV", "EV", "BATTERY"],
            "group": ["NA", None, "north"],
            "available_from": times,
            "max_charge_kw": [11.0, 7.4, 3.7],
        }
    )


def same(left: pd.DataFrame, right: pd.DataFrame) -> bool:
    one, other = FleetColumns.from_frame(left), FleetColumns.from_frame(right)
    return list(one.messages()) == list(other.messages()) and one.groups == other.groups


def test_a_table_is_taken_as_it_is(fleet: pd.DataFrame) -> None:
    assert fleet_table(fleet) is fleet


@pytest.mark.parametrize("name", ["fleet.csv", "fleet.csv.gz"])
def test_csv_is_read(fleet: pd.DataFrame, tmp_path: Path, name: str) -> None:
    fleet.to_csv(tmp_path / name, index=False)
    assert same(fleet_table(str(tmp_path / name)), fleet)


@pytest.mark.parametrize("indexed", [False, True])
def test_parquet_is_read(fleet: pd.DataFrame, tmp_path: Path, indexed: bool) -> None:
    written = fleet.set_index("asset_id") if indexed else fleet.assign(kind=pd.Categorical(fleet["kind"]))
    written.to_parquet(tmp_path / "fleet.parquet")
    assert same(fleet_table(tmp_path / "fleet.parquet"), fleet)


def test_a_missing_pyarrow_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"pip install 'evflex\[parquet\]', or use a CSV file"):
        fleet_table(tmp_path / "fleet.parquet")


def test_other_files_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must end in \.parquet, \.csv or \.csv\.gz"):
        fleet_table("fleet.xlsx")
