"""Both clients against the real server: a pandapower network, its flows beside pandapower's, and load to come."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evflex.client import (
    AlreadyExistsError,
    EvflexClient,
    Injections,
    InvalidRequestError,
    NotFoundError,
    PandapowerTables,
    PowerFlowOutputs,
    PowerFlowSummary,
    ProfiledInjections,
)
from tests.cli.serving import server_in_process
from tests.client.conftest import Blocking

pandapower = pytest.importorskip("pandapower")

pytestmark = pytest.mark.slow  # the kernels are compiled first

INDEX = pd.date_range("2026-01-14", periods=600, freq="15min", tz="Europe/Copenhagen")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with server_in_process(tmp_path_factory.mktemp("data")) as server:
        yield f"127.0.0.1:{server.port}"


@pytest.fixture(params=[EvflexClient, Blocking], ids=["sync", "asyncio"])
def party(address: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A client; each kind of client is a tenant of its own."""
    made = request.param(address, metadata={"evflex-tenant": request.param.__name__})
    yield made
    made.close()


def street() -> Any:
    """A transformer and two lines; indices that are no places, and a line out of service."""
    net = pandapower.create_empty_network(name="Street")
    pandapower.create_bus(net, vn_kv=20.0, index=4)
    for index in (11, 7, 9, 30):
        pandapower.create_bus(net, vn_kv=0.4, index=index)
    pandapower.create_ext_grid(net, 4, vm_pu=1.01)
    pandapower.create_transformer(net, 4, 11, std_type="0.4 MVA 20/0.4 kV", index=3)
    for index, (start, end) in {5: (11, 7), 2: (7, 9), 8: (9, 30)}.items():
        pandapower.create_line(net, start, end, length_km=0.2, std_type="NAYY 4x150 SE", index=index)
    net.line.loc[8, "in_service"] = False
    pandapower.create_load(net, 7, p_mw=0.06, q_mvar=0.02)
    pandapower.create_load(net, 9, p_mw=0.05)
    return net


def homes() -> Injections:
    generator = np.random.default_rng(5)
    p_kw = pd.DataFrame(generator.uniform(-40.0, 70.0, (600, 2)), index=INDEX, columns=[7, 9])
    return Injections(p_kw, 0.2 * p_kw)


def test_a_pandapower_network_has_the_flow_of_pandapower(party: Any) -> None:
    net = street()
    network = party.import_pandapower(net, network_id="street")
    assert (network.display_name, network.bus_count, network.islanded_bus_count) == ("Street", 5, 1)
    assert network.load_kw == pytest.approx(110.0)
    outputs = PowerFlowOutputs(voltage_angle=True, branch_power=True)
    flow = party.run_power_flow(network, outputs=outputs)
    pandapower.runpp(net, numba=False, tolerance_mva=1e-10)
    tables = PandapowerTables.of(flow)
    fed = [4, 11, 7, 9]
    assert tables.voltage_pu is not None
    assert tables.line_loading_ratio is not None
    assert tables.trafo_loading_ratio is not None
    np.testing.assert_allclose(tables.voltage_pu.loc[0, fed], net.res_bus.vm_pu[fed], atol=1e-8)
    assert tables.voltage_pu.loc[0, [30]].isna().all()
    loading = tables.line_loading_ratio.loc[0, [5, 2]]
    np.testing.assert_allclose(100.0 * loading, net.res_line.loading_percent[[5, 2]], atol=1e-6)
    loading = tables.trafo_loading_ratio.loc[0, [3]]
    np.testing.assert_allclose(100.0 * loading, net.res_trafo.loading_percent[[3]], atol=1e-6)
    np.testing.assert_allclose(flow.from_p_kw.loc[0, ["line 5"]], 1000.0 * net.res_line.p_from_mw[[5]], atol=1e-5)
    losses_mw = net.res_line.pl_mw.sum() + net.res_trafo.pl_mw.sum()
    assert flow.losses_kw[0] == pytest.approx(1000.0 * losses_mw, abs=1e-5)
    assert flow.summary.islanded_bus_ids == ("30",)
    with pytest.raises(AlreadyExistsError):
        party.import_pandapower(net, network_id="street")
    party.delete_network("street")
    with pytest.raises(NotFoundError):
        party.run_power_flow("street")


