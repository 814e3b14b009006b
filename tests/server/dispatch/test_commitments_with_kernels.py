"""Sold power that cars keep deliverable, and sold power that they cannot, with the kernels themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from evflex.dispatch.v1 import dispatch_service_pb2 as api
from evflex.dispatch.v1 import dispatch_service_pb2_grpc
from evflex.server.app import Server
from tests.server.dispatch.commitments import FakeLedger, by_id, commitment
from tests.server.dispatch.support import PlanAnswer, answer_of, creation, fleet, header, plan_request
from tests.server.support import START_S, open_channel, settings_for

pytestmark = pytest.mark.slow  # where kernels are compiled first

CARS, CAR_KW, STEP_H = 4, 11.0, 0.25
SOLD_STEP = 2
# dear where power is sold, so that nobody draws there but for the reserve
PRICES = [0.2, 0.2, 0.9, 0.2, 0.2, 0.2, 0.2, 0.2]


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    ledger = FakeLedger()
    ledger.sell(
        commitment("kept", SOLD_STEP * 900_000, (SOLD_STEP + 1) * 900_000, power_w=20_000),
        commitment("too-large", SOLD_STEP * 900_000, (SOLD_STEP + 1) * 900_000, power_w=60_000),
    )
    server = Server(settings_for(tmp_path_factory.mktemp("server"), warm_up=False), commitments=ledger)
    with server, open_channel(server.port) as channel:
        made = dispatch_service_pb2_grpc.DispatchServiceStub(channel)
        # each needs 5 kWh of the 22 kWh that it could get until it leaves with the end of the plan
        cars = fleet(CARS, available_until_unix_s=[START_S + 8 * 900] * CARS)
        made.CreatePortfolio(iter(creation(header(CARS), cars)))
        yield made


def plan_of(stub: Any, *commitment_ids: str) -> PlanAnswer:
    request: api.PlanPortfolioRequest = plan_request(import_price_per_kwh=PRICES, reserves=by_id(*commitment_ids))
    return answer_of(stub.PlanPortfolio(request, timeout=240.0))


def test_a_commitment_is_kept_deliverable(stub: Any) -> None:
    assert plan_of(stub).plan.fleet_power_kw[SOLD_STEP] == pytest.approx(0.0, abs=1e-6)
    answer = plan_of(stub, "kept")
    assert list(answer.plan.reserve_shortfalls) == []
    assert answer.plan.shortfall_kwh == pytest.approx(0.0, abs=1e-6)
    powers = np.array(list(answer.powers.values()))
    # cars that only charge give upward what they draw, ...
    drawn_kw = powers[:, SOLD_STEP]
    assert drawn_kw.sum() >= 20.0 - 1e-6
    # ... and each can still catch up what a call takes
    room_kwh = STEP_H * (CAR_KW - powers[:, SOLD_STEP + 1 :]).sum(axis=1)
    assert (room_kwh >= STEP_H * drawn_kw - 1e-6).all()


def test_a_commitment_that_cannot_be_kept_is_told_by_its_identifier(stub: Any) -> None:
    (missing,) = plan_of(stub, "kept", "too-large").plan.reserve_shortfalls
    assert (missing.commitment_id, missing.step, missing.down_kw) == ("too-large", SOLD_STEP, 0.0)
    # all four cars draw all they can
    assert missing.up_kw == pytest.approx(20.0 + 60.0 - CARS * CAR_KW, abs=1e-3)
    # the plan breaks the later of two
    told = plan_of(stub, "too-large", "kept").plan.reserve_shortfalls
    assert {m.commitment_id: m.up_kw for m in told} == pytest.approx({"kept": 20.0, "too-large": 16.0}, abs=1e-3)
