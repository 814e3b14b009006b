"""Forecasts of congestion against pandapower, outage by outage."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from evflex.engine.grid.congestion_model import (
    CongestionKind,
    CongestionOptions,
    CongestionProblem,
    all_contingencies,
)
from evflex.engine.grid.congestion_report import Congestion, CongestionForecast
from evflex.engine.grid.forecast_congestion import forecast_congestion, prepare_congestion
from evflex.engine.timegrid import TimeGrid
from evflex.engine.workers import Workers
from tests.engine.grid.networks import from_pandapower, hand_made
from tests.engine.grid.peers import random_net, solve, solve_with

if TYPE_CHECKING:
    from pandapower import pandapowerNet

_NO_RELIEF = CongestionOptions(want_relief=False)


def _named(name: str) -> pandapowerNet:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name == "case14":
            import pandapower.networks

            return pandapower.networks.case14()
        import simbench

        return simbench.get_simbench_net(name)


@pytest.mark.parametrize("name", ["case14", "1-LV-rural1--0-no_sw"])
def test_worst_values_are_those_of_a_loop_over_outages(name: str) -> None:
    net = _named(name)
    flows = [solve(net)]
    network = from_pandapower(net)
    lost = np.flatnonzero(network.branches.from_closed).tolist()
    for k in lost:
        table, row = (net.line, k) if k < len(net.line) else (net.trafo, k - len(net.line))
        table.iloc[row, table.columns.get_loc("in_service")] = False
        flows.append(solve(net))
        table.iloc[row, table.columns.get_loc("in_service")] = True
    voltage = np.stack([flow.voltage_pu for flow in flows])
    loading = np.stack([flow.loading_ratio for flow in flows])

    found = forecast_congestion(
        CongestionProblem(
            TimeGrid(0.0, 900.0, 1), network, network.load_p_kw[None], network.load_q_kvar[None],
            contingencies=np.array(lost),
        ),
        _NO_RELIEF,
    )  # fmt: skip

    worst = found.worst
    assert worst is not None
    np.testing.assert_allclose(worst.voltage_min_pu[0], np.nanmin(voltage, axis=0), atol=1e-7)
    np.testing.assert_allclose(worst.voltage_max_pu[0], np.nanmax(voltage, axis=0), atol=1e-7)
    np.testing.assert_allclose(worst.loading_ratio[0], np.nanmax(loading, axis=0), atol=1e-7)
    at = np.searchsorted([-1, *lost], worst.loading_contingency[0])
    np.testing.assert_allclose(loading[at, np.arange(loading.shape[1])], worst.loading_ratio[0], atol=1e-7)
    at = np.searchsorted([-1, *lost], worst.voltage_min_contingency[0])
    np.testing.assert_allclose(voltage[at, np.arange(voltage.shape[1])], worst.voltage_min_pu[0], atol=1e-7)
    assert found.flows_solved == 1 + len(lost)


def _problem(seed: int, *, loops: int = 2) -> tuple[pandapowerNet, CongestionProblem]:
    random = np.random.default_rng(seed)
    net = random_net(random, 9, loops)
    solve(net)
    steps = 6
    p_kw = random.uniform(-200.0, 900.0, (steps, 9)) * np.linspace(-1.2, 1.5, steps)[:, None]
    lost = random.choice(len(net.line), 3, replace=False)
    problem = CongestionProblem(
        TimeGrid(0.0, 900.0, steps), from_pandapower(net), p_kw, 0.3 * p_kw, voltage_min_pu=np.full(9, 0.985),
        voltage_max_pu=np.full(9, 1.025), max_loading_ratio=np.full(len(net.line), 0.6), contingencies=lost,
    )  # fmt: skip
    return net, problem


def _by_pandapower(net: pandapowerNet, problem: CongestionProblem) -> Iterator[tuple[int, int, int, int, int, float]]:
    """Kind, element, contingency, first step, end and worst value of each congestion."""
    assert problem.voltage_min_pu is not None
    assert problem.voltage_max_pu is not None
    assert problem.max_loading_ratio is not None
    for lost in [-1, *problem.contingencies.tolist()]:
        flows = [solve_with(net, p, q, lost) for p, q in zip(problem.p_kw, problem.q_kvar, strict=True)]
        rows = [
            (CongestionKind.LINE_OVERLOAD, 1.0, problem.max_loading_ratio, [flow.loading_ratio for flow in flows]),
            (CongestionKind.UNDERVOLTAGE, -1.0, problem.voltage_min_pu, [flow.voltage_pu for flow in flows]),
            (CongestionKind.OVERVOLTAGE, 1.0, problem.voltage_max_pu, [flow.voltage_pu for flow in flows]),
        ]
        for kind, sign, limit, values in rows:
            for element in range(len(limit)):
                course = sign * (np.array(values)[:, element])
                step = 0
                while step < len(course):
                    end = step
                    while end < len(course) and course[end] > sign * limit[element]:
                        end += 1
                    if end > step:
                        yield int(kind), element, lost, step, end, sign * course[step:end].max()
                    step = end + 1


@pytest.mark.parametrize("seed", [1, 2])
def test_congestions_are_the_steps_in_a_row_that_pandapower_finds(seed: int) -> None:
    net, problem = _problem(seed)
    expected = sorted(_by_pandapower(net, problem))
    assert len({row[0] for row in expected}) == 3
    found = forecast_congestion(problem, _NO_RELIEF)
    rows = sorted(
        (int(c.kind), c.element, c.contingency, c.start_step, c.end_step, c.worst_value) for c in found.congestions
    )
    assert [row[:5] for row in rows] == [row[:5] for row in expected]
    np.testing.assert_allclose([row[5] for row in rows], [row[5] for row in expected], atol=1e-7)
    assert all(c.probability == 1.0 and (c.step_probability == 1.0).all() for c in found.congestions)
    assert all(c.relief_bus == -1 and np.isnan(c.relief_kw).all() for c in found.congestions)


def test_a_transformer_is_told_from_a_line() -> None:
    network = hand_made(3, [(0, 1), (1, 2)], rated_kva=100.0, transformers=[0])
    p_kw = np.array([[0.0, 0.0, 150.0]])
    found = forecast_congestion(CongestionProblem(TimeGrid(0.0, 900.0, 1), network, p_kw, 0.0 * p_kw))
    assert [c.kind for c in found.congestions] == [CongestionKind.TRANSFORMER_OVERLOAD, CongestionKind.LINE_OVERLOAD]


def test_limits_default_to_the_networks_own() -> None:
    network = hand_made(3, [(0, 1), (1, 2)], 0.05, 0.05)
    own = replace(network.buses, voltage_min_pu=np.array([np.nan, np.nan, 0.98]))
    p_kw = np.array([[0.0, 0.0, 300.0]])
    problem = CongestionProblem(TimeGrid(0.0, 900.0, 1), replace(network, buses=own), p_kw, 0.0 * p_kw)
    found = forecast_congestion(problem)
    assert [(c.kind, c.element, c.limit) for c in found.congestions] == [(CongestionKind.UNDERVOLTAGE, 2, 0.98)]


def test_what_does_not_converge_is_reported_with_its_distance() -> None:
    network = hand_made(3, [(0, 1), (1, 2)], 0.0, 0.1)
    p_kw = np.array([[0.0, 0.0, 100.0], [0.0, 0.0, 3000.0], [0.0, 0.0, 6000.0]])
    problem = CongestionProblem(TimeGrid(0.0, 900.0, 3), network, p_kw, 0.0 * p_kw)
    found = forecast_congestion(problem)
    (failed,) = found.not_converged
    assert (failed.contingency, failed.steps.tolist(), failed.heaviest_step) == (-1, [1, 2], 2)
    # V² / (2X) over both lines
    assert failed.nearest is not None
    assert failed.nearest.ratio == pytest.approx(1000.0 / 0.4 / 6000.0, rel=2e-5)
    assert failed.nearest.weakest_bus == 2
    assert not found.congestions


def test_the_answer_does_not_depend_on_threads() -> None:
    _, problem = _problem(3)
    problem = replace(problem, p_std_kw=np.full(problem.p_kw.shape, 60.0))
    alone = forecast_congestion(problem)
    assert alone.congestions
    for count in (2, 3):
        with Workers(count) as workers:
            _assert_same(alone, forecast_congestion(problem, workers=workers))


def test_a_stream_tells_the_same_with_its_progress() -> None:
    _, problem = _problem(4)
    whole = forecast_congestion(problem)
    search = prepare_congestion(problem, CongestionOptions())
    with Workers(2) as workers:
        rows = workers.each(search.findings, range(len(search.contingencies)))
    assert [row.contingency for row in rows] == [-1, *problem.contingencies.tolist()]
    assert [(row.done_count, row.total_count) for row in rows] == [(i + 1, 4) for i in range(4)]
    assert sum(row.flows_solved for row in rows) == whole.flows_solved
    streamed = tuple(c for row in rows for c in row.congestions)
    _assert_same(whole, replace(whole, congestions=streamed))


def test_worst_values_are_left_out_where_nobody_wants_them() -> None:
    _, problem = _problem(5)
    assert forecast_congestion(problem, CongestionOptions(want_worst=False)).worst is None


def test_all_branches_of_a_network_can_be_lost() -> None:
    _, problem = _problem(6)
    every = all_contingencies(problem.network)
    found = forecast_congestion(replace(problem, contingencies=every), _NO_RELIEF)
    assert found.flows_solved == problem.grid.step_count * (1 + len(every))


def _assert_same(one: CongestionForecast, other: CongestionForecast) -> None:
    def row(congestion: Congestion) -> dict[str, object]:
        return {
            name: value.tobytes() if isinstance(value, np.ndarray) else value
            for name, value in asdict(congestion).items()
        }

    assert [row(c) for c in one.congestions] == [row(c) for c in other.congestions]
    assert one.flows_solved == other.flows_solved
    assert one.worst is not None
    assert other.worst is not None
    for name in ("loading_ratio", "loading_contingency", "voltage_min_pu", "voltage_max_contingency"):
        np.testing.assert_array_equal(getattr(one.worst, name), getattr(other.worst, name))
