"""Power flows are computed in blocks of steps and streamed as they come; injections are checked field by field."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import grpc
import numpy as np
import pytest

from evflex.common.v1 import supply_node_pb2
from evflex.congestion.v1 import power_flow_pb2
from evflex.server.congestion import flow_chunks
from tests.server.congestion.support import (
    MOST_KW,
    FakeGridEngine,
    RunningCongestion,
    flow_answer,
    flow_request,
    flowed,
    grid,
    imported,
    refused,
    running_congestion,
    toy,
    toy_column,
    toy_flow,
    toy_network,
)
from tests.server.support import info_of, until, violations_of

L1, L2_L3 = supply_node_pb2.PHASE_CONNECTION_L1, supply_node_pb2.PHASE_CONNECTION_L2_L3
EVERYTHING = power_flow_pb2.PowerFlowOutputs(branch_power=True, branch_current=True)
NOTHING = power_flow_pb2.PowerFlowOutputs(voltage=False, voltage_angle=False, branch_loading=False)
COLUMNS = ("voltage_pu", "voltage_angle_deg", "branch_loading_ratio")
FLOWS = ("from_p_kw", "from_q_kvar", "from_current_a", "to_p_kw", "to_q_kvar", "to_current_a")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCongestion]:
    with running_congestion(tmp_path_factory.mktemp("server")) as server:
        imported(server)
        imported(server, toy(4, phases=3), network_id="phases")
        imported(server, toy(5, cut=[2]), network_id="cut")
        yield server


def dense(p_kw: Any, q_kvar: Any = (), buses: Any = (1, 3), **fields: Any) -> power_flow_pb2.Injections:
    return power_flow_pb2.Injections(
        bus_ids=[f"bus-{i}" for i in buses], p_kw=np.ravel(p_kw).tolist(), q_kvar=np.ravel(q_kvar).tolist(), **fields
    )


def profiled(**fields: Any) -> power_flow_pb2.ProfiledInjections:
    values = {
        "profile_count": 2, "profile_values": [1.0, 2.0, 3.0, 10.0, 20.0, 30.0], "bus_ids": ["bus-1", "bus-3", "bus-3"],
        "p_profile_indices": [0, 1, -1], "p_scale_kw": [1.0, 2.0, 100.0], **fields,
    }  # fmt: skip
    return power_flow_pb2.ProfiledInjections(**values)


def faults(here: RunningCongestion, network_id: str = "net", **fields: Any) -> dict[str, str]:
    error = refused(here.congestion.RunPowerFlow, flow_request(network_id, **fields))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    return violations_of(error)


def test_without_injections_the_networks_own_loads_flow_for_one_step(here: RunningCongestion) -> None:
    answer = flowed(here)
    expected = toy_flow(toy_network(4), 10.0 * np.arange(4.0)[None], 5.0 * np.arange(4.0)[None], branch_flows=False)
    assert answer.header.network_id == "net"
    assert (answer.header.phase_count, answer.header.step_count) == (1, 1)
    assert list(answer.header.bus_ids) == [f"bus-{i}" for i in range(4)]
    assert list(answer.header.branch_ids) == [f"line-{i}" for i in range(3)]
    for name in COLUMNS:
        np.testing.assert_allclose(answer.array(name), toy_column(expected, name), atol=1e-12)
    assert [list(chunk.converged) for chunk in answer.chunks] == [[True]]
    assert (answer.summary.converged_count, list(answer.summary.losses_kw)) == (1, [60.0])
    assert not answer.summary.not_converged
    assert not answer.summary.islanded_bus_ids
    assert answer.summary.HasField("solve_duration")
    assert all(not len(getattr(answer.chunks[0], name)) for name in FLOWS)


def test_a_time_grid_repeats_the_networks_own_loads(here: RunningCongestion) -> None:
    answer = flowed(here, time_grid=grid(5))
    assert answer.header.step_count == 5
    assert list(answer.summary.losses_kw) == [60.0] * 5


def test_rows_draw_at_their_buses_and_others_nothing(here: RunningCongestion) -> None:
    p_kw, q_kvar = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), np.array([[7.0, 8.0, 9.0], [-1.0, -2.0, -3.0]])
    answer = flowed(here, injections=dense(p_kw, q_kvar), outputs=EVERYTHING)
    bus_p, bus_q = np.zeros((3, 4)), np.zeros((3, 4))
    bus_p[:, [1, 3]], bus_q[:, [1, 3]] = p_kw.T, q_kvar.T
    expected = toy_flow(toy_network(4), bus_p, bus_q, branch_flows=True)
    for name in (*COLUMNS, *FLOWS):
        np.testing.assert_allclose(answer.array(name), toy_column(expected, name), atol=1e-12)
    assert list(answer.summary.losses_kw) == [5.0, 7.0, 9.0]


def test_the_networks_own_loads_come_on_top_when_asked_for(here: RunningCongestion) -> None:
    answer = flowed(here, injections=dense([[1.0, 2.0], [0.0, 0.0]], add_network_loads=True))
    assert list(answer.summary.losses_kw) == [61.0, 62.0]
    answer = flowed(here, profiled_injections=profiled(add_network_loads=True))
    assert list(answer.summary.losses_kw) == [181.0, 202.0, 223.0]


def test_profiles_are_scaled_and_rows_of_one_bus_add_up(here: RunningCongestion) -> None:
    answer = flowed(here, profiled_injections=profiled(q_scale_kvar=[7.0, 0.0, 0.0]))
    voltage, angle = answer.array("voltage_pu"), answer.array("voltage_angle_deg")
    np.testing.assert_allclose(1e6 * (1.0 - voltage[:, 1]), [1.0, 2.0, 3.0])
    np.testing.assert_allclose(1e6 * (1.0 - voltage[:, 3]), [120.0, 140.0, 160.0])
    np.testing.assert_allclose(angle[:, 1], [1.0, 2.0, 3.0])  # by the profile of the active power
    own = flowed(here, profiled_injections=profiled(q_scale_kvar=[7.0, 0.0, 0.0], q_profile_indices=[-1, 0, 0]))
    np.testing.assert_allclose(own.array("voltage_angle_deg")[:, 1], [1.0, 1.0, 1.0])


def test_constant_rows_need_no_profile(here: RunningCongestion) -> None:
    constant = profiled(profile_count=0, profile_values=[], p_profile_indices=[-1, -1, -1])
    assert list(flowed(here, profiled_injections=constant, time_grid=grid(3)).summary.losses_kw) == [103.0] * 3
    assert list(flowed(here, profiled_injections=constant).summary.losses_kw) == [103.0]


def test_phases_draw_what_is_connected_to_them(here: RunningCongestion) -> None:
    rows = dense([[6.0], [8.0], [9.0]], buses=(1, 1, 2), phases=[L1, L2_L3, 0])
    answer = flowed(here, network_id="phases", injections=rows)
    assert answer.header.phase_count == 3
    drawn_kw = 1e6 * (1.0 - answer.array("voltage_pu")[0])
    np.testing.assert_allclose(drawn_kw, [[0, 0, 0], [6, 4, 4], [3, 3, 3], [0, 0, 0]], atol=1e-8)
    balanced = flowed(here, network_id="phases", injections=dense([[6.0], [9.0]]))
    np.testing.assert_allclose(1e6 * (1.0 - balanced.array("voltage_pu")[0, 1]), [2.0, 2.0, 2.0], atol=1e-8)


def test_phases_come_apart_but_for_what_is_one_number(here: RunningCongestion) -> None:
    outputs = power_flow_pb2.PowerFlowOutputs(branch_power=True, branch_current=True, voltage_unbalance=True)
    rows = dense([[6.0, 1.0], [8.0, 2.0], [9.0, 3.0]], buses=(1, 1, 2), phases=[L1, L2_L3, 0])
    answer = flowed(here, network_id="phases", injections=rows, outputs=outputs)
    p_kw = np.zeros((2, 4, 3))
    p_kw[:, 1] = [[6.0, 4.0, 4.0], [1.0, 1.0, 1.0]]
    p_kw[:, 2] = [[3.0] * 3, [1.0] * 3]
    expected = toy_flow(toy_network(4, 3), p_kw, np.zeros_like(p_kw), branch_flows=True)
    for name in (*COLUMNS, *FLOWS, "voltage_unbalance_ratio"):
        np.testing.assert_allclose(answer.array(name), toy_column(expected, name), atol=1e-12)
    # a network of one phase has no unbalance to tell
    assert not flowed(here, outputs=outputs).chunks[0].voltage_unbalance_ratio


def test_buses_without_a_source_are_told(here: RunningCongestion) -> None:
    assert list(flowed(here, network_id="cut").summary.islanded_bus_ids) == ["bus-3", "bus-4"]


def test_a_step_without_solution_is_told_and_the_others_are_solved(here: RunningCongestion) -> None:
    answer = flowed(here, injections=dense([[1.0, 2.0 * MOST_KW, 3.0], [0.0, 0.0, 0.0]]))
    assert [step.step for step in answer.summary.not_converged] == [1]
    assert answer.summary.converged_count == 2
    assert list(answer.chunks[0].converged) == [True, False, True]
    np.testing.assert_array_equal(answer.summary.losses_kw, [1.0, np.nan, 3.0])
    (unsolved,) = answer.summary.not_converged
    assert (unsolved.nearest_solvable_loading_ratio, unsolved.weakest_bus_id) == (0.5, "bus-1")


def test_the_first_steps_without_solution_are_explained(here: RunningCongestion) -> None:
    answer = flowed(here, injections=dense(np.full(1_200, 4.0 * MOST_KW), buses=[2]))
    assert answer.summary.converged_count == 0
    told = answer.summary.not_converged
    assert [step.step for step in told] == list(range(1_000))
    assert [step.HasField("nearest_solvable_loading_ratio") for step in told] == [True] * 50 + [False] * 950
    hopeless = dense([[2.0 * MOST_KW], [-1.0]])
    (unsolved,) = flowed(here, injections=hopeless).summary.not_converged
    assert not unsolved.HasField("nearest_solvable_loading_ratio")
    assert not unsolved.weakest_bus_id


def test_only_what_is_wanted_is_sent(here: RunningCongestion) -> None:
    (chunk,) = flowed(here, outputs=NOTHING).chunks
    assert [field.name for field, _ in chunk.ListFields()] == ["step_count", "converged"]
    outputs = power_flow_pb2.PowerFlowOutputs(voltage_angle=False, branch_loading=False, branch_current=True)
    (chunk,) = flowed(here, outputs=outputs).chunks
    assert {field.name for field, _ in chunk.ListFields()} == {
        "step_count", "converged", "voltage_pu", "from_current_a", "to_current_a",
    }  # fmt: skip


def test_blocks_add_up_to_the_whole(tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    steps, buses = 3_000, 120
    profiles, scale = generator.random((40, steps)), generator.random(buses)
    index = generator.integers(0, 40, buses)
    load = power_flow_pb2.ProfiledInjections(
        profile_count=40, profile_values=profiles.ravel().tolist(), bus_ids=[f"bus-{i}" for i in range(buses)],
        p_profile_indices=index.tolist(), p_scale_kw=scale.tolist(), q_scale_kvar=(scale / 2).tolist(),
    )  # fmt: skip
    with running_congestion(tmp_path) as here:
        imported(here, toy(buses))
        answer = flowed(here, profiled_injections=load, time_grid=grid(steps), outputs=EVERYTHING)
        assert len(here.engine.blocks) > 1
        assert sum(here.engine.blocks) == steps
    p_kw = (scale[:, None] * profiles[index]).T
    expected = toy_flow(toy_network(buses), p_kw, p_kw / 2, branch_flows=True)
    for name in (*COLUMNS, *FLOWS):
        np.testing.assert_allclose(answer.array(name), toy_column(expected, name), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(answer.summary.losses_kw, expected.losses_kw)
    assert answer.summary.converged_count == steps
    assert max(answer.sizes) <= 1 << 20
    assert min(answer.sizes[:-1]) >= 1 << 18


def test_a_step_of_a_very_large_network_comes_column_by_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_chunks, "_CHUNK_BYTES", 200)
    with running_congestion(tmp_path) as here:
        imported(here, toy(20))
        answer = flowed(here, time_grid=grid(3))
        assert len(answer.chunks) == 3 * 4
        expected = toy_flow(
            toy_network(20), np.tile(10.0 * np.arange(20.0), (3, 1)), np.tile(5.0 * np.arange(20.0), (3, 1)),
            branch_flows=False,
        )  # fmt: skip
        for name in COLUMNS:
            np.testing.assert_allclose(answer.array(name), toy_column(expected, name), atol=1e-12)
        assert sum(len(chunk.converged) for chunk in answer.chunks) == 3


def test_progress_is_told_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_chunks, "_BLOCK_BYTES", 1)
    monkeypatch.setattr("evflex.server.congestion.flows._PROGRESS_INTERVAL_S", 0.0)
    with running_congestion(tmp_path) as here:
        imported(here)
        answer = flowed(here, time_grid=grid(4))
        assert here.engine.blocks == [1] * 4
        assert [(p.steps_done, p.step_count) for p in answer.progress] == [(1, 4), (2, 4), (3, 4)]


def test_few_blocks_are_solved_ahead_of_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_chunks, "_BLOCK_BYTES", 8 * 8_000)
    with running_congestion(tmp_path) as here:
        imported(here, toy(20))
        stream = here.congestion.RunPowerFlow(flow_request(time_grid=grid(35_136)), timeout=60.0)
        next(stream)
        # the reader takes no more: the stream's window fills, then the server waits
        until(lambda: len(here.engine.blocks) > 1)
        steps, before = 0, -1
        while before != len(here.engine.blocks):
            before = len(here.engine.blocks)
            threading.Event().wait(0.3)
        assert sum(here.engine.blocks) < 35_136
        for message in stream:
            steps += message.chunk.step_count
        assert steps == 35_136


def test_blocks_that_were_sent_are_kept_no_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_chunks, "_BLOCK_BYTES", 1)

    class Counting(FakeGridEngine):
        """Knows how many of its answers are still there."""

        answers: ClassVar[list[weakref.ref[Any]]] = []
        most_alive = 0

        def run_power_flow(self, *arguments: Any) -> Any:
            flow = super().run_power_flow(*arguments)
            self.answers.append(weakref.ref(flow.losses_kw))
            self.most_alive = max(self.most_alive, sum(answer() is not None for answer in self.answers))
            return flow

    engine = Counting()
    with running_congestion(tmp_path, engine) as here:
        imported(here)
        assert flowed(here, time_grid=grid(200)).summary.converged_count == 200
        assert len(engine.answers) == 200
        assert engine.most_alive < 10


def test_a_client_that_leaves_stops_between_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_chunks, "_BLOCK_BYTES", 1)
    engine = FakeGridEngine(hold=True, hold_after=2)
    with running_congestion(tmp_path, engine) as here:
        imported(here)
        stream = here.congestion.RunPowerFlow(flow_request(time_grid=grid(100)), timeout=60.0)
        for _ in range(3):
            assert engine.started.acquire(timeout=10.0)
        stream.cancel()
        engine.release.set()
        until(lambda: here.server.pool.load() == (0, 0))
        assert len(engine.blocks) <= 5
        gc.collect()
        engine.hold = False
        assert flowed(here).summary.converged_count == 1


def test_a_deadline_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_chunks, "_BLOCK_BYTES", 1)
    engine = FakeGridEngine(hold=True)
    with running_congestion(tmp_path, engine) as here:
        imported(here)
        with pytest.raises(grpc.RpcError) as caught:
            list(here.congestion.RunPowerFlow(flow_request(time_grid=grid(9)), timeout=0.5))
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        engine.release.set()
        until(lambda: here.server.pool.load() == (0, 0))
        assert len(engine.blocks) < 9


def test_others_take_turns_with_a_long_flow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_chunks, "_BLOCK_BYTES", 1)
    with running_congestion(tmp_path, solve_threads=1, solve_queue_limit=0) as here:
        imported(here)
        long = here.congestion.RunPowerFlow(flow_request(time_grid=grid(2_000)), timeout=60.0)
        next(long)
        assert flowed(here).summary.converged_count == 1
        assert flow_answer_steps(long) == 2_000


def flow_answer_steps(stream: Any) -> int:
    return sum(message.chunk.step_count for message in stream)


def test_it_is_finished_while_the_server_drains(tmp_path: Path) -> None:
    engine = FakeGridEngine(hold=True)
    with running_congestion(tmp_path, engine) as here:
        imported(here)
        stream = here.congestion.RunPowerFlow(flow_request(), timeout=60.0)
        assert engine.started.acquire(timeout=10.0)
        stopping = threading.Thread(target=here.server.stop, args=(20.0,))
        stopping.start()
        engine.release.set()
        assert flow_answer(stream).summary.converged_count == 1
        stopping.join(20.0)
        assert here.server.wait(0.0)


def test_an_error_of_the_engine_tells_nothing_of_it(tmp_path: Path) -> None:
    with running_congestion(tmp_path, FakeGridEngine(error=RuntimeError("secret"))) as here:
        imported(here)
        error = refused(here.congestion.RunPowerFlow, flow_request())
        assert error.code() is grpc.StatusCode.INTERNAL
        assert "secret" not in error.details()


def test_too_many_steps_are_refused(tmp_path: Path) -> None:
    with running_congestion(tmp_path, max_steps=10) as here:
        imported(here)
        for fields in (
            {"time_grid": grid(11)},
            {"injections": dense([1.0] * 11, buses=[1])},
            {"profiled_injections": profiled(profile_count=1, profile_values=[1.0] * 11)},
        ):
            assert info_of(refused(here.congestion.RunPowerFlow, flow_request(**fields)))["limit"] == "max_steps"


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"time_grid": grid(0)}, "time_grid.step_count"),
        ({"time_grid": grid(1, 0)}, "time_grid.step_duration"),
        ({"injections": dense([1.0, 2.0], buses=[1, 9])}, "injections.bus_ids[1]"),
        ({"injections": dense([], buses=[])}, "injections.bus_ids"),
        ({"injections": dense([])}, "injections.p_kw"),
        ({"injections": dense([1.0, 2.0, 3.0])}, "injections.p_kw"),
        ({"injections": dense([1.0])}, "injections.p_kw"),
        ({"injections": dense([1.0, np.nan])}, "injections.p_kw[1]"),
        ({"injections": dense([1.0, 2.0], [np.inf, 0.0])}, "injections.q_kvar[0]"),
        ({"injections": dense([1.0, 2.0], [1.0])}, "injections.q_kvar"),
        ({"injections": dense([1.0, 2.0]), "time_grid": grid(2)}, "injections.p_kw"),
        ({"injections": dense([1.0, 2.0], phases=[0])}, "injections.phases"),
        ({"injections": dense([1.0, 2.0], phases=[0, L1])}, "injections.phases[1]"),
        ({"injections": dense([1.0, 2.0], phases=[0, 99])}, "injections.phases[1]"),
        ({"profiled_injections": profiled(profile_count=-1)}, "profiled_injections.profile_count"),
        ({"profiled_injections": profiled(profile_count=4)}, "profiled_injections.profile_values"),
        ({"profiled_injections": profiled(profile_values=[np.nan] * 6)}, "profiled_injections.profile_values[0]"),
        ({"profiled_injections": profiled(bus_ids=["bus-1", "x", "bus-3"])}, "profiled_injections.bus_ids[1]"),
        ({"profiled_injections": profiled(bus_ids=[])}, "profiled_injections.bus_ids"),
        ({"profiled_injections": profiled(p_profile_indices=[0, 2, 0])}, "profiled_injections.p_profile_indices[1]"),
        ({"profiled_injections": profiled(p_profile_indices=[0])}, "profiled_injections.p_profile_indices"),
        ({"profiled_injections": profiled(p_scale_kw=[1.0, 2.0])}, "profiled_injections.p_scale_kw"),
        ({"profiled_injections": profiled(p_scale_kw=[1.0, 2.0, np.inf])}, "profiled_injections.p_scale_kw[2]"),
        ({"profiled_injections": profiled(q_scale_kvar=[1.0])}, "profiled_injections.q_scale_kvar"),
        ({"profiled_injections": profiled(q_profile_indices=[9, 0, 0])}, "profiled_injections.q_profile_indices[0]"),
        ({"profiled_injections": profiled(), "time_grid": grid(4)}, "profiled_injections.profile_values"),
    ],
)  # fmt: skip
def test_what_breaks_a_rule_is_named(here: RunningCongestion, fields: dict[str, Any], path: str) -> None:
    blocks = len(here.engine.blocks)
    assert path in faults(here, **fields)
    assert len(here.engine.blocks) == blocks


def test_every_fault_is_told_at_once(here: RunningCongestion) -> None:
    told = faults(here, injections=dense([np.nan, 1.0], [1.0], buses=[8, 9]))
    assert list(told) == ["injections.bus_ids[0]", "injections.bus_ids[1]", "injections.p_kw[0]", "injections.q_kvar"]


def test_numbers_too_large_to_multiply_are_no_internal_error(here: RunningCongestion) -> None:
    huge = profiled(p_scale_kw=[1e308] * 3, profile_values=[1e308] * 6)
    assert "profiled_injections.p_scale_kw[0]" in faults(here, profiled_injections=huge)


def test_steps_are_counted(here: RunningCongestion) -> None:
    before = here.server.metrics.registry.get_sample_value("evflex_flow_steps_total") or 0.0
    flowed(here, time_grid=grid(7))
    assert here.server.metrics.registry.get_sample_value("evflex_flow_steps_total") == before + 7.0
