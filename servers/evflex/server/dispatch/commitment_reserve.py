"""Turns a reserve that names a commitment of the ledger into the engine's, and reports why it cannot be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from evflex.activation.v1.commitment_pb2 import Commitment, CommitmentState
from evflex.common.v1.direction_pb2 import DIRECTION_DOWN, DIRECTION_UP
from evflex.dispatch.v1 import plan_pb2
from evflex.engine.align import largest_of_rows
from evflex.engine.dispatch.model import Reserve
from evflex.engine.supply_tree import FloatArray
from evflex.engine.timegrid import TimeGrid
from evflex.engine.validation import Rules
from evflex.server.dispatch.products import Product, Products
from evflex.server.fields import check_id

_SOLD = (CommitmentState.COMMITMENT_STATE_CONFIRMED, CommitmentState.COMMITMENT_STATE_ACTIVATED)
_STATE_PREFIX = "COMMITMENT_STATE_"


def commitment_reserve(
    rules: Rules,
    path: str,
    message: plan_pb2.PortfolioReserve,
    commitments: Mapping[str, Commitment],
    grid: TimeGrid,
    products: Products,
) -> Reserve:
    """What a commitment asks of a plan; of one that is refused, nothing.

    Args:
        rules: Where faults are reported.
        path: Of the reserve.
        message: The reserve, which names a commitment alone.
        commitments: Those of the caller, by identifier.
        grid: Time axis of the plan.
        products: All products.
    """
    nothing = np.zeros(grid.step_count)
    commitment = commitments.get(message.commitment_id)
    refusal = _refusal(commitment)
    if commitment is None or refusal:
        rules.check(False, f"{path}.commitment_id", refusal)
        return Reserve(nothing, nothing, 0.0)
    product = products.find(commitment.product_id)
    if product is None:
        known = ", ".join(products.product_ids)
        rules.check(False, f"{path}.commitment_id", f"must be of one of {known}, is of {commitment.product_id[:256]!r}")
        return Reserve(nothing, nothing, 0.0)
    same = message.product_id in ("", product.product_id)
    rules.check(same, f"{path}.product_id", f"must be empty or that of the commitment, {product.product_id}")
    _check_direction(rules, f"{path}.commitment_id", commitment, product)
    sold_kw = _sold_kw(commitment, grid)
    is_up = commitment.direction == DIRECTION_UP
    # all calls last as long as the longest endurance, which one outside the plan must not prolong
    endurance_s = product.endurance_s if sold_kw.any() else 0.0
    return Reserve(sold_kw if is_up else nothing, nothing if is_up else sold_kw, endurance_s)


def names_commitment_alone(message: plan_pb2.PortfolioReserve) -> bool:
    """Whether a reserve is taken from the ledger."""
    return not (message.HasField("time_grid") or message.up_kw or message.down_kw)


def named_commitments(messages: Iterable[plan_pb2.PortfolioReserve]) -> list[str]:
    """Identifiers to look for in the ledger, each once; none that a database might choke on."""
    ids = dict.fromkeys(message.commitment_id for message in messages if names_commitment_alone(message))
    return [commitment_id for commitment_id in ids if _is_sound(commitment_id)]


def _is_sound(commitment_id: str) -> bool:
    rules = Rules()
    check_id(rules, "commitment_id", commitment_id, required=True)
    return not rules.violations


def _refusal(commitment: Commitment | None) -> str:
    """The rule that keeps a commitment from being a reserve, empty where none does."""
    rule = "must be a confirmed or activated commitment of the caller"
    if commitment is None:
        return rule
    if commitment.state in _SOLD:
        return ""
    return f"{rule}, is {CommitmentState.Name(commitment.state).removeprefix(_STATE_PREFIX)}"


def _check_direction(rules: Rules, path: str, commitment: Commitment, product: Product) -> None:
    if commitment.direction == DIRECTION_UP:
        rules.check(product.is_sold_up, path, f"must not be upward, {product.product_id} is downward")
    elif commitment.direction == DIRECTION_DOWN:
        rules.check(product.is_sold_down, path, f"must not be downward, {product.product_id} is upward")
    else:
        rules.check(False, path, "must have a direction")


def _sold_kw(commitment: Commitment, grid: TimeGrid) -> FloatArray:
    """The most that is sold in each step; what a vehicle would have given ends where it was unplugged."""
    cut = [row for row in commitment.allocation if row.HasField("truncated_time")]
    whole_w = commitment.power_w - sum(row.power_w for row in cut)
    ends = [row.truncated_time.ToMilliseconds() for row in cut] + [commitment.end_time.ToMilliseconds()]
    powers_w = [row.power_w for row in cut] + [whole_w]
    start_unix_s = commitment.start_time.ToMilliseconds() / 1e3
    # whole watts add up exactly, so that kW come out as they were sold
    return largest_of_rows(grid, start_unix_s, np.array(ends) / 1e3, np.array(powers_w, dtype=np.float64)) / 1e3
