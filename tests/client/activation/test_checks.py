"""Batches of both clients: a table goes out in columns, and what comes back is a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pandas as pd
import pytest

from evflex.activation.v1 import activation_service_pb2 as pb
from evflex.activation.v1 import check_pb2, commitment_pb2
from evflex.client import InvalidRequestError, ServerError
from evflex.client.activation import batch
from tests.client.activation.messages import UNAVAILABLE, conflict_message
from tests.client.fake_server import Behaviour, FakeServer, abort

START = pd.Timestamp("2026-03-04T17:00:00.001Z")
TABLE = pd.DataFrame(
    {
        "resource_id": ["car-1", "bay-1", "car-1", "car-2", "site"],
        "product_id": ["L", "M", "L", "L", "M"],
        "direction": ["UP", "DOWN", "UP", "UP", "DOWN"],
        "start_time": START,
        "end_time": START + pd.to_timedelta([1, 2, 3, 4, 5], unit="h"),
        "power_kw": [7.4009, 1.001, 3.0, 4.0, 100.0],
    }
)
OPTIONAL: dict[str, Any] = {
    "aggregator_id": ["a", "b", "a", "a", "b"],
    "energy_kwh": [np.nan, 1.5009, np.nan, 0.001, np.nan],
    "exclusive_group": [None, "x", None, None, ""],
    "co_delivery_group": ["x", None, "y", None, None],
    "counter_activation_declared": [True, False, True, False, False],
    "pool": ["p", None, "q", "p", ""],
}
OPTIONS = TABLE.assign(**OPTIONAL)


def told(count: int = 1) -> list[Any]:
    by_kind = [0, 0, count, 0, 0, 0, 0, 0, 0]
    summary = check_pb2.CheckCommitmentsSummary(
        row_count=5, conflict_count=count, conflict_count_by_kind=by_kind, clear_row_count=3, ledger_sequence=17
    )
    parts = [
        pb.CheckCommitmentsResponse(chunk=check_pb2.CheckCommitmentsConflicts(conflicts=[conflict_message()]))
        for _ in range(count)
    ]
    return [pb.CheckCommitmentsResponse(summary=summary), *parts]


def checked(messages: list[Any], then: grpc.StatusCode | None = None) -> Behaviour:
    """Answer when the whole batch has come."""

    def behaviour(requests: Any, context: Any) -> Any:
        for _ in requests:
            pass
        yield from messages
        if then is not None:
            abort(context, then, "lost")

    return behaviour


def rows_sent(server: FakeServer, call: int = 0) -> list[dict[str, Any]]:
    """Rows of a batch, put together from its chunks as the contract says, whose frame is checked."""
    header, *chunks, commit = server.asked("CheckCommitments")[call]
    assert (header.WhichOneof("payload"), commit.WhichOneof("payload")) == ("header", "commit")
    tables: dict[str, list[str]] = {"resource_ids": [], "product_ids": [], "aggregator_ids": [], "groups": []}
    refers = {
        "resource_indices": "resource_ids", "product_indices": "product_ids", "aggregator_indices": "aggregator_ids",
        "exclusive_group_indices": "groups", "co_delivery_group_indices": "groups",
    }  # fmt: skip
    plain = (
        "directions", "start_unix_ms", "end_unix_ms", "power_w", "energy_wh", "counter_activation_declared",
        "pool_numbers",
    )  # fmt: skip
    rows: list[dict[str, Any]] = []
    for message in chunks:
        chunk = message.chunk
        for name, texts in tables.items():
            texts.extend(getattr(chunk, name))
        for row in range(len(chunk.resource_indices)):
            values: dict[str, Any] = {name: getattr(chunk, name)[row] for name in plain if getattr(chunk, name)}
            for name, table in refers.items():
                if column := getattr(chunk, name):
                    # a row refers to what came with it or before
                    values[name] = None if column[row] == -1 else tables[table][column[row]]
            rows.append(values)
    for texts in tables.values():
        assert len(set(texts)) == len(texts)
    assert header.header.expected_rows == len(rows)
    return rows


def column(rows: list[dict[str, Any]], name: str) -> list[Any]:
    return [row[name] for row in rows]


@pytest.mark.parametrize("rows_per_message", [1, 2, 20_000])
@pytest.mark.parametrize("text_bytes", [0, 1 << 20])
def test_a_table_goes_out_in_columns(
    client: Any, server: FakeServer, monkeypatch: pytest.MonkeyPatch, rows_per_message: int, text_bytes: int
) -> None:
    monkeypatch.setattr(batch, "ROWS_PER_MESSAGE", rows_per_message)
    monkeypatch.setattr(batch, "TEXT_BYTES_PER_MESSAGE", text_bytes)
    server.on("CheckCommitments", checked(told()))
    client.check_commitments(OPTIONS)
    rows = rows_sent(server)
    assert column(rows, "resource_indices") == OPTIONS["resource_id"].tolist()
    assert column(rows, "product_indices") == OPTIONS["product_id"].tolist()
    assert column(rows, "aggregator_indices") == OPTIONS["aggregator_id"].tolist()
    assert column(rows, "exclusive_group_indices") == [None, "x", None, None, None]
    assert column(rows, "co_delivery_group_indices") == ["x", None, "y", None, None]
    assert column(rows, "directions") == [1, 2, 1, 1, 2]
    start_ms = 1_772_643_600_001
    assert column(rows, "start_unix_ms") == [start_ms] * 5
    assert column(rows, "end_unix_ms") == [start_ms + hours * 3_600_000 for hours in (1, 2, 3, 4, 5)]
    assert column(rows, "power_w") == [7400, 1001, 3000, 4000, 100_000]
    assert column(rows, "energy_wh") == [0, 1500, 0, 1, 0]
    assert column(rows, "counter_activation_declared") == [True, False, True, False, False]
    pools = column(rows, "pool_numbers")
    assert pools[0] == pools[3] > 0
    assert pools[2] not in (0, pools[0])
    assert (pools[1], pools[4]) == (0, 0)


def test_columns_that_are_left_out_are_not_sent(client: Any, server: FakeServer) -> None:
    server.on("CheckCommitments", checked(told()))
    client.check_commitments(TABLE, ignore_ledger=True)
    assert server.asked("CheckCommitments")[0][0].header.ignore_ledger
    assert set(rows_sent(server)[0]) == {
        "resource_indices", "product_indices", "directions", "start_unix_ms", "end_unix_ms", "power_w",
    }  # fmt: skip


def test_categories_and_numbers_serve_as_names(client: Any, server: FakeServer) -> None:
    server.on("CheckCommitments", checked(told()))
    names = pd.Series([7, "7", 8, 8, "x"], dtype=object)
    client.check_commitments(
        TABLE.assign(
            resource_id=names, product_id=TABLE["product_id"].astype("category"),
            direction=pd.Categorical(TABLE["direction"]), pool=[0, 5, 5, 0, 9], counter_activation_declared=True,
        )
    )  # fmt: skip
    rows = rows_sent(server)
    assert column(rows, "resource_indices") == ["7", "7", "8", "8", "x"]
    assert column(rows, "product_indices") == ["L", "M", "L", "L", "M"]
    assert column(rows, "pool_numbers")[0] == 0
    assert column(rows, "pool_numbers")[1] == column(rows, "pool_numbers")[2] > 0
    assert column(rows, "counter_activation_declared") == [True] * 5


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_file_is_read(client: Any, server: FakeServer, tmp_path: Path, suffix: str) -> None:
    server.on("CheckCommitments", checked(told()))
    path = tmp_path / f"sales.{suffix}"
    if suffix == "csv":
        OPTIONS.to_csv(path, index=False)
    else:
        OPTIONS.to_parquet(path)
    client.check_commitments(OPTIONS)
    client.check_commitments(path)
    assert rows_sent(server, 1) == rows_sent(server)


def test_many_rows_stay_below_the_limit_of_a_message() -> None:
    count = 50_000
    numbers = np.arange(count)
    start = START + pd.to_timedelta(numbers, unit="min")
    table = pd.DataFrame(
        {
            "resource_id": [f"{'long-' * 20}{number}" for number in numbers],
            "product_id": "L",
            "direction": "UP",
            "start_time": start,
            "end_time": start + pd.Timedelta("1h"),
            "power_kw": 1e6,
            "energy_kwh": 1e9,
            "exclusive_group": None,
            "pool": numbers,
        }
    )
    sizes = [message.ByteSize() for message in batch.CommitmentBatch.of(table, False).messages()]
    assert max(sizes) < 4 << 20
    assert len(sizes) > 4


def test_what_a_check_came_to_is_a_table(client: Any, server: FakeServer) -> None:
    server.on("CheckCommitments", checked(told(2)))
    check = client.check_commitments(TABLE)
    assert (check.row_count, check.conflict_count, check.clear_row_count, check.ledger_sequence) == (5, 2, 3, 17)
    assert check.counts["CROSS_SALE"] == 2
    assert sum(check.counts.values()) == 2
    assert len(check.counts) == len(commitment_pb2.ConflictKind.keys()) - 1
    assert check.conflicts["kind"].tolist() == ["CROSS_SALE"] * 2
    assert check.conflicts.loc[0, "request_indices"] == (0,)
    assert check.conflicts.loc[1, "excess_kw"] == 7.4
    assert check.conflicts.loc[0, "start_time"] == pd.Timestamp("2026-03-04T17:00:00Z")


def test_no_conflict_is_an_empty_table(client: Any, server: FakeServer) -> None:
    server.on("CheckCommitments", checked(told(0)))
    check = client.check_commitments(TABLE)
    assert check.conflicts.empty
    assert "excess_kw" in check.conflicts.columns


def test_a_lost_check_is_asked_again_and_told_once(client: Any, server: FakeServer) -> None:
    lost = checked(told(2)[:2], grpc.StatusCode.UNAVAILABLE)
    server.on("CheckCommitments", UNAVAILABLE, lost, checked(told(2)))
    assert len(client.check_commitments(TABLE).conflicts) == 2
    assert rows_sent(server, 1) == rows_sent(server, 2)


def test_a_check_that_is_not_whole_is_an_error(client: Any, server: FakeServer) -> None:
    server.on("CheckCommitments", checked([]))
    with pytest.raises(ServerError, match="ended before the check was whole"):
        client.check_commitments(TABLE)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"resource_id": [None, "b", "c", "d", "e"]}, "commitments.resource_id: row 0 has no value"),
        ({"product_id": ["L", "L", "", "L", "L"]}, "commitments.product_id: row 2 has no value"),
        (
            {"direction": ["UP", "up", "UP", "UP", "UP"]},
            "commitments.direction: unknown direction 'up'; known are UP, DOWN",
        ),
        ({"direction": ["UP", None, "UP", "UP", "UP"]}, "commitments.direction: row 1 has no value"),
        ({"start_time": pd.Timestamp("2026-03-04")}, "commitments.start_time: times must have a time zone"),
        (
            {"end_time": START + pd.Timedelta("1us")},
            "commitments.end_time: row 0 must be a whole millisecond, is 2026-03-04 17:00:00.001001",
        ),
        ({"power_kw": [1.0, np.inf, 1.0, 1.0, 1.0]}, "commitments.power_kw: row 1 must be a finite number, is inf"),
        ({"power_kw": [1.0, 1.0, np.nan, 1.0, 1.0]}, "commitments.power_kw: row 2 has no value"),
        (
            {"energy_kwh": [np.nan, 0.0, 1.0, 1.0, 1.0]},
            "commitments.energy_kwh: row 1 must be at least 0.001, or missing",
        ),
        ({"aggregator_id": ["a", None, "a", "a", "a"]}, "commitments.aggregator_id: row 1 has no value"),
        ({"counter_activation_declared": "yes"}, "unknown flag 'yes'; known are True, False"),
        ({"powr_kw": 1.0}, "commitments.powr_kw: unknown column; did you mean power_kw?"),
        ({"pool": [[1]] * 5}, "commitments.pool: unhashable"),
    ],
)
def test_a_table_that_cannot_be_read_is_not_sent(
    client: Any, server: FakeServer, change: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InvalidRequestError, match=problem.replace("(", r"\(")):
        client.check_commitments(TABLE.assign(**change))
    assert server.calls == []
