"""What is asked of a plan becomes a message, and what cannot is named before anything is sent."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evflex.client import InvalidRequestError, PortfolioLimit, PortfolioReserve, TimeGrid
from evflex.client.dispatch.plan_request import PlanRequest

INDEX = pd.date_range("2026-03-04 12:00", periods=4, freq="15min", tz="Europe/Copenhagen")
PRICES = pd.Series([0.3, 0.2, 0.1, 0.4], index=INDEX)
HOUR = timedelta(hours=1)


def test_the_index_of_the_prices_is_the_time_axis() -> None:
    message = PlanRequest("p", PRICES).to_message()
    assert message.time_grid.start_time.ToJsonString() == "2026-03-04T11:00:00Z"
    assert (message.time_grid.step_duration.seconds, message.time_grid.step_count) == (900, 4)
    assert list(message.import_price_per_kwh) == [0.3, 0.2, 0.1, 0.4]
    assert not message.export_price_per_kwh
    assert not message.options.HasField("relative_gap")
    assert not message.options.HasField("time_limit_duration")
    assert not message.HasField("portfolio_version")
    assert message.request_id


def test_start_and_step_place_plain_prices() -> None:
    message = PlanRequest("p", [0.3, 0.2], INDEX[0], HOUR, export_prices=np.array([0.1, 0.1])).to_message()
    assert (message.time_grid.step_duration.seconds, message.time_grid.step_count) == (3600, 2)
    assert list(message.export_price_per_kwh) == [0.1, 0.1]


def test_limits_and_options_are_written() -> None:
    request = PlanRequest(
        "p",
        PRICES,
        limits=[
            PortfolioLimit(max_import_kw=100, max_export_kw=[1, 2, 3, 4], violation_price_per_kwh=2.0),
            PortfolioLimit(group_id="north", target_kw=pd.Series([1.0, 2.0, 3.0, 4.0]), violation_price_per_kwh=3.0),
        ],
        relative_gap=0.0,
        absolute_gap=5.0,
        time_limit=timedelta(seconds=20),
        return_setpoints=True,
        portfolio_version=0,
        request_id="r",
    )
    message = request.to_message()
    fleet, north = message.limits
    assert (fleet.group_id, list(fleet.max_import_kw), list(fleet.max_export_kw)) == ("", [100.0], [1, 2, 3, 4])
    assert (north.group_id, list(north.target_kw), north.violation_price_per_kwh) == ("north", [1, 2, 3, 4], 3.0)
    assert message.options.HasField("relative_gap")
    assert message.options.absolute_gap == 5.0
    assert message.options.time_limit_duration.seconds == 20
    assert message.options.return_setpoints
    assert message.HasField("portfolio_version")
    assert message.request_id == "r"


def test_reserves_have_a_time_axis_of_their_own_or_that_of_the_plan() -> None:
    reserves = [
        PortfolioReserve(commitment_id="c-1", product_id="fcr", up_kw=100.0),
        PortfolioReserve(commitment_id="c-2", product_id="fcr", down_kw=[5, 6], time_grid=TimeGrid(INDEX[1], HOUR, 2)),
    ]
    first, second = PlanRequest("p", PRICES, reserves=reserves).to_message().reserves
    assert (first.time_grid.step_count, list(first.up_kw), list(first.down_kw)) == (4, [100.0], [])
    assert (second.time_grid.step_count, second.time_grid.step_duration.seconds) == (2, 3600)
    assert (second.commitment_id, list(second.down_kw)) == ("c-2", [5.0, 6.0])


def test_reserves_of_the_ledger_are_named_by_their_commitments() -> None:
    reserves: list[PortfolioReserve | str] = [
        "c-1",
        PortfolioReserve(commitment_id="c-2"),
        PortfolioReserve(commitment_id="c-3", product_id="fcr"),
        PortfolioReserve(commitment_id="c-4", product_id="fcr", up_kw=0.0),
    ]
    *ledger, elsewhere = PlanRequest("p", PRICES, reserves=reserves).to_message().reserves
    assert [(r.commitment_id, r.product_id) for r in ledger] == [("c-1", ""), ("c-2", ""), ("c-3", "fcr")]
    for reserve in ledger:
        assert not reserve.HasField("time_grid")
        assert not [*reserve.up_kw, *reserve.down_kw]
    assert (elsewhere.time_grid.step_count, list(elsewhere.up_kw)) == (4, [0.0])


@pytest.mark.parametrize(
    ("given", "field", "problem"),
    [
        ({"prices": [0.1, 0.2]}, "time_grid", "give start and step"),
        ({"prices": PRICES, "start": INDEX[0]}, "time_grid", "start and step belong together"),
        ({"prices": PRICES.tz_localize(None)}, "time_grid", "must have a time zone"),
        ({"prices": PRICES, "export_prices": np.array(["low"])}, "export_prices", "could not convert"),
        ({"prices": PRICES, "reserves": "c-1"}, "reserves", "must be a list"),
        (
            {"prices": PRICES, "limits": [PortfolioLimit(max_import_kw=np.array(["x"]), violation_price_per_kwh=1)]},
            "limits",
            "x",
        ),
    ],
)
def test_what_cannot_be_written_is_named(given: dict[str, Any], field: str, problem: str) -> None:
    with pytest.raises(InvalidRequestError, match=problem) as caught:
        PlanRequest("p", **given).to_message()
    assert [violation.field for violation in caught.value.violations] == [field]
