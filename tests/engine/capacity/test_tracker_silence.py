"""Silence puts hubs on their fallback, and what makes no sense is refused, harms nothing and counts as silence."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan
from typing import Any

import numpy as np
import pytest

from evflex.engine.capacity.model import BindingReason
from evflex.engine.capacity.tracker import CapacityTracker
from evflex.engine.capacity.tracking_model import (
    HubWish,
    MeasurementOutcome,
    TrackedHubs,
)
from evflex.engine.validation import InvalidProblemError
from tests.engine.capacity.reference.feed import NOW_S, Feed, settled, setup_of


def test_silence_puts_hubs_on_their_fallback_once_and_the_ramp_brings_them_back() -> None:
    feed = Feed(setup_of(TrackedHubs.of(2, max_kw=100.0, firm_kw=np.array([30.0, 0.0])), ramp_ratio_per_min=0.5))
    settled(feed, 100.0, 600)
    assert feed.last.capacity_kw.tolist() == [100.0, 100.0]
    assert feed.tracker.next_due_s == feed.time_s + 10.0
    assert feed.last.valid_until_unix_s == NOW_S + feed.time_s + 10.0
    assert not feed.tick(9.9).fallen_back
    update = feed.tick(0.1)
    assert update.fallen_back
    assert update.changed.tolist() == [0, 1]
    assert update.capacity_kw.tolist() == update.fallback_kw.tolist() == [30.0, 0.0]
    assert update.reason.tolist() == [BindingReason.SILENCE] * 2
    assert feed.tracker.next_due_s == inf
    assert not len(feed.tick(100.0).changed)
    update = feed.measure(100.0, 4000.0)
    assert not update.fallen_back
    np.testing.assert_allclose(update.capacity_kw, [30.0, 4.14])
    np.testing.assert_allclose(feed.measure(100.0, 6.0).capacity_kw, [35.0, 9.14])


def test_a_measurement_after_a_silence_that_nobody_looked_at_begins_at_the_fallback() -> None:
    feed = Feed(setup_of(TrackedHubs.of(2, max_kw=100.0, firm_kw=np.array([30.0, 0.0])), ramp_ratio_per_min=0.5))
    settled(feed, 100.0, 600)
    update = feed.measure(100.0, 10.0)
    np.testing.assert_allclose(update.capacity_kw, [30.0, 4.14])
    assert update.changed.tolist() == [0, 1]


def test_a_cut_during_silence_counts() -> None:
    feed = Feed(setup_of(TrackedHubs.of(2, max_kw=100.0, firm_kw=30.0)))
    settled(feed, 100.0)
    feed.tick(10.0)
    assert feed.change(cut_kw=20.0).capacity_kw.sum() <= 20.0
    assert feed.last.fallen_back
    np.testing.assert_allclose(feed.change(clear_cut=True).capacity_kw, 30.0)


def test_before_the_first_measurement_hubs_are_on_firm_capacity() -> None:
    feed = Feed(setup_of(TrackedHubs.of(2, max_kw=100.0, firm_kw=30.0)))
    assert feed.last.fallen_back
    assert feed.last.capacity_kw.tolist() == [30.0, 30.0]
    assert feed.last.changed.tolist() == [0, 1]


def test_fallback_that_the_transformer_cannot_carry_is_scaled_down() -> None:
    feed = Feed(setup_of(TrackedHubs.of(2, max_kw=100.0, firm_kw=np.array([60.0, 20.0]))))
    settled(feed, 560.0)
    update = feed.tick(10.0)
    np.testing.assert_allclose(update.capacity_kw, [30.0, 10.0], rtol=1e-5)


NONSENSE = {
    "NaN current": {"current_a": np.array([nan, 1.0, 1.0])},
    "infinite current": {"current_a": np.array([1.0, inf, 1.0])},
    "negative current": {"current_a": np.array([1.0, 1.0, -1.0])},
    "absurd current": {"current_a": np.array([1.0, 1.0, 1e9])},
    "two currents": {"current_a": np.ones(2)},
    "NaN voltage": {"voltage_v": np.array([nan, 230.0, 230.0])},
    "zero voltage": {"voltage_v": np.array([230.0, 0.0, 230.0])},
    "low voltage": {"voltage_v": np.array([230.0, 20.0, 230.0])},
    "high voltage": {"voltage_v": np.array([230.0, 230.0, 20_000.0])},
    "four voltages": {"voltage_v": np.full(4, 230.0)},
    "power factor 0": {"power_factor": 0.0},
    "power factor above 1": {"power_factor": 1.01},
    "power factor below -1": {"power_factor": -1.01},
    "NaN power factor": {"power_factor": nan},
    "NaN ambient": {"ambient_c": nan},
    "hot ambient": {"ambient_c": 100.0},
    "NaN hub": {"hub_power_kw": np.array([1.0, nan])},
    "exporting hub": {"hub_power_kw": np.array([-1.1, 0.0])},
    "hub far above its limit": {"hub_power_kw": np.array([0.0, 151.0])},
    "one hub": {"hub_power_kw": np.ones(1)},
    "three hubs": {"hub_power_kw": np.ones(3)},
    "no time": {"unix_s": nan},
}


@pytest.mark.parametrize("fields", NONSENSE.values(), ids=NONSENSE.keys())
def test_nonsense_is_refused_changes_nothing_and_is_silence(fields: dict[str, Any]) -> None:
    feed = Feed(setup_of(TrackedHubs.of(2, max_kw=100.0, firm_kw=10.0)))
    before = settled(feed, 100.0)
    for _ in range(9):
        update = feed.measure(500.0, 1.0, **fields)
        assert update.outcome == MeasurementOutcome.NONSENSE
        assert update.detail
        assert not len(update.changed)
        assert update.capacity_kw.tolist() == before.capacity_kw.tolist()
    feed.measure(500.0, 1.0, **fields)
    assert feed.tick(0.0).fallen_back


def test_times_that_make_no_sense_are_refused_by_name() -> None:
    feed = Feed(setup_of(TrackedHubs.of(1, max_kw=100.0)))
    settled(feed, 100.0)
    last_s = NOW_S + feed.time_s
    assert feed.measure(500.0, 1.0, unix_s=last_s).outcome == MeasurementOutcome.OUT_OF_ORDER
    assert feed.measure(500.0, 1.0, unix_s=last_s - 1.0).outcome == MeasurementOutcome.OUT_OF_ORDER
    assert feed.measure(500.0, 1.0, unix_s=last_s + 8.1).outcome == MeasurementOutcome.CLOCK_AHEAD
    assert feed.measure(500.0, 1.0, unix_s=last_s - 6.1).outcome == MeasurementOutcome.TOO_OLD
    assert feed.last.capacity_kw.tolist() == [100.0]
    assert feed.measure(100.0, 1.0, unix_s=last_s + 9.9).outcome == MeasurementOutcome.ACCEPTED


@pytest.mark.parametrize("jump_s", [-86_400.0, -5.0, 5.0, 86_400.0])
def test_jumps_of_the_wall_clock_neither_prolong_nor_end_anything(jump_s: float) -> None:
    feed = Feed(setup_of(TrackedHubs.of(1, max_kw=100.0)))
    settled(feed, 100.0)
    heard_s = feed.time_s
    update = feed.tracker.tick(NOW_S + heard_s + 9.9 + jump_s, heard_s + 9.9)
    assert not update.fallen_back
    assert update.valid_until_unix_s == pytest.approx(NOW_S + heard_s + 10.0 + jump_s, abs=1e-3)
    assert feed.tracker.tick(NOW_S + heard_s + 10.0 + jump_s, heard_s + 10.0).fallen_back


@pytest.mark.parametrize(
    "fields",
    [
        {"cut_kw": -1.0}, {"cut_kw": nan}, {"cut_kw": 5.0, "clear_cut": True}, {"wishes": [HubWish(2)]},
        {"wishes": [HubWish(0, -1.0)]}, {"wishes": [HubWish(0, nan)]},
        {"wishes": [HubWish(0, 1.0), HubWish(0, 1.0, -2)]},
    ],
)  # fmt: skip
def test_a_change_that_makes_no_sense_is_refused_whole(fields: dict[str, Any]) -> None:
    feed = Feed(setup_of(TrackedHubs.of(2, max_kw=100.0)))
    before = settled(feed, 100.0)
    update = feed.change(contingency=True, **fields)
    assert update.detail
    assert update.capacity_kw.tolist() == before.capacity_kw.tolist()
    assert feed.measure(100.0).reason.tolist() == [0, 0]


def test_a_broken_setup_names_every_fault() -> None:
    hubs = replace(TrackedHubs.of(2, max_kw=np.array([1.0, -1.0])), hub_ids=("a", "a"))
    setup = setup_of(
        hubs, max_silence_s=0.5, dead_band_ratio=1.0, ramp_ratio_per_min=0.0, rotation_s=1.0, max_clock_skew_s=-1.0,
        n1_rated_kva=nan,
    )  # fmt: skip
    with pytest.raises(InvalidProblemError) as caught:
        CapacityTracker(setup)
    assert {v.field for v in caught.value.violations} >= {
        "hubs[1].max_kw", "hubs[1].hub_id", "max_silence_duration", "dead_band_ratio", "ramp_ratio_per_min",
        "rotation_duration", "max_clock_skew_duration", "n1_rated_kva",
    }  # fmt: skip


def test_a_long_pause_is_survived() -> None:
    feed = Feed(setup_of(TrackedHubs.of(1, max_kw=100.0)))
    settled(feed, 100.0)
    update = feed.measure(100.0, 30 * 86_400.0)
    assert update.outcome == MeasurementOutcome.ACCEPTED
    assert 20.0 < update.state.hot_spot_c < 120.0
