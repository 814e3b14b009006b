"""Sites to plan: the shared instances, subsamples and resamples of them, and generated ones where there is no data."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from evflex.charging.v1 import charging_service_pb2 as api
from evflex.charging.v1 import charging_session_pb2, schedule_options_pb2, tariff_pb2
from evflex.common.v1 import supply_node_pb2, time_grid_pb2
from evflex.engine.charging import ScheduleOptions, ScheduleProblem, Sessions, Tariff
from evflex.engine.supply_tree import PhaseConnection, SupplyNodes
from evflex.engine.timegrid import TimeGrid

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# 2024-11-05 12:00 in Copenhagen.
START_UNIX_S = 1_730_804_400
VOLTAGE_KV = 0.230
MINIMUM_A = 6.0


@dataclass(frozen=True, slots=True)
class Site:
    """A site with one limit on all charging, whose sessions come and go at the borders of steps.

    Attributes:
        price_per_kwh: Shape (T,).
        limit_kw: On the sum of all sessions. Shape (T,).
        arrive: First step of each stay. Shape (n,).
        depart: Step after the last one. Shape (n,).
        energy_kwh: Wanted, battery-side. Shape (n,).
        max_kw: Shape (n,).
        min_kw: 6 A. Shape (n,).
        phases: 1 or 3. Shape (n,).
        efficiency: Of charging.
        shortfall_price: For each kWh not delivered.
        step_h: Length of a step.
    """

    price_per_kwh: FloatArray
    limit_kw: FloatArray
    arrive: IntArray
    depart: IntArray
    energy_kwh: FloatArray
    max_kw: FloatArray
    min_kw: FloatArray
    phases: IntArray
    efficiency: float = 0.92
    shortfall_price: float = 2.0
    step_h: float = 0.25

    @property
    def count(self) -> int:
        """Number of sessions."""
        return len(self.energy_kwh)

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.price_per_kwh)

    def without_minimum(self) -> Site:
        """The same site where any power may be chosen."""
        return dataclasses.replace(self, min_kw=np.zeros(self.count))

    def cars(self, index: IntArray, limit_ratio: float) -> Site:
        """Some of the cars, in the order of `index`, under a share of the limit."""
        columns = {name: getattr(self, name)[index] for name in _COLUMNS}
        return dataclasses.replace(self, limit_kw=self.limit_kw * limit_ratio, **columns)

    def subsample(self, count: int, seed: int) -> Site:
        """Cars drawn without replacement, under their share of the limit."""
        index = np.random.default_rng([seed, count]).choice(self.count, count, replace=False)
        return self.cars(index, count / self.count)

    def resample(self, count: int, seed: int) -> Site:
        """More cars of the same kind: drawn with replacement, energies and stays varied by a little."""
        rng = np.random.default_rng([seed, count])
        index = rng.integers(0, self.count, count)
        site = self.cars(index, count / self.count)
        arrive = np.clip(site.arrive + rng.integers(-2, 3, count), 0, self.steps - 2)
        depart = np.clip(site.depart + rng.integers(-2, 3, count), arrive + 1, self.steps)
        energy_kwh = np.round(site.energy_kwh * rng.uniform(0.9, 1.1, count), 3)
        return dataclasses.replace(site, arrive=arrive, depart=depart, energy_kwh=energy_kwh)

    def problem(self) -> ScheduleProblem:
        """The site as the engine takes it."""
        grid = TimeGrid(float(START_UNIX_S), 3600.0 * self.step_h, self.steps)
        arrive, depart = self.arrive.astype(np.float64), self.depart.astype(np.float64)
        sessions = Sessions.simple(
            arrival_unix_s=grid.start_unix_s + grid.step_s * arrive,
            departure_unix_s=grid.start_unix_s + grid.step_s * depart,
            energy_needed_kwh=self.energy_kwh,
            max_charge_kw=self.max_kw,
            min_charge_kw=self.min_kw,
            charge_efficiency=self.efficiency,
            phases=self._connections(),
        )
        nodes = SupplyNodes.single(max_import_kw=self.limit_kw)
        return ScheduleProblem(grid, nodes, sessions, Tariff(self.price_per_kwh))

    def options(self, relative_gap: float, time_limit_s: float = 60.0, **others: float) -> ScheduleOptions:
        """Options with the site's price of shortfall."""
        return ScheduleOptions(
            time_limit_s=time_limit_s,
            relative_gap=relative_gap,
            shortfall_price_per_kwh=self.shortfall_price,
            **others,  # type: ignore[arg-type]
        )

    def message(self, site_id: str, relative_gap: float) -> api.OptimizeScheduleRequest:
        """The site as a request of the contract."""
        step_s = round(3600.0 * self.step_h)
        request = api.OptimizeScheduleRequest(
            site_id=site_id,
            time_grid=time_grid_pb2.TimeGrid(
                start_time=Timestamp(seconds=START_UNIX_S),
                step_duration=Duration(seconds=step_s),
                step_count=self.steps,
            ),
            nodes=[supply_node_pb2.SupplyNode(node_id="root", max_import_kw=self.limit_kw.tolist())],
            tariff=tariff_pb2.Tariff(currency_code="EUR", import_price_per_kwh=self.price_per_kwh.tolist()),
            options=schedule_options_pb2.ScheduleOptions(
                relative_gap=relative_gap, shortfall_price_per_kwh=self.shortfall_price
            ),
        )
        phases = self._connections().tolist()
        for i in range(self.count):
            request.sessions.append(
                charging_session_pb2.ChargingSession(
                    session_id=f"session-{i}",
                    evse_id=f"evse-{i}",
                    arrival_time=Timestamp(seconds=START_UNIX_S + step_s * int(self.arrive[i])),
                    departure_time=Timestamp(seconds=START_UNIX_S + step_s * int(self.depart[i])),
                    energy_needed_kwh=self.energy_kwh[i],
                    max_charge_kw=self.max_kw[i],
                    min_charge_kw=self.min_kw[i],
                    charge_efficiency=self.efficiency,
                    phases=phases[i],
                )
            )
        return request

    def cost(self, power_kw: FloatArray) -> float:
        """Energy cost and priced shortfall of a plan, recomputed from its powers. Shape of `power_kw`: (n, T)."""
        delivered = self.efficiency * self.step_h * power_kw.sum(axis=1)
        short = np.maximum(0.0, self.energy_kwh - delivered).sum()
        return float(self.step_h * (power_kw @ self.price_per_kwh).sum() + self.shortfall_price * short)

    def faults(self, power_kw: FloatArray, tolerance: float = 1e-6) -> list[str]:
        """Rules that a plan breaks: presence, the 6 A minimum, the maximum, the need, the limit. (n, T)."""
        step = np.arange(self.steps)
        away = (step < self.arrive[:, None]) | (step >= self.depart[:, None])
        on = power_kw > tolerance
        kwh = self.efficiency * self.step_h * power_kw.sum(axis=1)
        broken = {
            "power below zero": (power_kw < -tolerance).any(),
            "charges while away": (on & away).any(),
            "below its minimum": (on & (power_kw < self.min_kw[:, None] - tolerance)).any(),
            "above its maximum": (power_kw > self.max_kw[:, None] + tolerance).any(),
            "more than needed": (kwh > self.energy_kwh + tolerance).any(),
            "limit exceeded": (power_kw.sum(axis=0) > self.limit_kw + tolerance).any(),
        }
        return [name for name, is_broken in broken.items() if is_broken]

    def _connections(self) -> IntArray:
        return np.where(self.phases == 1, PhaseConnection.L1, PhaseConnection.L1_L2_L3).astype(np.int64)


