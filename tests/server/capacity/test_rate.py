"""Ratings: what the engine is asked, what comes back, and what is kept for bookings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from evflex.capacity.v1 import capacity_service_pb2 as api
from evflex.common.v1 import supply_node_pb2
from evflex.engine.timegrid import TimeGrid
from evflex.engine.validation import InvalidProblemError, Violation
from evflex.server.caller import Caller
from evflex.server.store.capacity import CapacityStore
from evflex.server.store.retention import Retention
from tests.server.capacity.planning_support import (
    STEPS,
    FakeCapacityEngine,
    RunningCapacity,
    grid,
    rate_request,
    running_capacity,
    transformer,
)
from tests.server.support import START_S, info_of, reason_of, violations_of


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCapacity]:
    with running_capacity(tmp_path_factory.mktemp("server")) as server:
        yield server


def rated(here: RunningCapacity, request: Any = None, **fields: Any) -> api.TransformerRating:
    rating: api.TransformerRating = here.capacity.RateTransformer(request or rate_request(**fields)).rating
    return rating


def refused(here: RunningCapacity, request: Any = None, **fields: Any) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        rated(here, request, **fields)
    return caught.value


def test_the_answer_tells_what_the_engine_has_found(here: RunningCapacity) -> None:
    answer = rated(here, grid_condition=[1, 2, 1, 1], wanted=[True, False, True, True], area_id="north")
    assert (answer.rating_id, answer.transformer_id, answer.area_id) == ("", "trafo-1", "north")
    assert answer.time_grid == grid()
    arrays = ("loading_ratio", "top_oil_c", "hot_spot_c", "loss_of_life_h", "headroom_n_kva", "headroom_n1_kva")
    for i, name in enumerate(arrays):
        assert list(getattr(answer, name)) == [10.0 * i + k for k in range(STEPS)], name
    (broken,) = answer.limit_violations
    assert (broken.step, broken.reason, broken.limit, broken.excess) == (0, 1, 1.5, 0.25)
    assert broken.phase == supply_node_pb2.PHASE_L2
    assert answer.final_state.top_oil_c == 55.0
    problem = here.engine.ratings[-1]
    assert problem.contingency.tolist() == [False, True, False, False]
    assert problem.wanted.tolist() == [True, False, True, True]


def test_a_kept_rating_is_what_bookings_are_held_against(here: RunningCapacity) -> None:
    answer = rated(here, store=True, transformer=transformer(transformer_id="booked"), area_id="north")
    assert answer.rating_id
    assert answer.etag
    assert (answer.tenant_id, answer.area_id) == ("default", "north")
    assert answer.create_time == answer.update_time
    retention = Retention(1.0, 1.0)
    window = TimeGrid(START_S, 900.0, STEPS)
    with CapacityStore(here.server._database, retention).reading() as rows:
        heads = rows.ratings.heads("default", "booked", window)
        (headroom,) = rows.ratings.headroom(heads)
    assert [head.rating_id for head in heads] == [answer.rating_id]
    assert heads[0].grid == window
    np.testing.assert_array_equal(headroom.normal.power_kw, answer.headroom_n_kva)
    np.testing.assert_array_equal(headroom.contingency.power_kw, answer.headroom_n1_kva)


def test_the_same_request_has_the_same_answer(here: RunningCapacity) -> None:
    request = rate_request(store=True)
    first, solves = rated(here, request), len(here.engine.ratings)
    assert rated(here, request) == first
    assert len(here.engine.ratings) == solves
    request.transformer.rated_kva = 1.0
    assert reason_of(refused(here, request)) == "REQUEST_ID_REUSED"


def test_a_request_can_only_be_checked(here: RunningCapacity) -> None:
    solves = len(here.engine.ratings)
    assert not here.capacity.RateTransformer(rate_request(validate_only=True, store=True)).HasField("rating")
    assert len(here.engine.ratings) == solves
    assert set(violations_of(refused(here, store=True, request_id="", n1_rated_kva=0.0))) == {
        "request_id",
        "n1_rated_kva",
    }
    assert set(violations_of(refused(here, validate_only=True, n1_rated_kva=0.0))) == {"n1_rated_kva"}


def test_limits_are_named(tmp_path: Path) -> None:
    with running_capacity(tmp_path, max_steps=3, max_unary_answer_bytes=250) as here:
        assert info_of(refused(here))["limit"] == "max_steps"
        error = refused(here, steps=3, store=True)
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert info_of(error)["limit"] == "max_unary_answer_bytes"


def test_an_area_of_others_is_denied(tmp_path: Path) -> None:
    def resolve(metadata: Any, peer: str) -> Caller:
        return Caller("default", areas=frozenset({"south"}))

    with running_capacity(tmp_path, server_arguments={"resolve_caller": resolve}) as here:
        assert reason_of(refused(here, area_id="north")) == "AREA_NOT_ALLOWED"
        assert rated(here, area_id="south").area_id == "south"


def test_what_the_engine_refuses_is_the_callers_fault(tmp_path: Path) -> None:
    engine = FakeCapacityEngine(capacity_error=InvalidProblemError([Violation("wanted", "must be odd")]))
    with running_capacity(tmp_path, engine) as here:
        assert violations_of(refused(here)) == {"wanted": "must be odd"}
