"""TrackCapacity: every message answered, nonsense refused without harm, silence noticed, one stream a transformer."""

from __future__ import annotations

import time
from math import inf, nan
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from evflex.capacity.v1 import agreement_pb2, allocation_pb2, hub_pb2, tracking_pb2, transformer_pb2
from evflex.server.caller import Caller
from tests.server.capacity.live_support import (
    Operator,
    header_of,
    running_live,
    snapshot_of,
    time_at,
    watching,
)
from tests.server.support import reason_of, until, violations_of

SILENCE = allocation_pb2.BINDING_REASON_SILENCE


def test_header_is_answered_with_hubs_on_firm_capacity(tmp_path: Path) -> None:
    header = header_of()
    header.hubs[0].agreement.firm_kw = 30.0
    header.hubs[0].agreement.conditional_kw = 20.0
    with running_live(tmp_path) as here:
        first = Operator(here, header).first
    assert first.fallen_back
    assert [hub.hub_id for hub in first.hubs] == ["hub-1", "hub-2"]
    assert [hub.capacity_kw for hub in first.hubs] == [30.0, 0.0]
    assert {hub.reason for hub in first.hubs} == {SILENCE}


def test_measurement_is_answered_with_what_has_changed(tmp_path: Path) -> None:
    with running_live(tmp_path) as here:
        operator = Operator(here)
        before_s = time.time()
        update = operator.settled(450.0)
        hub = update.hubs[0]
        assert update.outcome == tracking_pb2.MEASUREMENT_OUTCOME_ACCEPTED
        assert not update.fallen_back
        assert hub.capacity_kw == pytest.approx(75.0)
        assert list(hub.current_a) == pytest.approx([75_000.0 / 3.0 / 230.0] * 3)
        assert hub.reason == allocation_pb2.BINDING_REASON_LOADING_RATIO
        assert hub.transformer_id == "trafo-1"
        assert hub.valid_until_time.ToMicroseconds() / 1e6 == pytest.approx(before_s + 60.0, abs=5.0)
        assert update.transformer.loading_ratio == pytest.approx(450.0 / 400.0)
        assert update.transformer.hubs_capacity_kw == pytest.approx(150.0)
        assert update.transformer.hot_spot_c == pytest.approx(
            update.transformer.state.top_oil_c
            + update.transformer.state.winding_gradient_c
            - update.transformer.state.oil_gradient_c
        )
        again = operator.measure(440.0)
        assert not again.hubs or again.hubs[0].sequence > hub.sequence
        assert again.measurement_time == time_at(operator.last_unix_s)


@pytest.mark.parametrize(
    "fields",
    [
        {"current_a": [nan, 1.0, 1.0]}, {"current_a": [-1.0, 1.0, 1.0]}, {"current_a": [1.0]}, {"current_a": []},
        {"voltage_v": [0.0, 230.0, 230.0]}, {"power_factor": 0.0}, {"power_factor": inf}, {"hub_power_kw": [1.0]},
        {"hub_power_kw": [-50.0, 0.0]}, {"ambient_c": nan}, {"measurement_time": None},
        {"measurement_time": Timestamp(seconds=10**14)}, {"measurement_time": Timestamp(nanos=-1)},
    ],
)  # fmt: skip
def test_nonsense_is_refused_with_a_reason_and_without_harm(tmp_path: Path, fields: dict[str, Any]) -> None:
    with running_live(tmp_path) as here:
        operator = Operator(here)
        before = operator.settled()
        refused = operator.measure(**fields)
        assert refused.outcome == tracking_pb2.MEASUREMENT_OUTCOME_NONSENSE
        assert refused.detail
        assert not refused.hubs
        assert refused.transformer.hubs_capacity_kw == before.transformer.hubs_capacity_kw
        assert operator.measure().outcome == tracking_pb2.MEASUREMENT_OUTCOME_ACCEPTED


