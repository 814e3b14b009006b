"""`evflex call`: any RPC by name, streams as JSON lines."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evflex.cli import rpcs
from tests.cli.conftest import REQUEST, Run
from tests.cli.serving import EVFLEX, server_process

Write = Callable[[Any], str]
FIRST, SECOND = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"


def test_an_rpc_is_called_by_its_short_or_full_name(run: Run) -> None:
    for name in ("ChargingService/ListSchedules", "/evflex.charging.v1.ChargingService/ListSchedules"):
        result = run("call", name)
        assert result.exit_code == 0, result.stderr
        assert isinstance(json.loads(result.stdout), dict)


def test_health_can_be_asked(run: Run) -> None:
    assert json.loads(run("call", "Health/Check").stdout) == {"status": "SERVING"}


def test_all_rpcs_are_listed(run: Run) -> None:
    result = run("call")
    assert result.exit_code == 0
    assert "ChargingService/OptimizeSchedules  (stream OptimizeSchedulesRequest) -> (stream" in result.stdout
    assert len(result.stdout.splitlines()) == len(rpcs.known())


@pytest.mark.parametrize(
    "name", ["ChargingService/OptimiseSchedule", "chargingservice/optimizeschedule", "OptimizeSchedule"]
)
def test_a_typo_is_answered_with_suggestions(run: Run, name: str) -> None:
    result = run("call", name)
    assert result.exit_code == 2
    assert f"there is no RPC {name!r}; did you mean ChargingService/OptimizeSchedule" in result.stderr


def test_a_name_like_no_other_lists_all(run: Run) -> None:
    result = run("call", "xyz")
    assert result.exit_code == 2
    assert "known are: ActivationService/RegisterResources" in result.stderr
    assert "ChargingService/OptimizeSchedule," in result.stderr


def test_a_stream_is_json_lines_both_ways(run: Run) -> None:
    good = {"site_requests": [{**REQUEST, "request_id": FIRST}]}
    bad = {"site_requests": [{**REQUEST, "request_id": SECOND, "nodes": []}]}
    stdin = json.dumps(good) + "\n" + json.dumps(bad, indent=2)
    result = run("call", "ChargingService/OptimizeSchedules", "--request", "-", stdin=stdin)
    assert result.exit_code == 0, result.stderr
    messages = map(json.loads, result.stdout.splitlines())
    answers = {answer["request_id"]: answer for message in messages for answer in message["answers"]}
    assert "summary" in answers[FIRST]
    assert answers[SECOND]["fault"]["violations"]


def test_a_stream_needs_a_request(run: Run) -> None:
    assert run("call", "ChargingService/OptimizeSchedules").exit_code == 2


def test_a_refusal_is_named_with_its_code(run: Run, write: Write) -> None:
    result = run("call", "ChargingService/GetSchedule", "--request", write({"schedule_id": "none"}))
    assert result.exit_code == 1
    assert "GetSchedule failed [" in result.stderr or "breaks" in result.stderr
    assert "none" in result.stderr


@pytest.mark.slow
def test_a_server_killed_in_a_stream_ends_it_with_a_message(tmp_path: Path) -> None:
    with server_process(tmp_path) as (server, address):
        command = [EVFLEX, "call", "ChargingService/WatchSchedules", "--server", address]
        watcher = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert watcher.stdout is not None
        first = json.loads(watcher.stdout.readline())
        assert first["kind"] == "SCHEDULE_EVENT_KIND_SNAPSHOT_COMPLETE"
        server.kill()
        _, stderr = watcher.communicate(timeout=60)
    assert watcher.returncode == 1
    assert stderr.startswith("evflex: ")
    assert address in stderr
    assert "Traceback" not in stderr


@pytest.mark.slow
def test_a_reader_that_leaves_is_no_error(address: str) -> None:
    command = f"'{EVFLEX}' call ChargingService/WatchSchedules --server {address} --timeout 5 | head -n 0"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_an_interrupt_ends_a_stream_quietly(address: str) -> None:
    command = [EVFLEX, "call", "ChargingService/WatchSchedules", "--server", address]
    # a shell lets what it runs in the background ignore interrupts, and children inherit that
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        watcher = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, ignored)
    assert watcher.stdout is not None
    assert watcher.stdout.readline()
    stop = threading.Timer(30.0, watcher.kill)
    stop.start()
    watcher.send_signal(signal.SIGINT)
    _, stderr = watcher.communicate()
    stop.cancel()
    assert watcher.returncode not in (0, -9)
    assert "Traceback" not in stderr
