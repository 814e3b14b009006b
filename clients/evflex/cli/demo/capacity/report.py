"""What the chapter prints, and the table that it writes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from evflex.cli.demo.capacity.evening import (
    CONTINGENCY_HOUR,
    CONTRACTS,
    CURRENCY_CODE,
    N1_RATED_KVA,
    RATED_KVA,
    Evening,
)
from evflex.cli.demo.capacity.outcome import EveningOutcome

NOTE = (
    "Generated data: homes that heat at -5 degrees Celsius and two hubs of made-up cars, the same in every run. Energy "
    "wanted is what the hub would use if the transformer had no limits; what is curtailed is paid for by the grid "
    "company at the price of the agreement. Firm only: what would be served without conditional capacity."
)


def print_story(console: Console, evening: Evening, outcome: EveningOutcome) -> None:
    """Print what each hub got, what firm capacity alone would have let through, and what bound.

    Args:
        console: Where to print.
        evening: What was given.
        outcome: Answers of the server.
    """
    table = Table(
        title=f"two hubs behind a transformer of {RATED_KVA:g} kVA, {evening.base_kw.max():.0f} kW of it for homes",
        title_justify="left", title_style="bold", header_style="", pad_edge=False,
    )  # fmt: skip
    table.add_column("")
    for heading in ("wanted", "served", "curtailed", "paid", "firm only"):
        table.add_column(heading, justify="right")
    for hub_id, hub in outcome.hubs.iterrows():
        table.add_row(CONTRACTS[str(hub_id)].title, *_amounts(hub))
    table.add_row("together", *_amounts(outcome.hubs.sum(numeric_only=True)))
    console.print(table)
    shared = outcome.shared
    hottest_c = shared.transformer["hot_spot_c"].max()
    agreed = ", ".join(
        f"{contract.title} {contract.terms.firm_kw:g} + {contract.terms.conditional_kw:g} kW"
        for contract in CONTRACTS.values()
    )
    lines = [
        f"firm + conditional capacity: {agreed}",
        f"conditional capacity lets {100.0 * outcome.gain:.0f} % more energy through than firm capacity alone",
        f"firm capacity that can be sold: {outcome.firm_headroom_kva:.0f} kVA, which fit in every step even in N-1 "
        f"({N1_RATED_KVA:g} kVA; here from {CONTINGENCY_HOUR}:00 to {CONTINGENCY_HOUR + 1}:00)",
        f"hottest winding {hottest_c:.0f} °C, loss of life {shared.loss_of_life_h:.2f} h, "
        f"Jain's index {shared.fairness_index:.3f}",
    ]
    if len(shared.binding):
        lines.append(f"what held hubs back: {_reasons(shared.binding)}")
    for line in lines:
        console.print(line, highlight=False)
    console.print(f"[dim]{NOTE}[/dim]", highlight=False)


def write_csv(evening: Evening, outcome: EveningOutcome, path: Path) -> None:
    """Write load, capacities and temperatures by step."""
    shared = outcome.shared
    hubs = {
        f"{hub_id}_{name}": table[hub_id].to_numpy().round(3)
        for hub_id in shared.capacity_kw.columns
        for name, table in (("capacity_kw", shared.capacity_kw), ("power_kw", shared.power_kw))
    }
    transformer = {name: shared.transformer[name].to_numpy().round(3) for name in shared.transformer.columns}
    table = pd.DataFrame(
        {
            "base_kw": evening.base_kw.to_numpy(),
            "contingency": evening.contingency,
            "limit_kva": evening.limit_kva,
            **hubs,
            **transformer,
        },
        index=pd.Index(shared.time_grid.index.strftime("%Y-%m-%dT%H:%M:%SZ"), name="time_utc"),
    )
    table.to_csv(path, lineterminator="\n")


def _amounts(hub: pd.Series) -> list[str]:
    energies = [f"{hub[name]:,.0f} kWh" for name in ("wanted_kwh", "served_kwh", "curtailed_kwh")]
    return [*energies, f"{hub['compensation']:,.2f} {CURRENCY_CODE}", f"{hub['firm_only_kwh']:,.0f} kWh"]


def _reasons(binding: pd.DataFrame) -> str:
    """Reasons with the number of steps in which they held a hub back, the most frequent first."""
    counts = binding.drop_duplicates(["step", "reason"])["reason"].value_counts()
    return ", ".join(f"{str(reason).lower().replace('_', ' ')} in {count} steps" for reason, count in counts.items())
