"""`evflex check` and the RPCs of the activation service: JSON or a table in, JSON out, the verdict as exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from typer.testing import CliRunner, Result

from evflex.activation.v1 import activation_service_pb2 as pb
from evflex.cli.main import app
from evflex.common.v1 import direction_pb2
from tests.client.activation.messages import (
    UNAVAILABLE,
    commitment_message,
    conflict_message,
    policy_message,
    resource_message,
    session_message,
)
from tests.client.activation.test_audit import LINES
from tests.client.activation.test_checks import checked, rows_sent, told
from tests.client.activation.test_policies_and_watch import COMPLETE, DECIDED, SNAPSHOT
from tests.client.congestion.messages import streaming
from tests.client.fake_server import FakeServer, answering, failing

Write = Callable[[Any], str]
Run = Callable[..., Result]

REQUEST: dict[str, Any] = {
    "request_id": "5d1b94a6-2f5c-4f43-9ce1-7d7ad4d9b7d1",
    "commitments": [
        {
            "product_id": "LOCAL_UP",
            "direction": "DIRECTION_UP",
            "resource_id": "car-1",
            "start_time": "2026-03-04T17:00:00Z",
            "end_time": "2026-03-04T18:00:00Z",
            "power_w": 7400,
        }
    ],
}
TABLE = """resource_id,product_id,direction,start_time,end_time,power_kw
car-1,L,UP,2026-03-04T17:00:00Z,2026-03-04T18:00:00Z,7.4
7,L,DOWN,2026-03-04T17:00:00Z,2026-03-04T18:00:00Z,11
"""


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    fake.on("HoldCommitments", answering(pb.HoldCommitmentsResponse(granted=True)))
    fake.on("CheckCommitments", checked(told(0)))
    yield fake
    fake.stop()


@pytest.fixture
def run(server: FakeServer) -> Run:
    def invoke(*arguments: str, stdin: str | None = None) -> Result:
        runner = CliRunner(env={"EVFLEX_SERVER": server.address, "COLUMNS": "200", "NO_COLOR": "1"})
        return runner.invoke(app, list(arguments), input=stdin)

    return invoke


def table_file(folder: Path, text: str = TABLE) -> str:
    path = folder / "sales.csv"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_hold_that_could_be_granted_ends_with_0(run: Run, server: FakeServer, write: Write) -> None:
    server.on("HoldCommitments", UNAVAILABLE, answering(pb.HoldCommitmentsResponse(granted=True)))
    result = run("check", "--request", write(REQUEST), "--tenant", "agg")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) == {"granted": True, "conflicts": []}
    first, second = server.asked("HoldCommitments")
    assert first == second
    assert server.calls[0][2]["evflex-tenant"] == "agg"
    (commitment,) = first.commitments
    assert (commitment.power_w, commitment.direction) == (7400, direction_pb2.DIRECTION_UP)


def test_nothing_is_stored_by_a_check(run: Run, server: FakeServer, write: Write) -> None:
    for _ in range(2):
        run("check", "--request", write(REQUEST | {"validate_only": False}))
    first, second = server.asked("HoldCommitments")
    assert first.validate_only
    assert second.validate_only
    # the hold itself may be asked for with the id of the file, and a second check is no repetition of the first
    assert len({first.request_id, second.request_id, REQUEST["request_id"]}) == 3


def test_a_hold_that_would_be_refused_ends_with_1(run: Run, server: FakeServer, write: Write) -> None:
    server.on("HoldCommitments", answering(pb.HoldCommitmentsResponse(conflicts=[conflict_message()])))
    result = run("check", "--request", "-", stdin=json.dumps(REQUEST))
    assert result.exit_code == 1
    assert result.stderr == ""
    answer = json.loads(result.stdout)
    assert answer["granted"] is False
    (conflict,) = [json_format.ParseDict(row, type(conflict_message())()) for row in answer["conflicts"]]
    assert conflict == conflict_message()


def test_a_table_without_conflicts_ends_with_0(run: Run, server: FakeServer, tmp_path: Path) -> None:
    result = run("check", "--commitments", table_file(tmp_path), "--ignore-ledger")
    assert result.exit_code == 0, result.stderr
    answer = json.loads(result.stdout)
    assert (answer["summary"]["row_count"], answer["conflicts"]) == ("5", [])
    assert server.asked("CheckCommitments")[0][0].header.ignore_ledger
    rows = rows_sent(server)
    assert [row["resource_indices"] for row in rows] == ["car-1", "7"]
    assert [row["power_w"] for row in rows] == [7400, 11_000]


def test_a_table_with_conflicts_ends_with_1(run: Run, server: FakeServer, tmp_path: Path) -> None:
    lost = checked(told(2)[:2], grpc.StatusCode.UNAVAILABLE)
    server.on("CheckCommitments", lost, checked(told(2)))
    result = run("check", "--commitments", table_file(tmp_path))
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert answer["summary"]["conflict_count"] == "2"
    assert [row["kind"] for row in answer["conflicts"]] == ["CONFLICT_KIND_CROSS_SALE"] * 2
    assert not server.asked("CheckCommitments")[0][0].header.ignore_ledger


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ([], "give either a hold with --request FILE, or a table with --commitments FILE"),
        (["--request", "a.json", "--commitments", "a.csv"], "give either a hold with --request FILE, or a table"),
        (["--request", "a.json", "--ignore-ledger"], "--ignore-ledger goes with --commitments"),
        (["--request", "none.json"], "cannot read none.json: No such file"),
        (["--commitments", "none.csv"], "cannot read none.csv: No such file"),
        (["--commitments", "sales.xlsx"], "sales.xlsx must end in .parquet, .csv or .csv.gz"),
    ],
)
def test_what_cannot_be_used_ends_with_2(
    run: Run, server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], problem: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("check", *flags)
    assert result.exit_code == 2
    assert problem in result.stderr
    assert server.calls == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("power_kw", "powr_kw", "\n  powr_kw: unknown column; did you mean power_kw?"),
        ("UP", "UPWARD", "\n  direction: unknown direction 'UPWARD'; known are UP, DOWN"),
        ("17:00:00Z", "17:00:00", "\n  start_time: times must have a time zone"),
        ("7.4", "much", "\n  power_kw: row 0 must be a number, is 'much'"),
        (TABLE, "", "No columns to parse"),
    ],
)
def test_a_table_that_cannot_be_used_ends_with_2(
    run: Run, server: FakeServer, tmp_path: Path, old: str, new: str, problem: str
) -> None:
    result = run("check", "--commitments", table_file(tmp_path, TABLE.replace(old, new)))
    assert result.exit_code == 2
    assert problem in result.stderr
    assert server.calls == []


def test_a_missing_pyarrow_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = run("check", "--commitments", "sales.parquet")
    assert result.exit_code == 2
    assert "pip install 'evflex[parquet]'" in result.stderr


def test_an_unknown_field_is_named_with_the_nearest(run: Run, server: FakeServer, write: Write) -> None:
    wrong = {"commitments": [REQUEST["commitments"][0] | {"power_kw": 7.4}]}
    result = run("check", "--request", write(wrong))
    assert result.exit_code == 2
    assert 'commitments[0] has no field "power_kw"; did you mean "power_w"?' in result.stderr
    assert server.calls == []


@pytest.mark.parametrize("rpc", ["HoldCommitments", "CheckCommitments"])
def test_a_refusal_of_the_server_ends_with_1(
    run: Run, server: FakeServer, write: Write, tmp_path: Path, rpc: str
) -> None:
    server.on(rpc, failing(grpc.StatusCode.NOT_FOUND, "no resource car-1"))
    flags = {
        "HoldCommitments": ["--request", write(REQUEST)],
        "CheckCommitments": ["--commitments", table_file(tmp_path)],
    }
    result = run("check", *flags[rpc])
    assert result.exit_code == 1
    assert f"{rpc} failed [NOT_FOUND]: no resource car-1" in result.stderr
    assert result.stdout == ""


CHANGED: dict[str, Any] = {"commitments": [commitment_message("CONFIRMED")]}
UNARY = {
    "RegisterResources": pb.RegisterResourcesResponse(resources=[resource_message()]),
    "GetResource": pb.GetResourceResponse(resource=resource_message(), same_resource_ids=["car-2"]),
    "ListResources": pb.ListResourcesResponse(resources=[resource_message()]),
    "LinkAliases": pb.LinkAliasesResponse(resource=resource_message()),
    "UnlinkAliases": pb.UnlinkAliasesResponse(resource=resource_message()),
    "OpenSession": pb.OpenSessionResponse(session=session_message()),
    "CloseSession": pb.CloseSessionResponse(session=session_message("2026-03-04T18:00:00Z")),
    "ListSessions": pb.ListSessionsResponse(sessions=[session_message()]),
    "HoldCommitments": pb.HoldCommitmentsResponse(conflicts=[conflict_message()]),
    "ConfirmCommitments": pb.ConfirmCommitmentsResponse(confirmed=True, **CHANGED),
    "ActivateCommitments": pb.ActivateCommitmentsResponse(activated=True, **CHANGED),
    "CompleteCommitments": pb.CompleteCommitmentsResponse(**CHANGED),
    "SettleCommitments": pb.SettleCommitmentsResponse(**CHANGED),
    "ReleaseCommitments": pb.ReleaseCommitmentsResponse(**CHANGED),
    "ReallocateCommitment": pb.ReallocateCommitmentResponse(reallocated=True, commitment=commitment_message()),
    "GetCommitment": pb.GetCommitmentResponse(commitment=commitment_message()),
    "ListCommitments": pb.ListCommitmentsResponse(commitments=[commitment_message()]),
    "GetActivationPolicy": pb.GetActivationPolicyResponse(policy=policy_message()),
    "ListActivationPolicies": pb.ListActivationPoliciesResponse(policies=[policy_message()]),
    "SetActivationPolicy": pb.SetActivationPolicyResponse(policy=policy_message()),
    "DeleteActivationPolicy": pb.DeleteActivationPolicyResponse(),
}
STREAMS: dict[str, list[Any]] = {
    "WatchConflicts": [SNAPSHOT, COMPLETE, DECIDED],
    "ExportAudit": [pb.ExportAuditResponse(records=LINES[:2]), pb.ExportAuditResponse(records=LINES[2:])],
}


def test_every_rpc_is_called_here() -> None:
    methods = {method.name for method in pb.DESCRIPTOR.services_by_name["ActivationService"].methods}
    assert {*UNARY, *STREAMS, "CheckCommitments"} == methods


@pytest.mark.parametrize("rpc", UNARY)
def test_every_unary_rpc_can_be_called(run: Run, server: FakeServer, rpc: str) -> None:
    server.on(rpc, answering(UNARY[rpc]))
    result = run("call", f"ActivationService/{rpc}", "--request", "-", stdin="{}")
    assert result.exit_code == 0, result.stderr
    assert json_format.ParseDict(json.loads(result.stdout), type(UNARY[rpc])()) == UNARY[rpc]


@pytest.mark.parametrize("rpc", STREAMS)
def test_every_stream_is_printed_as_json_lines(run: Run, server: FakeServer, rpc: str) -> None:
    server.on(rpc, streaming(STREAMS[rpc]))
    result = run("call", f"ActivationService/{rpc}")
    assert result.exit_code == 0, result.stderr
    kind = type(STREAMS[rpc][0])
    assert [json_format.ParseDict(json.loads(line), kind()) for line in result.stdout.splitlines()] == STREAMS[rpc]


def test_a_batch_can_be_checked_as_json_lines(run: Run, server: FakeServer) -> None:
    server.on("CheckCommitments", checked(told(1)))
    lines = [
        {"header": {"expected_rows": 1}},
        {
            "chunk": {
                "resource_ids": ["car-1"],
                "product_ids": ["L"],
                "resource_indices": [0],
                "product_indices": [0],
                "directions": [1],
                "start_unix_ms": [0],
                "end_unix_ms": [1],
                "power_w": [7400],
            }
        },
        {"commit": {}},
    ]
    result = run(
        "call", "ActivationService/CheckCommitments", "--request", "-", stdin="\n".join(map(json.dumps, lines))
    )
    assert result.exit_code == 0, result.stderr
    assert [next(iter(json.loads(line))) for line in result.stdout.splitlines()] == ["summary", "chunk"]
    assert rows_sent(server)[0]["power_w"] == 7400
