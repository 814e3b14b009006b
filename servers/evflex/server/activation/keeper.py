"""The one writer of a server's ledger: requests that wait are judged in turn, and become durable in one commit."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TypeVar, cast

from google.protobuf.message import Message
from google.rpc import code_pb2
from structlog.typing import FilteringBoundLogger

from evflex.activation.v1 import audit_pb2, commitment_pb2
from evflex.server.activation.locks import Locks
from evflex.server.activation.turn import Turn
from evflex.server.activation.world import LedgerWorld
from evflex.server.caller import Caller
from evflex.server.errors import ServiceError, busy
from evflex.server.log import places
from evflex.server.messages import copy_of
from evflex.server.settings import Settings
from evflex.server.store.ledger import LedgerStore
from evflex.server.store.ledger_turn import LedgerTurn
from evflex.server.store.requests import RequestKey, request_id_reused, request_key

# A commit costs milliseconds, whatever it holds; more than so many would make the first of them wait.
_MOST_TOGETHER = 256
_HOUR_US = 3_600_000_000
_EXPIRED = commitment_pb2.CommitmentState.COMMITMENT_STATE_EXPIRED

Answer = TypeVar("Answer", bound=Message)
Seen = TypeVar("Seen")


@dataclass(frozen=True, slots=True)
class Done:
    """What a request came to.

    Attributes:
        answer: Message of the answer.
        resource_id: Identifier of what it is about.
        area_id: Grid area of that.
    """

    answer: Message
    resource_id: str = ""
    area_id: str = ""


# Changes the ledger, and gives the answer; where it raises, its changes are taken back.
Work = Callable[[Turn], Done]
# Tells what a request locks, in the ledger as it is.
LocksOf = Callable[[LedgerWorld], Locks]


@dataclass(slots=True, eq=False)
class _Request:
    """A request that waits; without a key, it only checks.

    What it came to is told once that is durable: it may rest on what others of the transaction did.
    """

    key: RequestKey | None
    answer_type: type[Message]
    work: Work
    locks: LocksOf | None
    done: Done | None = None
    refusal: ServiceError | None = None
    same_as: _Request | None = None
    answer: Future[Message] = field(default_factory=Future)

    def forget(self) -> None:
        """Have come to nothing yet."""
        self.done = self.refusal = self.same_as = None

    def tell(self) -> None:
        """Tell what it came to, where that was not done."""
        if self.answer.done():
            return
        if self.same_as is not None:
            _hand_on(self.same_as.answer, self.answer)
        elif self.refusal is not None:
            self.answer.set_exception(self.refusal)
        elif self.done is not None:
            self.answer.set_result(self.done.answer)


class _BrokenError(Exception):
    """A request broke unexpectedly: how far it came in memory is not known."""


class LedgerKeeper:
    """Keeps the ledger, in memory and in the store alike."""

    def __init__(
        self, settings: Settings, store: LedgerStore, now_unix_us: Callable[[], int], log: FilteringBoundLogger
    ) -> None:
        """Load the ledger, and begin to serve requests.

        Raises:
            ServiceError: The store cannot be read.
        """
        self.settings = settings
        self.store = store
        self.now_unix_us = now_unix_us
        self._log = log
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._moved = threading.Condition()
        self._looking = threading.RLock()
        self._entry = threading.Lock()
        self._draining = self._closed = False
        self._world = LedgerWorld(store.load(now_unix_us()))
        self._is_stale = False
        self._is_failing = False
        self._forget_unix_us = now_unix_us() + _HOUR_US
        self._thread = threading.Thread(target=self._serve, name="ledger", daemon=True)
        self._thread.start()

    @property
    def position(self) -> int:
        """Number of the last line that this server has seen."""
        return self._world.position

    def change(
        self,
        method: str,
        request: Message,
        caller: Caller,
        answer_type: type[Answer],
        work: Work,
        locks: LocksOf | None = None,
    ) -> Answer:
        """Let a request change the ledger once, durably; a repeated one gets the same answer.

        Args:
            method: Name of the RPC.
            request: With request_id and validate_only; one that only checks is taken back, and not remembered.
            caller: Whose request it is.
            answer_type: Type of the answer.
            work: What it does.
            locks: What it locks.

        Raises:
            ServiceError: The id was used for another payload, the store cannot be used, or what `work` raises.
        """
        only_checks: bool = request.validate_only  # type: ignore[attr-defined]
        request_id: str = request.request_id  # type: ignore[attr-defined]
        key = None if only_checks else request_key(caller.tenant_id, method, request_id, request)
        waiting = _Request(key, answer_type, work, locks)
        with self._entry:  # none comes after the end
            if self._closed:
                raise self._shutting_down()
            self._requests.put(waiting)
        return cast("Answer", waiting.answer.result())

    def look(self, see: Callable[[LedgerWorld], Seen]) -> Seen:
        """See the ledger while nothing changes."""
        with self._looking:
            return see(self._fresh())

    def wait_for_conflict(self, position: int, timeout_s: float, ended: threading.Event) -> bool:
        """Wait for a conflict after a line; False after `timeout_s`, when `ended` is set, or when the server drains."""

        def over() -> bool:
            return self._draining or ended.is_set()

        with self._moved:
            self._moved.wait_for(lambda: over() or self._world.last_conflict > position, timeout_s)
            return not over() and self._world.last_conflict > position

    def wake(self) -> None:
        """Let those who wait look again whether they still should."""
        with self._moved:
            self._moved.notify_all()

    @property
    def draining(self) -> bool:
        """Whether those who wait for conflicts are to leave."""
        return self._draining

    def drain(self) -> None:
        """Wake those who wait for conflicts, so that they leave; what is asked is still done."""
        self._draining = True
        self.wake()

    def close(self) -> None:
        """Do what waits, take no more requests, and stop."""
        self.drain()
        with self._entry:
            self._closed = True
        self._requests.put(None)
        self._thread.join()

    def _serve(self) -> None:
        while (together := self._next()) is not None:
            with self._looking:
                self._judge(together)
            for request in together:
                request.tell()
            with self._moved:
                self._moved.notify_all()

    def _next(self) -> list[_Request] | None:
        """Requests that wait; none when it is time to look at clock and log, None at the end."""
        first = self._take(self._patience_s())
        if first is None:
            return None if self._closed and self._requests.empty() else []
        together = [first]
        while len(together) < _MOST_TOGETHER and (another := self._take(0.0)) is not None:
            together.append(another)
        return together

    def _take(self, timeout_s: float) -> _Request | None:
        try:
            return self._requests.get(timeout=timeout_s) if timeout_s else self._requests.get_nowait()
        except queue.Empty:
            return None

    def _patience_s(self) -> float:
        """Time until a hold expires, or the log is looked at for lines of other servers."""
        expiry_ms = self._world.next_expiry_ms()
        poll_s = self.settings.watch_poll_s
        if expiry_ms is None or self._is_failing:  # what is due stays due until it can be stored
            return poll_s
        return min(poll_s, max(0.001, expiry_ms / 1e3 - self.now_unix_us() / 1e6))

    def _judge(self, together: list[_Request]) -> None:
        """Judge requests, once more without those that break."""
        while True:
            try:
                self._transaction(together)
            except _BrokenError:
                self._is_stale = True
                together = [request for request in together if not request.answer.done()]
                for request in together:
                    request.forget()
            except Exception as error:
                self._is_failing = True
                self._failed(together, error)
                return
            else:
                self._is_failing = False
                return

    def _transaction(self, together: list[_Request]) -> None:
        """Judge requests in turn, and write what they change in one transaction; all of it, or nothing is left."""
        world = self._fresh()
        if not together and not self._has_work(world):
            self._forget_sessions(world)
            return
        turn: Turn | None = None
        try:
            with self.store.turn() as stored:
                self._lock(stored, world, together)
                head = stored.lock_head()
                if head.sequence != world.position:
                    catch_up(world, stored)
                turn = Turn(world, self.now_unix_us())
                _let_holds_expire(turn)
                self._answer_all(together, turn, stored)
                stored.append(turn.events, turn.now_unix_us)
                answered = [
                    (request.key, request.done.resource_id, request.done.area_id, request.done.answer)
                    for request in together
                    if request.key is not None and request.done is not None
                ]
                stored.log_requests(
                    [(key, name, area, answer.SerializeToString()) for key, name, area, answer in answered],
                    turn.now_unix_us,
                )
        except _BrokenError:
            raise  # what is in memory is given up
        except Exception:
            if turn is not None:
                turn.back_to((0, 0))
            raise
        world.position += len(turn.events)
        if any(event.event.HasField("conflict") for event in turn.events):
            world.last_conflict = world.position

    def _answer_all(self, together: list[_Request], turn: Turn, stored: LedgerTurn) -> None:
        """Find out what each request comes to, and what those that were answered before came to."""
        earlier = stored.find_requests([request.key for request in together if request.key is not None])
        here: dict[tuple[str, str], _Request] = {}
        for request in together:
            key = request.key
            found = None if key is None else earlier.get(key)
            if isinstance(found, ServiceError):
                request.answer.set_exception(found)
            elif found is not None:
                request.answer.set_result(request.answer_type.FromString(found))
            elif key is not None and (key.tenant_id, key.request_id) in here:
                self._repeat(request, here[key.tenant_id, key.request_id])
            else:
                self._answer(request, turn)
                if key is not None and request.done is not None:
                    here[key.tenant_id, key.request_id] = request

    def _repeat(self, request: _Request, first: _Request) -> None:
        """Answer a request as the same one that is answered in this transaction."""
        if request.key != first.key:
            request.refusal = request_id_reused()
        else:
            request.same_as = first

    def _answer(self, request: _Request, turn: Turn) -> None:
        mark = turn.mark()
        try:
            request.done = request.work(turn)
        except ServiceError as error:
            turn.back_to(mark)
            request.refusal = error
            return
        except Exception as error:
            self._log.error("unexpected error", exception=type(error).__name__, places=places(error))
            request.answer.set_exception(_unexpected())
            raise _BrokenError from error
        if request.key is None:
            turn.back_to(mark)

    def _lock(self, stored: LedgerTurn, world: LedgerWorld, together: list[_Request]) -> None:
        """Lock what requests change the sums of, where servers share the database."""
        if not stored.locks_rows:
            return
        resource_ids: set[str] = set()
        caps: set[tuple[str, str]] = set()
        for request in together:
            wanted = Locks() if request.locks is None else request.locks(world)
            resource_ids.update(wanted.resource_ids)
            caps.update(wanted.caps)
        stored.lock(resource_ids, caps)

    def _has_work(self, world: LedgerWorld) -> bool:
        expiry_ms = world.next_expiry_ms()
        if expiry_ms is not None and expiry_ms * 1_000 <= self.now_unix_us():
            return True
        return self.store.head() != world.position

    def _forget_sessions(self, world: LedgerWorld) -> None:
        """Forget, once an hour and when there is nothing else to do, sessions that are long over."""
        now_unix_us = self.now_unix_us()
        if now_unix_us >= self._forget_unix_us:
            self._forget_unix_us = now_unix_us + _HOUR_US
            world.forget_sessions(now_unix_us // 1_000)

    def _fresh(self) -> LedgerWorld:
        """The ledger in memory, loaded again where it may differ from the store."""
        if self._is_stale:
            conflicts = self._world.last_conflict
            self._world = LedgerWorld(self.store.load(self.now_unix_us()))
            self._world.last_conflict = max(conflicts, self._world.last_conflict)
            self._is_stale = False
        return self._world

    def _failed(self, together: list[_Request], error: Exception) -> None:
        """Tell those who have no answer yet.

        A commit that failed may have come through all the same; the next transaction finds its lines in the log then.
        """
        if not isinstance(error, ServiceError):
            self._is_stale = True
            self._log.error("the ledger failed", exception=type(error).__name__, places=places(error))
            error = _unexpected()
        for request in together:
            request.forget()
            if not request.answer.done():
                request.answer.set_exception(error)

    def _shutting_down(self) -> ServiceError:
        return busy("SHUTTING_DOWN", "the server is shutting down", self.settings.retry_delay_s)


def catch_up(world: LedgerWorld, stored: LedgerTurn) -> None:
    """Take in what other servers have added to the log."""
    for row in stored.events_after(world.position):
        event = audit_pb2.LedgerEvent.FromString(row.event)
        world.apply(event)
        world.position = row.sequence
        if event.HasField("conflict"):
            world.last_conflict = row.sequence


def _let_holds_expire(turn: Turn) -> None:
    over = list(turn.world.expired(turn.now_ms))
    turn.on_undo(lambda: turn.world.expect_expiry(over))
    for held in over:
        message = copy_of(held)
        message.state = _EXPIRED
        turn.put_commitment(message)


def _hand_on(answer: Future[Message], to: Future[Message]) -> None:
    error = answer.exception()
    if error is not None:
        to.set_exception(error)
    else:
        to.set_result(answer.result())


def _unexpected() -> ServiceError:
    return ServiceError(code_pb2.INTERNAL, "INTERNAL", "unexpected error")
