"""A server of one's own for the time of the demo, on a free port and with a folder that is thrown away."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from evflex.cli.call import TENANT_KEY
from evflex.cli.faults import RefusedError
from evflex.client import EvflexClient

# Kernels that are compiled for the first time take over a minute, on a busy machine several.
READY_TIMEOUT_S = 600.0


@contextmanager
def own_server() -> Iterator[str]:
    """Run a server in this process.

    Yields:
        Its address, once it is ready to serve.

    Raises:
        RefusedError: It does not become ready.
    """
    from evflex.server.app import Server
    from evflex.server.settings import Settings

    with tempfile.TemporaryDirectory(prefix="evflex-demo-") as folder:
        values: dict[str, Any] = {
            "listen": "127.0.0.1:0", "metrics_listen": "", "data_dir": Path(folder), "database_url": "",
            "log_level": "error",
        }  # fmt: skip
        settings = Settings(**values)
        server = Server(settings)
        address = f"127.0.0.1:{server.start()}"
        try:
            wait_until_serving(address)
            yield address
        finally:
            server.stop(0.0)


def client_of(address: str, party: str) -> EvflexClient:
    """A client that acts for a party."""
    return EvflexClient(address, metadata={TENANT_KEY: party})


def wait_until_serving(address: str, timeout_s: float = READY_TIMEOUT_S) -> None:
    """Wait until the health service says SERVING.

    Raises:
        RefusedError: It did not in time.
    """
    deadline = time.monotonic() + timeout_s
    with grpc.insecure_channel(address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(  # type: ignore[attr-defined]
            health_pb2.HealthCheckRequest(), timeout=timeout_s, wait_for_ready=True
        )
        try:
            for answer in watch:
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    watch.cancel()
                    return
                if time.monotonic() > deadline:
                    break
        except grpc.RpcError:
            pass
    raise RefusedError(f"the server at {address} did not become ready within {timeout_s:g} s")
