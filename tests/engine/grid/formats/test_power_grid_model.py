"""power-grid-model networks, read and held against its own calculations."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import power_grid_model as pgm
import pytest
from power_grid_model.utils import json_serialize

from evflex.engine.grid.formats import ImportedNetwork, NetworkFormat, read_network
from evflex.engine.grid.network import Network
from evflex.engine.validation import InvalidProblemError
from tests.engine.grid.formats.foreign import by_id, pandapower_network, phasors, pp, silenced
from tests.engine.grid.reference.balanced_reference import reference_flow
from tests.engine.grid.reference.three_phase_reference import reference_flow_3ph

with silenced():
    from power_grid_model_io.converters import PandaPowerConverter

WYE, WYE_N, DELTA, ZIGZAG, ZIGZAG_N = range(5)
COMPONENTS: dict[str, dict[str, list[Any]]] = {
    "node": {"id": [1, 2, 3, 4, 5], "u_rated": [10e3, 10e3, 400.0, 400.0, 400.0]},
    "line": {
        "id": [11, 12, 13], "from_node": [1, 3, 4], "to_node": [2, 4, 5], "from_status": [1, 1, 1],
        "to_status": [1, 1, 1], "r1": [0.4, 0.06, 0.02], "x1": [0.3, 0.03, 0.01], "c1": [3e-7, 1e-7, 1e-7],
        "tan1": [0.01, 0.0, 0.0], "r0": [1.2, 0.2, 0.1], "x0": [0.9, 0.1, 0.1], "c0": [1e-7, 5e-8, 1e-7],
        "tan0": [0.0, 0.02, 0.0], "i_n": [200.0, 300.0, 250.0],
    },
    "transformer": {
        "id": [21], "from_node": [2], "to_node": [3], "from_status": [1], "to_status": [1], "u1": [10.5e3],
        "u2": [410.0], "sn": [400e3], "uk": [0.05], "pk": [4e3], "i0": [0.01], "p0": [800.0], "winding_from": [DELTA],
        "winding_to": [WYE_N], "clock": [5], "tap_side": [0], "tap_pos": [3], "tap_min": [-5], "tap_max": [5],
        "tap_nom": [0], "tap_size": [250.0], "uk_min": [0.06], "uk_max": [0.045], "pk_min": [4.5e3],
        "pk_max": [3.9e3], "r_grounding_to": [0.05], "x_grounding_to": [0.02], "r_grounding_from": [50.0],
        "x_grounding_from": [30.0],
    },
    "source": {
        "id": [31], "node": [1], "status": [1], "u_ref": [1.02], "u_ref_angle": [0.1], "sk": [5e7], "rx_ratio": [0.2],
        "z01_ratio": [1.7],
    },
    "sym_load": {
        "id": [41, 42], "node": [4, 2], "status": [1, 1], "type": [0, 1], "p_specified": [3e4, 2e4],
        "q_specified": [1e4, 5e3],
    },
    "sym_gen": {"id": [43], "node": [5], "status": [1], "type": [0], "p_specified": [1e4], "q_specified": [1e3]},
    "shunt": {"id": [61], "node": [5], "status": [1], "g1": [0.01], "b1": [-0.02], "g0": [0.01], "b0": [-0.02]},
    "sym_voltage_sensor": {"id": [71], "measured_object": [1], "u_measured": [10e3], "u_sigma": [10.0]},
}  # fmt: skip
BY_PHASES: dict[str, dict[str, list[Any]]] = {
    "asym_load": {
        "id": [51], "node": [4], "status": [1], "type": [0], "p_specified": [[2e4, 5e3, 1e4]],
        "q_specified": [[3e3, 1e3, 0.0]],
    },
    "asym_gen": {
        "id": [52], "node": [2], "status": [1], "type": [0], "p_specified": [[2e3, 5e3, 1e4]],
        "q_specified": [[3e3, 1e3, 0.0]],
    },
}  # fmt: skip


def arrays(components: dict[str, dict[str, list[Any]]], **changes: dict[str, Any]) -> dict[str, Any]:
    """Input of power-grid-model, with columns changed."""
    out = {}
    for name, columns in components.items():
        merged = {**columns, **changes.get(name, {})}
        out[name] = pgm.initialize_array("input", name, len(merged["id"]))
        for column, values in merged.items():
            out[name][column] = values
    return out


def read(data: dict[str, Any], *, compact: bool = True, three_phase: bool | None = None) -> ImportedNetwork:
    text = json_serialize(data, use_compact_list=compact)
    return read_network(NetworkFormat.POWER_GRID_MODEL, {"grid.json": text.encode()}, three_phase=three_phase)


def calculated(data: dict[str, Any], *, symmetric: bool, error_tolerance: float = 1e-12) -> Any:
    method = "newton_raphson" if symmetric else "iterative_current"
    return pgm.PowerGridModel(data).calculate_power_flow(
        symmetric=symmetric, error_tolerance=error_tolerance, max_iterations=200, calculation_method=method
    )


def at_nodes(network: Network, values: np.ndarray[Any, Any], ids: Any) -> np.ndarray[Any, Any]:
    position = {bus: i for i, bus in enumerate(network.buses.bus_ids)}
    return values[[position[str(one)] for one in ids]]


@pytest.mark.parametrize("compact", [True, False])
@pytest.mark.parametrize("tap_pos", [-4, 0, 3])
def test_a_balanced_network_flows_as_in_power_grid_model(tap_pos: int, compact: bool) -> None:
    data = arrays(COMPONENTS, transformer={"tap_pos": [tap_pos]})
    imported = read(data, compact=compact)
    answer = calculated(data, symmetric=True)
    flow = reference_flow(imported.network)
    expected = phasors(answer["node"]["u_pu"], answer["node"]["u_angle"] * 180.0 / np.pi)
    np.testing.assert_allclose(at_nodes(imported.network, flow.voltage_pu, answer["node"]["id"]), expected, atol=1e-10)
    for component in ("line", "transformer"):
        ids = [f"{component} {one}" for one in answer[component]["id"]]
        np.testing.assert_allclose(
            by_id(imported.network, flow.loading_ratio, ids), answer[component]["loading"], atol=1e-9
        )
    assert imported.refused == ()
    assert imported.notes == ("sym_voltage_sensor: not read, 1 of them",)


def test_loads_by_phases_add_up_in_a_balanced_network() -> None:
    data = arrays({**COMPONENTS, **BY_PHASES})
    answer = calculated(data, symmetric=True)
    network = read(data, three_phase=False).network
    expected = phasors(answer["node"]["u_pu"], answer["node"]["u_angle"] * 180.0 / np.pi)
    read_pu = at_nodes(network, reference_flow(network).voltage_pu, answer["node"]["id"])
    np.testing.assert_allclose(read_pu, expected, atol=1e-10)


@pytest.mark.parametrize(
    ("winding_from", "winding_to", "clock"),
    [(WYE_N, WYE_N, 0), (WYE_N, WYE_N, 4), (DELTA, WYE_N, 5), (DELTA, WYE_N, 11), (DELTA, ZIGZAG_N, 0),
     (WYE, ZIGZAG_N, 5)],
)  # fmt: skip
def test_an_unbalanced_network_flows_as_in_power_grid_model(winding_from: int, winding_to: int, clock: int) -> None:
    windings = {"winding_from": [winding_from], "winding_to": [winding_to], "clock": [clock]}
    data = arrays({**COMPONENTS, **BY_PHASES}, transformer=windings)
    _check_unbalanced(data, atol=1e-7)


@pytest.mark.parametrize(("winding_to", "clock"), [(DELTA, 5), (WYE, 0), (ZIGZAG, 1)])
def test_a_transformer_that_earths_one_side_does_so_as_in_power_grid_model(winding_to: int, clock: int) -> None:
    windings = {"winding_from": [WYE_N], "winding_to": [winding_to], "clock": [clock]}
    _check_unbalanced(arrays({**COMPONENTS, "asym_gen": BY_PHASES["asym_gen"]}, transformer=windings), atol=1e-7)


def _check_unbalanced(data: dict[str, Any], *, atol: float) -> None:
    imported = read(data)
    assert imported.refused == ()
    assert imported.network.phase_count == 3
    answer = calculated(data, symmetric=False)
    flow = reference_flow_3ph(imported.network)
    expected = phasors(answer["node"]["u_pu"], answer["node"]["u_angle"] * 180.0 / np.pi)
    read_pu = at_nodes(imported.network, flow.voltage_pu, answer["node"]["id"])
    np.testing.assert_allclose(read_pu, expected, rtol=0, atol=atol)
    ids = [f"line {one}" for one in answer["line"]["id"]]
    np.testing.assert_allclose(by_id(imported.network, flow.loading_ratio, ids), answer["line"]["loading"], atol=1e-6)


def test_links_and_branches_open_at_one_end_are_as_in_power_grid_model() -> None:
    link: dict[str, list[Any]] = {"id": [15], "from_node": [4], "to_node": [6], "from_status": [1], "to_status": [1]}
    data = arrays(
        {**COMPONENTS, "link": link},
        node={"id": [1, 2, 3, 4, 5, 6], "u_rated": [10e3, 10e3, 400.0, 400.0, 400.0, 400.0]},
        line={"to_status": [1, 1, 0]}, sym_gen={"node": [6]}, shunt={"node": [6]},
    )  # fmt: skip
    network = read(data).network
    answer = calculated(data, symmetric=True, error_tolerance=1e-8)
    flow = reference_flow(network)
    expected = phasors(answer["node"]["u_pu"], answer["node"]["u_angle"] * 180.0 / np.pi)
    read_pu = at_nodes(network, flow.voltage_pu, answer["node"]["id"])
    assert np.isnan(read_pu[4])
    # a link of power-grid-model has a millionth of a pu
    np.testing.assert_allclose(read_pu[[0, 1, 2, 3, 5]], expected[[0, 1, 2, 3, 5]], atol=1e-7)


def test_a_generic_branch_flows_as_in_power_grid_model() -> None:
    generic: dict[str, list[Any]] = {
        "id": [16], "from_node": [2], "to_node": [3], "from_status": [1], "to_status": [1], "r1": [0.01], "x1": [0.04],
        "g1": [1e-3], "b1": [2e-3], "k": [1.03], "theta": [5 * np.pi / 6], "sn": [3e5],
    }  # fmt: skip
    data = arrays({**COMPONENTS, "generic_branch": generic})
    network = read(data).network
    answer = calculated(data, symmetric=True)
    flow = reference_flow(network)
    expected = phasors(answer["node"]["u_pu"], answer["node"]["u_angle"] * 180.0 / np.pi)
    np.testing.assert_allclose(at_nodes(network, flow.voltage_pu, answer["node"]["id"]), expected, atol=1e-10)
    loading = by_id(network, flow.loading_ratio, ["generic_branch 16"])
    np.testing.assert_allclose(loading, answer["generic_branch"]["loading"], atol=1e-9)


def test_a_network_that_power_grid_model_io_converts_is_read() -> None:
    net = pandapower_network(lambda: pp.networks.example_simple())
    net.trafo["vector_group"] = "Dyn"
    # its converter knows no generators that hold a voltage
    net.gen, net.load["type"] = net.gen[:0], None
    with silenced():
        data, _ = PandaPowerConverter().load_input_data(net)
    imported = read(data)
    answer = calculated(data, symmetric=True, error_tolerance=1e-9)
    flow = reference_flow(imported.network)
    expected = phasors(answer["node"]["u_pu"], answer["node"]["u_angle"] * 180.0 / np.pi)
    np.testing.assert_allclose(
        at_nodes(imported.network, flow.voltage_pu, answer["node"]["id"])[answer["node"]["energized"] == 1],
        expected[answer["node"]["energized"] == 1], atol=1e-6,
    )  # fmt: skip


def test_what_is_not_understood_is_refused_by_element() -> None:
    data = arrays(
        {**COMPONENTS, **BY_PHASES},
        sym_load={"type": [2, 0]}, asym_load={"type": [1]}, shunt={"g0": [0.5]},
        transformer={"winding_from": [WYE_N], "clock": [6]},
    )  # fmt: skip
    told = {refusal.element: refusal.reason for refusal in read(data).refused}
    assert set(told) == {"sym_load 41", "asym_load 51", "shunt 61", "transformer 21"}
    assert "constant current" in told["sym_load 41"]


@pytest.mark.parametrize(
    ("table", "column", "value", "field"),
    [
        ("line", "from_node", 99, "grid.json: line[11].from_node"),
        ("line", "to_node", 1, "grid.json: line[11].to_node"),
        ("line", "r1", "much", "grid.json: line[11].r1"),
        ("node", "id", 2, "grid.json: node[2].id"),
        ("node", "u_rated", 0, "grid.json: node[1].u_rated"),
        ("transformer", "clock", 99, "grid.json: transformer[21].clock"),
        ("asym_load", "p_specified", [1, 2], "grid.json: asym_load[51].p_specified"),
        ("source", "u_ref", None, "grid.json: source[31].u_ref"),
    ],
)
def test_a_cell_that_breaks_a_rule_is_named(table: str, column: str, value: object, field: str) -> None:
    document = json.loads(json_serialize(arrays({**COMPONENTS, **BY_PHASES}), use_compact_list=False))
    document["data"][table][0][column] = value
    with pytest.raises(InvalidProblemError) as error:
        read_network(NetworkFormat.POWER_GRID_MODEL, {"grid.json": json.dumps(document).encode()})
    assert field in [violation.field for violation in error.value.violations]
