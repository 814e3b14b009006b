"""`evflex demo capacity`: a generated evening becomes agreements, an allocation, a story, a picture and a table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from evflex.capacity.v1 import agreement_pb2, allocation_pb2
from evflex.capacity.v1 import capacity_service_pb2 as pb
from evflex.cli.demo.capacity import run as run_module
from evflex.cli.demo.capacity.evening import (
    CONTINGENCY_HOUR,
    CONTRACTS,
    MAX_LOADING_RATIO,
    N1_RATED_KVA,
    OPERATOR,
    RATED_KVA,
    START,
    STEP,
    STEP_COUNT,
    Evening,
    generated_evening,
)
from evflex.cli.main import app
from tests.client.fake_server import FakeServer

STEP_H = STEP / pd.Timedelta(hours=1)


@pytest.fixture(scope="module")
def evening() -> Evening:
    return generated_evening()


def test_the_evening_is_the_same_in_every_run(evening: Evening) -> None:
    again = generated_evening()
    pd.testing.assert_series_equal(evening.base_kw, again.base_kw)
    for hub, other in zip(evening.hubs, again.hubs, strict=True):
        assert hub.sessions is not None
        assert other.sessions is not None
        pd.testing.assert_frame_equal(hub.sessions, other.sessions)


def test_the_cars_could_be_served_if_the_transformer_had_no_limits(evening: Evening) -> None:
    for hub in evening.hubs:
        cars = hub.sessions
        assert cars is not None
        stay_h = (cars["departure_time"] - cars["arrival_time"]).dt.total_seconds() / 3600.0
        assert (cars["energy_needed_kwh"] <= cars["max_charge_kw"] * stay_h).all()
        assert (cars["arrival_time"] >= START).all()
        assert cars["session_id"].is_unique


def test_firm_capacity_fits_in_the_hour_without_reserve(evening: Evening) -> None:
    firm_kw = sum(contract.terms.firm_kw for contract in CONTRACTS.values())
    loaded_kva = evening.apparent_kva(np.full(STEP_COUNT, firm_kw))
    assert (loaded_kva <= evening.limit_kva).all()
    assert loaded_kva.max() <= N1_RATED_KVA


def test_the_hour_without_reserve_is_one_hour_of_the_evening(evening: Evening) -> None:
    hours = pd.DatetimeIndex(evening.base_kw.index).hour
    assert set(hours[evening.contingency]) == {CONTINGENCY_HOUR}
    assert evening.contingency.sum() * STEP == pd.Timedelta(hours=1)


def test_the_chapter_tells_its_story(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    servers: list[FakeServer] = []
    monkeypatch.setattr(run_module, "own_server", lambda: scripted_server(servers))
    folder = tmp_path / "deep" / "out"
    result = run("capacity", "--output", str(folder))
    assert result.exit_code == 0, result.output
    told = " ".join(result.stdout.split())
    for shown in (
        "a transformer of 630 kVA",
        "charging at home 24 + 226 kW, fast charging 36 + 264 kW",
        "together",
        "more energy through than firm capacity alone",
        "62 kVA, which fit in every step",
        "what held hubs back: contingency in 4 steps",
    ):
        assert shown in told
    assert {path.name for path in folder.iterdir()} == {"capacity.png", "capacity_steps.csv"}
    picture = matplotlib.image.imread(folder / "capacity.png")
    assert picture.shape[1] > 1000
    assert float(np.std(picture[..., :3])) > 0.05
    steps = pd.read_csv(folder / "capacity_steps.csv")
    assert len(steps) == STEP_COUNT
    assert steps["contingency"].sum() == 4
    assert (steps["homes_power_kw"] <= steps["homes_capacity_kw"] + 1e-6).all()
    check_calls(servers[0])


def check_calls(server: FakeServer) -> None:
    """Each agreement is proposed by the grid company, accepted by its hub's operator, and used once."""
    parties = [(name, metadata["evflex-tenant"]) for name, _, metadata in server.calls]
    assert parties == [
        ("ProposeAgreement", OPERATOR), ("AcceptAgreement", "home-charging"),
        ("ProposeAgreement", OPERATOR), ("AcceptAgreement", "road-charging"),
        ("RateTransformer", OPERATOR), ("AllocateCapacity", OPERATOR), ("AllocateCapacity", OPERATOR),
    ]  # fmt: skip
    shared, firm_only = server.asked("AllocateCapacity")
    assert [hub.agreement_id for hub in shared.hubs] == ["agreement-homes", "agreement-road"]
    assert shared.store
    assert not firm_only.store
    assert [hub.agreement.conditional_kw for hub in firm_only.hubs] == [0.0, 0.0]
    assert [hub.agreement.firm_kw for hub in firm_only.hubs] == [24.0, 36.0]
    assert shared.n1_rated_kva == N1_RATED_KVA
    assert list(shared.grid_condition).count(2) == 4


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["capacit"], "did you mean 'capacity'?"),
        (["capacity", "--sessions", "s.csv", "--prices", "p.csv"], "the chapter capacity generates its cars"),
    ],
)
def test_arguments_that_cannot_be_used_say_why(flags: list[str], problem: str) -> None:
    result = run(*flags)
    assert result.exit_code == 2
    assert problem in result.stderr


