"""The rules that a plan must keep: one place that says which sessions break one, and which limits are exceeded.

Every plan passes here before it is offered, whatever made it. Rule families that a site does not have cost nothing.
"""

from __future__ import annotations

import numpy as np

from evflex.engine.charging.evaluation import count_starts, keeps_limits
from evflex.engine.charging.single_runs import with_single_runs
from evflex.engine.charging.site import Site
from evflex.engine.charging.switching import least_on_kw, must_charge, ramp_room, run_breaks
from evflex.engine.charging.uncontrolled import NOTHING_KW
from evflex.engine.supply_tree import BoolArray, FloatArray

# Powers and energies may miss a rule by this much (kW, kWh): what solvers leave.
_TOLERANCE = 9e-7
# A power is a whole number of quanta to this share of a quantum.
_QUANTUM_SHARE = 5e-7


def keeps_rules(site: Site, power_kw: FloatArray) -> bool:
    """Whether a plan for the controlled steps keeps every rule; agreements may give way."""
    return not broken_sessions(site, power_kw).any() and keeps_limits(site, power_kw)


def broken_sessions(site: Site, power_kw: FloatArray) -> BoolArray:
    """Sessions whose powers break a rule of their own: all but the limits that sessions share. (n,)."""
    broken = _out_of_range(site, power_kw)
    if site.quantum_kw.any():
        broken |= _between_quanta(site, power_kw)
    broken |= _overfilled(site, power_kw)
    if np.isfinite(site.problem.sessions.max_ramp_kw_per_step).any():
        down, up = ramp_room(site, np.sign(power_kw))
        change = np.diff(power_kw, axis=1)
        broken |= ((change > up + _TOLERANCE) | (change < -down - _TOLERANCE)).any(axis=1)
    options = site.options
    if options.max_starts_per_session is not None:
        broken |= count_starts(site, power_kw + site.given_kw) > options.max_starts_per_session
    if options.min_run_s > 0.0:
        on = power_kw > NOTHING_KW
        broken |= run_breaks(site, on).any(axis=1) | (must_charge(site) & ~on).any(axis=1)
    return broken


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
    size = np.abs(power_kw)
    charges = power_kw > 0.0
    smallest = site.presence * np.where(charges, site.min_charge_kw[:, None], site.min_discharge_kw[:, None])
    largest = site.presence * np.where(charges, site.max_charge_kw[:, None], site.max_discharge_kw[:, None])
    size = np.where((size < smallest) & (size > smallest - 1e-6), smallest, np.minimum(size, largest))
    size[size < NOTHING_KW] = 0.0
    if site.quantum_kw.any():
        quantum = site.presence * site.quantum_kw[:, None]
        whole = np.divide(size, quantum, out=np.zeros_like(size), where=quantum > 0.0)
        near = np.abs(whole - np.round(whole)) < 1e-5
        size = np.where((quantum > 0.0) & near, np.round(whole) * quantum, size)
    return np.where(charges, size, -size)


def on_quanta(site: Site, power_kw: FloatArray) -> FloatArray:
    """Powers lowered to whole quanta, those below their minimum to nothing, (n, T)."""
    quantum = site.presence * site.quantum_kw[:, None]
    size = np.abs(power_kw)
    whole = np.divide(size, quantum, out=np.zeros_like(size), where=quantum > 0.0)
    size = np.where(quantum > 0.0, np.floor(whole + 1e-7) * quantum, size)
    smallest = np.where(power_kw > 0.0, site.min_charge_kw[:, None], site.min_discharge_kw[:, None]) * site.presence
    size = np.where(size < smallest - _TOLERANCE, 0.0, size)
    return np.where(power_kw < 0.0, -size, size)


def _out_of_range(site: Site, power_kw: FloatArray) -> BoolArray:
    """Powers neither 0 nor between minimum and maximum."""
    f = site.presence
    bad = (power_kw > f * site.max_charge_kw[:, None] + _TOLERANCE) | ((power_kw != 0.0) & (f <= 0.0))
    if site.min_charge_kw.any():
        bad |= (power_kw > 0.0) & (power_kw < f * site.min_charge_kw[:, None] - _TOLERANCE)
    if site.max_discharge_kw.any():
        bad |= power_kw < -f * site.max_discharge_kw[:, None] - _TOLERANCE
        bad |= (power_kw < 0.0) & (power_kw > -f * site.min_discharge_kw[:, None] + _TOLERANCE)
    else:
        bad |= power_kw < 0.0
    return np.asarray(bad.any(axis=1))


def _between_quanta(site: Site, power_kw: FloatArray) -> BoolArray:
    quantum = site.presence * site.quantum_kw[:, None]
    whole = np.divide(np.abs(power_kw), quantum, out=np.zeros_like(power_kw), where=quantum > 0.0)
    return np.asarray((np.abs(whole - np.round(whole)) > _QUANTUM_SHARE * np.maximum(1.0, whole)).any(axis=1))


def _overfilled(site: Site, power_kw: FloatArray) -> BoolArray:
    """Batteries above their ceiling or below their floor at any step's end, and discharge beyond the cycles."""
    sessions, step_h = site.problem.sessions, site.step_h
    if not site.max_discharge_kw.any():
        stored = (power_kw + site.given_kw).sum(axis=1) * (sessions.charge_efficiency * step_h)
        return np.asarray(stored > site.ceiling_kwh + _TOLERANCE)
    charge = (np.maximum(power_kw, 0.0) + site.given_kw) * sessions.charge_efficiency[:, None]
    discharge = np.maximum(-power_kw, 0.0) / sessions.discharge_efficiency[:, None]
    stored = np.cumsum(charge - discharge, axis=1) * step_h
    discharges = site.max_discharge_kw > 0.0
    broken = (stored > site.ceiling_kwh[:, None] + _TOLERANCE).any(axis=1)
    broken |= discharges & (stored < site.floor_kwh[:, None] - _TOLERANCE).any(axis=1)
    most = np.where(np.isfinite(sessions.max_cycles), sessions.max_cycles, 0.0) * (site.ceiling_kwh - site.floor_kwh)
    limited = np.isfinite(sessions.max_cycles)
    return np.asarray(broken | (limited & (discharge.sum(axis=1) * step_h > most + _TOLERANCE)))
