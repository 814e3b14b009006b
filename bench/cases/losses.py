"""Losses of MATPOWER's distribution feeders, beside the published figures."""

from __future__ import annotations

import numpy as np

from bench.instances import data_folder
from bench.registry import Outcome, Setting, case
from evflex.engine.grid import prepare_grid, run_power_flow
from evflex.engine.grid.formats import NetworkFormat, read_network

# Losses in kW and lowest voltage in pu.
PUBLISHED = {
    "case33bw": (202.6771, 0.913090),
    "case69": (224.9917, 0.909188),
    "case85": (299.3075, 0.873890),
    "case141": (632.6956, 0.927862),
}


@case(
    "losses", "Losses of MATPOWER's distribution feeders", sizes=(33, 69, 85, 141), needs_data=True, domain="congestion"
)
def losses(setting: Setting) -> Outcome:
    del setting  # there is nothing to make smaller
    outcome = Outcome()
    for name, (losses_kw, lowest_pu) in PUBLISHED.items():
        content = (data_folder() / "matpower" / f"{name}.m").read_bytes()
        network = read_network(NetworkFormat.MATPOWER, {f"{name}.m": content}).network
        flow = run_power_flow(prepare_grid(network), network.load_p_kw[None], network.load_q_kvar[None])
        outcome.add(
            name, f"{name}: difference of losses from {losses_kw} kW", abs(float(flow.losses_kw[0]) - losses_kw),
            at_most=1e-3, peer=f"lowest voltage {np.nanmin(flow.voltage_pu):.6f} beside {lowest_pu:.6f} pu",
        )  # fmt: skip
    return outcome
