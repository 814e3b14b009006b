"""Imports networks: files as they come, the reading of them in the pool, and what is stored of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from evflex.congestion.v1 import congestion_service_pb2, network_pb2
from evflex.engine.grid.formats import ImportedNetwork, NetworkFormat
from evflex.engine.validation import InvalidProblemError, Rules, Violation
from evflex.server.calls import Call
from evflex.server.congestion.encode_network import encode_network, new_network, shown_network
from evflex.server.congestion.prepared_networks import PreparedNetwork, PreparedNetworks
from evflex.server.congestion.stored_network import network_blocks
from evflex.server.engine_port import CongestionEngine
from evflex.server.errors import invalid, invalid_problem, limit_exceeded
from evflex.server.fields import check_id, check_request_id, refuse
from evflex.server.pool_run import PoolRun
from evflex.server.settings import Settings
from evflex.server.solve_pool import SolvePool
from evflex.server.store.networks import NetworkRow, NetworkStore, network_exists
from evflex.server.store.requests import RequestKey
from evflex.server.upload import Upload, without_silence
from evflex.server.wire import check_unary_size

_Header = congestion_service_pb2.ImportNetworkHeader
_Chunk = congestion_service_pb2.ImportNetworkChunk
_Response = congestion_service_pb2.ImportNetworkResponse
_Upload = Upload[_Header, _Chunk]


@dataclass(frozen=True, slots=True)
class _Read:
    """A network that was read, and is ready for power flows."""

    imported: ImportedNetwork
    prepared: PreparedNetwork
    message: network_pb2.Network


@dataclass(frozen=True, slots=True)
class NetworkImporter:
    """Takes networks in.

    Attributes:
        settings: Limits.
        engine: Reads files.
        pool: Where they are read.
        store: Where networks are kept.
        networks: Those in memory.
        now_unix_us: The clock, microseconds since 1970-01-01 UTC.
    """

    settings: Settings
    engine: CongestionEngine
    pool: SolvePool
    store: NetworkStore
    networks: PreparedNetworks
    now_unix_us: Callable[[], int]

    def take(self, messages: Iterator[object], call: Call) -> _Response:
        """Take a network in, and store it.

        Raises:
            ServiceError: It is refused; nothing is stored then.
        """
        upload: _Upload = Upload(without_silence(messages, self.settings.max_upload_silence_s))
        header = upload.header()
        _check_header(upload.rules, header)
        files = _Files(self.settings)
        for path, chunk in upload.chunks():
            files.add(upload.rules, path, chunk)
        upload.rules.check(bool(files.parts), "chunks", "must bring at least one file")
        refuse(upload.rules)
        call.caller.require_area(header.area_id)
        key = RequestKey(call.caller.tenant_id, header.request_id.lower(), "ImportNetwork", upload.digest)
        if not header.validate_only and (earlier := self.store.find_answer(key)) is not None:
            return _Response.FromString(earlier)
        self._check_new(call, header.network_id)
        read = self._read(header, files.joined(), call)
        if header.validate_only:
            return _Response(network=read.message)
        return self._stored(key, header, read, call)

    def _check_new(self, call: Call, network_id: str) -> None:
        """Refuse an identifier that is taken, before the work is done."""
        if network_id and self.store.find(call.caller.tenant_id, network_id) is not None:
            raise network_exists(network_id)

    def _read(self, header: _Header, files: Mapping[str, bytes], call: Call) -> _Read:
        three_phase = header.three_phase if header.HasField("three_phase") else None

        def read(_: threading.Event) -> _Read:
            try:
                imported = self.engine.read_network(NetworkFormat(header.format), files, three_phase)
                if imported.refused and not header.allow_refusals:
                    raise invalid([Violation(r.element, r.reason) for r in imported.refused])
                prepared = PreparedNetwork.of(imported.network, self.engine)
            except InvalidProblemError as error:
                raise invalid_problem(error) from error
            return _Read(imported, prepared, encode_network(header, imported, len(prepared.islanded_bus_ids)))

        return PoolRun(self.pool.unary, call, read, self.settings).result()

    def _stored(self, key: RequestKey, header: _Header, read: _Read, call: Call) -> _Response:
        # what cannot be answered is not stored either
        check_unary_size(call.method, read.message.ByteSize(), self.settings.max_unary_answer_bytes)

        def answered(row: NetworkRow) -> bytes:
            return _Response(network=shown_network(row)).SerializeToString()

        new = new_network(key, header.network_id, read.message, self.now_unix_us())
        row, answer = self.store.save(new, network_blocks(read.imported.network), answered)
        if row is not None:
            self.networks.adopt(row.network_uid, read.prepared)
        return _Response.FromString(answer)


@dataclass(slots=True)
class _Files:
    """Files that are coming in, within the limits."""

    settings: Settings
    parts: dict[str, list[bytes]] = field(default_factory=dict)
    size_bytes: int = 0

    def add(self, rules: Rules, path: str, chunk: _Chunk) -> None:
        name = chunk.file_name
        check_id(rules, f"{path}.file_name", name, required=True)
        self.size_bytes += len(chunk.content)
        if self.size_bytes > self.settings.max_import_bytes:
            raise limit_exceeded("max_import_bytes", self.size_bytes, self.settings.max_import_bytes)
        self.parts.setdefault(name, []).append(chunk.content)
        if len(self.parts) > self.settings.max_import_files:
            raise limit_exceeded("max_import_files", len(self.parts), self.settings.max_import_files)

    def joined(self) -> dict[str, bytes]:
        return {name: b"".join(parts) for name, parts in self.parts.items()}


def _check_header(rules: Rules, header: _Header) -> None:
    check_request_id(rules, header.request_id, required=not header.validate_only, path="header.request_id")
    check_id(rules, "header.network_id", header.network_id)
    check_id(rules, "header.display_name", header.display_name)
    check_id(rules, "header.area_id", header.area_id)
    known = int(header.format) in [int(member) for member in NetworkFormat]
    rules.check(known, "header.format", f"must be a known NetworkFormat, is {header.format}")
