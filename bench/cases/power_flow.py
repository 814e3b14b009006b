"""Power flows over time, beside pandapower's time series and power-grid-model's batches."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from bench.feeders import LV_RURAL, MV_URBAN, Feeder, european_feeder, simbench_feeder
from bench.pandapower_peer import time_series
from bench.power_grid_model_peer import METHODS, PowerGridModelPeer
from bench.registry import Outcome, Setting, case
from bench.timing import alternate, medians, shown, timed
from evflex.engine.grid import PowerFlow, prepare_grid, run_power_flow
from evflex.engine.supply_tree import FloatArray
from evflex.engine.workers import Workers

_STEPS, _WEEK, _PEER_STEPS = 10_000, 672, 2_672
# −1 is no thread but the caller's, 0 all there are
_THREADS = (-1, 0)


@case("power_flow", "Balanced power flows of SimBench's grids", sizes=(129, 136), generated=True, domain="congestion")
def power_flow(setting: Setting) -> Outcome:
    outcome = Outcome(notes=[
        "Steps of SimBench's year, one load a bus, voltages and loadings of all buses and branches from everybody. "
        "SimBench's transformers name no kind of tap changer, so pandapower would leave their taps aside and "
        "power-grid-model not: all are told that taps change the ratio.",
        "pandapower runs its time series with recycling and batch reading. It is timed at 672 and at 2 672 steps; its "
        "10 000 steps follow from the difference. power-grid-model is the fastest of Newton and iterative current, "
        "with one thread or all, to a tolerance of 1e-8.",
    ])  # fmt: skip
    for name, code, least in (("LV", LV_RURAL, 1.5), ("MV", MV_URBAN, 1.2)):
        feeder = simbench_feeder(code)
        _beside_pandapower(outcome, name, feeder, setting)
        for steps, at_least in ((setting.pick(_STEPS, 64), least), (setting.pick(_WEEK, 64), 1.5)):
            _beside_power_grid_model(outcome, f"{name}, {steps} steps", feeder, steps, at_least, setting)
    return outcome


@case(
    "three_phases", "Unbalanced power flow of the European LV feeder", sizes=(907,), generated=True, domain="congestion"
)
def three_phases(setting: Setting) -> Outcome:
    outcome = Outcome(notes=[
        "907 buses, 55 single-phase customers under seeded loads; the same file for power-grid-model's asymmetric flow "
        "and for us, which is its own conversion of pandapower's net.",
    ])  # fmt: skip
    feeder = european_feeder()
    steps = setting.pick(_WEEK, 32)
    found = _beside_power_grid_model(outcome, f"{steps} steps", feeder, steps, 1.0, setting)
    ours = _solver(feeder, steps)()
    buses = found.shape[1]
    outcome.add("difference", "Largest difference of a voltage from power-grid-model in pu",
                float(abs(ours.voltage_pu[:, :buses] - found).max()), at_most=1e-5)  # fmt: skip
    return outcome


def _solver(feeder: Feeder, steps: int) -> Callable[[], PowerFlow]:
    grid = prepare_grid(feeder.network)
    p_kw, q_kvar = feeder.p_kw[:steps], feeder.q_kvar[:steps]

    def run() -> PowerFlow:
        with Workers() as workers:
            return run_power_flow(grid, p_kw, q_kvar, workers=workers)

    return run


def _beside_pandapower(outcome: Outcome, name: str, feeder: Feeder, setting: Setting) -> None:
    week, more, many = setting.pick(_WEEK, 32), setting.pick(_PEER_STEPS, 64), setting.pick(_STEPS, 64)
    time_series(feeder, range(8))  # compiles
    for steps in (week, many):
        _solver(feeder, steps)()
    peer_week_s, peer_more_s = (timed(partial(time_series, feeder, range(n))) for n in (week, more))
    peer_many_s = peer_week_s + (peer_more_s - peer_week_s) / (more - week) * (many - week)
    outcome.seconds[f"pandapower, {name}, {week} steps"] = [peer_week_s]
    outcome.seconds[f"pandapower, {name}, {more} steps"] = [peer_more_s]
    for steps, peer_s, at_least in ((many, peer_many_s, 300.0), (week, peer_week_s, 200.0)):
        times = alternate({"evflex": _solver(feeder, steps)}, setting.pick(7), 20.0)["evflex"]
        outcome.seconds[f"evflex, {name}, {steps} steps"] = times
        ours_s = float(np.median(times))
        outcome.add(
            f"{name}_pandapower_{steps}", f"{name}, {steps} steps: faster than pandapower", peer_s / ours_s, "×",
            at_least=at_least, peer=f"{shown(ours_s)} beside {shown(peer_s)}: {steps / ours_s:.0f} flows a second",
        )  # fmt: skip
    voltage, loading = time_series(feeder, range(week))
    flow = _solver(feeder, week)()
    outcome.add(f"{name}_voltage", f"{name}: largest difference of a voltage from pandapower in pu",
                float(abs(flow.voltage_pu - voltage).max()), at_most=1e-6)  # fmt: skip
    outcome.add(f"{name}_loading", f"{name}: largest difference of a loading from pandapower",
                float(abs(flow.branch_loading_ratio - loading).max()))  # fmt: skip


def _beside_power_grid_model(
    outcome: Outcome, name: str, feeder: Feeder, steps: int, at_least: float, setting: Setting
) -> FloatArray:
    peer = PowerGridModelPeer(feeder, range(steps))
    ours = _solver(feeder, steps)
    ours()
    runs: dict[str, Callable[[], object]] = {f"evflex, {name}": ours}
    for method in METHODS:
        for threads in _THREADS:
            which = "one thread" if threads < 0 else "all threads"
            runs[f"power-grid-model, {name}, {method}, {which}"] = partial(peer.run, method, threads)
    times = alternate(runs, setting.pick(5), 60.0)
    outcome.seconds |= times
    typical = medians(times)
    ours_s = typical.pop(f"evflex, {name}")
    best = min(typical, key=lambda run: typical[run])
    outcome.add(
        f"{name}_power_grid_model".replace(", ", "_").replace(" steps", ""), f"{name}: faster than power-grid-model",
        typical[best] / ours_s, "×", at_least=at_least,
        peer=f"{shown(ours_s)} beside {shown(typical[best])}, {best.removeprefix(f'power-grid-model, {name}, ')}",
    )  # fmt: skip
    return peer.run("Newton", 0)[0]
