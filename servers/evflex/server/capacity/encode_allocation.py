"""Turns the engine's allocation into a message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from evflex.capacity.v1 import allocation_pb2, capacity_service_pb2
from evflex.engine.capacity.allocation import Allocation
from evflex.engine.capacity.model import AllocationProblem
from evflex.server.capacity.encode_outcome import set_state, violation_layout, violation_rows
from evflex.server.capacity.terms import Terms
from evflex.server.messages import set_termination
from evflex.server.rows import RowLayout
from evflex.server.wire import packed_doubles

_Allocation = allocation_pb2.Allocation
_Hub = allocation_pb2.HubAllocation
_Outcome = allocation_pb2.TransformerOutcome
_Binding = allocation_pb2.BindingConstraint
_OUTCOME_ARRAYS = ("loading_ratio", "top_oil_c", "hot_spot_c", "headroom_n_kva", "headroom_n1_kva")
_VIOLATIONS = violation_layout(_Allocation.LIMIT_VIOLATIONS_FIELD_NUMBER)
_BINDING = RowLayout.of(
    _Allocation.BINDING_FIELD_NUMBER,
    _Binding.HUB_ID_FIELD_NUMBER,
    {},
    {"step": _Binding.STEP_FIELD_NUMBER, "reason": _Binding.REASON_FIELD_NUMBER},
)
_BINDING_COLUMNS = {"step": 0, "reason": 2}
_MOST_INT32 = 2**31 - 1
# Of a hub in a step: capacity, use and three currents, and one byte of evs_served.
_CELL_BYTES = 5 * 8 + 1
_DOUBLE_BYTES = 8


def encode_allocation(
    request: capacity_service_pb2.AllocateCapacityRequest,
    problem: AllocationProblem,
    terms: Sequence[Terms],
    allocation: Allocation,
) -> _Allocation:
    """The allocation without what only a stored one has."""
    hub_ids = [hub.hub_id for hub in problem.hubs]
    message = _Allocation(
        transformer_id=request.transformer.transformer_id,
        time_grid=request.time_grid,
        # the numbers are the same in engine and contract; only their types differ
        policy=cast("allocation_pb2.AllocationPolicy", problem.policy),
        fairness_index=allocation.fairness_index,
        area_id=request.area_id,
    )
    for h, own in enumerate(terms):
        _write_hub(message.hubs.add(), problem, own, allocation, h)
    _write_outcome(message.transformer, allocation)
    rows = allocation.binding
    binding = _BINDING.write(
        [hub_ids[h] for h in rows[:, 1].tolist()],
        lambda name: np.ascontiguousarray(rows[:, _BINDING_COLUMNS[name]], dtype=np.int64),
    )
    message.MergeFromString(binding + violation_rows(_VIOLATIONS, allocation.violations, hub_ids))
    set_termination(message.termination, allocation.termination)
    return message


def allocation_bytes_at_least(hub_count: int, session_count: int, step_count: int) -> int:
    """Lower bound on the size of an allocation, known before it is made."""
    return step_count * (hub_count * _CELL_BYTES + _DOUBLE_BYTES * (session_count + len(_OUTCOME_ARRAYS)))


def _write_hub(into: _Hub, problem: AllocationProblem, terms: Terms, allocation: Allocation, h: int) -> None:
    hub = problem.hubs[h]
    into.hub_id = hub.hub_id
    into.MergeFromString(
        packed_doubles(_Hub.CAPACITY_KW_FIELD_NUMBER, allocation.capacity_kw[h])
        + packed_doubles(_Hub.SETPOINT_CURRENT_A_FIELD_NUMBER, allocation.current_a[h])
        + packed_doubles(_Hub.POWER_KW_FIELD_NUMBER, allocation.power_kw[h])
        + packed_doubles(_Hub.SESSION_POWER_KW_FIELD_NUMBER, allocation.session_power_kw[h])
    )
    into.evs_served.extend(np.clip(allocation.evs_served[h], 0, _MOST_INT32).tolist())
    into.session_ids.extend(hub.sessions.session_ids)
    into.wanted_kwh = allocation.wanted_kwh[h]
    into.served_kwh = allocation.served_kwh[h]
    into.curtailed_kwh = allocation.curtailed_kwh[h]
    into.compensation = allocation.compensation[h]
    into.currency_code = terms.currency_code


def _write_outcome(into: _Outcome, allocation: Allocation) -> None:
    numbers = _Outcome.DESCRIPTOR.fields_by_name
    arrays = [packed_doubles(numbers[name].number, getattr(allocation, name)) for name in _OUTCOME_ARRAYS]
    into.MergeFromString(b"".join(arrays))
    into.loss_of_life_h = float(allocation.loss_of_life_h.sum())
    set_state(into.final_state, allocation.final_state)