def test_measurements_of_a_wrong_time_are_refused_by_name(tmp_path: Path) -> None:
    with running_live(tmp_path) as here:
        operator = Operator(here)
        operator.settled()
        last = time_at(operator.last_unix_s)
        assert operator.measure(measurement_time=last).outcome == tracking_pb2.MEASUREMENT_OUTCOME_OUT_OF_ORDER
        ahead = operator.measure(measurement_time=time_at(time.time() + 60.0))
        assert ahead.outcome == tracking_pb2.MEASUREMENT_OUTCOME_CLOCK_AHEAD
        old = operator.measure(measurement_time=time_at(time.time() - 120.0))
        assert old.outcome == tracking_pb2.MEASUREMENT_OUTCOME_TOO_OLD


def test_messages_that_say_nothing_are_answered_too(tmp_path: Path) -> None:
    with running_live(tmp_path) as here:
        operator = Operator(here)
        operator.settled()
        for payload in ({}, {"header": operator.header}):
            operator.send(**payload)
            answer = operator.next()
            assert answer.detail
            assert answer.transformer.hubs_capacity_kw == 200.0


def test_bytes_that_are_no_message_are_nonsense(tmp_path: Path) -> None:
    with running_live(tmp_path) as here:
        header = tracking_pb2.TrackCapacityRequest(header=header_of()).SerializeToString()
        call = here.channel.stream_stream(
            "/evflex.capacity.v1.CapacityService/TrackCapacity",
            response_deserializer=tracking_pb2.TrackCapacityResponse.FromString,
        )(iter([header, b"\xff\xff", b""]), timeout=60.0)
        answers = list(call)
    assert [answer.outcome for answer in answers] == [0, tracking_pb2.MEASUREMENT_OUTCOME_NONSENSE, 0]


def test_changes_by_the_operator_count_at_once(tmp_path: Path) -> None:
    with running_live(tmp_path) as here:
        operator = Operator(here, n1_rated_kva=150.0)
        operator.settled()
        cut = operator.change(cut_kw=50.0)
        assert [hub.capacity_kw for hub in cut.hubs] == pytest.approx([25.0, 25.0])
        assert {hub.reason for hub in cut.hubs} == {allocation_pb2.BINDING_REASON_OPERATOR_CUT}
        assert operator.change(clear_cut=True).detail == ""
        assert operator.measure().transformer.hubs_capacity_kw == 200.0
        n1 = operator.change(grid_condition=transformer_pb2.GRID_CONDITION_CONTINGENCY)
        assert n1.transformer.hubs_capacity_kw == pytest.approx(50.0)
        assert {hub.reason for hub in n1.hubs} == {allocation_pb2.BINDING_REASON_CONTINGENCY}
        assert operator.change().transformer.hubs_capacity_kw == pytest.approx(50.0)
        operator.change(grid_condition=transformer_pb2.GRID_CONDITION_NORMAL)
        operator.measure()
        wish = operator.change(hubs=[tracking_pb2.TrackedHub(hub_id="hub-2", demand_kw=10.0, connected_evs=1)])
        assert [(hub.hub_id, hub.capacity_kw, hub.evs_served) for hub in wish.hubs] == [("hub-2", 10.0, 1)]


@pytest.mark.parametrize(
    "fields",
    [
        {"cut_kw": -1.0}, {"cut_kw": nan}, {"cut_kw": 1.0, "clear_cut": True}, {"grid_condition": 9, "cut_kw": 1.0},
        {"hubs": [tracking_pb2.TrackedHub(hub_id="nobody")], "cut_kw": 1.0},
        {"hubs": [tracking_pb2.TrackedHub(hub_id="hub-1", demand_kw=nan)]},
        {"hubs": [tracking_pb2.TrackedHub(hub_id="hub-1", connected_evs=-1)]},
    ],
)  # fmt: skip
def test_changes_that_make_no_sense_are_refused_whole(tmp_path: Path, fields: dict[str, Any]) -> None:
    with running_live(tmp_path) as here:
        operator = Operator(here)
        operator.settled()
        refused = operator.change(**fields)
        assert refused.detail
        assert refused.transformer.hubs_capacity_kw == 200.0


