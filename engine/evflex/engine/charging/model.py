"""A charging problem as arrays: sessions, tariff and options, with the rules that they must keep."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from math import inf
from operator import attrgetter

import numpy as np

from evflex.engine.charging.session_rules import validate_sessions
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray, PhaseConnection, SupplyNodes
from evflex.engine.timegrid import TimeGrid
from evflex.engine.validation import Rules

# Prices are rounded decimals: their sum may exceed another by this much before it is a fault.
_PRICE_TOLERANCE = 1e-12
# Options that are finite and >= 0, with their names on the wire.
_OPTION_QUANTITIES = {
    "relative_gap": "relative_gap",
    "absolute_gap": "absolute_gap",
    "start_cost": "start_cost",
    "min_run_s": "min_run_duration",
    "departure_margin_s": "departure_margin_duration",
    "terminal_value_per_kwh": "terminal_value_per_kwh",
    "change_cost_per_kwh": "change_cost_per_kwh",
    "current_quantum_a": "current_quantum_a",
}
_option_quantities = attrgetter(*_OPTION_QUANTITIES)


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
                # Arrays of one's own: kernels are compiled anew for those that must not be written.
                values[name] = np.array(np.broadcast_to(np.asarray(value, dtype=kind), (n,)))
        return cls(**values)  # type: ignore[arg-type]

    def __len__(self) -> int:
        """Number of sessions."""
        return len(self.session_ids)

    def validate(self, rules: Rules, known_node_ids: tuple[str, ...], path: str = "sessions") -> None:
        """Report every broken rule."""
        validate_sessions(self, rules, known_node_ids, path)


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
        """Report every broken rule; lengths only where the grid's step count keeps its own."""
        code = self.currency_code
        rules.check(
            len(code) == 3 and code.isascii() and code.isalpha() and code.isupper(),
            f"{path}.currency_code",
            f"must be an ISO 4217 code of three capital letters, is {code!r}",
        )
        steps = grid.known_step_count
        all_steps, none_or_all = (None, None) if steps is None else ((steps,), (0, steps))
        rules.array(f"{path}.import_price_per_kwh", self.import_price_per_kwh, all_steps)
        rules.array(f"{path}.export_price_per_kwh", self.export_price_per_kwh, none_or_all)
        rules.array(f"{path}.emission_intensity_g_per_kwh", self.emission_intensity_g_per_kwh, none_or_all, minimum=0.0)
        rules.length(f"{path}.peak_window", len(self.peak_window), none_or_all)
        for name in ("peak_price_per_kw", "observed_peak_kw", "emission_price_per_kg"):
            value = getattr(self, name)
            if not 0.0 <= value < inf:
                rules.check(False, f"{path}.{name}", f"must be finite and >= 0, is {value}")
        if self.peak_averaging_s and 0.0 < grid.step_s < inf:
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
        self.grid.validate(rules)
        self.nodes.validate(rules, self.grid.known_step_count)
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
        for value, public in zip(_option_quantities(self), _OPTION_QUANTITIES.values(), strict=True):
            if not 0.0 <= value < inf:
                rules.check(False, f"{path}.{public}", f"must be finite and >= 0, is {value}")
        limit = self.time_limit_s
        if not 0.0 < limit < inf:
            rules.check(False, f"{path}.time_limit_duration", f"must be > 0 s, is {limit} s")
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
        steps = problem.grid.known_step_count
        rules.length(f"{path}.control_enabled", len(self.control_enabled), None if steps is None else (0, steps))
        if self._shortfall_price_is_sound(rules, path):
            self._validate_worth(rules, problem, path)
        previous = self.previous_power_kw
        fits = previous.shape == (0, 0) or (
            previous.shape == (len(problem.sessions), steps) and not np.isinf(previous).any()
        )
        rules.check(fits, f"{path}.previous_schedule_id", "must name a schedule whose rows can be laid onto the grid")

    def _shortfall_price_is_sound(self, rules: Rules, path: str) -> bool:
        price = self.shortfall_price_per_kwh
        sound = price is None or 0.0 <= price < inf
        rules.check(sound, f"{path}.shortfall_price_per_kwh", f"must be finite and >= 0, is {price}")
        return sound

    def _validate_worth(self, rules: Rules, problem: ScheduleProblem, path: str) -> None:
        """Surplus is never worth more than need: neither its own value nor what it is worth beyond the grid."""
        sessions, price, terminal = problem.sessions, self.shortfall_price_per_kwh, self.terminal_value_per_kwh
        if not terminal and (price is None or not sessions.energy_value_per_kwh.any()):
            return  # a session's own price and value are the session's affair
        value, own_price = sessions.energy_value_per_kwh, sessions.shortfall_price_per_kwh
        departure = sessions.departure_unix_s
        if not len(value) == len(own_price) == len(departure) or not len(value):
            return
        inherits = np.isnan(own_price)
        if price is not None:
            highest = float(value[inherits].max(initial=0.0))
            rules.check(
                not price < highest,
                f"{path}.shortfall_price_per_kwh",
                f"must be >= every energy_value_per_kwh (up to {highest:g}), is {price:g}",
            )
        if not 0.0 < terminal < inf:
            return
        applies = np.where(inherits, inf if price is None else price, own_price)
        beyond = departure > problem.grid.end_unix_s
        alone = beyond & (terminal > applies)
        if alone.any():
            rules.check(
                False,
                f"{path}.terminal_value_per_kwh",
                f"must be <= every shortfall price that applies (down to {applies[alone].min():g}), is {terminal:g}",
            )
        together = beyond & ~alone & (value <= applies) & (value + terminal > applies + _PRICE_TOLERANCE)
        rule = "with options.terminal_value_per_kwh must be <= the shortfall price that applies"
        rules.rows("sessions", "energy_value_per_kwh", together, rule, value)
