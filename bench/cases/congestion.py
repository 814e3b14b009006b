"""Forecasts of congestion: N-1 beside a loop of pandapower, relief and probabilities proven, a year over gRPC."""

from __future__ import annotations

import dataclasses
from functools import partial
from math import ceil

import numpy as np

from bench.feeders import LV_RURAL, MV_URBAN, Feeder, simbench_feeder
from bench.pandapower_peer import outages
from bench.registry import Outcome, Setting, case
from bench.timing import alternate, shown, timed
from evflex.engine.grid import (
    Congestion,
    CongestionKind,
    CongestionOptions,
    CongestionProblem,
    all_contingencies,
    forecast_congestion,
    prepare_grid,
    run_power_flow,
)
from evflex.engine.supply_tree import FloatArray
from evflex.engine.timegrid import TimeGrid
from evflex.engine.workers import Workers

_STEPS, _STEP_S = 96, 900.0
# What planners leave of a cable in a ring, so that it can carry the other half.
_MAX_LOADING = 0.5
_RELIEFS, _SAMPLES = 100, 10_000


@case("n_minus_1", "N-1 forecast of a medium-voltage grid", sizes=(136,), generated=True, domain="congestion")
def n_minus_1(setting: Setting) -> Outcome:
    outcome = Outcome(notes=[
        "SimBench's 1-MV-urban on the day of its highest load: every closed line and transformer is lost in turn, over "
        "96 quarter-hours, loadings held against 50 %, with the relief of each congestion; what an outage cuts off "
        "stays cut off. The second figure lets the open lines feed it back, which pandapower's loop does not try.",
        "pandapower solves the same outages and steps in a loop, each step beginning with the last one's voltages, and "
        "looks for nothing. A few outages are timed, the rest is multiplied.",
    ])  # fmt: skip
    feeder = simbench_feeder(MV_URBAN)
    problem = _day(feeder, setting.pick(_STEPS, 8))
    every = all_contingencies(feeder.network)
    problem = dataclasses.replace(
        problem,
        contingencies=every[: setting.pick(len(every), 4)],
        max_loading_ratio=np.full(feeder.network.branch_count, _MAX_LOADING),
    )
    branches = feeder.network.branches
    ties = np.flatnonzero(~(branches.from_closed & branches.to_closed))
    fed = dataclasses.replace(problem, tie_branches=ties)
    few = [_pandapower_branch(branches.branch_ids[k]) for k in problem.contingencies[:: max(1, len(every) // 4)]]
    first = _highest_day(feeder)
    outages(feeder, few[:1], range(first, first + 2))  # compiles
    peer_s = timed(lambda: outages(feeder, few, range(first, first + problem.grid.step_count)))
    peer_whole_s = peer_s * len(problem.contingencies) / len(few)
    outcome.seconds["pandapower, a few outages"] = [peer_s]
    for key, title, asked in (("all", "all branches", problem), ("fed", "all branches, with ties closed", fed)):
        with Workers() as workers:
            forecast_congestion(asked, workers=workers)
            times = alternate({"ours": partial(forecast_congestion, asked, workers=workers)}, setting.pick(5), 30.0)
            found = forecast_congestion(asked, workers=workers)
        ours_s = float(np.median(times["ours"]))
        outcome.seconds[f"evflex, {title}"] = times["ours"]
        outcome.add(
            key, f"N-1 of {title}: faster than a loop of pandapower", peer_whole_s / ours_s, "×",
            at_least=100.0 if key == "all" else None,
            peer=f"{shown(ours_s)} beside {shown(peer_whole_s)}; {len(found.congestions)} congestions, "
            f"{found.flows_solved} flows",
        )  # fmt: skip
    return outcome


@case("relief", "Relief and probability of congestions", sizes=(129, 136), generated=True, domain="congestion")
def relief(setting: Setting) -> Outcome:
    outcome = Outcome(notes=[
        "Random days of both grids with loads scaled until limits break. A relief is applied at its bus in a power "
        "flow of its own, in every step, whole and at 98 %. Probabilities are held against 10 000 samples through the "
        "power flow, standard deviations of a tenth of each load.",
    ])  # fmt: skip
    count = setting.pick(_RELIEFS, 3)
    cleared, needed, tried, unable = 0, 0, 0, 0
    errors: list[float] = []
    feeders = [simbench_feeder(code) for code in (LV_RURAL, MV_URBAN)]
    seed = 0
    while tried < count:
        feeder = feeders[seed % 2]
        rng = np.random.default_rng(seed)
        seed += 1
        problem = _stressed(feeder, rng)
        found = forecast_congestion(problem)
        chosen = [c for c in found.congestions if c.worst_step >= 0 and c.probability >= 1.0]
        for k in rng.permutation(len(chosen))[: ceil(count / 20)]:
            congestion = chosen[int(k)]
            if congestion.relief_bus < 0:
                unable += 1
                continue
            tried += 1
            cleared += _clears(problem, congestion, 1.0)
            needed += not _clears(problem, congestion, 0.98)
        if len(errors) < count:
            errors += _probability_errors(problem, rng, setting.pick(_SAMPLES, 200), setting.pick(4, 1))
    outcome.add("clears", f"Of {tried} congestions cleared by their relief", cleared / tried, "%", at_least=1.0)
    outcome.add("tight", "Of these not cleared by 98 % of it", needed / tried, "%", at_least=1.0)
    outcome.add("unable", "Congestions that no bus alone clears, told with the reason", float(unable))
    worst = max(errors)
    outcome.add(
        "probability", f"Largest error of {len(errors)} probabilities", worst, "%", at_most=0.02,
        peer=f"the median is {100.0 * float(np.median(errors)):.2f} %",
    )  # fmt: skip
    return outcome


def _highest_day(feeder: Feeder) -> int:
    """First step of the day whose total load is the highest."""
    total_kw = feeder.p_kw.sum(axis=1)[: 365 * _STEPS].reshape(365, _STEPS)
    return int(total_kw.max(axis=1).argmax()) * _STEPS


def _day(feeder: Feeder, steps: int) -> CongestionProblem:
    part = slice(_highest_day(feeder), _highest_day(feeder) + steps)
    return CongestionProblem(TimeGrid(0.0, _STEP_S, steps), feeder.network, feeder.p_kw[part], feeder.q_kvar[part])


def _pandapower_branch(branch_id: str) -> tuple[str, int]:
    table, index = branch_id.split()
    return table, int(index)


def _stressed(feeder: Feeder, rng: np.random.Generator) -> CongestionProblem:
    """A random day, its loads or its generation scaled until limits break."""
    first = int(rng.integers(0, 364)) * _STEPS
    part = slice(first, first + _STEPS)
    p_kw, q_kvar = feeder.p_kw[part], feeder.q_kvar[part]
    scale = rng.uniform(1.0, 3.0)
    for _ in range(12):
        problem = CongestionProblem(
            TimeGrid(0.0, _STEP_S, _STEPS), feeder.network, scale * p_kw, scale * q_kvar,
            voltage_min_pu=np.full(feeder.network.bus_count, 0.95),
            voltage_max_pu=np.full(feeder.network.bus_count, 1.06),
        )  # fmt: skip
        if len(forecast_congestion(problem, CongestionOptions(want_relief=False, want_worst=False)).congestions) >= 5:
            return problem
        scale *= 1.3
    return problem


def _clears(problem: CongestionProblem, congestion: Congestion, share: float) -> bool:
    """Whether a share of the relief keeps the limit in every step of the congestion that needs some."""
    steps = congestion.start_step + np.flatnonzero(congestion.relief_kw != 0.0)
    p_kw = problem.p_kw[steps].copy()
    p_kw[:, congestion.relief_bus] -= share * congestion.relief_kw[steps - congestion.start_step]
    flow = run_power_flow(prepare_grid(problem.network), p_kw, problem.q_kvar[steps])
    at = congestion.element
    if congestion.kind == CongestionKind.UNDERVOLTAGE:
        holds = flow.voltage_pu[:, at] >= congestion.limit * (1.0 - 1e-9)
    elif congestion.kind == CongestionKind.OVERVOLTAGE:
        holds = flow.voltage_pu[:, at] <= congestion.limit * (1.0 + 1e-9)
    else:
        holds = flow.branch_loading_ratio[:, at] <= congestion.limit * (1.0 + 1e-9)
    return bool(holds.all()) if share == 1.0 else bool(holds.any())


def _probability_errors(problem: CongestionProblem, rng: np.random.Generator, samples: int, steps: int) -> list[float]:
    """Differences of told probabilities from those of plain samples, in a few steps where something is uncertain."""
    spread = 0.1 * np.abs(problem.p_kw) + 1e-3
    uncertain = dataclasses.replace(problem, p_std_kw=spread)
    options = CongestionOptions(min_probability=0.01, want_relief=False, want_worst=False)
    told = forecast_congestion(uncertain, options).congestions
    doubtful = [
        (congestion, int(step))
        for congestion in told
        for step in np.flatnonzero((congestion.step_probability > 0.02) & (congestion.step_probability < 0.98))
    ]
    if not doubtful:
        return []
    errors = []
    grid = prepare_grid(problem.network)
    for k in rng.permutation(len(doubtful))[:steps]:
        congestion, offset = doubtful[int(k)]
        step = congestion.start_step + offset
        drawn: FloatArray = problem.p_kw[step] + spread[step] * rng.standard_normal(
            (samples, problem.network.bus_count)
        )
        flow = run_power_flow(grid, drawn, np.repeat(problem.q_kvar[step][None], samples, axis=0))
        if congestion.kind == CongestionKind.UNDERVOLTAGE:
            broken = flow.voltage_pu[:, congestion.element] < congestion.limit
        elif congestion.kind == CongestionKind.OVERVOLTAGE:
            broken = flow.voltage_pu[:, congestion.element] > congestion.limit
        else:
            broken = flow.branch_loading_ratio[:, congestion.element] > congestion.limit
        errors.append(abs(float(broken.mean()) - float(congestion.step_probability[offset])))
    return errors