_COLUMNS = ("arrive", "depart", "energy_kwh", "max_kw", "min_kw", "phases")


def data_folder() -> Path:
    """Where the shared data sets are, if they are."""
    beside_the_checkout = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("EVFLEX_SHARED_DATA", beside_the_checkout))


@cache
def shared_site(count: int) -> Site:
    """The shared instance of 10, 100 or 1000 sessions."""
    raw = json.loads((data_folder() / "instances" / f"site_N{count}.json").read_text(encoding="utf-8"))
    cars = raw["ev"]

    def column(name: str) -> FloatArray:
        return np.array([car[name] for car in cars], dtype=np.float64)

    return Site(
        price_per_kwh=np.array(raw["price_eur_mwh"]) / 1000.0,
        limit_kw=np.array(raw["ev_cap_kw"]),
        arrive=column("arrive").astype(np.int64),
        depart=column("depart").astype(np.int64),
        energy_kwh=column("energy_kwh"),
        max_kw=column("pmax_kw"),
        min_kw=column("pmin_kw"),
        phases=column("phases").astype(np.int64),
        efficiency=raw["eta"],
        shortfall_price=raw["short_penalty_eur_kwh"],
        step_h=raw["dt_h"],
    )


def generated_site(count: int, steps: int = 24, seed: int = 0) -> Site:
    """A made-up site of the same kind, for trying the benchmark out."""
    rng = np.random.default_rng([seed, count])
    hour = np.arange(steps) * 24.0 / steps
    phases = rng.choice([1, 3], count)
    arrive = rng.integers(0, steps // 2, count)
    depart = np.minimum(arrive + rng.integers(steps // 4, steps, count), steps)
    max_kw = np.where(phases == 1, 7.36, 11.04)
    return Site(
        price_per_kwh=np.round(0.2 - 0.1 * np.cos(2.0 * np.pi * hour / 24.0) + rng.uniform(0.0, 0.05, steps), 4),
        limit_kw=np.full(steps, max(14.0, 3.0 * count)),
        arrive=arrive,
        depart=depart,
        energy_kwh=np.round(max_kw * 0.25 * (depart - arrive) * rng.uniform(0.2, 0.7, count), 3),
        max_kw=max_kw,
        min_kw=VOLTAGE_KV * MINIMUM_A * phases,
        phases=phases,
    )
