"""Structured logs: one JSON object a line, with the request id and never personal data.

Session, charge point and site identifiers, tenants' payloads and exception messages (which may quote them) are not
logged; an unexpected exception is logged by its type and the places it came through.
"""

from __future__ import annotations

import logging
import sys
import traceback
from typing import TextIO

import structlog
from structlog.typing import FilteringBoundLogger


def make_log(level: str, stream: TextIO | None = None) -> FilteringBoundLogger:
    """A logger that writes JSON lines to `stream`, standard error by default."""
    logger: FilteringBoundLogger = structlog.wrap_logger(
        structlog.WriteLogger(stream or sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        cache_logger_on_first_use=True,
    )
    return logger


def places(error: BaseException) -> list[str]:
    """Where an exception came through, without its message."""
    frames = traceback.extract_tb(error.__traceback__)
    return [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames]
