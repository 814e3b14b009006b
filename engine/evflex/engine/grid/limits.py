"""Limits of a network as one row of columns: loading of branches, then low and high voltage of buses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evflex.engine.grid.congestion_model import CongestionKind, CongestionProblem
from evflex.engine.grid.network import BranchKind, Network
from evflex.engine.grid.power_flow import PowerFlow
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray

DEFAULT_VOLTAGE_MIN_PU = 0.9
DEFAULT_VOLTAGE_MAX_PU = 1.1
DEFAULT_MAX_LOADING_RATIO = 1.0
# A value this much beyond its limit, relative to it, is rounding.
_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of m branches and n buses, C = m + 2n columns.

    Attributes:
        branch_count: m.
        bus_count: n.
        limit: What must not be passed, (C,).
        sign: +1 where the limit is a maximum, −1 where it is a minimum, (C,).
        kind: :class:`CongestionKind`, (C,).
        element: Index of the branch or bus, (C,).
        scale: What an excess is divided by to compare it with others, (C,): a loading's limit, a voltage's band.
    """

    branch_count: int
    bus_count: int
    limit: FloatArray
    sign: FloatArray
    kind: IntArray
    element: IntArray
    scale: FloatArray

    def excess(self, flow: PowerFlow) -> FloatArray:
        """By how much each limit is passed in each step, (T, C): negative where it holds, NaN where nothing is known.

        Of three phases the worst counts.
        """
        m, n = self.branch_count, self.bus_count
        out = np.empty((flow.converged.shape[0], m + 2 * n))
        out[:, :m] = flow.branch_loading_ratio
        out[:, m : m + n] = lowest(flow.voltage_pu)
        out[:, m + n :] = highest(flow.voltage_pu)
        out -= self.limit
        np.negative(out[:, m : m + n], out=out[:, m : m + n])
        return out

    def broken(self, excess: FloatArray) -> BoolArray:
        """Whether limits are passed by more than rounding."""
        passed: BoolArray = excess > _TOLERANCE * self.limit
        return passed

    def high_voltage_column(self, bus: IntArray) -> IntArray:
        """Columns of the highest voltage of buses."""
        return self.branch_count + self.bus_count + bus


def limits_of(problem: CongestionProblem) -> Limits:
    """The limits of a problem, with defaults where it gives none."""
    network = problem.network
    m, n = network.branch_count, network.bus_count
    own_low, own_high = voltage_band(network)
    low = own_low if problem.voltage_min_pu is None else problem.voltage_min_pu
    high = own_high if problem.voltage_max_pu is None else problem.voltage_max_pu
    loading = problem.max_loading_ratio
    if loading is None:
        loading = np.full(m, DEFAULT_MAX_LOADING_RATIO)
    is_transformer = network.branches.kinds == BranchKind.TRANSFORMER
    overload = np.where(is_transformer, CongestionKind.TRANSFORMER_OVERLOAD, CongestionKind.LINE_OVERLOAD)
    of_voltage = np.repeat([int(CongestionKind.UNDERVOLTAGE), int(CongestionKind.OVERVOLTAGE)], n)
    band = np.maximum(high - low, 1e-3)
    return Limits(
        m, n, np.concatenate([loading, low, high]), np.repeat([1.0, -1.0, 1.0], [m, n, n]),
        np.concatenate([overload, of_voltage]).astype(np.int64),
        np.concatenate([np.arange(m), np.arange(n), np.arange(n)]), np.concatenate([loading, band, band]),
    )  # fmt: skip


def voltage_band(network: Network) -> tuple[FloatArray, FloatArray]:
    """Lowest and highest voltage in pu that the network itself allows, or the defaults where it has none, (n,) each."""
    low, high = network.buses.voltage_min_pu, network.buses.voltage_max_pu
    return (
        np.where(np.isnan(low), DEFAULT_VOLTAGE_MIN_PU, low),
        np.where(np.isnan(high), DEFAULT_VOLTAGE_MAX_PU, high),
    )


def lowest(voltage_pu: FloatArray) -> FloatArray:
    """Lowest voltage of each bus, (T, n)."""
    low: FloatArray = voltage_pu if voltage_pu.ndim == 2 else np.fmin.reduce(voltage_pu, axis=2)
    return low


def highest(voltage_pu: FloatArray) -> FloatArray:
    """Highest voltage of each bus, (T, n)."""
    high: FloatArray = voltage_pu if voltage_pu.ndim == 2 else np.fmax.reduce(voltage_pu, axis=2)
    return high
