"""Small networks of every kind: loops, taps and phase shifts, parallel branches, open ends, switches, islands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evflex.engine.grid import Branches, BranchKind, Buses, Generators, Network, Sources, ZeroSequence
from evflex.engine.supply_tree import FloatArray

BASE_KVA = 1000.0


@dataclass(frozen=True, slots=True)
class Kind:
    """What a network may hold.

    Attributes:
        loops: Share of extra branches that close loops.
        sources: Number of sources.
        generators: Number of buses whose voltage is held.
        shift: Whether transformers turn phases.
        open_ends: Probability that an end of a branch is open.
        switches: Number of branches without impedance.
    """

    loops: float = 0.0
    sources: int = 1
    generators: int = 0
    shift: bool = False
    open_ends: float = 0.0
    switches: int = 0


RADIAL = Kind(shift=True, switches=2)
KINDS = (
    RADIAL,
    Kind(loops=0.3, shift=False, switches=1),
    Kind(sources=3, open_ends=0.1, switches=3),
    Kind(loops=0.4, generators=3),
    Kind(loops=0.2, sources=2, generators=1, open_ends=0.15, switches=2),
)


def random_network(rng: np.random.Generator, n: int, kind: Kind, phase_count: int = 1) -> Network:
    """A network of n buses on one voltage level, so that loops of transformers close without a turn."""
    tree = [(int(rng.integers(0, i)), i) for i in range(1, n)]
    loops = [tuple(map(int, rng.choice(n, 2, replace=False))) for _ in range(round(kind.loops * n))]
    parallel = [tree[int(rng.integers(0, len(tree)))]] if kind.loops else [tree[0]]
    switches = [tree[int(k)] for k in rng.choice(len(tree), kind.switches, replace=False)]
    pairs = [pair for pair in [*tree, *loops, *parallel] if pair not in switches] + switches
    m = len(pairs)
    switch = np.arange(m) >= m - kind.switches
    transformer = (rng.random(m) < 0.25) & ~switch
    r, x = rng.uniform(0.001, 0.02, m), rng.uniform(0.002, 0.03, m)
    r[switch] = x[switch] = 0.0
    g, b = rng.uniform(0.0, 0.002, (2, m)), rng.uniform(0.0, 0.01, (2, m))
    g[:, switch] = b[:, switch] = 0.0
    # a turn must not depend on the way round, nor earth on where the source is
    one_way = not kind.loops and kind.sources == 1
    turned = transformer & one_way & kind.shift & np.array([pair not in parallel for pair in pairs])
    by_power = transformer & (rng.random(m) < 0.5)
    none = np.where(switch, np.nan, 1.0)
    rated_a = np.where(by_power, np.nan, rng.uniform(20.0, 200.0, m)) * none
    earthed = transformer & one_way
    known = 1.0 if phase_count == 3 else np.nan
    zero = 3.0 * r * known, 3.0 * x * known, g[0] * known, 0.5 * b[0] * known, g[1] * known, 0.5 * b[1] * known
    shift_deg = np.where(turned, rng.choice([30.0, 150.0, -30.0], m), 0.0)
    branches = Branches(
        tuple(f"branch {k}" for k in range(m)),
        np.where(switch, BranchKind.SWITCH, np.where(transformer, BranchKind.TRANSFORMER, BranchKind.LINE)),
        np.array([a for a, _ in pairs]), np.array([b for _, b in pairs]), r, x, g[0], b[0], g[1], b[1],
        np.where(transformer, rng.uniform(0.95, 1.05, m), 1.0), shift_deg,
        rng.random(m) >= kind.open_ends * ~switch, rng.random(m) >= kind.open_ends,
        rated_a, rated_a * rng.choice([1.0, 2.0], m), np.where(by_power, rng.uniform(200.0, 900.0, m), np.nan),
        np.where(earthed, ZeroSequence.TO_EARTH, ZeroSequence.THROUGH), *zero,
    )  # fmt: skip
    special = rng.choice(n, kind.sources + kind.generators, replace=False)
    sources, held = special[: kind.sources], special[kind.sources :]
    if one_way:
        sources = np.zeros(1, dtype=np.int64)  # the root: transformers are earthed on the side away from it
    joined = {bus for a, b in switches for bus in (a, b)}
    held = np.array([bus for bus in held if bus not in joined and bus not in sources], dtype=np.int64)
    nan = np.full(n, np.nan)
    shape = (n,) if phase_count == 1 else (n, 3)
    loaded = rng.random(n) < 0.7
    p = np.where(loaded if phase_count == 1 else loaded[:, None], rng.uniform(-5.0, 12.0, shape), 0.0) / phase_count
    shunts = np.where(rng.random(n) < 0.2, 0.003, 0.0)
    return Network(
        BASE_KVA, phase_count,
        Buses(tuple(f"bus {i}" for i in range(n)), np.full(n, 10.0), shunts, -2.0 * shunts, nan, nan, nan, nan),
        branches,
        # of one voltage, since switches may join them
        Sources(sources.astype(np.int64), np.full(kind.sources, 1.02), np.full(kind.sources, 10.0)),
        Generators(held, -rng.uniform(0.0, 30.0, size=held.shape), rng.uniform(1.0, 1.03, size=held.shape)),
        p, 0.3 * p,
    )  # fmt: skip


def scaled(network: Network, ratios: FloatArray) -> tuple[FloatArray, FloatArray]:
    """A step for each ratio of the network's own loads: active and reactive power."""
    by_step = ratios.reshape(-1, *[1] * network.load_p_kw.ndim)
    return by_step * network.load_p_kw, by_step * network.load_q_kvar
