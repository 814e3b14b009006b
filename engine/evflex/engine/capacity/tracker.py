"""Capacity in real time: each measurement becomes capacities of hubs by one step of the control law."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, isfinite, nan

import numpy as np

from evflex.engine.capacity.hub import ANY_COUNT
from evflex.engine.capacity.loading import phase_power
from evflex.engine.capacity.model import AllocationPolicy, BindingReason
from evflex.engine.capacity.thermal import steady_state
from evflex.engine.capacity.tracking_limits import ThermalOutlook, advance
from evflex.engine.capacity.tracking_model import HubWish, Measurement, MeasurementOutcome, TrackedUpdate, TrackerSetup
from evflex.engine.capacity.tracking_rules import nonsense_in
from evflex.engine.capacity.tracking_step import decide, explain, follow_base, loading, release
from evflex.engine.capacity.transformer import ThermalState
from evflex.engine.supply_tree import DEFAULT_VOLTAGE_V, FloatArray, IntArray
from evflex.engine.validation import Rules

# Of capacity or fallback: smaller differences are not told.
_TOLERANCE_KW = 1e-6
# As many as the contract's int32 can tell.
_MOST_EVS = 2**31 - 1
# Ramp and turns are looked at so often while no measurement comes.
_TICK_S = 1.0


class CapacityTracker:
    """Holds what is known of a transformer and its hubs; not for several threads at once.

    It has no clock: each method is told the wall clock, for stamps and the age of measurements, and the monotonic
    clock, for silence, ramps and turns, which a jump of the wall clock therefore neither prolongs nor ends.
    """

    def __init__(self, setup: TrackerSetup) -> None:
        """Track; hubs are on their fallback until the first measurement.

        Raises:
            InvalidProblemError: The setup breaks a rule.
        """
        rules = Rules()
        setup.validate(rules)
        rules.raise_if_any()
        hubs, transformer = setup.hubs, setup.transformer
        count = len(hubs)
        self.setup = setup
        self._outlook = ThermalOutlook.of(transformer, setup.max_silence_s)
        self._rank = _ranks(setup)
        ceiling_kw = np.minimum(hubs.max_kw, hubs.firm_kw + hubs.conditional_kw)
        # a hub whose agreement is below one car's minimum can never charge one
        self._ceiling_kw: FloatArray = np.where(ceiling_kw >= hubs.min_kw_per_ev, ceiling_kw, 0.0)
        self._firm_kw: FloatArray = np.minimum(self._ceiling_kw, hubs.firm_kw)
        self._demand_kw = np.full(count, inf)
        self._connected = np.full(count, ANY_COUNT, dtype=np.int64)
        self._wanted_kw, self._extra_kw, self._phase_share = np.empty(count), np.empty(count), np.empty((count, 3))
        self._read_wishes()
        self._contingency = setup.contingency
        self._cut_kw = inf
        self._ambient_c = float(transformer.ambient_c[0])
        self._voltage_v = np.full(3, DEFAULT_VOLTAGE_V)
        self._base = np.zeros((2, 3))
        self._loading_ratio = 0.0
        self._state = np.zeros(3)  # at the last measurement
        self._set_state(transformer.initial_state or steady_state(transformer.thermal, 0.0, self._ambient_c))
        self._last_unix_s = -inf
        self._heard_s = -inf
        self._step_s = nan
        self._fallen_back = True
        self._credit_kwh, self._entitled_kw = np.zeros(count), np.zeros(count)
        self._turn_start_s = np.full(count, inf)
        self._given_kw, self._target_kw = np.zeros(count), np.zeros(count)
        self._waits = np.zeros(count, dtype=np.bool_)
        self._allowed_kw, self._capacity_kw = np.zeros(count), np.zeros(count)
        self._fallback_kw, self._told_fallback_kw = np.zeros(count), np.zeros(count)
        self._reason = np.zeros(count, dtype=np.int64)

    def begin(self, now_unix_s: float, now_monotonic_s: float) -> TrackedUpdate:
        """The first answer: every hub on its fallback."""
        self._step(now_monotonic_s)
        return self._update(now_unix_s, now_monotonic_s, self._every_hub())

    def measure(self, sample: Measurement, now_unix_s: float, now_monotonic_s: float) -> TrackedUpdate:
        """Take a measurement, or refuse it and say why; one that is refused changes nothing and counts as silence."""
        outcome, detail = self._judge(sample, now_unix_s)
        if outcome != MeasurementOutcome.ACCEPTED:
            return self._update(now_unix_s, now_monotonic_s, _NO_HUBS, outcome, detail)
        before_kw = self._capacity_kw.copy()
        # also where nobody has looked since: hubs fall back by themselves when their capacity is not renewed
        had_fallen = self._fallen_back or self._falls_back(now_monotonic_s)
        self._take(sample, now_monotonic_s)
        if had_fallen:  # the ramp begins at the fallback
            self._step_s, self._fallen_back = now_monotonic_s, False
            self._capacity_kw[:] = self._fallback_kw
            self._allowed_kw[:] = self._fallback_kw
        self._step(now_monotonic_s)
        changed = self._every_hub() if had_fallen else self._changed(before_kw)
        return self._update(now_unix_s, now_monotonic_s, changed, outcome)

    def change(
        self,
        now_unix_s: float,
        now_monotonic_s: float,
        *,
        contingency: bool | None = None,
        wishes: Sequence[HubWish] = (),
        cut_kw: float | None = None,
        clear_cut: bool = False,
    ) -> TrackedUpdate:
        """Take what the operator tells; all of it or, where a value makes no sense, nothing.

        Args:
            now_unix_s: Wall clock.
            now_monotonic_s: Monotonic clock.
            contingency: Whether the grid is in N-1; None leaves it.
            wishes: Of hubs whose wants have changed.
            cut_kw: Most that the hubs together may draw from now on, also below firm capacity; None leaves it.
            clear_cut: Takes the cut back.
        """
        detail = self._fault_in(wishes, cut_kw, clear_cut)
        if detail:
            return self._update(now_unix_s, now_monotonic_s, _NO_HUBS, detail=detail)
        if contingency is not None:
            self._contingency = contingency
        if clear_cut:
            self._cut_kw = inf
        elif cut_kw is not None:
            self._cut_kw = cut_kw
        for wish in wishes:
            self._demand_kw[wish.hub], self._connected[wish.hub] = wish.demand_kw, wish.connected_evs
        if wishes:
            self._read_wishes()
        before_kw = self._capacity_kw.copy()
        falls = not self._fallen_back and self._falls_back(now_monotonic_s)
        self._step(now_monotonic_s)
        changed = self._every_hub() if falls else self._changed(before_kw)
        return self._update(now_unix_s, now_monotonic_s, changed)

    def tick(self, now_unix_s: float, now_monotonic_s: float) -> TrackedUpdate:
        """Look whether silence, the ramp or a turn changes something without a measurement."""
        if self._fallen_back:
            return self._update(now_unix_s, now_monotonic_s, _NO_HUBS)
        before_kw = self._capacity_kw.copy()
        falls = self._falls_back(now_monotonic_s)
        self._step(now_monotonic_s)
        changed = self._every_hub() if falls else self._changed(before_kw)
        return self._update(now_unix_s, now_monotonic_s, changed)

    def let_go(self, now_unix_s: float, now_monotonic_s: float) -> TrackedUpdate:
        """Put every hub on its fallback because nothing will be measured any more; a measurement takes that back."""
        self._fallen_back = True
        self._step(now_monotonic_s)
        return self._update(now_unix_s, now_monotonic_s, self._every_hub())

    def present(self, now_unix_s: float, now_monotonic_s: float) -> TrackedUpdate:
        """What holds now, without a change."""
        return self._update(now_unix_s, now_monotonic_s, _NO_HUBS)

    @property
    def next_due_s(self) -> float:
        """Monotonic time at which :meth:`tick` is to be called next; infinite where silence has nothing to change."""
        if self._fallen_back:
            return inf
        silent_s = self._heard_s + self.setup.max_silence_s
        moves = bool((self._allowed_kw < self._target_kw - _TOLERANCE_KW).any() or self._entitled_kw.any())
        return min(silent_s, self._step_s + _TICK_S) if moves else silent_s

    def _judge(self, sample: Measurement, now_unix_s: float) -> tuple[MeasurementOutcome, str]:
        detail = nonsense_in(sample, self.setup)
        if detail:
            return MeasurementOutcome.NONSENSE, detail
        ahead_s = sample.unix_s - now_unix_s
        if ahead_s > self.setup.max_clock_skew_s:
            return MeasurementOutcome.CLOCK_AHEAD, f"measurement_time is {ahead_s:.3f} s ahead of the server's clock"
        if -ahead_s > self.setup.max_silence_s:
            return MeasurementOutcome.TOO_OLD, f"measurement_time is {-ahead_s:.3f} s ago"
        if sample.unix_s <= self._last_unix_s:
            return MeasurementOutcome.OUT_OF_ORDER, "measurement_time is not later than the last one"
        return MeasurementOutcome.ACCEPTED, ""

    def _take(self, sample: Measurement, now_s: float) -> None:
        """Move base load and thermal state on to a measurement."""
        if sample.ambient_c is not None:
            self._ambient_c = sample.ambient_c
        rated_kva = self.setup.transformer.rated_kva
        phase_kw, phase_kvar = phase_power(sample.current_a, sample.voltage_v, sample.power_factor)
        loading_ratio = 3.0 * float(np.hypot(phase_kw, phase_kvar).max()) / rated_kva
        if len(sample.hub_power_kw):
            phase_kw = phase_kw - sample.hub_power_kw @ self._phase_share
        seconds = now_s - self._heard_s
        follow_base(phase_kw, phase_kvar, seconds, self._base)
        if isfinite(seconds):
            # nothing is known of the time between two measurements, so the larger load counts for all of it
            held_ratio = max(loading_ratio, self._loading_ratio)
            self._advance(held_ratio, seconds, self._state)
        elif self.setup.transformer.initial_state is None:
            own_ratio = 3.0 * float(np.hypot(phase_kw, phase_kvar).max()) / rated_kva
            self._set_state(steady_state(self.setup.transformer.thermal, own_ratio, self._ambient_c))
        self._loading_ratio = loading_ratio
        self._voltage_v = sample.voltage_v
        self._last_unix_s, self._heard_s = sample.unix_s, now_s

    def _falls_back(self, now_s: float) -> bool:
        """Put the hubs on their fallback where nothing was heard for too long."""
        self._fallen_back = now_s - self._heard_s >= self.setup.max_silence_s
        return self._fallen_back

    def _step(self, now_s: float) -> None:
        """Decide anew what each hub may draw."""
        setup, hubs = self.setup, self.setup.hubs
        seconds = min(max(now_s - self._step_s, 0.0), setup.max_silence_s) if isfinite(self._step_s) else 0.0
        self._step_s = now_s
        rated_kva = setup.transformer.rated_kva
        most_ratio = setup.transformer.max_loading_ratio
        if self._contingency:
            most_ratio = min(most_ratio, setup.n1_rated_kva / rated_kva)
        state = self._state_at(now_s)
        outlook = self._outlook
        all_reason, firm_reason = decide(
            int(setup.policy), most_ratio, rated_kva, self._base, outlook.values, outlook.hold_keep,
            outlook.settling_keep, self._ambient_c, state, self._cut_kw, self._phase_share, self._firm_kw,
            self._extra_kw, hubs.min_kw_per_ev, hubs.weight, self._rank, seconds, now_s, setup.rotation_s,
            self._credit_kwh, self._turn_start_s, self._entitled_kw, self._given_kw, self._target_kw, self._waits,
        )  # fmt: skip
        self._fallback_kw = np.where(self._given_kw >= hubs.min_kw_per_ev, self._given_kw, 0.0)
        if self._fallen_back:
            self._capacity_kw[:] = self._fallback_kw
            lacks = self._capacity_kw < self._wanted_kw - _TOLERANCE_KW
            self._reason = np.where(lacks, int(BindingReason.SILENCE), 0)
            return
        rise_kw = hubs.max_kw * (setup.ramp_ratio_per_min * seconds / 60.0)
        band_kw = hubs.max_kw * setup.dead_band_ratio
        release(
            self._target_kw, self._given_kw, hubs.min_kw_per_ev, rise_kw, band_kw, self._allowed_kw, self._capacity_kw
        )  # fmt: skip
        by_loading = BindingReason.CONTINGENCY if self._contingency else BindingReason.LOADING_RATIO
        cut_binds = float(self._target_kw.sum()) >= self._cut_kw * (1.0 - 1e-6) or self._cut_kw == 0.0
        explain(
            self._wanted_kw, self._ceiling_kw, hubs.max_kw, self._firm_kw, self._given_kw, self._target_kw,
            self._capacity_kw, band_kw, self._waits, cut_binds, all_reason or int(by_loading),
            firm_reason or int(by_loading), self._reason,
        )  # fmt: skip

    def _state_at(self, now_s: float) -> FloatArray:
        """State now; since the last measurement, every hub may have drawn its capacity."""
        state = self._state.copy()
        seconds = now_s - self._heard_s
        if isfinite(seconds) and seconds > 0.0:
            rated_kva = self.setup.transformer.rated_kva
            largest = loading(self._base, rated_kva, self._phase_share, self._capacity_kw)
            self._advance(max(largest, self._loading_ratio), seconds, state)
        return state

    def _advance(self, loading_ratio: float, seconds: float, state: FloatArray) -> None:
        advance(self._outlook.values, self._outlook.time_constants_s, loading_ratio, self._ambient_c, seconds, state)

    def _set_state(self, state: ThermalState) -> None:
        self._state[:] = state.top_oil_c, state.winding_gradient_c, state.oil_gradient_c

    def _read_wishes(self) -> None:
        """What each hub wants, what it can use of that beyond firm capacity, and on which phases."""
        hubs = self.setup.hubs
        none = (self._connected == 0) | (self._demand_kw == 0.0)
        # a car draws its minimum or nothing, so whoever wants less wants that
        demand_kw = np.maximum(np.where(np.isfinite(self._demand_kw), self._demand_kw, hubs.max_kw), hubs.min_kw_per_ev)
        self._wanted_kw = np.where(none, 0.0, demand_kw)
        self._extra_kw = np.maximum(np.minimum(self._wanted_kw, self._ceiling_kw) - self._firm_kw, 0.0)
        self._phase_share = hubs.phase_share(self._connected)

    def _fault_in(self, wishes: Sequence[HubWish], cut_kw: float | None, clear_cut: bool) -> str:
        """What is wrong with a change; empty when nothing is."""
        if cut_kw is not None and not (isfinite(cut_kw) and cut_kw >= 0.0):
            return f"cut_kw must be finite and >= 0, is {cut_kw:g}"
        if cut_kw is not None and clear_cut:
            return "cut_kw and clear_cut exclude each other"
        for i, wish in enumerate(wishes):
            if not 0 <= wish.hub < len(self.setup.hubs):
                return f"hubs[{i}].hub_id must be a hub of the header"
            if not wish.demand_kw >= 0.0:
                return f"hubs[{i}].demand_kw must be >= 0, is {wish.demand_kw:g}"
            if wish.connected_evs < ANY_COUNT:
                return f"hubs[{i}].connected_evs must be >= 0, is {wish.connected_evs}"
        return ""

    def _every_hub(self) -> IntArray:
        return np.arange(len(self.setup.hubs))

    def _changed(self, before_kw: FloatArray) -> IntArray:
        """Hubs whose capacity is another one, or whose fallback is lower than they were told."""
        differs = np.abs(self._capacity_kw - before_kw) > _TOLERANCE_KW
        differs |= self._fallback_kw < self._told_fallback_kw - _TOLERANCE_KW
        return np.flatnonzero(differs)

    def _update(
        self,
        now_unix_s: float,
        now_s: float,
        changed: IntArray,
        outcome: MeasurementOutcome = MeasurementOutcome.NONE,
        detail: str = "",
    ) -> TrackedUpdate:
        self._told_fallback_kw[changed] = self._fallback_kw[changed]
        capacity_kw = self._capacity_kw.copy()
        remaining_s = 0.0 if self._fallen_back else self._heard_s + self.setup.max_silence_s - now_s
        return TrackedUpdate(
            changed=changed,
            capacity_kw=capacity_kw,
            current_a=1000.0 * capacity_kw[:, None] * self._phase_share / self._voltage_v,
            evs_served=self._served(capacity_kw),
            reason=self._reason.copy(),
            fallback_kw=self._fallback_kw.copy(),
            outcome=outcome,
            detail=detail,
            loading_ratio=self._loading_ratio,
            state=ThermalState(*self._state_at(now_s).tolist()),
            hubs_capacity_kw=float(capacity_kw.sum()),
            valid_until_unix_s=now_unix_s + max(remaining_s, 0.0),
            fallen_back=self._fallen_back,
        )

    def _served(self, capacity_kw: FloatArray) -> IntArray:
        """Cars that can charge at the same time; where one needs no minimum, all that are connected, or one."""
        least_kw = self.setup.hubs.min_kw_per_ev
        unknown = self._connected == ANY_COUNT
        without = np.where(capacity_kw > 0.0, np.where(unknown, 1, self._connected), 0)
        needed_kw = np.maximum(np.where(least_kw > 0.0, least_kw, 1.0), capacity_kw / _MOST_EVS)
        fitting = np.floor(capacity_kw / needed_kw * (1.0 + 1e-12)).astype(np.int64)
        known = np.where(unknown, fitting, np.minimum(fitting, self._connected))
        served: IntArray = np.where(least_kw > 0.0, known, without)
        return served


_NO_HUBS: IntArray = np.empty(0, dtype=np.int64)


def _ranks(setup: TrackerSetup) -> IntArray:
    """Class of each hub, 0 for the highest priority or the highest price of curtailment."""
    hubs = setup.hubs
    if setup.policy == AllocationPolicy.PRIORITY:
        by = -hubs.priority.astype(np.float64)
    elif setup.policy == AllocationPolicy.LEAST_COST:
        by = -hubs.curtailment_price_per_kwh
    else:
        return np.zeros(len(hubs), dtype=np.int64)
    return np.unique(by, return_inverse=True)[1].astype(np.int64)
