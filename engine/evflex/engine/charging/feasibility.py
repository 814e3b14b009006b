"""The rules that a plan must keep: one place that says which sessions break one, and which limits are exceeded.

Every plan passes here before it is offered, whatever made it.
"""

from __future__ import annotations

import numpy as np

from evflex.engine.charging.evaluation import keeps_limits
from evflex.engine.charging.single_runs import with_single_runs
from evflex.engine.charging.site import Site
from evflex.engine.charging.switching import least_on_kw, min_run_steps, must_charge
from evflex.engine.charging.uncontrolled import NOTHING_KW
from evflex.engine.kernels import inner_kernel, kernel
from evflex.engine.supply_tree import BoolArray, FloatArray

# Powers and energies may miss a rule by this much (kW, kWh): what solvers leave.
_TOLERANCE = 9e-7
# What solvers leave: so far below its minimum a power is meant to be it (kW), so near to a quantum a power is that.
_SOLVER_KW, _SOLVER_QUANTUM = 1e-6, 1e-5
# A power is a whole number of quanta to this share of a quantum.
_QUANTUM_SHARE = 5e-7


def keeps_rules(site: Site, power_kw: FloatArray) -> bool:
    """Whether a plan for the controlled steps keeps every rule; agreements may give way."""
    return not broken_sessions(site, power_kw).any() and keeps_limits(site, power_kw)


def broken_sessions(site: Site, power_kw: FloatArray) -> BoolArray:
    """Sessions whose powers break a rule of their own: all but the limits that sessions share. (n,)."""
    sessions, options = site.problem.sessions, site.options
    broken = np.zeros(site.session_count, dtype=np.bool_)
    starts = -1 if options.max_starts_per_session is None else options.max_starts_per_session
    find_broken(
        np.ascontiguousarray(power_kw), site.given_kw, site.presence, site.min_charge_kw, site.max_charge_kw,
        site.min_discharge_kw, site.max_discharge_kw, site.quantum_kw, site.ceiling_kwh, site.floor_kwh,
        sessions.charge_efficiency * site.step_h, site.step_h / sessions.discharge_efficiency, sessions.max_cycles,
        sessions.max_ramp_kw_per_step, sessions.charging_now, broken, min_run_steps(options, site.problem.grid), starts,
    )  # fmt: skip
    if options.min_run_s > 0.0 and sessions.charging_now.any():
        broken |= (must_charge(site) & (power_kw <= NOTHING_KW)).any(axis=1)
    return broken


@kernel
def find_broken(
    power: FloatArray,
    given: FloatArray,
    presence: FloatArray,
    min_charge: FloatArray,
    max_charge: FloatArray,
    min_discharge: FloatArray,
    max_discharge: FloatArray,
    quantum: FloatArray,
    ceiling: FloatArray,
    floor: FloatArray,
    stored: FloatArray,
    taken: FloatArray,
    cycles: FloatArray,
    ramp: FloatArray,
    charging_now: BoolArray,
    broken: BoolArray,
    run_steps: int,
    max_starts: int,
) -> None:
    """Mark the sessions that break a rule.

    Args:
        power: Net mean power in controlled steps, (n, T).
        given: Uncontrolled charging, (n, T).
        presence: Share of each controlled step, (n, T).
        min_charge: Smallest charging power, (n,).
        max_charge: Largest charging power, (n,).
        min_discharge: Smallest discharging power, (n,).
        max_discharge: Largest discharging power, (n,).
        quantum: Step of the settable power, 0 for any, (n,).
        ceiling: Most that the battery takes, (n,).
        floor: Least that it may hold, (n,).
        stored: Battery energy for each kW of charging, (n,).
        taken: Battery energy for each kW of discharging, (n,).
        cycles: Most energy taken, in multiples of the battery's range, (n,).
        ramp: Largest change from step to step, (n,).
        charging_now: Whether the session charges before the first step, (n,).
        broken: Written, (n,).
        run_steps: Shortest run.
        max_starts: Most starts, −1 for no limit.
    """
    for i in range(power.shape[0]):
        energy, drawn = 0.0, 0.0
        discharges = max_discharge[i] > 0.0
        starts, run = 0, run_steps
        was_on, bad = charging_now[i], False
        for t in range(power.shape[1]):
            p, f = power[i, t], presence[i, t]
            size = abs(p)
            on = p > NOTHING_KW
            least, most = (min_charge[i], max_charge[i]) if p > 0.0 else (min_discharge[i], max_discharge[i])
            bad |= size > 0.0 and (f <= 0.0 or size > f * most + _TOLERANCE or size < f * least - _TOLERANCE)
            if size > 0.0 and quantum[i] > 0.0 and f > 0.0:
                whole = size / (f * quantum[i])
                bad |= abs(whole - np.round(whole)) > _QUANTUM_SHARE * max(1.0, whole)
            energy += (max(p, 0.0) + given[i, t]) * stored[i] - max(-p, 0.0) * taken[i]
            drawn += max(-p, 0.0) * taken[i]
            bad |= energy > ceiling[i] + _TOLERANCE or (discharges and energy < floor[i] - _TOLERANCE)
            if t > 0 and f > 0.0 and presence[i, t - 1] > 0.0 and ramp[i] < np.inf:
                bad |= _too_steep(power[i, t - 1], p, presence[i, t - 1], f, min_charge[i], min_discharge[i], ramp[i])
            if on and not was_on:
                starts += 1
                run = 0
            elif on and t > 0 and power[i, t - 1] <= NOTHING_KW:
                # It went on charging without control just before.
                run = run_steps
            if on:
                run += 1
            elif was_on and f > 0.0 and t > 0 and power[i, t - 1] > NOTHING_KW:
                bad |= run < run_steps
            was_on = on or given[i, t] > 0.0
        bad |= max_starts >= 0 and starts > max_starts
        if discharges and cycles[i] < np.inf:
            bad |= drawn > cycles[i] * (ceiling[i] - floor[i]) + _TOLERANCE
        broken[i] = bad


