"""A charging problem as checker and reference model read it: plain arrays, and every limit as one row."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evflex.engine.charging.model import ScheduleOptions, ScheduleProblem

FloatArray = NDArray[np.float64]

IMPORT_KW, EXPORT_KW, AGREEMENT_KW, CURRENT_A = 1, 2, 3, 4
COST, EMISSIONS = 1, 2
FULL, PRO_RATA = 1, 2

# Phases that each value of PhaseConnection loads; 0 is "unspecified": all three.
PHASES = {0: (1, 2, 3), 1: (1,), 2: (2,), 3: (3,), 4: (1, 2), 5: (2, 3), 6: (3, 1), 7: (1, 2, 3)}


@dataclass(frozen=True)
class LimitRow:
    """``fixed + sum(share[i] * power[i, step]) <= limit``, with power the mean of the step.

    A current limit gives two rows for each phase, one for each sign.
    """

    node: int
    step: int
    phase: int
    unit: int
    limit: float
    fixed: float
    share: dict[int, float]

    @property
    def fixed_excess(self) -> float:
        """By how much fixed load alone breaks the limit."""
        return max(0.0, self.fixed - self.limit)

    def load(self, power: FloatArray) -> float:
        """Left side of the row."""
        return self.fixed + sum(share * float(power[i, self.step]) for i, share in self.share.items())


class Case:
    """Everything that follows from problem and options without a decision."""

    def __init__(self, problem: ScheduleProblem, options: ScheduleOptions) -> None:
        self.problem, self.options = problem, options
        grid, sessions = problem.grid, problem.sessions
        self.count, self.steps = len(sessions.session_ids), grid.step_count
        self.step_s, self.dt = grid.step_s, grid.step_s / 3600.0
        self.start = grid.start_unix_s
        self.end = grid.start_unix_s + grid.step_s * grid.step_count
        self.presence = self.presence_until(sessions.departure_unix_s)
        self.short_presence = self.presence_until(sessions.departure_unix_s - options.departure_margin_s)
        self._read_tree()
        self._read_wishes()
        self._read_tariff()
        self.rows = [row for node in range(len(self.parent)) for row in self._rows_of(node)]
        control = options.control_enabled
        self.controlled = np.array(control, dtype=bool) if len(control) else np.ones(self.steps, dtype=bool)
        previous = options.previous_power_kw
        self.previous = previous if previous.size else np.full((self.count, self.steps), np.nan)
        self.min_run_steps = math.ceil(options.min_run_s / self.step_s - 1e-9)

    def presence_until(self, departure: FloatArray) -> FloatArray:
        """Share of each step in which each session is present."""
        share = np.zeros((self.count, self.steps))
        for i in range(self.count):
            for t in range(self.steps):
                begin = max(self.start + t * self.step_s, self.problem.sessions.arrival_unix_s[i])
                finish = min(self.start + (t + 1) * self.step_s, departure[i])
                if finish - begin > self.step_s - 1e-6:
                    share[i, t] = 1.0
                elif finish - begin >= 1e-6:
                    share[i, t] = (finish - begin) / self.step_s
        return share

    def _read_tree(self) -> None:
        nodes, sessions = self.problem.nodes, self.problem.sessions
        position = {name: k for k, name in enumerate(nodes.node_ids)}
        self.parent = [position[p] if p else -1 for p in nodes.parent_node_ids]
        self.root = self.parent.index(-1)
        self.node_of = [position[name] if name else self.root for name in sessions.node_ids]
        self.phases_of = [PHASES[int(code)] for code in sessions.phases]
        self.voltage_of = [float(nodes.nominal_voltage_v[k]) for k in self.node_of]
        self.fixed = np.zeros((len(self.parent), self.steps))
        self.fixed_phase = np.zeros((len(self.parent), 4, self.steps))
        for k, load in enumerate(nodes.fixed_load_kw):
            if len(load):
                active = PHASES[int(nodes.fixed_load_phases[k])]
                for a in self.path(k):
                    self.fixed[a] += load
                    for phase in active:
                        self.fixed_phase[a, phase] += load / len(active)

    def path(self, node: int) -> list[int]:
        """The node and all above it."""
        nodes = [node]
        while self.parent[nodes[-1]] >= 0:
            nodes.append(self.parent[nodes[-1]])
        return nodes

    def _rows_of(self, node: int) -> list[LimitRow]:
        nodes = self.problem.nodes
        below = [i for i in range(self.count) if node in self.path(self.node_of[i])]
        rows = []
        for unit, limits, sign in (
            (IMPORT_KW, nodes.max_import_kw[node], 1.0),
            (EXPORT_KW, nodes.max_export_kw[node], -1.0),
            (AGREEMENT_KW, nodes.agreement_import_kw[node], 1.0),
        ):
            for t in range(self.steps if len(limits) else 0):
                limit = float(limits[t] if len(limits) > 1 else limits[0])
                share = {i: sign / self.presence[i, t] for i in below if self.presence[i, t] > 0}
                rows.append(LimitRow(node, t, 0, unit, limit, sign * self.fixed[node, t], share))
        limit = float(nodes.max_current_a[node])
        if math.isfinite(limit):
            ampere_per_kw = 1000.0 / float(nodes.nominal_voltage_v[node])
            for t in range(self.steps):
                for phase in (1, 2, 3):
                    share = {
                        i: ampere_per_kw / len(self.phases_of[i]) / self.presence[i, t]
                        for i in below
                        if self.presence[i, t] > 0 and phase in self.phases_of[i]
                    }
                    fixed = ampere_per_kw * self.fixed_phase[node, phase, t]
                    rows.append(LimitRow(node, t, phase, CURRENT_A, limit, fixed, share))
                    opposite = {i: -s for i, s in share.items()}
                    rows.append(LimitRow(node, t, phase, CURRENT_A, limit, -fixed, opposite))
        return rows

    def _read_wishes(self) -> None:
        sessions, options = self.problem.sessions, self.options
        self.needed = sessions.energy_needed_kwh.copy()
        self.value = sessions.energy_value_per_kwh.copy()
        self.price = sessions.shortfall_price_per_kwh.copy()
        if options.shortfall_price_per_kwh is not None:
            self.price[np.isnan(self.price)] = options.shortfall_price_per_kwh
        self.priced = ~np.isnan(self.price)
        self.lowest = np.where(
            sessions.max_discharge_kw > 0, -(sessions.energy_available_kwh + sessions.delivered_kwh), 0.0
        )
        usable = sessions.energy_headroom_kwh + sessions.energy_available_kwh + sessions.delivered_kwh
        limited = np.isfinite(sessions.max_cycles)
        self.most_discharged = np.where(limited, np.where(limited, sessions.max_cycles, 0.0) * usable, np.inf)
        self.minimum_steps = np.zeros(self.count, dtype=int)
        for i in range(self.count):
            departure = sessions.departure_unix_s[i]
            if departure > self.end:
                self.value[i] += options.terminal_value_per_kwh
                begin = max(sessions.arrival_unix_s[i], self.start)
                if options.departure_beyond_horizon == PRO_RATA:
                    self.needed[i] *= max(0.0, self.end - begin) / (departure - begin)
            wanted = sessions.minimum_energy_unix_s[i]
            if wanted >= departure:
                self.minimum_steps[i] = self.steps
            else:
                ends = self.start + self.step_s * np.arange(1, self.steps + 1)
                self.minimum_steps[i] = int(np.sum(ends <= wanted + 1e-6))

    def _read_tariff(self) -> None:
        tariff, zero = self.problem.tariff, np.zeros(self.steps)
        self.import_price = tariff.import_price_per_kwh
        self.export_price = tariff.export_price_per_kwh if len(tariff.export_price_per_kwh) else zero
        intensity = tariff.emission_intensity_g_per_kwh if len(tariff.emission_intensity_g_per_kwh) else zero
        self.kg_per_kwh = intensity / 1000.0
        counts = tariff.peak_window if len(tariff.peak_window) else np.ones(self.steps, dtype=bool)
        span = tariff.peak_averaging_s or self.step_s
        blocks: dict[int, list[int]] = {}
        for t in range(self.steps):
            blocks.setdefault(math.floor((self.start + t * self.step_s) / span + 1e-9), []).append(t)
        self.peak_blocks = [steps for steps in blocks.values() if any(counts[t] for t in steps)]

    def quantum_kw(self, i: int) -> float:
        """Power of one quantum of current while session i is present, 0 where any current can be set."""
        return self.options.current_quantum_a * self.voltage_of[i] * len(self.phases_of[i]) / 1000.0

    def range_kw(self, i: int, charging: bool) -> tuple[float, float]:
        """Smallest and largest power while present, in whole quanta; (0, 0) where nothing is possible."""
        s = self.problem.sessions
        low = float(s.min_charge_kw[i] if charging else s.min_discharge_kw[i])
        high = float(s.max_charge_kw[i] if charging else s.max_discharge_kw[i])
        unit = self.quantum_kw(i)
        if unit > 0:
            low = unit * max(1, math.ceil(low / unit - 1e-9))
            high = unit * math.floor(high / unit + 1e-9)
        return (low, high) if high >= low - 1e-9 and high > 0 else (0.0, 0.0)
