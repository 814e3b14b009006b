"""Bookings: capacity of a transformer's headroom, taken by a hub under its agreement."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from google.rpc import code_pb2

from evflex.capacity.v1 import capacity_service_pb2
from evflex.engine.capacity.booking import BookedWindow, bookable_kw, capacity_left, fits, ratings_that_hold
from evflex.engine.supply_tree import FloatArray
from evflex.engine.timegrid import TimeGrid
from evflex.engine.validation import Rules
from evflex.server.caller import Caller
from evflex.server.capacity import shown_agreement
from evflex.server.capacity.agreements import run_once, terms_in_force, visible
from evflex.server.capacity.terms import Terms
from evflex.server.errors import ServiceError, invalid_field, limit_exceeded
from evflex.server.fields import check_id, check_request_id, refuse, sound_grid
from evflex.server.settings import Settings
from evflex.server.store.agreements import AgreementRow
from evflex.server.store.bookings import BookingKind, BookingRow, NewBooking
from evflex.server.store.capacity import CapacityRows, CapacityStore, Change
from evflex.server.store.requests import check_etag

# Details of an error travel in trailers, of which clients accept 8 KiB.
_MOST_LIST_LETTERS = 2_000


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is to be booked: power in each step of a window."""

    kind: BookingKind
    window: TimeGrid
    power_kw: FloatArray


@dataclass(frozen=True, slots=True)
class Bookings:
    """Keeps bookings. A booking is checked and stored in one turn to write, so that nothing is given twice.

    A later rating with less headroom, and later terms with less capacity, cancel no booking; nothing more can be booked
    then until enough has been released.

    Attributes:
        store: Where they are kept.
        settings: Limits.
        now_unix_us: The clock, microseconds since 1970-01-01 UTC.
    """

    store: CapacityStore
    settings: Settings
    now_unix_us: Callable[[], int] = lambda: time.time_ns() // 1_000

    def book(
        self, request: capacity_service_pb2.BookCapacityRequest, caller: Caller
    ) -> capacity_service_pb2.BookCapacityResponse:
        """Book capacity, all of it or nothing.

        Raises:
            ServiceError: INVALID_ARGUMENT; NOT_FOUND; RESOURCE_EXHAUSTED, the agreement has too many bookings;
                FAILED_PRECONDITION: the agreement is not active or not valid throughout, there is no rating, or not
                enough is left, with what is left in the metadata.
        """
        wanted = _read_wanted(request)
        now_unix_us = self.now_unix_us()

        def change(rows: CapacityRows) -> Change:
            row = visible(caller, rows.agreements.find(request.agreement_id), "agreement", request.agreement_id)
            if request.hub_id != row.hub_id:
                raise invalid_field("hub_id", f"must be the hub of the agreement, {row.hub_id!r}")
            terms = terms_in_force(rows, row).terms
            _check_validity(terms, wanted.window)
            self._check_size(rows, row, wanted.window, now_unix_us)
            _check_left(rows, row, terms, wanted)
            grid = request.time_grid.SerializeToString()
            new = NewBooking(row, caller.tenant_id, wanted.kind, wanted.window, grid, wanted.power_kw)
            booking = shown_agreement.booking(rows.bookings.create(new, now_unix_us))
            answer = capacity_service_pb2.BookCapacityResponse(booking=booking)
            return Change(booking.booking_id, row.area_id, answer.SerializeToString())

        answer = run_once(self.store, "BookCapacity", request, caller, now_unix_us, change)
        return capacity_service_pb2.BookCapacityResponse.FromString(answer)

    def release(
        self, request: capacity_service_pb2.ReleaseBookingRequest, caller: Caller
    ) -> capacity_service_pb2.ReleaseBookingResponse:
        """Release a booking; one that is released already stays as it is.

        Raises:
            ServiceError: INVALID_ARGUMENT; NOT_FOUND; ABORTED for another etag.
        """
        rules = Rules()
        check_request_id(rules, request.request_id, required=not request.validate_only)
        check_id(rules, "booking_id", request.booking_id, required=True)
        refuse(rules)
        now_unix_us = self.now_unix_us()

        def change(rows: CapacityRows) -> Change:
            row = visible(caller, rows.bookings.find(request.booking_id), "booking", request.booking_id)
            check_etag("booking", request.etag, row.etag)
            booking = shown_agreement.booking(rows.bookings.release(row, now_unix_us))
            answer = capacity_service_pb2.ReleaseBookingResponse(booking=booking)
            return Change(row.booking_id, row.area_id, answer.SerializeToString())

        answer = run_once(self.store, "ReleaseBooking", request, caller, now_unix_us, change)
        return capacity_service_pb2.ReleaseBookingResponse.FromString(answer)

    def page(
        self,
        request: capacity_service_pb2.ListBookingsRequest,
        caller: Caller,
        before_sequence: int | None,
        size: int,
    ) -> list[BookingRow]:
        """Bookings under agreements of the caller, newest first."""
        return self.store.bookings_page(
            caller.tenant_id, before_sequence, size, caller.areas,
            hub_id=request.hub_id, agreement_id=request.agreement_id, include_released=request.include_released,
        )  # fmt: skip

    def _check_size(self, rows: CapacityRows, row: AgreementRow, window: TimeGrid, now_unix_us: int) -> None:
        """Each booking looks at all others at the same time, so that they must not become too many."""
        most = self.settings.max_agreement_booked_steps
        steps = rows.bookings.open_steps(row.agreement_id, now_unix_us) + window.step_count
        if steps > most:
            raise limit_exceeded("max_agreement_booked_steps", steps, most, "release bookings first")


