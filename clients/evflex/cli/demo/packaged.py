"""The packaged day: a workplace car park and a street of homes, see `data/sampling.md`."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources

import pandas as pd

from evflex.cli.demo.site import DemoSite
from evflex.client import SupplyNode
from evflex.client.supply import nodes_from_frame

TIME_ZONE = "Europe/Amsterdam"
# A capacity charge for the month's highest kW, of which the earlier days have used up a part.
WORKPLACE_PEAK_PRICE_PER_KW = 3.0
WORKPLACE_OBSERVED_PEAK_KW = 100.0
NOTES = (
    "Sampled data: sessions drawn from ElaadNL's distributions, loads from BDEW profiles, Dutch day-ahead "
    "prices of 27 August 2024. The CO2 intensity is illustrative, not measured. The car park pays 3 EUR for "
    "each kW of its peak above the 100 kW that this month has seen. A plan is charged 0.02 EUR for each start, "
    "to spare the contactors; the figures leave that out.",
)


def packaged_sites() -> tuple[DemoSite, DemoSite]:
    """The car park and the street."""
    return (
        _site("workplace", "Workplace car park", WORKPLACE_PEAK_PRICE_PER_KW, WORKPLACE_OBSERVED_PEAK_KW),
        _site("street", "Street of 20 homes", 0.0, 0.0),
    )


def _site(name: str, title: str, peak_price_per_kw: float, observed_peak_kw: float) -> DemoSite:
    steps = _table(f"{name}_steps.csv").set_index("time")
    steps.index = pd.DatetimeIndex(pd.to_datetime(steps.index, utc=True))
    sessions = _table(f"{name}_sessions.csv")
    for column in ("arrival_time", "departure_time"):
        sessions[column] = pd.to_datetime(sessions[column], utc=True)
    return DemoSite(
        site_id=name,
        title=f"{title}, {len(sessions)} cars",
        sessions=sessions,
        nodes=_nodes(_table(f"{name}_nodes.csv"), steps),
        price_per_kwh=steps["import_price_per_kwh"],
        price_label="day-ahead price",
        currency_code="EUR",
        emission_g_per_kwh=steps["emission_intensity_g_per_kwh"],
        peak_price_per_kw=peak_price_per_kw,
        observed_peak_kw=observed_peak_kw,
        time_zone=TIME_ZONE,
        notes=NOTES,
    )


def _nodes(table: pd.DataFrame, steps: pd.DataFrame) -> tuple[SupplyNode, ...]:
    """Nodes of the table, each with the load of the steps' column of the same name."""
    loads = {name: steps[name] for name in steps.columns}
    return tuple(replace(node, fixed_load_kw=loads.get(node.node_id)) for node in nodes_from_frame(table))


def _table(name: str) -> pd.DataFrame:
    with (resources.files("evflex.cli.demo") / "data" / name).open(encoding="utf-8") as file:
        return pd.read_csv(file)
