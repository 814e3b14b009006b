"""The run of the chapter: start a server, import the feeder, look for congestion, try the relief, show."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from evflex.cli.demo.congestion.evening import MIN_PROBABILITY, Evening, generated_evening
from evflex.cli.demo.congestion.figure import draw
from evflex.cli.demo.congestion.outcome import (
    EveningOutcome,
    Proof,
    congestions_of,
    relief_of,
    worst_of_each_kind,
)
from evflex.cli.demo.congestion.report import print_story, write_congestions, write_steps
from evflex.cli.demo.own_server import own_server
from evflex.cli.demo.stage import output_folder, print_written, progress_bar
from evflex.client import EvflexClient, Network, NetworkFormat


def run(folder: Path) -> None:
    """Forecast the congestion of the generated evening, print the figures, and write picture and tables.

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
        with own_server() as address, EvflexClient(address) as client:
            progress.update(task, description="Importing the network", advance=1)
            network = client.import_network(
                evening.village.files, NetworkFormat.PANDAPOWER, display_name="winter village"
            )
            progress.update(task, description="Looking for congestion in N and N-1", advance=1)
            outcome = look(client, network, evening)
        progress.update(task, description="Drawing", advance=1)
        files = [folder / name for name in ("congestion.png", "congestion_steps.csv", "congestion_list.csv")]
        draw(evening, outcome, files[0])
        write_steps(evening, outcome, files[1])
        write_congestions(evening, outcome, files[2])
        progress.update(task, description="Done", advance=1)
    console.print()
    print_story(console, evening, outcome)
    print_written(console, files)


def look(client: EvflexClient, network: Network, evening: Evening) -> EveningOutcome:
    """Compute the power flow, forecast congestion, and try the relief of the worst congestion of each kind."""
    flow = client.run_power_flow(network, evening.injections)
    forecast = client.forecast_congestion(
        network, evening.injections, uncertainty=evening.uncertainty, limits=evening.limits,
        contingencies=evening.contingencies, closable_branch_ids=[evening.village.tie],
        min_probability=MIN_PROBABILITY,
    )  # fmt: skip
    proofs = []
    for number, congestion in worst_of_each_kind(congestions_of(forecast)).iterrows():
        relief_kw = relief_of(forecast, int(str(number)))
        relieved = evening.relieved(congestion["relief_bus_id"], relief_kw)
        proofs.append(Proof(congestion, relief_kw, client.run_power_flow(network, relieved)))
    return EveningOutcome(flow, forecast, tuple(proofs), evening.limits)
