"""What is asked: the rating of a transformer, and its capacity shared between hubs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from math import isfinite

from evflex.engine.capacity.hub import Hub
from evflex.engine.capacity.transformer import BaseLoad, Transformer, validate_condition
from evflex.engine.supply_tree import BoolArray
from evflex.engine.timegrid import TimeGrid
from evflex.engine.validation import Rules


class AllocationPolicy(IntEnum):
    """How conditional capacity is split; values as in the public contract."""

    MAX_MIN = 1
    PROPORTIONAL = 2
    WEIGHTED_PROPORTIONAL_FAIR = 3
    PRIORITY = 4
    LEAST_COST = 5


class BindingReason(IntEnum):
    """Why a hub got less than it wanted, or what is broken; values as in the public contract."""

    NONE = 0
    LOADING_RATIO = 1
    CONTINGENCY = 2
    HOT_SPOT = 3
    TOP_OIL = 4
    LOSS_OF_LIFE = 5
    AGREEMENT = 6
    HUB_LIMIT = 7
    ROTATION = 8
    RAMP = 9
    SILENCE = 10
    OPERATOR_CUT = 11


@dataclass(frozen=True, slots=True)
class RatingProblem:
    """What a transformer's load does to it, and what could come on top.

    Attributes:
        grid: Time axis.
        transformer: The transformer.
        base: Its load.
        contingency: Whether a step is in N-1, (T,).
        n1_rated_kva: Limit of loading in N-1.
        wanted: Steps in which extra load is wanted, (T,).
    """

    grid: TimeGrid
    transformer: Transformer
    base: BaseLoad
    contingency: BoolArray
    n1_rated_kva: float
    wanted: BoolArray

    def validate(self, rules: Rules) -> None:
        """Report every broken rule."""
        if not self.grid.validate(rules):
            return
        steps = self.grid.step_count
        self.transformer.validate(rules, steps)
        self.base.validate(rules, steps)
        validate_condition(rules, self.contingency, self.n1_rated_kva, steps)
        rules.length("wanted", self.wanted.shape[0], (steps,))


@dataclass(frozen=True, slots=True)
class AllocationProblem:
    """What is shared: a transformer's capacity above its base load, between hubs, over a horizon.

    Attributes:
        grid: Time axis.
        transformer: The transformer.
        base: Its load without hubs.
        contingency: Whether a step is in N-1, (T,).
        n1_rated_kva: Limit of loading in N-1.
        hubs: The hubs, at least one.
        policy: How conditional capacity is split.
    """

    grid: TimeGrid
    transformer: Transformer
    base: BaseLoad
    contingency: BoolArray
    n1_rated_kva: float
    hubs: tuple[Hub, ...]
    policy: AllocationPolicy = AllocationPolicy.MAX_MIN

    def validate(self, rules: Rules) -> None:
        """Report every broken rule."""
        if not self.grid.validate(rules):
            return
        steps = self.grid.step_count
        self.transformer.validate(rules, steps)
        self.base.validate(rules, steps)
        validate_condition(rules, self.contingency, self.n1_rated_kva, steps)
        rules.check(bool(self.hubs), "hubs", "must hold at least one hub")
        seen: dict[str, int] = {}
        for i, hub in enumerate(self.hubs):
            hub.validate(rules, self.grid, f"hubs[{i}]")
            first = seen.setdefault(hub.hub_id, i)
            rules.check(first == i, f"hubs[{i}].hub_id", f"must be unique, repeats hubs[{first}]: {hub.hub_id!r}")


@dataclass(frozen=True, slots=True)
class AllocationOptions:
    """How an allocation is made.

    Attributes:
        time_limit_s: Longest solve, > 0.
    """

    time_limit_s: float = 30.0

    def validate(self, rules: Rules) -> None:
        """Report every broken rule."""
        ok = isfinite(self.time_limit_s) and self.time_limit_s > 0.0
        rules.check(ok, "time_limit_duration", "must be > 0")
