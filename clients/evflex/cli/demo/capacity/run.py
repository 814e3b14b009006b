"""The run of the chapter: start a server, agree, rate, share, show."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from evflex.cli.demo.capacity.evening import CONTRACTS, N1_RATED_KVA, OPERATOR, Evening, generated_evening
from evflex.cli.demo.capacity.figure import draw
from evflex.cli.demo.capacity.outcome import EveningOutcome
from evflex.cli.demo.capacity.report import print_story, write_csv
from evflex.cli.demo.own_server import client_of, own_server
from evflex.cli.demo.stage import output_folder, print_written, progress_bar
from evflex.client import EvflexClient


def run(folder: Path) -> None:
    """Share the transformer of the generated evening, print the figures, and write picture and table.

    Args:
        folder: Receives the files; made if need be.

    Raises:
        UsageError: The folder cannot be written.
        EvflexError: A call failed.
    """
    console = Console()
    with output_folder(folder), progress_bar(console) as progress:
        task = progress.add_task("Starting a server and compiling its kernels", total=4)
        evening = generated_evening()
        with own_server() as address, client_of(address, OPERATOR) as operator:
            progress.update(task, description="Agreeing on firm and conditional capacity", advance=1)
            agreement_ids = agree(address, operator, evening)
            progress.update(task, description="Rating and sharing the transformer", advance=1)
            outcome = share(operator, evening, agreement_ids)
        progress.update(task, description="Drawing", advance=1)
        files = [folder / "capacity.png", folder / "capacity_steps.csv"]
        draw(evening, outcome, files[0])
        write_csv(evening, outcome, files[1])
        progress.update(task, description="Done", advance=1)
    console.print()
    print_story(console, evening, outcome)
    print_written(console, files)


def agree(address: str, operator: EvflexClient, evening: Evening) -> dict[str, str]:
    """Let the grid company propose each agreement and the hub's operator accept it.

    Returns:
        Identifiers of the agreements by hub.
    """
    agreement_ids = {}
    for hub_id, contract in CONTRACTS.items():
        proposed = operator.propose_agreement(
            hub_id, contract.terms, transformer_id=evening.transformer.transformer_id, dso_party=OPERATOR,
            cpo_party=contract.party,
        )  # fmt: skip
        with client_of(address, contract.party) as charging:
            accepted = charging.accept_agreement(proposed.agreement_id, proposed.version)
        agreement_ids[hub_id] = accepted.agreement_id
    return agreement_ids


def share(operator: EvflexClient, evening: Evening, agreement_ids: dict[str, str]) -> EveningOutcome:
    """Rate the transformer and share it, under the agreements and with firm capacity alone."""
    transformer, loading = evening.transformer, evening.loading
    rating = operator.rate_transformer(
        transformer, loading, contingency=evening.contingency, n1_rated_kva=N1_RATED_KVA, store=True
    )
    shared = operator.allocate_capacity(
        transformer, loading, evening.agreed_hubs(agreement_ids), contingency=evening.contingency,
        n1_rated_kva=N1_RATED_KVA, store=True,
    )  # fmt: skip
    firm_only = operator.allocate_capacity(
        transformer, loading, evening.firm_hubs(), contingency=evening.contingency, n1_rated_kva=N1_RATED_KVA
    )
    return EveningOutcome(rating, shared, firm_only)
