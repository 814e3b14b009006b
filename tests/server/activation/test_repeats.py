"""Requests that come again, and many that share one commit."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import grpc

from evflex.activation.v1 import activation_service_pb2 as api
from tests.server.activation.conftest import furnish
from tests.server.activation.support import (
    SETTLED,
    RunningLedger,
    audit,
    called,
    complete,
    each_at_once,
    get,
    hold,
    hold_request,
    kinds,
    named,
    new_id,
    refusal_of,
    release,
    running_ledger,
    sale,
    settle,
)
from tests.server.support import info_of


def test_request_is_remembered_with_its_answer(tmp_path: Path, ledger_database_url: str) -> None:
    with running_ledger(tmp_path, ledger_database_url) as here:
        furnish(here)
        request = hold_request(sale())
        first = here.agg.HoldCommitments(request)
        refusal = hold_request(sale("ev", 1))
        refused = here.rival.HoldCommitments(refusal)
        lines = len(audit(here.agg))
        release(here.agg, first.commitments[0].commitment_id)
        assert here.agg.HoldCommitments(request) == first
        assert here.rival.HoldCommitments(refusal) == refused, "though it would be granted now"
        assert len(audit(here.agg)) == lines + 1
        other = hold_request(sale("ev-2"), request_id=request.request_id)
        assert refusal_of(here.agg.HoldCommitments, other) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
        confirmation = named(api.ConfirmCommitmentsRequest, [new_id()], request_id=request.request_id)
        assert refusal_of(here.agg.ConfirmCommitments, confirmation) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
        assert here.rival.HoldCommitments(request).granted, "ids are each tenant's own"


def test_one_request_of_many_threads_is_done_once(tmp_path: Path, ledger_database_url: str) -> None:
    with running_ledger(tmp_path, ledger_database_url) as here:
        furnish(here)
        good, bad = hold_request(sale("ev")), hold_request(sale("ev-2"), sale("ev-2"))
        answers = each_at_once([lambda: here.agg.HoldCommitments(good), lambda: here.agg.HoldCommitments(bad)] * 8)
        assert all(answer == answers[0] and answer.granted for answer in answers[::2])
        assert all(answer == answers[1] and answer.conflicts for answer in answers[1::2])
        assert len(list(here.agg.ListCommitments(api.ListCommitmentsRequest()).commitments)) == 1


def test_other_payloads_of_many_threads_are_refused(here: RunningLedger) -> None:
    request_id = new_id()
    requests = [hold_request(sale("ev", 1 + i), request_id=request_id) for i in range(12)]
    answers = each_at_once([partial(here.agg.HoldCommitments, request) for request in requests])
    refused = [answer for answer in answers if isinstance(answer, grpc.RpcError)]
    assert len(refused) == 11
    assert {error.code() for error in refused} == {grpc.StatusCode.ALREADY_EXISTS}


def test_requests_of_one_commit_are_judged_one_after_the_other(here: RunningLedger) -> None:
    together = _held_up(here)
    answers = together([partial(hold, here.agg, sale("ev", 1_000 + i)) for i in range(12)])
    granted = [one for answer in answers for one in answer.commitments]
    assert 0 < sum(one.power_w for one in granted) <= 10_000
    assert len({one.sequence for one in granted}) == len(granted)
    assert all(kinds(answer) == ["CAPACITY_EXCEEDED"] for answer in answers if not answer.granted)


def test_commitment_is_settled_once_in_one_commit(here: RunningLedger) -> None:
    name = called(here.agg, sale())[0].commitment_id
    complete(here.agg, name)
    answers = _held_up(here)([partial(settle, here.agg, name, settlement_id=f"invoice-{n}") for n in range(6)])
    done = [answer for answer in answers if isinstance(answer, list)]
    assert len(done) == 1
    assert get(here.agg, name).settlement_id == done[0][0].settlement_id
    refused = [answer for answer in answers if isinstance(answer, grpc.RpcError)]
    assert {info_of(error)["state"] for error in refused} == {"SETTLED"}


def test_commitment_is_completed_and_settled_in_one_commit(here: RunningLedger) -> None:
    name = called(here.agg, sale())[0].commitment_id
    _held_up(here)([lambda: complete(here.agg, name), lambda: release(here.agg, name)])
    assert settle(here.agg, name)[0].state == SETTLED


def _held_up(here: RunningLedger) -> Callable[[list[Callable[[], Any]]], list[Any]]:
    """Lets calls come while the writer stands still, so that one commit takes most of them."""

    def together(calls: list[Callable[[], Any]]) -> list[Any]:
        gate, started = threading.Event(), threading.Semaphore(0)

        def begun(call: Callable[[], Any]) -> Any:
            started.release()
            return call()

        with ThreadPoolExecutor(2) as threads:
            looking = threads.submit(here.keeper.look, lambda _: gate.wait())
            answers = threads.submit(each_at_once, [partial(begun, call) for call in calls])
            for _ in calls:
                started.acquire()
            gate.set()
            looking.result()
            return answers.result()

    return together
