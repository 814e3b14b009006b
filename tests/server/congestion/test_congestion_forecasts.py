"""Forecasts of congestion through the server: what they find holds in its own power flows, and bad wishes are named."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from evflex.congestion.v1 import congestion_pb2, congestion_service_pb2_grpc, network_pb2, power_flow_pb2
from evflex.congestion.v1 import congestion_service_pb2 as api
from evflex.server.app import Server
from tests.server.congestion.support import OTHER_TENANT, grid, header, refused, upload
from tests.server.congestion.test_congestion_with_kernels import BRANCH, BUS
from tests.server.support import open_channel, settings_for, violations_of

pytestmark = pytest.mark.slow  # where kernels are compiled first

# A source, a feeder of three buses, another bus beside it, and an open branch between the ends of both.
BRANCHES = ((1, 2, 0.02, 0.02, 0.5), (2, 3, 0.04, 0.03, 0.4), (3, 4, 0.04, 0.03, 0.4), (1, 5, 0.03, 0.02, 0.9))
TIE = "branch 5"


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    server = Server(settings_for(tmp_path_factory.mktemp("server"), warm_up=False))
    with server, open_channel(server.port) as channel:
        yield congestion_service_pb2_grpc.CongestionServiceStub(channel)


@pytest.fixture(scope="module")
def network_id(stub: Any) -> str:
    buses = "\n".join(BUS.format(bus, 3 if bus == 1 else 1, 0.1 * (bus > 1), 0.03 * (bus > 1)) for bus in range(1, 6))
    lines = "\n".join(BRANCH.format(*branch) for branch in BRANCHES)
    open_line = "4 5 0.02 0.02 0 0.6 0 0 0 0 0 -360 360;"
    text = (
        f"function mpc = toy\nmpc.version = '2';\nmpc.baseMVA = 1;\nmpc.bus = [\n{buses}\n];\n"
        f"mpc.gen = [\n1 0 0 9 -9 1 1 1 9 -9;\n];\nmpc.branch = [\n{lines}\n{open_line}\n];\n"
    )
    head = header(format=network_pb2.NETWORK_FORMAT_MATPOWER, network_id="feeder")
    network: network_pb2.Network = stub.ImportNetwork(iter(upload(head, ("case.m", text.encode())))).network
    return network.network_id


def injections(p_kw: list[float], bus_id: str = "4") -> power_flow_pb2.Injections:
    return power_flow_pb2.Injections(bus_ids=[bus_id], p_kw=p_kw, q_kvar=[0.2 * p for p in p_kw])


def request(network_id: str, p_kw: list[float], **fields: Any) -> api.ForecastCongestionRequest:
    return api.ForecastCongestionRequest(
        **{"network_id": network_id, "time_grid": grid(len(p_kw)), "injections": injections(p_kw), **fields}
    )


class Answer:
    """A stream taken apart."""

    def __init__(self, messages: Any) -> None:
        self.congestions: list[congestion_pb2.Congestion] = []
        self.worst: list[congestion_pb2.WorstChunk] = []
        self.summary = congestion_pb2.CongestionForecast()
        for message in messages:
            kind = message.WhichOneof("payload")
            if kind == "congestions":
                self.congestions.extend(message.congestions.congestions)
            elif kind == "worst":
                self.worst.append(message.worst)
            elif kind == "summary":
                self.summary = message.summary

    @property
    def by_element(self) -> dict[tuple[str, int, str], congestion_pb2.Congestion]:
        return {(found.element_id, found.kind, found.contingency_id): found for found in self.congestions}


def forecast(stub: Any, asked: api.ForecastCongestionRequest, **arguments: Any) -> Answer:
    return Answer(stub.ForecastCongestion(asked, timeout=60.0, **arguments))


def loading(stub: Any, network_id: str, p_kw: list[float], branch: int) -> float:
    asked = api.RunPowerFlowRequest(network_id=network_id, injections=injections(p_kw))
    chunks = [message.chunk for message in stub.RunPowerFlow(asked) if message.HasField("chunk")]
    return float(chunks[0].branch_loading_ratio[branch])


def test_relief_clears_the_congestion_in_a_power_flow_and_a_little_less_does_not(stub: Any, network_id: str) -> None:
    p_kw = [200.0, 450.0, 480.0, 300.0]
    found = forecast(stub, request(network_id, p_kw)).by_element[
        "branch 3", congestion_pb2.CONGESTION_KIND_LINE_OVERLOAD, ""
    ]
    assert (found.start_step, found.end_step, found.worst_step, found.limit) == (1, 3, 2, 1.0)
    assert found.worst_value == pytest.approx(loading(stub, network_id, [480.0], 2), rel=1e-9)
    assert found.relief_bus_id == "4"
    assert not found.HasField("probability")
    for step, relief_kw in zip((1, 2), found.relief_needed_kw, strict=True):
        assert relief_kw > 0.0
        # the reactive power stays as it is
        for share, clears in ((1.0, True), (0.98, False)):
            asked = api.RunPowerFlowRequest(
                network_id=network_id,
                injections=power_flow_pb2.Injections(
                    bus_ids=["4"], p_kw=[p_kw[step] - share * relief_kw], q_kvar=[0.2 * p_kw[step]]
                ),
            )
            chunks = [message.chunk for message in stub.RunPowerFlow(asked) if message.HasField("chunk")]
            assert (chunks[0].branch_loading_ratio[2] <= 1.0) is clears


def test_an_outage_is_told_with_its_island_or_with_what_feeds_it(stub: Any, network_id: str) -> None:
    lost = congestion_pb2.Contingencies(
        selection=congestion_pb2.CONTINGENCY_SELECTION_LISTED, branch_ids=["branch 2", TIE]
    )
    alone = forecast(stub, request(network_id, [300.0, 200.0], contingencies=lost)).summary
    assert alone.contingency_count == 3
    assert list(alone.skipped_branch_ids) == [TIE]
    (island,) = alone.islands
    assert (island.contingency_id, list(island.bus_ids)) == ("branch 2", ["3", "4"])
    assert island.unserved_kwh == pytest.approx((300.0 + 200.0) * 0.25)
    lost.closable_branch_ids.append(TIE)
    fed = forecast(stub, request(network_id, [700.0, 200.0], contingencies=lost, return_worst=True))
    (island,) = fed.summary.islands
    assert (list(island.bus_ids), list(island.closed_branch_ids)) == ([], [TIE])
    congestion = fed.by_element[TIE, congestion_pb2.CONGESTION_KIND_LINE_OVERLOAD, "branch 2"]
    assert list(congestion.closed_branch_ids) == [TIE]
    (worst,) = fed.worst
    ratios = np.array(worst.branch_loading_ratio).reshape(2, 5)
    assert ratios[0, 4] == pytest.approx(congestion.worst_value)
    assert np.array(worst.branch_loading_contingency).reshape(2, 5)[0, 4] == 1


def test_probabilities_are_those_of_a_normal_load(stub: Any, network_id: str) -> None:
    std = congestion_pb2.InjectionUncertainty(p_std_kw=[40.0, 40.0])
    p_kw = [370.0, 200.0]
    found = forecast(stub, request(network_id, p_kw, uncertainty=std)).by_element[
        "branch 3", congestion_pb2.CONGESTION_KIND_LINE_OVERLOAD, ""
    ]
    low, high = 200.0, 600.0
    for _ in range(60):  # the load at which the line is full
        middle = 0.5 * (low + high)
        asked = api.RunPowerFlowRequest(
            network_id=network_id,
            injections=power_flow_pb2.Injections(bus_ids=["4"], p_kw=[middle], q_kvar=[0.2 * p_kw[0]]),
        )
        chunks = [message.chunk for message in stub.RunPowerFlow(asked) if message.HasField("chunk")]
        low, high = (middle, high) if chunks[0].branch_loading_ratio[2] <= 1.0 else (low, middle)
    expected = 0.5 * math.erfc((low - p_kw[0]) / 40.0 / math.sqrt(2.0))
    assert found.probability == pytest.approx(expected, abs=0.01)
    assert list(found.step_probability) == [found.probability]
    assert list(found.relief_needed_kw) == [0.0]


def test_samples_are_counted(stub: Any, network_id: str) -> None:
    samples = congestion_pb2.InjectionUncertainty(sample_count=4, sample_p_kw=[300.0, 500.0, 500.0, 500.0])
    asked = request(network_id, [300.0], uncertainty=samples)
    found = forecast(stub, asked).by_element["branch 3", congestion_pb2.CONGESTION_KIND_LINE_OVERLOAD, ""]
    assert found.probability == 0.75


def test_a_stored_forecast_is_read_again_and_made_once(stub: Any, network_id: str) -> None:
    asked = request(network_id, [480.0], store=True, request_id=str(uuid.uuid4()), return_worst=True)
    first, again = forecast(stub, asked), forecast(stub, asked)
    assert first.summary.forecast_id
    assert again.summary == first.summary
    assert again.congestions == first.congestions
    read = Answer(stub.GetForecast(api.GetForecastRequest(forecast_id=first.summary.forecast_id, return_worst=True)))
    assert read.congestions == first.congestions
    assert [chunk.SerializeToString() for chunk in read.worst] == [chunk.SerializeToString() for chunk in first.worst]
    other = request(network_id, [470.0], store=True, request_id=asked.request_id)
    assert refused(stub.ForecastCongestion, other).code() is grpc.StatusCode.ALREADY_EXISTS
    hidden = refused(
        stub.GetForecast, api.GetForecastRequest(forecast_id=first.summary.forecast_id), metadata=OTHER_TENANT
    )
    assert hidden.code() is grpc.StatusCode.NOT_FOUND


def test_only_checking_computes_and_stores_nothing(stub: Any, network_id: str) -> None:
    found = forecast(stub, request(network_id, [480.0], validate_only=True))
    assert not found.congestions
    assert found.summary == congestion_pb2.CongestionForecast()


def test_a_load_that_no_voltage_serves_is_told(stub: Any, network_id: str) -> None:
    summary = forecast(stub, request(network_id, [100.0, 90_000.0])).summary
    (failed,) = summary.not_converged
    assert list(failed.steps) == [1]
    assert 0.0 < failed.nearest_solvable_loading_ratio < 1.0
    assert failed.weakest_bus_id == "4"


def test_relief_is_left_out_where_nobody_wants_it(stub: Any, network_id: str) -> None:
    for found in forecast(stub, request(network_id, [480.0], return_relief=False)).congestions:
        assert not found.relief_needed_kw
        assert not found.relief_bus_id


def test_every_broken_rule_is_named(stub: Any, network_id: str) -> None:
    asked = request(
        network_id, [100.0],
        contingencies=congestion_pb2.Contingencies(
            selection=congestion_pb2.CONTINGENCY_SELECTION_LISTED, branch_ids=["branch 1", "branch 1", "moon"],
            closable_branch_ids=["branch 2"],
        ),
        limits=congestion_pb2.CongestionLimits(
            voltage_min_pu=-1.0, bus_ids=["2"], bus_voltage_min_pu=[0.9, 0.9], branch_ids=["branch 1"],
            branch_max_loading_ratio=[math.nan],
        ),
        uncertainty=congestion_pb2.InjectionUncertainty(p_std_kw=[-1.0]),
        relief_bus_ids=["nowhere"],
    )  # fmt: skip
    named = violations_of(refused(stub.ForecastCongestion, asked))
    assert set(named) == {
        "contingencies.branch_ids[1]", "contingencies.branch_ids[2]", "contingencies.closable_branch_ids[0]",
        "limits.voltage_min_pu", "limits.bus_voltage_min_pu", "limits.bus_voltage_max_pu",
        "limits.branch_max_loading_ratio[0]", "relief_bus_ids[0]", "uncertainty.p_std_kw[0]",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"min_probability": 0.0}, "min_probability"),
        ({"store": True}, "request_id"),
        ({"contingencies": congestion_pb2.Contingencies(branch_ids=["branch 1"])}, "contingencies.branch_ids"),
        ({"uncertainty": congestion_pb2.InjectionUncertainty(p_std_kw=[1.0, 2.0])}, "uncertainty.p_std_kw"),
        (
            {"uncertainty": congestion_pb2.InjectionUncertainty(sample_count=2, sample_p_kw=[1.0])},
            "uncertainty.sample_p_kw",
        ),
        (
            {"uncertainty": congestion_pb2.InjectionUncertainty(p_std_kw=[1.0], sample_count=1, sample_p_kw=[1.0])},
            "uncertainty",
        ),
        ({"injections": None, "uncertainty": congestion_pb2.InjectionUncertainty(p_std_kw=[1.0])}, "uncertainty"),
        ({"limits": congestion_pb2.CongestionLimits(voltage_min_pu=1.2)}, "limits"),
        ({"time_grid": None}, "time_grid"),
    ],
)
def test_a_broken_rule_is_named(stub: Any, network_id: str, fields: dict[str, Any], path: str) -> None:
    assert path in violations_of(refused(stub.ForecastCongestion, request(network_id, [100.0], **fields)))


def test_worst_values_beyond_the_limit_are_refused(tmp_path: Any) -> None:
    server = Server(settings_for(tmp_path, warm_up=False, max_worst_values=10))
    with server, open_channel(server.port) as channel:
        stub = congestion_service_pb2_grpc.CongestionServiceStub(channel)
        text = (
            "function mpc = toy\nmpc.version = '2';\nmpc.baseMVA = 1;\nmpc.bus = [\n"
            f"{BUS.format(1, 3, 0, 0)}\n{BUS.format(2, 1, 0.1, 0)}\n];\nmpc.gen = [\n1 0 0 9 -9 1 1 1 9 -9;\n];\n"
            f"mpc.branch = [\n{BRANCH.format(1, 2, 0.02, 0.05, 1.0)}\n];\n"
        )
        head = header(format=network_pb2.NETWORK_FORMAT_MATPOWER, network_id="two")
        stub.ImportNetwork(iter(upload(head, ("case.m", text.encode()))))
        error = refused(
            stub.ForecastCongestion,
            api.ForecastCongestionRequest(network_id="two", time_grid=grid(96), return_worst=True),
        )
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "max_worst_values" in error.details()
