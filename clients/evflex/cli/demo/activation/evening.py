"""The evening of the chapter: who sells what of one car, without a remedy and with each of three."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import pandas as pd

from evflex.client import ActivationPolicyKind, Commitment, Resource, ResourceKind

CAR_CLOUD, CHARGE_NET = "car-cloud", "charge-net"
CHARGE_POINT_OPERATOR = "street-charging"
OPERATOR = "system-operator"
AGGREGATORS = (CAR_CLOUD, CHARGE_NET)
PARTIES = (OPERATOR, CHARGE_POINT_OPERATOR, *AGGREGATORS)

PRODUCT = "MFRR_UP"
CAR_KW = 11.0
STREET_KW = 22.0
NEEDED_KWH = 30.0
PLUG_IN_HOUR = 17.5
DEPARTURE_HOUR = 31.0


class Side(StrEnum):
    """What an aggregator sells.

    Attributes:
        CAR: The car, through its maker's API.
        CHARGE_POINT: The charge point, through OCPP.
        SESSION: The car at the charge point, once it is plugged in.
        STREET: The site that the charge point is behind.
    """

    CAR = "car"
    CHARGE_POINT = "charge point"
    SESSION = "session"
    STREET = "street"


@dataclass(frozen=True, slots=True)
class Offer:
    """What an aggregator wants to sell.

    Attributes:
        aggregator: Who sells.
        side: What is sold.
        power_kw: Power in kW by which it consumes less.
        start_hour: Start, in hours of the evening's clock.
        end_hour: End, likewise.
    """

    aggregator: str
    side: Side
    power_kw: float
    start_hour: float
    end_hour: float


@dataclass(frozen=True, slots=True)
class Act:
    """The evening under one policy, with a car and an area of its own so that no act disturbs another.

    Attributes:
        area_id: Area whose policy it is.
        title: Remedy for readers.
        number: Makes its car and charge point others than those of the other acts.
        before: Offers made before the car is plugged in, in order.
        after: Offers made while it is plugged in, in order.
        gives: What the remedy is good for.
        costs: What it costs.
        policy: Remedy; None for none.
    """

    area_id: str
    title: str
    number: int
    before: tuple[Offer, ...]
    after: tuple[Offer, ...]
    gives: str
    costs: str
    policy: ActivationPolicyKind | None = None

    @property
    def sold_side(self) -> str:
        """What may be sold, where that is one side only."""
        return ResourceKind.EV if self.policy == ActivationPolicyKind.ONE_SIDE else ""

    @property
    def operator_evse_id(self) -> str:
        """The charge point as its operator registers it."""
        return f"{self.area_id}-evse"

    def resource_id(self, side: Side) -> str:
        """Name under which an aggregator sells a side."""
        names = {Side.CAR: "car", Side.CHARGE_POINT: "ocpp", Side.SESSION: "session", Side.STREET: "street"}
        return f"{self.area_id}-{names[side]}"

    def resources(self) -> dict[str, list[Resource]]:
        """What each party registers.

        The charge point has two names, its operator's and that of the aggregator that reaches it through OCPP; that
        they are one thing follows from the EVSE id that they share.
        """
        aliases = {"evse_id": f"DK*EVF*E{self.number:04d}"}
        area_id, street = self.area_id, self.resource_id(Side.STREET)
        return {
            CHARGE_POINT_OPERATOR: [
                Resource(street, ResourceKind.SITE, area_id=area_id, up_headroom_kw=STREET_KW),
                Resource(
                    self.operator_evse_id, ResourceKind.CHARGE_POINT, parent_id=street, area_id=area_id,
                    up_headroom_kw=CAR_KW, aliases=aliases,
                ),
            ],
            CHARGE_NET: [
                Resource(
                    self.resource_id(Side.CHARGE_POINT), ResourceKind.CHARGE_POINT, area_id=area_id, aliases=aliases
                )
            ],
            CAR_CLOUD: [
                Resource(
                    self.resource_id(Side.CAR), ResourceKind.EV, area_id=area_id, up_headroom_kw=CAR_KW,
                    aliases={"vin": f"EVFDEM00000000{self.number:03d}"},
                )
            ],
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Evening:
    """The clock of the story, which is set so that the car is plugged in now, at half past five.

    A ledger takes no sales that are over and no plug-in that is to come, so the evening cannot have a date.

    Attributes:
        plug_in: When the car is plugged in (UTC).
    """

    plug_in: pd.Timestamp

    @classmethod
    def beginning(cls, now: pd.Timestamp) -> Evening:
        """The evening whose car was plugged in when the present minute began."""
        return cls(now.floor("min"))

    def instant(self, hour: float) -> pd.Timestamp:
        """Instant of an hour of the evening's clock."""
        return self.plug_in + pd.Timedelta(hours=hour - PLUG_IN_HOUR)

    def hour(self, instant: datetime) -> float:
        """Hour of the evening's clock; above 24 on the next day."""
        return PLUG_IN_HOUR + (pd.Timestamp(instant) - self.plug_in) / pd.Timedelta(hours=1)

    def commitment(self, act: Act, offer: Offer) -> Commitment:
        """An offer as the ledger takes it."""
        return Commitment(
            product_id=PRODUCT, direction="UP", resource_id=act.resource_id(offer.side), power_kw=offer.power_kw,
            start_time=self.instant(offer.start_hour), end_time=self.instant(offer.end_hour),
        )  # fmt: skip


