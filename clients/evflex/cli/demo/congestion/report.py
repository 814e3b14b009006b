"""What the chapter prints, and the tables that it writes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from evflex.cli.demo.congestion.evening import TIME_ZONE, Evening
from evflex.cli.demo.congestion.outcome import (
    EveningOutcome,
    Proof,
    congestions_of,
    expected,
    loading_of,
    relief_of,
    voltage_of,
    worst_of_each_kind,
)
from evflex.cli.demo.congestion.village import NOMINAL_V, TRANSFORMER, Village

NOTE = (
    "Generated data: an invented village whose homes heat with heat pumps at -5 degrees Celsius, and made-up cars, the "
    "same in every run. Probabilities are those of independent normal deviations at each house. Relief is what must be "
    "drawn less at the bus that is named; less is drawn when cars wait."
)
_KINDS = {
    "LINE_OVERLOAD": "cable overloaded",
    "TRANSFORMER_OVERLOAD": "transformer overloaded",
    "UNDERVOLTAGE": "voltage too low",
    "OVERVOLTAGE": "voltage too high",
}


def print_story(console: Console, evening: Evening, outcome: EveningOutcome) -> None:
    """Print what is congested, what may be, what outages do, and what relief clears.

    Args:
        console: Where to print.
        evening: What was given.
        outcome: Answers of the server.
    """
    village = evening.village
    drawn_kw = evening.injections.p_kw.sum(axis=1)
    table = Table(
        title=f"{len(village.houses)} houses behind a transformer of {village.rated_kva:g} kVA, "
        f"{evening.car_count} of them with a car that charges; together up to {drawn_kw.max():.0f} kW",
        title_justify="left", title_style="bold", header_style="", pad_edge=False,
    )  # fmt: skip
    for heading in ("congestion", "worst at", "when", "elements"):
        table.add_column(heading)
    for heading in ("value", "limit", "probability", "relief"):
        table.add_column(heading, justify="right")
    table.add_column("at")
    rows = congestions_of(outcome.forecast)
    for number, worst in worst_of_each_kind(rows).iterrows():
        alike = expected(rows[rows["kind"] == worst["kind"]])
        relief_kw = relief_of(outcome.forecast, int(str(number))).max()
        table.add_row(
            _KINDS[worst["kind"]], village.name_of(worst["element_id"]),
            f"{clock(alike['start_time'].min())} to {clock(alike['end_time'].max())}", str(len(alike)),
            amount(worst["kind"], worst["worst_value"]), amount(worst["kind"], worst["limit"]),
            f"{100.0 * worst['probability']:.0f} %", f"{relief_kw:.1f} kW", village.name_of(worst["relief_bus_id"]),
        )  # fmt: skip
    console.print(table)
    for line in (*_possible(outcome, village), *_proven(outcome, village), *_outages(outcome, evening)):
        console.print(line, highlight=False)
    console.print(f"[dim]{NOTE}[/dim]", highlight=False)


def write_steps(evening: Evening, outcome: EveningOutcome, path: Path) -> None:
    """Write power, loadings and voltages by step, as expected and with each relief."""
    village, loading = evening.village, loading_of(outcome.flow)
    first = {street: village.cables(street)[0] for street in village.streets}
    columns = {
        "homes_kw": evening.home_kw.sum(axis=1).to_numpy(),
        "heat_pumps_kw": evening.pump_kw.sum(axis=1).to_numpy(),
        "cars_kw": evening.car_kw.sum(axis=1).to_numpy(),
        "losses_kw": outcome.flow.losses_kw.to_numpy(),
        "transformer_loading_ratio": loading[TRANSFORMER].to_numpy(),
        **{f"{_slug(street)}_loading_ratio": loading[branch].to_numpy() for street, branch in first.items()},
        "lowest_voltage_pu": outcome.lowest_voltage_pu.to_numpy(),
        "lowest_voltage_bus_id": voltage_of(outcome.flow).idxmin(axis=1).to_numpy(),
    }
    for proof in outcome.proofs:
        name = str(proof.congestion["kind"]).lower()
        relief_kw = proof.relief_kw.reindex(outcome.flow.index, fill_value=0.0)
        columns[f"{name}_relief_kw"] = relief_kw.to_numpy()
        columns[f"{name}_relieved_loading_ratio"] = loading_of(proof.flow)[TRANSFORMER].to_numpy()
        columns[f"{name}_relieved_voltage_pu"] = voltage_of(proof.flow).min(axis=1).to_numpy()
    index = pd.Index(pd.DatetimeIndex(outcome.flow.index).strftime("%Y-%m-%dT%H:%M:%SZ"), name="time_utc")
    pd.DataFrame(columns, index=index).round(5).to_csv(path, lineterminator="\n")


def write_congestions(evening: Evening, outcome: EveningOutcome, path: Path) -> None:
    """Write each congestion of N and N-1."""
    found, relief = outcome.forecast.congestions, outcome.forecast.relief
    most_kw = relief["relief_needed_kw"].groupby(level="congestion").max().reindex(found.index)
    table = pd.DataFrame(
        {
            "contingency_id": found["contingency_id"],
            "kind": found["kind"],
            "element_id": found["element_id"],
            "name": [evening.village.name_of(element) for element in found["element_id"]],
            "start_utc": found["start_time"].dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "end_utc": found["end_time"].dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "worst_value": found["worst_value"].round(5),
            "limit": found["limit"],
            "probability": found["probability"].round(4),
            "relief_bus_id": found["relief_bus_id"],
            "most_relief_kw": most_kw.round(3),
        }
    )
    table.to_csv(path, index=False, lineterminator="\n")


def amount(kind: str, value: float) -> str:
    """A loading in per cent, or a voltage in V."""
    return f"{NOMINAL_V * value:.0f} V" if kind.endswith("VOLTAGE") else f"{100.0 * value:.0f} %"


def clock(time: pd.Timestamp) -> str:
    """Local time of day."""
    return f"{time.tz_convert(TIME_ZONE):%H:%M}"


def _possible(outcome: EveningOutcome, village: Village) -> list[str]:
    """What holds as expected and may still break."""
    rows = congestions_of(outcome.forecast)
    sure = expected(rows)
    lines = []
    for kind, group in rows[~rows.index.isin(sure.index)].groupby("kind", sort=False):
        likely = group.loc[group["probability"].idxmax()]
        lines.append(
            f"may happen too: {_KINDS[str(kind)]} at {len(group)} more, most likely "
            f"{village.name_of(likely['element_id'])} ({100.0 * likely['probability']:.0f} %)"
        )
    return lines


def _proven(outcome: EveningOutcome, village: Village) -> list[str]:
    """What a power flow with the relief applied says."""
    return [_tried(proof, left, village) for proof, left in zip(outcome.proofs, outcome.left, strict=True)]


def _tried(proof: Proof, left: int, village: Village) -> str:
    congestion = proof.congestion
    what = "transformer" if congestion["kind"] == "TRANSFORMER_OVERLOAD" else village.name_of(congestion["element_id"])
    before, after = (amount(congestion["kind"], value) for value in (congestion["worst_value"], proof.value))
    rest = "nothing is congested then" if left == 0 else f"{left} elements stay congested"
    return (
        f"relief tried by another power flow: up to {proof.relief_kw.max():.1f} kW less at "
        f"{village.name_of(congestion['relief_bus_id'])} brings {what} from {before} to {after}; {rest}"
    )


def _outages(outcome: EveningOutcome, evening: Evening) -> list[str]:
    return [_outage(outcome, evening, branch_id) for branch_id in evening.contingencies]


def _outage(outcome: EveningOutcome, evening: Evening, branch_id: str) -> str:
    """What the outage of a branch does."""
    village, forecast = evening.village, outcome.forecast
    islands = forecast.islands[forecast.islands["contingency_id"] == branch_id]
    dark = sum(len(buses) for buses in islands["bus_ids"])
    told = [f"{dark} buses dark" if dark else "the tie feeds all of them"]
    rows = expected(congestions_of(forecast, branch_id))
    for kind, group in rows.groupby("kind", sort=False):
        worst = group.loc[group["excess_ratio"].idxmax()]
        relief = forecast.relief["relief_needed_kw"].reindex(group.index, level="congestion").max()
        told.append(
            f"{_KINDS[str(kind)]} at {len(group)}, worst {amount(str(kind), worst['worst_value'])} at "
            f"{village.name_of(worst['element_id'])} (up to {relief:.1f} kW of relief)"
        )
    unsolved = int((forecast.not_converged["contingency_id"] == branch_id).sum())
    if unsolved:
        told.append(f"{unsolved} steps without a solution")
    if len(told) == 1:
        told.append("no limit is broken")
    return f"without {village.name_of(branch_id)}: {'; '.join(told)}"


def _slug(street: str) -> str:
    return street.lower().replace(" ", "_")
