"""Peers plan the same sites: their optima agree with each other, with known optima and with the engine."""

from __future__ import annotations

import numpy as np
import pytest

from bench import cvxpy_peer
from bench.cases.ours import Planned
from bench.highs_peer import LP_MODES, fastest_lp, linear_program, mixed_program, mode_options, solve
from bench.instances import generated_site, shared_site
from evflex.engine.charging import optimize_schedule
from evflex.server.charging.decode import decode_request

SITE = generated_site(4)
EXACT: dict[str, str | int | float] = {"mip_rel_gap": 0.0}


def test_every_way_to_write_the_program_has_the_same_optimum() -> None:
    optimum = solve(linear_program(SITE)).objective
    for mode, options in LP_MODES.items():
        for explicit in (True, False):
            answer = solve(linear_program(SITE, explicit_shortfall=explicit), options)
            assert answer.objective == pytest.approx(optimum, rel=1e-5), mode
    for solver in cvxpy_peer.SOLVERS:
        assert cvxpy_peer.plan(SITE, solver) == pytest.approx(optimum, rel=1e-5)


def test_the_fastest_mode_is_one_that_was_measured() -> None:
    name, program, seconds = fastest_lp(SITE)
    assert seconds[name] == min(seconds.values())
    assert solve(program, mode_options(name)).optimal


@pytest.mark.parametrize("asked", [{}, {"start_cost": 0.05}, {"quantum_a": 1.0}])
def test_programs_with_integers_have_the_engines_optimum(asked: dict[str, float]) -> None:
    best = solve(mixed_program(SITE, **asked), EXACT)  # type: ignore[arg-type]
    named = {{"quantum_a": "current_quantum_a"}.get(name, name): value for name, value in asked.items()}
    ended = optimize_schedule(SITE.problem(), SITE.options(1e-6, **named)).termination
    assert best.optimal
    assert ended.objective_bound <= best.objective + 1e-5
    assert best.objective <= ended.objective + 1e-5


def test_semi_continuous_powers_are_the_same_program() -> None:
    binaries = solve(mixed_program(SITE), EXACT)
    assert solve(mixed_program(SITE, semi_continuous=True), EXACT).objective == pytest.approx(binaries.objective)


@pytest.mark.shared_data
def test_the_shared_instance_has_its_known_optima() -> None:
    assert solve(linear_program(shared_site(10))).objective == pytest.approx(25.502280, abs=1e-6)
    assert solve(mixed_program(shared_site(10), semi_continuous=True)).objective == pytest.approx(25.504974, abs=3e-5)


def test_a_plan_is_checked_by_its_powers() -> None:
    ours = Planned(SITE, SITE.options(1e-3))
    power_kw = ours().power_kw
    assert ours.broken() == []
    assert SITE.faults(np.where(power_kw > 0.0, 0.5 * SITE.min_kw[:, None], 0.0)) == ["below its minimum"]
    assert "limit exceeded" in SITE.faults(np.full_like(power_kw, 30.0))
    assert "charges while away" in SITE.faults(np.full_like(power_kw, 30.0))


def test_a_request_says_what_the_problem_says() -> None:
    decoded = decode_request(SITE.message("site", 1e-3), 60.0)
    problem = SITE.problem()
    assert decoded.violations() == []
    for name in ("arrival_unix_s", "departure_unix_s", "energy_needed_kwh", "max_charge_kw", "min_charge_kw", "phases"):
        np.testing.assert_array_equal(getattr(decoded.problem.sessions, name), getattr(problem.sessions, name))
    np.testing.assert_array_equal(decoded.problem.nodes.max_import_kw[0], SITE.limit_kw)
    np.testing.assert_array_equal(decoded.problem.tariff.import_price_per_kwh, SITE.price_per_kwh)


def test_samples_keep_the_site_in_proportion() -> None:
    site = generated_site(20)
    small, large = site.subsample(5, 1), site.resample(100, 1)
    assert (small.count, large.count) == (5, 100)
    np.testing.assert_allclose(small.limit_kw, site.limit_kw / 4.0)
    np.testing.assert_allclose(large.limit_kw, 5.0 * site.limit_kw)
    assert (large.depart > large.arrive).all()
    assert (large.depart <= large.steps).all()
    np.testing.assert_array_equal(small.energy_kwh, site.subsample(5, 1).energy_kwh)
