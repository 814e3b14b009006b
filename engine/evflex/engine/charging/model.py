"""A charging problem as arrays: sessions, tariff and options, with the rules that they must keep."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import IntEnum

import numpy as np

from evflex.engine.supply_tree import ACTIVE, BoolArray, FloatArray, IntArray, PhaseConnection, SupplyNodes
from evflex.engine.timegrid import TimeGrid
from evflex.engine.validation import Rules

# Charger powers are rounded by their makers: a minimum may exceed its maximum by this much before it is a fault.
_POWER_TOLERANCE_KW = 1e-9


class ScheduleObjective(IntEnum):
    """What is minimised; values as in the public contract."""

    COST = 1
    EMISSIONS = 2


class DepartureBeyondHorizon(IntEnum):
    """How the need of a session that departs after the grid is understood; values as in the public contract."""

    FULL = 1
    PRO_RATA = 2


@dataclass(frozen=True, slots=True)
class Sessions:
    """Charging sessions as columns of equal length; the fields are those of ``evflex.charging.v1.ChargingSession``.

    Battery energies are battery-side and relative to the grid's start (or arrival, if later); powers are grid-side.

    Attributes:
        session_ids: Unique, not empty.
        evse_ids: Charge points.
        node_ids: Feeding node; empty means the root.
        arrival_unix_s: Plug-in, seconds since 1970-01-01 UTC.
        departure_unix_s: Plug-out, >= arrival.
        energy_needed_kwh: Wanted by departure.
        minimum_energy_kwh: Wanted first, by ``minimum_energy_unix_s``.
        minimum_energy_unix_s: Infinite means departure.
        energy_headroom_kwh: Most that the battery takes, >= needed.
        energy_available_kwh: May be discharged below the arrival level.
        max_charge_kw: Largest charging power.
        min_charge_kw: Smallest charging power when charging.
        max_discharge_kw: Largest discharging power, a positive number.
        min_discharge_kw: Smallest discharging power when discharging.
        charge_efficiency: In (0, 1].
        discharge_efficiency: In (0, 1].
        discharge_cost_per_kwh: Wear for each grid-side kWh.
        phases: :class:`PhaseConnection` values.
        shortfall_price_per_kwh: NaN means the option of the same name.
        energy_value_per_kwh: Worth of energy above the need.
        shortfall_weight: Weight where shortfall is minimised first, > 0.
        max_ramp_kw_per_step: Infinite means no limit.
        max_cycles: Infinite means no limit.
        delivered_kwh: Delivered before the grid's start.
        charging_now: Charging at the grid's start.
        run_duration_s: Length of the present run or pause.
    """

    session_ids: tuple[str, ...]
    evse_ids: tuple[str, ...]
    node_ids: tuple[str, ...]
    arrival_unix_s: FloatArray
    departure_unix_s: FloatArray
    energy_needed_kwh: FloatArray
    minimum_energy_kwh: FloatArray
    minimum_energy_unix_s: FloatArray
    energy_headroom_kwh: FloatArray
    energy_available_kwh: FloatArray
    max_charge_kw: FloatArray
    min_charge_kw: FloatArray
    max_discharge_kw: FloatArray
    min_discharge_kw: FloatArray
    charge_efficiency: FloatArray
    discharge_efficiency: FloatArray
    discharge_cost_per_kwh: FloatArray
    phases: IntArray
    shortfall_price_per_kwh: FloatArray
    energy_value_per_kwh: FloatArray
    shortfall_weight: FloatArray
    max_ramp_kw_per_step: FloatArray
    max_cycles: FloatArray
    delivered_kwh: FloatArray
    charging_now: BoolArray
    run_duration_s: FloatArray

    @classmethod
    def simple(
        cls,
        *,
        arrival_unix_s: FloatArray,
        departure_unix_s: FloatArray,
        energy_needed_kwh: FloatArray,
        max_charge_kw: FloatArray,
        **columns: object,
    ) -> Sessions:
        """Sessions from the columns that every caller has; others take the contract's defaults.

        Args:
            arrival_unix_s: Shape (n,).
            departure_unix_s: Shape (n,).
            energy_needed_kwh: Shape (n,).
            max_charge_kw: Shape (n,).
            columns: Any other field of the class, an array of shape (n,), a scalar, or a tuple of identifiers.

        Raises:
            TypeError: A column is not a field.
        """
        n = len(arrival_unix_s)
        values: dict[str, object] = {
            "session_ids": tuple(f"session-{i}" for i in range(n)),
            "evse_ids": ("",) * n,
            "node_ids": ("",) * n,
            "minimum_energy_kwh": 0.0,
            "minimum_energy_unix_s": np.inf,
            "energy_headroom_kwh": energy_needed_kwh,
            "energy_available_kwh": 0.0,
            "min_charge_kw": 0.0,
            "max_discharge_kw": 0.0,
            "min_discharge_kw": 0.0,
            "charge_efficiency": 1.0,
            "discharge_efficiency": 1.0,
            "discharge_cost_per_kwh": 0.0,
            "phases": int(PhaseConnection.L1_L2_L3),
            "shortfall_price_per_kwh": np.nan,
            "energy_value_per_kwh": 0.0,
            "shortfall_weight": 1.0,
            "max_ramp_kw_per_step": np.inf,
            "max_cycles": np.inf,
            "delivered_kwh": 0.0,
            "charging_now": False,
            "run_duration_s": 0.0,
        }
        values |= {
            "arrival_unix_s": arrival_unix_s,
            "departure_unix_s": departure_unix_s,
            "energy_needed_kwh": energy_needed_kwh,
            "max_charge_kw": max_charge_kw,
        }
        values |= columns
        for name, value in values.items():
            if not isinstance(value, tuple):
                kind = {"phases": np.int64, "charging_now": np.bool_}.get(name, np.float64)
                values[name] = np.ascontiguousarray(np.broadcast_to(np.asarray(value, dtype=kind), (n,)))
        return cls(**values)  # type: ignore[arg-type]

    def __len__(self) -> int:
        """Number of sessions."""
        return len(self.session_ids)

    def validate(self, rules: Rules, known_node_ids: tuple[str, ...], path: str = "sessions") -> None:
        """Report every broken rule."""
        n = len(self.session_ids)
        for column in fields(self):
            length = len(getattr(self, column.name))
            rules.check(length == n, f"{path}.{column.name}", f"must have one entry a session ({n}), has {length}")
        if rules.violations and any(v.field.startswith(f"{path}.") for v in rules.violations):
            return
        if n == 0:
            return
        self._validate_ids(rules, known_node_ids, path)
        finite = np.isfinite
        self._numbers(rules, path, "arrival_time", self.arrival_unix_s, finite(self.arrival_unix_s), "must be set")
        self._numbers(
            rules, path, "departure_time", self.departure_unix_s, finite(self.departure_unix_s), "must be set"
        )
        late = ~(self.departure_unix_s < self.arrival_unix_s)
        self._numbers(rules, path, "departure_time", self.departure_unix_s, late, "must not lie before arrival_time")
        self._numbers(
            rules,
            path,
            "minimum_energy_time",
            self.minimum_energy_unix_s,
            ~np.isnan(self.minimum_energy_unix_s),
            "must be a time",
        )
        for name in (
            "energy_needed_kwh", "minimum_energy_kwh", "energy_headroom_kwh", "energy_available_kwh", "max_charge_kw",
            "min_charge_kw", "max_discharge_kw", "min_discharge_kw", "discharge_cost_per_kwh", "energy_value_per_kwh",
            "delivered_kwh", "run_duration_s",
        ):  # fmt: skip
            values = getattr(self, name)
            public = {"delivered_kwh": "state.delivered_kwh", "run_duration_s": "state.run_duration"}.get(name, name)
            self._numbers(rules, path, public, values, finite(values) & (values >= 0.0), "must be finite and >= 0")
        for name in ("charge_efficiency", "discharge_efficiency"):
            values = getattr(self, name)
            self._numbers(rules, path, name, values, (values > 0.0) & (values <= 1.0), "must lie in (0, 1]")
        for name in ("shortfall_weight", "max_ramp_kw_per_step"):
            values = getattr(self, name)
            positive = (values > 0.0) & (finite(values) | (name == "max_ramp_kw_per_step"))
            self._numbers(rules, path, name, values, positive, "must be > 0")
        self._numbers(rules, path, "max_cycles", self.max_cycles, self.max_cycles >= 0.0, "must be >= 0")
        price = self.shortfall_price_per_kwh
        self._numbers(
            rules,
            path,
            "shortfall_price_per_kwh",
            price,
            np.isnan(price) | ((price >= 0.0) & finite(price)),
            "must be finite and >= 0",
        )
        self._numbers(
            rules,
            path,
            "shortfall_price_per_kwh",
            price,
            ~(price < self.energy_value_per_kwh),
            "must be >= energy_value_per_kwh",
        )
        known = (self.phases >= 0) & (self.phases < len(ACTIVE))
        self._numbers(rules, path, "phases", self.phases, known, "must be a known PhaseConnection")
        self._numbers(
            rules, path, "energy_headroom_kwh", self.energy_headroom_kwh,
            ~(self.energy_headroom_kwh < self.energy_needed_kwh), "must be >= energy_needed_kwh",
        )  # fmt: skip
        self._numbers(
            rules, path, "minimum_energy_kwh", self.minimum_energy_kwh,
            ~(self.minimum_energy_kwh > self.energy_headroom_kwh), "must be <= energy_headroom_kwh",
        )  # fmt: skip
        for smallest, largest in (
            ("min_charge_kw", "max_charge_kw"),
            ("min_discharge_kw", "max_discharge_kw"),
        ):
            values = getattr(self, smallest)
            within = ~(values > getattr(self, largest) + _POWER_TOLERANCE_KW)
            self._numbers(rules, path, smallest, values, within, f"must be <= {largest}")

    def _validate_ids(self, rules: Rules, known_node_ids: tuple[str, ...], path: str) -> None:
        first: dict[str, int] = {}
        known = {"", *known_node_ids}
        if len(set(self.session_ids)) < len(self.session_ids) or "" in self.session_ids:
            for i, session_id in enumerate(self.session_ids):
                rules.check(bool(session_id), f"{path}[{i}].session_id", "must not be empty")
                earlier = first.setdefault(session_id, i)
                if session_id and earlier != i:
                    rules.check(
                        False,
                        f"{path}[{i}].session_id",
                        f"must be unique, repeats {path}[{earlier}]: {session_id!r}",
                    )
        if not known.issuperset(self.node_ids):
            for i, node_id in enumerate(self.node_ids):
                rules.check(
                    node_id in known,
                    f"{path}[{i}].node_id",
                    f"must name a node of the request, is {node_id!r}",
                )

    @staticmethod
    def _numbers(rules: Rules, path: str, name: str, values: FloatArray | IntArray, ok: BoolArray, rule: str) -> None:
        if not ok.all():
            rules.rows(path, name, ~ok, rule, values)


@dataclass(frozen=True, slots=True)
class Tariff:
    """Prices and emissions at the root; the fields are those of ``evflex.charging.v1.Tariff``.

    Attributes:
        import_price_per_kwh: Shape (steps,).
        export_price_per_kwh: Shape (steps,), or (0,): nothing is earned.
        currency_code: ISO 4217.
        peak_price_per_kw: For each kW above ``observed_peak_kw``.
        observed_peak_kw: Paid already.
        peak_window: Shape (steps,), or (0,): all steps count.
        peak_averaging_s: 0 means one step.
        emission_intensity_g_per_kwh: Shape (steps,), or (0,).
        emission_price_per_kg: For each kg.
    """

    import_price_per_kwh: FloatArray
    export_price_per_kwh: FloatArray = field(default_factory=lambda: np.empty(0))
    currency_code: str = "EUR"
    peak_price_per_kw: float = 0.0
    observed_peak_kw: float = 0.0
    peak_window: BoolArray = field(default_factory=lambda: np.empty(0, dtype=np.bool_))
    peak_averaging_s: float = 0.0
    emission_intensity_g_per_kwh: FloatArray = field(default_factory=lambda: np.empty(0))
    emission_price_per_kg: float = 0.0

    def validate(self, rules: Rules, grid: TimeGrid, path: str = "tariff") -> None:
        """Report every broken rule."""
        steps = grid.step_count
        code = self.currency_code
        rules.check(
            len(code) == 3 and code.isascii() and code.isalpha() and code.isupper(),
            f"{path}.currency_code",
            f"must be an ISO 4217 code of three capital letters, is {code!r}",
        )
        rules.array(f"{path}.import_price_per_kwh", self.import_price_per_kwh, (steps,))
        rules.array(f"{path}.export_price_per_kwh", self.export_price_per_kwh, (0, steps))
        rules.array(f"{path}.emission_intensity_g_per_kwh", self.emission_intensity_g_per_kwh, (0, steps), minimum=0.0)
        window = len(self.peak_window)
        rules.check(window in (0, steps), f"{path}.peak_window", f"must have length 0 or {steps}, has {window}")
        for name in ("peak_price_per_kw", "observed_peak_kw", "emission_price_per_kg"):
            value = getattr(self, name)
            rules.check(
                bool(np.isfinite(value) and value >= 0.0),
                f"{path}.{name}",
                f"must be finite and >= 0, is {value}",
            )
        if self.peak_averaging_s and grid.step_s > 0.0:
            ratio = self.peak_averaging_s / grid.step_s
            whole = np.isfinite(ratio) and ratio >= 1.0 and abs(ratio - round(ratio)) < 1e-9
            rules.check(
                bool(whole),
                f"{path}.peak_averaging_duration",
                f"must be a whole multiple of the step ({grid.step_s:g} s), is {self.peak_averaging_s:g} s",
            )


@dataclass(frozen=True, slots=True)
class ScheduleProblem:
    """One site: time axis, electrical tree, sessions and tariff.

    Attributes:
        grid: Time axis of all arrays.
        nodes: Electrical tree.
        sessions: Sessions; none is allowed.
        tariff: Prices.
    """

    grid: TimeGrid
    nodes: SupplyNodes
    sessions: Sessions
    tariff: Tariff

    def validate(self, rules: Rules) -> None:
        """Report every broken rule."""
        if self.grid.validate(rules):
            self.nodes.validate(rules, self.grid.step_count)
            self.tariff.validate(rules, self.grid)
        self.sessions.validate(rules, self.nodes.node_ids)


@dataclass(frozen=True, slots=True)
class ScheduleOptions:
    """What is optimised and how long it may take; the fields are those of ``evflex.charging.v1.ScheduleOptions``.

    Attributes:
        time_limit_s: Wall time of the solve, > 0.
        relative_gap: Asked gap as a ratio.
        absolute_gap: Asked gap in the objective's unit.
        objective: What is minimised.
        shortfall_price_per_kwh: None: the least weighted shortfall first, then cost.
        start_cost: For each start of charging.
        max_starts_per_session: None: no limit.
        min_run_s: Shortest run of charging.
        departure_margin_s: Energy is wanted this long before departure.
        control_enabled: Shape (steps,), or (0,): all steps are controlled.
        departure_beyond_horizon: Sessions that depart after the grid.
        terminal_value_per_kwh: Worth of energy above the need of a session that stays beyond the grid.
        previous_power_kw: The plan that should not change without reason; shape (sessions, steps), NaN where there is
            none, or (0, 0).
        change_cost_per_kwh: For each kWh that differs from ``previous_power_kw``.
        current_quantum_a: Step of the settable current; 0: any current.
    """

    time_limit_s: float = 30.0
    relative_gap: float = 1e-3
    absolute_gap: float = 0.0
    objective: ScheduleObjective = ScheduleObjective.COST
    shortfall_price_per_kwh: float | None = None
    start_cost: float = 0.0
    max_starts_per_session: int | None = None
    min_run_s: float = 0.0
    departure_margin_s: float = 0.0
    control_enabled: BoolArray = field(default_factory=lambda: np.empty(0, dtype=np.bool_))
    departure_beyond_horizon: DepartureBeyondHorizon = DepartureBeyondHorizon.FULL
    terminal_value_per_kwh: float = 0.0
    previous_power_kw: FloatArray = field(default_factory=lambda: np.empty((0, 0)))
    change_cost_per_kwh: float = 0.0
    current_quantum_a: float = 0.0

    def validate(self, rules: Rules, problem: ScheduleProblem, path: str = "options") -> None:
        """Report every broken rule."""
        steps = problem.grid.step_count
        for name, public in (
            ("relative_gap", "relative_gap"), ("absolute_gap", "absolute_gap"), ("start_cost", "start_cost"),
            ("min_run_s", "min_run_duration"), ("departure_margin_s", "departure_margin_duration"),
            ("terminal_value_per_kwh", "terminal_value_per_kwh"), ("change_cost_per_kwh", "change_cost_per_kwh"),
            ("current_quantum_a", "current_quantum_a"),
        ):  # fmt: skip
            value = getattr(self, name)
            rules.check(
                bool(np.isfinite(value) and value >= 0.0),
                f"{path}.{public}",
                f"must be finite and >= 0, is {value}",
            )
        limit = self.time_limit_s
        rules.check(
            bool(np.isfinite(limit) and limit > 0.0),
            f"{path}.time_limit_duration",
            f"must be > 0 s, is {limit} s",
        )
        rules.check(
            self.objective in (1, 2),
            f"{path}.objective",
            f"must be a known ScheduleObjective, is {self.objective}",
        )
        rules.check(
            self.departure_beyond_horizon in (1, 2),
            f"{path}.departure_beyond_horizon",
            f"must be a known DepartureBeyondHorizon, is {self.departure_beyond_horizon}",
        )
        starts = self.max_starts_per_session
        rules.check(starts is None or starts >= 1, f"{path}.max_starts_per_session", f"must be >= 1, is {starts}")
        control = len(self.control_enabled)
        rules.check(control in (0, steps), f"{path}.control_enabled", f"must have length 0 or {steps}, has {control}")
        self._validate_shortfall_price(rules, problem, path)
        shape = self.previous_power_kw.shape
        rules.check(
            shape in ((0, 0), (len(problem.sessions), steps)) and not np.isinf(self.previous_power_kw).any(),
            f"{path}.previous_schedule_id",
            "must name a schedule whose rows can be laid onto the grid",
        )

    def _validate_shortfall_price(self, rules: Rules, problem: ScheduleProblem, path: str) -> None:
        price = self.shortfall_price_per_kwh
        if price is None:
            return
        name = f"{path}.shortfall_price_per_kwh"
        if not (np.isfinite(price) and price >= 0.0):
            rules.check(False, name, f"must be finite and >= 0, is {price}")
            return
        values = problem.sessions.energy_value_per_kwh
        inherits = np.isnan(problem.sessions.shortfall_price_per_kwh)
        highest = float(values[inherits].max(initial=0.0)) if len(values) == len(inherits) else 0.0
        rules.check(
            not price < highest,
            name,
            f"must be >= every energy_value_per_kwh (up to {highest:g}), is {price:g}",
        )