def clock(hour: float) -> str:
    """Hour of the evening's clock as it shows it."""
    minutes = round(60.0 * hour) % 1440
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


_CAR = Offer(CAR_CLOUD, Side.CAR, 7.0, 18.0, 20.0)
_POINT = Offer(CHARGE_NET, Side.CHARGE_POINT, 7.0, 19.0, 21.0)

NO_REMEDY = Act(
    "no-remedy", "no remedy", 1,
    before=(_CAR, _POINT),
    after=(
        Offer(CHARGE_NET, Side.CHARGE_POINT, 4.0, 18.0, 19.0),
        Offer(CHARGE_NET, Side.STREET, 16.0, 18.0, 19.0),
    ),
    gives="Everybody may sell, and no double sale stays.",
    costs="It is found as late as plug-in: whoever sold later loses a confirmed sale shortly before it is due.",
)  # fmt: skip
REMEDIES = (
    Act(
        "one-side", "only cars are sold", 2,
        before=(_CAR, _POINT),
        after=(),
        gives="The hold is refused, so no confirmed sale is lost. Where cars are need not be known.",
        costs="Aggregators of charge points sell nothing, and cars that no one reaches by an API are not sold at all.",
        policy=ActivationPolicyKind.ONE_SIDE,
    ),
    Act(
        "session", "sessions are sold", 3,
        before=(_CAR, _POINT),
        after=(
            Offer(CHARGE_NET, Side.SESSION, 4.0, 19.0, 21.0),
            Offer(CAR_CLOUD, Side.SESSION, 1.0, 19.0, 20.0),
        ),
        gives="Both may sell, and from plug-in on all that the car has can be sold, but once.",
        costs="Before plug-in a sale is a forecast; buyers must reckon with losing some.",
        policy=ActivationPolicyKind.SESSION,
    ),
    Act(
        "same-aggregator", "one aggregator", 4,
        before=(_CAR,),
        after=(Offer(CAR_CLOUD, Side.CHARGE_POINT, 4.0, 19.0, 21.0), _POINT),
        gives="Both sides may be sold together, as far as the capacity of the car goes.",
        costs="Whoever sells one side first shuts others out of the other, while its sale and the session last.",
        policy=ActivationPolicyKind.SAME_AGGREGATOR,
    ),
)  # fmt: skip
ACTS = (NO_REMEDY, *REMEDIES)
