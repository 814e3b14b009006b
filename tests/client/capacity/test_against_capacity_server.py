"""Both clients against the real server: a system operator and a charge point operator, from agreement to real time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evflex.client import (
    AgreementTerms,
    CapacityMeasurement,
    ConflictError,
    EvflexClient,
    ForecastLoading,
    Hub,
    NotFoundError,
    ScheduleRequest,
    SupplyNode,
    Tariff,
    TrackedChanges,
    Transformer,
)
from tests.cli.serving import server_in_process
from tests.client.conftest import Blocking

pytestmark = pytest.mark.slow  # the kernels are compiled first

TRANSFORMER = Transformer("T-1", rated_kva=400.0, ambient_c=5.0)
EVENING = pd.date_range("2050-01-14 16:00", periods=16, freq="15min", tz="UTC")
CONTINGENCY = (EVENING.hour == 18).tolist()
HOMES = ForecastLoading(pd.Series(200.0, index=EVENING))
N1_KVA = 300.0


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with server_in_process(tmp_path_factory.mktemp("data")) as server:
        yield f"127.0.0.1:{server.port}"


@pytest.fixture(params=[EvflexClient, Blocking], ids=["sync", "asyncio"])
def as_party(address: str, request: pytest.FixtureRequest) -> Iterator[Callable[[str], Any]]:
    """A client for a tenant; each kind of client has its own tenants."""
    made: list[Any] = []

    def party(name: str) -> Any:
        made.append(request.param(address, metadata={"evflex-tenant": f"{name}-{request.param.__name__}"}))
        return made[-1]

    yield party
    for client in made:
        client.close()


def agreed(dso: Any, cpo: Any, names: tuple[str, str], hub_id: str = "quay") -> str:
    terms = AgreementTerms(firm_kw=30.0, conditional_kw=170.0, curtailment_price_per_kwh=0.25, currency_code="EUR")
    proposed = dso.propose_agreement(hub_id, terms, transformer_id="T-1", dso_party=names[0], cpo_party=names[1])
    accepted = cpo.accept_agreement(proposed.agreement_id, proposed.version)
    assert accepted.state == "ACTIVE"
    agreement_id: str = accepted.agreement_id
    return agreement_id


def names_of(as_party: Callable[[str], Any], kind: str) -> tuple[str, str]:
    return f"dso-{kind}", f"cpo-{kind}"


def kind_of(client: Any) -> str:
    return "Blocking" if isinstance(client, Blocking) else "EvflexClient"


def test_an_allocation_keeps_the_agreement_and_becomes_a_schedule(as_party: Callable[[str], Any]) -> None:
    dso, cpo = as_party("dso"), as_party("cpo")
    agreement_id = agreed(dso, cpo, names_of(as_party, kind_of(dso)), "quay")
    cars = pd.DataFrame(
        {
            "session_id": ["a", "b", "c"],
            "arrival_time": EVENING[[0, 2, 4]],
            "departure_time": EVENING[[12, 13, 15]],
            "energy_needed_kwh": [40.0, 60.0, 50.0],
            "max_charge_kw": 50.0,
        }
    )
    hubs = [
        Hub("quay", 250.0, sessions=cars, agreement_id=agreement_id),
        Hub("depot", 300.0, demand_kw=250.0, agreement=AgreementTerms(firm_kw=10.0, conditional_kw=290.0)),
    ]
    allocation = dso.allocate_capacity(
        TRANSFORMER, HOMES, hubs, policy="MAX_MIN", contingency=CONTINGENCY, n1_rated_kva=N1_KVA, store=True
    )
    assert allocation.capacity_kw["quay"].min() >= 30.0 - 1e-6
    total_kw = allocation.capacity_kw.sum(axis=1).to_numpy() + 200.0
    assert (total_kw <= np.where(CONTINGENCY, N1_KVA, 600.0) + 1e-6).all()
    assert "CONTINGENCY" in set(allocation.binding["reason"])
    quay = SupplyNode("quay", max_import_kw=allocation.supply_limit("quay"))
    prices = pd.Series(np.linspace(0.4, 0.2, 16), index=EVENING)
    schedule = cpo.optimize_schedule(ScheduleRequest("quay", cars, Tariff(prices, "EUR"), [quay]))
    assert (schedule.root_power_kw.to_numpy() <= allocation.supply_limit("quay") + 1e-6).all()
    assert schedule.sessions["shortfall_kwh"].sum() == pytest.approx(0.0, abs=1e-6)

    seen = cpo.get_allocation(allocation.allocation_id)
    assert list(seen.capacity_kw.columns) == ["quay"]
    assert seen.capacity_kw["quay"].tolist() == pytest.approx(allocation.capacity_kw["quay"].tolist())
    with pytest.raises(NotFoundError):
        as_party("stranger").get_allocation(allocation.allocation_id)
    assert [row.allocation_id for row in dso.list_allocations()] == [allocation.allocation_id]
    dso.delete_allocation(allocation.allocation_id)
    with pytest.raises(NotFoundError):
        dso.get_allocation(allocation.allocation_id)


def test_bookings_stay_within_the_stored_headroom(as_party: Callable[[str], Any]) -> None:
    dso, cpo = as_party("dso"), as_party("cpo")
    agreement_id = agreed(dso, cpo, names_of(as_party, kind_of(dso)), "pier")
    booked_kw = pd.Series(20.0, index=EVENING)
    with pytest.raises(ConflictError) as unrated:
        cpo.book_capacity("pier", agreement_id, firm_kw=booked_kw)
    assert unrated.value.reason == "NO_RATING"
    busy = ForecastLoading(pd.Series(272.0, index=EVENING))
    rating = dso.rate_transformer(TRANSFORMER, busy, n1_rated_kva=N1_KVA, store=True)
    assert rating.steps["headroom_n1_kva"].to_numpy() == pytest.approx(28.0, rel=1e-6)
    booking = cpo.book_capacity("pier", agreement_id, firm_kw=booked_kw)
    with pytest.raises(ConflictError) as taken:
        cpo.book_capacity("pier", agreement_id, firm_kw=pd.Series(9.0, index=EVENING))
    assert taken.value.reason == "CAPACITY_TAKEN"
    assert float(taken.value.facts["left_kw"]) == pytest.approx(8.0, abs=2e-3)
    assert [row.booking_id for row in dso.list_bookings(agreement_id=agreement_id)] == [booking.booking_id]
    dso.release_booking(booking.booking_id)
    cpo.book_capacity("pier", agreement_id, firm_kw=pd.Series(9.0, index=EVENING))
    ended = cpo.end_agreement(agreement_id)
    assert ended.state == "ENDED"
    assert not list(cpo.list_bookings(agreement_id=agreement_id))
    actions = [event.action for event in dso.get_agreement(agreement_id).events]
    assert actions == ["PROPOSED", "ACCEPTED", "ENDED"]


def test_a_cut_of_the_operator_reaches_the_hub(as_party: Callable[[str], Any], address: str) -> None:
    dso, cpo = as_party("dso"), as_party("cpo")
    names = names_of(as_party, kind_of(dso))
    agreement_id = agreed(dso, cpo, names, "mole")
    watcher = EvflexClient(address, metadata={"evflex-tenant": names[1]})
    cut_seen = threading.Event()

    def watch() -> None:
        for event in watcher.watch_capacity(["mole"], timeout_s=60.0):
            if any(hub.reason == "OPERATOR_CUT" and hub.capacity_kw <= 5.0 + 1e-9 for hub in event.hubs):
                cut_seen.set()
                return

    thread = threading.Thread(target=watch)
    hubs = [Hub("mole", 200.0, agreement_id=agreement_id)]
    with dso.track_capacity(TRANSFORMER, hubs) as tracking:
        thread.start()
        tracking.send(
            CapacityMeasurement(
                pd.Timestamp.now("UTC"), current_a=[100.0] * 3, voltage_v=[230.0] * 3, power_factor=1.0,
                hub_power_kw=[0.0],
            )
        )  # fmt: skip
        answer = tracking.receive(timeout_s=30.0)
        assert answer.outcome == "ACCEPTED"
        tracking.send(TrackedChanges(cut_kw=5.0))
        assert cut_seen.wait(30.0)
    thread.join(30.0)
    watcher.close()
