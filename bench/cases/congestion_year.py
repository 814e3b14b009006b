"""A year of power flows in one call: how long it takes, and what the server holds of it."""

from __future__ import annotations

import uuid
import warnings

import numpy as np

from bench.feeders import LV_RURAL, simbench_feeder
from bench.instances import FloatArray
from bench.registry import Outcome, Setting, case
from bench.served import served
from bench.timing import timed
from evflex.congestion.v1 import congestion_service_pb2, congestion_service_pb2_grpc, network_pb2, power_flow_pb2
from evflex.engine.grid import prepare_grid, run_power_flow

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pandapower
    import simbench

_YEAR = 35_136
_MEBIBYTE = 1 << 20
_ASKED_MB = 1024.0
_CHUNK_BYTES = 1 << 20


@case("power_flow_year", "A year of a low-voltage grid over gRPC", sizes=(129,), generated=True, domain="congestion")
def power_flow_year(setting: Setting) -> Outcome:
    outcome = Outcome(notes=[
        "SimBench's 1-LV-rural3 with the profiles of its year in one request: 196 loads, generators and storages by "
        "54 profiles. The server is a process of its own with default settings; the client holds the sums of what "
        "it receives.",
    ])  # fmt: skip
    steps = setting.pick(_YEAR, 300)
    with served() as server:
        stub = congestion_service_pb2_grpc.CongestionServiceStub(server.channel)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            net = simbench.get_simbench_net(LV_RURAL)
            net.trafo["tap_changer_type"] = "Ratio"
            stub.ImportNetwork(iter(_upload(pandapower.to_json(net).encode())))
        asked = congestion_service_pb2.RunPowerFlowRequest(
            network_id="rural", profiled_injections=_profiled(net, steps),
            outputs=power_flow_pb2.PowerFlowOutputs(voltage_angle=False),
        )  # fmt: skip
        _Sums(stub, asked)
        idle_mb = server.peak_bytes() / _MEBIBYTE
        sums: list[_Sums] = []
        year_s = min(timed(lambda: sums.append(_Sums(stub, asked))) for _ in range(setting.pick(3)))
        peak_mb = server.peak_bytes() / _MEBIBYTE
    outcome.seconds["RunPowerFlow"] = [year_s]
    outcome.add(
        "time", f"{steps} steps of 129 buses in one call", year_s, "s", peer=f"{steps / year_s:.0f} flows a second"
    )
    outcome.add(
        "memory", "Peak memory of the server", peak_mb, "MB", at_most=_ASKED_MB,
        peer=f"{idle_mb:.0f} MB after the first such call; the answer has {sums[-1].received_mb:.0f} MB",
    )  # fmt: skip
    outcome.add("unsolved", "Steps that are not solved", float(sums[-1].unsolved), at_most=0)
    feeder = simbench_feeder(LV_RURAL)
    flow = run_power_flow(prepare_grid(feeder.network), feeder.p_kw[:steps], feeder.q_kvar[:steps])
    outcome.add(
        "difference", "Relative difference of the year's losses from those of SimBench's absolute powers",
        abs(sums[-1].losses_kwh / (0.25 * float(flow.losses_kw.sum())) - 1.0), at_most=1e-6,
        peer=f"{sums[-1].losses_kwh:.0f} kWh of losses",
    )  # fmt: skip
    return outcome


class _Sums:
    """One call, read to its end."""

    def __init__(
        self, stub: congestion_service_pb2_grpc.CongestionServiceStub, asked: congestion_service_pb2.RunPowerFlowRequest
    ) -> None:
        self.received_mb = 0.0
        self.unsolved = 0
        self.losses_kwh = 0.0
        for message in stub.RunPowerFlow(asked, timeout=300.0):
            self.received_mb += message.ByteSize() / _MEBIBYTE
            if message.HasField("summary"):
                summary = message.summary
                self.unsolved = summary.step_count - summary.converged_count
                self.losses_kwh = 0.25 * float(np.sum(summary.losses_kw))


def _upload(content: bytes) -> list[congestion_service_pb2.ImportNetworkRequest]:
    request, chunk = congestion_service_pb2.ImportNetworkRequest, congestion_service_pb2.ImportNetworkChunk
    head = congestion_service_pb2.ImportNetworkHeader(
        request_id=str(uuid.uuid4()), format=network_pb2.NETWORK_FORMAT_PANDAPOWER, network_id="rural"
    )
    parts = [content[first : first + _CHUNK_BYTES] for first in range(0, len(content), _CHUNK_BYTES)]
    return [
        request(header=head),
        *(request(chunk=chunk(file_name="net.json", content=part)) for part in parts),
        request(commit=congestion_service_pb2.ImportNetworkCommit()),
    ]


def _profiled(net: pandapower.pandapowerNet, steps: int) -> power_flow_pb2.ProfiledInjections:
    """SimBench's profiles as they are: a load's power is its own times that of its profile."""
    tables = (("load", "load", 1.0), ("sgen", "renewables", -1.0), ("storage", "storage", 1.0))
    columns: dict[tuple[str, str], int] = {}
    values: list[FloatArray] = []

    def index(profiles: str, name: str) -> int:
        if (profiles, name) not in columns:
            columns[profiles, name] = len(values)
            values.append(net.profiles[profiles][name].to_numpy(dtype=np.float64)[:steps])
        return columns[profiles, name]

    message = power_flow_pb2.ProfiledInjections()
    for table, profiles, sign in tables:
        for row in net[table].itertuples():
            is_load = table == "load"
            message.bus_ids.append(str(row.bus))
            message.p_profile_indices.append(index(profiles, f"{row.profile}_pload" if is_load else row.profile))
            message.q_profile_indices.append(index(profiles, f"{row.profile}_qload" if is_load else row.profile))
            message.p_scale_kw.append(sign * 1e3 * row.p_mw * row.scaling)
            message.q_scale_kvar.append(1e3 * row.q_mvar * row.scaling if is_load else 0.0)
    message.profile_count = len(values)
    message.profile_values.extend(np.concatenate(values).tolist())
    return message
