"""The ledger of both clients: read over lost connections, and any later change shows."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import grpc
import pandas as pd
import pytest

from evflex.activation.v1 import activation_service_pb2 as pb
from evflex.activation.v1 import audit_pb2
from evflex.client import AuditError, AuditRecord, Commitment, EvflexError, Resource, verify_audit
from tests.client.activation.messages import (
    UNAVAILABLE,
    commitment_message,
    policy_message,
    resolved_message,
    resource_message,
    session_message,
)
from tests.client.congestion.messages import streaming
from tests.client.fake_server import FakeServer

EVENTS = [
    audit_pb2.LedgerEvent(resource=resource_message()),
    audit_pb2.LedgerEvent(session=session_message()),
    audit_pb2.LedgerEvent(commitment=commitment_message()),
    audit_pb2.LedgerEvent(policy=policy_message()),
    audit_pb2.LedgerEvent(conflict=resolved_message()),
]
HIDDEN = 3
"""Line of another tenant."""


def ledger() -> list[audit_pb2.AuditRecord]:
    """Lines as the contract says, written with other means than the client's."""
    previous = b"\0" * 32
    lines = []
    for number, event in enumerate(EVENTS, start=1):
        content = event.SerializeToString()
        digest = hashlib.sha256(content).digest()
        tenant = "søren" if number == HIDDEN else "agg"
        time_us = 1_772_643_600_000_000 + number
        encoded = tenant.encode()
        chain = hashlib.sha256()
        for part in (
            previous,
            struct.pack(">q", number),
            struct.pack(">q", time_us),
            struct.pack(">i", len(encoded)),
            encoded,
            digest,
        ):
            chain.update(part)
        line = audit_pb2.AuditRecord(
            sequence=number, tenant_id=tenant, previous_hash=previous, event_sha256=digest, hash=chain.digest(),
            event=b"" if number == HIDDEN else content,
        )  # fmt: skip
        line.event_time.FromMicroseconds(time_us)
        lines.append(line)
        previous = chain.digest()
    return lines


LINES = ledger()
RECORDS = list(map(AuditRecord.from_message, LINES))


def told(first: int, last: int) -> pb.ExportAuditResponse:
    return pb.ExportAuditResponse(records=LINES[first - 1 : last])


def test_the_ledger_is_read_and_holds(client: Any, server: FakeServer) -> None:
    server.on("ExportAudit", streaming([told(1, 2), told(3, 5)]))
    records = list(client.export_audit())
    verify_audit(records)
    assert [record.sequence for record in records] == [1, 2, 3, 4, 5]
    kinds = [type(record.change).__name__ for record in records]
    assert kinds == ["Resource", "Session", "NoneType", "ActivationPolicy", "ResolvedConflict"]
    assert records[0].change == Resource.from_message(resource_message())
    assert records[0].event_time == pd.Timestamp("2026-03-04T17:00:00.000001Z")
    assert (records[2].tenant_id, records[2].event) == ("søren", b"")
    assert server.asked("ExportAudit")[0] == pb.ExportAuditRequest()


def test_the_event_of_a_commitment_is_one() -> None:
    own = replace(RECORDS[2], event=EVENTS[2].SerializeToString())
    assert own.change == Commitment.from_message(commitment_message())


def test_an_export_goes_on_after_the_last_line(client: Any, server: FakeServer) -> None:
    lost = streaming([told(2, 3)], grpc.StatusCode.UNAVAILABLE)
    server.on("ExportAudit", UNAVAILABLE, lost, streaming([told(4, 5)]))
    assert [record.sequence for record in client.export_audit(2, 4)] == [2, 3, 4, 5]
    asked = [(request.from_sequence, request.most_records) for request in server.asked("ExportAudit")]
    assert asked == [(2, 4), (2, 4), (4, 2)]


def test_an_export_that_is_whole_is_not_asked_again(client: Any, server: FakeServer) -> None:
    server.on("ExportAudit", streaming([told(1, 2)], grpc.StatusCode.UNAVAILABLE))
    assert len(list(client.export_audit(most_records=2))) == 2
    assert len(server.calls) == 1


def test_part_of_a_ledger_holds() -> None:
    verify_audit([])
    verify_audit(iter(RECORDS[2:]))


Change = Callable[[list[AuditRecord]], list[AuditRecord]]


def changed(index: int, **values: Any) -> Change:
    return lambda records: [*records[:index], replace(records[index], **values), *records[index + 1 :]]


@pytest.mark.parametrize(
    ("change", "sequence", "problem"),
    [
        (lambda records: [*records[:2], *records[3:]], 4, "follows line 2"),
        (lambda records: [records[0], records[0], *records[1:]], 1, "follows line 1"),
        (lambda records: records[::-1], 4, "follows line 5"),
        (changed(0, previous_hash=b"x" * 32), 1, "is the first of the ledger but follows another"),
        (changed(1, event=b""), None, ""),
        (changed(1, event=EVENTS[0].SerializeToString()), 2, "its event was changed"),
        (changed(1, event_sha256=b"x" * 32, event=b""), 2, "its digest is not that of its fields"),
        (changed(1, tenant_id="other"), 2, "its digest is not that of its fields"),
        (changed(1, event_time=pd.Timestamp("2026-03-04T17:00:01Z")), 2, "its digest is not that of its fields"),
        (changed(1, previous_hash=b"x" * 32), 2, "does not follow line 1"),
        (changed(1, hash=b"x" * 32), 2, "its digest is not that of its fields"),
    ],
    ids=[
        "gone", "twice", "reversed", "before", "hidden", "event", "digest", "tenant", "time", "previous", "hash",
    ],
)  # fmt: skip
def test_a_change_shows(change: Change, sequence: int | None, problem: str) -> None:
    if sequence is None:
        verify_audit(change(RECORDS))
        return
    with pytest.raises(AuditError, match=f"line {sequence}: {problem}") as caught:
        verify_audit(change(RECORDS))
    assert caught.value.sequence == sequence
    assert isinstance(caught.value, EvflexError)


def test_a_chain_that_was_made_anew_shows_where_it_joins() -> None:
    forged = replace(RECORDS[1], tenant_id="other")
    forged = replace(forged, hash=forged.computed_hash())
    with pytest.raises(AuditError, match="line 3: does not follow line 2"):
        verify_audit([RECORDS[0], forged, *RECORDS[2:]])
