"""A lower bound on the objective that needs no solver: what each session would cost alone, without limits."""

from __future__ import annotations

import numpy as np

from evflex.engine.charging.evaluation import fixed_load_objective
from evflex.engine.charging.site import Site
from evflex.engine.supply_tree import FloatArray


def trivial_bound(site: Site) -> float:
    """The Lagrangian with all limits priced at nothing; finite, and valid for every plan.

    Charging pays the lower of import and export price where the site may export, discharging earns the higher one.
    Wishes without a price cost nothing here.
    """
    sessions, step_h = site.problem.sessions, site.step_h
    base = site.fixed_kw + site.given_kw.sum(axis=0)
    exports = base - (site.presence * site.max_discharge_kw[:, None]).sum(axis=0) < 0.0
    # Where the site may export, a kW changes import or export, whichever is the better for us.
    pay = np.where(exports, np.minimum(site.import_rate, site.export_rate), site.import_rate) * step_h
    earn = np.where(exports, np.maximum(site.import_rate, site.export_rate), site.import_rate) * step_h
    short_price = np.nan_to_num(site.shortfall_price_per_kwh, nan=0.0)
    own = _charging_alone(site, pay, short_price)
    if site.max_discharge_kw.any():
        wear = sessions.discharge_cost_per_kwh * step_h
        most = site.presence * site.max_discharge_kw[:, None]
        revenue = (most * np.maximum(earn[None, :] - wear[:, None], 0.0)).sum(axis=1)
        # Sessions that discharge may charge again: of them only what they may earn is counted.
        paid = (site.presence * site.max_charge_kw[:, None]) @ np.maximum(-pay, 0.0)
        surplus = site.value_per_kwh * np.maximum(site.ceiling_kwh - site.need_kwh, 0.0)
        own = np.where(site.max_discharge_kw > 0.0, -revenue - paid - surplus, own)
    return float(own.sum()) + _given_cost(site)


def _given_cost(site: Site) -> float:
    """Objective of what uncontrolled steps draw, less the peak, which discharging may avoid as a whole."""
    root = site.fixed_kw + site.given_kw.sum(axis=0)
    energy = site.import_rate @ np.maximum(root, 0.0) - site.export_rate @ np.maximum(-root, 0.0)
    return float(energy * site.step_h) - fixed_load_objective(site)


def _charging_alone(site: Site, pay: FloatArray, short_price: FloatArray) -> FloatArray:
    """Least cost of each session that only charges: cheapest steps first, while a kWh is worth its price. (n,)."""
    kwh_per_kw = site.problem.sessions.charge_efficiency * site.step_h
    given_kwh = kwh_per_kw * site.given_kw.sum(axis=1)
    order = np.argsort(pay, kind="stable")
    room_kwh = np.cumsum((site.presence * site.max_charge_kw[:, None])[:, order], axis=1) * kwh_per_kw[:, None]
    price = pay[order][None, :] / kwh_per_kw[:, None]
    cost = short_price * np.maximum(site.need_kwh - given_kwh, 0.0)
    for low, high, worth in (
        (np.zeros(len(cost)), np.maximum(site.need_kwh - given_kwh, 0.0), short_price),
        (np.maximum(site.need_kwh - given_kwh, 0.0), np.maximum(site.ceiling_kwh - given_kwh, 0.0), site.value_per_kwh),
    ):
        # Energy of each step, cheapest first, that falls between low and high.
        filled = np.clip(room_kwh, low[:, None], np.maximum(high, low)[:, None]) - low[:, None]
        part = np.diff(filled, axis=1, prepend=0.0)
        cost = cost + (part * np.minimum(price - worth[:, None], 0.0)).sum(axis=1)
    return np.asarray(cost)
