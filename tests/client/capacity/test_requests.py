"""What callers write as messages of the contract, and what cannot be written is told before anything is sent."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from evflex.capacity.v1 import allocation_pb2, transformer_pb2
from evflex.client import (
    AgreementTerms,
    AllocationPolicy,
    ForecastLoading,
    Hub,
    InvalidRequestError,
    MeasuredLoading,
    ThermalParameters,
    ThermalState,
    TimeGrid,
    Transformer,
)
from evflex.client.capacity.requests import AllocationRequest, RatingRequest
from evflex.common.v1 import supply_node_pb2

INDEX = pd.date_range("2026-01-14 18:00", periods=3, freq="15min", tz="Europe/Copenhagen")
GRID = TimeGrid.from_index(INDEX)
BASE_KW = pd.Series([300.0, 320.0, 310.0], index=INDEX)
TRANSFORMER = Transformer("t-1", 630.0)
SESSIONS = pd.DataFrame(
    {
        "session_id": ["a", "b"],
        "arrival_time": INDEX[0],
        "departure_time": INDEX[2],
        "energy_needed_kwh": [10.0, 20.0],
        "max_charge_kw": 11.0,
    }
)


def faults(request: AllocationRequest | RatingRequest) -> dict[str, str]:
    with pytest.raises(InvalidRequestError) as caught:
        request.to_message()
    return {violation.field: violation.description for violation in caught.value.violations}


def test_a_transformer_carries_only_what_was_given() -> None:
    message = TRANSFORMER.to_message()
    assert (message.transformer_id, message.rated_kva) == ("t-1", 630.0)
    assert message.cooling == transformer_pb2.COOLING_ONAN
    for name in ("thermal_parameters", "max_loading_ratio", "max_hot_spot_c", "max_top_oil_c", "initial_state"):
        assert not message.HasField(name)
    assert not message.ambient_c


def test_a_transformer_carries_all_that_was_given() -> None:
    message = Transformer(
        "t-1", 630.0, "ONAF", thermal_parameters=ThermalParameters(k11=0.5), ambient_c=[-5.0, -4.0, -3.0],
        max_loading_ratio=1.3, max_loss_of_life_h_per_day=24.0, initial_state=ThermalState(40.0, 10.0, 2.0),
        paper="THERMALLY_UPGRADED",
    ).to_message()  # fmt: skip
    assert message.cooling == transformer_pb2.COOLING_ONAF
    assert message.paper == transformer_pb2.INSULATION_PAPER_THERMALLY_UPGRADED
    assert message.thermal_parameters.k11 == 0.5
    assert not message.thermal_parameters.HasField("k21")
    assert list(message.ambient_c) == [-5.0, -4.0, -3.0]
    assert (message.max_loading_ratio, message.max_loss_of_life_h_per_day) == (1.3, 24.0)
    assert ThermalState.from_message(message.initial_state) == ThermalState(40.0, 10.0, 2.0)
    assert ThermalState(40.0, 10.0, 2.0).hot_spot_c == 48.0


def test_a_forecast_gives_the_time_axis() -> None:
    message = RatingRequest(TRANSFORMER, ForecastLoading(BASE_KW, 0.2 * BASE_KW), risk_quantile=0.9).to_message()
    assert TimeGrid.from_message(message.time_grid) == GRID
    assert list(message.loading.forecast.load_kw) == [300.0, 320.0, 310.0]
    assert list(message.loading.forecast.load_kvar) == [60.0, 64.0, 62.0]
    assert not message.loading.forecast.quantiles
    assert message.risk_quantile == 0.9
    assert message.request_id


def test_a_table_of_quantiles_goes_row_by_row() -> None:
    table = pd.DataFrame({0.1: BASE_KW - 10.0, 0.9: BASE_KW + 10.0})
    expected = [290.0, 310.0, 300.0, 310.0, 330.0, 320.0]
    for loading in (ForecastLoading(table), ForecastLoading(table.to_numpy(), quantiles=[0.1, 0.9])):
        forecast = loading.to_message(GRID).forecast
        assert list(forecast.load_kw) == expected
        assert list(forecast.quantiles) == [0.1, 0.9]


def test_one_number_holds_for_all_steps() -> None:
    hubs = [Hub("h", 50.0, demand_kw=22.0, connected_evs=3)]
    message = AllocationRequest(TRANSFORMER, ForecastLoading(300.0), hubs, time_grid=GRID).to_message()
    assert list(message.loading.forecast.load_kw) == [300.0] * 3
    assert list(message.hubs[0].demand_kw) == [22.0] * 3
    assert list(message.hubs[0].connected_evs) == [3]


def test_a_measurement_needs_a_time_axis_of_its_own() -> None:
    measured = MeasuredLoading([400.0, 410.0, 390.0], np.full(3, 231.0), 0.97, INDEX[0])
    message = RatingRequest(TRANSFORMER, measured, GRID).to_message()
    assert list(message.loading.measured.current_a) == [400.0, 410.0, 390.0]
    assert message.loading.measured.power_factor == 0.97
    assert message.loading.measured.measurement_time.ToJsonString() == "2026-01-14T17:00:00Z"
    assert "give time_grid" in faults(RatingRequest(TRANSFORMER, measured))["time_grid"]


def test_contingency_is_told_for_all_steps_or_for_each() -> None:
    normal, contingency = transformer_pb2.GRID_CONDITION_NORMAL, transformer_pb2.GRID_CONDITION_CONTINGENCY
    for given, expected in (
        (None, []),
        (True, [contingency]),
        (pd.DatetimeIndex(INDEX).minute == 15, [normal, contingency, normal]),
    ):
        message = RatingRequest(
            TRANSFORMER, ForecastLoading(BASE_KW), contingency=given, n1_rated_kva=400.0, wanted=[True, False, True]
        ).to_message()
        assert list(message.grid_condition) == expected
        assert message.n1_rated_kva == 400.0
        assert list(message.wanted) == [True, False, True]


def test_a_hub_with_cars_is_written_from_a_table() -> None:
    terms = AgreementTerms(firm_kw=10.0, conditional_kw=40.0, notice=timedelta(minutes=30), currency_code="DKK")
    hub = Hub("h", 50.0, sessions=SESSIONS, phases="L1", phases_per_ev=1, weight=2.0, agreement=terms)
    message = AllocationRequest(
        TRANSFORMER, ForecastLoading(BASE_KW), [hub], "PRIORITY", time_limit=timedelta(seconds=2), store=True,
        previous_allocation_id="a-0",
    ).to_message()  # fmt: skip
    assert message.policy == allocation_pb2.ALLOCATION_POLICY_PRIORITY
    assert (message.store, message.previous_allocation_id) == (True, "a-0")
    assert message.time_limit_duration.seconds == 2
    (written,) = message.hubs
    assert written.phases == supply_node_pb2.PHASE_CONNECTION_L1
    assert (written.phases_per_ev, written.weight) == (1, 2.0)
    assert not written.HasField("min_kw_per_ev")
    assert [session.session_id for session in written.sessions] == ["a", "b"]
    assert written.sessions[1].energy_needed_kwh == 20.0
    assert written.sessions[0].departure_time.ToJsonString() == "2026-01-14T17:30:00Z"
    assert (written.agreement.hub_id, written.agreement.firm_kw) == ("h", 10.0)
    assert written.agreement.notice_duration.seconds == 1800
    assert AgreementTerms.from_message(written.agreement) == terms


def test_a_policy_may_be_a_name_or_a_member() -> None:
    for policy in AllocationPolicy:
        for given in (policy, str(policy)):
            message = AllocationRequest(TRANSFORMER, ForecastLoading(BASE_KW), [], given).to_message()
            assert allocation_pb2.AllocationPolicy.Name(message.policy) == f"ALLOCATION_POLICY_{policy.value}"


def test_everything_that_cannot_be_written_is_told_at_once() -> None:
    hubs = [
        Hub("a", 50.0, sessions=SESSIONS.rename(columns={"max_charge_kw": "max_chage_kw"}), phases="L4"),
        Hub("b", 50.0, demand_kw=["much"] * 3),  # type: ignore[list-item]
        Hub("c", 50.0, agreement=AgreementTerms(firm_kw=1.0, valid_from_time=pd.Timestamp("2026-01-01"))),
    ]
    told = faults(AllocationRequest(Transformer("t", 630.0, "WATER"), ForecastLoading(BASE_KW), hubs, "MAXMIN"))
    assert told["policy"] == (
        "unknown allocation policy 'MAXMIN'; known are MAX_MIN, PROPORTIONAL, WEIGHTED_PROPORTIONAL_FAIR, PRIORITY, "
        "LEAST_COST"
    )
    assert "unknown cooling 'WATER'; known are ONAN" in told["transformer"]
    assert told["hubs[0].sessions.max_chage_kw"] == "unknown column; did you mean max_charge_kw?"
    assert "unknown phases 'L4'" in told["hubs[0].phases"]
    assert "hubs[1].demand_kw" in told
    assert told["hubs[2].agreement"] == "valid_from_time must have a time zone"


def test_an_index_that_is_no_time_axis_is_told() -> None:
    uneven = BASE_KW.drop(INDEX[1]).reindex([INDEX[0], INDEX[2], INDEX[2] + pd.Timedelta("1h")])
    assert faults(RatingRequest(TRANSFORMER, ForecastLoading(uneven)))["time_grid"] == (
        "the index must rise in equal steps"
    )


def test_a_session_without_energy_is_told_with_its_column() -> None:
    hub = Hub("h", 50.0, sessions=SESSIONS.drop(columns="energy_needed_kwh"))
    told = faults(AllocationRequest(TRANSFORMER, ForecastLoading(BASE_KW), [hub]))
    assert told == {"hubs[0].sessions.energy_needed_kwh": "the column is missing"}
