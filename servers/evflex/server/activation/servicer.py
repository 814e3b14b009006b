"""ActivationService: what there is, what is sold, and the ledger as a whole, each from its own part."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import grpc

from evflex.activation.v1 import activation_service_pb2 as api
from evflex.activation.v1 import activation_service_pb2_grpc
from evflex.engine.validation import Rules
from evflex.server.activation.audit import export_audit
from evflex.server.activation.checking import Checking
from evflex.server.activation.commitment_rpcs import CommitmentRpcs
from evflex.server.activation.keeper import LedgerKeeper
from evflex.server.activation.policies import Policies
from evflex.server.activation.register_rpcs import RegisterRpcs
from evflex.server.activation.registering import Register
from evflex.server.activation.sessions import Sessions
from evflex.server.activation.watch import watch_conflicts
from evflex.server.calls import current_call
from evflex.server.engine_port import ActivationEngine
from evflex.server.errors import busy
from evflex.server.fields import refuse
from evflex.server.settings import Settings
from evflex.server.solve_pool import SolvePool
from evflex.server.stream_places import StreamPlaces


class ActivationServicer(RegisterRpcs, CommitmentRpcs, activation_service_pb2_grpc.ActivationServiceServicer):
    """All RPCs; generated code stands last, because its methods refuse."""

    def __init__(self, settings: Settings, engine: ActivationEngine, pool: SolvePool, keeper: LedgerKeeper) -> None:
        """Serve with these parts."""
        RegisterRpcs.__init__(self, Register(keeper), Sessions(keeper), Policies(keeper))
        CommitmentRpcs.__init__(self, keeper)
        self._settings = settings
        self._checking = Checking(settings, engine, pool, keeper)
        self._streams = StreamPlaces("max_activation_streams", settings)
        self._watches = threading.Semaphore(settings.max_conflict_watches)

    def CheckCommitments(  # noqa: N802
        self, request_iterator: Iterator[api.CheckCommitmentsRequest], context: grpc.ServicerContext
    ) -> Iterator[api.CheckCommitmentsResponse]:
        """Check a batch."""
        with self._streams.taken(context):
            yield from self._checking.check(request_iterator, current_call())

    def WatchConflicts(  # noqa: N802
        self, request: api.WatchConflictsRequest, context: grpc.ServicerContext
    ) -> Iterator[api.WatchConflictsResponse]:
        """Tell of conflicts that appear at plug-in."""
        settings = self._settings
        if not self._watches.acquire(blocking=False):
            limit = f"max_conflict_watches is {settings.max_conflict_watches}"
            raise busy("TOO_MANY_STREAMS", limit, settings.retry_delay_s)
        try:
            yield from watch_conflicts(settings, self._keeper, request.resume_token, current_call())
        finally:
            self._watches.release()

    def ExportAudit(  # noqa: N802
        self, request: api.ExportAuditRequest, context: grpc.ServicerContext
    ) -> Iterator[api.ExportAuditResponse]:
        """Stream the ledger."""
        rules = Rules()
        for name in ("from_sequence", "most_records"):
            value = getattr(request, name)
            rules.check(value >= 0, name, f"must be >= 0, is {value}")
        refuse(rules)
        with self._streams.taken(context):
            yield from export_audit(self._keeper.store, request, current_call().caller)
