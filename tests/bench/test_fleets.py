"""Reference fleets: the same in every run, valid under the contract, and as they are described."""

from __future__ import annotations

import numpy as np
import pytest

from bench.elaad import elaad_folder, elaad_problem
from bench.fleets import FEEDERS, STEPS, Coupling, Variant, reference_problem
from evflex.engine.dispatch.model import DispatchProblem
from evflex.engine.validation import Rules


def broken(problem: DispatchProblem) -> list[object]:
    rules = Rules()
    problem.validate(rules)
    problem.fleet.validate(rules, problem.group_count, problem.operator_count)
    return list(rules.violations)


@pytest.mark.parametrize("coupling", list(Coupling))
@pytest.mark.parametrize(
    "can", [{}, {"distinct": True}, {"minimum": True}, {"discharging": True}, {"distinct": True, "minimum": True}]
)
def test_every_variant_is_valid(coupling: Coupling, can: dict[str, bool]) -> None:
    assert broken(reference_problem(300, 1, Variant(coupling=coupling, **can))) == []


def test_a_seed_gives_the_same_fleet_and_market() -> None:
    first, second, other = (reference_problem(100, seed) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first.fleet.energy_needed_kwh, second.fleet.energy_needed_kwh)
    np.testing.assert_array_equal(first.limits[0].upper_kw, second.limits[0].upper_kw)
    assert (first.fleet.energy_needed_kwh != other.fleet.energy_needed_kwh).any()
    assert (first.import_price_per_kwh != other.import_price_per_kwh).any()


def test_the_market_of_a_seed_is_the_same_in_every_variant() -> None:
    plain, other = reference_problem(50, 2), reference_problem(500, 2, Variant(discharging=True, distinct=True))
    np.testing.assert_array_equal(plain.import_price_per_kwh, other.import_price_per_kwh)
    np.testing.assert_allclose(plain.limits[0].upper_kw * 10.0, other.limits[0].upper_kw)


def test_stays_powers_and_energies_are_as_described() -> None:
    fleet = reference_problem(20_000).fleet
    stay = (fleet.available_until_unix_s - fleet.available_from_unix_s) / 900.0
    assert stay.min() >= 4
    assert stay.max() <= STEPS
    assert np.mean(fleet.max_charge_kw == 7.4) == pytest.approx(0.45, abs=0.02)
    assert np.median(fleet.energy_needed_kwh) == pytest.approx(np.exp(2.2), rel=0.05)
    assert (fleet.energy_needed_kwh <= 0.9 * fleet.max_charge_kw * stay * 0.25 + 1e-9).all()
    assert (fleet.energy_headroom_kwh <= fleet.max_charge_kw * stay * 0.25 + 1e-9).all()
    assert set(fleet.energy_value_per_kwh) == {0.0, 0.05, 0.10}
    assert set(reference_problem(500, 0, Variant(minimum=True)).fleet.min_charge_kw) == {1.38, 4.14}


def test_no_two_distinct_cars_merge() -> None:
    fleet = reference_problem(20_000, 0, Variant(distinct=True)).fleet
    windows = np.stack([fleet.available_from_unix_s, fleet.available_until_unix_s, fleet.max_charge_kw])
    assert np.unique(windows, axis=1).shape[1] == 20_000
    assert np.mean(fleet.available_from_unix_s % 900 == 0) < 0.01


def test_feeders_share_the_fleets_limit() -> None:
    problem = reference_problem(5000, 0, Variant(coupling=Coupling.FEEDERS_AND_FLEET))
    assert len(problem.limits) == FEEDERS + 1
    feeders_kw = np.sum([limit.upper_kw for limit in problem.limits[:FEEDERS]], axis=0)
    assert feeders_kw.mean() == pytest.approx(problem.limits[-1].upper_kw.mean(), rel=0.2)


@pytest.mark.shared_data
def test_cars_as_elaad_measures_them_are_valid() -> None:
    assert elaad_folder().is_dir()
    problem = elaad_problem(5000, 1)
    assert broken(problem) == []
    assert 8.0 < problem.fleet.energy_needed_kwh.mean() < 25.0
    arrival_h = (problem.fleet.available_from_unix_s - problem.grid.start_unix_s) / 3600.0
    assert 3.0 < np.median(arrival_h) < 10.0
