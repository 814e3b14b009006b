"""A charging hub: what it wants, and what it is entitled to."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

import numpy as np

from evflex.engine.supply_tree import ACTIVE, DEFAULT_VOLTAGE_V, FloatArray, IntArray, PhaseConnection
from evflex.engine.timegrid import TimeGrid
from evflex.engine.validation import Rules

ANY_COUNT = -1
# A terawatt: what is larger is no hub, and its sums would lose what others are given.
MOST_KW = 1e9
LEAST_WEIGHT, MOST_WEIGHT = 1e-9, 1e9
_LEAST_CURRENT_A = 6.0


@dataclass(frozen=True, slots=True)
class HubSessions:
    """Cars of a hub, one entry each.

    Attributes:
        session_ids: Unique, not empty.
        arrival_unix_s: When each is plugged in; may lie before the grid, (n,).
        departure_unix_s: When it leaves, after its arrival; may lie behind the grid, (n,).
        energy_needed_kwh: Energy wanted, grid-side, >= 0, (n,).
        max_charge_kw: Largest power, > 0, (n,).
    """

    session_ids: tuple[str, ...]
    arrival_unix_s: FloatArray
    departure_unix_s: FloatArray
    energy_needed_kwh: FloatArray
    max_charge_kw: FloatArray

    def __len__(self) -> int:
        """Number of cars."""
        return len(self.session_ids)

    @classmethod
    def none(cls) -> HubSessions:
        """No cars."""
        return cls((), np.empty(0), np.empty(0), np.empty(0), np.empty(0))


@dataclass(frozen=True, slots=True)
class Hub:
    """A hub with its demand, either per step or by cars, and the terms of its agreement.

    Attributes:
        hub_id: Unique in the problem, not empty.
        demand_kw: Power wanted in each step; what is curtailed is wanted later, (T,); length 0 with sessions.
        connected_evs: Cars connected in each step, ``ANY_COUNT`` where that is not known, (T,); length 0 with sessions.
        sessions: Cars one by one; none with ``demand_kw``.
        max_kw: Largest power of the hub's connection, > 0; like all powers and energies at most 1e9.
        min_kw_per_ev: Least power at which a car charges, >= 0.
        phases: Phases that the hub is connected to.
        phases_per_ev: Phases that each car uses: 1, or 0 for all of the hub's.
        weight: 1e-9 to 1e9, for WEIGHTED_PROPORTIONAL_FAIR.
        firm_kw: Capacity that is always there, (T,).
        conditional_kw: Capacity on top that may be curtailed, (T,).
        priority: The higher, the earlier served with PRIORITY.
        curtailment_price_per_kwh: Compensation of a curtailed kWh, >= 0.
        noticed_kw: Capacity of an earlier plan that notice protects, 0 where there is none, (T,).
    """

    hub_id: str
    demand_kw: FloatArray
    connected_evs: IntArray
    sessions: HubSessions
    max_kw: float
    min_kw_per_ev: float
    phases: PhaseConnection
    phases_per_ev: int
    weight: float
    firm_kw: FloatArray
    conditional_kw: FloatArray
    priority: int
    curtailment_price_per_kwh: float
    noticed_kw: FloatArray

    @classmethod
    def of_demand(
        cls,
        hub_id: str,
        demand_kw: FloatArray,
        *,
        max_kw: float,
        firm_kw: float = 0.0,
        conditional_kw: float | None = None,
        min_kw_per_ev: float = 0.0,
        connected_evs: int = ANY_COUNT,
        phases: PhaseConnection = PhaseConnection.L1_L2_L3,
        phases_per_ev: int = 0,
        weight: float = 1.0,
        priority: int = 0,
        curtailment_price_per_kwh: float = 0.0,
    ) -> Hub:
        """A hub of constant terms; all above ``firm_kw`` is conditional unless said otherwise."""
        steps = demand_kw.shape[0]
        return cls(
            hub_id, demand_kw, np.full(steps, connected_evs, dtype=np.int64), HubSessions.none(), max_kw,
            min_kw_per_ev, phases, phases_per_ev, weight, np.full(steps, firm_kw),
            np.full(steps, max_kw - firm_kw if conditional_kw is None else conditional_kw), priority,
            curtailment_price_per_kwh, np.zeros(steps),
        )  # fmt: skip

    def validate(self, rules: Rules, grid: TimeGrid, path: str) -> None:
        """Report every broken rule."""
        steps = grid.step_count
        rules.check(bool(self.hub_id), f"{path}.hub_id", "must not be empty")
        ok = isfinite(self.max_kw) and 0.0 < self.max_kw <= MOST_KW
        rules.check(ok, f"{path}.max_kw", f"must be > 0 and at most {MOST_KW:g}, is {self.max_kw:g}")
        ok = LEAST_WEIGHT <= self.weight <= MOST_WEIGHT
        rule = f"must lie between {LEAST_WEIGHT:g} and {MOST_WEIGHT:g}"
        rules.check(ok, f"{path}.weight", f"{rule}, is {self.weight:g}")
        for name in ("min_kw_per_ev", "curtailment_price_per_kwh"):
            value = getattr(self, name)
            rule = f"must be >= 0 and at most {MOST_KW:g}"
            rules.check(isfinite(value) and 0.0 <= value <= MOST_KW, f"{path}.{name}", f"{rule}, is {value:g}")
        rules.check(
            self.phases_per_ev in (0, 1), f"{path}.phases_per_ev", f"must be 0 (all) or 1, is {self.phases_per_ev}"
        )
        for name in ("firm_kw", "conditional_kw", "noticed_kw"):
            _check_power(rules, f"{path}.{name}", getattr(self, name), steps)
        self._validate_demand(rules, grid, path)

    def _validate_demand(self, rules: Rules, grid: TimeGrid, path: str) -> None:
        steps = grid.step_count
        if len(self.sessions):
            empty = not len(self.demand_kw) and not len(self.connected_evs)
            rules.check(empty, f"{path}.sessions", "must be empty where demand_kw or connected_evs is given")
            self._validate_sessions(rules, path)
            return
        _check_power(rules, f"{path}.demand_kw", self.demand_kw, steps)
        if rules.length(f"{path}.connected_evs", self.connected_evs.shape[0], (steps,)):
            for k in np.flatnonzero(self.connected_evs < ANY_COUNT).tolist():
                rules.check(False, f"{path}.connected_evs[{k}]", f"must be >= 0, is {self.connected_evs[k]}")

    def _validate_sessions(self, rules: Rules, path: str) -> None:
        cars, table = self.sessions, f"{path}.sessions"
        rules.identifiers(table, "session_id", cars.session_ids)
        arrival, departure = cars.arrival_unix_s, cars.departure_unix_s
        rules.rows(table, "arrival_time", ~np.isfinite(arrival), "must be set", arrival)
        late = ~(np.isfinite(departure) & (departure > arrival))
        rules.rows(
            table, "departure_time", late & np.isfinite(arrival), "must be set and after arrival_time", departure
        )
        needed, power = cars.energy_needed_kwh, cars.max_charge_kw
        bad = ~((needed >= 0.0) & (needed <= MOST_KW))
        rules.rows(table, "energy_needed_kwh", bad, f"must be >= 0 and at most {MOST_KW:g}", needed)
        bad = ~((power > 0.0) & (power <= MOST_KW))
        rules.rows(table, "max_charge_kw", bad, f"must be > 0 and at most {MOST_KW:g}", power)


def _check_power(rules: Rules, path: str, power_kw: FloatArray, steps: int) -> None:
    if rules.array(path, power_kw, (steps,), minimum=0.0):
        for k in np.flatnonzero(power_kw > MOST_KW).tolist():
            rules.check(False, f"{path}[{k}]", f"must be at most {MOST_KW:g}, is {power_kw[k]:g}")


def default_min_kw_per_ev(phases: PhaseConnection, phases_per_ev: int) -> float:
    """6 A on each phase of a car (IEC 61851-1), in kW at 230 V."""
    count = 1 if phases_per_ev == 1 else int(ACTIVE[phases].sum())
    return _LEAST_CURRENT_A * DEFAULT_VOLTAGE_V * count / 1000.0
