"""Which steps count in which day, and what a day may lose."""

from __future__ import annotations

import numpy as np
import pytest

from evflex.engine.capacity.day_limits import Days
from evflex.engine.timegrid import TimeGrid


@pytest.mark.parametrize("step_s", [60, 162, 900, 2100, 7 * 3600 + 90, 86_000, 86_400])
def test_a_step_belongs_to_the_day_in_which_it_begins(step_s: int) -> None:
    days = Days.of(TimeGrid(0.0, float(step_s), 3000))
    np.testing.assert_array_equal(days.of_step, np.arange(3000) * step_s // 86_400)


def test_limits_of_days_are_in_proportion_to_the_time_of_their_steps() -> None:
    # four steps begin in the first day, three in the second
    days = Days.of(TimeGrid(0.0, 7 * 3600.0, 8))
    np.testing.assert_allclose(days.limits_h(12.0), np.array([28.0, 21.0, 7.0]) / 2)
    np.testing.assert_array_equal(days.sums(np.arange(8.0)), [0 + 1 + 2 + 3, 4 + 5 + 6, 7])
    assert np.isinf(days.limits_h(np.inf)).all()
