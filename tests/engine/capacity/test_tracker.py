"""The tracker keeps the transformer safe, cuts at once, rises slowly, and lets small shares take turns."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evflex.engine.capacity.model import AllocationPolicy, BindingReason
from evflex.engine.capacity.tracking_model import (
    HubWish,
    Measurement,
    MeasurementOutcome,
    TrackedHubs,
    TrackedUpdate,
    TrackerSetup,
)
from evflex.engine.capacity.transformer import Cooling, ThermalParameters, ThermalState
from evflex.engine.supply_tree import FloatArray
from tests.conftest import SOAK
from tests.engine.capacity.reference.feed import NOW_S, PHASE_SHARE, Feed, settled, setup_of, transformer_of
from tests.engine.capacity.reference.tracker_twin import Plant, largest_ratio, room_kw

# Reacts within minutes, so that a test meets thermal limits soon.
QUICK = replace(ThermalParameters.of(Cooling.ONAN), oil_time_constant_min=20.0, winding_time_constant_min=2.0)


def test_free_power_goes_to_hubs_by_the_policy() -> None:
    feed = Feed(setup_of(TrackedHubs.of(4, max_kw=np.array([50.0, 100.0, 400.0, 400.0]))))
    update = settled(feed, 200.0)
    # 1.5 x 400 kVA less 200 kW
    np.testing.assert_allclose(update.capacity_kw, [50.0, 100.0, 125.0, 125.0], rtol=1e-5)
    assert update.reason.tolist() == [0, 0, BindingReason.LOADING_RATIO, BindingReason.LOADING_RATIO]
    assert update.evs_served.tolist() == [12, 24, 30, 30]
    np.testing.assert_allclose(update.current_a[0], 50_000.0 / 3.0 / 230.0, rtol=1e-6)


@pytest.mark.parametrize(("factor", "base_kw"), [(0.9, 200.0), (0.8, 300.0), (0.95, -120.0), (1.0, 0.0)])
def test_room_beside_reactive_power_and_export_is_that_of_trying(factor: float, base_kw: float) -> None:
    feed = Feed(setup_of(TrackedHubs.of(1, max_kw=2000.0)))
    for _ in range(100):
        feed.time_s += 5.0
        feed.take(feed.sample(base_kw, np.zeros(1), factor))
    phase_kw = np.full(3, base_kw / 3.0)
    expected = room_kw(1.5, 400.0, phase_kw, np.abs(phase_kw) * np.sqrt(1 - factor**2) / factor)
    np.testing.assert_allclose(feed.last.capacity_kw, expected, rtol=1e-6)


def test_a_full_phase_stops_its_hubs_only() -> None:
    hubs = TrackedHubs.of(3, max_kw=60.0, phases=np.array([1, 2, 3]), min_kw_per_ev=0.0)
    update = settled(Feed(setup_of(hubs)), np.array([170.0, 150.0, 20.0]))
    np.testing.assert_allclose(update.capacity_kw, [30.0, 50.0, 60.0], rtol=1e-5)


@pytest.mark.parametrize("seed", range(6 if not SOAK else 60))
def test_thermal_room_is_that_of_trying_loads(seed: int) -> None:
    rng = np.random.default_rng(seed)
    own = replace(
        ThermalParameters.of(rng.choice([Cooling.ONAN, Cooling.ONAF, Cooling.OFAF])),
        oil_time_constant_min=rng.uniform(20.0, 200.0), winding_time_constant_min=rng.uniform(2.0, 10.0),
    )  # fmt: skip
    state = [rng.uniform(60.0, 95.0), rng.uniform(20.0, 50.0), rng.uniform(5.0, 20.0)]
    transformer = transformer_of(
        thermal=own,
        initial_state=ThermalState(*state),
        max_loading_ratio=2.5,
        max_hot_spot_c=rng.uniform(100.0, 120.0),
        max_top_oil_c=105.0,
    )
    silence_s, base_kw = int(rng.integers(10, 900)), rng.uniform(0.0, 200.0)
    feed = Feed(
        setup_of(TrackedHubs.of(1, max_kw=2000.0, min_kw_per_ev=0.0), transformer, max_silence_s=float(silence_s))
    )
    feed.measure(base_kw)
    update = feed.measure(base_kw, 0.001)  # no ramp any more
    ratio = largest_ratio(transformer, state, 20.0, silence_s + 60, base_kw / 400.0, 2.5)
    expected = max(400.0 * ratio - base_kw, 0.0)
    # the tracker keeps a tenth of a kelvin, of some forty that a load of 1 makes
    assert expected - 0.02 * 400.0 <= update.capacity_kw[0] <= expected + 1e-3 * 400.0


def limits_hold(setup: TrackerSetup, base_kw: FloatArray, update: TrackedUpdate, contingency: bool) -> bool:
    """Whether all capacities at once keep each phase, or the base load breaks it by itself."""
    share = np.array([PHASE_SHARE[c] for c in setup.hubs.phases.tolist()])
    limit_kva = setup.transformer.rated_kva * setup.transformer.max_loading_ratio
    limit_kva = min(limit_kva, setup.n1_rated_kva) if contingency else limit_kva
    total = base_kw + update.capacity_kw @ share
    own_fault = np.abs(base_kw) > limit_kva / 3.0
    return bool(((np.abs(total) <= limit_kva / 3.0 * (1 + 1e-12)) | (own_fault & (total <= base_kw))).all())


def semicontinuous(setup: TrackerSetup, update: TrackedUpdate) -> bool:
    capacity_kw = update.capacity_kw
    return bool(((capacity_kw == 0.0) | (capacity_kw >= setup.hubs.min_kw_per_ev * (1 - 1e-12))).all())


def random_hubs(rng: np.random.Generator) -> TrackedHubs:
    count = int(rng.integers(1, 12))
    most = rng.uniform(5.0, 200.0, count)
    return TrackedHubs.of(
        count, max_kw=most, firm_kw=most * rng.choice([0.0, 0.1, 0.5], count),
        phases=rng.choice([1, 2, 3, 4, 7], count), weight=rng.uniform(0.5, 3.0, count),
        priority=rng.integers(0, 3, count), curtailment_price_per_kwh=rng.choice([0.0, 0.1], count),
    )  # fmt: skip


@given(st.integers(0, 2**32 - 1))
def test_no_limit_is_broken_by_hubs_that_draw_all_they_may(seed: int) -> None:
    """Over random measurements, cuts, contingencies and pauses; the plant is simulated apart, every second."""
    rng = np.random.default_rng(seed)
    setup = setup_of(
        random_hubs(rng), transformer_of(thermal=QUICK, max_hot_spot_c=120.0),
        policy=AllocationPolicy(int(rng.integers(1, 6))),
        dead_band_ratio=rng.choice([0.0, 0.02, 0.2]), ramp_ratio_per_min=rng.choice([0.1, 2.0, 1e6]), rotation_s=30.0,
    )  # fmt: skip
    feed, plant = Feed(setup), Plant(setup.transformer)
    share = np.array([PHASE_SHARE[c] for c in setup.hubs.phases.tolist()])
    mean_kw, contingency, cut_kw = rng.uniform(-60.0, 140.0, 3), False, inf
    plant.state = [0.0, 0.0, 0.0]
    for k in range(120):
        seconds = int(rng.choice([1, 1, 2, 5, 9]))
        if rng.random() < 0.05:
            mean_kw = rng.uniform(-60.0, 140.0, 3)
        base_kw = mean_kw + rng.normal(0.0, 3.0, 3)
        if base_kw.min() < 0.0 < base_kw.max():  # one power factor for all phases cannot tell their signs apart
            base_kw = np.abs(base_kw)
        before_kw = feed.last.capacity_kw
        feed.time_s += seconds
        update = feed.take(feed.sample(base_kw, before_kw))
        # phases of both signs under one power factor are measured as what they are not
        if (base_kw + before_kw @ share).min() >= 0.0:
            assert update.outcome == MeasurementOutcome.ACCEPTED
            assert limits_hold(setup, base_kw, update, contingency)
        assert update.capacity_kw.sum() <= cut_kw
        assert semicontinuous(setup, update)
        if k == 0:
            plant.state = [update.state.top_oil_c, update.state.winding_gradient_c, update.state.oil_gradient_c]
        hot_spot_c = plant.run(base_kw + update.capacity_kw @ share, np.zeros(3), seconds)
        assert hot_spot_c <= 120.0 or not update.capacity_kw.any()
        if rng.random() < 0.1:
            contingency = bool(rng.integers(2))
            cut_kw = float(rng.choice([inf, 0.0, 40.0, 150.0]))
            told = {"clear_cut": True} if cut_kw == inf else {"cut_kw": cut_kw}
            update = feed.change(contingency=contingency, **told)
            assert update.detail == ""
            assert update.capacity_kw.sum() <= cut_kw
            assert semicontinuous(setup, update)


@given(st.integers(0, 2**32 - 1))
def test_silence_after_any_measurement_leaves_the_transformer_cool(seed: int) -> None:
    """Hubs draw all until the silence is noticed and a minute longer, then their fallback for hours."""
    rng = np.random.default_rng(seed)
    base_kw = np.full(3, rng.uniform(0.0, 135.0))
    hubs = TrackedHubs.of(4, max_kw=100.0, firm_kw=rng.choice([0.0, 20.0, 60.0], 4))
    transformer = transformer_of(thermal=QUICK, max_hot_spot_c=120.0, max_top_oil_c=rng.choice([90.0, 105.0]))
    silence_s = int(rng.integers(5, 600))
    feed = Feed(setup_of(hubs, transformer, max_silence_s=float(silence_s)))
    plant = Plant(transformer)
    update = feed.measure(base_kw)
    plant.state = [update.state.top_oil_c, update.state.winding_gradient_c, update.state.oil_gradient_c]
    for _ in range(int(rng.integers(1, 60))):
        seconds = int(rng.integers(1, min(silence_s, 30)))
        plant.run(base_kw + update.capacity_kw.sum() / 3.0, np.zeros(3), seconds)
        update = feed.measure(base_kw, seconds)
    hottest_c = plant.run(base_kw + update.capacity_kw.sum() / 3.0, np.zeros(3), silence_s + 60)
    hottest_c = max(hottest_c, plant.run(base_kw + update.fallback_kw.sum() / 3.0, np.zeros(3), 4 * 3600))
    assert hottest_c <= 120.0
    assert plant.hottest_oil_c <= transformer.max_top_oil_c


def test_firm_capacity_is_there_wanted_or_not() -> None:
    feed = Feed(setup_of(TrackedHubs.of(2, max_kw=50.0, firm_kw=20.0)))
    settled(feed, 550.0)
    feed.change(wishes=[HubWish(0, 0.0, 0)])
    update = feed.tick(1.0)
    np.testing.assert_allclose(update.capacity_kw, [20.0, 30.0], rtol=1e-5)
    assert update.evs_served[0] == 0


def test_firm_capacity_that_does_not_fit_is_cut_in_proportion_on_its_phase() -> None:
    hubs = TrackedHubs.of(3, max_kw=100.0, firm_kw=np.array([60.0, 30.0, 50.0]), phases=np.array([1, 1, 2]))
    update = settled(Feed(setup_of(hubs)), np.array([170.0, 20.0, 20.0]))
    np.testing.assert_allclose(update.capacity_kw, [20.0, 10.0, 100.0], rtol=1e-5)
    assert update.reason[:2].tolist() == [BindingReason.LOADING_RATIO] * 2


def test_contingency_cuts_at_once_and_takes_its_reason() -> None:
    feed = Feed(setup_of(TrackedHubs.of(2, max_kw=200.0)))
    settled(feed, 150.0)
    update = feed.change(contingency=True)
    np.testing.assert_allclose(update.capacity_kw, 50.0, rtol=1e-5)
    assert update.reason.tolist() == [BindingReason.CONTINGENCY] * 2
    feed.change(contingency=False)
    np.testing.assert_allclose(feed.tick(1.0).capacity_kw, 200.0, rtol=1e-5)


def test_a_cut_goes_below_firm_capacity_and_can_be_taken_back() -> None:
    feed = Feed(setup_of(TrackedHubs.of(2, max_kw=100.0, firm_kw=np.array([30.0, 10.0]))))
    settled(feed, 100.0)
    update = feed.change(cut_kw=100.0)
    assert update.changed.tolist() == [0, 1]
    np.testing.assert_allclose(update.capacity_kw.sum(), 100.0, rtol=1e-6)
    assert (update.capacity_kw >= [30.0, 10.0]).all()
    assert update.reason.tolist() == [BindingReason.OPERATOR_CUT] * 2
    update = feed.change(cut_kw=20.0)
    np.testing.assert_allclose(update.capacity_kw, [15.0, 5.0], rtol=1e-6)
    assert update.fallback_kw.tolist() == update.capacity_kw.tolist()
    assert feed.change(cut_kw=0.0).capacity_kw.tolist() == [0.0, 0.0]
    feed.tick(1.0)
    np.testing.assert_allclose(feed.change(clear_cut=True).capacity_kw[0], 30.0)
    np.testing.assert_allclose(feed.measure(100.0).capacity_kw, 100.0)


def test_rises_keep_the_ramp_and_cuts_do_not() -> None:
    feed = Feed(setup_of(TrackedHubs.of(1, max_kw=120.0), ramp_ratio_per_min=0.5))
    update = feed.measure(0.0)
    assert update.capacity_kw[0] == pytest.approx(4.14)  # a car's minimum at once
    assert update.reason.tolist() == [BindingReason.RAMP]
    for _ in range(10):
        before_kw = update.capacity_kw[0]
        update = feed.measure(0.0, 2.0)
        assert update.capacity_kw[0] == pytest.approx(before_kw + 2.0)
    assert feed.measure(560.0).capacity_kw[0] == 0.0 or feed.last.capacity_kw[0] <= 40.0
    assert feed.measure(590.0).capacity_kw[0] <= 10.0


def test_small_rises_wait_until_they_exceed_the_dead_band() -> None:
    feed = Feed(setup_of(TrackedHubs.of(1, max_kw=100.0), dead_band_ratio=0.1, ramp_ratio_per_min=0.6))
    feed.measure(0.0)
    seen = [feed.measure(0.0).capacity_kw[0] for _ in range(30)]
    steps = np.diff(seen)
    assert set(np.round(steps[steps > 0.0], 6)) == {10.0}
    assert seen[-1] == pytest.approx(34.14)
    assert np.diff(np.flatnonzero(steps > 0.0)).tolist() == [10, 10]


def test_a_dead_band_is_no_reason_where_the_transformer_is_full() -> None:
    feed = Feed(setup_of(TrackedHubs.of(1, max_kw=400.0), dead_band_ratio=0.1))
    settled(feed, 300.0)
    feed.measure(310.0)
    update = settled(feed, 300.0)
    assert update.capacity_kw[0] == pytest.approx(290.0, rel=1e-5)
    assert update.reason.tolist() == [BindingReason.LOADING_RATIO]


def test_noise_does_not_make_capacity_rise_and_fall() -> None:
    rng = np.random.default_rng(7)
    feed = Feed(setup_of(TrackedHubs.of(1, max_kw=400.0), dead_band_ratio=0.02, ramp_ratio_per_min=0.5))
    settled(feed, 300.0, 600)
    rises = 0
    for _ in range(300):
        before_kw = feed.last.capacity_kw[0]
        rises += feed.measure(300.0 + rng.normal(0.0, 3.0)).capacity_kw[0] > before_kw
    assert rises <= 10
    assert feed.last.capacity_kw[0] > 280.0


def test_shares_below_a_cars_minimum_take_turns_and_within_an_hour_each_has_one() -> None:
    hubs = TrackedHubs.of(20, max_kw=22.0)
    feed = Feed(setup_of(hubs, rotation_s=300.0, ramp_ratio_per_min=0.5))
    served_s = np.zeros(20)
    turns: list[set[int]] = []
    for _ in range(720):
        update = feed.measure(580.0, 5.0)
        served_s += 5.0 * (update.capacity_kw > 0.0)
        assert semicontinuous(feed.setup, update)
        assert limits_hold(feed.setup, np.full(3, 580.0 / 3.0), update, False)
        now = set(np.flatnonzero(update.capacity_kw).tolist())
        if not turns or turns[-1] != now:
            turns.append(now)
    # 20 kW are four cars' minimum: each hub is served a fifth of the time
    assert (update.capacity_kw > 0.0).sum() == 4
    assert served_s.min() >= 0.6 * 720.0
    assert served_s.max() <= 1.6 * 720.0
    assert len(turns) <= 16
    waiting = update.capacity_kw == 0.0
    assert (update.reason[waiting] == BindingReason.ROTATION).all()


def test_turns_get_shorter_where_many_wait() -> None:
    feed = Feed(setup_of(TrackedHubs.of(60, max_kw=11.0), rotation_s=900.0))
    served = np.zeros(60, dtype=np.bool_)
    for _ in range(720):
        served |= feed.measure(595.0, 5.0).capacity_kw > 0.0
    assert served.all()


def test_what_turns_leave_is_not_lost() -> None:
    hubs = TrackedHubs.of(4, max_kw=np.array([22.0, 22.0, 22.0, 2.0]), min_kw_per_ev=np.array([4.14, 4.14, 4.14, 1.0]))
    update = settled(Feed(setup_of(hubs)), 590.0)
    assert update.capacity_kw.sum() == pytest.approx(10.0, rel=1e-5)


def test_an_agreement_below_a_cars_minimum_cannot_be_used() -> None:
    hubs = TrackedHubs.of(2, max_kw=22.0, firm_kw=np.array([2.0, 0.0]), conditional_kw=np.array([1.0, 22.0]))
    update = settled(Feed(setup_of(hubs)), 100.0)
    assert update.capacity_kw.tolist() == [0.0, 22.0]
    assert update.reason.tolist() == [BindingReason.AGREEMENT, 0]


def test_wants_bound_what_is_given() -> None:
    feed = Feed(setup_of(TrackedHubs.of(4, max_kw=100.0, conditional_kw=np.array([100.0, 100.0, 50.0, 100.0]))))
    settled(feed, 100.0)
    update = feed.change(wishes=[HubWish(0, 30.0, 3), HubWish(1, 1.0), HubWish(3, 150.0)])
    # whoever wants less than a car's minimum gets that
    np.testing.assert_allclose(update.capacity_kw, [30.0, 4.14, 50.0, 100.0])
    assert update.reason.tolist() == [0, 0, BindingReason.AGREEMENT, BindingReason.HUB_LIMIT]
    assert update.evs_served.tolist() == [3, 1, 12, 24]


def test_cars_of_one_phase_load_the_phases_in_turn() -> None:
    hubs = TrackedHubs.of(3, max_kw=60.0, phases=np.array([7, 4, 1]), phases_per_ev=1)
    feed = Feed(setup_of(hubs))
    settled(feed, 100.0)
    even = feed.last.current_a * 0.23 / feed.last.capacity_kw[:, None]
    np.testing.assert_allclose(even, [[1 / 3] * 3, [0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    update = feed.change(wishes=[HubWish(0, inf, 4), HubWish(1, inf, 1), HubWish(2, inf, 2)])
    shares = update.current_a * 0.23 / update.capacity_kw[:, None]
    np.testing.assert_allclose(shares, [[0.5, 0.25, 0.25], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])


def test_unmetered_hubs_count_as_load() -> None:
    feed = Feed(setup_of(TrackedHubs.of(1, max_kw=400.0)))
    feed.time_s += 1.0
    sample = replace(feed.sample(300.0, np.array([100.0])), hub_power_kw=np.empty(0))
    feed.take(sample)
    np.testing.assert_allclose(feed.tick(1.0).capacity_kw, 200.0, rtol=1e-6)


@given(st.integers(0, 2**32 - 1))
def test_extreme_numbers_stay_numbers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 5))
    kw = [1e-300, 1e-9, 1.0, 22.0, 1e6, 1e9]
    hubs = TrackedHubs.of(
        count, max_kw=rng.choice(kw, count), firm_kw=rng.choice([0.0, *kw], count),
        conditional_kw=rng.choice([0.0, *kw], count), min_kw_per_ev=rng.choice([0.0, 0.0, *kw], count),
        phases=rng.integers(0, 8, count), phases_per_ev=rng.integers(0, 2, count),
        weight=rng.choice([1e-9, 1.0, 1e9], count),
    )  # fmt: skip
    transformer = transformer_of(
        float(rng.choice([1e-3, 1.0, 400.0, 1e9])), max_loading_ratio=float(rng.choice([1e-9, 1.5, 1e9])),
        max_hot_spot_c=float(rng.choice([-300.0, 120.0, 1e300])),
    )  # fmt: skip
    policy = AllocationPolicy(int(rng.integers(1, 6)))
    feed = Feed(setup_of(hubs, transformer, policy=policy, ramp_ratio_per_min=float(rng.choice([1e-300, 0.5, 1e300]))))
    for _ in range(5):
        feed.time_s += 1.0
        current_a = rng.choice([0.0, 1e-300, 100.0], 3)
        power_kw = np.zeros(count) if rng.random() < 0.5 else np.empty(0)
        factor = float(rng.choice([1.0, -0.5, 1e-300]))
        update = feed.take(Measurement(NOW_S + feed.time_s, current_a, np.full(3, 230.0), factor, power_kw))
        for values in (update.capacity_kw, update.fallback_kw, update.current_a, update.evs_served):
            assert np.isfinite(values).all()
            assert (values >= 0).all()
        assert np.isfinite(update.state.hot_spot_c)


def test_seconds_of_two_hundred_hubs_need_no_more_memory_and_break_no_limit() -> None:
    rng = np.random.default_rng(3)
    hubs = TrackedHubs.of(
        200, max_kw=22.0, firm_kw=rng.choice([0.0, 5.0], 200) * 0.5, phases=rng.choice([1, 2, 3, 7], 200)
    )
    feed = Feed(setup_of(hubs, transformer_of(800.0), dead_band_ratio=0.02, ramp_ratio_per_min=0.5))
    settled(feed, 300.0, 100)
    tracemalloc.start()
    try:
        for k in range(3600 if SOAK else 300):
            base_kw = 100.0 * (1.0 + 0.3 * np.sin(k / 200.0 + np.arange(3))) + rng.normal(0.0, 2.0, 3)
            update = feed.measure(base_kw)
            assert limits_hold(feed.setup, base_kw, update, False)
            assert semicontinuous(feed.setup, update)
            if k == 50:
                start_bytes = tracemalloc.get_traced_memory()[0]
        assert tracemalloc.get_traced_memory()[0] - start_bytes < 200_000
    finally:
        tracemalloc.stop()
