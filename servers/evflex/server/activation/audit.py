"""ExportAudit: the log with its chain; of what is other tenants' the digests alone."""

from __future__ import annotations

from collections.abc import Iterator

from evflex.activation.v1 import activation_service_pb2 as api
from evflex.activation.v1 import audit_pb2
from evflex.server.caller import Caller
from evflex.server.messages import set_timestamp
from evflex.server.store.ledger import LedgerStore
from evflex.server.store.ledger_rows import LogRow

# Lines of large pools take a hundred kilobytes and more.
_MESSAGE_BYTES = 512 * 1024


def export_audit(
    store: LedgerStore, request: api.ExportAuditRequest, caller: Caller
) -> Iterator[api.ExportAuditResponse]:
    """Messages with the lines from a place on."""
    message, size_bytes = api.ExportAuditResponse(), 0
    last = store.head()
    for row in store.audit(max(request.from_sequence, 1), request.most_records or None):
        if row.sequence > last:
            break  # else who exports while others sell would never be done
        record = _record(row, caller)
        size_bytes += record.ByteSize()
        message.records.append(record)
        if size_bytes >= _MESSAGE_BYTES:
            yield message
            message, size_bytes = api.ExportAuditResponse(), 0
    if message.records:
        yield message


def _owner(row: LogRow) -> str:
    """Whose the thing is that a line is about, whoever changed it; empty where it is not one tenant's."""
    event = audit_pb2.LedgerEvent.FromString(row.event)
    change = event.WhichOneof("change")
    if change == "conflict":
        parties = {event.conflict.kept_aggregator_id or event.conflict.suspended_aggregator_id}
        parties.add(event.conflict.suspended_aggregator_id)
        return parties.pop() if len(parties) == 1 else ""
    return str(getattr(event, change).tenant_id) if change else row.tenant_id


def _record(row: LogRow, caller: Caller) -> audit_pb2.AuditRecord:
    is_own = _owner(row) == caller.tenant_id and caller.may_use_area(row.area_id)
    record = audit_pb2.AuditRecord(
        sequence=row.sequence,
        tenant_id=row.tenant_id,
        previous_hash=row.previous_hash,
        event_sha256=row.event_sha256,
        hash=row.hash,
        event=row.event if is_own else b"",
    )
    set_timestamp(record.event_time, row.event_time_unix_us)
    return record
