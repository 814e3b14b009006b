"""What outages cut off, and which ties feed it back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evflex.engine.grid.congestion_model import CongestionOptions, CongestionProblem, all_contingencies
from evflex.engine.grid.congestion_report import CongestionForecast
from evflex.engine.grid.forecast_congestion import forecast_congestion
from evflex.engine.grid.network import Network
from evflex.engine.timegrid import TimeGrid
from tests.engine.grid.networks import hand_made

_OPTIONS = CongestionOptions(want_relief=False)
# two feeders: 0–1–2–3 and 0–4–5, and ties from 3 to 5
_FEEDERS = [(0, 1), (1, 2), (2, 3), (0, 4), (4, 5)]


def _forecast(network: Network, lost: list[int], ties: list[int], load_kw: float = 100.0) -> CongestionForecast:
    p_kw = np.full((2, network.bus_count), load_kw)
    p_kw[1] *= 0.5
    problem = CongestionProblem(
        TimeGrid(0.0, 900.0, 2), network, p_kw, 0.2 * p_kw, contingencies=np.array(lost, dtype=np.int64),
        tie_branches=np.array(ties, dtype=np.int64),
    )  # fmt: skip
    return forecast_congestion(problem, _OPTIONS)


def test_without_ties_the_buses_behind_an_outage_are_an_island() -> None:
    found = _forecast(hand_made(6, _FEEDERS), [1, 4], [])
    assert [island.contingency for island in found.islands] == [1, 4]
    np.testing.assert_array_equal(found.islands[0].buses, [2, 3])
    np.testing.assert_allclose(found.islands[0].unserved_kw, [200.0, 100.0])
    np.testing.assert_array_equal(found.islands[1].buses, [5])
    assert found.flows_solved == 3 * 2


def test_production_on_an_island_serves_no_one() -> None:
    network = hand_made(3, [(0, 1), (1, 2)])
    p_kw = np.array([[0.0, 30.0, -50.0]])
    problem = CongestionProblem(TimeGrid(0.0, 900.0, 1), network, p_kw, 0.0 * p_kw, contingencies=np.array([0]))
    assert forecast_congestion(problem, _OPTIONS).islands[0].unserved_kw == pytest.approx([30.0])


def test_what_no_source_reaches_in_the_sound_network_is_told_once() -> None:
    found = _forecast(hand_made(6, _FEEDERS, opened=[4]), [0], [])
    assert [(island.contingency, island.buses.tolist()) for island in found.islands] == [(-1, [5]), (0, [1, 2, 3])]


@pytest.mark.parametrize("is_switch", [False, True])
def test_a_tie_feeds_an_island_back(is_switch: bool) -> None:
    network = hand_made(6, [*_FEEDERS, (3, 5)], opened=[5], switches=[5] if is_switch else [])
    found = _forecast(network, [0, 1, 3], [5])
    assert found.closed_ties == {0: (5,), 1: (5,), 3: (5,)}
    assert not found.islands
    # in the worst case all that both feeders draw flows through either root
    assert found.worst is not None
    np.testing.assert_array_equal(found.worst.voltage_min_contingency[0, [1, 4]], [0, 3])


def test_a_tie_that_lies_elsewhere_is_left_open() -> None:
    network = hand_made(6, [*_FEEDERS, (1, 4)], opened=[5])
    found = _forecast(network, [2], [5])
    assert not found.closed_ties
    np.testing.assert_array_equal(found.islands[0].buses, [3])


def test_the_tie_within_limits_is_chosen_then_that_of_least_losses() -> None:
    # branches 5, 6 and 7 may feed 3 back: the first is too weak, the last has the lowest resistance
    ends = [*_FEEDERS, (3, 5), (3, 4), (3, 0)]
    r_pu = np.array([0.01] * 5 + [0.001, 0.05, 0.03])
    rated = np.array([np.nan] * 5 + [150.0, 400.0, 400.0])
    network = hand_made(6, ends, r_pu, rated_kva=rated, opened=[5, 6, 7])
    assert _forecast(network, [1], [5, 6, 7]).closed_ties == {1: (7,)}
    assert _forecast(network, [1], [5, 6]).closed_ties == {1: (6,)}
    alone = _forecast(network, [1], [5])
    assert alone.closed_ties == {1: (5,)}
    assert [(c.element, c.contingency, c.closed_ties) for c in alone.congestions] == [(5, 1, (5,))]


def test_two_ties_are_closed_where_one_is_too_weak() -> None:
    ends = [*_FEEDERS, (3, 5), (2, 4)]
    rated = np.array([np.nan] * 5 + [150.0, 190.0])
    network = hand_made(6, ends, rated_kva=rated, opened=[5, 6])
    found = _forecast(network, [1], [5, 6])
    assert found.closed_ties == {1: (5, 6)}
    assert not found.congestions


def test_two_ties_are_closed_where_they_lead_through_a_dead_bus() -> None:
    network = hand_made(7, [*_FEEDERS, (3, 6), (6, 5)], opened=[5, 6])
    found = _forecast(network, [1], [5, 6])
    assert found.closed_ties == {1: (5, 6)}
    assert [island.contingency for island in found.islands] == [-1]


def test_ties_that_join_sources_of_different_voltage_are_never_closed_together() -> None:
    # the load behind branch 1 is too much for either tie, and both together would join the sources 0 and 3
    network = hand_made(4, [(0, 1), (1, 2), (2, 3), (0, 2)], opened=[2, 3], switches=[2, 3], sources=(0, 3))
    apart = replace(network, sources=replace(network.sources, voltage_pu=np.array([1.0, 1.02])))
    found = _forecast(apart, [0], [2, 3], load_kw=9000.0)
    assert found.closed_ties == {0: (2,)}
    assert any(congestion.contingency == 0 for congestion in found.congestions)


def test_an_outage_of_what_is_open_is_skipped_and_told() -> None:
    network = hand_made(6, [*_FEEDERS, (3, 5)], opened=[5])
    found = _forecast(network, [5, 2], [])
    assert found.skipped == (5,)
    assert [island.contingency for island in found.islands] == [2]


def test_all_contingencies_are_closed_lines_and_transformers() -> None:
    network = hand_made(6, [*_FEEDERS, (3, 5)], opened=[5], switches=[2], transformers=[0])
    np.testing.assert_array_equal(all_contingencies(network), [0, 1, 3, 4])


def test_a_switch_can_be_lost() -> None:
    network = hand_made(6, _FEEDERS, switches=[1])
    np.testing.assert_array_equal(_forecast(network, [1], []).islands[0].buses, [2, 3])


def test_a_second_tie_is_not_closed_for_little() -> None:
    # branch 0 is overloaded already in the sound network, whatever is closed between the feeders behind it
    ends = [(0, 1), (1, 2), (2, 3), (1, 4), (4, 5), (3, 5), (2, 4)]
    rated = np.array([100.0] + [np.nan] * 6)
    network = hand_made(6, ends, rated_kva=rated, opened=[5, 6])
    assert _forecast(network, [1], [5, 6]).closed_ties == {1: (6,)}
