"""MATPOWER case files, held against published losses and pandapower's flow of the same numbers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evflex.engine.grid.formats import NetworkFormat, read_network
from evflex.engine.grid.network import BranchKind
from evflex.engine.validation import InvalidProblemError
from tests.engine.grid.formats.foreign import phasors, run_pandapower, silenced
from tests.engine.grid.reference.balanced_reference import reference_flow

with silenced():
    from pandapower.converter.pypower.from_ppc import from_ppc

CASE = """
function mpc = small
%SMALL three buses
mpc.version = '2';
mpc.baseMVA = 10;
mpc.bus = [ % kW
    1 3 0 0 0 0 1 1 5 12.66 1 1 1;
    2 1 100 60 2 3 1 1 0 12.66 1 1.1 0.9 % a comment, with ; and ]
    3, 2, 90, 40, 0, 0, 1, 1, 0, 12.66, 1, 1.1, 0
    4 4 50 10 0 0 1 1 0 12.66 1 1.1 0.9;
];
%{
mpc.bus = [ not this one ];
%}
mpc.gen = [
    1 0 0 10 -10 1.02 100 1 10 0;
    3 0.03 0 10 -10 1.01 100 1 10 0;
    3 0.02 0 10 -10 1.01 100 1 10 0;
    3 5 0 10 -10 1.05 100 0 10 0;
    2 0.01 0.005 10 -10 1.05 100 1 10 0;
];
mpc.branch = [
    1 2 0.5 0.3 0.001 2.5 0 0 0 0 1 -360 360;
    2 3 0.6 0.4 0 0 0 0 0.98 3 1 -360 360;
    3 1 0.6 0.4 0 0 0 0 0 0 0 -360 360;
    3 4 0.6 0.4 0 0 0 0 0 0 1 -360 360;
];
mpc.gencost = [ 2 0 0 3 0 20 0 ];
mpc.bus_name = { 'one; [1]'; 'two' };
mpc.note = 'hello % there';
[PQ, PV, REF, NONE, BUS_I, BUS_TYPE, PD, QD, GS, BS, BUS_AREA, VM, ...
    VA, BASE_KV, ZONE, VMAX, VMIN] = idx_bus;
[F_BUS, T_BUS, BR_R, BR_X] = idx_brch;
Vbase = mpc.bus(1, BASE_KV) * 1e3;      %% in Volts
Sbase = mpc.baseMVA * 1e6;
mpc.branch(:, [BR_R BR_X]) = mpc.branch(:, [BR_R BR_X]) / (Vbase^2 / Sbase);
mpc.bus(:, [PD, QD]) = mpc.bus(:, [PD, QD]) / 1e3;
pf = 0.85;
mpc.bus(:, QD) = mpc.bus(:, PD) * sin(acos(pf));
mpc.bus(:, PD) = mpc.bus(:, PD) * pf;
"""

PUBLISHED = {
    "case33bw": (202.6771, 0.913090, "18"),
    "case69": (224.9917, 0.909188, "65"),
    "case85": (299.3075, 0.873890, "54"),
    "case141": (632.6956, 0.927862, "87"),
}


@pytest.mark.shared_data
@pytest.mark.parametrize("name", PUBLISHED)
def test_distribution_cases_lose_what_is_published(name: str, shared_data: Path) -> None:
    losses_kw, lowest_pu, bus = PUBLISHED[name]
    content = (shared_data / "matpower" / f"{name}.m").read_bytes()
    imported = read_network(NetworkFormat.MATPOWER, {f"{name}.m": content})
    assert imported.refused == ()
    flow = reference_flow(imported.network)
    magnitude = np.abs(flow.voltage_pu)
    assert flow.losses_kw == pytest.approx(losses_kw, abs=1e-3)
    assert magnitude.min() == pytest.approx(lowest_pu, abs=1e-6)
    assert imported.network.buses.bus_ids[int(magnitude.argmin())] == bus


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["case5_pjm", "case14_ieee", "case30_ieee", "case57_ieee", "case118_ieee"])
def test_transmission_cases_flow_as_in_pandapower(name: str, shared_data: Path) -> None:
    content = (shared_data / "pglib" / f"pglib_opf_{name}.m").read_bytes()
    network = read_network(NetworkFormat.MATPOWER, {"case.m": content}).network
    net, buses = _through_pypower(content.decode())
    run_pandapower(net)
    position = {bus: i for i, bus in enumerate(network.buses.bus_ids)}
    read = reference_flow(network).voltage_pu[[position[str(int(bus))] for bus in buses]]
    np.testing.assert_allclose(read, phasors(net.res_bus.vm_pu, net.res_bus.va_degree), rtol=0, atol=1e-8)


def _through_pypower(text: str) -> tuple[Any, Any]:
    """The matrices picked out with an expression, and turned into a network by pandapower's converter."""
    bare = re.sub(r"%.*", "", text)
    case: dict[str, Any] = {"version": "2", "baseMVA": float(re.findall(r"baseMVA\s*=\s*([\d.]+)", bare)[0])}
    for name in ("bus", "gen", "branch"):
        inner = re.findall(rf"mpc\.{name}\s*=\s*\[(.*?)\]", bare, re.DOTALL)[0]
        case[name] = np.array([[float(cell) for cell in row.split()] for row in inner.split(";") if row.split()])
    with silenced():
        net = from_ppc(case, f_hz=50)
    return net, case["bus"][:, 0]


