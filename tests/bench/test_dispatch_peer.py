"""The dispatch peer's program has the optimum of the reference model, and of problems that can be solved by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.fleets import FEEDERS, STEPS, Coupling, Variant, feeder_problem, reference_problem
from bench.highs_dispatch_peer import (
    DISPATCH_MODES,
    LOOSE_MODES,
    available,
    dispatch_program,
    solve_dispatch,
    solve_one_by_one,
    try_modes,
)
from bench.highs_peer import Options
from evflex.engine.dispatch.model import (
    AssetKind,
    DispatchProblem,
    Fleet,
    LimitScope,
    PortfolioLimit,
    Profiles,
)
from evflex.engine.timegrid import TimeGrid
from tests.engine.dispatch.reference.reference_lp import solve

VARIANTS = [
    Variant(),
    Variant(distinct=True),
    Variant(discharging=True),
    Variant(discharging=True, distinct=True, coupling=Coupling.RESERVES),
    Variant(coupling=Coupling.FEEDERS_AND_FLEET),
    Variant(coupling=Coupling.TARGET),
    Variant(coupling=Coupling.RESERVES),
]
HOUR = TimeGrid(0.0, 3600.0, 2)


def by_hand(limit_kw: float, **columns: float) -> DispatchProblem:
    """One car, two hours at 0.1 and 0.3."""
    given = {"max_charge_kw": 10.0, "energy_needed_kwh": 8.0, "shortfall_price_per_kwh": 1.0} | columns
    limit = PortfolioLimit(LimitScope.FLEET, 0, np.full(2, -np.inf), np.full(2, limit_kw), 0.5)
    price = np.array([0.1, 0.3])
    return DispatchProblem(HOUR, Fleet.of(1, given), Profiles.none(2), price, price, (limit,))


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_the_program_has_the_optimum_of_the_reference(variant: Variant) -> None:
    problem = reference_problem(5, 3, variant)
    answer = solve_dispatch(dispatch_program(problem), "dual simplex")
    assert answer.objective == pytest.approx(solve(problem).objective, rel=1e-6)


@pytest.mark.parametrize(
    ("limit_kw", "columns", "cost"),
    [
        (10.0, {}, 0.8),
        (5.0, {}, 5 * 0.1 + 3 * 0.3),
        # beyond the limit of 2 kW a kWh costs 0.1 + 0.5 in the first hour, 0.3 + 0.5 in the second
        (2.0, {}, 2 * 0.1 + 2 * 0.3 + 4 * 0.6),
        (2.0, {"shortfall_price_per_kwh": 0.4}, 2 * 0.1 + 2 * 0.3 + 4 * 0.4),
        (10.0, {"energy_headroom_kwh": 12.0, "energy_value_per_kwh": 0.25}, 10 * 0.1 - 2 * 0.25),
        (10.0, {"charge_efficiency": 0.8}, 10 * 0.1),
        (10.0, {"available_until_unix_s": 1800}, 5 * 0.1 + 3 * 1.0),
        # buys 10 kWh and sells what is not needed
        (10.0, {"max_discharge_kw": 1.5, "energy_headroom_kwh": 20.0}, 9.5 * 0.1 - 1.5 * 0.3),
    ],
)
def test_one_car_costs_what_a_hand_can_compute(limit_kw: float, columns: dict[str, float], cost: float) -> None:
    problem = by_hand(limit_kw, **columns)
    assert solve_dispatch(dispatch_program(problem), "dual simplex").objective == pytest.approx(cost)
    assert solve(problem).objective == pytest.approx(cost)


@pytest.mark.parametrize(("modes", "tolerance"), [(DISPATCH_MODES, 1e-6), (LOOSE_MODES, 1e-3)])
def test_every_mode_has_the_same_optimum(modes: dict[str, Options], tolerance: float) -> None:
    program = dispatch_program(reference_problem(20))
    exact = solve_dispatch(program, "dual simplex").objective
    answers = try_modes(program, available(modes), 60.0, patience=100.0)
    assert any(mode.startswith("interior point") for mode in answers)
    for mode, answer in answers.items():
        assert answer.objective == pytest.approx(exact, rel=tolerance), mode
        assert answer.solve_s > 0.0


def test_feeders_that_share_nothing_add_up() -> None:
    problem = reference_problem(120, 1, Variant(coupling=Coupling.FEEDERS))
    alone = [feeder_problem(problem, group) for group in range(FEEDERS)]
    assert sum(len(part.fleet) for part in alone) == 120
    total = sum(
        answer.objective for answer in solve_one_by_one([part for part in alone if len(part.fleet)], "dual simplex")
    )
    whole = solve_dispatch(dispatch_program(problem), "dual simplex").objective
    assert total == pytest.approx(whole, rel=1e-6)


def test_other_assets_are_refused() -> None:
    problem = reference_problem(2)
    pv = replace(problem.fleet, kind=np.full(2, AssetKind.PV, dtype=np.uint8))
    with pytest.raises(ValueError, match="vehicles and batteries"):
        dispatch_program(replace(problem, fleet=pv))


def test_presence_within_a_step_is_a_share_of_it() -> None:
    problem = reference_problem(40, 0, Variant(distinct=True))
    assert problem.grid.step_count == STEPS
    fleet = problem.fleet
    ratio = problem.grid.presence_ratio(
        fleet.available_from_unix_s.astype(np.float64), fleet.available_until_unix_s.astype(np.float64)
    )
    lp = dispatch_program(problem).lp
    cells = int((ratio > 0.0).sum())
    np.testing.assert_allclose(np.asarray(lp.col_upper_)[:cells].sum(), (ratio.T * fleet.max_charge_kw).sum())