@inner_kernel
def _too_steep(
    before: float, after: float, f_before: float, f_after: float, min_charge: float, min_discharge: float, ramp: float
) -> bool:
    """Whether power changes by more than the ramp, or the jump that a start or stop may make to the minimum."""
    rise, fall = ramp, ramp
    if before <= 0.0 < after:
        rise += max(min_charge * f_after - ramp, 0.0)
    if before < 0.0 <= after:
        rise += max(min_discharge * f_before - ramp, 0.0)
    if after <= 0.0 < before:
        fall += max(min_charge * f_before - ramp, 0.0)
    if after < 0.0 <= before:
        fall += max(min_discharge * f_after - ramp, 0.0)
    return after - before > rise + _TOLERANCE or before - after > fall + _TOLERANCE


def at_rest(site: Site) -> FloatArray:
    """The plan that keeps every rule and does nothing that no rule asks for, (n, T)."""
    power = np.zeros(site.presence.shape)
    forced = must_charge(site)
    if forced.any():
        power[forced] = (site.presence * least_on_kw(site)[:, None])[forced]
    return power


def mended(site: Site, power_kw: FloatArray) -> FloatArray:
    """The plan itself, or one in which sessions that break a rule of their own charge in one run, or rest. (n, T)."""
    broken = broken_sessions(site, power_kw)
    if not broken.any():
        return power_kw
    power_kw = with_single_runs(site, broken, power_kw)
    still = broken_sessions(site, power_kw)
    power_kw[still] = at_rest(site)[still]
    return power_kw


def tidy(site: Site, power_kw: FloatArray) -> FloatArray:
    """Undo what solvers leave: powers next to nothing, just below their minimum or just above their maximum."""
    out = np.empty(power_kw.shape)
    tidy_powers(
        np.ascontiguousarray(power_kw), site.presence, site.min_charge_kw, site.max_charge_kw, site.min_discharge_kw,
        site.max_discharge_kw, site.quantum_kw, out,
    )  # fmt: skip
    return out


@kernel
def tidy_powers(
    power: FloatArray,
    presence: FloatArray,
    min_charge: FloatArray,
    max_charge: FloatArray,
    min_discharge: FloatArray,
    max_discharge: FloatArray,
    quantum: FloatArray,
    out: FloatArray,
) -> None:
    """Write tidy powers to ``out``; all powers are mean powers (n, T), bounds and quantum instantaneous (n,)."""
    for i in range(power.shape[0]):
        for t in range(power.shape[1]):
            p, f = power[i, t], presence[i, t]
            size = abs(p)
            smallest, largest = f * min_charge[i], f * max_charge[i]
            if p <= 0.0:
                smallest, largest = f * min_discharge[i], f * max_discharge[i]
            size = smallest if smallest - _SOLVER_KW < size < smallest else min(size, largest)
            if size < NOTHING_KW:
                size = 0.0
            step = f * quantum[i]
            if step > 0.0:
                whole = size / step
                if abs(whole - np.round(whole)) < _SOLVER_QUANTUM:
                    size = np.round(whole) * step
            out[i, t] = size if p > 0.0 else 0.0 - size


def on_quanta(site: Site, power_kw: FloatArray) -> FloatArray:
    """Powers lowered to whole quanta, those below their minimum to nothing, (n, T)."""
    quantum = site.presence * site.quantum_kw[:, None]
    size = np.abs(power_kw)
    whole = np.divide(size, quantum, out=np.zeros_like(size), where=quantum > 0.0)
    size = np.where(quantum > 0.0, np.floor(whole + 1e-7) * quantum, size)
    smallest = np.where(power_kw > 0.0, site.min_charge_kw[:, None], site.min_discharge_kw[:, None]) * site.presence
    size = np.where(size < smallest - _TOLERANCE, 0.0, size)
    return np.where(power_kw < 0.0, -size, size)
