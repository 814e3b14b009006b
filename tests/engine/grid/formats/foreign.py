"""Other tools' networks and their own power flows, with the warnings that they give off kept to themselves."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evflex.engine.grid.formats import ImportedNetwork, NetworkFormat, read_network
from evflex.engine.grid.network import BranchKind, Network
from tests.engine.grid.reference.balanced_reference import ReferenceFlow, reference_flow


@contextmanager
def silenced() -> Iterator[None]:
    """Without the warnings and logs of foreign libraries."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


with silenced():
    import pandapower as pp
    import pandapower.networks


def pandapower_network(make: Callable[[], Any]) -> Any:
    """A pandapower network made by a function."""
    with silenced():
        made = make()
    return made[0] if isinstance(made, tuple) else made


def read_pandapower(net: Any, three_phase: bool | None = None) -> ImportedNetwork:
    """The network as its JSON is read."""
    with silenced():
        content = pp.to_json(net).encode()
    return read_network(NetworkFormat.PANDAPOWER, {"net.json": content}, three_phase=three_phase)


def run_pandapower(net: Any) -> None:
    """pandapower's own balanced flow, with angles."""
    with silenced():
        pp.runpp(net, calculate_voltage_angles=True, init="dc", tolerance_mva=1e-9, max_iteration=30, numba=False)


def check_against_runpp(net: Any, voltage_atol: float = 1e-8, loading_atol: float = 1e-6) -> ImportedNetwork:
    """Read a pandapower network, and hold the flow of what was read against pandapower's own."""
    imported = read_pandapower(net)
    assert imported.refused == ()
    run_pandapower(net)
    flow = reference_flow(imported.network)
    buses = [int(bus) for bus in imported.network.buses.bus_ids]
    assert buses == net.bus.index.tolist()
    expected = phasors(net.res_bus.vm_pu, net.res_bus.va_degree)
    np.testing.assert_array_equal(np.isnan(flow.voltage_pu), np.isnan(expected))
    np.testing.assert_allclose(flow.voltage_pu, expected, rtol=0, atol=voltage_atol)
    for element in ("line", "trafo"):
        result = net[f"res_{element}"]
        ids = [f"{element} {index}" for index in result.index]
        np.testing.assert_allclose(
            np.nan_to_num(by_id(imported.network, flow.loading_ratio, ids)),
            np.nan_to_num(result.loading_percent.to_numpy() / 100.0), rtol=0, atol=loading_atol,
        )  # fmt: skip
    return imported


def by_id(network: Network, values: NDArray[np.float64], branch_ids: list[str]) -> NDArray[np.float64]:
    """Values of the branches named."""
    position = {branch: i for i, branch in enumerate(network.branches.branch_ids)}
    return values[[position[branch] for branch in branch_ids]]


def phasors(magnitude: Any, angle_deg: Any) -> NDArray[np.complex128]:
    """Phasors from columns of magnitudes and angles."""
    turned = np.exp(1j * np.deg2rad(np.asarray(angle_deg, dtype=np.float64)))
    return np.asarray(np.asarray(magnitude, dtype=np.float64) * turned)


def stiffer_source(network: Network) -> Network:
    """The network with sources that hold positive and negative sequence a thousand times better."""
    branches = network.branches
    source = branches.kinds == BranchKind.SOURCE_IMPEDANCE
    return replace(network, branches=replace(branches, x_pu=np.where(source, 1e-3 * branches.x_pu, branches.x_pu)))


__all__ = [
    "ReferenceFlow",
    "by_id",
    "check_against_runpp",
    "pandapower",
    "pandapower_network",
    "phasors",
    "pp",
    "read_pandapower",
    "run_pandapower",
    "silenced",
    "stiffer_source",
]
