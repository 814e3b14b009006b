"""What a forecast of congestion finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from evflex.engine.grid.congestion_model import CongestionKind
from evflex.engine.grid.solvable import NearestSolvable
from evflex.engine.supply_tree import FloatArray, IntArray


class ReliefObstacle(IntEnum):
    """Why no bus alone clears a congestion."""

    NONE = 0
    # no bus where flexibility may be changes the value
    NO_EFFECT = 1
    # the value has its least above the limit, as where the flow turns round and what is reactive stays
    REVERSED = 2
    # with more relief the power flow has no solution
    COLLAPSE = 3


@dataclass(frozen=True, slots=True)
class Congestion:
    """A limit of one element that is broken in consecutive steps.

    Attributes:
        kind: Which limit.
        element: Index of the branch, or of the bus for voltages.
        contingency: Index of the branch that is lost; −1 in the sound network.
        closed_ties: Branches closed to feed back what the outage cuts off.
        start_step: First step.
        end_step: One after the last step.
        worst_value: Loading or voltage in pu furthest beyond the limit with the expected injections; short of it where
            only the probability tells.
        worst_step: Step of that value.
        limit: The limit.
        relief_bus: Where relief is most effective; −1 where none is needed, none was wanted or none suffices.
        relief_kw: Relief per step of the congestion: so much less must be drawn at the bus (more, where negative) for
            the limit to hold in an AC power flow of the expected injections. 0 in a step where it holds already, NaN
            where relief was not wanted or no bus suffices. In three phases it is shared by the phases alike.
        relief_obstacle: Why no bus suffices.
        probability: Largest of ``step_probability``.
        step_probability: Probability that the limit is broken in each step; 1 where injections are certain.
    """

    kind: CongestionKind
    element: int
    contingency: int
    closed_ties: tuple[int, ...]
    start_step: int
    end_step: int
    worst_value: float
    worst_step: int
    limit: float
    relief_bus: int
    relief_kw: FloatArray
    relief_obstacle: ReliefObstacle
    probability: float
    step_probability: FloatArray


@dataclass(frozen=True, slots=True)
class Island:
    """Buses that no source reaches.

    Attributes:
        contingency: The branch that is lost; −1 for what is cut off in the sound network already.
        buses: Indices of the buses. With a contingency, those that it cuts off.
        unserved_kw: What would be drawn there by buses that consume, per step.
    """

    contingency: int
    buses: IntArray
    unserved_kw: FloatArray

    def unserved_kwh(self, step_h: float) -> float:
        """The same over all steps of a length in hours."""
        return float(self.unserved_kw.sum()) * step_h


@dataclass(frozen=True, slots=True)
class NotConverged:
    """Steps of a contingency whose power flow was not solved.

    Attributes:
        contingency: The branch that is lost; −1 in the sound network.
        steps: The steps.
        heaviest_step: That of them with the most apparent power.
        nearest: How far that step is from a solution; None where the network without load has none.
    """

    contingency: int
    steps: IntArray
    heaviest_step: int
    nearest: NearestSolvable | None


@dataclass(frozen=True, slots=True)
class ContingencyFindings:
    """What was found in one contingency.

    Attributes:
        contingency: The branch that is lost; −1 in the sound network.
        closed_ties: Branches closed to feed back what the outage cuts off.
        skipped: Whether nothing was computed because the branch is open already.
        congestions: Those of branches, then of low and of high voltage, by element and step.
        island: What no source reaches.
        not_converged: What was not solved.
        flows_solved: Power flows computed.
        done_count: Contingencies done with this one, the sound network among them.
        total_count: Contingencies asked, the sound network among them.
    """

    contingency: int
    closed_ties: tuple[int, ...]
    skipped: bool
    congestions: tuple[Congestion, ...]
    island: Island | None
    not_converged: NotConverged | None
    flows_solved: int
    done_count: int
    total_count: int


@dataclass(frozen=True, slots=True)
class WorstValues:
    """The worst over all contingencies, and in which one: −1 in the sound network, and where nothing is known.

    Attributes:
        loading_ratio: Highest loading of each branch, (T, m); NaN without a rating.
        loading_contingency: (T, m).
        voltage_min_pu: Lowest voltage of each bus, (T, n); NaN where no source reaches it in any contingency.
        voltage_min_contingency: (T, n).
        voltage_max_pu: Highest voltage of each bus, (T, n).
        voltage_max_contingency: (T, n).
    """

    loading_ratio: FloatArray
    loading_contingency: IntArray
    voltage_min_pu: FloatArray
    voltage_min_contingency: IntArray
    voltage_max_pu: FloatArray
    voltage_max_contingency: IntArray


@dataclass(frozen=True, slots=True)
class CongestionForecast:
    """A forecast, contingency by contingency in the order asked, the sound network first.

    Attributes:
        congestions: All congestions.
        islands: What is cut off.
        closed_ties: Contingencies in which ties are closed, and which.
        skipped: Contingencies that were not computed because their branch is open already.
        not_converged: What was not solved.
        worst: The worst values, if wanted.
        flows_solved: Power flows computed.
    """

    congestions: tuple[Congestion, ...]
    islands: tuple[Island, ...]
    closed_ties: dict[int, tuple[int, ...]]
    skipped: tuple[int, ...]
    not_converged: tuple[NotConverged, ...]
    worst: WorstValues | None
    flows_solved: int
