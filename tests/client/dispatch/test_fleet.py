"""Tables of assets become columns of the contract, and what cannot is named by its column."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from evflex.client import InvalidRequestError
from evflex.client.dispatch import fleet as fleet_module
from evflex.client.dispatch.fleet import COLUMNS, KINDS, TRANSLATED_COLUMNS, FleetColumns, profile_messages
from evflex.dispatch.v1 import fleet_pb2

NOON = pd.Timestamp("2026-03-04 12:00", tz="Europe/Copenhagen")


def one(frame: pd.DataFrame) -> fleet_pb2.Fleet:
    (message,) = FleetColumns.from_frame(frame).messages()
    return message


def faults(frame: pd.DataFrame) -> dict[str, str]:
    with pytest.raises(InvalidRequestError) as caught:
        FleetColumns.from_frame(frame)
    assert not caught.value.retryable
    return {violation.field: violation.description for violation in caught.value.violations}


def test_every_field_of_the_contract_has_a_column() -> None:
    fields = {field.name for field in fleet_pb2.Fleet.DESCRIPTOR.fields}
    assert {TRANSLATED_COLUMNS.get(name, name) for name in COLUMNS if name != "asset_id"} == fields - {"asset_ids"}


def test_a_table_becomes_columns() -> None:
    frame = pd.DataFrame(
        {
            "asset_id": ["car", "box", "roof"],
            "kind": ["EV", "BATTERY", "PV"],
            "group": ["north", None, "south"],
            "operator": ["x", "y", "x"],
            "available_from": [NOON, NOON, NOON + pd.Timedelta(hours=1)],
            "available_until": NOON + pd.Timedelta(hours=8, milliseconds=900),
            "max_charge_kw": [11, 50, 0],
            "discharge_efficiency": [0.9, 0.95, 1.0],
        }
    )
    columns = FleetColumns.from_frame(frame)
    (message,) = columns.messages()
    assert list(message.asset_ids) == ["car", "box", "roof"]
    assert list(message.kinds) == [fleet_pb2.ASSET_KIND_EV, fleet_pb2.ASSET_KIND_BATTERY, fleet_pb2.ASSET_KIND_PV]
    assert (columns.groups, list(message.group_indices)) == (["north", "south"], [0, -1, 1])
    assert (columns.operators, list(message.operator_indices)) == (["x", "y"], [0, 1, 0])
    assert list(message.available_from_unix_s) == [1772622000, 1772622000, 1772625600]
    assert list(message.available_until_unix_s) == [1772650800] * 3
    assert list(message.max_charge_kw) == [11.0, 50.0, 0.0]
    assert list(message.discharge_efficiency) == [0.9, 0.95, 1.0]


def test_absent_columns_are_left_to_the_server() -> None:
    message = one(pd.DataFrame({"asset_id": ["a", "b"]}))
    assert [field.name for field, _ in message.ListFields()] == ["asset_ids"]


def test_the_index_may_hold_the_identifiers() -> None:
    frame = pd.DataFrame({"max_charge_kw": [1.0, 2.0]}, index=pd.Index(["a", "b"], name="asset_id"))
    assert list(one(frame).asset_ids) == ["a", "b"]


def test_identifiers_that_are_numbers_become_text() -> None:
    assert list(one(pd.DataFrame({"asset_id": [7, 8]})).asset_ids) == ["7", "8"]


def test_all_categories_are_groups() -> None:
    groups = pd.Categorical(["b", None, "b"], categories=["a", "b", "c"])
    columns = FleetColumns.from_frame(pd.DataFrame({"asset_id": ["x", "y", "z"], "group": groups}))
    assert columns.groups == ["a", "b", "c"]
    assert columns.columns["group_indices"].tolist() == [1, -1, 1]


def test_groups_that_there_are_keep_their_index() -> None:
    frame = pd.DataFrame({"asset_id": ["x", "y", "z"], "group": ["new", "b", None], "operator": ["o", "o", "o"]})
    columns = FleetColumns.from_frame(frame, groups=["a", "b"], operators=["o"])
    assert columns.groups == ["a", "b", "new"]
    assert columns.columns["group_indices"].tolist() == [2, 1, -1]
    assert columns.operators == ["o"]


def test_all_kinds_have_names() -> None:
    assert set(KINDS) == {"EV", "BATTERY", "PV", "FLEXIBLE_LOAD", "HEAT_PUMP"}
    frame = pd.DataFrame({"asset_id": list(KINDS), "kind": pd.Categorical(list(KINDS))})
    assert list(one(frame).kinds) == list(KINDS.values())


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_any_resolution_of_time_is_read(unit: str) -> None:
    times = pd.Series([NOON]).dt.as_unit(unit)  # type: ignore[arg-type]
    assert list(one(pd.DataFrame({"asset_id": ["a"], "available_from": times})).available_from_unix_s) == [1772622000]


def test_large_fleets_are_cut_into_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_module, "ASSETS_PER_MESSAGE", 3)
    frame = pd.DataFrame({"asset_id": [f"a{i}" for i in range(7)], "max_charge_kw": np.arange(7.0)})
    messages = list(FleetColumns.from_frame(frame).messages())
    assert [len(message.asset_ids) for message in messages] == [3, 3, 1]
    assert [power for message in messages for power in message.max_charge_kw] == frame["max_charge_kw"].tolist()


def test_the_longest_identifiers_fit_below_the_servers_limit() -> None:
    count = fleet_module.ASSETS_PER_MESSAGE
    frame = pd.DataFrame({"asset_id": [f"{i:064d}" for i in range(count)], "kind": "EV", "group": None})
    frame = frame.assign(operator=None, available_from=NOON, available_until=NOON)
    frame = frame.assign(**dict.fromkeys(fleet_module.NUMBER_COLUMNS, 0.5))
    assert one(frame).ByteSize() < 12 * 1024 * 1024


@pytest.mark.parametrize(
    ("column", "values", "problem"),
    [
        ("max_chage_kw", [1.0, 2.0], "unknown column; did you mean max_charge_kw?"),
        ("max_charge_kw", [2.0, "a"], "row 1 must be a number, is 'a'"),
        ("max_charge_kw", [1.0, np.nan], "row 1 has no value; where the default holds for all, leave the column out"),
        ("kind", ["EV", "CAR"], "unknown kind 'CAR'; known are EV, BATTERY"),
        ("kind", ["EV", None], "row 1 has no value"),
        ("available_from", [pd.Timestamp("2026-03-04"), pd.Timestamp("2026-03-05")], "must have a time zone"),
        ("available_from", [NOON, pd.NaT], "row 1 has no value"),
        ("available_until", ["soon", "later"], "soon"),
        ("asset_id", ["a", None], "row 1 has no value"),
    ],
)
def test_a_column_that_cannot_be_read_is_named(column: str, values: list[Any], problem: str) -> None:
    frame = pd.DataFrame({"asset_id": ["a", "b"]}).assign(**{column: values})
    found = faults(frame)
    assert list(found) == [f"fleet.{column}"]
    assert problem in found[f"fleet.{column}"]


def test_all_faulty_columns_are_told_at_once() -> None:
    assert set(faults(pd.DataFrame({"kind": ["EV"], "speed": [1.0]}))) == {"fleet.asset_id", "fleet.speed"}
    frame = pd.DataFrame({"asset_id": ["a"], "kind": ["CAR"], "max_charge_kw": ["much"]})
    assert set(faults(frame)) == {"fleet.kind", "fleet.max_charge_kw"}


def test_profiles_become_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_module, "PROFILE_VALUES_PER_MESSAGE", 8)
    index = pd.date_range(NOON, periods=4, freq="15min")
    table = pd.DataFrame({"roof": [0.0, -1.0, -2.0, -1.0], "pump": 1.5, "barn": -3}, index=index)
    portions = list(profile_messages(table))
    assert [[profile.asset_id for profile in portion] for portion in portions] == [["roof", "pump"], ["barn"]]
    assert list(portions[0][0].power_kw) == [0.0, -1.0, -2.0, -1.0]
    assert portions[1][0].time_grid.step_count == 4
    assert portions[1][0].time_grid.start_time.ToJsonString() == "2026-03-04T11:00:00Z"


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        (pd.DataFrame({"roof": [1.0, 2.0]}), "start of each step"),
        (pd.DataFrame({"roof": ["a", "b"]}, index=pd.date_range(NOON, periods=2, freq="h")), "could not convert"),
    ],
)
def test_profiles_that_cannot_be_read_are_told(table: pd.DataFrame, problem: str) -> None:
    with pytest.raises(InvalidRequestError, match=problem):
        list(profile_messages(table))
