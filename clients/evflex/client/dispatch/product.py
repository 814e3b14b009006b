"""Products of balancing and local flexibility markets."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import pandas as pd

from evflex.client.moments import timestamp
from evflex.common.v1 import product_pb2


@dataclass(frozen=True, slots=True)
class Product:
    """Rules of a product that reserves can refer to.

    Attributes:
        product_id: Identifier.
        version: Counts from 1.
        source: Where the rules stand.
        valid_from_time: Rules hold from here on (UTC).
        kind: For example ``FCR_N`` or ``MFRR_UP``.
        min_bid_kw: Smallest bid in kW.
        granularity_kw: Bids are multiples of this, in kW.
        full_activation_duration: From the call to full power.
        min_endurance_duration: How long full power must be held.
        symmetric: Whether both directions are sold together.
        reserve_power_ratio: Power that must be there for each kW sold.
        full_deviation_hz: Frequency deviation of full power in Hz; 0 where frequency does not activate it.
    """

    product_id: str
    version: int
    source: str
    valid_from_time: pd.Timestamp | None
    kind: str
    min_bid_kw: float
    granularity_kw: float
    full_activation_duration: timedelta
    min_endurance_duration: timedelta
    symmetric: bool
    reserve_power_ratio: float
    full_deviation_hz: float

    @classmethod
    def from_message(cls, message: product_pb2.ProductSpec) -> Product:
        """Read a product of the contract."""
        return cls(
            product_id=message.product_id,
            version=message.version,
            source=message.source,
            valid_from_time=timestamp(message, "valid_from_time"),
            kind=product_pb2.ProductKind.Name(message.kind).removeprefix("PRODUCT_KIND_"),
            min_bid_kw=message.min_bid_kw,
            granularity_kw=message.granularity_kw,
            full_activation_duration=message.full_activation_duration.ToTimedelta(),
            min_endurance_duration=message.min_endurance_duration.ToTimedelta(),
            symmetric=message.symmetric,
            reserve_power_ratio=message.reserve_power_ratio,
            full_deviation_hz=message.full_deviation_hz,
        )
