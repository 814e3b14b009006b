"""Faults are reported each with path and rule, and the first hundred of any number."""

from __future__ import annotations

import numpy as np
import pytest

from evflex.engine.validation import MAX_REPORTED, InvalidProblemError, Rules, Violation


def test_nothing_wrong_raises_nothing() -> None:
    rules = Rules()
    rules.check(True, "field", "must hold")
    assert rules.array("row", np.zeros(3), (0, 3))
    rules.raise_if_any()


def test_the_first_hundred_of_two_thousand_faults_are_kept_in_order() -> None:
    rules = Rules()
    for k in range(2000):
        rules.check(False, f"rows[{k}]", "must hold")
    with pytest.raises(InvalidProblemError) as caught:
        rules.raise_if_any()
    assert caught.value.total == 2000
    assert len(caught.value.violations) == MAX_REPORTED == 100
    assert caught.value.violations[99] == Violation("rows[99]", "must hold")
    assert "rows[0]: must hold" in str(caught.value)
    assert "1999 more" in str(caught.value)


def test_each_bad_row_is_named_with_its_value() -> None:
    rules = Rules()
    values = np.array([1.0, -2.0, 3.0, -4.0])
    rules.rows("sessions", "max_charge_kw", values < 0, "must be >= 0", values)
    assert [v.field for v in rules.violations] == ["sessions[1].max_charge_kw", "sessions[3].max_charge_kw"]
    assert rules.violations[1].description == "must be >= 0, is -4.0"


def test_a_wrong_length_names_the_lengths_allowed() -> None:
    rules = Rules()
    assert not rules.array("price", np.zeros(5), (0, 1, 96))
    assert [v.field for v in rules.violations] == ["price"]
    assert "0 or 1 or 96" in rules.violations[0].description
    assert "has 5" in rules.violations[0].description


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_entry_that_is_not_finite_is_named(value: float) -> None:
    rules = Rules()
    assert not rules.array("price", np.array([0.0, value]), (2,))
    assert [v.field for v in rules.violations] == ["price[1]"]


def test_an_entry_below_the_minimum_is_named() -> None:
    rules = Rules()
    assert not rules.array("limit", np.array([0.0, -0.1]), (2,), minimum=0.0)
    assert [v.field for v in rules.violations] == ["limit[1]"]
    assert rules.array("limit", np.array([0.0, 0.1]), (2,), minimum=0.0)
