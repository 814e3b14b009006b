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
    hours_of,
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
# What is congested, one and several.
_KINDS = {
    "LINE_OVERLOAD": ("cable above its rating", "cables above their rating"),
    "TRANSFORMER_OVERLOAD": ("transformer above its rating", "transformers above their rating"),
    "UNDERVOLTAGE": ("house with too little voltage", "houses with too little voltage"),
    "OVERVOLTAGE": ("house with too much voltage", "houses with too much voltage"),
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
    for heading in ("congested", "worst", "when", "likely", "relief"):
        table.add_column(heading, justify="right" if heading == "likely" else "left")
    rows = congestions_of(outcome.forecast)
    for number, worst in worst_of_each_kind(rows).iterrows():
        alike = expected(rows[rows["kind"] == worst["kind"]])
        begin, end = hours_of(outcome.forecast, alike)
        table.add_row(
            _counted(worst["kind"], village.known(alike["element_id"])),
            f"{_amount(worst['kind'], worst['worst_value'])}, {village.name_of(worst['element_id'])}",
            f"{_clock(begin)} to {_clock(end)}",
            _percent(worst["probability"]),
            f"{relief_of(outcome.forecast, int(str(number))).max():.1f} kW, {village.name_of(worst['relief_bus_id'])}",
        )
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


def _possible(outcome: EveningOutcome, village: Village) -> list[str]:
    """What holds as expected and may still break."""
    rows = congestions_of(outcome.forecast)
    doubtful = rows[~rows.index.isin(expected(rows).index) & rows["element_id"].isin(village.known(rows["element_id"]))]
    lines = []
    for kind, group in doubtful.groupby("kind", sort=False):
        likely = group.sort_values("probability").iloc[-1]
        lines.append(
            f"may come on top: {_counted(str(kind), list(group['element_id']))}, most likely "
            f"{village.name_of(likely['element_id'])} ({_percent(likely['probability'])})"
        )
    return lines


def _proven(outcome: EveningOutcome, village: Village) -> list[str]:
    """What a power flow with the relief applied says."""
    return [_tried(proof, left, village) for proof, left in zip(outcome.proofs, outcome.left, strict=True)]


def _tried(proof: Proof, left: list[str], village: Village) -> str:
    congestion = proof.congestion
    before, after = (_amount(congestion["kind"], value) for value in (congestion["worst_value"], proof.value))
    names = [village.name_of(element) for element in village.known(left)]
    rest = f"still congested: {', '.join(names)}" if names else "nothing is congested any more"
    return (
        f"tried: up to {proof.relief_kw.max():.1f} kW less at {village.name_of(congestion['relief_bus_id'])} brings "
        f"{village.name_of(congestion['element_id'])} from {before} to {after}; {rest}"
    )


def _outages(outcome: EveningOutcome, evening: Evening) -> list[str]:
    return [_outage(outcome, evening, branch_id) for branch_id in evening.contingencies]


def _outage(outcome: EveningOutcome, evening: Evening, branch_id: str) -> str:
    """What the outage of a branch does."""
    village, forecast = evening.village, outcome.forecast
    islands = forecast.islands[forecast.islands["contingency_id"] == branch_id]
    dark = [bus for buses in islands["bus_ids"] for bus in village.known(buses)]
    told = [f"{len(dark)} houses without supply" if dark else "the tie supplies all houses"]
    rows = expected(congestions_of(forecast, branch_id))
    rows = rows[rows["element_id"].isin(village.known(rows["element_id"]))]
    for kind, group in rows.groupby("kind", sort=False):
        worst = group.sort_values("excess_ratio").iloc[-1]
        relief_kw = forecast.relief.loc[group.index, "relief_needed_kw"].max()
        told.append(
            f"{_counted(str(kind), list(group['element_id']))}, worst {_amount(str(kind), worst['worst_value'])} at "
            f"{village.name_of(worst['element_id'])}, relief up to {relief_kw:.1f} kW"
        )
    unsolved = int((forecast.not_converged["contingency_id"] == branch_id).sum())
    if unsolved:
        told.append(f"{unsolved} steps without a solution")
    if len(told) == 1:
        told.append("no limit is broken")
    return f"without {village.name_of(branch_id)}: {'; '.join(told)}"


def _counted(kind: str, elements: list[str]) -> str:
    one, several = _KINDS[kind]
    count = len(set(elements))
    return f"{count} {one if count == 1 else several}"


def _amount(kind: str, value: float) -> str:
    """A loading in per cent, or a voltage in V."""
    return f"{NOMINAL_V * value:.1f} V" if kind.endswith("VOLTAGE") else f"{100.0 * value:.1f} %"


def _percent(ratio: float) -> str:
    return f"{100.0 * ratio:.0f} %"


def _clock(time: pd.Timestamp) -> str:
    """Local time of day."""
    return f"{time.tz_convert(TIME_ZONE):%H:%M}"


def _slug(street: str) -> str:
    return street.lower().replace(" ", "_")
