"""Bookings: under an active agreement, within it and within the headroom, and never the last kilowatt twice."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from evflex.capacity.v1 import agreement_pb2
from evflex.capacity.v1 import capacity_service_pb2 as api
from evflex.common.v1 import time_grid_pb2
from tests.conftest import SOAK
from tests.server.capacity.support import (
    CPO,
    DSO,
    RunningCapacity,
    acceptance,
    agreed,
    booking_request,
    code_of,
    ending,
    error_of,
    new_id,
    proposed,
    rate,
    running_capacity,
    time_at,
)
from tests.server.support import START_S, info_of, reason_of, violations_of

FAILED_PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
RACERS = 8
ROUNDS = 1_000 if SOAK else 20


def booked(here: RunningCapacity, *arguments: Any, **fields: Any) -> agreement_pb2.Booking:
    return here.cpo.BookCapacity(booking_request(*arguments, **fields)).booking  # type: ignore[no-any-return]


def refusal(here: RunningCapacity, *arguments: Any, **fields: Any) -> tuple[str, dict[str, str]]:
    """Reason and metadata of a booking that must be refused by its circumstances."""
    error = error_of(here.cpo.BookCapacity, booking_request(*arguments, **fields))
    assert error.code() is FAILED_PRECONDITION, error
    return reason_of(error), info_of(error)


def release(booking: agreement_pb2.Booking, **fields: Any) -> api.ReleaseBookingRequest:
    return api.ReleaseBookingRequest(**{"request_id": new_id(), "booking_id": booking.booking_id, **fields})


def listed(here: RunningCapacity, by: str = CPO, **fields: Any) -> list[agreement_pb2.Booking]:
    return list(here.party(by).ListBookings(api.ListBookingsRequest(**fields)).bookings)


@pytest.mark.parametrize("by", [DSO, CPO])
def test_either_party_books(tmp_path: Path, database_url: str, by: str) -> None:
    with running_capacity(tmp_path, database_url) as here:
        rate(here, [50.0] * 8, [20.0] * 8)
        agreement = agreed(here, area_id="north")
        request = booking_request(agreement, [1.0, 0.0, 0.1 + 0.2], first_step=2)
        request.time_grid.start_time.nanos = 123_456_789
        booking = here.party(by).BookCapacity(request).booking
        assert (booking.booked_by, booking.tenant_id, booking.area_id) == (by, DSO, "north")
        assert (booking.agreement_id, booking.hub_id) == (agreement.agreement_id, agreement.hub_id)
        assert booking.transformer_id == agreement.transformer_id
        assert booking.time_grid == request.time_grid
        assert list(booking.firm_kw) == [1.0, 0.0, 0.1 + 0.2]
        assert not booking.conditional_kw
        assert not booking.released
        conditional = here.party(by).BookCapacity(booking_request(agreement, (), [3.0])).booking
        assert (list(conditional.conditional_kw), len(conditional.firm_kw)) == ([3.0], 0)
        assert listed(here, DSO) == listed(here, CPO) == [conditional, booking]


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("request_id", {"request_id": "x"}),
        ("hub_id", {"hub_id": ""}),
        ("hub_id", {"hub_id": "hub-2"}),
        ("agreement_id", {"agreement_id": ""}),
        ("firm_kw", {"firm_kw": []}),
        ("firm_kw", {"firm_kw": [1.0, 1.0], "conditional_kw": [1.0, 1.0]}),
        ("firm_kw", {"firm_kw": [0.0, 0.0]}),
        ("firm_kw", {"firm_kw": [1.0]}),
        ("firm_kw[1]", {"firm_kw": [1.0, -1.0]}),
        ("firm_kw[0]", {"firm_kw": [float("nan"), 1.0]}),
        ("conditional_kw[0]", {"firm_kw": [], "conditional_kw": [float("inf"), 1.0]}),
        ("time_grid", {"time_grid": None}),
        ("time_grid.start_time", {"time_grid": time_grid_pb2.TimeGrid(step_count=2)}),
    ],
)
def test_bookings_that_make_no_sense_are_refused(tmp_path: Path, field: str, change: dict[str, Any]) -> None:
    with running_capacity(tmp_path) as here:
        rate(here, [50.0] * 8, [50.0] * 8)
        agreement = agreed(here)
        values: dict[str, Any] = {"firm_kw": [1.0, 1.0], "conditional_kw": [], **change}
        request = booking_request(agreement, [1.0, 1.0])
        for name, value in values.items():
            request.ClearField(name)
            if isinstance(value, list):
                getattr(request, name).extend(value)
            elif isinstance(value, str):
                setattr(request, name, value)
            elif value is not None:
                getattr(request, name).CopyFrom(value)
        error = error_of(here.cpo.BookCapacity, request)
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert field in violations_of(error)
        assert not listed(here)


def test_only_an_active_agreement_can_be_booked_under(tmp_path: Path, database_url: str) -> None:
    with running_capacity(tmp_path, database_url) as here:
        rate(here, [50.0] * 8, [50.0] * 8)
        agreement = proposed(here)
        assert refusal(here, agreement, [1.0]) == ("AGREEMENT_NOT_ACTIVE", {"state": "PROPOSED"})
        here.dso.AcceptAgreement(acceptance(agreement))
        booked(here, agreement, [1.0])
        here.dso.EndAgreement(ending(agreement))
        assert refusal(here, agreement, [1.0]) == ("AGREEMENT_NOT_ACTIVE", {"state": "ENDED"})
        unknown = agreement_pb2.Agreement(agreement_id=str(uuid.UUID(int=7)), hub_id="h")
        assert code_of(here.cpo.BookCapacity, booking_request(unknown, [1.0])) is grpc.StatusCode.NOT_FOUND


def test_a_booking_lies_within_the_validity(tmp_path: Path) -> None:
    with running_capacity(tmp_path) as here:
        rate(here, [50.0] * 8, [50.0] * 8)
        agreement = agreed(here, valid_from_time=time_at(1), valid_until_time=time_at(3))
        booked(here, agreement, [1.0, 1.0], first_step=1)
        assert refusal(here, agreement, [1.0, 1.0], first_step=0) == ("OUTSIDE_VALIDITY", {"first_step": "0"})
        assert refusal(here, agreement, [1.0, 1.0], first_step=2) == ("OUTSIDE_VALIDITY", {"first_step": "1"})
        assert refusal(here, agreement, [1.0], first_step=2.5) == ("OUTSIDE_VALIDITY", {"first_step": "0"})


def test_bookings_of_a_kind_stay_within_the_agreement(tmp_path: Path, database_url: str) -> None:
    with running_capacity(tmp_path, database_url) as here:
        rate(here, [100.0] * 8, [100.0] * 8)
        agreement = agreed(here)  # 10 kW firm, 20 kW conditional
        booked(here, agreement, [6.0, 6.0, 6.0])
        booked(here, agreement, (), [20.0] * 3)  # of another kind
        reason, left = refusal(here, agreement, [4.0, 5.0], first_step=2, step_s=450)
        assert (reason, left["first_step"]) == ("AGREEMENT_EXCEEDED", "1")
        assert (left["left_kw"], left["left_kw_per_step"]) == ("4", "4")
        reason, left = refusal(here, agreement, [4.001], first_step=1, step_s=1)
        assert (reason, left["left_kw"]) == ("AGREEMENT_EXCEEDED", "4")
        reason, left = refusal(here, agreement, (), [0.5], first_step=2)
        assert (reason, left["left_kw"]) == ("AGREEMENT_EXCEEDED", "0")
        booked(here, agreement, [4.0, 10.0], first_step=2)
        booked(here, agreement, (), [20.0], first_step=3)


def test_another_agreement_has_its_own_limits_but_the_same_headroom(tmp_path: Path) -> None:
    with running_capacity(tmp_path) as here:
        rate(here, [25.0] * 8, [15.0] * 8)
        first, second = agreed(here), agreed(here, hub_id="hub-2")
        booked(here, first, [10.0])
        assert refusal(here, second, [6.0])[1]["left_kw"] == "5"
        booked(here, second, [5.0])
        elsewhere = agreed(here, hub_id="hub-3", transformer_id="transformer-2")
        assert refusal(here, elsewhere, [1.0])[0] == "NO_RATING"
        rate(here, [25.0], [15.0], transformer_id="transformer-2")
        booked(here, elsewhere, [10.0])


def test_firm_stays_within_n1_and_all_within_n(tmp_path: Path, database_url: str) -> None:
    with running_capacity(tmp_path, database_url) as here:
        rate(here, [20.0] * 4, [8.0] * 4)
        agreement = agreed(here)
        assert refusal(here, agreement, [9.0])[1] == {"left_kw": "8", "left_kw_per_step": "8", "first_step": "0"}
        booked(here, agreement, [8.0])
        assert refusal(here, agreement, (), [12.5])[1]["left_kw"] == "12"
        booked(here, agreement, (), [12.0])
        booked(here, agreement, (), [15.0], first_step=1)
        reason, left = refusal(here, agreement, [6.0], first_step=1)  # N-1 would have it, N has not
        assert (reason, left["left_kw"]) == ("CAPACITY_TAKEN", "5")
        booked(here, agreement, [5.0], first_step=1)


def test_what_is_left_is_said_step_by_step_and_can_be_booked(tmp_path: Path) -> None:
    with running_capacity(tmp_path) as here:
        rate(here, [9.0, 7.25, 3.3333, 0.0, 8.0], [9.0, 7.25, 3.3333, 0.0, 8.0])
        agreement = agreed(here)
        request = booking_request(agreement, [8.0, 8.0, 8.0, 0.0, 8.0])
        error = error_of(here.cpo.BookCapacity, request)
        assert reason_of(error) == "CAPACITY_TAKEN"
        assert info_of(error) == {"left_kw": "3.333", "left_kw_per_step": "7.25,3.333,0,8", "first_step": "1"}
        assert "step 1 wants 8 kW, and 7.25 kW" in error.details()
        booked(here, agreement, [8.0, 7.25, 3.333, 0.0, 8.0])


def test_what_is_left_fits_into_an_error_however_long_the_window(tmp_path: Path) -> None:
    with running_capacity(tmp_path) as here:
        rate(here, [1.111] * 5_000, [1.111] * 5_000)
        agreement = agreed(here)
        _, left = refusal(here, agreement, [2.0] * 5_000)
        shown = left["left_kw_per_step"].split(",")
        assert 100 < len(shown) < 1_000
        assert set(shown) == {"1.111"}


def test_without_a_rating_nothing_is_booked(tmp_path: Path, database_url: str) -> None:
    with running_capacity(tmp_path, database_url) as here:
        agreement = agreed(here)
        assert refusal(here, agreement, [1.0]) == ("NO_RATING", {"first_step": "0"})
        rate(here, [50.0] * 2, [50.0] * 2, tenant_id=CPO)
        assert refusal(here, agreement, [1.0])[0] == "NO_RATING"
        rate(here, [50.0] * 2, [50.0] * 2)
        assert refusal(here, agreement, [1.0] * 3) == ("NO_RATING", {"first_step": "2"})
        rate(here, [50.0], [50.0], first_step=3)
        assert refusal(here, agreement, [1.0] * 4) == ("NO_RATING", {"first_step": "2"})
        rate(here, [50.0], [50.0], first_step=2)
        booked(here, agreement, [1.0] * 4)


def test_the_latest_rating_holds_where_it_reaches(tmp_path: Path, database_url: str) -> None:
    with running_capacity(tmp_path, database_url) as here:
        rate(here, [1.0] * 8, [1.0] * 8)
        rate(here, [5.0] * 4, [5.0] * 4, first_step=2)
        rate(here, [3.0], [3.0], first_step=3)
        agreement = agreed(here)
        _, left = refusal(here, agreement, [9.0] * 8)
        assert left["left_kw_per_step"] == "1,1,5,3,5,5,1,1"
        # an hour from the middle of step 1: worst of 1, 5, 3, 5 and 5
        assert refusal(here, agreement, [9.0], first_step=1.5, step_s=3600)[1]["left_kw"] == "1"


def test_a_lower_rating_cancels_nothing_and_gives_nothing(tmp_path: Path) -> None:
    with running_capacity(tmp_path) as here:
        rate(here, [20.0] * 2, [20.0] * 2)
        agreement = agreed(here)
        booking = booked(here, agreement, [8.0, 8.0])
        rate(here, [5.0], [5.0])
        assert listed(here) == [booking]
        reason, left = refusal(here, agreement, [1.0, 1.0])
        assert (reason, left["left_kw_per_step"]) == ("CAPACITY_TAKEN", "0,2")
        booked(here, agreement, [0.0, 1.0])  # wants nothing where nothing is left
        here.cpo.ReleaseBooking(release(booking))
        booked(here, agreement, [5.0, 1.0])


def test_lesser_terms_cancel_nothing_and_give_nothing(tmp_path: Path) -> None:
    with running_capacity(tmp_path) as here:
        rate(here, [20.0] * 2, [20.0] * 2)
        agreement = agreed(here)
        booking = booked(here, agreement, [8.0])
        lesser = proposed(here, DSO, agreement_id=agreement.agreement_id, firm_kw=5.0)
        booked(here, agreement, [1.0])  # not accepted yet
        here.cpo.AcceptAgreement(acceptance(lesser))
        assert booking in listed(here)
        assert refusal(here, agreement, [0.5])[0] == "AGREEMENT_EXCEEDED"
        booked(here, agreement, [5.0], first_step=1)


@pytest.mark.parametrize("by", [DSO, CPO])
def test_either_party_releases(tmp_path: Path, database_url: str, by: str) -> None:
    with running_capacity(tmp_path, database_url) as here:
        rate(here, [10.0] * 2, [10.0] * 2)
        agreement = agreed(here)
        booking = booked(here, agreement, [10.0])
        error = error_of(here.party(by).ReleaseBooking, release(booking, etag="other"))
        assert error.code() is grpc.StatusCode.ABORTED
        assert info_of(error) == {"etag": booking.etag}
        check = release(booking, validate_only=True, request_id="")
        assert not here.party(by).ReleaseBooking(check).HasField("booking")
        assert listed(here) == [booking]
        request = release(booking, etag=booking.etag)
        released = here.party(by).ReleaseBooking(request).booking
        assert released.released
        assert released.etag != booking.etag
        assert released.update_time.ToNanoseconds() > booking.update_time.ToNanoseconds()
        booked(here, agreement, [10.0])
        assert here.party(by).ReleaseBooking(request).booking == released
        assert here.dso.ReleaseBooking(release(booking)).booking == released
        request.etag = "another payload"
        assert code_of(here.party(by).ReleaseBooking, request) is grpc.StatusCode.ALREADY_EXISTS


@pytest.mark.parametrize("booking_id", [str(uuid.UUID(int=7)), "x", "' OR 1=1 --"])
def test_an_unknown_booking_is_not_found(tmp_path: Path, booking_id: str) -> None:
    request = api.ReleaseBookingRequest(request_id=new_id(), booking_id=booking_id)
    with running_capacity(tmp_path) as here:
        assert code_of(here.cpo.ReleaseBooking, request) is grpc.StatusCode.NOT_FOUND


def test_the_end_of_an_agreement_releases_what_is_not_over(tmp_path: Path, database_url: str) -> None:
    with running_capacity(tmp_path, database_url) as here:
        rate(here, [50.0] * 8, [50.0] * 8)
        agreement, other = agreed(here), agreed(here, hub_id="hub-2")
        past = booked(here, agreement, [1.0, 1.0])
        ended_now = booked(here, agreement, [1.0], first_step=2)
        running = booked(here, agreement, [1.0, 1.0], first_step=2)
        future = booked(here, agreement, (), [1.0], first_step=5)
        others = booked(here, other, [1.0], first_step=5)
        here.clock.unix_us = (START_S + 3 * 900) * 1_000_000
        here.dso.EndAgreement(ending(agreement))
        bookings = {one.booking_id: one for one in listed(here, include_released=True)}
        for booking in (past, ended_now, others):
            assert bookings[booking.booking_id] == booking
        for booking in (running, future):
            changed = bookings[booking.booking_id]
            assert changed.released
            assert changed.etag != booking.etag
            assert changed.update_time.ToNanoseconds() > booking.update_time.ToNanoseconds()
        assert {one.booking_id for one in listed(here)} == {b.booking_id for b in (past, ended_now, others)}


def test_the_same_request_books_once(tmp_path: Path, database_url: str) -> None:
    with running_capacity(tmp_path, database_url) as here:
        rate(here, [10.0], [10.0])
        agreement = agreed(here)
        request = booking_request(agreement, [8.0])
        with ThreadPoolExecutor(RACERS) as threads:
            answers = list(threads.map(here.cpo.BookCapacity, [request] * RACERS))
        assert len({answer.SerializeToString(deterministic=True) for answer in answers}) == 1
        assert len(listed(here)) == 1
        request.firm_kw[0] = 2.0
        assert code_of(here.cpo.BookCapacity, request) is grpc.StatusCode.ALREADY_EXISTS


def test_only_checking_books_nothing(tmp_path: Path) -> None:
    with running_capacity(tmp_path) as here:
        rate(here, [10.0], [10.0])
        agreement = agreed(here)
        check: dict[str, Any] = {"validate_only": True, "request_id": ""}
        assert not here.cpo.BookCapacity(booking_request(agreement, [8.0], **check)).HasField("booking")
        assert refusal(here, agreement, [10.5], **check)[0] == "AGREEMENT_EXCEEDED"
        assert not listed(here, include_released=True)
        booked(here, agreement, [10.0])


def test_an_agreement_has_a_bounded_number_of_booked_steps(tmp_path: Path) -> None:
    with running_capacity(tmp_path, max_agreement_booked_steps=5) as here:
        rate(here, [50.0] * 8, [50.0] * 8)
        agreement = agreed(here)
        first = booked(here, agreement, [1.0] * 4)
        error = error_of(here.cpo.BookCapacity, booking_request(agreement, [1.0] * 2))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert info_of(error)["limit"] == "max_agreement_booked_steps"
        here.cpo.ReleaseBooking(release(first))
        booked(here, agreement, [1.0] * 5)


def test_lists_come_in_pages_newest_first(tmp_path: Path, database_url: str) -> None:
    with running_capacity(tmp_path, database_url) as here:
        rate(here, [50.0] * 8, [50.0] * 8)
        first, second = agreed(here), agreed(here, hub_id="hub-2")
        made = [booked(here, (first, second)[i % 2], [0.5]) for i in range(7)]
        here.cpo.ReleaseBooking(release(made[2]))
        seen, token, pages = [], "", 0
        while pages == 0 or token:
            answer = here.dso.ListBookings(api.ListBookingsRequest(page_size=3, page_token=token))
            seen += answer.bookings
            token, pages = answer.next_page_token, pages + 1
        assert pages == 2
        assert seen == [one for one in reversed(made) if one is not made[2]]
        assert len(listed(here, include_released=True)) == 7
        assert listed(here, hub_id="hub-2") == made[5::-2]
        assert listed(here, agreement_id=first.agreement_id, page_size=1) == [made[6]]
        assert not listed(here, agreement_id="' OR 1=1 --")
        token = here.dso.ListBookings(api.ListBookingsRequest(page_size=1)).next_page_token
        for request in (
            api.ListBookingsRequest(page_token=token, include_released=True),
            api.ListBookingsRequest(page_size=-1),
        ):
            assert code_of(here.dso.ListBookings, request) is grpc.StatusCode.INVALID_ARGUMENT


def test_bookings_are_there_after_a_restart(tmp_path: Path, database_url: str) -> None:
    with running_capacity(tmp_path, database_url) as here:
        rate(here, [12.0], [12.0])
        agreement = agreed(here)
        request = booking_request(agreement, [8.0])
        answer = here.cpo.BookCapacity(request)
    with running_capacity(tmp_path, database_url) as here:
        assert listed(here) == [answer.booking]
        assert here.cpo.BookCapacity(request) == answer
        assert refusal(here, agreement, [3.0])[1]["left_kw"] == "2"


def outcomes_of_races(servers: Sequence[RunningCapacity], rounds: int) -> Iterator[Counter[str]]:
    """Each of eight hubs wants the last kilowatt at the same time; round by round another step."""
    here = servers[0]
    agreements = [agreed(here, hub_id=f"hub-{i}") for i in range(RACERS)]
    rate(here, [10.0] * rounds, [10.0] * rounds)
    booked(here, agreements[0], [9.0] * rounds)
    start = threading.Barrier(RACERS)

    def race(racer: int, step: int) -> str:
        request = booking_request(agreements[racer], [1.0], first_step=step)
        start.wait()
        try:
            servers[racer % len(servers)].cpo.BookCapacity(request)
        except grpc.RpcError as error:
            return f"{reason_of(error)}: {info_of(error)['left_kw']} kW left"
        return "won"

    with ThreadPoolExecutor(RACERS) as threads:
        for step in range(rounds):
            yield Counter(threads.map(race, range(RACERS), [step] * RACERS))


@pytest.mark.timeout(3_600 if SOAK else 300)
def test_the_last_kilowatt_is_booked_once(tmp_path: Path, database_url: str) -> None:
    with running_capacity(tmp_path, database_url) as here:
        for outcomes in outcomes_of_races([here], ROUNDS):
            assert outcomes == {"won": 1, "CAPACITY_TAKEN: 0 kW left": RACERS - 1}


@pytest.mark.timeout(3_600 if SOAK else 300)
def test_servers_that_share_a_database_book_the_last_kilowatt_once(tmp_path: Path, database_url: str) -> None:
    with running_capacity(tmp_path, database_url) as here, running_capacity(tmp_path, database_url) as there:
        for outcomes in outcomes_of_races([here, there], ROUNDS // 4):
            assert outcomes == {"won": 1, "CAPACITY_TAKEN: 0 kW left": RACERS - 1}


def test_random_bookings_never_exceed_agreement_or_headroom(tmp_path: Path) -> None:
    """Whatever was booked in any order on any grids is within every limit in every second."""
    random = np.random.default_rng(7)
    seconds, headroom_n, headroom_n1 = 3_600, [12.0, 20.0, 9.0, 15.0], [6.0, 11.0, 9.0, 3.0]
    with running_capacity(tmp_path) as here:
        rate(here, headroom_n, headroom_n1)
        agreements = [agreed(here, hub_id=f"hub-{i}", firm_kw=5.0, conditional_kw=8.0) for i in range(3)]
        for _ in range(300 if SOAK else 60):
            agreement = agreements[random.integers(3)]
            step_s, count = int(random.integers(60, 1_000)), int(random.integers(1, 4))
            first_s = int(random.integers(0, max(1, seconds - step_s * count)))
            if first_s + step_s * count > seconds:
                continue
            power_kw = random.uniform(0.1, 6.0, count).round(2).tolist()
            arrays = (power_kw, ()) if random.random() < 0.5 else ((), power_kw)
            request = booking_request(agreement, *arrays, first_step=first_s / 900, step_s=step_s)
            with suppress(grpc.RpcError):
                here.cpo.BookCapacity(request)
        totals = {agreement.agreement_id: np.zeros((2, seconds)) for agreement in agreements}
        for booking in listed(here):
            for kind, power in enumerate((booking.firm_kw, booking.conditional_kw)):
                at = booking.time_grid.start_time.seconds - START_S
                for one_kw in power:
                    totals[booking.agreement_id][kind, at : at + booking.time_grid.step_duration.seconds] += one_kw
                    at += booking.time_grid.step_duration.seconds
    tolerance_kw = 1e-5
    for total in totals.values():
        assert total[0].max() <= 5.0 + tolerance_kw
        assert total[1].max() <= 8.0 + tolerance_kw
    firm, conditional = np.sum(list(totals.values()), axis=0)
    assert firm.max() > 0.0
    assert conditional.max() > 0.0
    assert (firm <= np.repeat(headroom_n1, 900) + tolerance_kw).all()
    assert (firm + conditional <= np.repeat(headroom_n, 900) + tolerance_kw).all()