def test_steps_of_a_horizon_have_the_flow_of_pandapower(party: Any) -> None:
    net = street()
    network = party.import_pandapower(net)
    load = homes()
    flow = party.run_power_flow(network.network_id, load)
    assert flow.converged.all()
    assert flow.voltage_pu.shape == (600, 5)
    for step in (0, 77, 599):
        net.load["p_mw"] = load.p_kw.iloc[step].to_numpy() / 1000.0
        net.load["q_mvar"] = 0.2 * net.load["p_mw"]
        pandapower.runpp(net, numba=False, tolerance_mva=1e-10)
        voltage_pu = flow.voltage_pu.loc[INDEX[step], ["4", "11", "7", "9"]].astype(float)
        np.testing.assert_allclose(voltage_pu, net.res_bus.vm_pu[[4, 11, 7, 9]], atol=1e-8)
    summaries: list[PowerFlowSummary] = []
    parts = list(party.iter_power_flow(network, load, on_summary=summaries.append))
    pd.testing.assert_frame_equal(pd.concat([part.voltage_pu for part in parts]), flow.voltage_pu, check_freq=False)
    pd.testing.assert_series_equal(summaries[0].losses_kw, flow.losses_kw)
    assert list(party.run_power_flow(network, load.p_kw.iloc[:1]).index) == [INDEX[0]]


def test_profiles_have_the_flow_of_their_products(party: Any) -> None:
    network = party.import_pandapower(street())
    hours = np.arange(96) / 4.0
    profiles = pd.DataFrame({"home": 1.0 + np.sin(hours), "sun": -np.clip(np.cos(hours), 0.0, None)}, index=INDEX[:96])
    rows = pd.DataFrame(
        {"bus_id": [7, 9, 9], "p_profile": ["home", "sun", None], "p_scale_kw": [20.0, 30.0, 4.0], "q_scale_kvar": 2.0}
    )
    flow = party.run_power_flow(network, ProfiledInjections(profiles, rows))
    p_kw = pd.DataFrame({7: 20.0 * profiles["home"], 9: 30.0 * profiles["sun"] + 4.0})
    q_kvar = pd.DataFrame({7: 2.0 * profiles["home"], 9: 2.0 * profiles["sun"] + 2.0})
    dense = party.run_power_flow(network, Injections(p_kw, q_kvar))
    pd.testing.assert_frame_equal(flow.voltage_pu, dense.voltage_pu)


def test_tables_of_a_network_come_back(party: Any) -> None:
    net = street()
    made = party.import_pandapower(net)
    network = party.get_network(made.network_id, return_tables=True)
    assert set(network.buses.index) == {"4", "11", "7", "9", "30"}
    bus = network.buses.loc["7", ["nominal_kv", "load_p_kw", "load_q_kvar"]]
    assert bus.astype(float).tolist() == [0.4, 60.0, 20.0]
    line = network.branches.loc["line 2"]
    assert line[["kind", "from_bus_id", "to_bus_id"]].tolist() == ["LINE", "7", "9"]
    assert network.branches.loc["trafo 3", "kind"] == "TRANSFORMER"
    assert network.sources["voltage_pu"].to_dict() == {"4": 1.01}
    assert made.network_id in [listed.network_id for listed in party.list_networks()]


@pytest.mark.shared_data
def test_a_file_is_imported_with_what_is_not_understood_left_out(party: Any, shared_data: Path) -> None:
    path = shared_data / "matpower" / "case33bw.m"
    network = party.import_network(path, "MATPOWER", allow_refusals=True)
    flow = party.run_power_flow(network)
    assert flow.losses_kw[0] == pytest.approx(202.6771, abs=1e-3)
    assert flow.voltage_pu.loc[0].idxmin() == "18"
    with pytest.raises(InvalidRequestError) as refused:
        party.import_network(path, "PANDAPOWER")
    assert refused.value.violations


def test_faults_of_injections_name_their_field(party: Any) -> None:
    network = party.import_pandapower(street())
    with pytest.raises(InvalidRequestError) as refused:
        party.run_power_flow(network, pd.DataFrame({7: 1.0, "x": [np.nan, 2.0]}))
    assert [violation.field for violation in refused.value.violations] == [
        "injections.bus_ids[1]", "injections.p_kw[2]",
    ]  # fmt: skip


def test_load_is_forecast_in_local_time(party: Any) -> None:
    index = pd.date_range("2026-02-01", periods=40 * 24, freq="h", tz="Europe/Copenhagen")
    generator = np.random.default_rng(9)
    daily = 2.0 + np.sin(2.0 * np.pi * (index.hour.to_numpy() - 12.0) / 24.0)
    history = pd.DataFrame({"a": daily + generator.normal(0.0, 0.1, len(index)), "b": 3.0}, index=index)
    history.iloc[100:110, 0] = np.nan
    forecast = party.forecast_load(history, timedelta(days=1), quantiles=[0.1, 0.5, 0.9], bus_ids=[7, 9])
    assert forecast.mean_kw.index[0] == index[-1] + timedelta(hours=1)
    assert (forecast.quantile_kw["a"].diff(axis="columns").iloc[:, 1:] >= 0.0).all(axis=None)
    following = np.sin(2.0 * np.pi * (np.arange(24) - 12.0) / 24.0)
    assert np.abs(forecast.quantile_kw[("a", 0.5)].to_numpy() - 2.0 - following).max() < 0.3
    assert forecast.meters.loc["b", "method"] == "LEVEL"
    assert list(forecast.by_bus(forecast.mean_kw).columns) == ["7", "9"]
