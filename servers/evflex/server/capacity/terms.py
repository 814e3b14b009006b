"""Terms of an agreement: the one place where they are read from a message, and written into one."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite

import numpy as np

from evflex.capacity.v1 import agreement_pb2
from evflex.engine.supply_tree import BoolArray, FloatArray
from evflex.engine.timegrid import TimeGrid
from evflex.engine.validation import Rules
from evflex.server.fields import check_currency, duration_s, timestamp_s

# A window that passes the end of validity by less is within it: double precision resolves unix seconds to 2.4e-7 s.
_TIME_TOLERANCE_S = 1e-6


@dataclass(frozen=True, slots=True)
class Terms:
    """What an agreement grants, and when.

    Attributes:
        firm_kw: Capacity that is always there, >= 0.
        conditional_kw: Capacity on top that may be curtailed, >= 0.
        priority: The higher, the earlier served.
        notice_s: Time within which conditional capacity is not taken back, >= 0.
        curtailment_price_per_kwh: Compensation, >= 0.
        currency_code: Currency of it; empty where the price is 0.
        valid_from_unix_s: From when, -inf where it has no beginning.
        valid_until_unix_s: Until when, not included, inf where it has no end.
    """

    firm_kw: float
    conditional_kw: float
    priority: int
    notice_s: float
    curtailment_price_per_kwh: float
    currency_code: str
    valid_from_unix_s: float
    valid_until_unix_s: float

    def is_valid_at(self, unix_s: float) -> bool:
        """Whether capacity is granted at an instant."""
        return self.valid_from_unix_s <= unix_s < self.valid_until_unix_s

    def valid_steps(self, grid: TimeGrid) -> BoolArray:
        """Whether capacity is granted throughout each step, (T,)."""
        start_unix_s = grid.start_unix_s + grid.step_s * np.arange(grid.step_count)
        valid: BoolArray = (start_unix_s >= self.valid_from_unix_s - _TIME_TOLERANCE_S) & (
            start_unix_s + grid.step_s <= self.valid_until_unix_s + _TIME_TOLERANCE_S
        )
        return valid

    def firm_kw_on(self, grid: TimeGrid) -> FloatArray:
        """Firm capacity in each step, 0 where the agreement is not valid throughout, (T,)."""
        return np.where(self.valid_steps(grid), self.firm_kw, 0.0)

    def conditional_kw_on(self, grid: TimeGrid) -> FloatArray:
        """Conditional capacity in each step, 0 where the agreement is not valid throughout, (T,)."""
        return np.where(self.valid_steps(grid), self.conditional_kw, 0.0)

    def overlaps(self, other: Terms) -> bool:
        """Whether there is an instant at which both grant capacity."""
        begin_unix_s = max(self.valid_from_unix_s, other.valid_from_unix_s)
        return begin_unix_s < min(self.valid_until_unix_s, other.valid_until_unix_s)


def read_terms(rules: Rules, path: str, message: agreement_pb2.Agreement) -> Terms:
    """The terms in a message; reports every rule that they break."""
    for name in ("firm_kw", "conditional_kw", "curtailment_price_per_kwh"):
        value = getattr(message, name)
        rules.check(isfinite(value) and value >= 0.0, f"{path}.{name}", f"must be finite and >= 0, is {value:g}")
    if message.currency_code or message.curtailment_price_per_kwh:
        check_currency(rules, f"{path}.currency_code", message.currency_code)
    notice_s = duration_s(rules, f"{path}.notice_duration", message.notice_duration)
    rules.check(notice_s >= 0.0, f"{path}.notice_duration", f"must be >= 0, is {notice_s:g} s")
    valid_from_unix_s, valid_until_unix_s = -inf, inf
    if message.HasField("valid_from_time"):
        valid_from_unix_s = timestamp_s(rules, f"{path}.valid_from_time", message.valid_from_time)
    if message.HasField("valid_until_time"):
        valid_until_unix_s = timestamp_s(rules, f"{path}.valid_until_time", message.valid_until_time)
    rules.check(valid_from_unix_s < valid_until_unix_s, f"{path}.valid_until_time", "must be after valid_from_time")
    return Terms(
        message.firm_kw, message.conditional_kw, message.priority, notice_s, message.curtailment_price_per_kwh,
        message.currency_code, valid_from_unix_s, valid_until_unix_s,
    )  # fmt: skip


def packed_terms(message: agreement_pb2.Agreement) -> bytes:
    """The terms in a message, and nothing else, as they are stored: exactly what was proposed."""
    terms = agreement_pb2.Agreement(
        firm_kw=message.firm_kw,
        conditional_kw=message.conditional_kw,
        priority=message.priority,
        curtailment_price_per_kwh=message.curtailment_price_per_kwh,
        currency_code=message.currency_code,
    )
    for name in ("notice_duration", "valid_from_time", "valid_until_time"):
        if message.HasField(name):
            getattr(terms, name).CopyFrom(getattr(message, name))
    return terms.SerializeToString(deterministic=True)


def unpacked_terms(packed: bytes) -> Terms:
    """Stored terms."""
    return read_terms(Rules(), "", agreement_pb2.Agreement.FromString(packed))
