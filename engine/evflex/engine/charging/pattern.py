"""Which sessions charge, discharge or rest in which step: patterns made to keep the rules that no power can mend."""

from __future__ import annotations

import numpy as np

from evflex.engine.charging.evaluation import count_starts, group_power_kw
from evflex.engine.charging.site import Site
from evflex.engine.charging.switching import charging_before, least_on_kw, min_run_steps, must_charge, run_breaks
from evflex.engine.charging.uncontrolled import NOTHING_KW
from evflex.engine.supply_tree import BoolArray, FloatArray

# A step of the pattern is on at this share of the minimum power.
_ON_SHARE = 0.5


def pattern_of(site: Site, power_kw: FloatArray) -> tuple[BoolArray, BoolArray]:
    """Steps in which sessions charge and discharge by a plan, changed where they break rules. (n, T) each.

    Where the plan lies below a minimum it is rounded. Runs are lengthened or left out until they are long and few
    enough, least powers fit battery and limits, and power can follow its ramp from each step to the next.
    """
    on = _rounded(power_kw, site.presence * site.min_charge_kw[:, None])
    discharge = _rounded(-power_kw, site.presence * site.min_discharge_kw[:, None]) & ~on
    on |= must_charge(site)
    discharge &= ~on
    if site.options.min_run_s > 0.0:
        _lengthen_runs(site, on, power_kw)
        discharge &= ~on
    _fit_battery(site, on, power_kw)
    _fit_limits(site, on, power_kw)
    _leave_out_runs(site, on, power_kw)
    if np.isfinite(site.problem.sessions.max_ramp_kw_per_step).any():
        _follow_ramps(site, on, discharge)
    return on, discharge


def _rounded(power_kw: FloatArray, least_kw: FloatArray) -> BoolArray:
    return np.asarray((power_kw > NOTHING_KW) & (power_kw >= _ON_SHARE * least_kw))


def _lengthen_runs(site: Site, on: BoolArray, power_kw: FloatArray) -> None:
    """Let runs that are too short go on while the session is there, else begin earlier, where nothing else is done."""
    free = (site.presence > 0.0) & (site.max_charge_kw[:, None] > 0.0) & (power_kw >= -NOTHING_KW)
    for _ in range(site.step_count):
        lacking = run_breaks(site, on)
        lacking[:, 1:] &= on[:, :-1]
        later = lacking & free
        on |= later
        if not later.any():
            break
    steps = min_run_steps(site.options, site.problem.grid)
    for i in np.flatnonzero(run_breaks(site, on).any(axis=1)):
        for a, b in _runs(on[i]):
            while b - a < steps and a > 0 and free[i, a - 1]:
                a -= 1
                on[i, a] = True


def _fit_battery(site: Site, on: BoolArray, power_kw: FloatArray) -> None:
    """Leave out the least steps of sessions whose least powers alone overfill the battery."""
    kwh_per_kw = site.problem.sessions.charge_efficiency * site.step_h
    least = site.presence * least_on_kw(site)[:, None]
    most = site.ceiling_kwh / kwh_per_kw - site.given_kw.sum(axis=1)
    over = ((on * least).sum(axis=1) > most + 1e-7) & (site.max_discharge_kw <= 0.0)
    must = must_charge(site)
    for i in np.flatnonzero(over):
        for t in np.argsort(np.where(on[i] & ~must[i], power_kw[i], np.inf), kind="stable"):
            if (on[i] * least[i]).sum() <= most[i] + 1e-7 or not on[i, t] or must[i, t]:
                break
            on[i, t] = False


def _fit_limits(site: Site, on: BoolArray, power_kw: FloatArray) -> None:
    """Leave out the least steps where least powers alone exceed a limit."""
    least = on * site.presence * site.min_charge_kw[:, None] + np.minimum(power_kw, 0.0)
    over = group_power_kw(site, least) > site.limits.upper_kw + 1e-7
    if not over.any():
        return
    limits, must = site.limits, must_charge(site)
    session = np.repeat(np.arange(site.session_count), np.diff(limits.session_start))
    for g, t in zip(*np.nonzero(over), strict=True):
        mine = limits.group == g
        who, weight = session[mine], limits.weight[mine]
        f = np.where(site.presence[who, t] > 0.0, site.presence[who, t], 1.0)
        size = weight * np.where(on[who, t], site.min_charge_kw[who], np.minimum(power_kw[who, t], 0.0) / f)
        excess = size.sum() - limits.upper_kw[g, t]
        for k in np.argsort(power_kw[who, t], kind="stable"):
            if excess <= 1e-7:
                break
            if on[who[k], t] and size[k] > 0.0 and not must[who[k], t]:
                on[who[k], t] = False
                excess -= size[k]


def _leave_out_runs(site: Site, on: BoolArray, power_kw: FloatArray) -> None:
    """Leave out runs that are still too short, then the smallest ones until there are few enough."""
    options, must = site.options, must_charge(site)
    if options.min_run_s > 0.0:
        before = charging_before(site)
        for i in np.flatnonzero(run_breaks(site, on).any(axis=1)):
            for a, b in _runs(on[i]):
                alone = np.zeros((1, site.step_count), dtype=np.bool_)
                alone[0, a:b] = True
                stays = b < site.step_count and site.presence[i, b] > 0.0
                short = b - a < min_run_steps(options, site.problem.grid)
                if stays and short and not before[i, a] and not must[i, a:b].any():
                    on[i, a:b] = False
    if options.max_starts_per_session is None:
        return
    starts = count_starts(site, on + site.given_kw)
    for i in np.flatnonzero(starts > options.max_starts_per_session):
        own = [(a, b) for a, b in _runs(on[i]) if not charging_before(site)[i, a]]
        own.sort(key=lambda run: float(power_kw[i, run[0] : run[1]].sum()))
        for a, b in own[: len(own) - options.max_starts_per_session]:
            on[i, a:b] = False


def _follow_ramps(site: Site, on: BoolArray, discharge: BoolArray) -> None:
    """Leave out steps that power cannot reach from the step before: where a partly present one is too far below."""
    ramp = site.problem.sessions.max_ramp_kw_per_step
    low, high = site.presence * site.min_charge_kw[:, None], site.presence * site.max_charge_kw[:, None]
    for i in np.flatnonzero(np.isfinite(ramp)):
        if discharge[i].any():
            continue
        for t in np.flatnonzero(on[i]):
            jump = max(ramp[i], low[i, t])
            if t == 0 or site.presence[i, t - 1] <= 0.0:
                least, most = low[i, t], high[i, t]
            elif on[i, t - 1]:
                reach = max(low[i, t], least - ramp[i]), min(high[i, t], most + ramp[i])
                if reach[0] <= reach[1]:
                    least, most = reach
                elif site.presence[i, t - 1] < site.presence[i, t] and (t < 2 or not on[i, t - 2]):
                    on[i, t - 1] = False
                    least, most = low[i, t], min(high[i, t], jump)
                else:
                    on[i, t] = False
                    continue
            else:
                least, most = low[i, t], min(high[i, t], jump)


def _runs(on: BoolArray) -> list[tuple[int, int]]:
    """Runs of on-steps as (first, one past the last)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], on, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
