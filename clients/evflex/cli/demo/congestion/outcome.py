"""What the evening comes to: power flows, what is congested in N and N-1, and what relief does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from evflex.client import CongestionForecast, CongestionLimits, PowerFlow

UNDERVOLTAGE, OVERVOLTAGE = "UNDERVOLTAGE", "OVERVOLTAGE"
# A value this much beyond its limit is rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Proof:
    """A congestion, and the power flow with its relief applied.

    Attributes:
        congestion: Its row in the forecast.
        relief_kw: How much less is drawn at its relief bus, by step of it.
        flow: The power flow then, of all steps.
    """

    congestion: pd.Series
    relief_kw: pd.Series
    flow: PowerFlow

    @property
    def value(self) -> float:
        """What has become of the worst value, over the steps of the congestion."""
        return worst_value(self.flow, self.congestion, self.relief_kw.index)


@dataclass(frozen=True, slots=True, eq=False)
class EveningOutcome:
    """Answers of the server.

    Attributes:
        flow: The power flow of what is expected.
        forecast: Congestion in N and N-1.
        proofs: The worst congestion of each kind in N, relieved.
        limits: What must hold.
    """

    flow: PowerFlow
    forecast: CongestionForecast
    proofs: tuple[Proof, ...]
    limits: CongestionLimits

    @property
    def lowest_voltage_pu(self) -> pd.Series:
        """Lowest voltage by step."""
        return voltage_of(self.flow).min(axis=1)

    @property
    def left(self) -> list[list[str]]:
        """For each proof the buses and branches that still break a limit with its relief."""
        return [broken_elements(proof.flow, self.limits) for proof in self.proofs]


def congestions_of(forecast: CongestionForecast, contingency_id: str = "") -> pd.DataFrame:
    """Congestions of N, or of an outage, and by how much each breaks its limit as expected.

    Returns:
        The rows of the forecast, and ``excess_ratio``: how far beyond the limit, relative to it; not above 0 where the
        limit holds as expected and only its probability is told.
    """
    found = forecast.congestions
    rows = found[found["contingency_id"] == contingency_id]
    beyond = (rows["worst_value"] / rows["limit"] - 1.0).astype(np.float64)
    return rows.assign(excess_ratio=beyond.where(rows["kind"] != UNDERVOLTAGE, -beyond))


def expected(rows: pd.DataFrame) -> pd.DataFrame:
    """Those of them that break their limit as expected."""
    return rows[rows["excess_ratio"] > _ROUNDING]


def worst_of_each_kind(rows: pd.DataFrame) -> pd.DataFrame:
    """The worst of each kind, the largest excess first."""
    ranked = expected(rows).sort_values("excess_ratio", ascending=False, kind="stable")
    return ranked.drop_duplicates("kind")


def relief_of(forecast: CongestionForecast, congestion: int) -> pd.Series:
    """Relief of a congestion in kW by step."""
    return pd.Series(forecast.relief.loc[congestion, "relief_needed_kw"])


def hours_of(forecast: CongestionForecast, rows: pd.DataFrame) -> tuple[pd.Timestamp, pd.Timestamp]:
    """From when until when congestions break their limit as expected: steps that are merely likely need no relief."""
    relief_kw = forecast.relief["relief_needed_kw"]
    times = relief_kw.index.get_level_values("time")
    needed = times[(relief_kw != 0.0).to_numpy() & relief_kw.index.get_level_values("congestion").isin(rows.index)]
    return needed.min(), needed.max() + pd.Timedelta(forecast.time_grid.step_duration)


def worst_value(flow: PowerFlow, congestion: pd.Series, steps: pd.Index) -> float:
    """The worst loading or voltage of a congestion's element over some steps."""
    element = congestion["element_id"]
    if congestion["kind"] == UNDERVOLTAGE:
        return float(voltage_of(flow).loc[steps, element].min())
    if congestion["kind"] == OVERVOLTAGE:
        return float(voltage_of(flow).loc[steps, element].max())
    return float(loading_of(flow).loc[steps, element].max())


def broken_elements(flow: PowerFlow, limits: CongestionLimits) -> list[str]:
    """Branches and buses that break a limit in some step."""
    voltage_pu, loading = voltage_of(flow), loading_of(flow)
    over = (loading > (limits.max_loading_ratio or 1.0) + _ROUNDING).any()
    low = (voltage_pu < (limits.voltage_min_pu or 0.9) - _ROUNDING).any()
    high = (voltage_pu > (limits.voltage_max_pu or 1.1) + _ROUNDING).any()
    return [*map(str, loading.columns[over]), *map(str, voltage_pu.columns[low | high])]


def voltage_of(flow: PowerFlow) -> pd.DataFrame:
    """Voltages in pu by step and bus."""
    assert flow.voltage_pu is not None
    return flow.voltage_pu


def loading_of(flow: PowerFlow) -> pd.DataFrame:
    """Loadings by step and branch."""
    assert flow.branch_loading_ratio is not None
    return flow.branch_loading_ratio
