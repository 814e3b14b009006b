"""`evflex schedule`: JSON in, JSON out, and errors that say what to do."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import REQUEST, Run

Write = Callable[[Any], str]


def test_the_answer_is_json_on_standard_output(run: Run, write: Write) -> None:
    result = run("schedule", "--request", write(REQUEST))
    assert result.exit_code == 0, result.stderr
    schedule = json.loads(result.stdout)["schedule"]
    assert schedule["power_kw"] == [0.0, 0.0, 11.0, 0.0]
    assert schedule["total_cost"] == pytest.approx(1.1)
    assert result.stderr == ""


def test_the_request_may_come_from_standard_input(run: Run) -> None:
    result = run("schedule", "--request", "-", stdin=json.dumps(REQUEST))
    assert result.exit_code == 0
    assert json.loads(result.stdout)["schedule"]["site_id"] == "garage"


def test_names_may_be_written_in_camel_case(run: Run, write: Write) -> None:
    request = copy.deepcopy(REQUEST)
    request["siteId"] = request.pop("site_id")
    assert run("schedule", "--request", write(request)).exit_code == 0


def test_an_unknown_field_is_named_with_the_nearest(run: Run, write: Write) -> None:
    request = copy.deepcopy(REQUEST)
    request["sessions"][0]["max_chage_kw"] = 7
    result = run("schedule", "--request", write(request))
    assert result.exit_code == 2
    assert 'sessions[0] has no field "max_chage_kw"; did you mean "max_charge_kw"?' in result.stderr
    assert result.stdout == ""


def test_broken_rules_are_listed(run: Run, write: Write) -> None:
    request = copy.deepcopy(REQUEST)
    request["sessions"][0]["max_charge_kw"] = -1
    request["tariff"]["import_price_per_kwh"] = [0.1]
    result = run("schedule", "--request", write(request))
    assert result.exit_code == 1
    assert "sessions[0].max_charge_kw: " in result.stderr
    assert "tariff.import_price_per_kwh: " in result.stderr
    assert "breaks 2 rules" in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "must hold one JSON object, has 0"),
        ("{}{}", "must hold one JSON object, has 2"),
        ("[]", "must hold a JSON object"),
        ('{"site_id": }', "is no JSON"),
        ('{"site_id": 3}', "site_id"),
        ('{"time_grid": {"start_time": "noon"}}', "time_grid.start_time"),
    ],
)
def test_text_that_is_no_request_is_a_usage_error(run: Run, write: Write, text: str, problem: str) -> None:
    result = run("schedule", "--request", write(text))
    assert result.exit_code == 2
    assert problem in result.stderr


def test_a_missing_file_is_named(run: Run) -> None:
    result = run("schedule", "--request", "no-such.json")
    assert result.exit_code == 2
    assert "cannot read no-such.json: No such file" in result.stderr


def test_a_file_that_is_no_text_is_named(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "request.json"
    path.write_bytes(b"\xff\xfe\x00")
    assert "is not text" in run("schedule", "--request", str(path)).stderr


def test_a_request_is_asked_for(run: Run) -> None:
    result = run("schedule")
    assert result.exit_code == 2
    assert "--request FILE" in result.stderr


def test_an_unreachable_server_says_what_to_do(run: Run, write: Write) -> None:
    result = run("schedule", "--request", write(REQUEST), server="127.0.0.1:1")
    assert result.exit_code == 1
    assert "no server answers at 127.0.0.1:1" in result.stderr
    assert "evflex serve" in result.stderr


@pytest.mark.parametrize("server", ["localhost", "127.0.0.1:", ":50151", "host:port"])
def test_a_server_needs_host_and_port(run: Run, write: Write, server: str) -> None:
    result = run("schedule", "--request", write(REQUEST), "--server", server)
    assert result.exit_code == 2
    assert "--server must be HOST:PORT" in result.stderr


def test_a_deadline_that_is_too_short_says_what_to_do(run: Run, write: Write) -> None:
    request = copy.deepcopy(REQUEST)
    # more than any machine reads, plans and answers in a millisecond
    request["sessions"] = [request["sessions"][0] | {"session_id": f"car {i}"} for i in range(3000)]
    result = run("schedule", "--request", write(request), "--timeout", "0.001")
    assert result.exit_code == 1
    assert "--timeout" in result.stderr
