"""What a forecast of congestion is asked: injections and how sure they are, limits, outages, and places of relief."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from evflex.engine.grid.network import BranchKind, Network
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray
from evflex.engine.timegrid import TimeGrid
from evflex.engine.validation import Rules

MAX_SAMPLES = 100_000
# All batches are kept: 16 times as many for each place that is uncertain, of active and of reactive power.
MAX_SAMPLE_COUNT = 1_000
_INDEX = np.empty(0, dtype=np.int64)


class CongestionKind(IntEnum):
    """Which limit is broken; values as in the public contract."""

    LINE_OVERLOAD = 1
    TRANSFORMER_OVERLOAD = 2
    UNDERVOLTAGE = 3
    OVERVOLTAGE = 4


@dataclass(frozen=True, slots=True)
class CongestionProblem:
    """A network, what is drawn from it over T steps, and what it must hold.

    Injections have the shape (T, n), or (T, n, 3) in a network of three phases, and so have their deviations; samples
    have one axis more in front. Deviations are those of independent normal distributions, one a bus, step and phase,
    for active and for reactive power apart.

    Attributes:
        grid: Time axis.
        network: The network.
        p_kw: Active power drawn at each bus as expected; production is negative.
        q_kvar: Reactive power drawn; inductive is positive.
        p_std_kw: Standard deviations of active power, >= 0; None where it is certain.
        q_std_kvar: Standard deviations of reactive power.
        p_samples_kw: Instead of deviations equally likely courses of active power, (K, T, n).
        q_samples_kvar: Reactive power of the same samples; None where it is as expected.
        voltage_min_pu: Lowest voltage allowed, (n,), > 0; None for the network's own, or 0.9 where it has none.
        voltage_max_pu: Highest voltage allowed, (n,); None for the network's own, or 1.1.
        max_loading_ratio: Highest loading allowed, (m,), > 0; None for 1.0.
        contingencies: Indices of branches that are lost, one at a time; none for a forecast of the sound network.
        tie_branches: Indices of open branches that may be closed to feed back what an outage cuts off.
        relief_buses: Whether flexibility may be at a bus, (n,); None for all buses.
    """

    grid: TimeGrid
    network: Network
    p_kw: FloatArray
    q_kvar: FloatArray
    p_std_kw: FloatArray | None = None
    q_std_kvar: FloatArray | None = None
    p_samples_kw: FloatArray | None = None
    q_samples_kvar: FloatArray | None = None
    voltage_min_pu: FloatArray | None = None
    voltage_max_pu: FloatArray | None = None
    max_loading_ratio: FloatArray | None = None
    contingencies: IntArray = field(default_factory=_INDEX.copy)
    tie_branches: IntArray = field(default_factory=_INDEX.copy)
    relief_buses: BoolArray | None = None

    def validate(self, rules: Rules) -> None:
        """Report every broken rule but those of the network itself, which :func:`prepare_grid` checks."""
        if not self.grid.validate(rules):
            return
        n, m = self.network.bus_count, self.network.branch_count
        _injections(rules, self, (self.grid.step_count, *self.network.load_p_kw.shape))
        for name, count in (("voltage_min_pu", n), ("voltage_max_pu", n), ("max_loading_ratio", m)):
            _limit(rules, name, getattr(self, name), count)
        if self.voltage_min_pu is not None and self.voltage_max_pu is not None:
            both = len(self.voltage_min_pu) == len(self.voltage_max_pu)
            for i in np.flatnonzero(self.voltage_min_pu >= self.voltage_max_pu).tolist() if both else ():
                rules.check(
                    False, f"voltage_min_pu[{i}]", f"must lie below voltage_max_pu, is {self.voltage_min_pu[i]}"
                )
        _branches(rules, "contingencies", self.contingencies, m)
        if _branches(rules, "tie_branches", self.tie_branches, m):
            branches = self.network.branches
            for i, k in enumerate(self.tie_branches.tolist()):
                is_open = not (branches.from_closed[k] and branches.to_closed[k])
                rules.check(is_open, f"tie_branches[{i}]", f"must be open in the network, branch {k} is closed")
        if self.relief_buses is not None:
            rules.length("relief_buses", len(self.relief_buses), (n,))


@dataclass(frozen=True, slots=True)
class CongestionOptions:
    """What of a forecast is wanted, and how probabilities are computed.

    Attributes:
        min_probability: A limit that the expected injections keep is a congestion where it is broken with at least
            this probability, > 0 and <= 1.
        sample_count: AC samples of a step near a limit at first, 16 to 1000; where their error stays above 0.4
            percentage points, up to 16 times as many are drawn. No matter where samples are given.
        seed: Of the samples.
        want_relief: Whether the relief of each congestion is wanted.
        want_worst: Whether the worst loading and voltages over all contingencies are wanted.
    """

    min_probability: float = 0.05
    sample_count: int = 128
    seed: int = 0
    want_relief: bool = True
    want_worst: bool = True

    def validate(self, rules: Rules) -> None:
        """Report every broken rule."""
        ok = 0.0 < self.min_probability <= 1.0
        rules.check(ok, "min_probability", f"must be > 0 and <= 1, is {self.min_probability}")
        ok = 16 <= self.sample_count <= MAX_SAMPLE_COUNT
        rules.check(ok, "sample_count", f"must lie between 16 and {MAX_SAMPLE_COUNT}, is {self.sample_count}")
        rules.check(self.seed >= 0, "seed", f"must be >= 0, is {self.seed}")


def all_contingencies(network: Network) -> IntArray:
    """Indices of all lines and transformers that are closed at both ends.

    Switches and what stands for the grid behind a source are no equipment that N-1 loses; a list may name them.
    """
    branches = network.branches
    is_equipment = np.isin(branches.kinds, (BranchKind.LINE, BranchKind.TRANSFORMER))
    lost: IntArray = np.flatnonzero(is_equipment & branches.from_closed & branches.to_closed)
    return lost


def _injections(rules: Rules, problem: CongestionProblem, shape: tuple[int, ...]) -> None:
    for name in ("p_kw", "q_kvar"):
        _finite(rules, name, getattr(problem, name), shape)
    for name in ("p_std_kw", "q_std_kvar"):
        values = getattr(problem, name)
        if values is not None and _finite(rules, name, values, shape):
            for at in np.argwhere(values < 0.0).tolist():
                rules.check(False, name + _path(at), f"must be >= 0, is {values[tuple(at)]}")
    samples = problem.p_samples_kw
    for name in ("p_samples_kw", "q_samples_kvar"):
        values = getattr(problem, name)
        if values is not None:
            count = len(values if samples is None else samples)
            rules.check(0 < count <= MAX_SAMPLES, name, f"must hold 1 to {MAX_SAMPLES} samples, holds {count}")
            _finite(rules, name, values, (count, *shape))
    has_deviations = problem.p_std_kw is not None or problem.q_std_kvar is not None
    has_samples = samples is not None or problem.q_samples_kvar is not None
    rules.check(not (has_samples and has_deviations), "p_samples_kw", "must not be given beside standard deviations")
    alone = samples is None and problem.q_samples_kvar is not None
    rules.check(not alone, "q_samples_kvar", "must be given with p_samples_kw")


def _finite(rules: Rules, name: str, values: FloatArray, shape: tuple[int, ...]) -> bool:
    if values.shape != shape:
        rules.check(False, name, f"must have shape {shape}, has {values.shape}")
        return False
    if np.isfinite(values).all():
        return True
    for at in np.argwhere(~np.isfinite(values)).tolist():
        rules.check(False, name + _path(at), f"must be finite, is {values[tuple(at)]}")
    return False


def _path(at: list[int]) -> str:
    return "".join(f"[{i}]" for i in at)


def _limit(rules: Rules, name: str, values: FloatArray | None, count: int) -> None:
    if values is not None and rules.length(name, len(values), (count,)):
        for i in np.flatnonzero(~(np.isfinite(values) & (values > 0.0))).tolist():
            rules.check(False, f"{name}[{i}]", f"must be finite and > 0, is {values[i]}")


def _branches(rules: Rules, name: str, indices: IntArray, count: int) -> bool:
    before, seen = len(rules.violations), set[int]()
    for i, k in enumerate(indices.tolist()):
        rules.check(0 <= k < count, f"{name}[{i}]", f"must be an index of a branch, below {count}, is {k}")
        rules.check(k not in seen, f"{name}[{i}]", f"must be unique, repeats branch {k}")
        seen.add(k)
    return len(rules.violations) == before
