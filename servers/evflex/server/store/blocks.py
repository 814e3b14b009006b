"""Large things as sets of blocks; a set is written block by block, and lives once a row refers to it."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

import sqlalchemy as sa

from evflex.server.errors import ServiceError
from evflex.server.store.database import Database
from evflex.server.store.requests import common_values
from evflex.server.store.tables import blocks


def write_blocks(
    database: Database, set_id: str, tenant_id: str, area_id: str, now_unix_us: int, datas: Iterable[bytes]
) -> int:
    """Write a set, each block in a transaction of its own, so that other writers have their turns in between.

    Returns:
        Bytes written.
    """
    size_bytes = 0
    for index, data in enumerate(datas):
        row = {"set_id": set_id, "block_index": index, "data": data, **common_values(tenant_id, area_id, now_unix_us)}
        with database.writing() as connection:
            connection.execute(blocks.insert(), row)
        size_bytes += len(data)
    return size_bytes


def read_blocks(connection: sa.Connection, set_id: str) -> Iterator[bytes]:
    """The blocks of a set in their order, one in memory at a time."""
    query = sa.select(blocks.c.block_index).where(blocks.c.set_id == set_id).order_by(blocks.c.block_index)
    for index in connection.execute(query).scalars().all():
        data = read_block(connection, set_id, index)
        assert data is not None
        yield data


def read_block(connection: sa.Connection, set_id: str, index: int) -> bytes | None:
    """One block of a set, None where there is no such."""
    one = sa.select(blocks.c.data).where(blocks.c.set_id == set_id, blocks.c.block_index == index)
    data: bytes | None = connection.execute(one).scalar()
    return data


def delete_blocks(connection: sa.Connection, set_id: str) -> None:
    """Delete a set."""
    connection.execute(blocks.delete().where(blocks.c.set_id == set_id))


@contextmanager
def undone_on_failure(database: Database, set_id: str) -> Iterator[None]:
    """Delete a set when what would refer to it is not written."""
    try:
        yield
    except BaseException:
        # where even this fails it is pruned later
        with suppress(ServiceError), database.writing() as connection:
            delete_blocks(connection, set_id)
        raise


def new_set_id() -> str:
    """Identifier of a set."""
    return str(uuid.uuid4())
