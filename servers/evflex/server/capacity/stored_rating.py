"""Ratings as rows of the store, and rows as messages."""

from __future__ import annotations

import zlib

import numpy as np

from evflex.capacity.v1 import capacity_service_pb2
from evflex.engine.timegrid import TimeGrid
from evflex.server.messages import set_timestamp
from evflex.server.store.ratings import NewRating, RatingRow
from evflex.server.store.requests import RequestKey

_COMPRESSION_LEVEL = 1


def new_rating(
    key: RequestKey, grid: TimeGrid, message: capacity_service_pb2.TransformerRating, create_time_unix_us: int
) -> NewRating:
    """A rating ready to be stored."""
    return NewRating(
        key=key,
        area_id=message.area_id,
        transformer_id=message.transformer_id,
        grid=grid,
        headroom_n_kva=np.array(message.headroom_n_kva),
        headroom_n1_kva=np.array(message.headroom_n1_kva),
        payload=zlib.compress(message.SerializeToString(), _COMPRESSION_LEVEL),
        create_time_unix_us=create_time_unix_us,
    )


def shown(row: RatingRow) -> capacity_service_pb2.TransformerRating:
    """A stored rating."""
    message = capacity_service_pb2.TransformerRating.FromString(zlib.decompress(row.payload))
    message.rating_id = row.rating_id
    message.tenant_id = row.tenant_id
    message.area_id = row.area_id
    message.etag = row.etag
    set_timestamp(message.create_time, row.create_time_unix_us)
    set_timestamp(message.update_time, row.update_time_unix_us)
    return message