def _read_wanted(request: capacity_service_pb2.BookCapacityRequest) -> _Wanted:
    rules = Rules()
    check_request_id(rules, request.request_id, required=not request.validate_only)
    check_id(rules, "hub_id", request.hub_id, required=True)
    check_id(rules, "agreement_id", request.agreement_id, required=True)
    window = sound_grid(rules, "time_grid", request)
    one = bool(request.firm_kw) != bool(request.conditional_kw)
    rules.check(one, "firm_kw", "must be set where conditional_kw is not, and only then")
    kind = BookingKind.FIRM if request.firm_kw else BookingKind.CONDITIONAL
    name = "firm_kw" if kind == BookingKind.FIRM else "conditional_kw"
    power_kw = np.array(getattr(request, name), dtype=np.float64)
    lengths = None if window is None else (window.step_count,)
    if one and rules.array(name, power_kw, lengths, minimum=0.0):
        rules.check(bool((power_kw > 0.0).any()), name, "must be > 0 in at least one step")
    refuse(rules)
    assert window is not None
    return _Wanted(kind, window, power_kw)


def _check_validity(terms: Terms, window: TimeGrid) -> None:
    invalid_steps = np.flatnonzero(~terms.valid_steps(window))
    if len(invalid_steps):
        first = int(invalid_steps[0])
        raise _refused("OUTSIDE_VALIDITY", f"the agreement is not valid throughout step {first}", first_step=str(first))


def _check_left(rows: CapacityRows, row: AgreementRow, terms: Terms, wanted: _Wanted) -> None:
    """Raise FAILED_PRECONDITION where the agreement, or the transformer, has not enough left."""
    left = capacity_left(_booked(rows, row, terms, wanted), firm=wanted.kind == BookingKind.FIRM)
    unrated = np.flatnonzero(np.isnan(left.on_transformer_kw))
    if len(unrated):
        first = int(unrated[0])
        message = f"no stored rating of the transformer covers all of step {first}"
        raise _refused("NO_RATING", message, first_step=str(first))
    left_kw = bookable_kw(np.minimum(left.in_agreement_kw, left.on_transformer_kw))
    if not fits(wanted.power_kw, left.in_agreement_kw).all():
        raise _taken("AGREEMENT_EXCEEDED", "of the agreement", wanted, left.in_agreement_kw, left_kw)
    if not fits(wanted.power_kw, left.on_transformer_kw).all():
        raise _taken("CAPACITY_TAKEN", "of the transformer's headroom", wanted, left.on_transformer_kw, left_kw)


def _booked(rows: CapacityRows, row: AgreementRow, terms: Terms, wanted: _Wanted) -> BookedWindow:
    bookings = rows.bookings.on_transformer(row.tenant_id, row.transformer_id, wanted.window)
    heads = rows.ratings.heads(row.tenant_id, row.transformer_id, wanted.window)
    holding = ratings_that_hold(wanted.window, [head.grid for head in heads])
    headroom = rows.ratings.headroom([heads[i] for i in holding])
    firm = [booking for booking in bookings if booking.kind == BookingKind.FIRM]
    conditional = [booking for booking in bookings if booking.kind == BookingKind.CONDITIONAL]
    same_kind = firm if wanted.kind == BookingKind.FIRM else conditional
    return BookedWindow(
        wanted.window,
        terms.firm_kw if wanted.kind == BookingKind.FIRM else terms.conditional_kw,
        tuple(booking.series for booking in same_kind if booking.agreement_id == row.agreement_id),
        tuple(one.normal for one in headroom),
        tuple(one.contingency for one in headroom),
        tuple(booking.series for booking in firm),
        tuple(booking.series for booking in conditional),
    )


def _taken(reason: str, of_what: str, wanted: _Wanted, limit_kw: FloatArray, left_kw: FloatArray) -> ServiceError:
    """Says what is left: `left_kw` in each step that wants something, and step by step from the first that is short."""
    first = int(np.flatnonzero(~fits(wanted.power_kw, limit_kw))[0])
    least_kw = left_kw[wanted.power_kw > 0.0].min()
    return _refused(
        reason,
        f"step {first} wants {wanted.power_kw[first]:g} kW, and {_kw(left_kw[first])} kW {of_what} are left",
        left_kw=_kw(least_kw),
        left_kw_per_step=_list_of(left_kw[first:]),
        first_step=str(first),
    )


def _list_of(values_kw: FloatArray) -> str:
    """Values with commas between them, as many as an error may hold."""
    shown: list[str] = []
    letters = 0
    for value_kw in values_kw.tolist():
        shown.append(_kw(value_kw))
        letters += len(shown[-1]) + 1
        if letters > _MOST_LIST_LETTERS:
            return ",".join(shown[:-1])
    return ",".join(shown)


def _kw(value_kw: float) -> str:
    """Whole watts in kW."""
    return f"{value_kw:.3f}".rstrip("0").rstrip(".")


def _refused(reason: str, message: str, **metadata: str) -> ServiceError:
    return ServiceError(code_pb2.FAILED_PRECONDITION, reason, message, metadata=metadata)
