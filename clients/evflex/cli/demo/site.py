"""A site of the demo: what is asked, and what is needed to show the answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pandas as pd

from evflex.client import Schedule, ScheduleOptions, ScheduleRequest, SupplyNode, Tariff

SOLVE_LIMIT = timedelta(seconds=4)
RELATIVE_GAP = 3e-3
# A small price on each start spares the contactors and keeps the plan readable.
START_COST = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class DemoSite:
    """A site to plan.

    Attributes:
        site_id: Identifier, also the stem of the file names.
        title: Heading.
        sessions: One row a session, columns as the client takes them.
        nodes: Electrical tree, the root first.
        price_per_kwh: Import price; its index is the time axis (UTC).
        price_label: What the price is.
        currency_code: ISO 4217 code of the price.
        emission_g_per_kwh: Emission intensity; None when unknown.
        peak_price_per_kw: Price of each kW by which peak import exceeds ``observed_peak_kw``.
        observed_peak_kw: Peak that is paid already.
        time_zone: Zone in which times are shown.
        notes: What a reader must know about the data.
    """

    site_id: str
    title: str
    sessions: pd.DataFrame
    nodes: tuple[SupplyNode, ...]
    price_per_kwh: pd.Series
    price_label: str
    currency_code: str
    emission_g_per_kwh: pd.Series | None
    peak_price_per_kw: float
    observed_peak_kw: float
    time_zone: str
    notes: tuple[str, ...]

    @property
    def limit_kw(self) -> float:
        """Import limit at the root."""
        limit = self.nodes[0].max_import_kw
        return float("inf") if limit is None else float(np.min(np.asarray(limit, dtype=float)))

    @property
    def step_h(self) -> float:
        """Length of a step in hours."""
        index = self.price_per_kwh.index
        return float((index[1] - index[0]) / pd.Timedelta(hours=1))

    @property
    def fixed_load_kw(self) -> pd.Series:
        """Sum of the uncontrolled loads of all nodes."""
        total = pd.Series(0.0, index=self.price_per_kwh.index)
        for node in self.nodes:
            if node.fixed_load_kw is not None:
                total = total + np.asarray(node.fixed_load_kw, dtype=float)
        return total

    def request(self) -> ScheduleRequest:
        """What is asked of the server."""
        tariff = Tariff(
            self.price_per_kwh,
            currency_code=self.currency_code,
            peak_price_per_kw=self.peak_price_per_kw,
            observed_peak_kw=self.observed_peak_kw,
            emission_intensity_g_per_kwh=self.emission_g_per_kwh,
        )
        options = ScheduleOptions(time_limit=SOLVE_LIMIT, relative_gap=RELATIVE_GAP, start_cost=START_COST)
        return ScheduleRequest(self.site_id, self.sessions, tariff, self.nodes, options=options, store=True)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Figures of charging alone, without the fixed load.

    Attributes:
        energy_kwh: Battery-side energy delivered.
        shortfall_kwh: Battery-side energy wanted and not delivered.
        energy_cost: Cost of the energy charged.
        peak_cost: What the peak costs more than that of the fixed load alone.
        total_cost: Sum of the two.
        emissions_kg: CO2 of charging; None when the intensity is unknown.
        peak_kw: Peak import of the whole site.
    """

    energy_kwh: float
    shortfall_kwh: float
    energy_cost: float
    peak_cost: float
    total_cost: float
    emissions_kg: float | None
    peak_kw: float


def outcomes(site: DemoSite, schedule: Schedule) -> tuple[Outcome, Outcome]:
    """Outcome of uncontrolled charging and of the schedule."""
    fixed_kw = site.fixed_load_kw.to_numpy()
    fixed_cost = float((np.clip(fixed_kw, 0.0, None) * site.price_per_kwh.to_numpy()).sum()) * site.step_h
    fixed_peak_cost = site.peak_price_per_kw * max(float(fixed_kw.max()) - site.observed_peak_kw, 0.0)
    fixed_kg = None
    if site.emission_g_per_kwh is not None:
        intensity = site.emission_g_per_kwh.to_numpy()
        fixed_kg = float((np.clip(fixed_kw, 0.0, None) * intensity).sum()) * site.step_h / 1000.0
    uncontrolled, planned = (
        Outcome(
            energy_kwh=figures.delivered_kwh,
            shortfall_kwh=figures.shortfall_kwh,
            energy_cost=figures.energy_cost - fixed_cost,
            peak_cost=figures.peak_cost - fixed_peak_cost,
            total_cost=figures.energy_cost + figures.peak_cost - fixed_cost - fixed_peak_cost,
            emissions_kg=None if fixed_kg is None else figures.emissions_kg - fixed_kg,
            peak_kw=figures.peak_import_kw,
        )
        for figures in (schedule.uncontrolled, schedule.figures)
    )
    return uncontrolled, planned
