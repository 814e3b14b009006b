"""Small networks made by hand, and networks of pandapower as its own tables describe them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from evflex.engine.grid.network import Branches, BranchKind, Buses, Generators, Network, Sources, ZeroSequence
from evflex.engine.supply_tree import FloatArray

if TYPE_CHECKING:
    from pandapower import pandapowerNet


def hand_made(
    bus_count: int,
    ends: Sequence[tuple[int, int]],
    r_pu: FloatArray | float = 0.01,
    x_pu: FloatArray | float = 0.02,
    *,
    b_pu: FloatArray | float = 0.0,
    rated_kva: FloatArray | float = np.nan,
    opened: Iterable[int] = (),
    switches: Iterable[int] = (),
    transformers: Iterable[int] = (),
    sources: Sequence[int] = (0,),
    source_pu: float = 1.0,
    base_kva: float = 1000.0,
    nominal_kv: float = 10.0,
) -> Network:
    """A balanced network of lines between pairs of buses, without loads of its own; ``b_pu`` is shared by both ends."""
    m = len(ends)

    def column(values: FloatArray | float) -> FloatArray:
        return np.broadcast_to(np.asarray(values, dtype=np.float64), m).copy()

    kinds = np.full(m, int(BranchKind.LINE))
    kinds[list(transformers)] = BranchKind.TRANSFORMER
    kinds[list(switches)] = BranchKind.SWITCH
    impedance = np.where(kinds == BranchKind.SWITCH, 0.0, 1.0)
    closed = np.ones(m, dtype=bool)
    closed[list(opened)] = False
    nowhere = np.full(bus_count, np.nan)
    unknown = np.full(m, np.nan)
    buses = Buses(
        tuple(f"bus{i}" for i in range(bus_count)), np.full(bus_count, nominal_kv), np.zeros(bus_count),
        np.zeros(bus_count), nowhere, nowhere, nowhere, nowhere,
    )  # fmt: skip
    branches = Branches(
        tuple(f"branch{k}" for k in range(m)), kinds, np.array([a for a, _ in ends], dtype=np.int64),
        np.array([b for _, b in ends], dtype=np.int64),
        column(r_pu) * impedance, column(x_pu) * impedance, np.zeros(m), 0.5 * column(b_pu), np.zeros(m),
        0.5 * column(b_pu), np.ones(m), np.zeros(m), closed, closed.copy(), unknown, unknown, column(rated_kva),
        np.full(m, int(ZeroSequence.THROUGH)), unknown, unknown, unknown, unknown, unknown, unknown,
    )  # fmt: skip
    feeding = Sources(np.array(sources), np.full(len(sources), source_pu), np.zeros(len(sources)))
    none = Generators(np.empty(0, dtype=np.int64), np.empty(0), np.empty(0))
    return Network(base_kva, 1, buses, branches, feeding, none, np.zeros(bus_count), np.zeros(bus_count))


def from_pandapower(net: pandapowerNet) -> Network:
    """The network that pandapower solved last: its lines, then its transformers, and what it made of its buses."""
    from pandapower.pypower.idx_brch import BR_B, BR_G

    ppc = net._ppc
    bus, branch, gen = ppc["bus"].real, ppc["branch"], ppc["gen"].real
    base_mva, n, m = ppc["baseMVA"], len(bus), len(branch)
    lines = len(net.line)
    assert m == lines + len(net.trafo)
    rated_from = np.concatenate([
        net.line.max_i_ka.to_numpy() * net.line.parallel.to_numpy(),
        (net.trafo.sn_mva * net.trafo.parallel / net.trafo.vn_hv_kv).to_numpy() / np.sqrt(3.0),
    ])  # fmt: skip
    rated_to = np.concatenate([
        rated_from[:lines], (net.trafo.sn_mva * net.trafo.parallel / net.trafo.vn_lv_kv).to_numpy() / np.sqrt(3.0)
    ])  # fmt: skip
    real = branch.real
    ratio = np.where(real[:, 8] == 0.0, 1.0, real[:, 8])
    g, b = 0.5 * branch[:, BR_G].real, 0.5 * branch[:, BR_B].real
    closed = real[:, 10] > 0.0
    unknown, nowhere = np.full(m, np.nan), np.full(n, np.nan)
    kinds = np.repeat([int(BranchKind.LINE), int(BranchKind.TRANSFORMER)], [lines, m - lines])
    buses = Buses(
        tuple(str(i) for i in range(n)), bus[:, 9].copy(), bus[:, 4] / base_mva, bus[:, 5] / base_mva, nowhere,
        nowhere, nowhere, nowhere,
    )  # fmt: skip
    branches = Branches(
        tuple(f"branch{k}" for k in range(m)), kinds, real[:, 0].astype(np.int64), real[:, 1].astype(np.int64),
        real[:, 2].copy(), real[:, 3].copy(), g, b, g, b, ratio, real[:, 9].copy(), closed, closed.copy(),
        1000.0 * rated_from, 1000.0 * rated_to, unknown, np.full(m, int(ZeroSequence.THROUGH)), unknown, unknown,
        unknown, unknown, unknown, unknown,
    )  # fmt: skip
    slack = np.flatnonzero(bus[:, 1] == 3)
    feeding = Sources(slack, bus[slack, 7].copy(), bus[slack, 8].copy())
    held = np.flatnonzero(bus[:, 1] == 2)
    produced = np.array([gen[gen[:, 0] == i, 1].sum() for i in held])
    holding = Generators(held, -1000.0 * produced, bus[held, 7].copy())
    return Network(
        1000.0 * base_mva, 1, buses, branches, feeding, holding, 1000.0 * bus[:, 2], 1000.0 * bus[:, 3]
    )  # fmt: skip
