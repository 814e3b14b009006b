"""The peer of power flows in batches: power-grid-model, by each of its methods and numbers of threads."""

from __future__ import annotations

import numpy as np
import power_grid_model as pgm

from bench.feeders import Feeder, power_grid_model_data
from evflex.engine.supply_tree import FloatArray

_NODE, _LINE, _TRANSFORMER = pgm.ComponentType.node, pgm.ComponentType.line, pgm.ComponentType.transformer
METHODS = {
    "Newton": pgm.CalculationMethod.newton_raphson,
    "iterative current": pgm.CalculationMethod.iterative_current,
}


class PowerGridModelPeer:
    """A feeder as power-grid-model takes it, with a batch of steps; outputs are voltages and loadings alone."""

    def __init__(self, feeder: Feeder, steps: range) -> None:
        """Convert the net and lay out the batch, which is not timed."""
        self.symmetric = feeder.network.phase_count == 1
        kind = "sym_load" if self.symmetric else "asym_load"
        data = power_grid_model_data(feeder.net)
        bus_of = {node: i for i, node in enumerate(data["node"]["id"].tolist())}
        # the converter splits each load into one of constant power, impedance and current
        loads = data[kind][data[kind]["type"] == pgm.LoadGenType.const_power]
        at = np.array([bus_of[node] for node in loads["node"].tolist()])
        batch = pgm.initialize_array("update", kind, (len(steps), len(loads)))
        batch["id"] = loads["id"]
        batch["p_specified"] = 1e3 * feeder.p_kw[steps.start : steps.stop][:, at]
        batch["q_specified"] = 1e3 * feeder.q_kvar[steps.start : steps.stop][:, at]
        self._batch = {kind: batch}
        self._model = pgm.PowerGridModel(data)

    def run(self, method: str, threading: int) -> tuple[FloatArray, FloatArray]:
        """Voltages in pu, and loadings of lines and transformers as a ratio."""
        found = self._model.calculate_power_flow(
            symmetric=self.symmetric, update_data=self._batch, calculation_method=METHODS[method],
            error_tolerance=1e-8, max_iterations=100, threading=threading,
            output_component_types={_NODE: ["u_pu"], _LINE: ["loading"], _TRANSFORMER: ["loading"]},
        )  # fmt: skip
        return found[_NODE]["u_pu"], np.hstack([found[_LINE]["loading"], found[_TRANSFORMER]["loading"]])
