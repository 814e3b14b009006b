"""Each rule of a congestion problem, by field and index."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evflex.engine.grid.congestion_model import CongestionOptions, CongestionProblem
from evflex.engine.grid.forecast_congestion import forecast_congestion, prepare_congestion
from evflex.engine.timegrid import TimeGrid
from evflex.engine.validation import InvalidProblemError
from tests.engine.grid.networks import hand_made

_P = np.zeros((2, 3))
_ONE = np.zeros((2, 3))
_ONE[1, 2] = 1.0
_SOUND = CongestionProblem(TimeGrid(0.0, 900.0, 2), hand_made(3, [(0, 1), (1, 2), (0, 2)], opened=[2]), _P, _P)


def _bad(value: float) -> np.ndarray:
    return np.where(_ONE > 0.0, value, 0.0)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"grid": TimeGrid(0.0, 0.5, 2)}, "time_grid.step_duration"),
        ({"p_kw": np.zeros((3, 3))}, "p_kw"),
        ({"q_kvar": np.zeros((2, 4))}, "q_kvar"),
        ({"p_kw": _bad(np.nan)}, "p_kw[1][2]"),
        ({"q_kvar": _bad(np.inf)}, "q_kvar[1][2]"),
        ({"p_std_kw": _bad(-1.0)}, "p_std_kw[1][2]"),
        ({"q_std_kvar": np.zeros(3)}, "q_std_kvar"),
        ({"p_samples_kw": np.zeros((0, 2, 3))}, "p_samples_kw"),
        ({"p_samples_kw": np.stack([_P, _bad(np.nan)])}, "p_samples_kw[1][1][2]"),
        ({"p_samples_kw": np.zeros((4, 2, 3)), "q_samples_kvar": np.zeros((3, 2, 3))}, "q_samples_kvar"),
        ({"p_samples_kw": np.zeros((4, 2, 3)), "p_std_kw": _ONE}, "p_samples_kw"),
        ({"q_samples_kvar": np.zeros((4, 2, 3))}, "q_samples_kvar"),
        ({"voltage_min_pu": np.array([0.9, -0.9, 0.9])}, "voltage_min_pu[1]"),
        ({"voltage_max_pu": np.array([1.1, np.nan, 1.1])}, "voltage_max_pu[1]"),
        ({"voltage_max_pu": np.array([1.1, 1.1])}, "voltage_max_pu"),
        ({"voltage_min_pu": np.full(3, 0.9), "voltage_max_pu": np.array([1.1, 1.1, 0.9])}, "voltage_min_pu[2]"),
        ({"max_loading_ratio": np.array([1.0, 0.0, 1.0])}, "max_loading_ratio[1]"),
        ({"contingencies": np.array([0, 3])}, "contingencies[1]"),
        ({"contingencies": np.array([1, 0, 1])}, "contingencies[2]"),
        ({"tie_branches": np.array([-1])}, "tie_branches[0]"),
        ({"tie_branches": np.array([2, 2])}, "tie_branches[1]"),
        ({"tie_branches": np.array([2, 0])}, "tie_branches[1]"),
        ({"relief_buses": np.ones(4, dtype=bool)}, "relief_buses"),
    ],
)
def test_a_broken_rule_names_its_field(change: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidProblemError) as caught:
        forecast_congestion(replace(_SOUND, **change))  # type: ignore[arg-type]
    assert [violation.field for violation in caught.value.violations] == [field]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (CongestionOptions(min_probability=0.0), "min_probability"),
        (CongestionOptions(min_probability=np.nan), "min_probability"),
        (CongestionOptions(sample_count=3), "sample_count"),
        (CongestionOptions(seed=-1), "seed"),
    ],
)
def test_a_broken_rule_of_options_names_its_field(options: CongestionOptions, field: str) -> None:
    with pytest.raises(InvalidProblemError) as caught:
        forecast_congestion(_SOUND, options)
    assert [violation.field for violation in caught.value.violations] == [field]


def test_a_stream_refuses_bad_input_before_its_first_finding() -> None:
    with pytest.raises(InvalidProblemError):
        prepare_congestion(replace(_SOUND, p_kw=np.zeros((3, 3))), CongestionOptions())


def test_a_network_of_three_phases_wants_injections_by_phase() -> None:
    network = replace(_SOUND.network, phase_count=3, load_p_kw=np.zeros((3, 3)), load_q_kvar=np.zeros((3, 3)))
    with pytest.raises(InvalidProblemError, match=r"must have shape \(2, 3, 3\)"):
        forecast_congestion(replace(_SOUND, network=network))


def test_every_fault_is_told_at_once() -> None:
    bad = replace(_SOUND, p_kw=_bad(np.nan), contingencies=np.array([9]))
    with pytest.raises(InvalidProblemError) as caught:
        forecast_congestion(bad, CongestionOptions(seed=-1))
    assert caught.value.total == 3
