"""Whatever a client sends, the server never answers INTERNAL or UNKNOWN, and goes on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2
from hypothesis import given
from hypothesis import strategies as st

from evflex.charging.v1 import charging_service_pb2 as api
from tests.server.support import Running, answers_of, one_by_one, running, site_request, stored_request

BAD_CODES = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
SERVICE = api.DESCRIPTOR.services_by_name["ChargingService"]
UNARY = [m.name for m in SERVICE.methods if not m.server_streaming]
NUMBERS = st.sampled_from(
    [0.0, -0.0, 1.0, -1.0, 1e-320, 1e308, -1e308, float("inf"), float("-inf"), float("nan"), 0.92, 7.4, -1.7e308]
)
WHOLE = st.sampled_from([0, 1, -1, 2, 7, 8, 9, 96, 2**31 - 1, -(2**31)])
LARGE = st.sampled_from([0, 1, -1, 1_730_804_400, 2**62, -(2**63), 2**63 - 1, 253_402_300_799, -62_135_596_801])
TEXT = st.sampled_from(
    ["", "root", "session-0", "a\x00b", "é" * 300, "x" * 300, "00000000-0000-4000-8000-000000000000", "EUR", "'"]
)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("server"), max_session_steps=100_000) as server:
        server.stub.OptimizeSchedule(stored_request())
        yield server


def code_of(call: Any, request: object) -> grpc.StatusCode:
    """How a call ends."""
    code: grpc.StatusCode = call.future(request, timeout=30.0).code()
    return code


def value_of(draw: st.DrawFn, field: FieldDescriptor, message: Message) -> object:
    kind = field.cpp_type
    if field.type == FieldDescriptor.TYPE_BYTES:
        return draw(st.binary(max_size=20))
    if kind == FieldDescriptor.CPPTYPE_STRING:
        return draw(TEXT)
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return draw(st.booleans())
    if kind == FieldDescriptor.CPPTYPE_DOUBLE:
        return draw(NUMBERS)
    if kind == FieldDescriptor.CPPTYPE_INT64:
        return draw(LARGE)
    return draw(WHOLE)


def mutate(draw: st.DrawFn, message: Message) -> None:
    """Change one thing somewhere in a message."""
    while message.DESCRIPTOR.fields:
        field: FieldDescriptor = draw(st.sampled_from([*message.DESCRIPTOR.fields]))
        values = getattr(message, field.name)
        if draw(st.integers(0, 9)) == 0:
            message.ClearField(field.name)
            return
        if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            if not field.is_repeated:
                values.SetInParent()
                message = values
            elif not values or draw(st.integers(0, 4)) == 0:
                values.add()
                return
            else:
                message = draw(st.sampled_from(list(values)))
            continue
        if not field.is_repeated:
            setattr(message, field.name, value_of(draw, field, message))
        elif values and draw(st.booleans()):
            values[draw(st.integers(0, len(values) - 1))] = value_of(draw, field, message)
        else:
            values.append(value_of(draw, field, message))
        return


@st.composite
def mutated_sites(draw: st.DrawFn) -> api.OptimizeScheduleRequest:
    request = site_request(sessions=draw(st.integers(0, 3)), steps=draw(st.sampled_from([1, 2, 8])))
    for _ in range(draw(st.integers(1, 4))):
        mutate(draw, request)
    return request


@given(mutated_sites())
def test_mutated_site_is_planned_or_refused(here: Running, request: api.OptimizeScheduleRequest) -> None:
    assert code_of(here.stub.OptimizeSchedule, request) in {
        grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ALREADY_EXISTS,
    }  # fmt: skip


@given(st.lists(mutated_sites(), min_size=1, max_size=4))
def test_mutated_sites_of_a_stream_fail_alone(here: Running, requests: list[api.OptimizeScheduleRequest]) -> None:
    messages = one_by_one(*requests, site_request(site_id="good"))
    answers = list(answers_of(here.stub.OptimizeSchedules(messages, timeout=30.0)))
    assert len(answers) == len(requests) + 1
    assert not {a.fault.code for a in answers} & {code_pb2.INTERNAL, code_pb2.UNKNOWN}
    assert any(a.site_id == "good" and a.HasField("summary") for a in answers)


@given(st.sampled_from(UNARY), st.binary(max_size=60))
def test_random_bytes_are_answered(here: Running, method: str, data: bytes) -> None:
    assert code_of(here.channel.unary_unary(f"/{SERVICE.full_name}/{method}"), data) not in BAD_CODES


@given(st.data(), st.integers(0, 2_000), st.binary(min_size=1, max_size=4))
def test_damaged_request_is_answered(here: Running, data: st.DataObject, at: int, patch: bytes) -> None:
    good = site_request().SerializeToString()
    at %= len(good)
    damaged = good[:at] + patch + good[at + data.draw(st.integers(0, 4)) :]
    code = code_of(here.channel.unary_unary(f"/{SERVICE.full_name}/OptimizeSchedule"), damaged)
    assert code not in BAD_CODES
    try:
        api.OptimizeScheduleRequest.FromString(damaged)
    except DecodeError:
        assert code is grpc.StatusCode.INVALID_ARGUMENT


@given(TEXT, TEXT, WHOLE, TEXT)
def test_odd_names_and_tokens_are_answered(here: Running, name: str, token: str, size: int, row: str) -> None:
    for call, request in (
        (here.stub.GetSchedule, api.GetScheduleRequest(schedule_id=name, session_ids=[row])),
        (here.stub.GetLatestSchedule, api.GetLatestScheduleRequest(site_id=name, session_ids=[row])),
        (here.stub.ListSchedules, api.ListSchedulesRequest(site_id=name, page_size=size, page_token=token)),
        (here.stub.DeleteSchedule, api.DeleteScheduleRequest(request_id=row, schedule_id=name, etag=token)),
    ):
        assert code_of(call, request) not in BAD_CODES
