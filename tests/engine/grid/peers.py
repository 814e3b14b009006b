"""pandapower as a judge: random networks of its own, and flows of them with other loads and branches."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from evflex.engine.supply_tree import FloatArray

if TYPE_CHECKING:
    from pandapower import pandapowerNet


@dataclass(frozen=True, slots=True)
class PeerFlow:
    """Voltages of buses, NaN where no source reaches; loadings of lines, then transformers."""

    voltage_pu: FloatArray
    loading_ratio: FloatArray


def solve(net: pandapowerNet) -> PeerFlow:
    """Solve a network of pandapower as it stands."""
    import pandapower

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pandapower.runpp(net, tolerance_mva=1e-10, numba=False, max_iteration=30)
    loading = np.concatenate([net.res_line.loading_percent.to_numpy(), net.res_trafo.loading_percent.to_numpy()])
    return PeerFlow(net.res_bus.vm_pu.to_numpy().copy(), loading / 100.0)


def solve_with(net: pandapowerNet, p_kw: FloatArray, q_kvar: FloatArray, lost: int = -1) -> PeerFlow:
    """Solve a :func:`random_net` with a load at each bus, and without a line."""
    net.load.p_mw = p_kw / 1000.0
    net.load.q_mvar = q_kvar / 1000.0
    net.line["in_service"] = np.arange(len(net.line)) != lost
    flow = solve(net)
    net.line["in_service"] = True
    return flow


def random_net(random: np.random.Generator, bus_count: int, loops: int = 0) -> pandapowerNet:
    """A random feeder of 10 kV lines behind bus 0, with some loops, and a load of nothing at each bus."""
    import pandapower

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = pandapower.create_empty_network(sn_mva=1.0)
        for _ in range(bus_count):
            pandapower.create_bus(net, vn_kv=10.0)
        pandapower.create_ext_grid(net, 0, vm_pu=1.02)
        pairs = [(int(random.integers(max(0, i - 4), i)), i) for i in range(1, bus_count)]
        while loops:
            a, b = sorted(random.choice(bus_count, 2, replace=False).tolist())
            if (a, b) not in pairs:
                pairs.append((a, b))
                loops -= 1
        for a, b in pairs:
            pandapower.create_line_from_parameters(
                net, a, b, length_km=float(random.uniform(0.5, 3.0)), r_ohm_per_km=float(random.uniform(0.1, 0.6)),
                x_ohm_per_km=float(random.uniform(0.1, 0.4)), c_nf_per_km=float(random.uniform(0.0, 250.0)),
                max_i_ka=0.2,
            )  # fmt: skip
        for bus in range(bus_count):
            pandapower.create_load(net, bus, p_mw=0.0, q_mvar=0.0)
    return net
