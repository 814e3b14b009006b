"""What the chapter prints, and the ledger that it writes."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from evflex.cli.demo.activation.evening import AGGREGATORS, CAR_KW, STREET_KW, Act, Evening
from evflex.cli.demo.activation.outcome import (
    SUSPENDED,
    ActOutcome,
    EveningOutcome,
    Sale,
    interval,
    interval_of,
    main_conflict,
)

NOTE = (
    "Generated data: a made-up car, charge point and street, once for each act. A ledger takes no sales that are over, "
    "so the clock of the story is set: it is half past five when the car is plugged in, which is now. The ledger names "
    "commitments of others by number alone; their names are known to this demo only."
)


def print_story(console: Console, evening: Evening, outcome: EveningOutcome) -> None:
    """Print what each offer came to and why, what the remedies give and cost, and that the ledger holds.

    Args:
        console: Where to print.
        evening: Clock of the story.
        outcome: What the offers came to.
    """
    table = Table(
        title=f"one car of {CAR_KW:g} kW and its charge point, on a street of {STREET_KW:g} kW",
        title_justify="left", title_style="bold", header_style="", pad_edge=False,
    )  # fmt: skip
    for heading in ("", "sells", "when", "came to", "because"):
        table.add_column(heading, overflow="fold")
    for act_outcome in outcome.acts:
        table.add_row(f"[bold]{act_outcome.act.title}[/bold]")
        for sale in act_outcome.sales:
            table.add_row(*_cells(evening, act_outcome, sale))
        table.add_section()
    console.print(table)
    for line in _lines(evening, outcome):
        console.print(line, highlight=False)
    console.print(f"[dim]{NOTE}[/dim]", highlight=False)


def write_ledger(evening: Evening, outcome: EveningOutcome, path: Path) -> None:
    """Write the ledger, one line each with the first letters of its digest."""
    outcome.ledger(evening).to_csv(path, index=False, lineterminator="\n")


def _cells(evening: Evening, outcome: ActOutcome, sale: Sale) -> list[str]:
    offer = sale.offer
    result = f"{sale.result} at plug-in" if sale.result == SUSPENDED else sale.result
    sells = f"{offer.power_kw:g} kW of the {offer.side}"
    return [offer.aggregator, sells, interval(offer.start_hour, offer.end_hour), result, _why(evening, outcome, sale)]


def _why(evening: Evening, outcome: ActOutcome, sale: Sale) -> str:
    """The conflict that says most, with whom, when and by how much."""
    conflict = main_conflict(sale)
    if conflict is None:
        return ""
    when = interval_of(evening, conflict.start_time, conflict.end_time)
    excess = f", {conflict.excess_kw:g} kW too much" if conflict.excess_kw else ""
    others = [offer for offer in outcome.against(conflict) if offer != sale.offer]
    against = ", with " + " and ".join(f"{offer.aggregator}'s {offer.side}" for offer in others) if others else ""
    return f"{conflict.kind} {when}{excess}{against}"


def _lines(evening: Evening, outcome: EveningOutcome) -> list[str]:
    without, *remedies = outcome.acts
    line_count = len(outcome.ledger(evening))
    return [
        f"told of the double sale at plug-in: {_told(without)}",
        *(_balance(act_outcome.act) for act_outcome in (without, *remedies)),
        f"ledger: {line_count} lines; the chain of digests was verified from the first to the last, as each of "
        f"{len(outcome.exports)} parties exported it",
    ]


def _told(outcome: ActOutcome) -> str:
    """Who was told, and which side of it they were on."""
    parts = []
    for name in AGGREGATORS:
        for resolved in outcome.told[name][:1]:
            lost = resolved.suspended_aggregator_id == name
            parts.append(f"{name}, whose sale {'is suspended' if lost else 'stays'}")
    return "; ".join(parts) or "nobody"


def _balance(act: Act) -> str:
    policy = f" ({act.policy})" if act.policy else ""
    return f"[bold]{act.title}[/bold]{policy}: {act.gives} But: {act.costs}"
