"""SimBench grids as CSV, held against pandapower's flow of simbench's own conversion."""

from __future__ import annotations

import copy
import io
import zipfile
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evflex.engine.grid.formats import NetworkFormat, read_network
from evflex.engine.validation import InvalidProblemError
from tests.engine.grid.formats.foreign import by_id, check_against_runpp, phasors, run_pandapower, silenced
from tests.engine.grid.reference.balanced_reference import reference_flow

with silenced():
    from simbench.converter.csv_pp_converter import csv_data2pp
    from simbench.converter.format_information import csv_tablenames
    from simbench.networks.extract_simbench_grids_from_csv import (
        _get_extracted_csv_table,
        complete_data_path,
        generate_no_sw_variant,
        get_relevant_subnets,
    )
    from simbench.networks.simbench_code import get_simbench_code_and_parameters

CODES = ("1-LV-rural3--2-sw", "1-MV-urban--2-sw")


Grids = Callable[[str], tuple[dict[str, bytes], Any]]


@pytest.fixture(scope="module")
def grids() -> Grids:
    """The CSV files of a grid without profiles, and the network that simbench makes of them, by its code."""

    @cache
    def extracted(code: str) -> tuple[dict[str, bytes], Any]:
        with silenced():
            _, parameters = get_simbench_code_and_parameters(code)
            folder = complete_data_path(parameters[5])
            subnets = get_relevant_subnets(parameters, folder)
            tables = {
                name: pd.DataFrame() if "Profile" in name else _get_extracted_csv_table(subnets, name, folder)
                for name in csv_tablenames(["elements", "profiles", "types", "cases"])
            }
            files = {
                f"{code}/{name}.csv": table.to_csv(sep=";", index=False, na_rep="NULL").encode()
                for name, table in tables.items() if len(table)
            }  # fmt: skip
            net = csv_data2pp(tables)
        # simbench leaves it empty, and taps without a type have no effect in pandapower
        net.trafo["tap_changer_type"] = "Ratio"
        return files, net

    def copied(code: str) -> tuple[dict[str, bytes], Any]:
        files, net = extracted(code)
        return files, copy.deepcopy(net)

    return copied


@pytest.mark.parametrize("code", CODES)
def test_a_grid_flows_as_in_pandapower_once_taps_count(code: str, grids: Grids) -> None:
    files, net = grids(code)
    imported = read_network(NetworkFormat.SIMBENCH, files)
    assert imported.refused == ()
    run_pandapower(net)
    flow = reference_flow(imported.network)
    # simbench drops auxiliary nodes where it turns switches between nodes into switches of branches
    position = {bus: i for i, bus in enumerate(imported.network.buses.bus_ids)}
    read = flow.voltage_pu[[position[name] for name in net.bus.name]]
    expected = phasors(net.res_bus.vm_pu, net.res_bus.va_degree)
    np.testing.assert_allclose(read, expected, rtol=0, atol=1e-8)
    for element in ("line", "trafo"):
        np.testing.assert_allclose(
            np.nan_to_num(by_id(imported.network, flow.loading_ratio, list(net[element].name))),
            np.nan_to_num(net[f"res_{element}"].loading_percent.to_numpy() / 100.0), rtol=0, atol=1e-6,
        )  # fmt: skip
    assert np.isfinite(imported.network.buses.x).all()
    if "MV" in code:
        assert any("tap controller" in note for note in imported.notes)


@pytest.mark.parametrize("code", CODES)
def test_simbench_networks_in_pandapower_are_read_as_pandapower_has_them(code: str, grids: Grids) -> None:
    _, net = grids(code)
    with silenced():
        generate_no_sw_variant(net)
    check_against_runpp(net)
    net.trafo["tap_changer_type"] = None
    imported = check_against_runpp(net)
    assert any("no tap_changer_type" in note for note in imported.notes)


def test_a_folder_packed_as_zip_is_the_same(grids: Grids) -> None:
    packed = io.BytesIO()
    files, _ = grids(CODES[0])
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    plain = read_network(NetworkFormat.SIMBENCH, files).network
    unpacked = read_network(NetworkFormat.SIMBENCH, {"grid.zip": packed.getvalue()}).network
    assert plain.branches.branch_ids == unpacked.branches.branch_ids
    np.testing.assert_array_equal(plain.load_p_kw, unpacked.load_p_kw)


