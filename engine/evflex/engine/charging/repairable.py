"""A site as repair reads it, and what every part of repair asks and does: room, limits, minimums, changes of power."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from evflex.engine.charging.evaluation import group_power_kw
from evflex.engine.charging.parts import Parts
from evflex.engine.charging.relaxation import Relaxation
from evflex.engine.charging.site import Site
from evflex.engine.kernels import inner_kernel
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray

# Kernels treat power differences below this as none (kW).
EPS = 1e-9


class Repairable(NamedTuple):
    """What the kernels read.

    Attributes:
        price: Marginal cost of a kW in each step, limits priced, (n, T).
        free_price: The same without the limits' prices: what a kW costs where there is room, (n, T).
        movable: Sessions that may be changed: those that do not discharge, (n,).
        low: Smallest power when on, (n, T).
        high: Largest power; 0 where absent, (n, T).
        first: First step of each session, (n,).
        last: One past its last step, (n,).
        wanted: Sum of power that meets the need, (n,).
        most: Largest sum of power, (n,).
        short_price: Cost of a kW-step of shortfall, (n,).
        value: Worth of a kW-step above the need, (n,).
        early_steps: Leading steps that count for the minimum energy, (n,).
        early_wanted: Sum of power that meets the minimum energy, (n,).
        presence: Share of each step, (n, T).
        upper: Limits on instantaneous power, (groups, T).
        session_start: Row pointers of the session's groups, (n + 1,).
        group: Groups of each session.
        weight: Weight of the session in the group.
        overload_price: Penalty for a kW of overload; more than any price difference at the site, (n,).
    """

    price: FloatArray
    free_price: FloatArray
    movable: BoolArray
    low: FloatArray
    high: FloatArray
    first: IntArray
    last: IntArray
    wanted: FloatArray
    most: FloatArray
    short_price: FloatArray
    value: FloatArray
    early_steps: IntArray
    early_wanted: FloatArray
    presence: FloatArray
    upper: FloatArray
    session_start: IntArray
    group: IntArray
    weight: FloatArray
    overload_price: FloatArray


def has_minimums(site: Site) -> bool:
    """Whether any session that only charges has a minimum power."""
    return bool(((site.max_discharge_kw <= 0.0) & (site.min_charge_kw > 0.0)).any())


def repairable(site: Site, parts: Parts, relaxation: Relaxation) -> Repairable:
    """A site and its prices as the kernels read them."""
    sessions, limits, steps = site.problem.sessions, site.limits, site.step_count
    kwh_per_kw = sessions.charge_efficiency * site.step_h
    given = site.given_kw.sum(axis=1)
    early = site.minimum_kwh > 0.0
    early_wanted = np.zeros(site.session_count)
    if early.any():
        counted = np.arange(steps)[None, :] < site.minimum_steps[:, None]
        early_wanted = np.where(early, site.minimum_kwh / kwh_per_kw - (site.given_kw * counted).sum(axis=1), 0.0)
    present = site.presence > 0.0
    some = present.any(axis=1)
    prices = np.maximum(np.abs(relaxation.price), np.abs(relaxation.free_price))
    highest = parts.to_sessions(np.maximum(parts.highest(prices.max(axis=1, initial=0.0)), 1e-3))
    unpriced_kwh = 1e3 * highest / site.step_h
    short_price = np.where(np.isnan(site.shortfall_price_per_kwh), unpriced_kwh, site.shortfall_price_per_kwh)
    return Repairable(
        price=relaxation.price,
        free_price=relaxation.free_price,
        movable=site.max_discharge_kw <= 0.0,
        low=site.presence * site.min_charge_kw[:, None],
        high=site.presence * site.max_charge_kw[:, None],
        first=np.where(some, present.argmax(axis=1), 0),
        last=np.where(some, steps - present[:, ::-1].argmax(axis=1), 0),
        wanted=site.need_kwh / kwh_per_kw - given,
        most=site.ceiling_kwh / kwh_per_kw - given,
        short_price=short_price * kwh_per_kw,
        value=site.value_per_kwh * kwh_per_kw,
        early_steps=np.where(early, site.minimum_steps, 0),
        early_wanted=early_wanted,
        presence=site.presence,
        upper=np.minimum(limits.upper_kw, _agreed(site, relaxation)),
        session_start=limits.session_start,
        group=limits.group,
        weight=limits.weight,
        overload_price=1e3 * highest,
    )


def _agreed(site: Site, relaxation: Relaxation) -> FloatArray:
    """Agreements, raised to where the relaxation gave them up for minimum energy, (groups, T)."""
    if not site.minimum_kwh.any():
        return site.limits.agreement_kw
    return np.maximum(site.limits.agreement_kw, group_power_kw(site, relaxation.power_kw))


@inner_kernel
def is_below_minimum(p: float, low: float) -> bool:
    """Whether a power lies between nothing and the minimum."""
    return p > EPS and p < low - EPS


@inner_kernel
def is_allowed(p: float, low: float, high: float) -> bool:
    """Whether a power is nothing, or lies between minimum and maximum."""
    return abs(p) <= EPS or (p >= low - EPS and p <= high + EPS)


@inner_kernel
def room_kw(s: Repairable, i: int, t: int, load: FloatArray) -> float:
    """Mean power that session i may add in step t before a limit binds."""
    room = np.inf
    for k in range(s.session_start[i], s.session_start[i + 1]):
        g = s.group[k]
        room = min(room, (s.upper[g, t] - load[g, t]) / s.weight[k] * s.presence[i, t])
    return room


@inner_kernel
def add_power(s: Repairable, i: int, t: int, delta: float, power: FloatArray, load: FloatArray) -> None:
    """Change the power of session i in step t, and the load that limits see."""
    power[i, t] += delta
    if abs(power[i, t]) <= EPS:
        power[i, t] = 0.0
    for k in range(s.session_start[i], s.session_start[i + 1]):
        load[s.group[k], t] += delta * s.weight[k] / s.presence[i, t]


@inner_kernel
def fits(s: Repairable, i: int, t: int, load: FloatArray) -> bool:
    """Whether every limit that sees session i is kept in step t."""
    for k in range(s.session_start[i], s.session_start[i + 1]):
        if load[s.group[k], t] > s.upper[s.group[k], t] + EPS:
            return False
    return True
