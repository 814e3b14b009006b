"""pandapower networks, read and held against pandapower's own power flow."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evflex.engine.grid.formats import NetworkFormat, read_network
from evflex.engine.grid.network import BranchKind
from evflex.engine.validation import InvalidProblemError
from tests.conftest import SOAK
from tests.engine.grid.formats.foreign import (
    by_id,
    check_against_runpp,
    pandapower_network,
    phasors,
    pp,
    read_pandapower,
    run_pandapower,
    silenced,
    stiffer_source,
)
from tests.engine.grid.reference.balanced_reference import reference_flow
from tests.engine.grid.reference.three_phase_reference import reference_flow_3ph

BUNDLED: dict[str, dict[str, str]] = {
    "example_simple": {},
    "simple_mv_open_ring_net": {},
    "simple_four_bus_system": {},
    "mv_oberrhein": {},
    "case33bw": {},
    "case118": {},
    "case39": {},
    "create_kerber_landnetz_freileitung_1": {},
    "create_cigre_network_mv": {"with_der": "pv_wind"},
    "create_cigre_network_lv": {},
    "create_cigre_network_hv": {},
    "panda_four_load_branch": {},
}
LARGE: dict[str, dict[str, str]] = {
    "case300": {}, "case24_ieee_rts": {}, "iceland": {}, "create_kerber_dorfnetz": {},
    "create_kerber_vorstadtnetz_kabel_1": {},
}  # fmt: skip


@pytest.mark.parametrize("name", [*BUNDLED, *(LARGE if SOAK else ())])
def test_a_bundled_network_flows_as_in_pandapower(name: str) -> None:
    options = {**BUNDLED, **LARGE}[name]
    # the function mv_oberrhein also runs a flow of its own, which compiles for ten seconds
    bundled = Path(pp.__file__).parent / "networks" / f"{name}.json"
    check_against_runpp(
        pandapower_network(
            lambda: pp.from_json(str(bundled)) if bundled.is_file() else getattr(pp.networks, name)(**options)
        )
    )


def small_network() -> Any:
    """A network with one of each element that is read, for balanced flow."""
    net = pp.create_empty_network(sn_mva=2.0, f_hz=60.0)
    buses = [pp.create_bus(net, kv, geodata=(float(i), 2.0)) for i, kv in enumerate((20, 20, 20, 10, 10, 10, 20))]
    pp.create_ext_grid(net, buses[0], 1.03, 12.0)
    for a, b, parallel in ((0, 1, 1), (1, 2, 2), (3, 4, 1), (4, 5, 3)):
        pp.create_line_from_parameters(
            net, buses[a], buses[b], 3.0, 0.3, 0.35, 210.0, 0.25, g_us_per_km=2.0, parallel=parallel, df=0.9
        )
    for step, kind in ((2, "Ratio"), (-1, "Ideal")):
        pp.create_transformer_from_parameters(
            net, buses[2], buses[3], 6.0, 20.5, 10.2, 0.9, 8.0, 9.0, 0.4, shift_degree=30.0, parallel=2, df=0.95,
            tap_side="hv", tap_neutral=0, tap_pos=step, tap_min=-9, tap_max=9, tap_changer_type=kind,
            tap_step_percent=1.2 if kind == "Ratio" else 0.0, tap_step_degree=90.0 if kind == "Ratio" else 0.6,
        )  # fmt: skip
    pp.create_transformer_from_parameters(
        net, buses[2], buses[3], 4.0, 20.0, 10.0, 0.9, 8.0, 9.0, 0.4, shift_degree=30.0, tap_side="lv", tap_neutral=1,
        tap_pos=3, tap_min=-9, tap_max=9, tap_step_percent=1.5, tap_changer_type="Symmetrical", tap_step_degree=10.0,
    )  # fmt: skip
    pp.create_impedance(net, buses[1], buses[6], 0.01, 0.05, 3.0, gf_pu=0.01, bf_pu=0.02, gt_pu=0.03, bt_pu=0.01)
    pp.create_load(net, buses[4], 2.0, 0.5, scaling=0.7, const_z_p_percent=30.0, const_z_q_percent=20.0)
    pp.create_sgen(net, buses[5], 1.0, -0.2, scaling=0.9)
    pp.create_storage(net, buses[6], 0.4, 1.0, q_mvar=0.1)
    pp.create_motor(net, buses[6], 0.3, 0.85, efficiency_percent=92.0, loading_percent=80.0)
    pp.create_ward(net, buses[6], 0.2, 0.1, 0.3, -0.2)
    pp.create_shunt(net, buses[4], -0.5, 0.05, vn_kv=10.5, step=2)
    pp.create_gen(net, buses[5], 0.8, vm_pu=1.01, scaling=1.1)
    pp.create_asymmetric_load(net, buses[5], 0.1, 0.02, 0.2, 0.03, 0.0, 0.0)
    return net


def test_each_element_is_read_as_pandapower_has_it() -> None:
    net = pandapower_network(small_network)
    imported = read_pandapower(net, three_phase=False)
    run_pandapower(net)
    flow = reference_flow(imported.network)
    # the percentages of a bus's loads are spread over all that stands there; bus 4 has one load alone
    np.testing.assert_allclose(flow.voltage_pu, phasors(net.res_bus.vm_pu, net.res_bus.va_degree), atol=1e-9)
    np.testing.assert_allclose(
        by_id(imported.network, flow.loading_ratio, ["line 1", "line 3", "trafo 0", "trafo 1", "trafo 2"]) * 100.0,
        [*net.res_line.loading_percent[[1, 3]], *net.res_trafo.loading_percent], atol=1e-6,
    )  # fmt: skip
    assert imported.network.buses.x.tolist() == list(range(7))
    assert imported.refused == ()


@pytest.mark.parametrize("seed", range(30 if SOAK else 8))
def test_switches_and_what_is_out_of_service_open_the_same_ends(seed: int) -> None:
    random = np.random.default_rng(seed)
    net = pandapower_network(small_network)
    net.asymmetric_load = net.asymmetric_load[:0]
    for element, name in ((0, "l"), (1, "l"), (2, "l"), (3, "l"), (0, "t"), (2, "t")):
        ends = (
            net.line.loc[element, ["from_bus", "to_bus"]]
            if name == "l"
            else net.trafo.loc[element, ["hv_bus", "lv_bus"]]
        )
        for bus in ends:
            pp.create_switch(net, int(bus), element, name, closed=bool(random.random() < 0.8))
    extra = pp.create_buses(net, 2, 10.0)
    pp.create_switch(net, 3, int(extra[0]), "b", closed=bool(random.random() < 0.7))
    pp.create_switch(net, int(extra[0]), int(extra[1]), "b", closed=bool(random.random() < 0.7), z_ohm=0.3)
    pp.create_load(net, int(extra[0]), 0.3)
    pp.create_load(net, int(extra[1]), 0.2)
    for table in ("bus", "line", "trafo", "load", "sgen", "gen", "shunt", "ward", "impedance"):
        net[table]["in_service"] = random.random(len(net[table])) < 0.9
    # pandapower gives a source without neighbours no angle
    net.bus.loc[[0, 1], "in_service"] = net.line.loc[0, "in_service"] = True
    net.switch.loc[(net.switch.et == "l") & (net.switch.element == 0), "closed"] = True
    check_against_runpp(net)


def test_a_tap_without_a_type_has_no_effect_and_is_told_by_element() -> None:
    net = pandapower_network(small_network)
    net.asymmetric_load = net.asymmetric_load[:0]
    net.trafo["tap_changer_type"] = None
    imported = check_against_runpp(net)
    taps = [note for note in imported.notes if "tap" in note]
    assert len(taps) == 3
    assert "trafo 0" in taps[0]
    assert "no tap_changer_type" in taps[0]


def test_what_is_not_understood_is_refused_by_element_and_the_rest_is_read() -> None:
    net = pandapower_network(lambda: pp.networks.example_multivoltage())
    imported = read_pandapower(net)
    told = {refusal.element: refusal.reason for refusal in imported.refused}
    assert set(told) == {"trafo3w 0 'HV-MV-MV-Trafo'", "xward 0 'XWard 1'", "xward 1 'XWard 2'"}
    assert imported.network.bus_count == len(net.bus)
    net = pandapower_network(small_network)
    net.load["const_i_p_percent"] = 10.0
    net.impedance["rtf_pu"] = 0.02
    told = {refusal.element: refusal.reason for refusal in read_pandapower(net, three_phase=False).refused}
    assert set(told) == {"load 0", "impedance 0"}
    assert "constant current" in told["load 0"]


def three_phase_network(group: str, shift: float, *, short_circuit_mva: float) -> Any:
    # runpp_3ph stops by a mismatch in pu, and multiplies a Yzn's admittance by this base
    net = pp.create_empty_network(sn_mva=1.0 if group == "Yzn" else 0.05)
    buses = [pp.create_bus(net, kv) for kv in (10, 10, 0.4, 0.4, 0.4)]
    pp.create_ext_grid(net, buses[0], 1.01, 5.0, s_sc_max_mva=short_circuit_mva, rx_max=0.1, x0x_max=1.5, r0x0_max=0.2)
    for a, b, km in ((0, 1, 2.0), (2, 3, 0.3), (3, 4, 0.1)):
        pp.create_line_from_parameters(
            net, buses[a], buses[b], km, 0.4, 0.2, 200.0, 0.3, r0_ohm_per_km=1.2, x0_ohm_per_km=0.7, c0_nf_per_km=90.0,
            g_us_per_km=3.0, parallel=2,
        )  # fmt: skip
    pp.create_transformer_from_parameters(
        net, buses[1], buses[2], 0.4, 10.0, 0.41, 1.2, 6.0, 1.1, 0.5, shift_degree=shift, tap_side="hv", tap_neutral=0,
        tap_pos=2, tap_step_percent=2.5, tap_changer_type="Ratio", vector_group=group, vk0_percent=5.5,
        vkr0_percent=1.0, mag0_percent=100.0, mag0_rx=0.2, si0_hv_partial=0.8, parallel=2,
    )  # fmt: skip
    pp.create_asymmetric_load(net, buses[3], 0.02, 0.01, 0.03, 0.0, 0.05, 0.02, scaling=1.1)
    pp.create_asymmetric_sgen(net, buses[4], 0.02, 0.0, 0.0, 0.0, 0.0, 0.0)
    pp.create_load(net, buses[4], 0.03, 0.01)
    pp.create_sgen(net, buses[4], 0.01, 0.002, type="wye")
    pp.create_shunt(net, buses[4], -0.01, 0.002)
    pp.create_asymmetric_load(net, buses[1], 0.1, 0.05, 0.3, 0.0, 0.05, 0.02)
    return net


@pytest.mark.parametrize(("group", "shift"), [("Dyn", 150.0), ("YNyn", 0.0), ("Yzn", 150.0)])
def test_unbalanced_phases_flow_as_in_runpp_3ph(group: str, shift: float) -> None:
    net = pandapower_network(lambda: three_phase_network(group, shift, short_circuit_mva=1e9))
    _check_against_runpp_3ph(net, voltage_atol=1e-7, loading_atol=1e-6)


def test_a_weak_source_differs_from_runpp_3ph_by_what_negative_sequence_drops_there() -> None:
    net = pandapower_network(lambda: three_phase_network("Dyn", 150.0, short_circuit_mva=1e3))
    _check_against_runpp_3ph(net, voltage_atol=3e-4, loading_atol=3e-4)
    imported = read_pandapower(net)
    assert any("zero sequence only" in note for note in imported.notes)
    source = imported.network.branches.kinds == BranchKind.SOURCE_IMPEDANCE
    assert imported.network.branches.x0_pu[source] == pytest.approx(1.1 * 0.05 / 1e3 / np.hypot(0.1, 1.0) * 1.5)


def test_the_european_low_voltage_feeder_flows_as_in_runpp_3ph() -> None:
    net = pandapower_network(lambda: pp.networks.ieee_european_lv_asymmetric("on_peak_566"))
    net.ext_grid["s_sc_max_mva"] = 1e9
    # runpp_3ph stops by a mismatch in pu, which is 3 W a phase on the feeder's own base of 100 MVA
    net.sn_mva = 0.01
    _check_against_runpp_3ph(net, voltage_atol=1e-7, loading_atol=1e-6)


def _check_against_runpp_3ph(net: Any, *, voltage_atol: float, loading_atol: float) -> None:
    imported = read_pandapower(net)
    assert imported.refused == ()
    assert imported.network.phase_count == 3
    with silenced():
        pp.runpp_3ph(net, numba=False)
    flow = reference_flow_3ph(stiffer_source(imported.network))
    result = net.res_bus_3ph
    expected = np.stack([phasors(result[f"vm_{p}_pu"], result[f"va_{p}_degree"]) for p in "abc"], axis=1)
    position = {bus: i for i, bus in enumerate(imported.network.buses.bus_ids)}
    read = flow.voltage_pu[[position[str(bus)] for bus in result.index]]
    np.testing.assert_allclose(read, expected, rtol=0, atol=voltage_atol)
    for element in ("line", "trafo"):
        loading = net[f"res_{element}_3ph"].loading_percent
        ids = [f"{element} {index}" for index in loading.index]
        np.testing.assert_allclose(
            by_id(imported.network, flow.loading_ratio, ids), loading.to_numpy() / 100.0, rtol=0, atol=loading_atol
        )


@pytest.mark.parametrize(
    ("table", "column", "element"),
    [("line", "r0_ohm_per_km", "line 0"), ("trafo", "vector_group", "trafo 0"), ("trafo", "vk0_percent", "trafo 0")],
)
def test_zero_sequence_that_is_missing_is_refused_by_element(table: str, column: str, element: str) -> None:
    net = pandapower_network(lambda: three_phase_network("Dyn", 150.0, short_circuit_mva=1e3))
    net[table] = net[table].drop(columns=column)
    refused = read_pandapower(net).refused
    assert refused[0].element == element
    assert all(refusal.element.startswith(table) for refusal in refused)


def test_delta_loads_and_voltage_controlled_generators_are_refused_where_phases_are_told_apart() -> None:
    net = pandapower_network(lambda: three_phase_network("Dyn", 150.0, short_circuit_mva=1e3))
    net.asymmetric_load.loc[0, "type"] = "delta"
    pp.create_gen(net, 3, 0.01)
    assert [refusal.element for refusal in read_pandapower(net).refused] == ["asymmetric_load 0", "gen 0"]


def test_a_network_packed_with_gzip_is_the_same() -> None:
    net = pandapower_network(lambda: pp.networks.simple_four_bus_system())
    content = pp.to_json(net).encode()
    plain = read_network(NetworkFormat.PANDAPOWER, {"net.json": content})
    packed = read_network(NetworkFormat.PANDAPOWER, {"net.json.gz": gzip.compress(content)})
    assert plain.network.buses.bus_ids == packed.network.buses.bus_ids
    np.testing.assert_array_equal(plain.network.branches.r_pu, packed.network.branches.r_pu)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (("line", "length_km", 1, "long"), "net.json: line[1].length_km"),
        (("line", "from_bus", 0, 99), "net.json: line[0].from_bus"),
        (("line", "parallel", 0, 0), "net.json: line[0].parallel"),
        (("bus", "vn_kv", 2, -4.0), "net.json: bus[2].vn_kv"),
        (("trafo", "sn_mva", 0, None), "net.json: trafo[0].sn_mva"),
        (("load", "p_mw", 0, 1e300), "net.json: load[0].p_mw"),
        (("load", "in_service", 0, "maybe"), "net.json: load[0].in_service"),
        (("ext_grid", "vm_pu", 0, 0.0), "net.json: ext_grid[0].vm_pu"),
    ],
)
def test_a_cell_that_breaks_a_rule_is_named(change: tuple[str, str, int, object], field: str) -> None:
    table, column, row, value = change
    document = json.loads(pp.to_json(pandapower_network(small_network)))
    frame = json.loads(document["_object"][table]["_object"])
    frame["data"][row][frame["columns"].index(column)] = value
    document["_object"][table]["_object"] = json.dumps(frame)
    with pytest.raises(InvalidProblemError) as error:
        read_network(NetworkFormat.PANDAPOWER, {"net.json": json.dumps(document).encode()})
    assert error.value.violations[0].field == field
