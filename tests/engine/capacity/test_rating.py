"""Headroom and broken limits against a twin, and what each rule means in small cases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from evflex.engine.capacity.allocation import Rating
from evflex.engine.capacity.batch_rating import rate_transformers, simulate_transformers
from evflex.engine.capacity.model import BindingReason, RatingProblem
from evflex.engine.capacity.rating import rate_transformer
from evflex.engine.capacity.thermal import initial_state
from evflex.engine.capacity.transformer import BaseLoad, Cooling, ThermalParameters, ThermalState, Transformer
from evflex.engine.supply_tree import FloatArray
from evflex.engine.timegrid import TimeGrid
from evflex.engine.validation import InvalidProblemError
from tests.engine.capacity.reference import thermal_twin
from tests.engine.capacity.reference.instances import batch_of, rating_problem

STEPS, RATED = 96, 400.0
NAMES = {
    BindingReason.LOADING_RATIO: "loading",
    BindingReason.CONTINGENCY: "loading",
    BindingReason.HOT_SPOT: "hot_spot",
    BindingReason.TOP_OIL: "top_oil",
    BindingReason.LOSS_OF_LIFE: "loss_of_life",
}


def day(
    load_ratio: float | FloatArray = 0.5, ambient_c: float = 10.0, steps: int = STEPS, **of_transformer: float
) -> RatingProblem:
    load = np.full(steps, RATED) * load_ratio
    transformer = Transformer(
        RATED,
        ThermalParameters.of(Cooling.ONAN),
        np.full(steps, ambient_c),
        **of_transformer,  # type: ignore[arg-type]
    )
    grid, all_steps = TimeGrid(0.0, 900.0, steps), np.ones(steps, dtype=bool)
    return RatingProblem(grid, transformer, BaseLoad.balanced(load), ~all_steps, RATED, all_steps)


def window(first: int, last: int, steps: int = STEPS) -> np.ndarray:
    wanted = np.zeros(steps, dtype=bool)
    wanted[first:last] = True
    return wanted


def levels(problem: RatingProblem, headroom_kva: FloatArray) -> FloatArray:
    kw = problem.base.phase_kw + headroom_kva[:, None] / 3
    ratio: FloatArray = 3 * np.hypot(kw, problem.base.phase_kvar).max(axis=1) / problem.transformer.rated_kva
    return ratio


@given(seed=st.integers(0, 2**32 - 1))
def test_adding_the_headroom_breaks_nothing_more(seed: int) -> None:
    problem = rating_problem(np.random.default_rng(seed))
    rating = rate_transformer(problem)
    for headroom, in_n1 in ((rating.headroom_n_kva, False), (rating.headroom_n1_kva, True)):
        assert (headroom >= 0).all()
        assert not headroom[~problem.wanted].any()
        before = thermal_twin.broken(problem, np.zeros_like(headroom).tolist(), in_n1)
        after = thermal_twin.broken(problem, headroom.tolist(), in_n1)
        # by step and limit, and by no more than before
        allowed = {(step, name): excess for step, name, excess in before}
        assert all(excess <= allowed.get((step, name), 0.0) + 1e-7 for step, name, excess in after)


# limits of steps bend what Newton's method follows, so that it leads nowhere
@example(seed=11998499)
@given(seed=st.integers(0, 2**32 - 1))
def test_no_common_level_could_be_higher(seed: int) -> None:
    rng = np.random.default_rng(seed)
    problem = rating_problem(rng, steps=int(rng.integers(1, 24)))
    headroom = rate_transformer(problem).headroom_n_kva
    most = problem.transformer.max_loading_ratio
    cap = np.where(problem.contingency, min(most, problem.n1_rated_kva / problem.transformer.rated_kva), most)
    level = levels(problem, headroom)
    base = levels(problem, np.zeros_like(headroom))
    if thermal_twin.broken(problem, [0.0] * len(headroom)):
        return
    for k in np.flatnonzero(problem.wanted & (level > base + 1e-9) & (level < cap - 1e-6)).tolist():
        # the steps that share this level rise together
        rising = problem.wanted & (level > base + 1e-9) & (abs(level - level[k]) < 1e-9)
        most_kva = np.minimum(level + 4e-6, cap) * problem.transformer.rated_kva / 3
        active_kw = np.sqrt(most_kva[:, None] ** 2 - np.minimum(problem.base.phase_kvar**2, most_kva[:, None] ** 2))
        more = np.where(rising, 3 * (active_kw - problem.base.phase_kw).min(axis=1), headroom)
        assert thermal_twin.broken(problem, more.tolist()), k


@given(seed=st.integers(0, 2**32 - 1))
def test_what_the_load_breaks_by_itself_is_what_the_twin_finds(seed: int) -> None:
    problem = rating_problem(np.random.default_rng(seed))
    rating = rate_transformer(problem)
    twin = thermal_twin.broken(problem, [0.0] * problem.grid.step_count)
    for name in ("hot_spot", "top_oil"):
        found = [(v.step, v.excess) for v in rating.violations if NAMES[v.reason] == name]
        expected = [(step, excess) for step, kind, excess in twin if kind == name]
        np.testing.assert_allclose(np.array(found), np.array(expected), atol=1e-7)
    loading = {v.step for v in rating.violations if NAMES[v.reason] == "loading"}
    assert loading == {step for step, kind, _ in twin if kind == "loading"}
    lost = [v.excess for v in rating.violations if v.reason == BindingReason.LOSS_OF_LIFE]
    np.testing.assert_allclose(
        lost, [excess for _, kind, excess in twin if kind == "loss_of_life"], rtol=1e-7, atol=1e-9
    )
    assert [v.step for v in rating.violations] == sorted(v.step for v in rating.violations)


def test_short_overload_after_a_cold_night_is_used_and_a_long_one_is_not() -> None:
    problem = day(0.4, ambient_c=0.0, max_loading_ratio=2.5)
    short = rate_transformer(replace(problem, wanted=window(32, 34)))
    long = rate_transformer(replace(problem, wanted=window(32, 64)))
    steady_ratio = levels(problem, long.headroom_n_kva)[32]
    assert steady_ratio < 1.4
    assert (levels(problem, short.headroom_n_kva)[32:34] > steady_ratio + 0.3).all()
    assert short.headroom_n_kva[34:].max() == 0.0


def test_one_percent_more_in_the_window_breaks_the_hot_spot() -> None:
    problem = replace(day(0.4), wanted=window(30, 50))
    headroom = rate_transformer(problem).headroom_n_kva
    assert not thermal_twin.broken(problem, headroom.tolist())
    assert {name for _, name, _ in thermal_twin.broken(problem, (1.01 * headroom).tolist())} == {"hot_spot"}


def test_loading_limit_alone_gives_the_headroom_of_a_cold_transformer() -> None:
    problem = day(0.5, ambient_c=-10.0, max_loading_ratio=1.1)
    rating = rate_transformer(problem)
    np.testing.assert_allclose(rating.headroom_n_kva, 0.6 * RATED, rtol=1e-12)
    np.testing.assert_allclose(rating.headroom_n1_kva, 0.5 * RATED, rtol=1e-12)


def test_export_gives_headroom_on_top_of_the_rating() -> None:
    load = np.full(STEPS, 0.2)
    load[40:56] = -0.7
    rating = rate_transformer(day(load, ambient_c=-10.0, max_loading_ratio=1.0))
    np.testing.assert_allclose(rating.headroom_n_kva[40:56], 1.7 * RATED, rtol=1e-12)
    np.testing.assert_allclose(rating.loading_ratio[40:56], 0.7)


def test_reactive_power_and_the_most_loaded_phase_leave_less() -> None:
    problem = day(0.0, ambient_c=-10.0, max_loading_ratio=1.0)
    kw, kvar = np.zeros((STEPS, 3)), np.zeros((STEPS, 3))
    kw[:, 1], kvar[:, 2] = 0.5 * RATED / 3, 0.6 * RATED / 3
    rating = rate_transformer(replace(problem, base=BaseLoad(kw, kvar, np.full(3, 230.0))))
    np.testing.assert_allclose(rating.headroom_n_kva, 0.5 * RATED, rtol=1e-12)
    kvar[:, 2] = 0.95 * RATED / 3
    rating = rate_transformer(replace(problem, base=BaseLoad(kw, kvar, np.full(3, 230.0))))
    np.testing.assert_allclose(rating.headroom_n_kva, np.sqrt(1 - 0.95**2) * RATED, rtol=1e-12)


def test_contingency_limits_its_own_steps_to_the_n1_rating() -> None:
    problem = replace(day(0.5, ambient_c=-10.0), contingency=window(40, 44), n1_rated_kva=0.8 * RATED)
    rating = rate_transformer(problem)
    np.testing.assert_allclose(rating.headroom_n_kva[40:44], 0.3 * RATED, rtol=1e-12)
    assert rating.headroom_n_kva[:40].min() > 0.4 * RATED
    np.testing.assert_allclose(rating.headroom_n1_kva, 0.3 * RATED, rtol=1e-12)


def test_load_above_the_n1_rating_is_reported_by_phase() -> None:
    problem = replace(day(0.5), contingency=window(40, 41), n1_rated_kva=0.4 * RATED)
    kw = problem.base.phase_kw.copy()
    kw[40] = RATED / 3 * np.array([0.3, 0.45, 0.2])
    rating = rate_transformer(replace(problem, base=replace(problem.base, phase_kw=kw)))
    (found,) = rating.violations
    assert (found.step, found.reason, found.phase, found.hub) == (40, BindingReason.CONTINGENCY, 2, -1)
    assert found.limit == pytest.approx(0.4 * RATED)
    assert found.excess == pytest.approx(0.05 * RATED)
    assert rating.headroom_n_kva[40] == 0.0
    assert rating.headroom_n_kva[41] > 0.0


def test_loss_of_life_binds_in_each_day_and_the_rest_of_a_day_pro_rata() -> None:
    problem = day(0.4, ambient_c=20.0, steps=2 * STEPS + 48, max_loss_of_life_h_per_day=6.0)
    rating = rate_transformer(problem)
    after = replace(problem, base=BaseLoad.balanced(problem.base.phase_kw.sum(axis=1) + rating.headroom_n_kva))
    lost_h = rate_transformer(after).loss_of_life_h
    assert lost_h[:STEPS].sum() == pytest.approx(6.0, rel=1e-4)
    assert lost_h[STEPS : 2 * STEPS].sum() == pytest.approx(6.0, rel=1e-4)
    assert lost_h[2 * STEPS :].sum() == pytest.approx(3.0, rel=1e-4)


def test_loss_of_life_that_the_load_exceeds_is_reported_where_the_limit_is_passed() -> None:
    rating = rate_transformer(day(1.0, ambient_c=20.0, max_loss_of_life_h_per_day=12.0))
    (found,) = [v for v in rating.violations if v.reason == BindingReason.LOSS_OF_LIFE]
    assert found.step == 48
    assert found.excess == pytest.approx(12.0, rel=1e-6)
    assert rating.headroom_n_kva.max() == 0.0


def test_steps_before_an_instant_that_the_load_breaks_have_no_headroom_and_steps_after_recover() -> None:
    load = np.full(STEPS, 0.5)
    load[40:48] = 1.6
    rating = rate_transformer(day(load, ambient_c=20.0, max_loading_ratio=2.0))
    broken = [v.step for v in rating.violations]
    assert broken
    assert rating.headroom_n_kva[: max(broken) + 1].max() == 0.0
    assert (rating.headroom_n_kva[max(broken) + 1 :] > 0.0).all()


def test_higher_limits_give_no_lower_first_level() -> None:
    problem = day(0.5, ambient_c=20.0)
    lows = [
        rate_transformer(
            replace(problem, transformer=replace(problem.transformer, max_hot_spot_c=limit))
        ).headroom_n_kva.min()
        for limit in (90.0, 100.0, 110.0, 120.0, 130.0)
    ]
    assert (np.diff(lows) > 0.0).all()


def test_a_warmer_day_leaves_less() -> None:
    lows = [rate_transformer(day(0.5, ambient_c=c)).headroom_n_kva.min() for c in (-10.0, 0.0, 10.0, 20.0, 30.0)]
    assert (np.diff(lows) < 0.0).all()


def test_given_state_is_where_the_rating_starts() -> None:
    problem = day(0.5)
    hot = replace(problem, transformer=replace(problem.transformer, initial_state=ThermalState(95.0, 30.0, 15.0)))
    assert rate_transformer(hot).top_oil_c[0] > rate_transformer(problem).top_oil_c[0] + 10.0


@given(seed=st.integers(0, 2**32 - 1))
def test_a_batch_is_each_of_its_transformers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    steps, step_s = int(rng.integers(1, 50)), float(rng.choice([300.0, 900.0, 3600.0, 7 * 3600.0 + 90.0]))
    problems = []
    for _ in range(int(rng.choice([1, 3, 90]))):
        problem = rating_problem(rng, steps, step_s)
        problems.append(replace(problem, base=BaseLoad.balanced(problem.base.phase_kw.sum(axis=1))))
    starts = [initial_state(p.transformer, p.base.loading_kva[0] / p.transformer.rated_kva) for p in problems]
    batch = batch_of(problems, starts)
    rated = rate_transformers(batch)
    for i, problem in enumerate(problems):
        single = rate_transformer(problem)
        assert_column(single, rated.temperatures.top_oil_c[:, i], "top_oil_c", 1e-9)
        assert_column(single, rated.temperatures.hot_spot_c[:, i], "hot_spot_c", 1e-9)
        np.testing.assert_allclose(rated.temperatures.loss_of_life_h[:, i], single.loss_of_life_h, rtol=1e-9)
        tolerance = 1e-6 * problem.transformer.rated_kva
        assert_column(single, rated.headroom_n_kva[:, i], "headroom_n_kva", tolerance)
        assert_column(single, rated.headroom_n1_kva[:, i], "headroom_n1_kva", tolerance)
        assert bool(rated.broken[i]) == bool(single.violations)
        assert rated.temperatures.state(i).hot_spot_c == pytest.approx(single.final_state.hot_spot_c, abs=1e-9)


def assert_column(single: Rating, column: FloatArray, name: str, tolerance: float) -> None:
    np.testing.assert_allclose(column, getattr(single, name), atol=tolerance, rtol=0, err_msg=name)


def test_batch_without_states_starts_from_the_steady_states() -> None:
    problem = day(0.7)
    batch = batch_of([problem, problem], [ThermalState(0.0, 0.0, 0.0)] * 2)
    found = simulate_transformers(replace(batch, initial_state=None))
    np.testing.assert_allclose(found.hot_spot_c[:, 1], rate_transformer(problem).hot_spot_c, atol=1e-9)


def test_faults_of_a_problem_are_named() -> None:
    problem = day(0.5)
    ambient = problem.transformer.ambient_c.copy()
    ambient[7] = 99.0
    bad = replace(
        problem,
        transformer=replace(problem.transformer, rated_kva=0.0, ambient_c=ambient),
        n1_rated_kva=-1.0,
        wanted=np.ones(3, dtype=bool),
    )
    with pytest.raises(InvalidProblemError) as caught:
        rate_transformer(bad)
    assert {v.field for v in caught.value.violations} == {
        "transformer.rated_kva", "transformer.ambient_c[7]", "n1_rated_kva", "wanted",
    }  # fmt: skip


def test_faults_of_a_batch_are_named_with_their_index() -> None:
    problem = day(0.5)
    good = batch_of([problem] * 3, [ThermalState(20.0, 0.0, 0.0)] * 3)
    loading, parameters = good.loading_ratio.copy(), good.thermal_parameters.copy()
    loading[5, 1], parameters[2, 4] = np.nan, 0.5
    states, rated = np.array(good.initial_state), good.rated_kva.copy()
    states[0, 1], rated[2] = -1.0, 0.0
    bad = replace(
        good, loading_ratio=loading, thermal_parameters=parameters, initial_state=states, rated_kva=rated,
        wanted=good.wanted[:4], max_loss_of_life_h_per_day=np.array([1.0, -1.0, np.nan]),
    )  # fmt: skip
    with pytest.raises(InvalidProblemError) as caught:
        rate_transformers(bad)
    assert {v.field for v in caught.value.violations} == {
        "loading_ratio[5, 1]", "thermal_parameters[2].winding_exponent", "initial_state[0]", "rated_kva[2]", "wanted",
        "max_loss_of_life_h_per_day[1]", "max_loss_of_life_h_per_day[2]",
    }  # fmt: skip
