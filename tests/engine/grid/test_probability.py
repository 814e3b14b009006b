"""Probabilities against plain Monte Carlo and against what is known exactly."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from evflex.engine.grid import probability
from evflex.engine.grid.congestion_model import CongestionKind, CongestionOptions, CongestionProblem
from evflex.engine.grid.congestion_report import Congestion, CongestionForecast
from evflex.engine.grid.forecast_congestion import forecast_congestion
from evflex.engine.grid.network import Network
from evflex.engine.grid.power_flow import PowerFlow, run_power_flow
from evflex.engine.grid.prepared import prepare_grid
from evflex.engine.grid.probability import tail_probability
from evflex.engine.timegrid import TimeGrid
from tests.conftest import SOAK
from tests.engine.grid.networks import hand_made

_PLAIN = 10_000
_NO_RELIEF = CongestionOptions(want_relief=False)


@pytest.mark.parametrize(
    "terms",
    [
        (0.3, 1.0, 0.0), (-2.0, -0.5, 0.0), (1.0, 0.0, 0.0), (-1.0, 0.0, 0.0), (-1.0, 0.4, 0.8), (0.5, 2.0, -0.7),
        (1.0, 0.1, 1.0), (-1.0, 0.1, -1.0), (0.0, 1.0, 0.5), (-0.7, 1.0, 1e-13), (0.4, 0.0, -0.3),
    ],
)  # fmt: skip
def test_tail_of_a_parabola_is_its_integral(terms: tuple[float, float, float]) -> None:
    constant, linear, square = terms
    roots = [r.real for r in np.roots([square, linear, constant]) if abs(r.imag) < 1e-12 and abs(r.real) < 9.0]
    ends = [-9.0, *sorted(roots), 9.0]
    exact = sum(
        quad(norm.pdf, a, b)[0]
        for a, b in pairwise(ends)
        if constant + linear * 0.5 * (a + b) + square * (0.5 * (a + b)) ** 2 > 0.0
    )
    found = tail_probability(*(np.array([value]) for value in terms))
    assert found[0] == pytest.approx(exact, abs=1e-9)


def _random_problem(seed: int) -> CongestionProblem:
    """A feeder with a loop, three steps of consumption to production, deviations that differ by bus."""
    random = np.random.default_rng(seed)
    n = 12
    ends = [(int(random.integers(max(0, i - 3), i)), i) for i in range(1, n)]
    ends += [(2, n - 1)]
    m = len(ends)
    network = hand_made(n, ends, random.uniform(0.005, 0.02, m), random.uniform(0.005, 0.02, m), rated_kva=1000.0)
    p_kw = random.uniform(0.0, 300.0, (3, n)) * np.array([1.2, 0.1, -1.0])[:, None]
    p_std, q_std = random.uniform(0.1, 0.6, (2, 3, n)) * np.abs(p_kw) + 5.0
    problem = CongestionProblem(
        TimeGrid(0.0, 900.0, 3), network, p_kw, 0.3 * p_kw, p_std, 0.3 * q_std, contingencies=np.array([4, m - 1])
    )
    # limits that the values come near to
    flow = run_power_flow(prepare_grid(network), p_kw, 0.3 * p_kw)
    low, high = flow.voltage_pu.min(axis=0), flow.voltage_pu.max(axis=0)
    least = low - random.uniform(-1.0, 2.0, n) * 0.004 - 1e-3
    most = high + random.uniform(-1.0, 2.0, n) * 0.004 + 1e-3
    return replace(
        problem, voltage_min_pu=least, voltage_max_pu=np.maximum(most, least + 1e-3),
        max_loading_ratio=np.maximum(flow.branch_loading_ratio.max(axis=0) * random.uniform(0.8, 1.3, m), 0.05),
    )  # fmt: skip


def _without(network: Network, lost: int) -> Network:
    closed = network.branches.from_closed.copy()
    if lost >= 0:
        closed[lost] = False
    return replace(network, branches=replace(network.branches, from_closed=closed, to_closed=closed))


def _breaks(flow: PowerFlow, congestion: Congestion) -> np.ndarray:
    if congestion.kind == CongestionKind.UNDERVOLTAGE:
        return flow.voltage_pu[:, congestion.element] < congestion.limit
    if congestion.kind == CongestionKind.OVERVOLTAGE:
        return flow.voltage_pu[:, congestion.element] > congestion.limit
    return flow.branch_loading_ratio[:, congestion.element] > congestion.limit


@pytest.mark.parametrize("seed", range(10 if SOAK else 2))
def test_probabilities_are_those_of_plain_samples(seed: int) -> None:
    problem = _random_problem(seed)
    assert problem.p_std_kw is not None
    assert problem.q_std_kvar is not None
    found = forecast_congestion(problem, _NO_RELIEF)
    random = np.random.default_rng(1000 + seed)
    in_doubt = 0
    for contingency in (-1, *problem.contingencies.tolist()):
        grid = prepare_grid(_without(problem.network, contingency))
        for step in range(3):
            p = problem.p_kw[step] + problem.p_std_kw[step] * random.standard_normal((_PLAIN, 12))
            q = problem.q_kvar[step] + problem.q_std_kvar[step] * random.standard_normal((_PLAIN, 12))
            flow = run_power_flow(grid, p, q)
            reported = _reported(found, contingency, step)
            for key, (congestion, estimate) in reported.items():
                plain = float(_breaks(flow, congestion).mean())
                assert estimate == pytest.approx(plain, abs=0.02), key
                in_doubt += 0.02 < plain < 0.98
            _assert_rest_is_unlikely(problem, flow, reported)
    assert in_doubt > 20
    # far below what plain samples of each step take
    assert found.flows_solved < 0.2 * 9 * _PLAIN


def _reported(
    found: CongestionForecast, contingency: int, step: int
) -> dict[tuple[int, int], tuple[Congestion, float]]:
    return {
        (int(c.kind), c.element): (c, float(c.step_probability[step - c.start_step]))
        for c in found.congestions
        if c.contingency == contingency and c.start_step <= step < c.end_step
    }


def _assert_rest_is_unlikely(
    problem: CongestionProblem, flow: PowerFlow, reported: dict[tuple[int, int], tuple[Congestion, float]]
) -> None:
    assert problem.voltage_min_pu is not None
    assert problem.voltage_max_pu is not None
    assert problem.max_loading_ratio is not None
    for kind, breaks in (
        (CongestionKind.LINE_OVERLOAD, flow.branch_loading_ratio > problem.max_loading_ratio),
        (CongestionKind.UNDERVOLTAGE, flow.voltage_pu < problem.voltage_min_pu),
        (CongestionKind.OVERVOLTAGE, flow.voltage_pu > problem.voltage_max_pu),
    ):
        for element, plain in enumerate(breaks.mean(axis=0).tolist()):
            assert (int(kind), element) in reported or plain < 0.05 + 0.02


def _one_line(load_kw: float, rated_kva: float = 500.0) -> CongestionProblem:
    network = hand_made(2, [(0, 1)], 0.001, 0.001, rated_kva=rated_kva)
    p_kw = np.array([[0.0, load_kw]])
    return CongestionProblem(TimeGrid(0.0, 900.0, 1), network, p_kw, 0.0 * p_kw)


def test_a_limit_that_holds_as_expected_is_reported_with_its_probability() -> None:
    problem = replace(_one_line(480.0), p_std_kw=np.array([[0.0, 20.0]]))
    (congestion,) = forecast_congestion(problem).congestions
    # nearly one deviation short of the rating
    assert congestion.probability == pytest.approx(norm.sf(1.0), abs=0.02)
    assert congestion.worst_value < congestion.limit
    assert (congestion.relief_bus, congestion.relief_kw.tolist()) == (-1, [0.0])


def test_what_is_less_likely_than_wanted_is_left_out() -> None:
    problem = replace(_one_line(480.0), p_std_kw=np.array([[0.0, 20.0]]))
    assert not forecast_congestion(problem, CongestionOptions(min_probability=0.25)).congestions


def test_far_from_its_limit_a_value_costs_no_samples() -> None:
    problem = replace(_one_line(300.0), p_std_kw=np.array([[0.0, 20.0]]))
    found = forecast_congestion(problem)
    assert not found.congestions
    assert found.flows_solved < 10


def test_an_expected_violation_far_beyond_the_limit_is_certain() -> None:
    problem = replace(_one_line(900.0), p_std_kw=np.array([[0.0, 20.0]]))
    (congestion,) = forecast_congestion(problem, _NO_RELIEF).congestions
    assert congestion.probability == 1.0


def test_no_deviation_at_all_is_certainty() -> None:
    problem = replace(_one_line(900.0), p_std_kw=np.zeros((1, 2)), q_std_kvar=np.zeros((1, 2)))
    (congestion,) = forecast_congestion(problem).congestions
    assert congestion.probability == 1.0


def test_samples_are_counted() -> None:
    loads = np.array([450.0, 470.0, 520.0, 530.0, 540.0])
    samples = np.zeros((5, 1, 2))
    samples[:, 0, 1] = loads
    (congestion,) = forecast_congestion(replace(_one_line(480.0), p_samples_kw=samples)).congestions
    assert congestion.probability == pytest.approx(3 / 5)
    reactive = np.zeros((5, 1, 2))
    reactive[0, 0, 1] = 400.0
    both = replace(_one_line(480.0), p_samples_kw=samples, q_samples_kvar=reactive)
    assert forecast_congestion(both).congestions[0].probability == pytest.approx(4 / 5)


def test_a_sample_without_a_solution_breaks_low_voltages_only() -> None:
    network = hand_made(2, [(0, 1)], 0.0, 0.1, rated_kva=1e6)
    samples = np.zeros((4, 1, 2))
    samples[0, 0, 1] = 9000.0
    p_kw = np.zeros((1, 2))
    problem = CongestionProblem(TimeGrid(0.0, 900.0, 1), network, p_kw, p_kw, p_samples_kw=samples)
    found = forecast_congestion(problem, _NO_RELIEF).congestions
    assert [(c.kind, c.element, c.probability) for c in found] == [
        (CongestionKind.UNDERVOLTAGE, 0, 0.25), (CongestionKind.UNDERVOLTAGE, 1, 0.25),
    ]  # fmt: skip


def test_the_same_seed_gives_the_same_answer() -> None:
    problem = _random_problem(7)
    one, other = (forecast_congestion(problem, replace(_NO_RELIEF, seed=3)) for _ in range(2))
    assert [c.probability for c in one.congestions] == [c.probability for c in other.congestions]


def test_slopes_too_many_to_keep_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = _random_problem(5)
    whole = forecast_congestion(problem, _NO_RELIEF)
    monkeypatch.setattr(probability, "_MOST_SLOPES", 1)
    parts = forecast_congestion(problem, _NO_RELIEF)
    assert len(whole.congestions) == len(parts.congestions)
    for one, other in zip(whole.congestions, parts.congestions, strict=True):
        np.testing.assert_allclose(one.step_probability, other.step_probability, atol=1e-3)
