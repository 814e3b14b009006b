"""Answers of the capacity service, as a server would write them."""

from __future__ import annotations

from evflex.capacity.v1 import agreement_pb2, allocation_pb2, tracking_pb2
from evflex.common.v1 import supply_node_pb2, time_grid_pb2

START = "2026-01-14T17:00:00Z"


def grid_message(step_count: int = 2) -> time_grid_pb2.TimeGrid:
    grid = time_grid_pb2.TimeGrid(step_count=step_count)
    grid.start_time.FromJsonString(START)
    grid.step_duration.FromJsonString("900s")
    return grid


def allocation_message(allocation_id: str = "a-1") -> allocation_pb2.Allocation:
    """Two hubs in two steps, the second with one car."""
    message = allocation_pb2.Allocation(
        allocation_id=allocation_id, transformer_id="t-1", time_grid=grid_message(), fairness_index=0.9, etag="e-1",
        policy=allocation_pb2.ALLOCATION_POLICY_MAX_MIN, tenant_id="dso",
    )  # fmt: skip
    message.hubs.add(
        hub_id="homes", capacity_kw=[30.0, 20.0], power_kw=[30.0, 15.0], evs_served=[4, 3],
        setpoint_current_a=[43.0, 43.0, 43.0, 29.0, 29.0, 29.0],
        wanted_kwh=15.0, served_kwh=11.25, curtailed_kwh=3.75, compensation=0.75, currency_code="EUR",
    )  # fmt: skip
    message.hubs.add(
        hub_id="road", capacity_kw=[50.0, 50.0], power_kw=[50.0, 0.0], evs_served=[1, 1],
        setpoint_current_a=[72.0] * 6, wanted_kwh=12.5, served_kwh=12.5, currency_code="EUR",
        session_ids=["car-1"], session_power_kw=[50.0, 0.0],
    )  # fmt: skip
    outcome = message.transformer
    outcome.loading_ratio.extend([0.9, 1.1])
    outcome.top_oil_c.extend([50.0, 51.0])
    outcome.hot_spot_c.extend([70.0, 75.0])
    outcome.headroom_n_kva.extend([60.0, 0.0])
    outcome.headroom_n1_kva.extend([10.0, 0.0])
    outcome.loss_of_life_h = 0.2
    outcome.final_state.top_oil_c = 51.0
    outcome.final_state.winding_gradient_c = 30.0
    outcome.final_state.oil_gradient_c = 6.0
    message.binding.add(step=1, hub_id="homes", reason=allocation_pb2.BINDING_REASON_CONTINGENCY)
    message.limit_violations.add(
        step=0, reason=allocation_pb2.BINDING_REASON_LOADING_RATIO, limit=1.5, excess=0.1,
        phase=supply_node_pb2.PHASE_L2,
    )  # fmt: skip
    message.create_time.FromJsonString(START)
    return message


def agreement_message(state: str = "PROPOSED", version: int = 1) -> agreement_pb2.Agreement:
    message = agreement_pb2.Agreement(
        agreement_id="g-1", hub_id="homes", transformer_id="t-1", dso_party="dso", cpo_party="cpo", firm_kw=40.0,
        conditional_kw=120.0, priority=2, curtailment_price_per_kwh=0.2, currency_code="DKK", version=version,
        state=f"AGREEMENT_STATE_{state}", accepted_by=["dso"], proposed_by="dso", area_id="DK2", etag="e-1",
    )  # fmt: skip
    message.notice_duration.FromJsonString("1800s")
    message.valid_from_time.FromJsonString(START)
    return message


def booking_message(booking_id: str = "b-1", released: bool = False) -> agreement_pb2.Booking:
    return agreement_pb2.Booking(
        booking_id=booking_id, hub_id="homes", agreement_id="g-1", transformer_id="t-1", time_grid=grid_message(),
        firm_kw=[30.0, 40.0], released=released, booked_by="cpo", tenant_id="dso", etag="e-2",
    )  # fmt: skip


def hub_capacity(hub_id: str, capacity_kw: float, sequence: int = 1) -> tracking_pb2.HubCapacity:
    message = tracking_pb2.HubCapacity(
        hub_id=hub_id, capacity_kw=capacity_kw, current_a=[capacity_kw / 0.69] * 3, evs_served=3, fallback_kw=10.0,
        sequence=sequence, reason=allocation_pb2.BINDING_REASON_HOT_SPOT, transformer_id="t-1",
    )  # fmt: skip
    message.valid_until_time.FromJsonString("2026-01-14T17:00:10Z")
    return message