SMALL = {
    "Node.csv": "id;vmSetp;vaSetp;vmR;vmMin;vmMax;coordID\nA;1.02;0;20;0.9;1.1;c\nB;NULL;NULL;0.4;0.9;1.1;NULL\n"
    "C;1.0;NULL;0.4;NULL;NULL;NULL\n",
    "Coordinates.csv": "id;x;y\nc;9.1;52.3\n",
    "Line.csv": "id;nodeA;nodeB;type;length;loadingMax\nL;B;C;cable;0.2;100\n",
    "LineType.csv": "id;r;x;b;iMax;type\ncable;0.2;0.08;260;270;cable\n",
    "Transformer.csv": "id;nodeHV;nodeLV;type;tappos;autoTap\nT;A;B;t;2;0\n",
    "TransformerType.csv": "id;sR;vmHV;vmLV;va0;vmImp;pCu;pFe;iNoLoad;tapable;tapside;dVm;dVa;tapNeutr\n"
    "t;0.4;20;0.4;150;4;4;0.7;0.2;1;HV;2.5;1.5;0\n",
    "ExternalNet.csv": "id;node;calc_type\nE;A;vavm\n",
    "RES.csv": "id;node;calc_type;pRES;qRES\nR;B;pq;0.03;-0.01\n",
    "Storage.csv": "id;node;pStor;qStor\nS;B;0.02;0\n",
    "PowerPlant.csv": "id;node;calc_type;pPP;qPP\nP;C;pvm;0.05;NULL\n",
    "Shunt.csv": "id;node;p0;q0;vmR;step\nX;B;0.001;-0.02;0.4;2\n",
}


def small(**changes: str) -> dict[str, bytes]:
    """The small grid, with tables changed or added."""
    return {name: text.encode() for name, text in {**SMALL, **{f"{k}.csv": v for k, v in changes.items()}}.items()}


def test_each_element_is_read_by_its_rules() -> None:
    imported = read_network(NetworkFormat.SIMBENCH, small())
    network = imported.network
    assert imported.refused == ()
    assert network.branches.branch_ids == ("L", "T")
    np.testing.assert_allclose(network.branches.ratio, [1.0, 1.05])
    np.testing.assert_allclose(network.branches.shift_deg, [0.0, 153.0])
    np.testing.assert_allclose(network.branches.rated_from_a, [270.0, 400.0 / np.sqrt(3.0) / 20.0])
    np.testing.assert_allclose(network.branches.b_to_pu[0], 0.5 * 260e-6 * 0.2 * 0.16)
    np.testing.assert_allclose(network.load_p_kw, [0.0, -10.0, 0.0])
    np.testing.assert_allclose(network.load_q_kvar, [0.0, 10.0, 0.0])
    np.testing.assert_allclose([network.buses.shunt_g_pu[1], network.buses.shunt_b_pu[1]], [0.002, 0.04])
    np.testing.assert_allclose(network.generators.p_kw, [-50.0])
    assert (network.sources.voltage_pu[0], network.buses.x[0], network.buses.y[0]) == (1.02, 9.1, 52.3)


def test_what_is_not_understood_is_refused_by_element() -> None:
    imported = read_network(
        NetworkFormat.SIMBENCH,
        small(
            Transformer3W="id;nodeHV\nW;A\n",
            DCLineType="id;pDCLine\ndc;0\n",
            Line=SMALL["Line.csv"] + "D;B;C;dc;1;100\n",
            Switch="id;nodeA;nodeB;cond\nS1;A;B;1\nS2;B;C;0\n",
            Readme="hello",
        ),
    )
    assert {r.element for r in imported.refused} == {"Transformer3W W", "Line D", "Switch S1"}
    assert imported.network.branches.branch_ids == ("L", "T", "S2")
    assert imported.notes == ("not read: Readme.csv",)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"Line": SMALL["Line.csv"].replace("L;B;C", "L;B;Z")}, "Line.csv[L].nodeB"),
        ({"Line": SMALL["Line.csv"].replace(";cable;", ";none;")}, "Line.csv[L].type"),
        ({"Line": SMALL["Line.csv"].replace("0.2", "short")}, "Line.csv[L].length"),
        ({"LineType": SMALL["LineType.csv"].replace("0.08", "inf")}, "LineType.csv[cable].x"),
        ({"Node": SMALL["Node.csv"].replace("A;1.02;0;20", "A;1.02;0;-20")}, "Node.csv[A].vmR"),
        ({"Node": SMALL["Node.csv"].replace("C;1.0", "B;1.0")}, "Node.csv row 4.id"),
        ({"Node": SMALL["Node.csv"].replace("A;1.02;0;20", "A;1.02;20")}, "Node.csv row 2"),
        ({"Node": "name,kv\nA,20\n"}, "Node.csv"),
        ({"RES": SMALL["RES.csv"].replace("pq", "qp")}, "RES.csv[R].calc_type"),
    ],
)
def test_a_fault_is_named_with_its_place(change: dict[str, str], field: str) -> None:
    with pytest.raises(InvalidProblemError) as error:
        read_network(NetworkFormat.SIMBENCH, small(**change))
    assert field in [violation.field for violation in error.value.violations]