def test_silence_is_noticed_while_the_client_says_nothing(tmp_path: Path) -> None:
    header = header_of(max_silence_duration=Duration(seconds=1))
    header.hubs[0].agreement.firm_kw = 30.0
    header.hubs[0].agreement.conditional_kw = 70.0
    with running_live(tmp_path) as here:
        operator = Operator(here, header)
        operator.settled()
        fallen = next(answer for answer in operator.call if answer.fallen_back)
        assert [hub.capacity_kw for hub in fallen.hubs] == [30.0, 0.0]
        assert {hub.reason for hub in fallen.hubs} == {SILENCE}
        assert not operator.measure().fallen_back


def test_only_one_stream_tracks_a_transformer_of_a_tenant(tmp_path: Path) -> None:
    with running_live(tmp_path) as here:
        operator = Operator(here)
        with pytest.raises(grpc.RpcError) as caught:
            Operator(here)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert reason_of(caught.value) == "ALREADY_TRACKED"
        assert Operator(here, tenant_id="other").first.fallen_back
        operator.end()
        assert Operator(here).first.fallen_back


def test_a_stream_that_breaks_off_leaves_its_transformer(tmp_path: Path) -> None:
    with running_live(tmp_path) as here:
        operator = Operator(here)
        operator.settled()
        with watching(here) as events:
            snapshot_of(events)
            operator.call.cancel()
            event = next(events)
        assert {hub.reason for hub in event.hubs} == {SILENCE}
        assert [hub.capacity_kw for hub in event.hubs] == [0.0, 0.0]

        def tracked_again() -> bool:
            try:
                return Operator(here).first.fallen_back
            except grpc.RpcError:
                return False

        until(tracked_again)


def test_too_many_streams_are_unavailable(tmp_path: Path) -> None:
    with running_live(tmp_path, max_capacity_tracks=1) as here:
        operator = Operator(here)
        with pytest.raises(grpc.RpcError) as caught:
            Operator(here, tenant_id="other")
        assert reason_of(caught.value) == "TOO_MANY_STREAMS"
        operator.end()
        until(lambda: _opens(here))


def _opens(here: Any) -> bool:
    try:
        Operator(here, tenant_id="other").end()
    except grpc.RpcError:
        return False
    return True


def test_draining_ends_streams(tmp_path: Path) -> None:
    with running_live(tmp_path) as here:
        operator = Operator(here)
        here.server.stop(5.0)
        with pytest.raises(grpc.RpcError) as caught:
            operator.next()
        assert reason_of(caught.value) == "SHUTTING_DOWN"


def broken(**fields: Any) -> tracking_pb2.TrackCapacityHeader:
    """A header of one hub with these fields."""
    return header_of(hubs=[hub_pb2.Hub(hub_id="hub-1", max_kw=10.0, **fields)])


