"""Forecasts of congestion as rows and blocks of the store, and as messages."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import Any, cast

from evflex.congestion.v1 import congestion_pb2, congestion_service_pb2
from evflex.server.messages import set_timestamp
from evflex.server.store.forecasts import ForecastRow, NewForecast
from evflex.server.store.requests import RequestKey

_GetForecastResponse = congestion_service_pb2.GetForecastResponse
_COMPRESSION_LEVEL = 1
_LEFT_OUT_OF_LISTS = ("not_converged", "islands")


def new_forecast(key: RequestKey, message: congestion_pb2.CongestionForecast, create_time_unix_us: int) -> NewForecast:
    """A forecast ready to be stored; what follows it in a stream is stored by :func:`forecast_blocks`."""
    summary = congestion_pb2.CongestionForecast()
    summary.CopyFrom(message)
    for name in _LEFT_OUT_OF_LISTS:
        summary.ClearField(cast("Any", name))
    return NewForecast(
        key=key,
        area_id=message.area_id,
        network_id=message.network_id,
        summary=summary.SerializeToString(),
        payload=zlib.compress(message.SerializeToString(), _COMPRESSION_LEVEL),
        create_time_unix_us=create_time_unix_us,
    )


def shown_forecast(row: ForecastRow) -> congestion_pb2.CongestionForecast:
    """A stored forecast, as lists show it where only its summary was read."""
    whole = zlib.decompress(row.payload) if row.payload else row.summary
    message = congestion_pb2.CongestionForecast.FromString(whole)
    message.forecast_id = row.forecast_id
    message.tenant_id = row.tenant_id
    message.area_id = row.area_id
    message.etag = row.etag
    set_timestamp(message.create_time, row.create_time_unix_us)
    set_timestamp(message.update_time, row.update_time_unix_us)
    return message


def forecast_blocks(chunks: Iterable[congestion_pb2.CongestionChunk | congestion_pb2.WorstChunk]) -> Iterator[bytes]:
    """What follows the summary in a stream, a block a message."""
    for chunk in chunks:
        if isinstance(chunk, congestion_pb2.CongestionChunk):
            message = _GetForecastResponse(congestions=chunk)
        else:
            message = _GetForecastResponse(worst=chunk)
        yield zlib.compress(message.SerializeToString(), _COMPRESSION_LEVEL)


def stored_chunks(blocks: Iterator[bytes], *, return_worst: bool) -> Iterator[_GetForecastResponse]:
    """The messages that :func:`forecast_blocks` wrote, without the worst values unless they are wanted."""
    for block in blocks:
        message = _GetForecastResponse.FromString(zlib.decompress(block))
        if return_worst or not message.HasField("worst"):
            yield message
