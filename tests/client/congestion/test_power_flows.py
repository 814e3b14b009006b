"""Power flows of both clients: tables out and in, part by part, and streams that break."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import grpc
import numpy as np
import pandas as pd
import pytest

from evflex.client import (
    DeadlineExceededError,
    Injections,
    InvalidRequestError,
    LimitExceededError,
    NotFoundError,
    PandapowerTables,
    PowerFlowOutputs,
    PowerFlowProgress,
    PowerFlowSummary,
    ProfiledInjections,
    ServerError,
    TimeGrid,
    pandapower_columns,
)
from evflex.common.v1 import supply_node_pb2
from evflex.congestion.v1 import congestion_service_pb2 as pb
from tests.client.congestion.messages import (
    NAN,
    UNAVAILABLE,
    chunk,
    flow_answers,
    flow_header,
    flow_progress,
    flow_summary,
    flow_value,
    streaming,
)
from tests.client.fake_server import FakeServer, failing

INDEX = pd.date_range("2026-01-14 18:00", periods=5, freq="15min", tz="Europe/Copenhagen")
UTC = list(INDEX.tz_convert("UTC"))
P_KW = pd.DataFrame({1: [1.0, 2.0, 3.0, 4.0, 5.0], 2: [10.0, 20.0, 30.0, 40.0, 50.0]}, index=INDEX)


def asked(server: FakeServer) -> pb.RunPowerFlowRequest:
    request: pb.RunPowerFlowRequest = server.asked("RunPowerFlow")[0]
    return request


def expected(steps: range, columns: int = 3) -> np.ndarray[Any, Any]:
    return np.array([[flow_value(step, column) for column in range(columns)] for step in steps])


def test_a_table_of_power_becomes_tables_of_voltages(client: Any, server: FakeServer) -> None:
    server.on("RunPowerFlow", streaming(flow_answers()))
    flow = client.run_power_flow("n-1", P_KW)
    assert list(flow.voltage_pu.index) == UTC
    assert list(flow.voltage_pu.columns) == ["0", "1", "2"]
    assert np.array_equal(flow.voltage_pu.to_numpy(), expected(range(5)))
    assert (flow.network_id, flow.network_etag, flow.phase_count, flow.first_step) == ("n-1", "e-1", 1, 0)
    assert flow.converged.tolist() == [True] * 5
    assert flow.losses_kw.loc[INDEX[3]] == 1.5
    assert flow.branch_loading_ratio is None
    summary = flow.summary
    assert (summary.converged_count, summary.islanded_bus_ids) == (4, ("2",))
    assert summary.solve_duration == timedelta(seconds=0.25)
    assert summary.not_converged["time"].tolist() == UTC[1:3]
    assert summary.not_converged["weakest_bus_id"].tolist() == ["1", ""]
    assert summary.not_converged["nearest_solvable_loading_ratio"].isna().tolist() == [False, True]
    request = asked(server)
    assert list(request.injections.bus_ids) == ["1", "2"]
    assert list(request.injections.p_kw) == [1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0]
    assert not len(request.injections.q_kvar)
    assert request.time_grid == TimeGrid.from_index(INDEX).to_message()
    assert (request.outputs.voltage, request.outputs.voltage_angle, request.outputs.branch_loading) == (
        True,
        False,
        True,
    )


def test_reactive_power_is_put_in_the_order_of_active_power(client: Any, server: FakeServer) -> None:
    server.on("RunPowerFlow", streaming(flow_answers()))
    q_kvar = pd.DataFrame({2: 7.0, 1: 6.0}, index=INDEX)
    client.run_power_flow("n-1", Injections(P_KW, q_kvar, add_network_loads=True))
    assert list(asked(server).injections.q_kvar) == [6.0] * 5 + [7.0] * 5
    assert asked(server).injections.add_network_loads


def test_columns_may_name_phases_and_a_bus_twice(client: Any, server: FakeServer) -> None:
    server.on("RunPowerFlow", streaming(flow_answers()))
    columns = pd.MultiIndex.from_tuples([(1, "L1"), (1, "L2_L3"), ("2", "")])
    client.run_power_flow("n-1", pd.DataFrame(np.zeros((5, 3)), index=INDEX, columns=columns))
    assert list(asked(server).injections.bus_ids) == ["1", "1", "2"]
    assert list(asked(server).injections.phases) == [
        supply_node_pb2.PHASE_CONNECTION_L1,
        supply_node_pb2.PHASE_CONNECTION_L2_L3,
        supply_node_pb2.PHASE_CONNECTION_UNSPECIFIED,
    ]


def test_profiles_are_sent_in_few_numbers(client: Any, server: FakeServer) -> None:
    server.on("RunPowerFlow", streaming(flow_answers()))
    profiles = pd.DataFrame({"home": np.arange(5) / 4.0, "sun": [0.0, -1.0, -1.0, 0.0, 0.0]}, index=INDEX)
    rows = pd.DataFrame(
        {"bus_id": [1, 2, 2], "p_profile": ["sun", "home", None], "p_scale_kw": [5.0, 2.0, 1.0], "q_scale_kvar": 0.5}
    )
    client.run_power_flow("n-1", ProfiledInjections(profiles, rows))
    sent = asked(server).profiled_injections
    assert (sent.profile_count, list(sent.bus_ids)) == (2, ["1", "2", "2"])
    assert list(sent.profile_values) == [0.0, 0.25, 0.5, 0.75, 1.0, 0.0, -1.0, -1.0, 0.0, 0.0]
    assert list(sent.p_profile_indices) == [1, 0, -1]
    assert not len(sent.q_profile_indices)
    assert list(sent.q_scale_kvar) == [0.5, 0.5, 0.5]
    assert asked(server).time_grid.step_count == 5


def test_constant_rows_need_no_profiles(client: Any, server: FakeServer) -> None:
    server.on("RunPowerFlow", streaming(flow_answers()))
    rows = pd.DataFrame({"bus_id": ["1"], "p_scale_kw": [5.0], "q_profile": [None], "phases": ["L3"]})
    grid = TimeGrid(INDEX[0], timedelta(minutes=15), 5)
    assert list(client.run_power_flow("n-1", ProfiledInjections(None, rows), time_grid=grid).index) == UTC
    sent = asked(server).profiled_injections
    assert (sent.profile_count, list(sent.p_profile_indices), list(sent.q_profile_indices)) == (0, [-1], [-1])
    assert list(sent.phases) == [supply_node_pb2.PHASE_CONNECTION_L3]


def test_without_injections_the_network_has_its_own(client: Any, server: FakeServer) -> None:
    server.on("RunPowerFlow", streaming([flow_header(1), chunk(0, 1), flow_summary(1)]))
    assert list(client.run_power_flow("n-1").voltage_pu.index) == [0]
    assert asked(server).WhichOneof("load") is None


def test_steps_without_a_time_axis_are_counted(client: Any, server: FakeServer) -> None:
    server.on("RunPowerFlow", streaming(flow_answers()))
    flow = client.run_power_flow("n-1", P_KW.reset_index(drop=True))
    assert list(flow.voltage_pu.index) == [0, 1, 2, 3, 4]
    assert not asked(server).HasField("time_grid")


def test_one_instant_is_no_time_axis_and_keeps_its_time(client: Any, server: FakeServer) -> None:
    server.on("RunPowerFlow", streaming([flow_header(1), chunk(0, 1), flow_summary(1)]))
    flow = client.run_power_flow("n-1", P_KW.iloc[:1])
    assert list(flow.voltage_pu.index) == UTC[:1]
    assert not asked(server).HasField("time_grid")


def test_outputs_are_told_to_the_server(client: Any, server: FakeServer) -> None:
    server.on("RunPowerFlow", streaming(flow_answers()))
    outputs = PowerFlowOutputs(voltage=False, branch_power=True, branch_current=True, voltage_unbalance=True)
    client.run_power_flow("n-1", P_KW, outputs=outputs)
    sent = asked(server).outputs
    assert sent.HasField("voltage")
    assert [sent.voltage, sent.branch_power, sent.branch_current, sent.voltage_unbalance] == [False, True, True, True]


def test_three_phases_are_a_level_of_the_columns(client: Any, server: FakeServer) -> None:
    parts = [chunk(0, 2, 9), chunk(2, 3, 9)]
    for message, steps in zip(parts, (2, 3), strict=True):
        message.chunk.branch_loading_ratio.extend([0.5, NAN] * steps)
        message.chunk.voltage_unbalance_ratio.extend([0.01, 0.02, 0.03] * steps)
    server.on("RunPowerFlow", streaming([flow_header(5, 3), *parts, flow_summary(5)]))
    flow = client.run_power_flow("n-1", P_KW)
    assert flow.voltage_pu[("1", "L2")].tolist() == [flow_value(step, 4) for step in range(5)]
    assert flow.branch_loading_ratio["trafo 0"].tolist() == [0.5] * 5
    assert flow.branch_loading_ratio["line 7"].isna().all()
    assert flow.voltage_unbalance_ratio["2"].tolist() == [0.03] * 5


def test_a_step_in_several_chunks_is_one_part(client: Any, server: FakeServer) -> None:
    def apart(step: int) -> list[pb.RunPowerFlowResponse]:
        loading = chunk(step, 1, 2, "branch_loading_ratio")
        head, voltage = chunk(step, 1, 0), chunk(step, 1)
        del loading.chunk.converged[:], voltage.chunk.converged[:]
        return [head, voltage, flow_progress(step, 2), loading]

    server.on("RunPowerFlow", streaming([flow_header(2), *apart(0), *apart(1), flow_summary(2)]))
    parts = list(client.iter_power_flow("n-1", P_KW.iloc[:2]))
    assert [part.first_step for part in parts] == [0, 1]
    assert np.array_equal(parts[1].voltage_pu.to_numpy(), expected(range(1, 2)))
    assert np.array_equal(parts[1].branch_loading_ratio.to_numpy(), expected(range(1, 2), 2))


def test_parts_come_with_progress_and_a_summary_at_the_end(client: Any, server: FakeServer) -> None:
    server.on("RunPowerFlow", streaming(flow_answers()))
    progress: list[PowerFlowProgress] = []
    summaries: list[PowerFlowSummary] = []
    read = []
    for part in client.iter_power_flow("n-1", P_KW, on_progress=progress.append, on_summary=summaries.append):
        read.append((part.first_step, list(part.index), part.voltage_pu["2"].tolist()))
        assert not summaries or part.first_step == 4
    assert [first for first, _, _ in read] == [0, 2, 4]
    assert read[1] == (2, UTC[2:4], [flow_value(2, 2), flow_value(3, 2)])
    assert [(told.steps_done, told.step_count) for told in progress] == [(2, 5)]
    assert progress[0].elapsed_duration == timedelta(seconds=1.5)
    assert summaries[0].losses_kw.tolist() == [0.0, 0.5, 1.0, 1.5, 2.0]


def test_parts_go_on_after_a_lost_connection(client: Any, server: FakeServer) -> None:
    # three steps are handed out, and come in chunks of other sizes when the server is asked again
    lost = streaming(flow_answers(5, 3)[:4], grpc.StatusCode.UNAVAILABLE)
    nothing_new = streaming(flow_answers(5, 1)[:2], grpc.StatusCode.UNAVAILABLE)
    server.on("RunPowerFlow", UNAVAILABLE, lost, nothing_new, streaming(flow_answers(5, 2)))
    parts = list(client.iter_power_flow("n-1", P_KW))
    assert [part.first_step for part in parts] == [0, 3, 4]
    whole = pd.concat([part.voltage_pu for part in parts])
    assert np.array_equal(whole.to_numpy(), expected(range(5)))
    assert list(whole.index) == UTC
    first, *others = server.asked("RunPowerFlow")
    assert all(other == first for other in others)


def test_a_whole_flow_goes_on_after_a_lost_connection(client: Any, server: FakeServer) -> None:
    server.on("RunPowerFlow", streaming(flow_answers()[:4], grpc.StatusCode.UNAVAILABLE), streaming(flow_answers()))
    assert np.array_equal(client.run_power_flow("n-1", P_KW).voltage_pu.to_numpy(), expected(range(5)))


def test_a_network_that_changed_meanwhile_is_an_error(client: Any, server: FakeServer) -> None:
    lost = streaming(flow_answers()[:4], grpc.StatusCode.UNAVAILABLE)
    server.on("RunPowerFlow", lost, streaming([flow_header(5, etag="e-9"), *flow_answers()[1:]]))
    with pytest.raises(ServerError, match="changed to another network"):
        client.run_power_flow("n-1", P_KW)


@pytest.mark.parametrize(
    "messages",
    [
        [],
        flow_answers()[1:],
        flow_answers()[:-1],
        [*flow_answers()[:2], *flow_answers()[4:]],
        [*flow_answers()[:-1], chunk(5, 1), flow_answers()[-1]],
        [flow_header(5), chunk(0, 5, 2), flow_summary(5)],
        [flow_header(5), chunk(0, 4), flow_summary(5)],
        [flow_summary(5)],
    ],
    ids=["nothing", "headless", "no summary", "a gap", "too many", "another width", "short", "summary only"],
)
def test_a_stream_that_is_not_whole_is_an_error(client: Any, server: FakeServer, messages: list[Any]) -> None:
    server.on("RunPowerFlow", streaming(messages))
    with pytest.raises(ServerError, match="the server's stream"):
        client.run_power_flow("n-1", P_KW)
    with pytest.raises(ServerError, match="the server's stream"):
        list(client.iter_power_flow("n-1", P_KW))
    assert len(server.calls) == 2


NAIVE = P_KW.tz_localize(None)
ROWS = pd.DataFrame({"bus_id": ["1"], "p_scale_kw": [5.0]})


@pytest.mark.parametrize(
    ("injections", "field", "problem"),
    [
        (NAIVE, "time_grid", "must have a time zone"),
        (P_KW.iloc[[0, 1, 3]], "time_grid", "must rise in equal steps"),
        (pd.DataFrame({1: "two"}, index=INDEX), "injections", "could not convert"),
        (Injections(P_KW, P_KW.iloc[1:]), "injections", "q_kvar must have the index of p_kw"),
        (Injections(P_KW, P_KW[[1]]), "injections", "q_kvar must have the columns of p_kw"),
        (pd.concat({"N": P_KW}, axis=1).swaplevel(axis=1), "injections", "unknown phase connection 'N'"),
        (ProfiledInjections(P_KW, ROWS.assign(p_profile="x")), "injections", "there is no profile 'x'; there are 1, 2"),
        (
            ProfiledInjections(P_KW, ROWS.rename(columns={"p_scale_kw": "scale"})),
            "injections.rows.p_scale_kw",
            "missing",
        ),
        (ProfiledInjections(P_KW, ROWS.assign(p_scale_kw="x")), "injections", "row 0 must be a number"),
    ],
)
def test_what_cannot_be_written_is_told_before_it_is_sent(
    client: Any, server: FakeServer, injections: Any, field: str, problem: str
) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        client.run_power_flow("n-1", injections)
    assert refused.value.violations[0].field == field
    assert problem in refused.value.violations[0].description
    assert server.calls == []


@pytest.mark.parametrize(
    ("code", "kind"),
    [(grpc.StatusCode.NOT_FOUND, NotFoundError), (grpc.StatusCode.RESOURCE_EXHAUSTED, LimitExceededError)],
)
def test_refusals_are_told(client: Any, server: FakeServer, code: grpc.StatusCode, kind: type[Exception]) -> None:
    server.on("RunPowerFlow", failing(code))
    with pytest.raises(kind):
        client.run_power_flow("n-1", P_KW)
    assert len(server.calls) == 1


def test_who_stops_reading_ends_the_call(client: Any, server: FakeServer) -> None:
    ended = threading.Event()

    def endless(_request: Any, context: Any) -> Any:
        context.add_callback(ended.set)
        yield flow_header(1_000_000)
        for step in range(1_000_000):
            yield chunk(step, 1)

    server.on("RunPowerFlow", endless)
    parts = client.iter_power_flow("n-1")
    assert next(parts).first_step == 0
    parts.close()
    assert ended.wait(10.0)


def test_a_flow_that_takes_too_long_is_told(client: Any, server: FakeServer) -> None:
    def waiting(_request: Any, context: Any) -> Any:
        ended = threading.Event()
        context.add_callback(ended.set)
        yield from flow_answers()[:2]
        ended.wait(30.0)

    server.on("RunPowerFlow", waiting)
    with pytest.raises(DeadlineExceededError):
        client.run_power_flow("n-1", P_KW, timeout_s=0.3)
    assert len(server.calls) == 1


def test_columns_go_back_to_the_tables_of_pandapower(client: Any, server: FakeServer) -> None:
    parts = [chunk(0, 5)]
    parts[0].chunk.branch_loading_ratio.extend([0.5, 0.75] * 5)
    server.on("RunPowerFlow", streaming([flow_header(5), *parts, flow_summary(5)]))
    flow = client.run_power_flow("n-1", P_KW)
    tables = PandapowerTables.of(flow)
    assert tables.voltage_pu is not None
    assert tables.line_loading_ratio is not None
    assert tables.trafo_loading_ratio is not None
    assert tables.voltage_pu.columns.equals(pd.Index([0, 1, 2]))
    assert tables.line_loading_ratio[7].tolist() == [0.75] * 5
    assert tables.trafo_loading_ratio[0].tolist() == [0.5] * 5
    assert pandapower_columns(flow.branch_loading_ratio, "switch").empty


def test_columns_by_phase_go_back_as_well() -> None:
    columns = pd.MultiIndex.from_product([["line 3", "impedance 0", "line x"], ["L1", "L2", "L3"]])
    frame = pd.DataFrame(np.arange(18.0).reshape(2, 9), columns=columns)
    lines = pandapower_columns(frame, "line")
    assert lines[(3, "L2")].tolist() == [1.0, 10.0]
    assert lines.shape == (2, 3)
    assert pandapower_columns(frame, "impedance")[(0, "L1")].tolist() == [3.0, 12.0]
