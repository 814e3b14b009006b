"""A server and a request, and the command line run in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from evflex.cli.main import app
from tests.cli.serving import server_in_process

Run = Callable[..., Result]

REQUEST: dict[str, Any] = {
    "site_id": "garage",
    "time_grid": {"start_time": "2026-03-04T17:00:00Z", "step_duration": "3600s", "step_count": 4},
    "nodes": [{"node_id": "fuse", "max_import_kw": [16]}],
    "sessions": [
        {
            "session_id": "ada",
            "arrival_time": "2026-03-04T17:00:00Z",
            "departure_time": "2026-03-04T21:00:00Z",
            "energy_needed_kwh": 11,
            "max_charge_kw": 11,
        }
    ],
    "tariff": {"currency_code": "EUR", "import_price_per_kwh": [0.4, 0.3, 0.1, 0.2]},
}


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with server_in_process(tmp_path_factory.mktemp("data")) as server:
        yield f"127.0.0.1:{server.port}"


@pytest.fixture
def run(address: str) -> Run:
    """Run `evflex` with arguments against the server."""

    def invoke(*arguments: str, stdin: str | None = None, server: str = address) -> Result:
        runner = CliRunner(env={"EVFLEX_SERVER": server, "COLUMNS": "200", "NO_COLOR": "1"})
        return runner.invoke(app, list(arguments), input=stdin)

    return invoke


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Any], str]:
    """Write a JSON file and return its name."""

    def writing(value: Any) -> str:
        path = tmp_path / "request.json"
        path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
        return str(path)

    return writing
