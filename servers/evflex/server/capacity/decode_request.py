"""Turns requests for a rating or an allocation into the engine's model, and reports what only the wire gets wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from evflex.capacity.v1 import capacity_service_pb2
from evflex.engine.capacity.hub import Hub
from evflex.engine.capacity.model import AllocationOptions, AllocationPolicy, AllocationProblem, RatingProblem
from evflex.engine.capacity.transformer import BaseLoad, Transformer
from evflex.engine.supply_tree import BoolArray
from evflex.engine.timegrid import TimeGrid
from evflex.engine.validation import Rules, Violation
from evflex.server.capacity.agreements import ActiveTerms
from evflex.server.capacity.decode_hubs import decode_hub
from evflex.server.capacity.decode_loading import decode_loading
from evflex.server.capacity.decode_transformer import decode_contingency, decode_n1_rated_kva, decode_transformer
from evflex.server.capacity.hub_terms import terms_of_hub
from evflex.server.capacity.terms import Terms
from evflex.server.fields import check_id, check_request_id, duration_s, known_member, merged, read_grid

RateRequest = capacity_service_pb2.RateTransformerRequest
AllocateRequest = capacity_service_pb2.AllocateCapacityRequest
PREVIOUS_FIELD = "previous_allocation_id"


@dataclass(frozen=True, slots=True)
class DecodedRating:
    """A request for a rating in the engine's terms.

    Attributes:
        problem: What is asked.
        wire: Faults that the engine cannot see.
    """

    problem: RatingProblem
    wire: Rules

    def violations(self) -> list[Violation]:
        """Every fault of the request, the wire's and the engine's."""
        rules = Rules()
        self.problem.validate(rules)
        return merged(self.wire, rules)


@dataclass(frozen=True, slots=True)
class DecodedAllocation:
    """A request for an allocation in the engine's terms.

    Attributes:
        problem: What is asked, no capacity being protected by notice yet.
        options: Options; the time limit is the caller's, or the default that was handed in.
        terms: What each hub is entitled to; none where the time axis has a fault.
        wire: Faults that the engine cannot see.
    """

    problem: AllocationProblem
    options: AllocationOptions
    terms: tuple[Terms, ...]
    wire: Rules

    def violations(self) -> list[Violation]:
        """Every fault of the request, the wire's and the engine's."""
        rules = Rules()
        self.problem.validate(rules)
        self.options.validate(rules)
        return merged(self.wire, rules)


@dataclass(frozen=True, slots=True)
class _Situation:
    """What both requests tell of the transformer's load and limits."""

    grid: TimeGrid
    transformer: Transformer
    base: BaseLoad
    contingency: BoolArray
    n1_rated_kva: float


def decode_rating(request: RateRequest) -> DecodedRating:
    """Turn a request into the engine's model; it is within the server's limits."""
    rules = Rules()
    at = _situation(rules, request)
    wanted = np.array(request.wanted, dtype=np.bool_)
    steps = at.grid.known_step_count
    if steps is not None and (not rules.length("wanted", len(wanted), (0, steps)) or not len(wanted)):
        wanted = np.ones(steps, dtype=np.bool_)
    problem = RatingProblem(at.grid, at.transformer, at.base, at.contingency, at.n1_rated_kva, wanted)
    return DecodedRating(problem, rules)


def decode_allocation(
    request: AllocateRequest, agreed: Mapping[str, ActiveTerms], default_time_limit_s: float
) -> DecodedAllocation:
    """Turn a request into the engine's model.

    Args:
        request: The request; within the server's limits.
        agreed: Agreements that hubs name; those absent are reported.
        default_time_limit_s: Longest solve, which the request may shorten.
    """
    rules = Rules()
    check_id(rules, PREVIOUS_FIELD, request.previous_allocation_id)
    at = _situation(rules, request)
    policy = known_member(rules, "policy", request.policy, AllocationPolicy.MAX_MIN)
    hubs, terms = _hubs(rules, request, agreed, at.grid) if at.grid.validate(Rules()) else ((), ())
    if policy is AllocationPolicy.LEAST_COST:
        _check_one_currency(rules, request, terms)
    problem = AllocationProblem(at.grid, at.transformer, at.base, at.contingency, at.n1_rated_kva, hubs, policy)
    return DecodedAllocation(problem, _options(rules, request, default_time_limit_s), terms, rules)


def _situation(rules: Rules, request: RateRequest | AllocateRequest) -> _Situation:
    check_request_id(rules, request.request_id, required=request.store)
    check_id(rules, "area_id", request.area_id)
    grid = read_grid(rules, "time_grid", request)
    steps = grid.known_step_count
    rules.check(request.HasField("transformer"), "transformer", "must be set")
    # of a transformer that is not there, nothing else is told
    found = rules if request.HasField("transformer") else Rules()
    transformer = decode_transformer(found, request.transformer, steps)
    n1_rated_kva = request.n1_rated_kva if request.HasField("n1_rated_kva") else None
    risk_quantile = request.risk_quantile if request.HasField("risk_quantile") else None
    return _Situation(
        grid,
        transformer,
        decode_loading(rules, request.loading, steps, risk_quantile),
        decode_contingency(rules, request.grid_condition, steps),
        decode_n1_rated_kva(rules, n1_rated_kva, transformer.rated_kva),
    )


def _hubs(
    rules: Rules,
    request: AllocateRequest,
    agreed: Mapping[str, ActiveTerms],
    grid: TimeGrid,
) -> tuple[tuple[Hub, ...], tuple[Terms, ...]]:
    transformer_id = request.transformer.transformer_id
    hubs, terms = [], []
    for i, message in enumerate(request.hubs):
        path = f"hubs[{i}]"
        own = terms_of_hub(rules, message, transformer_id, agreed, path)
        hubs.append(decode_hub(rules, message, own, grid, path))
        terms.append(own)
    return tuple(hubs), tuple(terms)


def _check_one_currency(rules: Rules, request: AllocateRequest, terms: tuple[Terms, ...]) -> None:
    """Report prices that cannot be compared, because they are in several currencies."""
    priced = [i for i, own in enumerate(terms) if own.curtailment_price_per_kwh > 0.0]
    for i in priced:
        inline = request.hubs[i].HasField("agreement")
        path = f"hubs[{i}].agreement.currency_code" if inline else f"hubs[{i}].agreement_id"
        same = terms[i].currency_code == terms[priced[0]].currency_code
        rules.check(same, path, "must have the currency of the other hubs' prices with LEAST_COST")


def _options(rules: Rules, request: AllocateRequest, default_time_limit_s: float) -> AllocationOptions:
    time_limit_s = default_time_limit_s
    if request.HasField("time_limit_duration"):
        time_limit_s = duration_s(rules, "time_limit_duration", request.time_limit_duration)
    return AllocationOptions(min(time_limit_s, default_time_limit_s))
