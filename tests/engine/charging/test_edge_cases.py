"""Edges of the input: nothing to do, nothing allowed, everything equal, odd grids and odd stays."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from evflex.engine.charging import optimize_schedule
from evflex.engine.charging.model import (
    DepartureBeyondHorizon,
    ScheduleOptions,
    ScheduleProblem,
    Sessions,
    Tariff,
)
from evflex.engine.charging.schedule import Schedule
from evflex.engine.supply_tree import SupplyNodes
from evflex.engine.timegrid import TimeGrid
from evflex.engine.validation import InvalidProblemError
from tests.engine.charging.reference.builders import START_UNIX_S, cars, site
from tests.engine.charging.reference.compare import differences

STRICT = ScheduleOptions(relative_gap=1e-6)


def planned(problem: ScheduleProblem, options: ScheduleOptions = STRICT) -> Schedule:
    """The plan, after it passed checker and reference."""
    schedule = optimize_schedule(problem, options)
    assert differences(problem, options, schedule) == []
    return schedule


def test_no_sessions() -> None:
    schedule = planned(site(cars([], [], []), [0.1, 0.2], fixed_kw=[3.0, -1.0], limit_kw=2.0))
    assert schedule.power_kw.shape == (0, 2)
    assert schedule.termination.objective == pytest.approx(0.0)
    assert schedule.limit_violations.amount.tolist() == pytest.approx([1.0])


def test_one_step() -> None:
    assert planned(site(cars([0], [1], [4.0]), [0.1])).power_kw.tolist() == [[pytest.approx(4.0)]]


def test_a_stay_inside_one_step() -> None:
    schedule = planned(site(cars([1.25], [1.75], [9.0], min_charge_kw=4.0), [0.1, 0.2, 0.1]))
    np.testing.assert_allclose(schedule.power_kw, [[0.0, 5.0, 0.0]], atol=1e-6)
    assert schedule.current_a[0, 1] == pytest.approx(10_000.0 / 690.0)


def test_a_stay_of_no_length() -> None:
    schedule = planned(site(cars([1, 0.5], [1, 0.5], [3.0, 1.0]), [0.1, 0.2]))
    assert not schedule.power_kw.any()
    np.testing.assert_allclose(schedule.sessions.shortfall_kwh, [3.0, 1.0])


def test_stays_before_and_after_the_grid() -> None:
    schedule = planned(site(cars([-5, 4], [-1, 9], [3.0, 1.0]), [0.1, 0.2]))
    assert not schedule.power_kw.any()


def test_departure_beyond_the_horizon_is_wanted_within_it() -> None:
    problem = site(cars([0], [8], [12.0], max_kw=2.0), [0.1] * 4)
    assert planned(problem).sessions.delivered_kwh[0] == pytest.approx(8.0)


def test_departure_beyond_the_horizon_pro_rata() -> None:
    options = ScheduleOptions(relative_gap=1e-6, departure_beyond_horizon=DepartureBeyondHorizon.PRO_RATA)
    problem = site(cars([1, 6, -2], [7, 8, 8], [12.0, 3.0, 8.0], max_kw=9.0), [0.1] * 4)
    np.testing.assert_allclose(planned(problem, options).sessions.delivered_kwh, [6.0, 0.0, 4.0], atol=1e-6)


@pytest.mark.parametrize("price", [0.0, -0.2, 0.15])
def test_equal_prices_charge_early(price: float) -> None:
    schedule = planned(site(cars([0, 1], [4, 4], [6.0, 3.0], max_kw=6.0), [price] * 4))
    np.testing.assert_allclose(schedule.power_kw, [[6, 0, 0, 0], [0, 3, 0, 0]], atol=1e-5)


def test_negative_prices_fill_the_headroom_only_where_energy_fits() -> None:
    sessions = cars([0], [3], [2.0], energy_headroom_kwh=7.0, max_kw=4.0)
    schedule = planned(site(sessions, [0.1, -0.1, -0.2]))
    np.testing.assert_allclose(schedule.power_kw, [[0.0, 3.0, 4.0]], atol=1e-6)


def test_nothing_may_be_drawn_for_hours() -> None:
    problem = site(cars([0, 0], [6, 3], [6.0, 9.0]), [0.1, 0.1, 0.3, 0.2, 0.2, 0.2], limit_kw=[0, 0, 5, 5, 0, 5])
    assert not planned(problem).power_kw[:, [0, 1, 4]].any()


def test_a_limit_below_the_minimum_of_one_car_charges_nothing() -> None:
    schedule = planned(site(cars([0], [3], [6.0], min_charge_kw=4.1), [0.1] * 3, limit_kw=4.0))
    assert not schedule.power_kw.any()
    assert schedule.sessions.shortfall_kwh[0] == pytest.approx(6.0)


def test_a_limit_for_one_car_at_a_time_is_shared_in_turns() -> None:
    schedule = planned(site(cars([0, 0, 0], [3, 3, 3], [4.0] * 3, min_charge_kw=4.0), [0.3, 0.1, 0.2], limit_kw=7.0))
    assert (schedule.power_kw > 0).sum(axis=0).tolist() == [1, 1, 1]
    assert not schedule.sessions.shortfall_kwh.any()


def test_a_need_below_the_minimum_of_one_step_is_not_exceeded() -> None:
    schedule = planned(site(cars([0], [3], [2.0], min_charge_kw=4.0), [0.1] * 3))
    assert not schedule.power_kw.any()
    room = site(cars([0], [3], [2.0], min_charge_kw=4.0, energy_headroom_kwh=5.0), [0.1] * 3)
    assert planned(room).power_kw.sum() == pytest.approx(4.0)


def test_needs_of_zero() -> None:
    assert not planned(site(cars([0, 0], [3, 3], [0.0, 0.0]), [0.1, -0.3, 0.1])).power_kw.any()


def test_chargers_of_no_power() -> None:
    schedule = planned(site(cars([0], [3], [5.0], max_kw=0.0), [0.1] * 3))
    assert schedule.sessions.limiting_node_index.tolist() == [-1]


@pytest.mark.parametrize(("step_s", "steps"), [(300.0, 24), (3600.0, 8), (7200.0, 4), (60.0, 30)])
def test_any_length_of_step(step_s: float, steps: int) -> None:
    price = np.round(0.2 + 0.1 * np.sin(np.arange(steps)), 4).tolist()
    need = 0.4 * steps * step_s / 3600.0
    sessions = cars([0, 2], [steps - 1, steps], [5.0 * need, 3.0 * need], step_s=step_s, min_charge_kw=1.38)
    planned(site(sessions, price, step_s=step_s, limit_kw=6.0))


@pytest.mark.parametrize(("day", "hours"), [("2024-03-31", 23), ("2024-10-27", 25)])
def test_days_on_which_the_clock_changes(day: str, hours: int) -> None:
    midnight = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo("Europe/Copenhagen"))
    morning = (midnight + timedelta(hours=7)).timestamp()  # 7:00 on the wall clock, whatever the night lasted
    grid = TimeGrid(midnight.timestamp(), 3600.0, hours)
    sessions = Sessions.simple(
        arrival_unix_s=np.full(2, grid.start_unix_s - 7200.0),
        departure_unix_s=np.array([morning, grid.end_unix_s]),
        energy_needed_kwh=np.array([20.0, 30.0]),
        max_charge_kw=np.array([7.4, 7.4]),
    )
    price = np.round(0.2 + 0.1 * np.cos(np.arange(hours) / 3.0), 3)
    problem = ScheduleProblem(grid, SupplyNodes.single(max_import_kw=9.0), sessions, Tariff(price))
    schedule = planned(problem)
    assert not schedule.power_kw[0, 7 + hours - 24 :].any()


def test_discharging_stays_off_where_the_spread_does_not_pay() -> None:
    def power(spread: float) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        sessions = cars(
            [0], [2], [0.0], energy_headroom_kwh=10.0, max_discharge_kw=10.0, charge_efficiency=0.9,
            discharge_efficiency=0.9, discharge_cost_per_kwh=0.05,
        )  # fmt: skip
        price = np.array([0.20, 0.20 + spread])
        return planned(site(sessions, price.tolist(), export_price_per_kwh=price)).power_kw

    assert not power(0.09).any()  # 0.2 / 0.81 + 0.05 = 0.297
    np.testing.assert_allclose(power(0.11), [[10.0, -8.1]], atol=1e-6)


def test_export_above_import_price_buys_or_sells_but_never_both() -> None:
    sessions = cars([0, 0], [2, 2], [4.0, 0.0], max_discharge_kw=np.array([0.0, 5.0]), energy_available_kwh=6.0)
    problem = site(sessions, [0.1, 0.2], export_price_per_kwh=np.array([0.3, 0.25]), fixed_kw=[1.0, -2.0])
    planned(problem)


def test_negative_import_prices_without_export_are_not_milked() -> None:
    sessions = cars([0, 0], [2, 2], [4.0, 0.0], max_discharge_kw=5.0, energy_available_kwh=6.0)
    planned(site(sessions, [-0.1, 0.2], fixed_kw=[-3.0, 1.0]))


def test_steps_without_control_charge_on_arrival() -> None:
    options = ScheduleOptions(relative_gap=1e-6, control_enabled=np.array([False, True, True]))
    schedule = planned(site(cars([0, 0], [3, 3], [7.0, 7.0]), [0.9, 0.2, 0.1], limit_kw=10.0), options)
    np.testing.assert_allclose(schedule.power_kw[:, 0], [7.0, 3.0], atol=1e-6)


def test_a_margin_before_departure_is_kept_where_energy_allows() -> None:
    options = ScheduleOptions(relative_gap=1e-6, departure_margin_s=3600.0)
    roomy, tight = cars([0], [3], [8.0], max_kw=5.0), cars([0], [3], [12.0], max_kw=5.0)
    schedule = optimize_schedule(site(roomy, [0.3, 0.2, 0.1]), options)
    np.testing.assert_allclose(schedule.power_kw, [[3.0, 5.0, 0.0]], atol=1e-6)
    schedule = optimize_schedule(site(tight, [0.3, 0.2, 0.1]), options)
    np.testing.assert_allclose(schedule.power_kw, [[2.0, 5.0, 5.0]], atol=1e-6)


def test_a_replan_pays_no_second_start_and_finishes_its_run() -> None:
    state = {
        "charging_now": True,
        "run_duration_s": 1800.0,
        "min_charge_kw": 2.0,
        "energy_headroom_kwh": 20.0,
    }
    problem = site(cars([-1], [4], [4.0], **state), [0.5, 0.4, 0.1, 0.2])
    running = ScheduleOptions(relative_gap=1e-6, start_cost=0.3, min_run_s=3 * 3600.0)
    schedule = planned(problem, running)
    assert (schedule.power_kw[0, :3] > 0).all()
    assert schedule.sessions.starts.tolist() == [0]


def test_energy_delivered_before_may_be_discharged_again() -> None:
    sessions = cars([-1], [1], [0.0], max_discharge_kw=9.0, energy_available_kwh=2.0, delivered_kwh=3.0)
    problem = site(sessions, [0.5], export_price_per_kwh=np.array([0.4]))
    assert not planned(problem).power_kw.any()  # below zero is short of a need of zero, and that comes first
    traded = ScheduleOptions(relative_gap=1e-6, shortfall_price_per_kwh=0.1)
    np.testing.assert_allclose(planned(problem, traded).power_kw, [[-5.0]], atol=1e-6)


def test_bad_input_is_refused_with_every_fault() -> None:
    problem = site(cars([0], [1], [-4.0], max_kw=-1.0), [np.nan])
    with pytest.raises(InvalidProblemError) as caught:
        optimize_schedule(problem, ScheduleOptions(relative_gap=-1.0))
    fields = {violation.field for violation in caught.value.violations}
    assert {"sessions[0].energy_needed_kwh", "sessions[0].max_charge_kw"} <= fields
    assert {"tariff.import_price_per_kwh[0]", "options.relative_gap"} <= fields


def test_the_grid_need_not_start_on_the_clock() -> None:
    problem = site(
        cars([0], [4], [9.0]),
        [0.3, 0.1, 0.2, 0.2],
        step_s=3600.0,
        peak_price_per_kw=1.0,
        peak_averaging_s=7200.0,
    )
    assert START_UNIX_S % 7200.0 == 3600.0  # so the first block holds one step
    planned(problem)


def test_discharging_below_arrival_misses_no_minimum_that_nobody_asked_for() -> None:
    sessions = cars([0], [2], [0.0], max_discharge_kw=5.0, energy_available_kwh=4.0)
    problem = site(sessions, [0.5, 0.1], export_price_per_kwh=np.array([0.4, 0.05]))
    schedule = planned(problem, ScheduleOptions(relative_gap=1e-6, shortfall_price_per_kwh=0.2))
    np.testing.assert_allclose(schedule.power_kw, [[-4.0, 4.0]], atol=1e-6)
    assert schedule.sessions.minimum_shortfall_kwh.tolist() == [0.0]
    deep = planned(problem, ScheduleOptions(relative_gap=1e-6, shortfall_price_per_kwh=0.01))
    np.testing.assert_allclose(deep.power_kw, [[-4.0, 0.0]], atol=1e-6)
    assert deep.sessions.minimum_shortfall_kwh.tolist() == [0.0]
