"""What is tracked in real time: the transformer and its hubs, what is measured, and what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from math import inf, isfinite

import numpy as np

from evflex.engine.capacity.hub import ANY_COUNT, LEAST_WEIGHT, MOST_KW, MOST_WEIGHT, default_min_kw_per_ev
from evflex.engine.capacity.model import AllocationPolicy
from evflex.engine.capacity.transformer import ThermalState, Transformer, check_rated_kva
from evflex.engine.supply_tree import ACTIVE, PHASE_COUNT, FloatArray, IntArray, PhaseConnection
from evflex.engine.validation import Rules

_RANGES = {
    "max_silence_s": ("max_silence_duration", 1.0, 900.0, "between 1 s and 15 min"),
    "rotation_s": ("rotation_duration", 10.0, 900.0, "between 10 s and 15 min"),
    "max_clock_skew_s": ("max_clock_skew_duration", 0.0, 3600.0, "between 0 s and 1 h"),
}


class MeasurementOutcome(IntEnum):
    """What happened to a measurement; values as in the public contract."""

    NONE = 0
    ACCEPTED = 1
    NONSENSE = 2
    OUT_OF_ORDER = 3
    CLOCK_AHEAD = 4
    TOO_OLD = 5


@dataclass(frozen=True, slots=True)
class TrackedHubs:
    """Hubs behind one transformer, one entry each.

    Attributes:
        hub_ids: Unique, not empty.
        max_kw: Largest power of each connection, > 0, (H,).
        min_kw_per_ev: Least power at which a car charges, >= 0, (H,).
        phases: :class:`~evflex.engine.supply_tree.PhaseConnection` values, (H,).
        phases_per_ev: Phases that each car uses: 1, or 0 for all of the hub's, (H,).
        weight: > 0, for WEIGHTED_PROPORTIONAL_FAIR, (H,).
        firm_kw: Capacity that is always there, >= 0, (H,).
        conditional_kw: Capacity on top that may be curtailed, >= 0, (H,).
        priority: The higher, the earlier served with PRIORITY, (H,).
        curtailment_price_per_kwh: Compensation of a curtailed kWh, >= 0, (H,).
    """

    hub_ids: tuple[str, ...]
    max_kw: FloatArray
    min_kw_per_ev: FloatArray
    phases: IntArray
    phases_per_ev: IntArray
    weight: FloatArray
    firm_kw: FloatArray
    conditional_kw: FloatArray
    priority: IntArray
    curtailment_price_per_kwh: FloatArray

    def __len__(self) -> int:
        """Number of hubs."""
        return len(self.hub_ids)

    @classmethod
    def of(
        cls,
        count: int,
        *,
        max_kw: FloatArray | float,
        firm_kw: FloatArray | float = 0.0,
        conditional_kw: FloatArray | float | None = None,
        min_kw_per_ev: FloatArray | float | None = None,
        phases: IntArray | int = PhaseConnection.L1_L2_L3,
        phases_per_ev: IntArray | int = 0,
        weight: FloatArray | float = 1.0,
        priority: IntArray | int = 0,
        curtailment_price_per_kwh: FloatArray | float = 0.0,
    ) -> TrackedHubs:
        """Hubs ``hub-0``, ``hub-1``, …; a number holds for all, and all above ``firm_kw`` is conditional."""

        def column(value: FloatArray | float) -> FloatArray:
            return np.broadcast_to(np.asarray(value, dtype=np.float64), (count,)).copy()

        def whole(value: IntArray | int) -> IntArray:
            return np.broadcast_to(np.asarray(value, dtype=np.int64), (count,)).copy()

        most, firm, connection, per_ev = column(max_kw), column(firm_kw), whole(phases), whole(phases_per_ev)
        if min_kw_per_ev is None:
            pairs = zip(connection.tolist(), per_ev.tolist(), strict=True)
            min_kw_per_ev = np.array([default_min_kw_per_ev(PhaseConnection(c), n) for c, n in pairs])
        return cls(
            tuple(f"hub-{i}" for i in range(count)), most, column(min_kw_per_ev), connection, per_ev, column(weight),
            firm, most - firm if conditional_kw is None else column(conditional_kw), whole(priority),
            column(curtailment_price_per_kwh),
        )  # fmt: skip

    def validate(self, rules: Rules, path: str = "hubs") -> None:
        """Report every broken rule."""
        count = len(self)
        rules.check(count > 0, path, "must hold at least one hub")
        lengths = [rules.length(f"{path}.{name}", len(getattr(self, name)), (count,)) for name in self.__slots__]
        if not all(lengths):
            return
        rules.identifiers(path, "hub_id", self.hub_ids)
        bad = ~((self.max_kw > 0.0) & (self.max_kw <= MOST_KW))
        rules.rows(path, "max_kw", bad, f"must be > 0 and at most {MOST_KW:g}", self.max_kw)
        bad = ~((self.weight >= LEAST_WEIGHT) & (self.weight <= MOST_WEIGHT))
        rules.rows(path, "weight", bad, f"must lie between {LEAST_WEIGHT:g} and {MOST_WEIGHT:g}", self.weight)
        for name in ("min_kw_per_ev", "firm_kw", "conditional_kw"):
            value = getattr(self, name)
            bad = ~((value >= 0.0) & (value <= MOST_KW))
            rules.rows(path, name, bad, f"must be >= 0 and at most {MOST_KW:g}", value)
        price = self.curtailment_price_per_kwh
        bad = ~(np.isfinite(price) & (price >= 0.0))
        rules.rows(path, "curtailment_price_per_kwh", bad, "must be finite and >= 0", price)
        known = (self.phases >= 0) & (self.phases < len(ACTIVE))
        rules.rows(path, "phases", ~known, "must be a known PhaseConnection", self.phases)
        known = (self.phases_per_ev == 0) | (self.phases_per_ev == 1)
        rules.rows(path, "phases_per_ev", ~known, "must be 0 (all) or 1", self.phases_per_ev)

    def phase_share(self, connected_evs: IntArray) -> FloatArray:
        """Share of each hub's power on L1, L2, L3, (H, 3): even over its phases.

        Cars of one phase are spread over the hub's phases in turn, so where their number is known, (H,), the first
        phases have one more than the others.
        """
        on_phase = ACTIVE[self.phases]
        count = PHASE_COUNT[self.phases][:, None]
        cars = connected_evs[:, None]
        place = np.cumsum(on_phase, axis=1) - 1.0
        on_this = (cars + count - 1 - place) // count
        known = (self.phases_per_ev[:, None] == 1) & (cars > 0)
        share: FloatArray = on_phase * np.where(known, on_this / np.maximum(cars, 1), 1.0 / count)
        return share


@dataclass(frozen=True, slots=True)
class TrackerSetup:
    """What is tracked, and how fast it may change.

    Attributes:
        transformer: The transformer, with one ambient temperature; its limit on the loss of life is one of planning.
        n1_rated_kva: Limit of loading in CONTINGENCY.
        hubs: The hubs.
        policy: How conditional capacity is split.
        max_silence_s: Without a valid measurement for so long, hubs fall to their fallback; 1 s to 15 min.
        dead_band_ratio: A smaller rise, as a share of max_kw, is not sent, in [0, 1).
        ramp_ratio_per_min: Fastest rise of conditional capacity, as a share of max_kw a minute, > 0.
        rotation_s: How long a hub is served before another's turn; 10 s to 15 min.
        max_clock_skew_s: Furthest that a measurement may be ahead of the clock; 0 s to 1 h.
        contingency: Whether the grid is in N-1 at the start.
    """

    transformer: Transformer
    n1_rated_kva: float
    hubs: TrackedHubs
    policy: AllocationPolicy = AllocationPolicy.MAX_MIN
    max_silence_s: float = 10.0
    dead_band_ratio: float = 0.02
    ramp_ratio_per_min: float = 0.5
    rotation_s: float = 300.0
    max_clock_skew_s: float = 5.0
    contingency: bool = False

    def validate(self, rules: Rules) -> None:
        """Report every broken rule."""
        self.transformer.validate(rules, 1)
        ok = not self.transformer.rated_kva > MOST_KW
        rules.check(ok, "transformer.rated_kva", f"must be at most {MOST_KW:g}, is {self.transformer.rated_kva:g}")
        self.hubs.validate(rules)
        check_rated_kva(rules, "n1_rated_kva", self.n1_rated_kva)
        for name, (field, low, high, rule) in _RANGES.items():
            value = getattr(self, name)
            rules.check(low <= value <= high, field, f"must lie {rule}, is {value:g} s")
        ok = 0.0 <= self.dead_band_ratio < 1.0
        rules.check(ok, "dead_band_ratio", f"must lie in [0, 1), is {self.dead_band_ratio:g}")
        ok = isfinite(self.ramp_ratio_per_min) and self.ramp_ratio_per_min > 0.0
        rules.check(ok, "ramp_ratio_per_min", f"must be finite and > 0, is {self.ramp_ratio_per_min:g}")


@dataclass(frozen=True, slots=True)
class Measurement:
    """A measurement of the transformer with everything behind it.

    Attributes:
        unix_s: When it was measured.
        current_a: Current of L1, L2, L3 at the low-voltage side, >= 0, (3,).
        voltage_v: Line-to-neutral voltage of L1, L2, L3, (3,).
        power_factor: In [-1, 1] without 0; negative is export.
        hub_power_kw: Power of each hub, (H,); length 0 where they have no meters and count as other load.
        ambient_c: Ambient temperature from now on; None leaves it as it is.
    """

    unix_s: float
    current_a: FloatArray
    voltage_v: FloatArray
    power_factor: float
    hub_power_kw: FloatArray
    ambient_c: float | None = None


@dataclass(frozen=True, slots=True)
class HubWish:
    """What a hub wants from now on.

    Attributes:
        hub: Its index.
        demand_kw: Power wanted, >= 0; infinite for as much as possible.
        connected_evs: Cars connected, ``ANY_COUNT`` where that is not known.
    """

    hub: int
    demand_kw: float = inf
    connected_evs: int = ANY_COUNT


@dataclass(frozen=True, slots=True)
class TrackedUpdate:
    """Capacities after a measurement, a change or a tick.

    Attributes:
        changed: Indices of the hubs whose capacity or fallback has changed, rising, (n,).
        capacity_kw: Most that each hub may draw, 0 or at least the minimum of one car, (H,).
        current_a: The same as current of L1, L2, L3 at the measured voltage, (H, 3).
        evs_served: Cars that can charge at the same time, (H,).
        reason: A :class:`~evflex.engine.capacity.model.BindingReason` each: why it is less than wanted, (H,).
        fallback_kw: Capacity of each hub that holds when nothing is heard, (H,).
        outcome: What happened to the measurement.
        detail: Why it was refused, empty when it was not.
        loading_ratio: Measured load of the most loaded phase over rated power.
        state: Of the transformer.
        hubs_capacity_kw: Sum of the capacities.
        valid_until_unix_s: Until when they are valid unless renewed.
        fallen_back: Whether silence has put the hubs on their fallback.
    """

    changed: IntArray
    capacity_kw: FloatArray
    current_a: FloatArray
    evs_served: IntArray
    reason: IntArray
    fallback_kw: FloatArray
    outcome: MeasurementOutcome
    detail: str
    loading_ratio: float
    state: ThermalState
    hubs_capacity_kw: float
    valid_until_unix_s: float
    fallen_back: bool
