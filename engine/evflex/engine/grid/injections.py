"""What is drawn at the buses of a network, laid out block by block of steps, so that a year need not be in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from evflex.engine.grid.network import Network
from evflex.engine.supply_tree import FloatArray, IntArray

# The largest power, scale or value of a profile, either way; products of two stay far from infinity.
MOST_KW = 1e9


@dataclass(frozen=True, slots=True)
class LoadRows:
    """Loads as rows, k of them; rows at one bus add up.

    Attributes:
        bus: Index into buses, (k,).
        phase_share: Share of a row's power that each phase draws, (k, phase_count), each row adding up to 1.
    """

    bus: IntArray
    phase_share: FloatArray


@dataclass(frozen=True, slots=True)
class _Drawn:
    """One kind of power: ``weights @ values``, of the buses' phases by column, plus what never changes.

    Attributes:
        weights: (n · phase_count, c).
        values: (c, steps).
        constant: (n · phase_count,).
    """

    weights: csr_array
    values: FloatArray
    constant: FloatArray

    def block(self, first: int, stop: int) -> FloatArray:
        """(stop − first, n · phase_count)."""
        drawn = (self.weights @ np.ascontiguousarray(self.values[:, first:stop])).T
        return np.ascontiguousarray(drawn + self.constant)


@dataclass(frozen=True, slots=True)
class Injections:
    """Power drawn at each bus in each step; positive is consumption.

    Attributes:
        step_count: Number of steps.
        bus_shape: Shape of the power of one step: (n,), or (n, 3) by phase.
        p_kw: Active power.
        q_kvar: Reactive power.
    """

    step_count: int
    bus_shape: tuple[int, ...]
    p_kw: _Drawn
    q_kvar: _Drawn

    @classmethod
    def of_network(cls, network: Network, step_count: int) -> Injections:
        """The loads that the network's file brings, in every step."""
        none = LoadRows(np.empty(0, dtype=np.int64), np.empty((0, network.phase_count)))
        nothing = np.empty((0, step_count))
        return cls.of_rows(network, none, nothing, nothing, add_network_loads=True)

    @classmethod
    def of_rows(
        cls, network: Network, rows: LoadRows, p_kw: FloatArray, q_kvar: FloatArray, *, add_network_loads: bool
    ) -> Injections:
        """Rows that say their power in each step.

        Args:
            network: The network.
            rows: Where each row draws.
            p_kw: Active power, (k, steps).
            q_kvar: Reactive power, (k, steps).
            add_network_loads: Whether the loads that the network's file brings come on top, in every step.
        """
        each, ones = np.arange(rows.bus.shape[0]), np.ones(rows.bus.shape[0])
        return cls(
            p_kw.shape[1],
            network.load_p_kw.shape,
            _drawn(network, rows, each, ones, p_kw, network.load_p_kw if add_network_loads else None),
            _drawn(network, rows, each, ones, q_kvar, network.load_q_kvar if add_network_loads else None),
        )

    @classmethod
    def of_profiles(
        cls,
        network: Network,
        rows: LoadRows,
        profiles: FloatArray,
        p_profile: IntArray,
        p_scale_kw: FloatArray,
        q_profile: IntArray,
        q_scale_kvar: FloatArray,
        *,
        add_network_loads: bool,
    ) -> Injections:
        """Rows that are a profile times a scale each.

        Args:
            network: The network.
            rows: Where each row draws.
            profiles: Values without unit, (c, steps).
            p_profile: Profile of each row's active power, (k,); negative is constant 1.
            p_scale_kw: Active power where the profile is 1, (k,).
            q_profile: Profile of each row's reactive power, (k,); negative is constant 1.
            q_scale_kvar: Reactive power where the profile is 1, (k,).
            add_network_loads: Whether the loads that the network's file brings come on top, in every step.
        """
        count, steps = profiles.shape
        values = np.vstack([profiles, np.ones((1, steps))])
        p_column, q_column = (np.where(profile < 0, count, profile) for profile in (p_profile, q_profile))
        return cls(
            steps,
            network.load_p_kw.shape,
            _drawn(network, rows, p_column, p_scale_kw, values, network.load_p_kw if add_network_loads else None),
            _drawn(network, rows, q_column, q_scale_kvar, values, network.load_q_kvar if add_network_loads else None),
        )

    def block(self, first: int, stop: int) -> tuple[FloatArray, FloatArray]:
        """Power of the steps from ``first`` until before ``stop``.

        Returns:
            Active power in kW and reactive power in kvar, each (stop − first, n), or (stop − first, n, 3) by phase.
        """
        shape = (stop - first, *self.bus_shape)
        return self.p_kw.block(first, stop).reshape(shape), self.q_kvar.block(first, stop).reshape(shape)


def deviations_of_rows(network: Network, rows: LoadRows, deviation: FloatArray) -> FloatArray:
    """Standard deviations of what is drawn at buses, from those of independent rows.

    Variances add up. Of a row on several phases each phase varies by itself, so that their sum has the row's variance.

    Args:
        network: The network.
        rows: Where each row draws.
        deviation: Of each row and step, (k, steps), >= 0.

    Returns:
        (steps, n), or (steps, n, 3) by phase.
    """
    each, ones = np.arange(rows.bus.shape[0]), np.ones(rows.bus.shape[0])
    variance = _drawn(network, rows, each, ones, deviation**2, None)
    steps = deviation.shape[1]
    spread: FloatArray = np.sqrt(variance.block(0, steps)).reshape(steps, *network.load_p_kw.shape)
    return spread


def _drawn(
    network: Network, rows: LoadRows, column: IntArray, scale: FloatArray, values: FloatArray, base: FloatArray | None
) -> _Drawn:
    phases = network.phase_count
    cells = network.bus_count * phases
    cell = rows.bus[:, None] * phases + np.arange(phases)
    weight = rows.phase_share * scale[:, None]
    columns = np.broadcast_to(column[:, None], cell.shape)
    # cells that are named several times add up
    weights = csr_array((weight.ravel(), (cell.ravel(), columns.ravel())), shape=(cells, values.shape[0]))
    constant = np.zeros(cells) if base is None else base.reshape(cells)
    return _Drawn(weights, values, constant)
