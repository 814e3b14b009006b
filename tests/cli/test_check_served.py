"""`evflex check` against a server: what fits, what does not, and that nothing is stored either way."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

pytestmark = pytest.mark.slow  # the kernels are compiled first

Write = Callable[[Any], str]
Run = Callable[..., Result]

TENANT = ("--tenant", "checking-aggregator")
RESOURCES = {
    "resources": [
        {"resource_id": "check-site", "kind": "RESOURCE_KIND_SITE", "up_headroom_w": 10_000},
        {
            "resource_id": "check-car",
            "kind": "RESOURCE_KIND_EV",
            "parent_id": "check-site",
            "up_headroom_w": 7400,
            "aliases": [{"scheme": "vin", "value": "CHECK-1"}],
        },
        {"resource_id": "check-heat", "kind": "RESOURCE_KIND_OTHER", "parent_id": "check-site"},
    ]
}


def sale(resource_id: str, power_w: int) -> dict[str, Any]:
    return {
        "product_id": "LOCAL_UP",
        "direction": "DIRECTION_UP",
        "resource_id": resource_id,
        "start_time": "2050-03-04T17:00:00Z",
        "end_time": "2050-03-04T18:00:00Z",
        "power_w": power_w,
    }


@pytest.fixture(autouse=True)
def registered(run: Run) -> None:
    request = json.dumps({"request_id": str(uuid.uuid4()), **RESOURCES})
    result = run("call", "ActivationService/RegisterResources", "--request", "-", *TENANT, stdin=request)
    assert result.exit_code == 0, result.stderr


def commitments(run: Run) -> list[Any]:
    result = run("call", "ActivationService/ListCommitments", *TENANT)
    assert result.exit_code == 0, result.stderr
    found: list[Any] = json.loads(result.stdout).get("commitments", [])
    return found


def test_a_hold_that_fits_could_be_granted_and_is_not_made(run: Run, write: Write) -> None:
    request = write({"commitments": [sale("check-car", 7400), sale("check-heat", 2600)]})
    for _ in range(2):
        result = run("check", "--request", request, *TENANT)
        assert result.exit_code == 0, result.stderr
        assert json.loads(result.stdout) == {"granted": True, "conflicts": []}
    assert commitments(run) == []


@pytest.mark.parametrize(
    ("sales", "kind", "resource_id", "excess_w"),
    [
        ([sale("check-car", 7401)], "CAPACITY_EXCEEDED", "check-car", "1"),
        ([sale("check-car", 7400), sale("check-heat", 2700)], "CASCADE", "check-site", "100"),
    ],
)
def test_a_hold_that_does_not_fit_is_told_why(
    run: Run, write: Write, sales: list[Any], kind: str, resource_id: str, excess_w: str
) -> None:
    result = run("check", "--request", write({"commitments": sales}), *TENANT)
    assert result.exit_code == 1, result.stderr
    answer = json.loads(result.stdout)
    assert answer["granted"] is False
    (conflict,) = answer["conflicts"]
    assert conflict["kind"] == f"CONFLICT_KIND_{kind}"
    assert (conflict["resource_id"], conflict["excess_w"]) == (resource_id, excess_w)
    assert conflict["rule"]
    assert commitments(run) == []


def test_an_unknown_resource_is_a_refusal(run: Run, write: Write) -> None:
    result = run("check", "--request", write({"commitments": [sale("check-nobody", 1)]}), *TENANT)
    assert result.exit_code == 1
    assert "check-nobody" in result.stderr
    assert result.stdout == ""


def table_file(folder: Path, *powers_kw: float) -> str:
    rows = [f"check-car,LOCAL_UP,UP,2050-03-04T17:00:00Z,2050-03-04T18:00:00Z,{power_kw}" for power_kw in powers_kw]
    path = folder / "sales.csv"
    path.write_text("\n".join(["resource_id,product_id,direction,start_time,end_time,power_kw", *rows, ""]))
    return str(path)


@pytest.mark.parametrize("flags", [[], ["--ignore-ledger"]])
def test_a_table_is_checked(run: Run, tmp_path: Path, flags: list[str]) -> None:
    clear = run("check", "--commitments", table_file(tmp_path, 3.7, 3.7), *TENANT, *flags)
    assert clear.exit_code == 0, clear.stderr
    summary = json.loads(clear.stdout)["summary"]
    assert (summary["row_count"], summary["clear_row_count"]) == ("2", "2")
    twice = run("check", "--commitments", table_file(tmp_path, 3.7, 3.7, 1.0), *TENANT, *flags)
    assert twice.exit_code == 1, twice.stderr
    answer = json.loads(twice.stdout)
    assert answer["summary"]["conflict_count"] == "1"
    (conflict,) = answer["conflicts"]
    assert conflict["kind"] == "CONFLICT_KIND_CAPACITY_EXCEEDED"
    assert (conflict["excess_w"], conflict["request_indices"]) == ("1000", ["0", "1", "2"])
    assert commitments(run) == []
