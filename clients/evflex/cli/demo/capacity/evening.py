"""The evening of the chapter: a transformer, the homes behind it, two hubs and an hour without reserve."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evflex.cli.demo.look import FloatArray
from evflex.client import AgreementTerms, ForecastLoading, Hub, Transformer

SEED = 2026
TIME_ZONE = "Europe/Copenhagen"
CURRENCY_CODE = "EUR"
START = pd.Timestamp("2026-01-14 15:00", tz=TIME_ZONE)
STEP = pd.Timedelta(minutes=15)
STEP_COUNT = 64
RATED_KVA = 630.0
# Limits of IEC 60076-7 for the normal cyclic loading of distribution transformers.
MAX_LOADING_RATIO = 1.5
MAX_HOT_SPOT_C = 120.0
MAX_TOP_OIL_C = 105.0
# What is left for this street when a cable fails and the transformer feeds a part of the next street too.
N1_RATED_KVA = 500.0
CONTINGENCY_HOUR = 19
AMBIENT_C = -5.0
KVAR_A_KW = 0.25

OPERATOR = "grid-company"
HOMES, ROAD = "homes", "road"
HOME_CARS, ROAD_CARS = 60, 56
_CAR_POWERS_KW = (7.4, 11.0, 11.0, 22.0)


@dataclass(frozen=True, slots=True)
class HubContract:
    """A hub, and what was agreed about it.

    Attributes:
        title: Name for readers.
        party: Tenant of its charge point operator.
        terms: What the hub is entitled to.
    """

    title: str
    party: str
    terms: AgreementTerms


CONTRACTS = {
    HOMES: HubContract(
        "charging at home",
        "home-charging",
        AgreementTerms(
            firm_kw=24.0, conditional_kw=226.0, notice=timedelta(minutes=30), curtailment_price_per_kwh=0.1,
            currency_code=CURRENCY_CODE,
        ),
    ),
    ROAD: HubContract(
        "fast charging",
        "road-charging",
        AgreementTerms(
            firm_kw=36.0, conditional_kw=264.0, notice=timedelta(minutes=30), curtailment_price_per_kwh=0.25,
            currency_code=CURRENCY_CODE,
        ),
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Evening:
    """What is given.

    Attributes:
        transformer: The transformer.
        base_kw: Load of the homes by step, without cars.
        contingency: Whether a step is in N-1.
        hubs: The hubs with their cars, without agreements.
    """

    transformer: Transformer
    base_kw: pd.Series
    contingency: NDArray[np.bool_]
    hubs: tuple[Hub, ...]

    @property
    def loading(self) -> ForecastLoading:
        """Load of the transformer without the hubs."""
        return ForecastLoading(self.base_kw, KVAR_A_KW * self.base_kw)

    @property
    def base_kva(self) -> FloatArray:
        """Apparent power of the homes by step."""
        return self.apparent_kva(np.zeros(len(self.base_kw)))

    @property
    def limit_kva(self) -> FloatArray:
        """Most that the transformer may carry by step: less in N-1."""
        return np.where(self.contingency, N1_RATED_KVA, MAX_LOADING_RATIO * RATED_KVA)

    def apparent_kva(self, hubs_kw: FloatArray) -> FloatArray:
        """Apparent power by step when the hubs draw ``hubs_kw`` at unity power factor."""
        base_kw = self.base_kw.to_numpy()
        return np.hypot(base_kw + hubs_kw, KVAR_A_KW * base_kw)

    def agreed_hubs(self, agreement_ids: dict[str, str]) -> list[Hub]:
        """The hubs under their agreements by ``hub_id``."""
        return [replace(hub, agreement_id=agreement_ids[hub.hub_id]) for hub in self.hubs]

    def firm_hubs(self) -> list[Hub]:
        """The hubs as if they had firm capacity only."""
        return [
            replace(hub, agreement=replace(CONTRACTS[hub.hub_id].terms, conditional_kw=0.0)) for hub in self.hubs
        ]  # fmt: skip


def generated_evening() -> Evening:
    """The evening, the same in every run."""
    index = pd.date_range(START, periods=STEP_COUNT, freq=STEP, name="time")
    hour: FloatArray = 15.0 + (np.arange(STEP_COUNT, dtype=np.float64) + 0.5) * (STEP / pd.Timedelta(hours=1))
    base_kw = 190.0 + _bump(hour, 18.6, 1.9, 235.0) + _bump(hour, 22.0, 1.2, 45.0) + _bump(hour, 31.2, 1.0, 110.0)
    draw = np.random.default_rng(SEED)
    return Evening(
        transformer=Transformer(
            "T-014", RATED_KVA, distribution=True, ambient_c=AMBIENT_C, max_loading_ratio=MAX_LOADING_RATIO,
            max_hot_spot_c=MAX_HOT_SPOT_C, max_top_oil_c=MAX_TOP_OIL_C,
        ),
        base_kw=pd.Series(base_kw.round(1), index=index),
        contingency=np.asarray(index.hour == CONTINGENCY_HOUR),
        hubs=(
            Hub(HOMES, 250.0, sessions=_cars_at_home(draw)),
            Hub(ROAD, 300.0, sessions=_cars_on_the_road(draw)),
        ),
    )  # fmt: skip


def _cars_at_home(draw: np.random.Generator) -> pd.DataFrame:
    """Cars that come in the evening and stay over night."""
    arrival_h = np.clip(draw.normal(3.0, 1.3, HOME_CARS), 0.0, 8.0)
    departure_h = np.clip(draw.normal(16.0, 0.8, HOME_CARS), 13.0, 18.0)
    power_kw = draw.choice(_CAR_POWERS_KW, HOME_CARS)
    energy_kwh = np.clip(draw.lognormal(2.7, 0.5, HOME_CARS), 4.0, 55.0)
    return _sessions(HOMES, arrival_h, departure_h, energy_kwh, power_kw)


def _cars_on_the_road(draw: np.random.Generator) -> pd.DataFrame:
    """Cars that stop for the better part of an hour, most of them early in the evening."""
    arrival_h = np.sort(np.clip(draw.normal(3.8, 2.2, ROAD_CARS), 0.0, 10.0))
    stay_h = draw.uniform(0.5, 0.9, ROAD_CARS)
    power_kw = draw.choice([75.0, 100.0, 150.0], ROAD_CARS)
    energy_kwh = draw.uniform(14.0, 36.0, ROAD_CARS)
    return _sessions(ROAD, arrival_h, arrival_h + stay_h, energy_kwh, power_kw)


def _sessions(
    hub_id: str, arrival_h: FloatArray, departure_h: FloatArray, energy_kwh: FloatArray, power_kw: FloatArray
) -> pd.DataFrame:
    """A table as the client takes it; hours count from the start and become instants to the minute."""
    start = START.tz_convert("UTC")
    return pd.DataFrame(
        {
            "session_id": [f"{hub_id}-{i:02d}" for i in range(len(arrival_h))],
            "arrival_time": start + pd.to_timedelta((60.0 * arrival_h).round(), unit="min"),
            "departure_time": start + pd.to_timedelta((60.0 * departure_h).round(), unit="min"),
            "energy_needed_kwh": energy_kwh.round(1),
            "max_charge_kw": power_kw,
        }
    )


def _bump(hour: FloatArray, centre: float, width: float, height: float) -> FloatArray:
    """A bell over the hours of the day."""
    return height * np.exp(-0.5 * ((hour - centre) / width) ** 2)
