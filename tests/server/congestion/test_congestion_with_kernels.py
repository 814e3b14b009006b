"""Networks and power flows with the readers and kernels themselves: right numbers, and bad networks that are named."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from evflex.congestion.v1 import congestion_service_pb2 as api
from evflex.congestion.v1 import congestion_service_pb2_grpc, network_pb2, power_flow_pb2
from evflex.engine.grid.formats import archive
from evflex.server.app import Server
from evflex.server.congestion import flow_chunks
from tests.server.congestion.support import FlowAnswer, flow_answer, flow_request, grid, header, refused, upload
from tests.server.support import open_channel, settings_for, violations_of

pytestmark = pytest.mark.slow  # where kernels are compiled first

MATPOWER, PGM = network_pb2.NETWORK_FORMAT_MATPOWER, network_pb2.NETWORK_FORMAT_POWER_GRID_MODEL
BUS = "{0} {1} {2} {3} 0 0 1 1 0 20 1 1.05 0.95;"
BRANCH = "{0} {1} {2} {3} 0 {4} 0 0 0 0 1 -360 360;"


def case(
    buses: list[tuple[Any, ...]],
    branches: list[tuple[Any, ...]],
    sources: tuple[tuple[int, float], ...] = ((1, 1.0),),
    extra: str = "",
) -> bytes:
    """A MATPOWER case of 1 MVA: buses (number, type, MW, Mvar), branches (from, to, r, x, rating in MVA)."""
    gens = "\n".join(f"{bus} 0 0 9 -9 {voltage} 1 1 9 -9;" for bus, voltage in sources)
    rows = "\n".join(BUS.format(*bus) for bus in buses)
    lines = "\n".join(BRANCH.format(*branch) for branch in branches)
    return (
        f"function mpc = toy\nmpc.version = '2';\nmpc.baseMVA = 1;\nmpc.bus = [\n{rows}\n];\n"
        f"mpc.gen = [\n{gens}\n];\nmpc.branch = [\n{lines}\n];\n{extra}"
    ).encode()


TWO_BUSES = case([(1, 3, 0, 0), (2, 1, 0.4, 0.2)], [(1, 2, 0.02, 0.05, 1.0)])


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    server = Server(settings_for(tmp_path_factory.mktemp("server"), warm_up=False))
    with server, open_channel(server.port) as channel:
        yield congestion_service_pb2_grpc.CongestionServiceStub(channel)


def taken(stub: Any, content: bytes, name: str = "case.m", **fields: Any) -> network_pb2.Network:
    head = header(**{"format": MATPOWER, "network_id": "", **fields})
    network: network_pb2.Network = stub.ImportNetwork(iter(upload(head, (name, content))), timeout=60.0).network
    return network


def faults(stub: Any, content: bytes, name: str = "case.m", **fields: Any) -> dict[str, str]:
    head = header(**{"format": MATPOWER, "network_id": "", **fields})
    error = refused(stub.ImportNetwork, iter(upload(head, (name, content))))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, error
    return violations_of(error)


def flowed(stub: Any, network: network_pb2.Network, **fields: Any) -> FlowAnswer:
    return flow_answer(stub.RunPowerFlow(flow_request(network.network_id, **fields), timeout=60.0))


def test_two_buses_have_the_voltage_of_their_equation(stub: Any) -> None:
    network = taken(stub, TWO_BUSES)
    assert (network.bus_count, network.branch_count, network.islanded_bus_count) == (2, 1, 0)
    assert (network.load_kw, network.load_kvar) == pytest.approx((400.0, 200.0))
    p_kw = np.array([400.0, 100.0, -300.0])
    outputs = power_flow_pb2.PowerFlowOutputs(branch_power=True, branch_current=True)
    load = power_flow_pb2.Injections(bus_ids=["2"], p_kw=p_kw.tolist(), q_kvar=(p_kw / 2).tolist())
    answer = flowed(stub, network, injections=load, outputs=outputs)
    # |V|⁴ + |V|² (2 (rP + xQ) − 1) + |z|² |S|² = 0, in pu of 1 MVA
    p, q, r, x = p_kw / 1000.0, p_kw / 2000.0, 0.02, 0.05
    half = 0.5 - (r * p + x * q)
    squared = half + np.sqrt(half**2 - (r**2 + x**2) * (p**2 + q**2))
    np.testing.assert_allclose(answer.array("voltage_pu")[:, 1], np.sqrt(squared), atol=1e-8)
    np.testing.assert_allclose(answer.array("voltage_pu")[:, 0], 1.0)
    losses_kw = 1000.0 * r * (p**2 + q**2) / squared
    np.testing.assert_allclose(answer.summary.losses_kw, losses_kw, atol=1e-4)
    np.testing.assert_allclose(answer.array("to_p_kw")[:, 0], -p_kw, atol=1e-4)
    np.testing.assert_allclose(answer.array("from_p_kw")[:, 0], p_kw + losses_kw, atol=1e-4)
    angle = -np.rad2deg(np.arcsin((x * p - r * q) / np.sqrt(squared)))
    np.testing.assert_allclose(answer.array("voltage_angle_deg")[:, 1], angle, atol=1e-6)
    assert answer.summary.converged_count == 3


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "losses_kw", "lowest_pu", "at"),
    [
        ("case33bw", 202.6771, 0.913090, "18"),
        ("case69", 224.9917, 0.909188, "65"),
        ("case141", 632.6956, 0.927862, "87"),
    ],
)
def test_published_feeders_have_their_published_losses(
    stub: Any, shared_data: Path, name: str, losses_kw: float, lowest_pu: float, at: str
) -> None:
    network = taken(stub, (shared_data / "matpower" / f"{name}.m").read_bytes(), allow_refusals=True)
    answer = flowed(stub, network)
    assert answer.summary.losses_kw[0] == pytest.approx(losses_kw, abs=1e-3)
    voltage_pu = answer.array("voltage_pu")[0]
    assert voltage_pu.min() == pytest.approx(lowest_pu, abs=1e-6)
    assert answer.header.bus_ids[int(voltage_pu.argmin())] == at


def test_blocks_add_up_to_the_whole(stub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    buses = [(1, 3, 0, 0), *((i, 1, 0.01 * i, 0.004 * i) for i in range(2, 8))]
    network = taken(stub, case(buses, [(i // 2, i, 0.01, 0.02, 1.0) for i in range(2, 8)]))
    generator = np.random.default_rng(7)
    load = power_flow_pb2.ProfiledInjections(
        profile_count=3, profile_values=generator.random(3 * 500).tolist(), bus_ids=["5", "6", "7"],
        p_profile_indices=[0, 1, 2], p_scale_kw=[50.0, 60.0, 70.0], q_scale_kvar=[5.0, 6.0, 7.0],
    )  # fmt: skip
    outputs = power_flow_pb2.PowerFlowOutputs(branch_power=True)
    whole = flowed(stub, network, profiled_injections=load, time_grid=grid(500), outputs=outputs)
    assert len(whole.chunks) == 1
    monkeypatch.setattr(flow_chunks, "_BLOCK_BYTES", 8 * 3_000)
    parts = flowed(stub, network, profiled_injections=load, time_grid=grid(500), outputs=outputs)
    assert len(parts.chunks) > 10
    for name in ("voltage_pu", "voltage_angle_deg", "branch_loading_ratio", "from_p_kw", "to_q_kvar"):
        np.testing.assert_allclose(parts.array(name), whole.array(name), rtol=1e-9, atol=1e-9)


def test_buses_without_a_source_are_islands_in_the_answer(stub: Any) -> None:
    buses = [(i, 3 if i == 1 else 1, 0.1, 0) for i in range(1, 6)]
    network = taken(stub, case(buses, [(1, 2, 0.01, 0.02, 1.0), (4, 5, 0.01, 0.02, 1.0)]))
    assert network.islanded_bus_count == 3
    answer = flowed(stub, network)
    assert list(answer.summary.islanded_bus_ids) == ["3", "4", "5"]
    assert np.isnan(answer.array("voltage_pu")[0]).tolist() == [False, False, True, True, True]
    assert answer.summary.converged_count == 1


def test_a_load_that_no_voltage_can_serve_is_told_by_its_step(stub: Any) -> None:
    network = taken(stub, TWO_BUSES)
    load = power_flow_pb2.Injections(bus_ids=["2"], p_kw=[100.0, 1e6, 200.0])
    answer = flowed(stub, network, injections=load)
    (unsolved,) = answer.summary.not_converged
    assert unsolved.step == 1
    # where (1/2 − λrP)² = λ²|z|²P², P = 1000 pu
    assert 1e3 * unsolved.nearest_solvable_loading_ratio == pytest.approx(0.5 / (0.02 + np.hypot(0.02, 0.05)), rel=1e-2)
    assert unsolved.weakest_bus_id == "2"
    assert np.isnan(answer.array("voltage_pu")[:, 1]).tolist() == [False, True, False]
    assert np.isnan(answer.summary.losses_kw).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "mpc."),
        (b"\x00\xff" * 50, "mpc."),
        (b"[[" * 50_000, ""),
        (b'{"pandapower": 1}', "mpc."),
        (case([(1, 3, 0, 0), (2, 1, 0, 0)], [(1, 2, 0.01, 0.02, -5.0)]), "rateA"),
        (case([(1, 3, 0, 0), (2, 1, "NaN", 0)], [(1, 2, 0.01, 0.02, 1.0)]), "Pd"),
        (case([(1, 3, 0, 0), (2, 1, 0, 0)], [(1, 9, 0.01, 0.02, 1.0)]), "tbus"),
        (case([(1, 3, 0, 0), (1, 1, 0, 0)], [(1, 1, 0.01, 0.02, 1.0)]), "bus"),
        (case([(1, 1, 0, 0), (2, 1, 0, 0)], [(1, 2, 0.01, 0.02, 1.0)]), ""),
        (case([(1, 3, 0, 0), (2, 1, 0, 0)], [(1, 2, "Inf", 0.02, 1.0)]), "r"),
    ],
)
def test_a_bad_case_file_is_named_by_its_fault(stub: Any, content: bytes, told: str) -> None:
    named = faults(stub, content)
    assert any(told in field for field in named), named


def test_a_branch_without_impedance_joins_its_buses(stub: Any) -> None:
    content = case([(1, 3, 0, 0), (2, 1, 0.1, 0), (3, 1, 0.1, 0)], [(1, 2, 0.01, 0.02, 1.0), (2, 3, 0, 0, 1.0)])
    network = taken(stub, content)
    assert any("branch 2" in note for note in network.notes)
    voltage_pu = flowed(stub, network).array("voltage_pu")[0]
    assert voltage_pu[1] == voltage_pu[2] < voltage_pu[0]


def test_sources_that_disagree_on_joined_buses_are_refused_with_the_import(stub: Any) -> None:
    content = case(
        [(1, 3, 0, 0), (2, 3, 0, 0), (3, 1, 0.1, 0)],
        [(1, 2, 0, 0, 0), (2, 3, 0.01, 0.02, 1.0)],
        sources=((1, 1.0), (2, 1.05)),
    )
    assert "sources[1].voltage_pu" in faults(stub, content)


def test_packed_files_are_unpacked_within_bounds(stub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert taken(stub, gzip.compress(TWO_BUSES), "case.m.gz").bus_count == 2
    monkeypatch.setattr(archive, "MAX_UNPACKED_BYTES", 1 << 20)
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("case.m", b"%" * (2 << 20))
    assert len(bomb.getvalue()) < 10_000
    assert faults(stub, bomb.getvalue(), "case.zip")
    assert faults(stub, gzip.compress(b"%" * (2 << 20)), "case.m.gz")
    nested = io.BytesIO()
    with zipfile.ZipFile(nested, "w") as packed:
        packed.writestr("inner.zip", bomb.getvalue())
    assert faults(stub, nested.getvalue(), "case.zip")


def feeder(**transformer: Any) -> bytes:
    """A power-grid-model file: 10 kV, a transformer, and a car on one phase at the end of a cable."""
    unit = {
        "id": 3, "from_node": 1, "to_node": 2, "from_status": 1, "to_status": 1, "u1": 10e3, "u2": 400.0, "sn": 250e3,
        "uk": 0.04, "pk": 3e3, "i0": 0.005, "p0": 500.0, "winding_from": 2, "winding_to": 1, "clock": 11,
        "tap_side": 0, "tap_pos": 0, "tap_min": 0, "tap_max": 0, "tap_nom": 0, "tap_size": 0.0, **transformer,
    }  # fmt: skip
    line = {
        "id": 5, "from_node": 2, "to_node": 4, "from_status": 1, "to_status": 1, "r1": 0.06, "x1": 0.025, "c1": 0.0,
        "tan1": 0.0, "r0": 0.24, "x0": 0.1, "c0": 0.0, "tan0": 0.0, "i_n": 200.0,
    }  # fmt: skip
    data = {
        "node": [{"id": 1, "u_rated": 10e3}, {"id": 2, "u_rated": 400.0}, {"id": 4, "u_rated": 400.0}],
        "transformer": [{name: value for name, value in unit.items() if value is not None}],
        "line": [line],
        "source": [{"id": 6, "node": 1, "status": 1, "u_ref": 1.0}],
        "asym_load": [
            {"id": 7, "node": 4, "status": 1, "type": 0, "p_specified": [7e3, 0, 0], "q_specified": [0, 0, 0]}
        ],
    }
    return json.dumps({"version": "1.0", "type": "input", "is_batch": False, "attributes": {}, "data": data}).encode()


def test_a_car_on_one_phase_pulls_that_phase_down(stub: Any) -> None:
    network = taken(stub, feeder(), "feeder.json", format=PGM)
    assert network.phase_count == 3
    assert network.load_kw == pytest.approx(7.0)
    outputs = power_flow_pb2.PowerFlowOutputs(voltage_unbalance=True, branch_power=True)
    answer = flowed(stub, network, outputs=outputs)
    at_car = answer.array("voltage_pu")[0, list(answer.header.bus_ids).index("4")]
    assert at_car[0] < min(at_car[1:]) - 0.005
    assert answer.array("voltage_unbalance_ratio")[0].max() > 0.001
    cable = list(answer.header.branch_ids).index("line 5")
    np.testing.assert_allclose(answer.array("to_p_kw")[0, cable], [-7.0, 0.0, 0.0], atol=1e-4)


def test_balanced_loads_are_the_same_by_phase_and_by_one_phase_for_all(stub: Any) -> None:
    answers = []
    for three_phase in (True, False):
        network = taken(stub, feeder(), "feeder.json", format=PGM, three_phase=three_phase)
        assert network.phase_count == (3 if three_phase else 1)
        load = power_flow_pb2.Injections(bus_ids=["4", "2"], p_kw=[30.0, 60.0, 10.0, 20.0], q_kvar=[5.0, 9.0, 1.0, 2.0])
        answers.append(flowed(stub, network, injections=load))
    by_phase, as_one = (answer.array("voltage_pu") for answer in answers)
    np.testing.assert_allclose(by_phase, np.repeat(as_one[:, :, None], 3, axis=2), atol=1e-7)
    loading = [answer.array("branch_loading_ratio") for answer in answers]
    np.testing.assert_allclose(loading[0], loading[1], atol=1e-6)
    np.testing.assert_allclose(answers[0].summary.losses_kw, answers[1].summary.losses_kw, atol=1e-4)


@pytest.mark.parametrize(
    "transformer", [{"uk": None}, {"sn": -1.0}, {"u2": 0.0}, {"pk": "NaN"}, {"clock": None}, {"to_node": 99}]
)
def test_a_transformer_that_lacks_data_is_named(stub: Any, transformer: dict[str, Any]) -> None:
    (column,) = transformer
    named = faults(stub, feeder(**transformer), "feeder.json", format=PGM)
    assert any(field.endswith(column) for field in named), named


@pytest.mark.parametrize("network_format", [2, 3])
@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[" * 100_000, b'{"a": NaN}', b"null", TWO_BUSES, b'{"version": "1.0"}']
)
def test_a_file_of_another_format_is_refused(stub: Any, network_format: int, content: bytes) -> None:
    assert faults(stub, content, "network.json", format=network_format)


def test_a_network_survives_with_its_numbers(tmp_path: Path) -> None:
    answers = []
    for attempt in range(2):
        server = Server(settings_for(tmp_path, warm_up=False))
        with server, open_channel(server.port) as channel:
            stub: Any = congestion_service_pb2_grpc.CongestionServiceStub(channel)
            if not attempt:
                taken(stub, TWO_BUSES, network_id="kept")
            (network, *_) = stub.ListNetworks(api.ListNetworksRequest()).networks
            answers.append(flowed(stub, network).array("voltage_pu"))
    np.testing.assert_array_equal(answers[0], answers[1])
