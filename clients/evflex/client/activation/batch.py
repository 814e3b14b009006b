"""A table of commitments as the columns of the contract, cut into messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evflex.activation.v1 import activation_service_pb2 as pb
from evflex.activation.v1 import check_pb2
from evflex.client.activation.enums import DIRECTIONS
from evflex.client.activation.whole import NO_WHOLE_MS, NS_PER_MS, floor_thousandths
from evflex.client.columns import check_complete, faulty_columns, instants_ns, numbers
from evflex.client.errors import InvalidRequestError, Violation
from evflex.client.files import TableSource, read_table

# A row takes up to 100 bytes beside its texts, so a message stays well below 4 MiB.
ROWS_PER_MESSAGE = 20_000
TEXT_BYTES_PER_MESSAGE = 1 << 20

REQUIRED_COLUMNS = ("resource_id", "product_id", "direction", "start_time", "end_time", "power_kw")
OPTIONAL_COLUMNS = (
    "aggregator_id", "energy_kwh", "exclusive_group", "co_delivery_group", "counter_activation_declared", "pool",
)  # fmt: skip
COLUMNS = (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS)
_TEXT_COLUMNS = (
    "resource_id", "product_id", "aggregator_id", "direction", "start_time", "end_time", "exclusive_group",
    "co_delivery_group", "pool",
)  # fmt: skip
_GROUP_COLUMNS = {"exclusive_group": "exclusive_group_indices", "co_delivery_group": "co_delivery_group_indices"}

_Column = NDArray[np.int64] | NDArray[np.bool_]
_Values = Callable[[pd.Series], _Column]


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """Texts of a chunk's table, each once, and the columns that refer to it by number."""

    texts: list[str]
    indices: dict[str, NDArray[np.int64]]

    def known_before(self, row: int) -> int:
        """Number of texts that the rows before ``row`` refer to."""
        return max((int(column[:row].max(initial=-1)) + 1 for column in self.indices.values()), default=0)


@dataclass(frozen=True, slots=True, eq=False)
class CommitmentBatch:
    """Commitments that are only checked, ready to be sent.

    Attributes:
        row_count: Number of rows.
        ignore_ledger: Whether they are checked among themselves only.
        tables: Texts and what refers to them, by the name of the table in ``CheckCommitmentsChunk``.
        columns: The other arrays with one entry a row, by their names there.
    """

    row_count: int
    ignore_ledger: bool
    tables: dict[str, _Table]
    columns: dict[str, _Column]

    @classmethod
    def of(cls, source: TableSource, ignore_ledger: bool) -> CommitmentBatch:
        """Read a table or its file; parameters as in ``EvflexClient.check_commitments``.

        Raises:
            InvalidRequestError: Naming each column that cannot be read.
            ImportError: pyarrow is missing for a Parquet file.
            OSError: The file cannot be read.
            ValueError: The file is of another kind, or is no table.
        """
        frame = read_table(source, _TEXT_COLUMNS)
        reader = _Reader(frame)
        violations = faulty_columns(frame, REQUIRED_COLUMNS, COLUMNS, "commitments")
        if not violations:
            reader.read()
            violations = reader.violations
        if violations:
            raise InvalidRequestError.before_sending(violations)
        return cls(len(frame), ignore_ledger, reader.tables, reader.columns)

    def messages(self) -> Iterator[pb.CheckCommitmentsRequest]:
        """Header, chunks and commit; each call begins anew."""
        header = check_pb2.CheckCommitmentsHeader(expected_rows=self.row_count, ignore_ledger=self.ignore_ledger)
        yield pb.CheckCommitmentsRequest(header=header)
        for first in range(0, self.row_count, ROWS_PER_MESSAGE):
            rows = slice(first, first + ROWS_PER_MESSAGE)
            *ahead, chunk = self._with_new_texts(rows)
            for texts in ahead:
                yield pb.CheckCommitmentsRequest(chunk=texts)
            for name, values in self.columns.items():
                getattr(chunk, name).extend(values[rows].tolist())
            for table in self.tables.values():
                for name, indices in table.indices.items():
                    getattr(chunk, name).extend(indices[rows].tolist())
            yield pb.CheckCommitmentsRequest(chunk=chunk)
        yield pb.CheckCommitmentsRequest(commit=check_pb2.CheckCommitmentsCommit())

    def _with_new_texts(self, rows: slice) -> Iterator[check_pb2.CheckCommitmentsChunk]:
        """Chunks with the texts that these rows are the first to refer to; rows go into the last of them."""
        chunk, size_bytes = check_pb2.CheckCommitmentsChunk(), 0
        for name, table in self.tables.items():
            for text in table.texts[table.known_before(rows.start) : table.known_before(rows.stop)]:
                if size_bytes > TEXT_BYTES_PER_MESSAGE:
                    yield chunk
                    chunk, size_bytes = check_pb2.CheckCommitmentsChunk(), 0
                getattr(chunk, name).append(text)
                size_bytes += len(text.encode())
        yield chunk


