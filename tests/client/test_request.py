"""Tables become messages of the contract, and what cannot is named before anything is sent."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from evflex.charging.v1 import charging_session_pb2 as session_pb
from evflex.client import (
    InvalidRequestError,
    ScheduleOptions,
    ScheduleRequest,
    SupplyNode,
    Tariff,
    TimeGrid,
)
from evflex.client.sessions import COLUMNS
from evflex.common.v1 import supply_node_pb2


def test_the_index_of_the_prices_is_the_time_axis(site: ScheduleRequest) -> None:
    message = site.to_message()
    assert message.time_grid.start_time.ToJsonString() == "2024-11-05T11:00:00Z"
    assert message.time_grid.step_duration.seconds == 3600
    assert message.time_grid.step_count == 4
    assert list(message.tariff.import_price_per_kwh) == [0.30, 0.10, 0.20, 0.40]
    assert message.tariff.currency_code == "EUR"


def test_local_times_become_utc(site: ScheduleRequest) -> None:
    first = site.to_message().sessions[0]
    assert first.arrival_time.ToJsonString() == "2024-11-05T11:00:00Z"
    assert first.departure_time.ToJsonString() == "2024-11-05T14:00:00Z"


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_any_resolution_of_time_is_read(site: ScheduleRequest, unit: str) -> None:
    times = site.sessions["arrival_time"].dt.as_unit(unit)
    message = replace(site, sessions=site.sessions.assign(arrival_time=times)).to_message()
    assert message.sessions[1].arrival_time.ToJsonString() == "2024-11-05T11:00:00Z"


def test_times_may_be_text_with_an_offset(site: ScheduleRequest) -> None:
    table = site.sessions.assign(arrival_time="2024-11-05T12:30:00.5+01:00")
    message = replace(site, sessions=table).to_message()
    assert message.sessions[0].arrival_time.ToJsonString() == "2024-11-05T11:30:00.500Z"


def test_absent_and_missing_values_are_not_set(site: ScheduleRequest) -> None:
    table = site.sessions.assign(charge_efficiency=[0.9, np.nan], shortfall_price_per_kwh=np.nan)
    table["minimum_energy_time"] = [pd.NaT, table["departure_time"][1]]
    first, second = replace(site, sessions=table).to_message().sessions
    assert first.charge_efficiency == 0.9
    assert not second.HasField("charge_efficiency")
    assert not first.HasField("shortfall_price_per_kwh")
    assert not first.HasField("max_cycles")
    assert not first.HasField("minimum_energy_time")
    assert second.HasField("minimum_energy_time")


def test_zero_is_set_and_not_absent(site: ScheduleRequest) -> None:
    message = replace(site, sessions=site.sessions.assign(max_cycles=0.0)).to_message()
    assert message.sessions[0].HasField("max_cycles")


def test_every_field_of_the_contract_has_a_column() -> None:
    fields = {field.name for field in session_pb.ChargingSession.DESCRIPTOR.fields} - {"state"}
    state = {f"state.{field.name}" for field in session_pb.SessionState.DESCRIPTOR.fields}
    assert set(COLUMNS) == fields | state


def test_the_state_is_written_with_dotted_columns(site: ScheduleRequest) -> None:
    table = site.sessions.copy()
    table["state.delivered_kwh"] = [3.0, np.nan]
    table["state.charging_now"] = [True, False]
    table["state.run_duration"] = pd.Series([timedelta(minutes=30), None])
    first, second = replace(site, sessions=table).to_message().sessions
    assert first.state.delivered_kwh == 3.0
    assert first.state.charging_now
    assert first.state.run_duration.seconds == 1800
    assert not second.state.HasField("run_duration")


def test_phases_are_known_by_their_short_names(site: ScheduleRequest) -> None:
    message = replace(site, sessions=site.sessions.assign(phases=pd.Series(["L1", None]))).to_message()
    assert message.sessions[0].phases == supply_node_pb2.PHASE_CONNECTION_L1
    assert message.sessions[1].phases == supply_node_pb2.PHASE_CONNECTION_UNSPECIFIED


def test_the_index_may_hold_the_session_ids(site: ScheduleRequest) -> None:
    message = replace(site, sessions=site.sessions.set_index("session_id")).to_message()
    assert [session.session_id for session in message.sessions] == ["a", "b"]


def test_no_sessions_are_allowed(site: ScheduleRequest) -> None:
    assert len(replace(site, sessions=site.sessions.iloc[:0]).to_message().sessions) == 0


def test_a_misspelt_column_is_named_with_the_nearest(site: ScheduleRequest) -> None:
    table = site.sessions.rename(columns={"max_charge_kw": "max_chage_kw"})
    with pytest.raises(InvalidRequestError) as caught:
        replace(site, sessions=table).to_message()
    found = {violation.field: violation.description for violation in caught.value.violations}
    assert found == {
        "sessions.max_charge_kw": "the column is missing",
        "sessions.max_chage_kw": "unknown column; did you mean max_charge_kw?",
    }
    assert not caught.value.retryable


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("arrival_time", pd.Timestamp("2024-11-05 12:00"), "time zone"),
        ("arrival_time", "noon", "noon"),
        ("energy_needed_kwh", "much", "much"),
        ("phases", "L4", "known are L1, L2, L3"),
        ("state.run_duration", "long", "long"),
    ],
)
def test_a_column_that_cannot_be_written_is_named(
    site: ScheduleRequest, column: str, value: str | pd.Timestamp, rule: str
) -> None:
    with pytest.raises(InvalidRequestError, match=rule) as caught:
        replace(site, sessions=site.sessions.assign(**{column: value})).to_message()
    assert caught.value.violations[0].field == f"sessions.{column}"


def test_all_that_cannot_be_written_is_told_at_once(site: ScheduleRequest) -> None:
    broken = replace(
        site,
        tariff=Tariff([0.1, 0.2]),
        nodes=[SupplyNode("grid", fixed_load_phases="L9")],
        options=ScheduleOptions(objective="PROFIT"),
        time_grid=TimeGrid(pd.Timestamp("2024-11-05"), timedelta(hours=1), 2),
    )
    with pytest.raises(InvalidRequestError) as caught:
        broken.to_message()
    assert [v.field for v in caught.value.violations] == ["time_grid", "nodes", "options"]


def test_prices_without_times_need_a_time_grid(site: ScheduleRequest) -> None:
    with pytest.raises(InvalidRequestError, match="time_grid"):
        replace(site, tariff=Tariff([0.1, 0.2])).to_message()


@pytest.mark.parametrize(
    ("index", "rule"),
    [
        (pd.date_range("2024-01-01", periods=3, freq="h"), "time zone"),
        (pd.date_range("2024-01-01", periods=1, freq="h", tz="UTC"), "two entries"),
        (pd.DatetimeIndex(["2024-01-01", "2024-01-02", "2024-01-04"], tz="UTC"), "equal steps"),
    ],
)
def test_an_index_that_is_no_time_axis_is_refused(index: pd.DatetimeIndex, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        TimeGrid.from_index(index)


def test_a_time_grid_spans_a_change_of_the_clock() -> None:
    grid = TimeGrid(pd.Timestamp("2024-10-27", tz="Europe/Copenhagen"), timedelta(hours=1), 25)
    assert grid.index[-1].tz_convert("Europe/Copenhagen") == pd.Timestamp("2024-10-27 23:00", tz="Europe/Copenhagen")
    assert TimeGrid.from_message(grid.to_message()).index.equals(grid.index)


def test_nodes_may_be_a_table(site: ScheduleRequest) -> None:
    table = pd.DataFrame(
        {"node_id": ["grid", "board"], "parent_node_id": ["", "grid"], "max_current_a": [np.nan, 63.0]}
    )
    root, board = replace(site, nodes=table).to_message().nodes
    assert not root.HasField("max_current_a")
    assert board.max_current_a == 63.0
    assert board.parent_node_id == "grid"


@pytest.mark.parametrize("table", [{"node": ["grid"]}, {"parent_node_id": [""]}])
def test_a_table_of_nodes_with_wrong_columns_is_refused(site: ScheduleRequest, table: dict[str, list[str]]) -> None:
    with pytest.raises(InvalidRequestError, match="column"):
        replace(site, nodes=pd.DataFrame(table)).to_message()


def test_limits_are_one_number_or_one_a_step(site: ScheduleRequest) -> None:
    nodes = [SupplyNode("grid", max_import_kw=np.arange(4.0), agreement_import_kw=5, fixed_load_kw=[1, 2, 3, 4])]
    (node,) = replace(site, nodes=nodes).to_message().nodes
    assert list(node.max_import_kw) == [0.0, 1.0, 2.0, 3.0]
    assert list(node.agreement_import_kw) == [5.0]
    assert list(node.fixed_load_kw) == [1.0, 2.0, 3.0, 4.0]
    assert list(node.max_export_kw) == []


def test_options_are_written_where_they_are_given(site: ScheduleRequest) -> None:
    options = ScheduleOptions(
        time_limit=timedelta(seconds=1.5),
        objective="EMISSIONS",
        shortfall_price_per_kwh=0.0,
        control_enabled=[True, False, True, True],
        departure_beyond_horizon="PRO_RATA",
    )
    message = replace(site, options=options).to_message().options
    assert message.time_limit_duration.nanos == 500_000_000
    assert message.HasField("shortfall_price_per_kwh")
    assert not message.HasField("relative_gap")
    assert list(message.control_enabled) == [True, False, True, True]


def test_each_request_has_an_id_of_its_own(site: ScheduleRequest, sessions: pd.DataFrame, prices: pd.Series) -> None:
    other = ScheduleRequest("depot", sessions, prices)
    assert other.request_id != site.request_id
    assert site.to_message().request_id == site.to_message().request_id == site.request_id
