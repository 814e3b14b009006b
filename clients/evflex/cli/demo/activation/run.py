"""The run of the chapter: start a server, sell, plug in, sell again, read the ledger, show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pandas as pd
from rich.console import Console

from evflex.cli.demo.activation.evening import (
    ACTS,
    AGGREGATORS,
    CAR_KW,
    CHARGE_POINT_OPERATOR,
    DEPARTURE_HOUR,
    NEEDED_KWH,
    OPERATOR,
    PARTIES,
    Act,
    Evening,
    Offer,
    Side,
)
from evflex.cli.demo.activation.figure import draw
from evflex.cli.demo.activation.outcome import REFUSED, SOLD, SUSPENDED, ActOutcome, EveningOutcome, Sale
from evflex.cli.demo.activation.report import print_story, write_ledger
from evflex.cli.demo.own_server import client_of, own_server
from evflex.cli.demo.stage import output_folder, print_written, progress_bar
from evflex.client import EvflexClient, ResolvedConflict, verify_audit

Parties = Mapping[str, EvflexClient]


def run(folder: Path) -> None:
    """Sell one car twice under each policy, print what came of it, and write picture and ledger.

    Args:
        folder: Receives the files; made if need be.

    Raises:
        UsageError: The folder cannot be written.
        EvflexError: A call failed, or the ledger is not what was written.
    """
    console = Console()
    with output_folder(folder), progress_bar(console) as progress:
        task = progress.add_task("Starting a server and compiling its kernels", total=4)
        with own_server() as address:
            progress.update(task, description="Selling one car twice", advance=1)
            evening = Evening.beginning(pd.Timestamp.now(tz="UTC"))
            outcome = play(address, evening)
            progress.update(task, description="Drawing", advance=2)
        files = [folder / "activation.png", folder / "activation_ledger.csv"]
        draw(evening, outcome, files[0])
        write_ledger(evening, outcome, files[1])
        progress.update(task, description="Done", advance=1)
    console.print()
    print_story(console, evening, outcome)
    print_written(console, files)


def play(address: str, evening: Evening) -> EveningOutcome:
    """Play all acts, and read the ledger as each party.

    Raises:
        AuditError: The chain of the ledger is broken.
    """
    with ExitStack() as stack:
        parties = {name: stack.enter_context(client_of(address, name)) for name in PARTIES}
        acts = tuple(play_act(parties, evening, act) for act in ACTS)
        exports = {name: tuple(client.export_audit()) for name, client in parties.items()}
    for export in exports.values():
        verify_audit(export)
    return EveningOutcome(acts, exports)


def play_act(parties: Parties, evening: Evening, act: Act) -> ActOutcome:
    """Set the policy, register, sell, plug in, and sell again."""
    if act.policy is not None:
        parties[OPERATOR].set_activation_policy(act.policy, area_id=act.area_id, sold_side=act.sold_side)
    for party, resources in act.resources().items():
        parties[party].register_resources(resources)
    sales = [sell(parties, evening, act, offer) for offer in act.before]
    session_id = act.resource_id(Side.SESSION)
    parties[CHARGE_POINT_OPERATOR].open_session(
        act.resource_id(Side.CAR), act.operator_evse_id, evening.plug_in, session_id=session_id,
        energy_kwh=NEEDED_KWH, departure_time=evening.instant(DEPARTURE_HOUR), max_charge_kw=CAR_KW,
    )  # fmt: skip
    sales += [sell(parties, evening, act, offer) for offer in act.after]
    told = {name: tuple(decided(parties[name], session_id)) for name in AGGREGATORS}
    return ActOutcome(act, tuple(as_it_stands(sale, told[sale.offer.aggregator]) for sale in sales), told)


def sell(parties: Parties, evening: Evening, act: Act, offer: Offer) -> Sale:
    """Hold an offer and confirm it, unless the hold is refused."""
    aggregator = parties[offer.aggregator]
    hold = aggregator.hold_commitments([evening.commitment(act, offer)])
    if not hold.granted:
        return Sale(offer, "", REFUSED, hold.conflicts)
    aggregator.confirm_commitments(hold.commitment_ids)
    return Sale(offer, hold.commitment_ids[0], SOLD)


def decided(aggregator: EvflexClient, session_id: str) -> Iterable[ResolvedConflict]:
    """Conflicts of a plug-in that an aggregator is told of."""
    with closing(aggregator.watch_conflicts()) as events:  # type: ignore[type-var]
        for event in events:
            if event.kind == "SNAPSHOT_COMPLETE":
                return
            if event.conflict is not None and event.conflict.session_id == session_id:
                yield event.conflict


def as_it_stands(sale: Sale, told: Iterable[ResolvedConflict]) -> Sale:
    """A sale as it is after the plug-in."""
    lost = tuple(
        one.conflict for one in told if sale.commitment_id and one.suspended_commitment_id == sale.commitment_id
    )
    return replace(sale, result=SUSPENDED, conflicts=lost) if lost else sale