def test_a_case_is_read_by_the_rules_of_the_format() -> None:
    imported = read_network(NetworkFormat.MATPOWER, {"small.m": CASE.encode()})
    network = imported.network
    assert imported.refused == ()
    assert network.base_kva == 10_000.0
    assert network.buses.bus_ids == ("1", "2", "3", "4")
    # converted by the statements, less the generator at a PQ bus; nothing is drawn where a bus is isolated
    np.testing.assert_allclose(network.load_p_kw, [0.0, 85.0 - 10.0, 76.5, 0.0])
    np.testing.assert_allclose(network.load_q_kvar[1], 100.0 * np.sqrt(1 - 0.85**2) - 5.0)
    np.testing.assert_allclose(network.buses.shunt_b_pu, [0, 0.3, 0, 0])
    np.testing.assert_allclose(network.buses.shunt_g_pu, [0, 0.2, 0, 0])
    np.testing.assert_array_equal(network.buses.voltage_min_pu, [np.nan, 0.9, np.nan, 0.9])
    assert network.generators.bus.tolist() == [2]
    np.testing.assert_allclose(network.generators.p_kw, [-50.0])
    assert (network.sources.voltage_pu[0], network.sources.angle_deg[0]) == (1.02, 5.0)
    branches = network.branches
    np.testing.assert_allclose(branches.r_pu, np.array([0.5, 0.6, 0.6, 0.6]) / (12.66**2 / 10))
    np.testing.assert_allclose(branches.b_from_pu[0], 0.0005)
    assert branches.kinds.tolist() == [BranchKind.LINE, BranchKind.TRANSFORMER, BranchKind.LINE, BranchKind.LINE]
    assert (branches.ratio[1], branches.shift_deg[1], branches.ratio[0]) == (0.98, 3.0, 1.0)
    np.testing.assert_array_equal(branches.rated_kva, [2500.0, np.nan, np.nan, np.nan])
    assert branches.from_closed.tolist() == [True, True, False, False]
    assert any("mpc.note" in note for note in imported.notes)


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("mpc.bus(:, PD) = mpc.bus(:, PD) * inv(pf);", "'inv'"),
        ("mpc.bus(2, PD) = 3;", "is no assignment"),
        ("mpc.bus(:, [PD QD]) = mpc.bus(:, PD) * 2;", "shape"),
        ("mpc.bus(:, PD) = mpc.bus(:, PD) * mpc.bus(:, QD);", "multiplies matrices"),
        ("mpc.bus(:, 77) = 1;", "row or column"),
        ("mpc.bus(:, PD) = 1 / 0;", "not finite"),
        ("if pf > 1, error('x'); end", "is no assignment"),
        ("mpc = loadcase('x');", "not understood"),
        ("x = " + "(" * 400 + "1" + ")" * 400 + ";", "nested too deep"),
    ],
)
def test_a_statement_that_is_not_understood_is_refused_with_its_line(statement: str, told: str) -> None:
    imported = read_network(NetworkFormat.MATPOWER, {"small.m": (CASE + statement).encode()})
    line = len(CASE.splitlines()) + 1
    assert {refusal.element for refusal in imported.refused} == {f"line {line}"}
    assert any(told in refusal.reason for refusal in imported.refused)


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("mpc.version = '2'", "mpc.version = '1'", "small.m: mpc.version"),
        ("2 3 0.6 0.4 0 0 0", "2 9 0.6 0.4 0 0 0", "small.m: mpc.branch[2].tbus"),
        ("2 3 0.6 0.4 0 0 0", "2 3 0.6 nan 0 0 0", "small.m: mpc.branch[2].x"),
        ("2 3 0.6 0.4 0 0 0", "2 3 0.6 x 0 0 0", "small.m: mpc.branch line 24"),
        ("2 3 0.6 0.4 0 0 0", "2 3 0.6 0.4 0 0", "small.m: mpc.branch line 24"),
        ("    2 1 100", "    1 1 100", "small.m: mpc.bus[2].bus_i"),
        ("mpc.gen = ", "mpc.generators = ", "small.m: mpc.gen"),
        ("baseMVA = 10", "baseMVA = -1", "small.m: mpc.baseMVA"),
    ],
)
def test_a_fault_is_named_with_its_place(old: str, new: str, field: str) -> None:
    assert CASE.count(old) == 1
    with pytest.raises(InvalidProblemError) as error:
        read_network(NetworkFormat.MATPOWER, {"small.m": CASE.replace(old, new).encode()})
    assert field in [violation.field for violation in error.value.violations]
