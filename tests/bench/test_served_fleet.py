"""A portfolio's messages say what its arrays say, and a stream of powers becomes an array again."""

from __future__ import annotations

import numpy as np
import pytest

from bench.fleets import FEEDERS, Coupling, Variant, reference_problem
from bench.served_fleet import fleet_messages, limit_messages, read_plan
from evflex.common.v1 import time_grid_pb2
from evflex.dispatch.v1 import dispatch_service_pb2 as api
from evflex.dispatch.v1 import plan_pb2

PROBLEM = reference_problem(7, 0, Variant(distinct=True, coupling=Coupling.FEEDERS_AND_FLEET))


def stream(chunks: list[np.ndarray], stated: int) -> list[api.GetPlanResponse]:
    plan = plan_pb2.Plan(asset_count=3, time_grid=time_grid_pb2.TimeGrid(step_count=2))
    messages = [api.GetPlanResponse(summary=plan_pb2.PlanSummary(plan=plan, chunk_count=stated))]
    for k, power_kw in enumerate(chunks):
        ids = [f"car-{k}-{i}" for i in range(len(power_kw))]
        chunk = plan_pb2.PlanChunk(chunk_index=k, asset_ids=ids, power_kw=power_kw.ravel().tolist())
        messages.append(api.GetPlanResponse(chunk=chunk))
    return messages


def test_a_fleet_is_sent_in_messages_of_columns() -> None:
    header, *chunks, commit = fleet_messages(PROBLEM, "fleet", assets_per_message=3)
    assert header.header.expected_assets == 7
    assert len(header.header.groups) == FEEDERS
    assert commit.HasField("commit")
    fleets = [message.chunk.fleet for message in chunks]
    assert [len(fleet.asset_ids) for fleet in fleets] == [3, 3, 1]
    needed = np.concatenate([fleet.energy_needed_kwh for fleet in fleets])
    np.testing.assert_array_equal(needed, PROBLEM.fleet.energy_needed_kwh)
    begin = np.concatenate([fleet.available_from_unix_s for fleet in fleets])
    np.testing.assert_array_equal(begin, PROBLEM.fleet.available_from_unix_s)
    assert not fleets[0].shortfall_price_per_kwh


def test_limits_name_feeder_or_fleet() -> None:
    limits = limit_messages(PROBLEM)
    assert [limit.group_id for limit in limits] == [*(f"feeder-{k}" for k in range(FEEDERS)), ""]
    np.testing.assert_array_equal(limits[-1].max_import_kw, PROBLEM.limits[-1].upper_kw)


def test_chunks_become_one_array() -> None:
    powers = np.arange(6.0).reshape(3, 2)
    read = read_plan(stream([powers[:2], powers[2:]], 2))
    assert read.power_kw is not None
    np.testing.assert_array_equal(read.power_kw, powers)


def test_a_stream_that_lacks_a_chunk_is_refused() -> None:
    with pytest.raises(RuntimeError, match="before its end"):
        read_plan(stream([np.zeros((2, 2))], 2))
