"""Relief clears congestions, and 98 % of it does not, as pandapower has it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evflex.engine.grid.congestion_model import CongestionKind, CongestionProblem
from evflex.engine.grid.congestion_report import Congestion, ReliefObstacle
from evflex.engine.grid.forecast_congestion import forecast_congestion
from evflex.engine.supply_tree import FloatArray
from evflex.engine.timegrid import TimeGrid
from tests.conftest import SOAK
from tests.engine.grid.networks import from_pandapower, hand_made
from tests.engine.grid.peers import PeerFlow, random_net, solve, solve_with

_PER_SEED = 5


@pytest.mark.parametrize("seed", range(24 if SOAK else 3))
def test_relief_clears_a_congestion_and_a_little_less_does_not(seed: int) -> None:
    random = np.random.default_rng(seed)
    net = random_net(random, 10, loops=seed % 3)
    solve(net)
    # production in the first steps, consumption in the last
    p_kw = random.uniform(-100.0, 600.0, (4, 10)) * np.array([-1.5, -0.8, 0.8, 1.5])[:, None]
    q_kvar = random.uniform(-0.1, 0.4, (4, 10)) * p_kw
    problem = CongestionProblem(
        TimeGrid(0.0, 900.0, 4), from_pandapower(net), p_kw, q_kvar, voltage_min_pu=np.full(10, 0.98),
        voltage_max_pu=np.full(10, 1.03), max_loading_ratio=np.full(len(net.line), 0.5),
        contingencies=random.choice(len(net.line), 3, replace=False),
    )  # fmt: skip
    cleared = [c for c in forecast_congestion(problem).congestions if c.relief_bus >= 0]
    assert cleared
    for index in random.permutation(len(cleared))[:_PER_SEED].tolist():
        congestion = cleared[index]
        step = int(random.integers(congestion.start_step, congestion.end_step))
        relief = congestion.relief_kw[step - congestion.start_step]
        excess = []
        for share in (0.0, 0.98, 1.0):
            p = p_kw[step].copy()
            p[congestion.relief_bus] -= share * relief
            excess.append(_excess(solve_with(net, p, q_kvar[step], congestion.contingency), congestion))
        assert excess[0] > 0.0
        assert excess[1] > 0.0
        assert excess[2] <= 1e-9 * congestion.limit


def _excess(flow: PeerFlow, congestion: Congestion) -> float:
    if congestion.kind == CongestionKind.UNDERVOLTAGE:
        return congestion.limit - float(flow.voltage_pu[congestion.element])
    if congestion.kind == CongestionKind.OVERVOLTAGE:
        return float(flow.voltage_pu[congestion.element]) - congestion.limit
    return float(flow.loading_ratio[congestion.element]) - congestion.limit


def _feeder(p_kw: list[float], q_kvar: list[float] | None = None, **changes: object) -> CongestionProblem:
    """A source, and buses 1–2–3 behind it in a row; branch 0 carries 500 kVA."""
    rated = np.array([500.0, np.nan, np.nan])
    network = hand_made(4, [(0, 1), (1, 2), (2, 3)], 0.02, 0.02, rated_kva=rated)
    drawn = np.array([p_kw])
    reactive = 0.0 * drawn if q_kvar is None else np.array([q_kvar])
    problem = CongestionProblem(TimeGrid(0.0, 900.0, 1), network, drawn, reactive)
    return replace(problem, **changes)  # type: ignore[arg-type]


def _only(problem: CongestionProblem, kind: CongestionKind) -> Congestion:
    (found,) = [c for c in forecast_congestion(problem).congestions if c.kind == kind]
    return found


def test_an_overload_is_relieved_where_losses_fall_most() -> None:
    congestion = _only(_feeder([0.0, 200.0, 200.0, 200.0]), CongestionKind.LINE_OVERLOAD)
    assert congestion.relief_bus == 3
    # what is drawn above the rating, less the losses saved
    assert 80.0 < congestion.relief_kw[0] < 125.0


def test_reverse_flow_is_relieved_by_drawing_more() -> None:
    congestion = _only(_feeder([0.0, -200.0, -200.0, -200.0]), CongestionKind.LINE_OVERLOAD)
    assert congestion.relief_kw[0] < 0.0


def test_a_high_voltage_is_relieved_by_drawing_more_at_its_bus() -> None:
    high = np.array([1.1, 1.1, 1.1, 1.01])
    congestion = _only(_feeder([0.0, 0.0, -100.0, -200.0], voltage_max_pu=high), CongestionKind.OVERVOLTAGE)
    assert (congestion.relief_bus, congestion.element) == (3, 3)
    assert congestion.relief_kw[0] < 0.0


def test_relief_is_offered_only_where_flexibility_may_be() -> None:
    mask = np.array([True, False, True, False])
    congestion = _only(_feeder([0.0, 200.0, 200.0, 200.0], relief_buses=mask), CongestionKind.LINE_OVERLOAD)
    assert congestion.relief_bus == 2


def test_of_buses_alike_the_first_is_taken() -> None:
    network = hand_made(5, [(0, 1), (1, 2), (1, 3), (1, 4)], rated_kva=np.array([500.0, np.nan, np.nan, np.nan]))
    p_kw = np.array([[0.0, 0.0, 200.0, 200.0, 200.0]])
    congestion = _only(
        CongestionProblem(TimeGrid(0.0, 900.0, 1), network, p_kw, 0.0 * p_kw), CongestionKind.LINE_OVERLOAD
    )
    assert congestion.relief_bus == 2


@pytest.mark.parametrize("mask", [np.zeros(4, dtype=bool), np.array([True, False, False, False])])
def test_without_a_bus_of_effect_that_is_the_obstacle(mask: np.ndarray) -> None:
    congestion = _only(_feeder([0.0, 200.0, 200.0, 200.0], relief_buses=mask), CongestionKind.LINE_OVERLOAD)
    assert (congestion.relief_bus, congestion.relief_obstacle) == (-1, ReliefObstacle.NO_EFFECT)
    assert np.isnan(congestion.relief_kw).all()


def test_a_bus_of_another_feeder_has_no_effect() -> None:
    network = hand_made(3, [(0, 1), (0, 2)], rated_kva=np.array([500.0, np.nan]))
    p_kw = np.array([[0.0, 600.0, 300.0]])
    mask = np.array([False, False, True])
    problem = CongestionProblem(TimeGrid(0.0, 900.0, 1), network, p_kw, 0.3 * p_kw, relief_buses=mask)
    assert _only(problem, CongestionKind.LINE_OVERLOAD).relief_obstacle == ReliefObstacle.NO_EFFECT


def test_an_overload_by_reactive_power_is_not_cleared_by_active_power() -> None:
    problem = _feeder([0.0, 100.0, 100.0, 100.0], [0.0, 0.0, 0.0, 600.0])
    congestion = _only(problem, CongestionKind.LINE_OVERLOAD)
    assert (congestion.relief_bus, congestion.relief_obstacle) == (-1, ReliefObstacle.REVERSED)
    assert np.isnan(congestion.relief_kw).all()


def test_where_the_best_bus_collapses_a_stiffer_one_serves() -> None:
    # 3 hangs behind so much impedance that it can feed back a little only; its losses make it the best at first
    ends = [(0, 1), (1, 2), (1, 3)]
    r_pu, x_pu = np.array([0.001, 0.001, 2.0]), np.array([0.001, 0.001, 8.0])
    network = hand_made(4, ends, r_pu, x_pu, rated_kva=np.array([500.0, np.nan, np.nan]))
    p_kw = np.array([[0.0, 500.0, 500.0, 5.0]])
    problem = CongestionProblem(TimeGrid(0.0, 900.0, 1), network, p_kw, 0.0 * p_kw)
    assert _only(problem, CongestionKind.LINE_OVERLOAD).relief_bus == 1
    only_there = replace(problem, relief_buses=np.array([False, False, False, True]))
    congestion = _only(only_there, CongestionKind.LINE_OVERLOAD)
    assert (congestion.relief_bus, congestion.relief_obstacle) == (-1, ReliefObstacle.COLLAPSE)


def test_one_bus_serves_all_steps_and_steps_within_limits_need_none() -> None:
    course: FloatArray = np.array([550.0, 900.0, 0.0, 700.0])
    p_kw = course[:, None] * np.array([0.0, 0.0, 0.5, 0.5])
    problem = replace(_feeder([0.0] * 4), grid=TimeGrid(0.0, 900.0, 4), p_kw=p_kw, q_kvar=0.0 * p_kw)
    first, last = (c for c in forecast_congestion(problem).congestions if c.kind == CongestionKind.LINE_OVERLOAD)
    assert [(c.start_step, c.end_step) for c in (first, last)] == [(0, 2), (3, 4)]
    assert 0.0 < first.relief_kw[0] < last.relief_kw[0] < first.relief_kw[1]
