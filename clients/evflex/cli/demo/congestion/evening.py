"""The evening of the chapter: what homes, heat pumps and cars are expected to draw, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evflex.cli.demo.congestion.village import Village, packaged_village
from evflex.cli.demo.look import FloatArray
from evflex.client import CongestionLimits, Injections, InjectionUncertainty

SEED = 2030
TIME_ZONE = "Europe/Copenhagen"
START = pd.Timestamp("2026-01-14 16:00", tz=TIME_ZONE)
STEP = pd.Timedelta(minutes=15)
STEP_COUNT = 32
OUTDOOR_C = -5.0
# Limits of EN 50160 at a house; cables and the transformer up to their ratings.
VOLTAGE_MIN_PU = 0.9
VOLTAGE_MAX_PU = 1.1
MAX_LOADING_RATIO = 1.0

# What is less probable is not told.
MIN_PROBABILITY = 0.05

CAR_KW = 11.0
_ARRIVAL_H = 18.0
_PUMP_KW = 2.2
# Share of houses with a car that charges this evening; on Ferry Way, the newest street, most have one.
CAR_SHARES = {"Mill Lane": 0.3, "High Street": 0.3, "Church Road": 0.3, "Ferry Way": 0.7, "Hill View": 0.3}
_HOME_KVAR_A_KW = 0.1
_PUMP_KVAR_A_KW = 0.3
# Deviations: a home's own load by its size, a heat pump's, and that of a car which may come earlier or later.
_HOME_DEVIATION_RATIO = 0.4
_PUMP_DEVIATION_RATIO = 0.15
_CAR_DEVIATION_KW = 3.0


@dataclass(frozen=True, slots=True, eq=False)
class Evening:
    """What is given; tables by step and house.

    Attributes:
        village: The feeder.
        home_kw: What homes draw besides heating.
        pump_kw: What heat pumps draw.
        car_kw: What cars draw; houses without a car have a column of zeros.
    """

    village: Village
    home_kw: pd.DataFrame
    pump_kw: pd.DataFrame
    car_kw: pd.DataFrame

    @property
    def index(self) -> pd.DatetimeIndex:
        """Start of each step."""
        return pd.DatetimeIndex(self.home_kw.index)

    @property
    def car_count(self) -> int:
        """Houses with a car that charges."""
        return int((self.car_kw > 0.0).any().sum())

    @property
    def injections(self) -> Injections:
        """What is expected to be drawn."""
        return Injections(
            self.home_kw + self.pump_kw + self.car_kw,
            _HOME_KVAR_A_KW * self.home_kw + _PUMP_KVAR_A_KW * self.pump_kw,
        )

    @property
    def uncertainty(self) -> InjectionUncertainty:
        """Standard deviations of what is drawn at each house."""
        variance = (
            (_HOME_DEVIATION_RATIO * self.home_kw) ** 2
            + (_PUMP_DEVIATION_RATIO * self.pump_kw) ** 2
            + _CAR_DEVIATION_KW**2 * (self.car_kw > 0.0)
        )
        return InjectionUncertainty(p_std_kw=variance**0.5, seed=SEED)

    @property
    def limits(self) -> CongestionLimits:
        """What must hold."""
        return CongestionLimits(
            voltage_min_pu=VOLTAGE_MIN_PU, voltage_max_pu=VOLTAGE_MAX_PU, max_loading_ratio=MAX_LOADING_RATIO
        )

    @property
    def contingencies(self) -> list[str]:
        """Cables whose outage is looked at: the first of each of the two streets that the tie joins."""
        village = self.village
        ends = village.lines.loc[village.tie, ["from_bus_id", "to_bus_id"]]
        return [village.cables(str(village.buses.at[end, "street"]))[0] for end in ends]

    def relieved(self, bus_id: str, relief_kw: pd.Series) -> Injections:
        """What is drawn when so much less is drawn at a bus.

        Args:
            bus_id: The bus.
            relief_kw: How much less by step; steps that it does not name stay as they are.
        """
        given = self.injections
        p_kw = given.p_kw.copy()
        less = relief_kw.reindex(self.index.tz_convert("UTC"), fill_value=0.0).to_numpy()
        p_kw[bus_id] = p_kw.get(bus_id, 0.0) - less
        q_kvar = given.q_kvar if given.q_kvar is None else given.q_kvar.reindex(columns=p_kw.columns, fill_value=0.0)
        return Injections(p_kw, q_kvar)


def generated_evening() -> Evening:
    """The evening, the same in every run."""
    village = packaged_village()
    houses, count = village.houses, len(village.houses)
    streets = village.buses.loc[houses, "street"].to_numpy()
    index = pd.date_range(START, periods=STEP_COUNT, freq=STEP, name="time")
    hour: FloatArray = START.hour + (np.arange(STEP_COUNT, dtype=np.float64) + 0.5) * (STEP / pd.Timedelta(hours=1))
    draw = np.random.default_rng(SEED)

    def table(values: FloatArray) -> pd.DataFrame:
        return pd.DataFrame(values.round(2), index=index, columns=houses)

    return Evening(
        village, table(_homes(draw, hour, count)), table(_pumps(draw, hour, count)), table(_cars(draw, hour, streets))
    )


def _homes(draw: np.random.Generator, hour: FloatArray, count: int) -> FloatArray:
    """Cooking and light: a quiet level and a bell around supper, each home at its own time."""
    size = draw.lognormal(0.0, 0.25, count)
    supper = draw.normal(18.4, 0.6, count)
    return size * (0.35 + 0.75 * np.exp(-0.5 * ((hour[:, None] - supper) / 1.1) ** 2))


def _pumps(draw: np.random.Generator, hour: FloatArray, count: int) -> FloatArray:
    """Heat pumps that follow the cold: more as the sun is gone and rooms are to be warm, less towards the night."""
    full = draw.normal(_PUMP_KW, 0.25, count)
    course = 0.72 + 0.28 * np.exp(-0.5 * ((hour - 18.8) / 2.0) ** 2)
    return full * course[:, None]


def _cars(draw: np.random.Generator, hour: FloatArray, streets: NDArray[np.object_]) -> FloatArray:
    """Cars at full power from when people come home until they are full; the mean of a step where they begin or end."""
    cars = np.concatenate(
        [
            np.sort(
                draw.choice(np.flatnonzero(streets == street), round(share * (streets == street).sum()), replace=False)
            )
            for street, share in CAR_SHARES.items()
        ]
    )
    arrival_h = draw.normal(_ARRIVAL_H, 1.1, len(cars))
    duration_h = np.clip(draw.lognormal(2.75, 0.4, len(cars)), 6.0, 45.0) / CAR_KW
    half = 0.5 * (STEP / pd.Timedelta(hours=1))
    begin, end = hour[:, None] - half, hour[:, None] + half
    there = np.clip(np.minimum(end, arrival_h + duration_h) - np.maximum(begin, arrival_h), 0.0, 2.0 * half)
    power = np.zeros((len(hour), len(streets)))
    power[:, cars] = CAR_KW * there / (2.0 * half)
    return power