class _Reader:
    """Reads the columns of a table and gathers what is wrong with them."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame
        self.violations: list[Violation] = []
        self.tables: dict[str, _Table] = {}
        self.columns: dict[str, _Column] = {}

    def read(self) -> None:
        """Read all columns."""
        self._named("resource_id", "resource_ids", "resource_indices")
        self._named("product_id", "product_ids", "product_indices")
        self._named("aggregator_id", "aggregator_ids", "aggregator_indices")
        self._groups()
        for column, name in (("start_time", "start_unix_ms"), ("end_time", "end_unix_ms")):
            self._read(column, name, _milliseconds)
        self._read("direction", "directions", _directions)
        self._read("power_kw", "power_w", _watts)
        self._read("energy_kwh", "energy_wh", _watt_hours)
        self._read("counter_activation_declared", "counter_activation_declared", _flags)
        self._read("pool", "pool_numbers", _pools)

    def _read(self, column: str, name: str, values_of: _Values) -> None:
        if column not in self._frame.columns:
            return
        try:
            self.columns[name] = values_of(self._frame[column])
        except (TypeError, ValueError) as error:
            self.violations.append(Violation(f"commitments.{column}", str(error)))

    def _named(self, column: str, table: str, name: str) -> None:
        if column not in self._frame.columns:
            return
        try:
            indices, texts = _texts(self._frame[column])
            check_complete(indices < 0)
        except (TypeError, ValueError) as error:
            self.violations.append(Violation(f"commitments.{column}", str(error)))
        else:
            self.tables[table] = _Table(texts, {name: indices})

    def _groups(self) -> None:
        """Exclusive and co-delivery groups share a table."""
        given = [column for column in _GROUP_COLUMNS if column in self._frame.columns]
        if not given:
            return
        indices, texts = _texts(pd.concat([self._frame[column].astype(object) for column in given], ignore_index=True))
        parts = np.split(indices, len(given))
        columns = {_GROUP_COLUMNS[column]: part for column, part in zip(given, parts, strict=True)}
        self.tables["groups"] = _Table(texts, columns)


def _texts(values: pd.Series) -> tuple[NDArray[np.int64], list[str]]:
    """Number of each text in the order in which they appear, -1 where it is missing or empty, and the texts."""
    codes, found = pd.factorize(values)
    # texts of what is no text may coincide, as those of 1 and "1"; an empty one is none
    numbers_of_texts, texts = pd.factorize(pd.Series([str(value) or None for value in found], dtype=object))
    # the last entry is what the code -1 of a missing value finds
    return np.append(numbers_of_texts, -1).astype(np.int64)[codes], list(texts)


def _milliseconds(values: pd.Series) -> NDArray[np.int64]:
    instants, missing = instants_ns(values)
    check_complete(missing)
    split = instants % NS_PER_MS != 0
    if split.any():
        row = int(split.argmax())
        raise ValueError(f"row {row} {NO_WHOLE_MS}, is {values.iloc[row]}; use column.dt.floor('ms')")
    return instants // NS_PER_MS


def _directions(values: pd.Series) -> NDArray[np.int64]:
    numbers_of_directions = _looked_up(values, DIRECTIONS, "direction")
    check_complete(numbers_of_directions < 0)
    return numbers_of_directions


def _watts(values: pd.Series) -> NDArray[np.int64]:
    given_kw = numbers(values)
    check_complete(np.isnan(given_kw))
    return floor_thousandths(given_kw)


def _watt_hours(values: pd.Series) -> NDArray[np.int64]:
    given_kwh = numbers(values)
    missing = np.isnan(given_kwh)
    energy_wh = floor_thousandths(np.where(missing, 0.0, given_kwh))
    # none would mean full power all the time
    none = ~missing & (energy_wh <= 0)
    if none.any():
        row = int(none.argmax())
        raise ValueError(f"row {row} must be at least 0.001, or missing for full power, is {given_kwh[row]:g}")
    return energy_wh


def _flags(values: pd.Series) -> NDArray[np.bool_]:
    return np.equal(_looked_up(values, {True: 1, False: 0}, "flag"), 1)


def _pools(values: pd.Series) -> NDArray[np.int64]:
    """Numbers from 1 for each pool, 0 where a row stands alone: missing, empty or 0."""
    codes, found = pd.factorize(values)
    alone = np.array([value in (0, "") for value in found], dtype=np.bool_)
    return np.append(np.where(alone, 0, np.arange(1, len(found) + 1)), 0).astype(np.int64)[codes]


def _looked_up(
    values: pd.Series, numbers_by_name: Mapping[str, int] | Mapping[bool, int], what: str
) -> NDArray[np.int64]:
    """Number of each name, -1 where it is missing."""
    codes, found = pd.factorize(values)
    table = dict(numbers_by_name)
    unknown = [value for value in found if value not in table]
    if unknown:
        raise ValueError(f"unknown {what} {unknown[0]!r}; known are {', '.join(map(str, table))}")
    return np.array([*(table[value] for value in found), -1], dtype=np.int64)[codes]
