"""The rules that a plan of powers must keep, read from the contract alone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tests.engine.charging.reference import figures as recompute
from tests.engine.charging.reference.case import AGREEMENT_KW, EXPORT_KW, IMPORT_KW, Case, FloatArray
from tests.engine.charging.reference.uncontrolled import uncontrolled

TOLERANCE = 1e-6
_NAMES = {IMPORT_KW: "import", EXPORT_KW: "export"}


def plan_faults(case: Case, power: FloatArray) -> list[str]:
    """Rules that a plan breaks."""
    if not np.isfinite(power).all():
        return ["power_kw: not finite"]
    return [
        *physics_faults(case, power),
        *limit_faults(case, power),
        *ramp_faults(case, power),
        *cycle_faults(case, power),
        *start_faults(case, power),
        *control_faults(case, power),
    ]


def uncontrolled_faults(case: Case, power: FloatArray) -> list[str]:
    """Rules that an uncontrolled plan breaks; where no minimum makes choices, it is unique."""
    end = recompute.delivered(case, power)
    faults = [
        *physics_faults(case, power),
        *limit_faults(case, power),
        *(f"session {i} step {t}: discharges" for i, t in np.argwhere(power < 0)),
        *(
            f"session {i}: charges {end[i]} kWh, more than the {case.needed[i]} needed"
            for i in np.flatnonzero(end > case.needed + TOLERANCE)
        ),
    ]
    s = case.problem.sessions
    if not s.min_charge_kw.any() and not case.options.current_quantum_a:
        expected = uncontrolled(case)
        for i, t in np.argwhere(np.abs(power - expected) > TOLERANCE):
            faults.append(f"session {i} step {t}: {power[i, t]} kW, first come first served {expected[i, t]}")
    return faults


def physics_faults(case: Case, power: FloatArray) -> list[str]:
    """Presence, power ranges, quanta and battery bounds."""
    faults = []
    s = case.problem.sessions
    for i in range(case.count):
        mine = _range_faults(case, i, power[i], case.presence[i])
        if mine and case.options.departure_margin_s:  # the stay may have been shortened by the margin
            shortened = _range_faults(case, i, power[i], case.short_presence[i])
            mine = mine if len(shortened) >= len(mine) else shortened
        faults += mine
    energy = recompute.battery(case, power)
    for i, t in np.argwhere(energy > s.energy_headroom_kwh[:, None] + TOLERANCE):
        faults.append(f"session {i} step {t}: battery at {energy[i, t]}, headroom {s.energy_headroom_kwh[i]}")
    for i, t in np.argwhere(energy < case.lowest[:, None] - TOLERANCE):
        faults.append(f"session {i} step {t}: battery at {energy[i, t]}, lowest {case.lowest[i]}")
    return faults


def _range_faults(case: Case, i: int, power: FloatArray, presence: FloatArray) -> list[str]:
    faults = []
    charging_unit = case.quantum_kw(i)
    for t in np.flatnonzero(power):
        mean, share = float(power[t]), float(presence[t])
        if share <= 0:
            faults.append(f"session {i} step {t}: {mean} kW while absent")
            continue
        low, high = case.range_kw(i, charging=mean > 0)
        if not low * share - TOLERANCE <= abs(mean) <= high * share + TOLERANCE:
            faults.append(f"session {i} step {t}: {mean} kW outside [{low * share}, {high * share}]")
        if charging_unit > 0:
            quanta = abs(mean) / share / charging_unit
            if abs(quanta - round(quanta)) > 1e-6 * max(1.0, quanta):
                faults.append(f"session {i} step {t}: {mean} kW is {quanta} quanta")
    return faults


def limit_faults(case: Case, power: FloatArray) -> list[str]:
    """Safety limits: an excess may only be what fixed load alone causes, or less."""
    faults = []
    for row in case.rows:
        if row.unit == AGREEMENT_KW:
            continue
        load = row.load(power)
        if load > max(row.limit, row.fixed) + TOLERANCE:
            kind = _NAMES.get(row.unit, f"current of phase {row.phase}")
            what = f"node {row.node} step {row.step}: {kind}"
            faults.append(f"{what} {load}, limit {row.limit}, fixed {row.fixed}")
    return faults


def ramp_faults(case: Case, power: FloatArray) -> list[str]:
    """Change of power between consecutive steps of presence; starts and stops may jump by the minimum."""
    faults = []
    s = case.problem.sessions
    for i in range(case.count):
        ramp = float(s.max_ramp_kw_per_step[i])
        if not np.isfinite(ramp):
            continue
        charge_low, discharge_low = float(s.min_charge_kw[i]), float(s.min_discharge_kw[i])
        for t0, t1 in pairwise(np.flatnonzero(case.presence[i] > 0)):
            before, after = float(power[i, t0]), float(power[i, t1])
            jump = {"off": max(0.0, charge_low * case.presence[i, t0] - ramp)}
            jump["on"] = max(0.0, charge_low * case.presence[i, t1] - ramp)
            jump["discharge off"] = max(0.0, discharge_low * case.presence[i, t0] - ramp)
            jump["discharge on"] = max(0.0, discharge_low * case.presence[i, t1] - ramp)
            up = ramp + (before <= 0 < after) * jump["on"] + (before < 0 <= after) * jump["discharge off"]
            down = ramp + (after <= 0 < before) * jump["off"] + (after < 0 <= before) * jump["discharge on"]
            if after - before > up + TOLERANCE or before - after > down + TOLERANCE:
                faults.append(f"session {i} step {t1}: from {before} to {after} kW, ramp {ramp}")
    return faults


def cycle_faults(case: Case, power: FloatArray) -> list[str]:
    """Energy discharged against the most cycles allowed."""
    s = case.problem.sessions
    discharged = np.maximum(-power, 0.0).sum(axis=1) * case.dt / s.discharge_efficiency
    return [
        f"session {i}: discharges {discharged[i]} kWh, at most {case.most_discharged[i]}"
        for i in np.flatnonzero(discharged > case.most_discharged + TOLERANCE)
    ]


def start_faults(case: Case, power: FloatArray) -> list[str]:
    """Number of starts, and length of runs."""
    faults = []
    most = case.options.max_starts_per_session
    for i, count in enumerate(recompute.start_counts(case, power)):
        if most is not None and count > most:
            faults.append(f"session {i}: {count} starts, at most {most}")
    if case.min_run_steps > 1:
        for i in range(case.count):
            faults += _run_faults(case, i, power[i] > recompute.OFF_KW)
    return faults


def _run_faults(case: Case, i: int, on: NDArray[np.bool_]) -> list[str]:
    s = case.problem.sessions
    faults, t = [], 0
    present = case.presence[i] > 0
    if case.options.departure_margin_s and not on[case.short_presence[i] <= 0].any():
        present = case.short_presence[i] > 0
    while t < case.steps:
        if not on[t]:
            t += 1
            continue
        end = t
        while end < case.steps and on[end]:
            end += 1
        stays = end < case.steps and present[end]
        resumed = t == 0 and s.charging_now[i]
        before = s.run_duration_s[i] / case.step_s if resumed else 0.0
        if stays and end - t + before < case.options.min_run_s / case.step_s - 1e-9:
            faults.append(f"session {i}: run of steps {t}..{end - 1} is shorter than {case.min_run_steps}")
        t = end
    if s.charging_now[i] and present[0] and not on[0] and s.run_duration_s[i] < case.options.min_run_s - 1e-6:
        low, _ = case.range_kw(i, charging=True)
        gain = low * case.presence[i, 0] * case.dt * s.charge_efficiency[i]
        limited = any(i in row.share for row in case.rows if row.step == 0)
        if not limited and case.controlled[0] and 0 < gain <= s.energy_headroom_kwh[i]:
            faults.append(f"session {i}: run at the grid's start is cut short")
    return faults


def control_faults(case: Case, power: FloatArray) -> list[str]:
    """Steps that are not controlled charge as uncontrolled charging in just those steps would."""
    if case.controlled.all():
        return []
    free = np.flatnonzero(~case.controlled)
    expected = uncontrolled(case, free.tolist())
    return [
        f"session {i} step {free[k]}: {power[i, free[k]]} kW, uncontrolled {expected[i, free[k]]}"
        for i, k in np.argwhere(np.abs(power - expected)[:, free] > TOLERANCE)
    ]
