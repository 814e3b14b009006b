"""Measured loads of households, and the profiles of a SimBench network by bus."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache

import numpy as np

from bench.instances import FloatArray, data_folder

STEP_S, STEPS_A_DAY = 900.0, 96
_NETWORK = "1-LV-rural3--2-no_sw"
_KW_PER_MW = 1000.0


@dataclass(frozen=True, slots=True)
class Loads:
    """A year of quarter-hours.

    Attributes:
        name: For people.
        start_unix_s: Of the first step.
        first_weekday: Of the first step, Monday 0.
        load_kw: Feed-in negative, (meters, steps).
    """

    name: str
    start_unix_s: float
    first_weekday: int
    load_kw: FloatArray


@cache
def residential() -> Loads:
    """25 households whose year is not known: any that begins on a Wednesday does as well."""
    load_kw = np.loadtxt(data_folder() / "load" / "residential_loads.csv", delimiter=",").T
    return Loads("households", 1_577_836_800.0, 2, np.ascontiguousarray(load_kw))


@cache
def simbench_buses() -> Loads:
    """Buses of a rural LV network with heat pumps and photovoltaics in 2016, those with a load that varies."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import simbench

        net = simbench.get_simbench_net(_NETWORK)
        values = simbench.get_absolute_values(net, profiles_instead_of_study_cases=True)
    steps = len(values["load", "p_mw"])
    load_kw = np.zeros((len(net.bus), steps))
    for kind, sign in (("load", 1.0), ("sgen", -1.0)):
        table = values[kind, "p_mw"]
        bus = net[kind].bus.loc[table.columns].to_numpy()
        np.add.at(load_kw, bus, sign * _KW_PER_MW * table.to_numpy().T)
    return Loads("SimBench buses", 1_451_606_400.0, 4, load_kw[np.ptp(load_kw, axis=1) > 0.0])