@pytest.mark.parametrize(
    ("header", "field"),
    [
        (header_of(request_id="x"), "header.request_id"),
        (header_of(hubs=[]), "header.hubs"),
        (header_of(transformer=transformer_pb2.Transformer(rated_kva=1.0)), "header.transformer.transformer_id"),
        (header_of(transformer=transformer_pb2.Transformer(transformer_id="t")), "header.transformer.rated_kva"),
        (
            header_of(transformer=transformer_pb2.Transformer(transformer_id="t", rated_kva=1.0, ambient_c=[1.0] * 2)),
            "header.transformer.ambient_c",
        ),
        (header_of(n1_rated_kva=-1.0), "header.n1_rated_kva"),
        (header_of(policy=99), "header.policy"),
        (header_of(grid_condition=99), "header.grid_condition[0]"),
        (header_of(max_silence_duration=Duration(nanos=1)), "header.max_silence_duration"),
        (header_of(dead_band_ratio=1.0), "header.dead_band_ratio"),
        (header_of(ramp_ratio_per_min=nan), "header.ramp_ratio_per_min"),
        (header_of(rotation_duration=Duration(seconds=5)), "header.rotation_duration"),
        (header_of(max_clock_skew_duration=Duration(seconds=-1)), "header.max_clock_skew_duration"),
        (broken(phases=99), "header.hubs[0].phases"),
        (broken(phases_per_ev=2), "header.hubs[0].phases_per_ev"),
        (broken(weight=0.0), "header.hubs[0].weight"),
        (broken(min_kw_per_ev=-1.0), "header.hubs[0].min_kw_per_ev"),
        (broken(demand_kw=[1.0]), "header.hubs[0].demand_kw"),
        (broken(agreement_id="unknown"), "header.hubs[0].agreement_id"),
        (broken(agreement=agreement_pb2.Agreement(firm_kw=-1.0)), "header.hubs[0].agreement.firm_kw"),
        (
            broken(agreement=agreement_pb2.Agreement(valid_until_time=Timestamp(seconds=1))),
            "header.hubs[0].agreement",
        ),
        (header_of(hubs=[hub_pb2.Hub(hub_id="a", max_kw=1.0)] * 2), "header.hubs[1].hub_id"),
    ],
)
def test_a_broken_header_names_the_field(tmp_path: Path, header: Any, field: str) -> None:
    with running_live(tmp_path) as here:
        with pytest.raises(grpc.RpcError) as caught:
            Operator(here, header)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert list(violations_of(caught.value)) == [field]


def test_the_header_comes_first_and_in_time(tmp_path: Path) -> None:
    with running_live(tmp_path, default_deadline_s=0.2) as here:
        call = here.stub.TrackCapacity(iter([tracking_pb2.TrackCapacityRequest()]), timeout=60.0)
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
        assert list(violations_of(caught.value)) == ["header"]
        silent = Operator.__new__(Operator)
        silent.open(here)
        with pytest.raises(grpc.RpcError) as caught:
            silent.next()
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_stream_without_a_message_is_no_tracking(tmp_path: Path) -> None:
    with running_live(tmp_path) as here:
        call = here.stub.TrackCapacity(iter([]), timeout=60.0)
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
        assert list(violations_of(caught.value)) == ["header"]


def test_too_many_hubs_are_refused(tmp_path: Path) -> None:
    with running_live(tmp_path, max_hubs=1) as here:
        with pytest.raises(grpc.RpcError) as caught:
            Operator(here)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_terms_of_stored_agreements_hold(tmp_path: Path) -> None:
    with running_live(tmp_path) as here:
        here.agreements.add("mine", "hub-1", firm_kw=20.0, conditional_kw=30.0)
        here.agreements.add("theirs", "hub-1", dso="other")
        here.agreements.add("old", "hub-1", valid_until_unix_s=1.0)
        with pytest.raises(grpc.RpcError) as caught:
            Operator(here, broken(agreement_id="theirs"))
        assert list(violations_of(caught.value)) == ["header.hubs[0].agreement_id"]
        with pytest.raises(grpc.RpcError) as caught:
            Operator(here, broken(agreement_id="old"))
        assert list(violations_of(caught.value)) == ["header.hubs[0].agreement"]
        hub = hub_pb2.Hub(hub_id="hub-1", max_kw=100.0, agreement_id="mine")
        operator = Operator(here, header_of(hubs=[hub]))
        assert operator.first.hubs[0].capacity_kw == 20.0
        settled = operator.settled()
        assert settled.hubs[0].capacity_kw == 50.0
        assert settled.hubs[0].reason == allocation_pb2.BINDING_REASON_AGREEMENT


def test_an_area_that_the_caller_may_not_use_is_refused(tmp_path: Path) -> None:
    arguments = {"resolve_caller": lambda metadata, peer: Caller("default", areas=frozenset({"north"}))}
    with running_live(tmp_path, server_arguments=arguments) as here:
        with pytest.raises(grpc.RpcError) as caught:
            Operator(here, area_id="south")
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert Operator(here, area_id="north").first.fallen_back
