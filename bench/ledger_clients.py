"""Who holds commitments: a process of its own, so that it shares no interpreter with the server.

`python -m bench.ledger_clients PORT HOW CLIENTS AMOUNT SECONDS FIRST ROWS` holds so many rows a request, each of a
vehicle of its own.
HOW is `rate` (AMOUNT a second, whether or not the earlier ones are answered) or `turns` (each client its next when the
last is answered, AMOUNT at most). Prints, as JSON, when each was to be sent and how long it took from then, both in
seconds, and the commitments that were granted.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from evflex.activation.v1 import activation_service_pb2 as api
from evflex.activation.v1 import commitment_pb2, resource_pb2
from evflex.common.v1 import direction_pb2

_SERVICE = "/evflex.activation.v1.ActivationService"
_CHANNELS = 4
_AHEAD_MS, _LENGTH_MS = 3_600_000, 900_000
_HEADROOM_W, _POWER_W = 11_000, 7_000
_RESOURCES_AT_ONCE = 1_000
# Time for a client to be ready before the first request is due.
_LEAD_S = 0.5


@dataclass(frozen=True, slots=True)
class Held:
    """What came of many holds.

    Attributes:
        due_s: When each was to be sent, seconds after the first.
        latency_s: From then until it was answered.
        granted: Identifiers of the commitments that were granted.
        elapsed_s: From the first until all were answered.
    """

    due_s: list[float]
    latency_s: list[float]
    granted: list[str]
    elapsed_s: float


def vehicle(number: int) -> str:
    """Identifier of a vehicle."""
    return f"vehicle-{number}"


def register_vehicles(channel: grpc.Channel, count: int) -> None:
    """Register vehicles with a headroom that one hold fits into and two do not."""
    call = channel.unary_unary(
        f"{_SERVICE}/RegisterResources", api.RegisterResourcesRequest.SerializeToString,
        api.RegisterResourcesResponse.FromString,
    )  # fmt: skip
    for first in range(0, count, _RESOURCES_AT_ONCE):
        resources = [
            resource_pb2.Resource(
                resource_id=vehicle(k), kind=resource_pb2.ResourceKind.RESOURCE_KIND_EV, up_headroom_w=_HEADROOM_W,
                down_headroom_w=_HEADROOM_W,
            )
            for k in range(first, min(first + _RESOURCES_AT_ONCE, count))
        ]  # fmt: skip
        call(api.RegisterResourcesRequest(request_id=str(uuid.uuid4()), resources=resources), timeout=120.0)


def hold_requests(first: int, count: int, rows: int = 1) -> list[bytes]:
    """Requests that hold so many rows each, of vehicles from the first on, as bytes."""
    start_ms = round(1e3 * time.time()) + _AHEAD_MS
    requests = []
    for begin in range(first, first + count * rows, rows):
        request = api.HoldCommitmentsRequest(request_id=str(uuid.uuid4()))
        for k in range(begin, begin + rows):
            commitment = commitment_pb2.Commitment(
                product_id="balancing", direction=direction_pb2.Direction.DIRECTION_UP, resource_id=vehicle(k),
                power_w=_POWER_W,
            )  # fmt: skip
            commitment.start_time.FromMilliseconds(start_ms)
            commitment.end_time.FromMilliseconds(start_ms + _LENGTH_MS)
            request.commitments.append(commitment)
        requests.append(request.SerializeToString())
    return requests


def hold(port: int, how: str, clients: int, amount: int, seconds: float, first: int = 0, rows: int = 1) -> Held:
    """Hold in a process of its own; see the head of this module."""
    arguments = (port, how, clients, amount, seconds, first, rows)
    command = [sys.executable, "-m", "bench.ledger_clients", *map(str, arguments)]
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True, check=True)
    return Held(**json.loads(done.stdout))


async def _hold(port: int, how: str, clients: int, amount: int, seconds: float, first: int, rows: int) -> Held:
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) for _ in range(min(_CHANNELS, clients))]
    calls = [channel.unary_unary(f"{_SERVICE}/HoldCommitments", None, None) for channel in channels]
    await asyncio.gather(*(channel.channel_ready() for channel in channels))

    async def send(client: int, request: bytes) -> bytes:
        # a client is an aggregator
        call: Callable[..., Awaitable[bytes]] = calls[client % len(calls)]
        return await call(request, metadata=(("evflex-tenant", f"aggregator-{client}"),), timeout=60.0)

    run = _at_rate if how == "rate" else _in_turns
    held = await run(send, clients, amount, seconds, first, rows)
    for channel in channels:
        await channel.close(None)
    return held


async def _at_rate(send: Any, clients: int, per_second: int, seconds: float, first: int, rows: int) -> Held:
    """Send at random instants, as many independent callers do."""
    count = round(per_second * seconds)
    requests = hold_requests(first, count, rows)
    due_s = np.cumsum(np.random.default_rng(15).exponential(1.0 / per_second, count))
    latency_s, answers = [0.0] * count, [b""] * count
    begun_s = time.perf_counter() + _LEAD_S

    async def one(k: int) -> None:
        answers[k] = await send(k % clients, requests[k])
        latency_s[k] = time.perf_counter() - begun_s - due_s[k]

    tasks = []
    for k in range(count):
        wait_s = begun_s + due_s[k] - time.perf_counter()
        await asyncio.sleep(max(0.0, wait_s))
        tasks.append(asyncio.create_task(one(k)))
    await asyncio.gather(*tasks)
    return Held(due_s.tolist(), [float(s) for s in latency_s], _granted(answers), time.perf_counter() - begun_s)


async def _in_turns(send: Any, clients: int, most: int, seconds: float, first: int, rows: int) -> Held:
    """Each client sends its next when the last is answered."""
    requests = iter(hold_requests(first, most, rows))
    due_s: list[float] = []
    latency_s: list[float] = []
    answers: list[bytes] = []
    begun_s = time.perf_counter()

    async def one(client: int) -> None:
        while (sent_s := time.perf_counter() - begun_s) < seconds and (request := next(requests, b"")):
            answers.append(await send(client, request))
            due_s.append(sent_s)
            latency_s.append(time.perf_counter() - begun_s - sent_s)

    await asyncio.gather(*(one(client) for client in range(clients)))
    return Held(due_s, latency_s, _granted(answers), time.perf_counter() - begun_s)


def _granted(answers: Sequence[bytes]) -> list[str]:
    found = []
    for answer in map(api.HoldCommitmentsResponse.FromString, answers):
        found += [commitment.commitment_id for commitment in answer.commitments if answer.granted]
    return found


if __name__ == "__main__":
    _, port, how, clients, amount, seconds, first, rows = sys.argv
    held = asyncio.run(_hold(int(port), how, int(clients), int(amount), float(seconds), int(first), int(rows)))
    print(json.dumps(asdict(held)))
