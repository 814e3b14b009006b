"""Tokens of WatchCapacity: the number of the last change that was sent."""

from __future__ import annotations

from evflex.server.tokens import make_token, read_token

_PURPOSE = "WatchCapacity"


def token_at(position: int) -> str:
    """The token of a message."""
    return make_token(_PURPOSE, position)


def position_of(token: str) -> int:
    """What a token says.

    Raises:
        ServiceError: INVALID_ARGUMENT, it is none of WatchCapacity.
    """
    return read_token("resume_token", _PURPOSE, token)
