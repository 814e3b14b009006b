"""Forecasts of congestion of both clients: one row each, relief by step, worst values by name, broken streams."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import grpc
import numpy as np
import pandas as pd
import pytest

from evflex.client import (
    CongestionForecast,
    CongestionLimits,
    ForecastProgress,
    Injections,
    InjectionUncertainty,
    InvalidRequestError,
    Network,
    NotFoundError,
    ProfiledInjections,
    ServerError,
    TimeGrid,
)
from evflex.congestion.v1 import congestion_pb2, network_pb2
from evflex.congestion.v1 import congestion_service_pb2 as pb
from tests.client.congestion.messages import (
    UNAVAILABLE,
    flow_value,
    forecast_answers,
    forecast_message,
    forecast_progress,
    found,
    network_answers,
    network_message,
    overload,
    overvoltage,
    stored_answers,
    streaming,
    table_messages,
    worst_chunk,
)
from tests.client.fake_server import FakeServer, answering, failing

INDEX = pd.date_range("2026-01-14 17:00", periods=4, freq="15min", tz="UTC")
P_KW = pd.DataFrame({1: [1.0, 2.0, 3.0, 4.0], 2: [10.0, 20.0, 30.0, 40.0]}, index=INDEX)


def asked(server: FakeServer) -> pb.ForecastCongestionRequest:
    request: pb.ForecastCongestionRequest = server.asked("ForecastCongestion")[-1]
    return request


def test_congestions_come_as_rows_and_relief_by_step(client: Any, server: FakeServer) -> None:
    server.on("ForecastCongestion", streaming(forecast_answers()))
    forecast = client.forecast_congestion("n-1", P_KW, store=True)
    assert (forecast.forecast_id, forecast.network_id, forecast.congestion_count) == ("f-1", "n-1", 2)
    assert (forecast.contingency_count, forecast.flows_solved) == (3, 12)
    high, loaded = (forecast.congestions.loc[row] for row in (0, 1))
    assert (high["element_id"], high["kind"], high["contingency_id"], high["phase"]) == ("1", "OVERVOLTAGE", "", "")
    assert np.isnan(high["probability"])
    assert (loaded["element_id"], loaded["kind"], loaded["contingency_id"]) == ("line 7", "LINE_OVERLOAD", "trafo 0")
    assert (loaded["start_time"], loaded["end_time"], loaded["worst_time"]) == (INDEX[1], INDEX[3], INDEX[2])
    assert (loaded["worst_value"], loaded["limit"], loaded["phase"], loaded["probability"]) == (1.25, 1.0, "L2", 0.5)
    assert forecast.relief.loc[1, "relief_needed_kw"].to_dict() == {INDEX[1]: 10.0, INDEX[2]: 25.0}
    assert forecast.relief.loc[(0, INDEX[0]), "relief_needed_kw"] == -30.0
    assert forecast.relief.loc[1, "step_probability"].tolist() == [0.25, 0.5]
    assert forecast.relief.loc[1, "relief_bus_id"].tolist() == ["2", "2"]
    assert forecast.islands.loc[0].tolist() == ["trafo 0", ("1", "2"), ("line 9",)]
    assert forecast.not_converged["time"].tolist() == [INDEX[0], INDEX[3]]
    assert forecast.worst_loading_ratio is None
    assert forecast.solve_duration == timedelta(seconds=0.5)
    request = asked(server)
    assert request.request_id
    assert request.store
    assert request.contingencies.selection == congestion_pb2.CONTINGENCY_SELECTION_NONE
    assert not request.HasField("limits")
    assert not request.HasField("uncertainty")
    assert request.time_grid == TimeGrid.from_index(INDEX).to_message()


def test_congestions_are_told_as_they_are_found(client: Any, server: FakeServer) -> None:
    server.on("ForecastCongestion", streaming(forecast_answers()))
    progress: list[ForecastProgress] = []
    summaries: list[CongestionForecast] = []
    told = [
        (congestion.element_id, len(progress))
        for congestion in client.iter_congestions(
            "n-1", P_KW, on_progress=progress.append, on_summary=summaries.append, contingencies="ALL_BRANCHES"
        )
    ]
    assert told == [("1", 1), ("line 7", 2)]
    assert [(p.contingencies_done, p.contingency_count, p.flows_solved) for p in progress] == [(1, 3, 4), (2, 3, 8)]
    assert progress[0].elapsed_duration == timedelta(seconds=2)
    assert summaries[0].congestion_count == 2
    assert summaries[0].congestions.empty
    assert asked(server).contingencies.selection == congestion_pb2.CONTINGENCY_SELECTION_ALL_BRANCHES


def test_a_congestion_has_relief_by_time(client: Any, server: FakeServer) -> None:
    server.on("ForecastCongestion", streaming(forecast_answers()))
    high, loaded = client.iter_congestions("n-1", P_KW)
    assert loaded.relief_needed_kw.to_dict() == {INDEX[1]: 10.0, INDEX[2]: 25.0}
    assert loaded.step_probability.tolist() == [0.25, 0.5]
    assert (high.probability, high.step_probability) == (None, None)


def test_each_congestion_is_told_once_over_a_lost_connection(client: Any, server: FakeServer) -> None:
    lost = streaming(forecast_answers()[:3], grpc.StatusCode.UNAVAILABLE)
    again = [found(overload(), overvoltage()), forecast_answers()[-1]]
    server.on("ForecastCongestion", UNAVAILABLE, lost, UNAVAILABLE, streaming(again))
    assert [congestion.element_id for congestion in client.iter_congestions("n-1", P_KW)] == ["1", "line 7"]
    first, *others = server.asked("ForecastCongestion")
    assert all(other == first for other in others)
    server.on("ForecastCongestion", lost, streaming(again))
    assert client.forecast_congestion("n-1", P_KW).congestions["element_id"].tolist() == ["1", "line 7"]


def test_worst_values_are_named_by_the_network(client: Any, server: FakeServer) -> None:
    server.on("ForecastCongestion", streaming(forecast_answers(worst=True)))
    server.on("GetNetwork", streaming(network_answers()))
    forecast = client.forecast_congestion("n-1", P_KW, return_worst=True)
    assert asked(server).return_worst
    assert list(forecast.worst_voltage_min_pu.index) == list(INDEX)
    assert forecast.worst_voltage_min_pu["2"].tolist() == [flow_value(step, 2) for step in range(4)]
    assert forecast.worst_voltage_max_pu.loc[INDEX[3], "0"] == 3.5
    assert forecast.worst_loading_ratio["trafo 0"].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert forecast.worst_loading_ratio["line 7"].isna().all()
    assert len(server.asked("GetNetwork")) == 1


def test_a_network_with_tables_names_worst_values_without_a_call(client: Any, server: FakeServer) -> None:
    tables = network_pb2.NetworkTables()
    for part in table_messages():
        tables.MergeFrom(part)
    network = Network.from_message(network_message(), tables)
    server.on("ForecastCongestion", streaming(forecast_answers(worst=True)))
    forecast = client.forecast_congestion(network, P_KW, return_worst=True)
    assert list(forecast.worst_loading_ratio.columns) == ["trafo 0", "line 7"]
    assert asked(server).network_id == "n-1"
    assert server.asked("GetNetwork") == []


def test_worst_values_of_a_network_that_is_gone_are_numbered(client: Any, server: FakeServer) -> None:
    another = network_message()
    another.etag = "e-9"
    gone = failing(grpc.StatusCode.NOT_FOUND, "no network n-1")
    replaced = streaming([pb.GetNetworkResponse(network=another), *network_answers()[1:]])
    for behaviour in (gone, replaced):
        server.on("GetForecast", streaming(stored_answers(worst=True)))
        server.on("GetNetwork", behaviour)
        forecast = client.get_forecast("f-1", return_worst=True)
        assert list(forecast.worst_voltage_min_pu.columns) == [0, 1, 2]
        assert list(forecast.worst_loading_ratio.columns) == [0, 1]


def test_limits_are_written(client: Any, server: FakeServer) -> None:
    server.on("ForecastCongestion", streaming(forecast_answers()))
    limits = CongestionLimits(
        voltage_min_pu=0.95,
        max_loading_ratio=0.8,
        buses=pd.DataFrame(
            {"voltage_min_pu": 0.9, "voltage_max_pu": [1.05, 1.1]}, index=pd.Index([1, 2], name="bus_id")
        ),
        branches=pd.Series({"line 7": 1.2}),
    )
    client.forecast_congestion("n-1", P_KW, limits=limits)
    sent = asked(server).limits
    assert (sent.voltage_min_pu, sent.max_loading_ratio, sent.HasField("voltage_max_pu")) == (0.95, 0.8, False)
    assert (list(sent.bus_ids), list(sent.bus_voltage_max_pu)) == (["1", "2"], [1.05, 1.1])
    assert (list(sent.branch_ids), list(sent.branch_max_loading_ratio)) == (["line 7"], [1.2])


def test_contingencies_may_be_listed(client: Any, server: FakeServer) -> None:
    server.on("ForecastCongestion", streaming(forecast_answers()))
    client.forecast_congestion(
        "n-1", P_KW, contingencies=["trafo 0"], closable_branch_ids=["line 9"], min_probability=0.1
    )
    sent = asked(server).contingencies
    assert sent.selection == congestion_pb2.CONTINGENCY_SELECTION_LISTED
    assert (list(sent.branch_ids), list(sent.closable_branch_ids)) == (["trafo 0"], ["line 9"])
    assert asked(server).min_probability == 0.1
    client.forecast_congestion("n-1", P_KW, contingencies=[])
    assert asked(server).contingencies.selection == congestion_pb2.CONTINGENCY_SELECTION_NONE


def test_standard_deviations_are_put_in_the_order_of_the_injections(client: Any, server: FakeServer) -> None:
    server.on("ForecastCongestion", streaming(forecast_answers()))
    spread = pd.DataFrame({2: 0.2, 1: [0.1, 0.1, 0.1, 0.3]}, index=INDEX)
    uncertainty = InjectionUncertainty(p_std_kw=spread, q_std_kvar=spread, scenario_count=50, seed=7)
    client.forecast_congestion("n-1", Injections(P_KW), uncertainty=uncertainty)
    sent = asked(server).uncertainty
    assert list(sent.p_std_kw) == list(sent.q_std_kvar) == [0.1, 0.1, 0.1, 0.3, 0.2, 0.2, 0.2, 0.2]
    assert (sent.scenario_count, sent.seed, sent.sample_count) == (50, 7, 0)


def test_samples_are_written_one_after_another(client: Any, server: FakeServer) -> None:
    server.on("ForecastCongestion", streaming(forecast_answers()))
    uncertainty = InjectionUncertainty(samples_p_kw=[P_KW, P_KW + 100.0])
    client.forecast_congestion("n-1", P_KW, uncertainty=uncertainty)
    sent = asked(server).uncertainty
    assert sent.sample_count == 2
    assert list(sent.sample_p_kw[8:12]) == [101.0, 102.0, 103.0, 104.0]
    assert not sent.HasField("scenario_count")


ROWS = pd.DataFrame({"bus_id": ["1", "1"], "p_scale_kw": [5.0, 6.0]})
GRID = TimeGrid.from_index(INDEX)


def test_rows_of_profiles_have_deviations_in_their_order(client: Any, server: FakeServer) -> None:
    server.on("ForecastCongestion", streaming(forecast_answers()))
    load = ProfiledInjections(None, ROWS)
    client.forecast_congestion("n-1", load, time_grid=GRID, uncertainty=InjectionUncertainty(p_std_kw=P_KW))
    assert list(asked(server).uncertainty.p_std_kw) == [1.0, 2.0, 3.0, 4.0, 10.0, 20.0, 30.0, 40.0]


@pytest.mark.parametrize(
    ("arguments", "field", "problem"),
    [
        ({"injections": None}, "time_grid", "give time_grid, or injections with a time index"),
        ({"injections": P_KW.reset_index(drop=True)}, "time_grid", "give time_grid"),
        ({"contingencies": "ALL"}, "contingencies", "unknown contingency selection 'ALL'; known are NONE, ALL"),
        ({"uncertainty": InjectionUncertainty(p_std_kw=P_KW[[1]])}, "uncertainty", "p_std_kw must have the columns"),
        (
            {"uncertainty": InjectionUncertainty(samples_p_kw=[P_KW, P_KW.iloc[:2]])},
            "uncertainty",
            r"samples_p_kw[1] must have the index",
        ),
        (
            {
                "injections": ProfiledInjections(None, ROWS), "time_grid": GRID,
                "uncertainty": InjectionUncertainty(p_std_kw=P_KW[[1]]),
            },
            "uncertainty", "a column for each row",
        ),
        ({"limits": CongestionLimits(branches=pd.Series({"line 7": "high"}))}, "limits", "must be a number"),
        ({"limits": CongestionLimits(buses=pd.DataFrame({"bus_id": [1]}))}, "limits", "voltage_min_pu is missing"),
    ],
)  # fmt: skip
def test_what_cannot_be_written_is_told_before_it_is_sent(
    client: Any, server: FakeServer, arguments: dict[str, Any], field: str, problem: str
) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        client.forecast_congestion("n-1", **({"injections": P_KW} | arguments))
    assert refused.value.violations[0].field == field
    assert problem in refused.value.violations[0].description
    assert server.calls == []


def worst_answers(*parts: congestion_pb2.WorstChunk) -> list[pb.ForecastCongestionResponse]:
    values = [pb.ForecastCongestionResponse(worst=part) for part in parts]
    return [*forecast_answers()[:-1], *values, forecast_answers()[-1]]


@pytest.mark.parametrize(
    "messages",
    [
        [],
        forecast_answers()[:-1],
        [*forecast_answers()[:3], forecast_answers()[-1]],
        worst_answers(worst_chunk(0, 3)),
        worst_answers(worst_chunk(1, 3)),
        worst_answers(worst_chunk(0, 2), worst_chunk(3, 1)),
        worst_answers(worst_chunk(0, 3), congestion_pb2.WorstChunk(first_step=3, step_count=1, voltage_min_pu=[1.0])),
    ],
    ids=["nothing", "no summary", "one short", "short", "late", "a gap", "another width"],
)
def test_a_forecast_that_is_not_whole_is_an_error(client: Any, server: FakeServer, messages: list[Any]) -> None:
    server.on("ForecastCongestion", streaming(messages))
    server.on("GetNetwork", streaming(network_answers()))
    with pytest.raises(ServerError, match="the server's stream"):
        client.forecast_congestion("n-1", P_KW, return_worst=True)


def test_an_empty_forecast_is_that_of_a_checked_request(client: Any, server: FakeServer) -> None:
    empty = pb.ForecastCongestionResponse(summary=congestion_pb2.CongestionForecast())
    server.on("ForecastCongestion", streaming([empty]))
    forecast = client.forecast_congestion("n-1", P_KW, validate_only=True)
    assert asked(server).validate_only
    assert forecast.congestions.empty
    assert forecast.relief.empty
    assert list(forecast.relief.columns) == ["relief_bus_id", "relief_needed_kw", "step_probability"]


def test_a_stored_forecast_is_fetched(client: Any, server: FakeServer) -> None:
    lost = streaming(stored_answers()[:1], grpc.StatusCode.UNAVAILABLE)
    server.on("GetForecast", lost, streaming(stored_answers()))
    forecast = client.get_forecast("f-1")
    assert forecast.congestions["kind"].tolist() == ["OVERVOLTAGE", "LINE_OVERLOAD"]
    assert forecast.relief.loc[1, "relief_needed_kw"].tolist() == [10.0, 25.0]
    assert forecast.create_time == INDEX[0]
    assert server.asked("GetForecast")[1] == pb.GetForecastRequest(forecast_id="f-1")
    server.on("GetForecast", streaming(stored_answers()[1:]))
    with pytest.raises(ServerError, match="out of order"):
        client.get_forecast("f-1")


def test_forecasts_are_listed_and_deleted(client: Any, server: FakeServer) -> None:
    listed = pb.ListForecastsResponse(forecasts=[forecast_message("f-1"), forecast_message("f-2")])
    server.on("ListForecasts", answering(listed))
    server.on("DeleteForecast", UNAVAILABLE, answering(pb.DeleteForecastResponse()))
    forecasts = list(client.list_forecasts("n-1"))
    assert [forecast.forecast_id for forecast in forecasts] == ["f-1", "f-2"]
    assert forecasts[0].congestions.empty
    assert server.asked("ListForecasts")[0].network_id == "n-1"
    client.delete_forecast("f-1", etag="e-2")
    first, second = server.asked("DeleteForecast")
    assert first == second
    assert (first.forecast_id, first.etag) == ("f-1", "e-2")


def test_what_is_not_there_is_told(client: Any, server: FakeServer) -> None:
    server.on("GetForecast", failing(grpc.StatusCode.NOT_FOUND, "no forecast"))
    server.on("ForecastCongestion", streaming([forecast_progress(1)], grpc.StatusCode.NOT_FOUND))
    with pytest.raises(NotFoundError):
        client.get_forecast("none")
    with pytest.raises(NotFoundError):
        client.forecast_congestion("none", P_KW)
