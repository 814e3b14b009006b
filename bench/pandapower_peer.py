"""The peer of power flows over time: pandapower's time series, with what it can leave out left out."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pandas as pd

from bench.feeders import Feeder
from evflex.engine.supply_tree import FloatArray

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pandapower
    from pandapower.control import ConstControl
    from pandapower.timeseries import DFData, OutputWriter, run_timeseries


def time_series(feeder: Feeder, steps: range) -> tuple[FloatArray, FloatArray]:
    """Voltages in pu and loadings as a ratio of some steps, buses, lines and transformers in the order of the net.

    Of each step only powers change, so that the admittances are kept, and results are read from the solver's arrays
    for all steps at once; both is what pandapower calls recycling.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = copy.deepcopy(feeder.net)
        columns = [f"{kind}{i}" for kind in "pq" for i in range(len(net.load))]
        values = np.hstack([feeder.p_kw[steps.start : steps.stop], feeder.q_kvar[steps.start : steps.stop]]) / 1e3
        source = DFData(pd.DataFrame(values, columns=columns))
        count = len(net.load)
        for column, names in (("p_mw", columns[:count]), ("q_mvar", columns[count:])):
            ConstControl(net, "load", column, net.load.index, profile_name=names, data_source=source)
        writer = OutputWriter(net, output_path=None, log_variables=[])
        for table, column in (("res_bus", "vm_pu"), ("res_line", "loading_percent"), ("res_trafo", "loading_percent")):
            writer.log_variable(table, column)
        run_timeseries(net, time_steps=range(len(steps)), verbose=False, numba=True, tolerance_mva=1e-8)
        voltage = writer.output["res_bus.vm_pu"].to_numpy()
        loadings = [writer.output[f"res_{table}.loading_percent"].to_numpy() / 100.0 for table in ("line", "trafo")]
    return voltage, np.hstack(loadings)


def outages(feeder: Feeder, branches: list[tuple[str, int]], steps: range) -> int:
    """A loop over outages and steps, as an engineer writes it; returns the flows that were solved."""
    solved = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for table, index in branches:
            net = copy.deepcopy(feeder.net)
            net[table].loc[index, "in_service"] = False
            started = False
            for step in steps:
                net.load["p_mw"] = feeder.p_kw[step] / 1e3
                net.load["q_mvar"] = feeder.q_kvar[step] / 1e3
                pandapower.runpp(net, numba=True, init="results" if started else "auto")
                started = True
                solved += 1
    return solved
