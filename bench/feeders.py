"""SimBench's grids and the European LV feeder as every peer takes them: one load a bus, the same steps for all."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from evflex.engine.grid import Network
from evflex.engine.grid.formats import NetworkFormat, read_network
from evflex.engine.supply_tree import FloatArray

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pandapower
    import pandapower.networks
    import power_grid_model as pgm
    import simbench
    from power_grid_model import utils
    from power_grid_model_io.converters import PandaPowerConverter

LV_RURAL, MV_URBAN, MV_URBAN_SWITCHED = "1-LV-rural3--2-no_sw", "1-MV-urban--2-no_sw", "1-MV-urban--2-sw"


@dataclass(frozen=True, slots=True)
class Feeder:
    """A grid with its year.

    Attributes:
        net: For pandapower, with one load a bus in the order of buses.
        network: For us, read from the same net.
        p_kw: Active power of each bus, (35 136, n), or (35 136, n, 3).
        q_kvar: Reactive power, of the same shape.
    """

    net: pandapower.pandapowerNet
    network: Network
    p_kw: FloatArray
    q_kvar: FloatArray


def simbench_feeder(code: str) -> Feeder:
    """A grid of SimBench with the profiles of its year.

    Its transformers name no kind of tap changer, on which pandapower leaves the tap aside and others do not: all are
    told that taps change the ratio.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = simbench.get_simbench_net(code)
        profiles = simbench.get_absolute_values(net, profiles_instead_of_study_cases=True)
        net.trafo["tap_changer_type"] = "Ratio"
        n, place = len(net.bus), {bus: i for i, bus in enumerate(net.bus.index)}
        p_kw, q_kvar = np.zeros((2, 35_136, n))
        for (table, column), values in profiles.items():
            sign = -1.0 if table in ("sgen", "gen") else 1.0
            into = p_kw if column == "p_mw" else q_kvar
            for k, bus in enumerate(net[table].bus):
                into[:, place[bus]] += 1e3 * sign * values.to_numpy()[:, k]
        for table in ("load", "sgen", "storage"):
            net[table].drop(net[table].index, inplace=True)
        for bus in net.bus.index:
            pandapower.create_load(net, bus, p_kw[0, place[bus]] / 1e3, q_kvar[0, place[bus]] / 1e3)
        text = pandapower.to_json(net)
    return Feeder(net, read_network(NetworkFormat.PANDAPOWER, {"net.json": text.encode()}).network, p_kw, q_kvar)


def european_feeder() -> Feeder:
    """The European low-voltage test feeder, 907 buses and 55 single-phase customers, under seeded loads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = pandapower.networks.ieee_european_lv_asymmetric()
    text = utils.json_serialize(power_grid_model_data(net))
    network = read_network(NetworkFormat.POWER_GRID_MODEL, {"net.json": text.encode()}).network
    rng = np.random.default_rng(907)
    hours = np.arange(35_136) / 4.0 % 24.0
    evening = 0.3 + np.exp(-(((hours - 19.0) / 3.0) ** 2))
    level = 6.0 * evening[:, None] * rng.uniform(0.0, 1.0, (35_136, network.bus_count))
    p_kw = level[:, :, None] * (network.load_p_kw != 0.0)
    return Feeder(net, network, p_kw, 0.33 * p_kw)


def power_grid_model_data(net: pandapower.pandapowerNet) -> pgm.data_types.SingleDataset:
    """A net of pandapower by power-grid-model's own converter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if "vector_group" in net.trafo:
            net.trafo["vector_group"] = net.trafo["vector_group"].fillna("Dyn")
        data, _ = PandaPowerConverter().load_input_data(net, make_extra_info=False)
    return data
