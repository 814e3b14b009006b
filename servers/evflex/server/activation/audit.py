"""ExportAudit: the log with its chain; of other tenants' lines the digests alone."""

from __future__ import annotations

from collections.abc import Iterator

from evflex.activation.v1 import activation_service_pb2 as api
from evflex.activation.v1 import audit_pb2
from evflex.server.caller import Caller
from evflex.server.messages import set_timestamp
from evflex.server.store.ledger import LedgerStore
from evflex.server.store.ledger_rows import LogRow

_CONFLICT = audit_pb2.LedgerEvent.CONFLICT_FIELD_NUMBER
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


def _record(row: LogRow, caller: Caller) -> audit_pb2.AuditRecord:
    # a conflict names both its parties, who learn of it from WatchConflicts, without the name of the other
    is_own = row.tenant_id == caller.tenant_id and row.kind != _CONFLICT and caller.may_use_area(row.area_id)
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