def run(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, ["demo", *arguments])


@contextmanager
def scripted_server(started: list[FakeServer]) -> Iterator[str]:
    """A server that shares by a simple rule of its own."""
    fake = FakeServer()
    started.append(fake)
    fake.on("ProposeAgreement", _propose)
    fake.on("AcceptAgreement", _accept)
    fake.on("RateTransformer", _rate)
    fake.on("AllocateCapacity", _allocate)
    try:
        yield fake.address
    finally:
        fake.stop()


def _propose(request: Any, _context: Any) -> pb.ProposeAgreementResponse:
    answer = pb.ProposeAgreementResponse(agreement=request.agreement)
    answer.agreement.agreement_id = f"agreement-{request.agreement.hub_id}"
    answer.agreement.version = 1
    answer.agreement.state = agreement_pb2.AGREEMENT_STATE_PROPOSED
    return answer


def _accept(request: Any, _context: Any) -> pb.AcceptAgreementResponse:
    answer = pb.AcceptAgreementResponse()
    answer.agreement.agreement_id = request.agreement_id
    answer.agreement.state = agreement_pb2.AGREEMENT_STATE_ACTIVE
    return answer


def _rate(request: Any, _context: Any) -> pb.RateTransformerResponse:
    answer = pb.RateTransformerResponse()
    answer.rating.time_grid.CopyFrom(request.time_grid)
    answer.rating.headroom_n1_kva.extend(np.linspace(62.0, 200.0, request.time_grid.step_count).tolist())
    return answer


def _allocate(request: Any, _context: Any) -> pb.AllocateCapacityResponse:
    """Cars at full power in order of arrival; what is left above the base load goes to hubs in proportion."""
    answer = pb.AllocateCapacityResponse()
    allocation = answer.allocation
    allocation.time_grid.CopyFrom(request.time_grid)
    allocation.fairness_index = 0.97
    base_kva = np.hypot(request.loading.forecast.load_kw, request.loading.forecast.load_kvar)
    contingency = np.asarray(request.grid_condition) == 2
    free_kw = np.where(contingency, request.n1_rated_kva, MAX_LOADING_RATIO * RATED_KVA) - base_kva
    wanted_kw = np.zeros((len(request.hubs), STEP_COUNT))
    for row, hub in zip(wanted_kw, request.hubs, strict=True):
        for car in hub.sessions:
            first = (car.arrival_time.seconds - request.time_grid.start_time.seconds) / STEP.total_seconds()
            full = car.energy_needed_kwh / car.max_charge_kw / STEP_H
            steps = np.arange(STEP_COUNT)
            row += car.max_charge_kw * np.clip(np.minimum(steps + 1, first + full) - np.maximum(steps, first), 0.0, 1.0)
    terms = [CONTRACTS[hub.hub_id].terms for hub in request.hubs]
    most_kw = [
        term.firm_kw + (hub.agreement.conditional_kw if hub.HasField("agreement") else term.conditional_kw)
        for hub, term in zip(request.hubs, terms, strict=True)
    ]
    usable_kw = np.minimum(wanted_kw, np.array(most_kw)[:, None])
    scale = np.minimum(1.0, free_kw / np.maximum(usable_kw.sum(axis=0), 1e-9))
    power_kw = usable_kw * scale
    for hub, term, wanted, power in zip(request.hubs, terms, wanted_kw, power_kw, strict=True):
        allocation.hubs.add(
            hub_id=hub.hub_id, capacity_kw=np.maximum(power, term.firm_kw), power_kw=power,
            setpoint_current_a=np.zeros(3 * STEP_COUNT), evs_served=[1] * STEP_COUNT,
            wanted_kwh=wanted.sum() * STEP_H, served_kwh=power.sum() * STEP_H,
            curtailed_kwh=(wanted - power).sum() * STEP_H,
            compensation=(wanted - power).sum() * STEP_H * term.curtailment_price_per_kwh, currency_code="EUR",
        )  # fmt: skip
        for step in np.flatnonzero((scale < 1.0) & contingency):
            allocation.binding.add(
                step=step, hub_id=hub.hub_id, reason=allocation_pb2.BINDING_REASON_CONTINGENCY
            )  # fmt: skip
    _heat(allocation.transformer, (base_kva + sum(np.asarray(hub.capacity_kw) for hub in allocation.hubs)) / RATED_KVA)
    return answer


def _heat(outcome: allocation_pb2.TransformerOutcome, loading_ratio: np.ndarray[Any, np.dtype[np.float64]]) -> None:
    """Oil that follows the losses with a time constant of three hours, and a winding without one."""
    oil_c = 25.0
    for ratio in loading_ratio.tolist():
        settled_c = -5.0 + 55.0 * ((1.0 + 8.0 * ratio**2) / 9.0) ** 0.8
        oil_c += (settled_c - oil_c) * STEP_H / 3.0
        outcome.loading_ratio.append(ratio)
        outcome.top_oil_c.append(oil_c)
        outcome.hot_spot_c.append(oil_c + 23.0 * ratio**1.6)
        outcome.headroom_n_kva.append(0.0)
        outcome.headroom_n1_kva.append(0.0)
    outcome.loss_of_life_h = 1.2
